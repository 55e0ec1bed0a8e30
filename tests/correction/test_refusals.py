"""Folders that are no sound results and reports that are none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from tests.correction.phantom import AFFINE, SHAPE, files_in
from voxicon.correction import correct
from voxicon.errors import InputError, UnreadableFile, VoxiconError
from voxicon.io.atomic import file_sha256


def _break(name: str, content: bytes | None):
    def one(folder: Path) -> None:
        (folder / name).unlink() if content is None else (folder / name).write_bytes(content)

    return one


def _edit(**changes: Any):
    def one(folder: Path) -> None:
        case = json.loads((folder / "case.json").read_text())
        (folder / "case.json").write_text(json.dumps({**case, **changes}))

    return one


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_break("case.json", None), "holds no complete result"),
        (_break("case.json", b"[]"), "holds no complete result"),
        (_edit(files={}), "holds no complete result"),
        (_edit(files=["a"]), "holds no complete result"),
        (_edit(volumes_ml=None), "holds no complete result"),
        (_edit(files={"../report.txt": ""}), "outside of its folder"),
        (_edit(volumes_ml={"liver": 1, "lung_tumor": 1}), "lists no mask of lung_tumor"),
        (_edit(volumes_ml={}), "has no class"),
        (_break("segmentations/liver.nii.gz", None), "is missing from the result"),
        (_break("segmentations/liver.nii.gz", b"x"), "hashes differ"),
        (_break("preview.png", b"x"), "hashes differ"),
    ],
)
def test_what_is_no_sound_result_is_refused(folder: Path, run, damage, message: str) -> None:
    damage(folder)
    with pytest.raises(InputError, match=message) as refused:
        run("Normal liver.", remove=True)
    assert "\n" not in str(refused.value)
    assert not (folder / "corrections.json").exists()


def _relist(folder: Path, name: str) -> None:
    case = json.loads((folder / "case.json").read_text())
    case["files"][name] = file_sha256(folder / name)
    (folder / "case.json").write_text(json.dumps(case))


def test_masks_on_different_grids_are_refused(folder: Path, run) -> None:
    name = "segmentations/pancreas.nii.gz"
    moved = AFFINE.copy()
    moved[0, 3] += 50
    nib.save(nib.Nifti1Image(np.zeros(SHAPE, dtype=np.uint8), moved), folder / name)
    _relist(folder, name)
    with pytest.raises(VoxiconError, match="on another grid"):
        run("Normal liver.")


def test_a_class_that_nothing_describes_is_refused(folder: Path, run) -> None:
    case = json.loads((folder / "case.json").read_text())
    (folder / "segmentations" / "thing.nii.gz").write_bytes((folder / "segmentations" / "liver.nii.gz").read_bytes())
    case["volumes_ml"]["thing"] = 1.0
    (folder / "case.json").write_text(json.dumps(case))
    _relist(folder, "segmentations/thing.nii.gz")
    with pytest.raises(VoxiconError, match="thing"):
        run("Normal liver.")


def test_removed_voxels_on_another_grid_are_refused(folder: Path, run) -> None:
    run("Normal left kidney.", remove=True)
    moved = AFFINE.copy()
    moved[0, 3] += 50
    nib.save(nib.Nifti1Image(np.zeros(SHAPE, dtype=np.uint8), moved), folder / "removed" / "kidney_tumor.nii.gz")
    before = files_in(folder)
    with pytest.raises(UnreadableFile, match="another grid"):
        run("Normal right kidney.", remove=True)
    assert files_in(folder) == before


def test_reports_that_are_none_are_refused(folder: Path) -> None:
    with pytest.raises(UnreadableFile, match="cannot be read"):
        correct(folder, folder.parent / "none.txt")
    (folder.parent / "report.txt").write_bytes(b"\xff\xfe\0")
    with pytest.raises(UnreadableFile, match="UTF-8"):
        correct(folder, folder.parent / "report.txt")
    assert not (folder / "corrections.json").exists()
