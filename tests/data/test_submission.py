"""Predictions in a dataset's own values and file names: what challenges ask for."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from tests.assemblies import AFFINE, GRID, SHAPE, TINY, labels_of, masks_of
from voxicon.core.masks import MaskSet
from voxicon.data.card import DatasetCard, load_card
from voxicon.data.layout import Case, Dataset, find_dataset
from voxicon.data.submission import submission_name, unlabeled_cases, write_submission

ROOT = Path("data")


def touch(root: Path, *names: str) -> None:
    for name in names:
        path = root / name
        if name.endswith("/"):
            path.mkdir(parents=True, exist_ok=True)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()


def named(card: str, image: str, case: str) -> str:
    found = load_card(card)
    return submission_name(
        Case(found, case, ROOT / image, None, {}, frozenset(found.annotates)), Dataset(found, ROOT, ())
    )


@pytest.mark.parametrize(
    ("card", "image", "case", "name"),
    [
        ("msd_liver", "imagesTs/liver_132.nii.gz", "liver_132", "liver_132.nii.gz"),
        ("msd_liver", "imagesTr/liver_0.nii.gz", "liver_0", "liver_0.nii.gz"),
        ("btcv", "RawData/Testing/img/img0061.nii.gz", "0061", "label0061.nii.gz"),
        ("btcv", "RawData/Training/img/img0001.nii.gz", "0001", "label0001.nii.gz"),
        ("lits", "LITS-Challenge-Test-Data/test-volume-7.nii", "7", "test-segmentation-7.nii"),
        ("lits", "Training Batch 1/volume-7.nii", "7", "segmentation-7.nii"),
        ("amos22_ct", "imagesTs/amos_0002.nii.gz", "amos_0002", "amos_0002.nii.gz"),
        # The labels' names do not tell cases apart, or are no label maps.
        ("kits23", "dataset/case_00000/imaging.nii.gz", "case_00000", "case_00000.nii.gz"),
        ("chaos", "Test_Sets/CT/3/DICOM_anon", "3", "3.nii.gz"),
        ("totalsegmentator_v2", "s0000/ct.nii.gz", "s0000", "s0000.nii.gz"),
    ],
)
def test_names_are_those_the_makers_use(card: str, image: str, case: str, name: str) -> None:
    assert named(card, image, case) == name


def test_a_scan_that_no_part_knows_is_named_like_its_case() -> None:
    assert named("btcv", "elsewhere/x.nii.gz", "0001") == "0001.nii.gz"


def test_scans_without_labels(tmp_path: Path) -> None:
    touch(tmp_path, "imagesTr/a.nii.gz", "imagesTr/b.nii.gz", "labelsTr/a.nii.gz", "imagesTs/c.nii.gz")
    card = DatasetCard.model_validate(TINY)
    dataset = find_dataset(card, tmp_path)
    found = {case.name: case for case in unlabeled_cases(dataset)}
    # b has no label where it should have one; it is no less without labels.
    assert set(found) == {"b", "c"}
    assert found["c"].image == tmp_path / "imagesTs" / "c.nii.gz"
    assert found["c"].label is None
    assert found["c"].annotates == set(card.annotates)


def test_a_scan_that_one_part_labels_is_not_without_labels(tmp_path: Path) -> None:
    parts = [
        {"image": "img/{case}.nii.gz", "label": "one/{case}.nii.gz"},
        {"image": "img/{case}.nii.gz", "label": "two/{case}.nii.gz", "annotates": ["liver"]},
    ]
    touch(tmp_path, "img/a.nii.gz", "img/b.nii.gz", "one/a.nii.gz")
    dataset = find_dataset(DatasetCard.model_validate(TINY | {"parts": parts, "splits": {}}), tmp_path)
    assert [case.name for case in unlabeled_cases(dataset)] == ["b"]


def labeled(card: DatasetCard) -> tuple[Case, Dataset]:
    case = Case(card, "t1", ROOT / "imagesTr" / "t1.nii.gz", None, {}, frozenset(card.annotates))
    return case, Dataset(card, ROOT, (case,))


def test_values_are_the_datasets_own(tmp_path: Path) -> None:
    masks = MaskSet.from_masks(masks_of(labels_of("t1")), GRID)
    path = write_submission(tmp_path, masks, *labeled(DatasetCard.model_validate(TINY)))
    assert path == tmp_path / "tiny" / "t1.nii.gz"
    image = nib.load(path)
    assert (np.asarray(image.dataobj) == labels_of("t1")).all()
    assert (image.affine == AFFINE).all()
    assert image.get_data_dtype() == np.uint8


def test_values_beyond_a_byte(tmp_path: Path) -> None:
    card = DatasetCard.model_validate(TINY | {"raw": {1: "liver", 2: "lesion", 500: "spleen"}})
    path = write_submission(tmp_path, MaskSet.from_masks(masks_of(labels_of("t1")), GRID), *labeled(card))
    assert np.asarray(nib.load(path).dataobj).max() == 500


def test_a_name_without_gz_is_not_packed(tmp_path: Path) -> None:
    parts = [{"image": "imagesTr/{case}.nii", "label": "labelsTr/seg-{case}.nii"}]
    card = DatasetCard.model_validate(TINY | {"parts": parts})
    path = write_submission(tmp_path, MaskSet.from_masks(masks_of(labels_of("t1")), GRID), *labeled(card))
    assert path.name == "seg-t1.nii"
    assert path.stat().st_size == 352 + np.prod(SHAPE)
    assert (np.asarray(nib.load(path).dataobj) == labels_of("t1")).all()


def test_nothing_found_is_a_map_of_zeros(tmp_path: Path) -> None:
    path = write_submission(tmp_path, MaskSet.empty(("liver",), GRID), *labeled(DatasetCard.model_validate(TINY)))
    assert not np.asarray(nib.load(path).dataobj).any()
