"""Starts from earlier weights: what is taken over, what learns, and the study that says whether it helped."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.test_training import built
from tests.train.phantoms import CPU, recipe_values, write_dataset
from voxicon import transfer
from voxicon.errors import ConfigError
from voxicon.model.checkpoint import load_checkpoint
from voxicon.model.network import UniversalNetwork
from voxicon.plan import plan_training
from voxicon.recipe import make_recipe
from voxicon.student import as_weights, make_student, starting_from
from voxicon.training import build_trainer
from voxicon.transfer import Design, Point, curves, estimates, run_study, table


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Weights of liver and tumor; a task of spleens, with two scans for testing."""
    write_dataset(tmp_path, "a", ("liver", "liver_tumor"))
    write_dataset(tmp_path, "b", ("spleen",), seed=4, n_cases=5, splits={"test": ["c3", "c4"]})
    built(tmp_path, "a", run="old").run()
    return tmp_path


def started(folder: Path, strategy: Any, **changes: Any) -> UniversalNetwork:
    recipe = make_recipe(recipe_values("b", **changes), "recipe")
    recipe = starting_from(recipe, folder / "old" / "weights.safetensors", strategy)
    return make_student(plan_training(recipe, folder)).network


@pytest.mark.parametrize("strategy", ["full", "head", "adapters"])
def test_other_words_start_from_the_same_backbone(folder: Path, strategy: str) -> None:
    old = load_checkpoint(folder / "old" / "weights.safetensors").network
    new = started(folder, strategy)
    assert new.classes == ("spleen",)
    tensors = new.state_dict()
    for name, tensor in old.backbone.state_dict().items():
        assert torch.equal(tensors[f"backbone.{name}"], tensor)
    head = new.extensions[0].head if strategy == "adapters" else new.head
    assert torch.equal(head.image_projection.weight, old.head.image_projection.weight)  # type: ignore[union-attr]
    assert torch.equal(head.controller.weight, old.head.controller.weight)  # type: ignore[union-attr]
    learns = {name.split(".")[0] for name, p in new.named_parameters() if p.requires_grad}
    assert learns == {"full": {"backbone", "head"}, "head": {"head"}, "adapters": {"extensions"}}[strategy]


def test_what_is_frozen_does_not_learn(folder: Path) -> None:
    for strategy in ("head", "adapters"):
        recipe = starting_from(
            make_recipe(recipe_values("b"), "recipe"), folder / "old" / "weights.safetensors", strategy
        )  # type: ignore[arg-type]
        weights = build_trainer(plan_training(recipe, folder), folder / strategy, CPU).run()
        old, new = (load_checkpoint(path).network for path in (folder / "old" / "weights.safetensors", weights))
        kept = new.backbone.state_dict()
        assert all(torch.equal(tensor, kept[name]) for name, tensor in old.backbone.state_dict().items())
        assert new.classes == ("spleen",)
        assert new(torch.rand(1, 1, 16, 16, 16)).shape == (1, 1, 16, 16, 16)


def test_controllers_of_the_same_words_are_taken_over(tmp_path: Path) -> None:
    write_dataset(tmp_path, "a", ("liver", "liver_tumor"))
    write_dataset(tmp_path, "b", ("spleen", "liver"), seed=4)
    built(tmp_path, "a", run="old", network={"controller": "per_class"}).run()
    old = load_checkpoint(tmp_path / "old" / "weights.safetensors").network
    new = started(tmp_path, "full")
    assert new.classes == ("spleen", "liver")
    assert torch.equal(new.head.controller.weight[1], old.head.controller.weight[0])
    assert not torch.equal(new.head.controller.weight[0], old.head.controller.weight[1])


def test_a_recipe_takes_the_shape_of_the_weights(folder: Path) -> None:
    metadata = load_checkpoint(folder / "old" / "weights.safetensors").metadata
    recipe = as_weights(make_recipe(recipe_values("b", preparation={"window_hu": [0, 99]}), "recipe"), metadata)
    assert list(recipe.preparation["window_hu"]) == list(metadata.preparation["window_hu"])
    assert recipe.network.options == metadata.network.options
    assert recipe.text.encoder == metadata.text_bank["encoder"]


