"""New words for finished weights: learned in one call, old words untouched, and told so by what was measured."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.test_operating import OLD
from tests.test_training import built
from tests.train.phantoms import CPU, recipe_values, write_dataset
from tests.weights_on_disk import write_small_lesions
from voxicon.answering.detection import CARD_KEY
from voxicon.core.masks import MaskSet
from voxicon.data.harmonise import Targets
from voxicon.errors import CheckpointError, ConfigError, UnknownClass, UsageError
from voxicon.extension import Extended, _filled_in, extend, plan_extension
from voxicon.io.atomic import file_sha256
from voxicon.io.nifti import read_volume
from voxicon.joining import join
from voxicon.model.checkpoint import load_checkpoint, read_metadata, save_checkpoint, save_with_card
from voxicon.recipe import make_recipe
from voxicon.segmenter import Segmenter, load


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Old weights that know liver and tumor; dataset b annotates the spleen, and a both and more."""
    write_dataset(tmp_path, "a", ("liver", "liver_tumor"))
    write_dataset(tmp_path, "b", ("spleen", "liver"), seed=4)
    built(tmp_path, "a", run="old").run()
    return tmp_path


def extension(folder: Path, *datasets: str, out: str = "new", classes: Any = ("spleen",), **options: Any) -> Extended:
    changes = options.pop("changes", {})
    recipe = make_recipe(recipe_values(*datasets, classes=list(classes), **changes), "recipe", preset="extend")
    old = folder / "old" / "weights.safetensors"
    return extend(old, plan_extension(old, recipe, folder), folder / f"{out}.safetensors", CPU, **options)


@pytest.mark.parametrize("mode", ["frozen", "light"])
def test_a_new_word_leaves_old_logits_as_they_were(folder: Path, mode: Any) -> None:
    before = (folder / "old" / "weights.safetensors").read_bytes()
    done = extension(folder, "b", mode=mode)
    assert (folder / "old" / "weights.safetensors").read_bytes() == before
    assert done.added == ("spleen",)
    assert done.old_logits == {"windows": done.old_logits["windows"], "largest_difference": 0.0, "identical": True}
    assert done.old_logits["windows"] >= 2
    old, new = (load_checkpoint(path) for path in (folder / "old" / "weights.safetensors", done.path))
    image = torch.rand(1, 1, 16, 16, 16)
    with torch.inference_mode():
        assert torch.equal(new.network(image, old.network.classes), old.network(image))
    kept = new.network.state_dict()
    assert all(torch.equal(tensor, kept[name]) for name, tensor in old.network.state_dict().items())
    assert done.parameters == sum(p.numel() for p in new.network.extensions.parameters())
    start = {k: v for k, v in kept.items() if k.startswith("extensions.0.head.")}
    assert any(not torch.equal(v, kept[k.removeprefix("extensions.0.")]) for k, v in start.items()), "it has learned"


def test_the_new_weights_say_where_they_came_from_and_segment(folder: Path) -> None:
    done = extension(folder, "b", changes={"card": {"note": "x"}})
    metadata = read_metadata(done.path)
    assert metadata.trained == ("liver", "liver_tumor", "spleen")
    (entry,) = metadata.card["extensions"]
    assert (entry["classes"], entry["mode"]) == (["spleen"], "frozen")
    assert entry["from"] == {
        "file": "weights.safetensors",
        "sha256": file_sha256(folder / "old" / "weights.safetensors"),
    }
    assert entry["data"][0]["dataset"] == "b"
    assert entry["old_logits"]["identical"]
    assert metadata.card["data"][0]["dataset"] == "a", "what the old weights say of themselves stays"
    assert metadata.text_bank["extensions"][0]["names"] == ["spleen"]
    spleens = [row for row in entry["dice"] if row["class"] == "spleen"]
    assert len(spleens) == 2
    assert all(row["before"] is None for row in spleens)
    livers = [row for row in entry["dice"] if row["class"] == "liver"]
    assert all(row["before"] == row["after"] for row in livers)
    segmenter = load(done.path, device="cpu", engine="torch")
    result = segmenter.segment(folder / "b" / "c0_ct.nii.gz", ["spleen", "liver"])
    old = load(folder / "old" / "weights.safetensors", device="cpu", engine="torch")
    same = old.segment(folder / "b" / "c0_ct.nii.gz", ["liver"])
    assert (result.masks["liver"] == same.masks["liver"]).all()


