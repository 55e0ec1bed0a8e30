"""Journeys on real CT with the weights that ship: what a user does on the first day."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from tests.phantoms import dice, oriented
from voxicon.core.volume import Volume
from voxicon.data.card import load_card
from voxicon.data.cases import read_case
from voxicon.data.layout import find_dataset
from voxicon.io.nifti import read_volume
from voxicon.model.checkpoint import load_checkpoint
from voxicon.result import Result
from voxicon.segmenter import Segmenter, load
from voxicon.weights.store import starter_path

CLEAR = ("liver", "spleen", "lung_right", "lung_left", "aorta", "kidney_right", "kidney_left")


@pytest.fixture(scope="module")
def segmenter() -> Segmenter:
    return load("starter", device="cpu")


@pytest.fixture(scope="module")
def torso(segmenter: Segmenter, real_data: Path) -> Result:
    """The contrast CT of chest and abdomen, all classes."""
    return segmenter.segment(real_data / "chest_abdomen" / "ct.nii.gz")


def center_mm(result: Result, name: str) -> np.ndarray:
    return result.masks.geometry.to_world(np.argwhere(result.masks[name])).mean(axis=0)


def agreement(result: Result, dataset: str, data: Path) -> dict[str, float]:
    (case,) = find_dataset(load_card(dataset), data).cases
    _, _, targets = read_case(case, result.masks.names)
    return {name: dice(result.masks[name], targets.masks[name]) for name in targets.known}


def test_organs_are_where_organs_are(torso: Result) -> None:
    # RAS: x grows to the right, y to the front, z to the head.
    place = {name: center_mm(torso, name) for name in CLEAR}
    assert place["liver"][0] > place["spleen"][0] + 50
    assert place["kidney_right"][0] > place["kidney_left"][0] + 50
    assert place["lung_right"][0] > place["lung_left"][0] + 50
    assert min(place["lung_right"][2], place["lung_left"][2]) > place["liver"][2]
    assert place["kidney_left"][1] < place["liver"][1]


def test_agreement_with_machine_labels_on_the_contrast_scan(torso: Result, real_data: Path) -> None:
    scores = agreement(torso, "chest_abdomen", real_data)
    # The weights were trained on this scan: this shows that training and the way back work, not accuracy.
    assert {name: round(scores[name], 3) for name in CLEAR if scores[name] < 0.82} == {}


def test_agreement_with_machine_labels_on_the_plain_scan(segmenter: Segmenter, real_data: Path) -> None:
    result = segmenter.segment(real_data / "abdomen_pelvis" / "ct.nii.gz")
    scores = agreement(result, "abdomen_pelvis", real_data)
    wanted = ("liver", "spleen", "kidney_right", "kidney_left", "aorta", "urinary_bladder", "colon")
    assert {name: round(scores[name], 3) for name in wanted if scores[name] < 0.78} == {}


def test_files_lie_on_the_scans_own_grid(torso: Result, real_data: Path, tmp_path: Path) -> None:
    torso.save(tmp_path, preview=False)
    source = nib.load(real_data / "chest_abdomen" / "ct.nii.gz")
    for name in ("segmentations/liver.nii.gz", "combined_labels.nii.gz"):
        written = nib.load(tmp_path / name)
        assert written.shape == source.shape
        assert (written.affine == source.affine).all()
        for key in ("sform_code", "qform_code", "xyzt_units"):
            assert written.header[key] == source.header[key]
        for code in ("s", "q"):
            for axis in "xyz":
                key = f"srow_{axis}" if code == "s" else f"qoffset_{axis}"
                assert (np.asarray(written.header[key]) == np.asarray(source.header[key])).all()


def test_another_orientation_gives_the_same_masks(segmenter: Segmenter, real_data: Path) -> None:
    volume = read_volume(real_data / "abdomen_pelvis" / "ct.nii.gz")
    assert volume.geometry.orientation == "RAS"
    order, signs = (2, 0, 1), (-1, 1, -1)
    straight = segmenter.segment(volume, classes=["liver", "kidney_left"])
    turned = segmenter.segment(oriented(volume, order, signs), classes=["liver", "kidney_left"])
    for name in straight.masks:
        expected = oriented(Volume(straight.masks[name].astype(np.float32), volume.geometry), order, signs).hu > 0.5
        assert dice(turned.masks[name], expected) > 0.999


def test_asking_for_one_class_gives_the_same_mask(segmenter: Segmenter, torso: Result, real_data: Path) -> None:
    alone = segmenter.segment(real_data / "chest_abdomen" / "ct.nii.gz", classes=["left kidney"])
    assert (alone.masks["kidney_left"] == torso.masks["kidney_left"]).all()


def test_the_shipped_weights_say_what_they_are() -> None:
    path = starter_path()
    assert path.stat().st_size < 12e6
    checkpoint = load_checkpoint(path)
    card = checkpoint.metadata.card
    for field in ("title", "license", "labels", "cannot", "data", "seed", "steps", "wall_seconds", "agreement"):
        assert card[field], field
    assert {entry["terms"] for entry in card["data"]}
    assert len(checkpoint.metadata.trained) >= 19
    assert checkpoint.metadata.text_bank["encoder"] == "minilm"
