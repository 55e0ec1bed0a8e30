"""Masks made earlier: found by name, read on the scan's grid, never those of another scan."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from tests.assemblies import AFFINE, GRID, SHAPE, TINY, labels_of, masks_of, write_prediction
from voxicon.core.geometry import Geometry
from voxicon.core.volume import Source, Volume
from voxicon.data.card import DatasetCard
from voxicon.data.layout import Case
from voxicon.errors import BadGeometry, InputError, UnreadableFile
from voxicon.evaluate.predictions import ResultFolder, find_folder, folder_of, read_case_file
from voxicon.io.probabilities import write_probabilities

CARD = DatasetCard.model_validate(TINY)
LIVER = masks_of(labels_of("t1"))["liver"]


def case(name: str, image: str = "scans/ct.nii.gz", card: DatasetCard = CARD) -> Case:
    return Case(card, name, Path(image), None, {}, frozenset(card.annotates))


# --- files


def test_masks_and_maps_are_read_as_written(tmp_path: Path) -> None:
    levels = np.arange(np.prod(SHAPE), dtype=np.uint32).astype(np.uint8).reshape(SHAPE)
    write_prediction(tmp_path, {"liver": LIVER, "spleen": np.zeros(SHAPE, dtype=bool)})
    write_probabilities({"liver": levels}, tmp_path, GRID)
    found = ResultFolder(tmp_path, GRID)
    assert (found.mask("liver") == LIVER).all()
    # An empty mask is an answer, no file is none.
    spleen = found.mask("spleen")
    assert spleen is not None
    assert not spleen.any()
    assert found.mask("aorta") is None
    probability = found.probability("liver")
    assert probability is not None
    assert np.allclose(probability * 255, levels, atol=1e-3)
    assert found.probability("spleen") is None
    assert ResultFolder(tmp_path / "nowhere", GRID).mask("liver") is None


def test_probabilities_as_anybody_stores_them(tmp_path: Path) -> None:
    path = tmp_path / "probabilities" / "liver.nii"
    path.parent.mkdir()
    nib.save(nib.Nifti1Image(np.full(SHAPE, 0.25, dtype=np.float32), AFFINE), path)
    found = ResultFolder(tmp_path, GRID).probability("liver")
    assert found is not None
    assert (found == 0.25).all()


@pytest.mark.parametrize("wrong", [2.0, -0.5, np.nan])
def test_numbers_that_are_no_probabilities(tmp_path: Path, wrong: float) -> None:
    values = np.zeros(SHAPE, dtype=np.float32)
    values[0, 0, 0] = wrong
    (tmp_path / "probabilities").mkdir()
    nib.save(nib.Nifti1Image(values, AFFINE), tmp_path / "probabilities" / "liver.nii.gz")
    with pytest.raises(UnreadableFile, match="expected probabilities"):
        ResultFolder(tmp_path, GRID).probability("liver")


def test_another_grid_and_damaged_files(tmp_path: Path) -> None:
    moved = AFFINE.copy()
    moved[2, 3] += 0.5
    write_prediction(tmp_path, {"liver": LIVER}, Geometry(SHAPE, moved))
    write_prediction(tmp_path, {"spleen": LIVER[1:]}, Geometry((23, 20, 16), AFFINE))
    write_probabilities({"liver": LIVER.astype(np.uint8)}, tmp_path, Geometry(SHAPE, moved))
    found = ResultFolder(tmp_path, GRID)
    for read in (lambda: found.mask("liver"), lambda: found.mask("spleen"), lambda: found.probability("liver")):
        with pytest.raises(BadGeometry, match="on the scan's own grid") as refusal:
            read()
        assert refusal.value.code == "E-GRID"
    (tmp_path / "probabilities" / "aorta.nii.gz").write_bytes(b"no image")
    (tmp_path / "segmentations" / "aorta.nii.gz").write_bytes(b"no image")
    with pytest.raises(UnreadableFile, match="cannot be read"):
        found.probability("aorta")
    with pytest.raises(UnreadableFile):
        found.mask("aorta")
    nib.save(
        nib.Nifti1Image(np.zeros((*SHAPE, 2), dtype=np.uint8), AFFINE), tmp_path / "probabilities" / "colon.nii.gz"
    )
    with pytest.raises(BadGeometry, match="has 4 axes"):
        found.probability("colon")


# --- who made them, of what


def test_the_scan_and_the_weights_that_case_json_names(tmp_path: Path) -> None:
    found = ResultFolder(tmp_path, GRID)
    volume = Volume(np.zeros(SHAPE, dtype=np.float32), GRID, Source(name="a", path="a.nii.gz", sha256="0" * 64))
    assert found.weights is None
    found.check_scan(volume)  # nothing to check
    told = {"input": {"sha256": "1" * 64}, "weights": {"name": "w", "sha256": "2" * 64, "title": "x"}}
    (tmp_path / "case.json").write_text(json.dumps(told))
    assert found.weights == {"name": "w", "sha256": "2" * 64}
    with pytest.raises(InputError, match=r"another scan than a.nii.gz"):
        found.check_scan(volume)
    for damaged in ("{", "[1]", "null"):
        (tmp_path / "case.json").write_text(damaged)
        assert read_case_file(tmp_path) == {}
        found.check_scan(volume)


# --- where they lie


def test_places_in_order(tmp_path: Path) -> None:
    one = case("t1", "scans/one/ct.nii.gz")
    with pytest.raises(InputError, match=r"tiny/t1: no prediction; expected .*tiny/t1/segmentations"):
        find_folder(tmp_path, one, [one])
    # As 'voxicon segment' names it; only with its case.json, since every scan may be called ct.
    for name in ("ct", "one_ct"):
        (tmp_path / name / "segmentations").mkdir(parents=True)
    with pytest.raises(InputError, match="no prediction"):
        find_folder(tmp_path, one, [one])
    (tmp_path / "one_ct" / "case.json").write_text("{}")
    assert find_folder(tmp_path, one, [one]) == tmp_path / "one_ct"
    (tmp_path / "t1" / "segmentations").mkdir(parents=True)
    assert find_folder(tmp_path, one, [one]) == tmp_path / "t1"
    # A case of that name in another dataset: it may be either's.
    other = case("t1", card=CARD.model_copy(update={"id": "other"}))
    assert find_folder(tmp_path, one, [one, other]) == tmp_path / "one_ct"
    (tmp_path / "tiny" / "t1" / "segmentations").mkdir(parents=True)
    assert find_folder(tmp_path, one, [one, other]) == tmp_path / "tiny" / "t1"


@pytest.mark.parametrize("name", ["..", ".", "", "a/../../b", "a\0b"])
def test_case_ids_that_lead_away(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match="cannot name a folder"):
        folder_of(tmp_path, case(name))
