"""From a recipe to weights that look into organs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.test_training import built
from tests.train.phantoms import CPU, write_dataset, write_recipe
from voxicon.errors import ConfigError
from voxicon.model.checkpoint import read_metadata
from voxicon.model.host import against_host
from voxicon.plan import plan_training
from voxicon.recipe import load_recipe
from voxicon.student import starting_from
from voxicon.train.loss import partial_label_loss
from voxicon.training import build_trainer


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two scans with a liver and a tumor in it."""
    write_dataset(tmp_path, "a", ("liver", "liver_tumor"))
    return tmp_path


LOOKS_INSIDE: dict[str, Any] = {
    "network": {"backbone": "compact", "options": {"channels": [16, 16], "host": {}}},
    "classes": ["liver", "liver_tumor"],
    "optimize": {"validate_every": 0},
}


def test_a_network_that_looks_into_an_organ(folder: Path) -> None:
    trainer = built(folder, "a", **LOOKS_INSIDE)
    batch = trainer.sampler.batch(0, [0, 1])
    assert batch.host_B1XYZ is not None
    assert batch.host_B1XYZ.shape == batch.hu_B1XYZ.shape
    assert batch.known_BN[:, trainer.network.classes.index("liver")].any().item() is False, "it is told, not looked for"
    seen = trainer._image(batch)
    low, high = trainer.preparation.window_hu
    expected = against_host(batch.hu_B1XYZ[1, 0].clamp(low, high), batch.host_B1XYZ[1, 0])
    torch.testing.assert_close(seen[1], expected)
    metadata = read_metadata(trainer.run())
    assert metadata.trained == ("liver_tumor",)
    assert "never_shown" not in metadata.card, "organs are told to it"


def test_looking_into_organs_needs_a_lesion_and_its_organ(folder: Path) -> None:
    with pytest.raises(ConfigError, match="none is a lesion whose organ is there too"):
        built(folder, "a", **{**LOOKS_INSIDE, "classes": ["liver_tumor"]})


def test_looking_into_organs_cannot_be_validated_alone(folder: Path) -> None:
    with pytest.raises(ConfigError, match="validate_every to 0"):
        built(folder, "a", **{**LOOKS_INSIDE, "optimize": {"validate_every": 1}})


def test_adapters_beside_it_are_refused_and_its_validation_too_when_it_starts_from_weights(folder: Path) -> None:
    weights = built(folder, "a", **LOOKS_INSIDE).run()
    recipe = load_recipe(write_recipe(folder, "a", classes=["liver", "liver_tumor"], optimize={"validate_every": 0}))
    beside = starting_from(recipe, weights, "adapters")
    with pytest.raises(ConfigError, match="use strategy full or head"):
        build_trainer(plan_training(beside, folder), folder / "beside", CPU)
    assert build_trainer(plan_training(starting_from(recipe, weights, "head"), folder), folder / "head", CPU).step == 0
    judged = recipe.model_copy(update={"optimize": recipe.optimize.model_copy(update={"validate_every": 1})})
    with pytest.raises(ConfigError, match="validate_every to 0"):
        build_trainer(plan_training(starting_from(judged, weights), folder), folder / "judged", CPU)
    assert not (folder / "beside").exists()


def test_a_depth_is_one_of_its_classes(folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"inference\.depth_mm names spleen, which it does not learn"):
        built(folder, "a", **{**LOOKS_INSIDE, "inference": {"window": [16, 16, 16], "depth_mm": {"spleen": 3}}})


def test_the_loss_is_what_the_recipe_says(folder: Path) -> None:
    weighty = {"validate_every": 0, "each_lesion": 2.0, "cross_entropy": 20.0}
    trainer = built(folder, "a", **{**LOOKS_INSIDE, "optimize": weighty})
    batch = trainer.sampler.batch(0, [0])
    at = [trainer.network.classes.index("liver_tumor")]
    assert batch.known_BN[0].nonzero().flatten().tolist() == at
    with torch.no_grad():
        logits = trainer.network(trainer._image(batch), ("liver_tumor",))
        target, known = batch.target_BNXYZ[:, at], batch.known_BN[:, at]
        expected = partial_label_loss(logits, target, known, each_N=torch.tensor([2.0]), cross_entropy=20.0)
        assert target.any()
        assert trainer.loss_of(batch).item() == pytest.approx(expected.item(), rel=1e-5)


def test_a_step_without_any_organ_in_sight_changes_nothing_and_goes_on(folder: Path) -> None:
    trainer = built(folder, "a", **LOOKS_INSIDE)
    batch = trainer.sampler.batch(0, [0])
    batch.known_BN[:] = False
    loss = trainer.loss_of(batch)
    loss.backward()  # type: ignore[no-untyped-call]
    assert loss.item() == 0
    gradients = [parameter.grad for parameter in trainer.learning if parameter.grad is not None]
    assert not any(gradient.any() for gradient in gradients)


def test_no_host_is_no_host(folder: Path) -> None:
    options = {"backbone": "compact", "options": {"channels": [16, 16], "host": None}}
    trainer = built(folder, "a", **{**LOOKS_INSIDE, "network": options})
    assert trainer.sampler.batch(0, [0]).host_B1XYZ is None
    assert trainer.network.inputs == 1
