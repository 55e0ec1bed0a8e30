"""Label maps of other readers: found by place or name, read through the dataset's card."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.assemblies import AFFINE, GRID, SHAPE, TINY, labels_of, write_scan
from voxicon.core.geometry import Geometry
from voxicon.data.card import DatasetCard
from voxicon.data.layout import Case
from voxicon.data.readers import find_reading, read_reading
from voxicon.errors import BadGeometry, CardError
from voxicon.io.nifti import read_volume, write_labels

CARD = DatasetCard.model_validate(TINY)
ROOT = Path("data/tiny")


def case(label: str | None = "labelsTr/t1.nii.gz", name: str = "t1") -> Case:
    return Case(CARD, name, ROOT / "imagesTr/t1.nii.gz", ROOT / label if label else None, {}, frozenset(CARD.annotates))


@pytest.mark.parametrize(
    "place", ["t1.nii.gz", "t1.nii", "labelsTr/t1.nii.gz", "tiny/labelsTr/t1.nii.gz", "tiny/t1.nii.gz", "tiny/t1.nii"]
)
def test_places(tmp_path: Path, place: str) -> None:
    assert find_reading(tmp_path, case(), ROOT) is None
    path = tmp_path / place
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    assert find_reading(tmp_path, case(), ROOT) == path


def test_a_name_that_all_cases_share_is_found_by_its_folder_only(tmp_path: Path) -> None:
    (tmp_path / "segmentation.nii.gz").touch()
    kits = case("t1/segmentation.nii.gz")
    assert find_reading(tmp_path, kits, ROOT) is None
    (tmp_path / "t1").mkdir()
    (tmp_path / "t1" / "segmentation.nii.gz").touch()
    assert find_reading(tmp_path, kits, ROOT) == tmp_path / "t1" / "segmentation.nii.gz"


def test_one_file_per_structure_has_no_reading(tmp_path: Path) -> None:
    assert find_reading(tmp_path, case(None), ROOT) is None


def test_read_through_the_card(tmp_path: Path) -> None:
    volume = read_volume(write_scan(tmp_path / "ct.nii.gz"))
    path = tmp_path / "t1.nii.gz"
    write_labels(path, labels_of("t1"), GRID)
    found = read_reading(path, case(), volume, ("liver", "liver_tumor", "aorta"))
    assert found.known == {"liver", "liver_tumor"}
    assert (found.masks["liver"] == np.isin(labels_of("t1"), (1, 2))).all()
    assert (found.masks["liver_tumor"] == (labels_of("t1") == 2)).all()


def test_refusals(tmp_path: Path) -> None:
    volume = read_volume(write_scan(tmp_path / "ct.nii.gz"))
    path = tmp_path / "t1.nii.gz"
    write_labels(path, labels_of("t1")[1:], Geometry((23, 20, 16), AFFINE))
    with pytest.raises(BadGeometry, match="the labels' grid"):
        read_reading(path, case(), volume, ("liver",))
    write_labels(path, np.full(SHAPE, 9, dtype=np.uint8), GRID)
    with pytest.raises(CardError, match="of which the card lists none"):
        read_reading(path, case(), volume, ("liver",))


def test_sides_are_told_apart(tmp_path: Path) -> None:
    sided = TINY | {
        "annotates": {
            "kidney_right": {"union": ["liver"], "side": "right"},
            "kidney_left": {"union": ["liver"], "side": "left"},
        }
    }
    card = DatasetCard.model_validate(sided)
    volume = read_volume(write_scan(tmp_path / "ct.nii.gz"))
    labels = np.zeros(SHAPE, dtype=np.uint8)
    labels[2:6, 8:12, 5:10] = 1  # the first axis runs toward the left: these are right
    labels[18:22, 8:12, 5:10] = 1
    write_labels(tmp_path / "t1.nii.gz", labels, GRID)
    own = Case(card, "t1", ROOT / "x", ROOT / "labelsTr/t1.nii.gz", {}, frozenset(card.annotates))
    found = read_reading(tmp_path / "t1.nii.gz", own, volume, ("kidney_right", "kidney_left"))
    assert np.flatnonzero(found.masks["kidney_right"].any(axis=(1, 2))).tolist() == [2, 3, 4, 5]
    assert np.flatnonzero(found.masks["kidney_left"].any(axis=(1, 2))).tolist() == [18, 19, 20, 21]
    # A single one is told by the middle of the body, here that of the grid.
    labels[18:] = 0
    write_labels(tmp_path / "t1.nii.gz", labels, GRID)
    found = read_reading(tmp_path / "t1.nii.gz", own, volume, ("kidney_right", "kidney_left"))
    assert (found.masks.count("kidney_right"), found.masks.count("kidney_left")) == (4 * 4 * 5, 0)