def test_openvino_answers_for_extended_weights_as_torch_does(folder: Path) -> None:
    pytest.importorskip("openvino")
    done = extension(folder, "b", mode="light")
    fast, plain = (load(done.path, device="cpu", engine=engine) for engine in ("openvino", "torch"))
    rows = plain.predictor.network.rows_of(("spleen",))
    image = torch.rand(1, 1, *plain.inference.window)
    with torch.inference_mode():
        for ours, theirs in zip(fast.engine.encode(image, rows), plain.engine.encode(image, rows), strict=True):
            torch.testing.assert_close(ours, theirs, atol=1e-3, rtol=1e-3)


def test_an_extension_can_be_extended(folder: Path) -> None:
    write_dataset(
        folder,
        "c",
        ("spleen",),
        seed=7,
        defines={"gizmo": {"kind": "organ"}},
        annotates={"gizmo": {"union": ["spleen"]}},
    )
    first = extension(folder, "b")
    recipe = make_recipe(recipe_values("c", classes=["gizmo"]), "recipe", preset="extend")
    second = extend(first.path, plan_extension(first.path, recipe, folder), folder / "second.safetensors", CPU)
    metadata = read_metadata(second.path)
    assert [entry["classes"] for entry in metadata.card["extensions"]] == [["spleen"], ["gizmo"]]
    assert metadata.card["extensions"][1]["from"]["sha256"] == file_sha256(first.path)
    assert metadata.card["defines"]["gizmo"]["kind"] == "organ"
    assert second.old_logits["identical"]
    assert load(second.path, device="cpu", engine="torch").classes == ("spleen", "liver", "liver_tumor", "gizmo")


def test_an_interrupted_extension_goes_on(folder: Path) -> None:
    whole = extension(folder, "b", out="whole", changes={"optimize": {"steps": 4, "save_every": 2}})
    with pytest.raises(KeyboardInterrupt):
        extension(
            folder,
            "b",
            out="half",
            changes={"optimize": {"steps": 4, "save_every": 2, "log_every": 1}},
            told=_stop_at_3,
        )
    half = extension(folder, "b", out="half", changes={"optimize": {"steps": 4, "save_every": 2, "log_every": 1}})
    ours, theirs = (load_checkpoint(each.path).network.state_dict() for each in (whole, half))
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in ours.items())


def _stop_at_3(what: str, done: int, total: int) -> None:
    if what.startswith("loss") and done == 3:
        raise KeyboardInterrupt


def test_a_run_of_other_weights_does_not_go_on(folder: Path) -> None:
    extension(folder, "b")
    old = folder / "old" / "weights.safetensors"
    checkpoint = load_checkpoint(old)
    with torch.no_grad():
        checkpoint.network.head.image_projection.bias.add_(1)
    save_checkpoint(old, checkpoint.network, checkpoint.metadata)
    with pytest.raises(CheckpointError, match="started with other settings"):
        extension(folder, "b")


def test_weights_that_half_precision_cannot_hold_stay_whole(folder: Path) -> None:
    path = folder / "old" / "weights.safetensors"
    old = load_checkpoint(path)
    with torch.no_grad():
        old.network.head.image_projection.weight.add_(1e-7 * torch.randn_like(old.network.head.image_projection.weight))
    save_checkpoint(path, old.network, old.metadata)
    done = extension(folder, "b")
    assert done.old_logits["identical"]
    kept = load_checkpoint(done.path).network.state_dict()
    assert all(torch.equal(tensor, kept[name]) for name, tensor in old.network.state_dict().items())


@pytest.mark.parametrize("keep", ["pseudo", "distill", "none"])
def test_joint_training_changes_everything_and_says_how_much(folder: Path, keep: Any) -> None:
    done = extension(folder, "b", mode="joint", keep=keep)
    assert not done.old_logits["identical"]
    assert done.old_logits["largest_difference"] > 0
    entry = read_metadata(done.path).card["extensions"][0]
    assert (entry["mode"], entry["keep"]) == ("joint", keep)
    assert any(row["before"] != row["after"] for row in done.dice if row["class"] == "liver")


