"""Liver tumors with the weights that ship: found where they were planted, and none where none was."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from tests.commands import run

SCANS = ("chest_abdomen", "abdomen_pelvis")


def asked(scan: Path, out: Path) -> tuple[dict[str, Any], np.ndarray]:
    """What is told of liver tumors, and their mask."""
    run("ask", scan, "Segment liver tumors, if any.", "-o", out, "-q", "--no-preview")
    (folder,) = out.iterdir()
    mask = nib.load(folder / "segmentations" / "liver_tumor.nii.gz")
    return json.loads((folder / "findings.json").read_text()), np.asarray(mask.dataobj) != 0


@pytest.mark.parametrize("name", SCANS)
def test_planted_liver_tumors_are_found(real_data: Path, tmp_path: Path, name: str) -> None:
    source = real_data / name
    run(
        "synthesize", source / "ct.nii.gz", "--lesion", "liver_tumor", "--diameter-mm", 20, "--contrast-hu", -60,
        "--count", 2, "--seed", 3, "--organs", source / "labels.nii.gz", "--card", name, "-o", tmp_path, "-q",
    )  # fmt: skip
    planted = tmp_path / "ct"
    findings, found = asked(planted / "ct.nii.gz", tmp_path / "found")
    truth = np.asarray(nib.load(planted / "segmentations" / "liver_tumor.nii.gz").dataobj) != 0
    assert 2 * (found & truth).sum() > 0.6 * (found.sum() + truth.sum())
    assert [lesion["organ"] for lesion in findings["lesions"]] == ["liver", "liver"]


@pytest.mark.parametrize("name", SCANS)
def test_no_tumor_is_found_in_a_liver_that_has_none(real_data: Path, tmp_path: Path, name: str) -> None:
    findings, found = asked(real_data / name / "ct.nii.gz", tmp_path / "found")
    assert not found.any()
    assert findings["lesions"] == []
