"""Labels land on their scan's grid: by header, by voxel order, or not at all."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.data.test_card import GOOD
from tests.phantoms import ORIENTATIONS, oriented
from voxicon.core.geometry import Geometry
from voxicon.core.volume import Volume
from voxicon.data.annotation import NEAR_ENOUGH_VOXELS, Annotation, read_annotation
from voxicon.data.card import DatasetCard, parse_card
from voxicon.data.harmonise import harmonise
from voxicon.data.layout import Case, find_dataset
from voxicon.errors import BadGeometry, CardError
from voxicon.io.nifti import write_labels, write_volume

LPS = np.diag([-2.0, -2.0, 3.0, 1.0])
GRID = Geometry((5, 6, 7), LPS)
SCAN = Volume(np.zeros(GRID.shape, dtype=np.float32), GRID)
LABELS = (np.arange(5 * 6 * 7).reshape(5, 6, 7) % 3).astype(np.uint8)
CARD = parse_card(GOOD, "example.yaml")


def read(folder: Path, labels: NDArray[Any], grid: Geometry, axes: str = "header") -> NDArray[Any]:
    """Raw values of a label file as they land on the grid of `SCAN`."""
    path = folder / "labels.nii.gz"
    write_labels(path, labels, grid)
    card = CARD.model_copy(update={"label_axes": axes})
    annotation = read_annotation(Case(card, "a", Path("ct.nii.gz"), path, {}, frozenset(card.annotates)), SCAN)
    assert annotation.geometry == GRID
    assert annotation.raw is not None
    return annotation.raw


def moved(shift_mm: float) -> Geometry:
    affine = LPS.copy()
    affine[0, 3] += shift_mm
    return Geometry(GRID.shape, affine)


def test_labels_on_the_very_grid(tmp_path: Path) -> None:
    assert (read(tmp_path, LABELS, GRID) == LABELS).all()


def test_a_rounded_header_is_the_scans_grid(tmp_path: Path) -> None:
    # The smallest voxel side is 2 mm, so a tenth of a voxel is 0.2 mm.
    assert NEAR_ENOUGH_VOXELS == 0.1
    assert (read(tmp_path, LABELS, moved(0.19)) == LABELS).all()
    with pytest.raises(BadGeometry, match="is not the scan's") as caught:
        read(tmp_path, LABELS, moved(0.21))
    assert caught.value.code == "E-GRID"


@pytest.mark.parametrize(("order", "signs"), ORIENTATIONS[::5])
def test_the_same_voxels_written_in_another_order_are_the_same_labels(tmp_path: Path, order: Any, signs: Any) -> None:
    affine = np.diag([2.0, 2.0, 3.0, 1.0])
    affine[:3, 3] = GRID.to_world([4, 5, 0])
    in_ras = Volume(LABELS[::-1, ::-1].astype(np.float32), Geometry(GRID.shape, affine))
    other = oriented(in_ras, order, signs)
    assert (read(tmp_path, other.hu.astype(np.uint8), other.geometry) == LABELS).all()


def test_another_grid_is_refused_with_both_grids(tmp_path: Path) -> None:
    with pytest.raises(BadGeometry, match=r"\(5, 6, 7\) at \(4.0, 2.0, 3.0\) mm, LPS.* \(2.0, 2.0, 3.0\) mm, LPS"):
        read(tmp_path, LABELS, Geometry(GRID.shape, np.diag([-4.0, -2, 3, 1])))
    with pytest.raises(BadGeometry, match="state label_axes in the card example") as caught:
        read(tmp_path, LABELS[:4], Geometry((4, 6, 7), LPS))
    assert caught.value.code == "E-GRID"


def test_label_axes_image_takes_the_voxels_as_they_lie(tmp_path: Path) -> None:
    wrong = Geometry(GRID.shape, np.diag([1.0, 1.0, -9.0, 1.0]))
    assert (read(tmp_path, LABELS, wrong, "image") == LABELS).all()
    with pytest.raises(BadGeometry) as caught:
        read(tmp_path, LABELS[:4], Geometry((4, 6, 7), LPS), "image")
    assert caught.value.code == "E-GRID"


def test_label_axes_turn_voxels_whatever_the_header_says(tmp_path: Path) -> None:
    wrong = Geometry(GRID.shape, np.diag([1.0, 1.0, 9.0, 1.0]))
    # The scan runs LPS. Labels that really run RAS are turned about the first two axes.
    assert (read(tmp_path, LABELS, wrong, "LPS") == LABELS).all()
    assert (read(tmp_path, LABELS, wrong, "RAS") == LABELS[::-1, ::-1]).all()
    assert (read(tmp_path, LABELS, wrong, "LPI") == LABELS[:, :, ::-1]).all()
    # Voxels that run A, then R, then S.
    turned = LABELS[::-1, ::-1].transpose(1, 0, 2)
    other = Geometry((6, 5, 7), np.diag([1.0, 1.0, 9.0, 1.0]))
    assert (read(tmp_path, turned, other, "ARS") == LABELS).all()
    with pytest.raises(BadGeometry, match="is not the scan's"):
        read(tmp_path, LABELS, wrong, "ARS")


def dataset(folder: Path, missing: str, files: Mapping[str, NDArray[Any]]) -> tuple[DatasetCard, tuple[Case, ...]]:
    """Patient p with one file per structure: the liver, one lesion per file, the spleen."""
    text = GOOD.replace('label: "{case}_labels.nii.gz"', 'masks: "{case}/{structure}.nii.gz"')
    text = text.replace("  2: lesion\n", "  2: lesion\n  3: spleen\nnames: {lesion: ['lesion*']}\n")
    card = parse_card(f"{text}  spleen: {{union: [spleen]}}\nmissing: {missing}\n", "example.yaml")
    write_volume(folder / "p_ct.nii.gz", np.zeros(GRID.shape, dtype=np.int16), GRID)
    for name, mask in files.items():
        write_labels(folder / "p" / f"{name}.nii.gz", mask.astype(np.uint8), GRID)
    return card, find_dataset(card, folder).cases


def test_one_file_per_structure(tmp_path: Path) -> None:
    first, second = LABELS == 1, LABELS == 2
    card, (case,) = dataset(tmp_path, "unknown", {"liver": LABELS > 0, "lesion1": first, "lesion2": second})
    annotation = read_annotation(case, SCAN)
    assert (annotation.mask(["lesion"], card) == (first | second)).all(), "two files, one structure"
    assert (annotation.mask(["liver", "lesion"], card) == (LABELS > 0)).all()
    assert not annotation.mask(["spleen"], card).any()
    # Where masks overlap, the later structure of the card wins: 2 over 1.
    assert (annotation.values(card) == np.where(LABELS > 0, 2, 0)).all()


@pytest.mark.parametrize(
    ("missing", "known"), [("unknown", {"liver", "liver_tumor"}), ("empty", {"liver", "liver_tumor", "spleen"})]
)
def test_a_structure_without_a_file_is_unknown_or_empty(tmp_path: Path, missing: str, known: set[str]) -> None:
    card, (case,) = dataset(tmp_path, missing, {"liver": LABELS > 0, "lesion1": LABELS == 1})
    targets = harmonise(read_annotation(case, SCAN), card, tuple(card.annotates), annotates=case.annotates)
    assert targets.known == known
    assert not targets.masks["spleen"].any()


def test_a_class_is_unknown_when_any_of_its_structures_has_no_file(tmp_path: Path) -> None:
    # The liver is liver and lesions; without the lesions' file it would have holes.
    _, (case,) = dataset(tmp_path, "unknown", {"liver": LABELS > 0})
    assert case.annotates == set()
    _, (case,) = dataset(tmp_path, "empty", {"liver": LABELS > 0})
    assert case.annotates == {"liver", "liver_tumor", "spleen"}


def test_masks_are_read_only_when_asked_for(tmp_path: Path) -> None:
    card, (case,) = dataset(tmp_path, "unknown", {"liver": LABELS > 0, "lesion1": LABELS == 1})
    annotation = read_annotation(case, SCAN)
    for path in case.masks["lesion"]:
        path.unlink()
    assert annotation.mask(["liver"], card).any()


def test_a_mask_on_another_grid_is_refused(tmp_path: Path) -> None:
    card, (case,) = dataset(tmp_path, "unknown", {"liver": LABELS > 0, "lesion1": LABELS == 1})
    write_labels(case.masks["liver"][0], LABELS, moved(1.0))
    with pytest.raises(BadGeometry) as caught:
        read_annotation(case, SCAN).mask(["liver"], card)
    assert caught.value.code == "E-GRID"


def test_values_of_a_label_map_are_the_label_map() -> None:
    annotation = Annotation(GRID, raw=LABELS)
    assert annotation.values(CARD) is LABELS
    assert (annotation.mask(["lesion"], CARD) == (LABELS == 2)).all()
    assert not annotation.mask([], CARD).any()


def test_png_slices_hold_one_structure(tmp_path: Path) -> None:
    case = Case(CARD, "a", tmp_path / "ct", tmp_path, {}, frozenset(CARD.annotates))
    with pytest.raises(CardError, match="PNG slices hold one structure, the card lists 2"):
        read_annotation(case, SCAN)