def test_what_was_never_learned_is_not_frozen() -> None:
    with pytest.raises(ConfigError, match="strategy head needs a start"):
        make_recipe(recipe_values("b", strategy="head"), "recipe")


def test_fewer_scans_are_always_among_more(folder: Path) -> None:
    def taken(take: int | None, seed: int) -> set[str]:
        recipe = make_recipe(recipe_values("b", take=take, optimize={"seed": seed}), "recipe")
        trainer = build_trainer(plan_training(recipe, folder), folder / f"take{take}{seed}", CPU)
        return {case.name for case in trainer.sampler.cases}

    for seed in (0, 1, 2):
        assert taken(1, seed) < taken(2, seed) < taken(3, seed) == taken(None, seed)
    assert len({frozenset(taken(1, seed)) for seed in range(6)}) > 1, "another seed draws others"
    with pytest.raises(ConfigError, match="take is 4, but there are 3 training scans"):
        taken(4, 0)


# --- the study --------------------------------------------------------------------------------------------------


def study(folder: Path, **options: Any) -> list[Point]:
    recipe = make_recipe(recipe_values("b"), "recipe")
    return run_study(
        recipe, folder, folder / "old" / "weights.safetensors", folder / "study", CPU, design=Design(**options)
    )


def test_every_combination_is_run_once_and_judged_on_test_scans(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    points = study(folder, ways=("scratch", "full", "head", "adapters"), budgets=(1, 3))
    assert [(p.way, p.take) for p in points] == [
        (w, n) for n in (1, 3) for w in ("scratch", "full", "head", "adapters")
    ]
    assert all(set(point.scans) == {"b/c3", "b/c4"} for point in points)
    learned = {point.way: point.learned for point in points}
    assert learned["head"] < learned["adapters"]
    assert learned["head"] < learned["full"] == learned["scratch"]
    monkeypatch.setattr(transfer, "build_trainer", lambda *_, **__: pytest.fail("trained again"))
    assert study(folder, ways=("scratch", "full", "head", "adapters"), budgets=(1, 3)) == points
    recipe = make_recipe(recipe_values("b", optimize={"learning_rate": 0.5}), "recipe")
    with pytest.raises(ConfigError, match="holds a run of another recipe"):
        run_study(
            recipe, folder, folder / "old" / "weights.safetensors", folder / "study", CPU, design=Design(budgets=(1,))
        )


def test_budgets_are_one_two_five_ten_and_all(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer, "_run", lambda plan, folder, name, *_: Point(*name, {}, 0, 0.0))
    assert [p.take for p in study(folder, ways=("scratch",))] == [1, 2, 3]


def test_a_study_that_cannot_be_is_refused(folder: Path) -> None:
    with pytest.raises(ConfigError, match="way halfway: expected scratch, full, head, adapters"):
        study(folder, ways=("halfway",))
    with pytest.raises(ConfigError, match="training scans 0: expected 1 or more"):
        study(folder, budgets=(2, 0))
    recipe = make_recipe(recipe_values("a"), "recipe")
    with pytest.raises(ConfigError, match="no scan is held out"):
        run_study(recipe, folder, folder / "old" / "weights.safetensors", folder / "study", CPU)


def test_estimates_are_means_over_held_out_scans() -> None:
    points = [
        Point("scratch", 1, 0, {"x": {"spleen": 0.2}, "y": {"spleen": 0.4}, "z": {}}, 5, 1.0),
        Point("scratch", 1, 1, {"x": {"spleen": 0.4}, "y": {"spleen": 0.6}, "z": {}}, 5, 1.0),
        Point("full", 1, 0, {"x": {"spleen": 0.5, "liver": 0.7}}, 5, 1.0),
    ]
    of = estimates(points)
    assert of["scratch", 1].value == pytest.approx(0.4)
    assert (of["scratch", 1].n, of["scratch", 1].patients) == (4, 2)
    assert of["scratch", 1].low == pytest.approx(0.3)
    assert of["full", 1].value == pytest.approx(0.6)
    assert table(points).splitlines() == [
        "| training scans | scratch | full |", "|---|---|---|", "| 1 | 40.0 (30.0 to 50.0) | 60.0 |",
    ]  # fmt: skip
    picture = ET.fromstring(curves(points))
    text = "".join(picture.itertext())
    assert "scratch" in text
    assert "training scans" in text
    ET.fromstring(curves([]))
