"""A recipe: from YAML to weights that segment, and one line for everything that does not fit."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
import yaml

from tests.data.test_card import GOOD
from voxicon.errors import CardError, ConfigError
from voxicon.model.checkpoint import read_metadata
from voxicon.recipe import build_trainer, load_recipe
from voxicon.segmenter import load

CPU = torch.device("cpu")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A folder with one scan, its label map and a card for it."""
    affine = np.diag([-4.0, 4.0, 4.0, 1.0])
    labels = np.zeros((24, 24, 24), dtype=np.int16)
    labels[4:20, 5:19, 4:20] = 1
    labels[8:14, 9:15, 8:14] = 2
    noise = np.random.default_rng(0).normal(0, 10, labels.shape)
    hu = np.choose(labels, [-60, 60, 170]) + noise
    hu[:2] = -1000
    nib.save(nib.Nifti1Image(hu.astype(np.int16), affine), tmp_path / "ct.nii.gz")
    nib.save(nib.Nifti1Image(labels, affine), tmp_path / "labels.nii.gz")
    (tmp_path / "card.yaml").write_text(GOOD)
    return tmp_path


def write_recipe(folder: Path, **changes: object) -> Path:
    values: dict[str, object] = {
        "name": "tiny",
        "cards": [str(folder / "card.yaml")],
        "network": {"backbone": "compact", "options": {"channels": [16, 16]}},
        "text": {"encoder": "onehot", "center": False},
        "preparation": {"spacing_mm": [4, 4, 4], "window_hu": [-250, 350]},
        "inference": {"window": [16, 16, 16]},
        "optimize": {"steps": 3, "patch": [16, 16, 16], "save_every": 2},
        "repaint_hu": {"liver": [0, 100]},
        "card": {"license": "Apache-2.0"},
        **changes,
    }
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


def test_from_recipe_to_masks(data: Path) -> None:
    trainer = build_trainer(load_recipe(write_recipe(data)), data, data / "run", CPU)
    weights = trainer.run()
    card = read_metadata(weights).card
    assert card["steps"] == 3
    assert card["recipe"]["optimize"]["patch"] == [16, 16, 16]
    assert card["data"][0]["dataset"] == "example"
    assert len(card["data"][0]["image_sha256"]) == 64
    segmenter = load(weights, device="cpu")
    assert segmenter.classes == ("liver", "liver_tumor")
    assert segmenter.segment(data / "ct.nii.gz").masks.geometry.shape == (24, 24, 24)


def test_finished_runs_are_not_trained_again_but_get_their_card_anew(data: Path) -> None:
    first = build_trainer(load_recipe(write_recipe(data)), data, data / "run", CPU)
    first.run()
    again = build_trainer(load_recipe(write_recipe(data, card={"license": "MIT"})), data, data / "run", CPU)
    assert again.step == 3
    weights = again.run()
    assert read_metadata(weights).card["license"] == "MIT"
    assert all(torch.equal(a, b) for a, b in zip(first.averaged.parameters(), again.averaged.parameters(), strict=True))


def test_classes_can_be_chosen(data: Path) -> None:
    recipe = load_recipe(write_recipe(data, classes=["liver_tumor"]))
    assert build_trainer(recipe, data, data / "run", CPU).network.classes == ("liver_tumor",)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"optimize": {"steps": 0}}, "optimize.steps"),
        ({"optimize": {"steps": 3, "speed": 9}}, "optimize.speed"),
        ({"colour": "red"}, "colour"),
        ({"cards": []}, "cards"),
        ({"inference": {"window": [16, 16]}}, "inference.window"),
    ],
)
def test_wrong_fields_are_named(data: Path, changes: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_recipe(write_recipe(data, **changes))


def test_recipes_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        load_recipe(tmp_path / "none.yaml")
    (tmp_path / "bad.yaml").write_text("a: [")
    with pytest.raises(ConfigError, match="not valid YAML"):
        load_recipe(tmp_path / "bad.yaml")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"classes": ["spleen"]}, "no card annotates spleen"),
        ({"preparation": {"spacing_mm": [4, 4, 5], "window_hu": [0, 1]}}, "one spacing for all axes"),
    ],
)
def test_what_does_not_fit_is_refused_before_training(data: Path, changes: dict[str, object], message: str) -> None:
    recipe = load_recipe(write_recipe(data, **changes))
    with pytest.raises(ConfigError, match=message):
        build_trainer(recipe, data, data / "run", CPU)


def test_missing_data_is_refused_before_training(data: Path) -> None:
    recipe = load_recipe(write_recipe(data))
    (data / "labels.nii.gz").unlink()
    with pytest.raises(CardError, match=r"labels.nii.gz is missing"):
        build_trainer(recipe, data, data / "run", CPU)


def test_the_recipe_that_ships_is_sound() -> None:
    recipe = load_recipe(Path(__file__).parent.parent / "recipes" / "starter.yaml")
    assert recipe.cards == ("chest_abdomen", "abdomen_pelvis")