@pytest.mark.parametrize("mode", ["light", "joint"])
def test_a_network_inside_is_taken_along(folder: Path, mode: Any) -> None:
    old = folder / "old" / "weights.safetensors"
    lesions = write_small_lesions(
        folder / "lesions.safetensors",
        ("hepatic_vessel_tumor", "liver_tumor"),
        preparation=read_metadata(old).preparation,
    )
    join(old, lesions, old)
    save_with_card(old, old, {**read_metadata(old).card, CARD_KEY: {"hepatic_vessel_tumor": OLD}})
    done = extension(folder, "b", mode=mode)
    before, after = load_checkpoint(old), load_checkpoint(done.path)
    assert before.inside is not None
    assert after.inside is not None
    kept = after.inside.state_dict()
    assert all(torch.equal(tensor, kept[name]) for name, tensor in before.inside.state_dict().items())
    assert after.metadata.inside == before.metadata.inside
    assert load(done.path, device="cpu").classes == ("spleen", "liver", "liver_tumor", "hepatic_vessel_tumor")
    # Where the organs were learned anew, what was measured of lesions in them no longer holds.
    assert (CARD_KEY in after.metadata.card) == (mode == "light")


def test_what_a_network_inside_finds_is_no_new_word(folder: Path) -> None:
    old = built(folder, "b", run="organs").run()
    lesions = write_small_lesions(
        folder / "lesions.safetensors", ("liver_tumor", "spleen"), preparation=read_metadata(old).preparation
    )
    recipe = make_recipe(recipe_values("a", classes=["liver_tumor"]), "recipe", preset="extend")
    assert plan_extension(old, recipe, folder).classes == ("liver_tumor",)
    join(old, lesions, old)
    with pytest.raises(UnknownClass, match=r"^liver_tumor: the weights have this word already"):
        plan_extension(old, recipe, folder)


def test_weights_that_look_into_organs_are_not_extended(folder: Path) -> None:
    old = folder / "old" / "weights.safetensors"
    write_small_lesions(old, preparation=read_metadata(old).preparation, text_bank=read_metadata(old).text_bank)
    with pytest.raises(
        UsageError, match=r"weights\.safetensors: looks into organs; only weights that read whole scans"
    ):
        extension(folder, "b")
    assert not (folder / "new.run").exists()


def test_labels_that_are_missing_are_filled_in_by_the_old_weights(folder: Path) -> None:
    old = Segmenter(load_checkpoint(folder / "old" / "weights.safetensors"), CPU)
    volume = read_volume(folder / "b" / "c0_ct.nii.gz")
    names = ("spleen", "liver", "liver_tumor")
    masks = MaskSet.empty(names, volume.geometry)
    liver = np.zeros(volume.geometry.shape, dtype=bool)
    liver[2:5, 2:5, 2:5] = True
    masks.set("liver", liver)
    filled = _filled_in(old, volume, Targets(masks, frozenset({"spleen", "liver"})))
    assert filled.known == frozenset(names)
    assert (filled.masks["liver"] == liver).all(), "a label that is there is not replaced"
    assert not filled.masks["spleen"].any()
    assert (filled.masks["liver_tumor"] == old.segment(volume, ["liver_tumor"]).masks["liver_tumor"]).all()
    same = Targets(masks, frozenset(names))
    assert _filled_in(old, volume, same) is same


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"classes": ["liver"]}, UnknownClass, "liver: the weights have this word already"),
        ({"classes": ["livver"]}, UnknownClass, "unknown class 'livver'"),
        ({"classes": ["pancreas"]}, ConfigError, "no card annotates pancreas"),
        ({"classes": []}, ConfigError, "names no classes to add"),
        ({"mode": "thawed"}, ConfigError, "mode 'thawed' is unknown; use frozen, light, joint"),
        ({"mode": "joint", "keep": "all"}, ConfigError, "keep 'all' is unknown; use pseudo, distill, none"),
        ({"changes": {"optimize": {"patch": [15, 16, 16]}}}, ConfigError, "needs multiples of"),
    ],
)
def test_what_cannot_be_added_is_refused(folder: Path, options: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        extension(folder, "b", **options)
    assert not (folder / "new.safetensors").exists()


def test_another_ending_and_missing_weights_are_refused(folder: Path) -> None:
    recipe = make_recipe(recipe_values("b", classes=["spleen"]), "recipe", preset="extend")
    old = folder / "old" / "weights.safetensors"
    with pytest.raises(UsageError, match=r"must end in \.safetensors"):
        extend(old, plan_extension(old, recipe, folder), folder / "new.pt", CPU)
    with pytest.raises(CheckpointError, match="no such file"):
        plan_extension(folder / "gone.safetensors", recipe, folder)
