"""The sentences that the project's slides promise, on a real CT with tumors planted into it, against planted truth."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from scipy.spatial.distance import pdist

from tests.commands import run
from voxicon.core.concepts import Vocabulary
from voxicon.data.card import load_card
from voxicon.data.cases import read_case
from voxicon.data.layout import find_dataset
from voxicon.io.masks import write_masks

SENTENCES = (
    "Please segment the tumor in the tail of the pancreas and then measure its size.",
    "Segment pancreatic tumors, if any.",
    "Take a look and mark the suspected tumor regions.",
    "Generate a report.",
)
ORGANS = ("liver", "pancreas", "aorta", "inferior_vena_cava", "portal_vein_and_splenic_vein", "spleen")


@pytest.fixture(scope="module")
def planted(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A plain CT of 3 mm with three tumors in the pancreas and two in the liver; organs are those of its labels."""
    folder = tmp_path_factory.mktemp("planted")
    source = real_data / "abdomen_pelvis"
    run(
        "synthesize", source / "ct.nii.gz", "--lesion", "pancreas_tumor", "--lesion", "liver_tumor",
        "--diameter-mm", 16, "--contrast-hu", -60, "--count", 3, "--seed", 5, "--organs", source / "labels.nii.gz",
        "--card", "abdomen_pelvis", "-o", folder, "-q",
    )  # fmt: skip
    (case,) = find_dataset(load_card("abdomen_pelvis"), real_data).cases
    _, _, targets = read_case(case, ORGANS)
    write_masks(targets.masks, folder / "ct", Vocabulary.default())
    return folder / "ct"


@pytest.fixture(scope="module")
def asked(planted: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("asked")
    run("ask", planted / "ct.nii.gz", *SENTENCES, "--masks", planted, "-o", out, "-q", "--no-preview")
    return out / "ct"


@pytest.fixture(scope="module")
def truth(planted: Path) -> list[dict[str, Any]]:
    lesions: list[dict[str, Any]] = json.loads((planted / "planted.json").read_text())["lesions"]
    return lesions


@pytest.fixture(scope="module")
def findings(asked: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((asked / "findings.json").read_text())
    return found


def mask(path: Path) -> np.ndarray:
    return np.asarray(nib.load(path).dataobj) != 0


def in_box(path: Path, lesion: dict[str, Any]) -> np.ndarray:
    """The voxels of a mask inside a lesion's box; lesions of these scans lie apart."""
    inside = np.zeros(mask(path).shape, dtype=bool)
    inside[tuple(slice(low, high) for low, high in lesion["box_voxel"])] = True
    return mask(path) & inside


def test_the_tumor_in_the_tail_is_the_one_planted_farthest_left(
    asked: Path, planted: Path, truth: list[dict[str, Any]], findings: dict[str, Any]
) -> None:
    tail = min((one for one in truth if one["class"] == "pancreas_tumor"), key=lambda one: one["center_mm"][0])
    segment, measure = findings["requests"][0]["clauses"]
    (target,) = segment["targets"]
    assert measure["targets"] == segment["targets"]
    (path,) = target["masks"]
    assert (mask(asked / path) == in_box(planted / "segmentations" / "pancreas_tumor.nii.gz", tail)).all()
    (found,) = target["found"]
    assert found["box_voxels"] == tail["box_voxel"]
    assert found["volume_ml"] == pytest.approx(tail["volume_ml"], abs=5e-4)


def test_every_number_is_within_one_voxel_of_what_was_planted(
    planted: Path, truth: list[dict[str, Any]], findings: dict[str, Any]
) -> None:
    voxel_mm = 3.0
    assert len(findings["lesions"]) == len(truth) == 6
    by_box = {(one["name"], str(one["box_voxels"])): one for one in findings["lesions"]}
    for one in truth:
        found = by_box[one["class"], str(one["box_voxel"])]
        assert found["volume_ml"] == pytest.approx(one["volume_ml"], abs=5e-4)
        assert np.abs(np.subtract(found["center_mm"], one["center_mm"])).max() < voxel_mm
        assert found["organ"] == one["host"]
        # Against the distances between all voxel centers of the widest slice, measured here by brute force.
        points = np.argwhere(in_box(planted / "segmentations" / f"{one['class']}.nii.gz", one)) * voxel_mm
        axial = max(float(max(pdist(points[points[:, 2] == z]), default=0)) for z in np.unique(points[:, 2]))
        assert axial <= found["axial"]["longest_mm"] <= axial + voxel_mm
        assert abs(found["axial"]["longest_mm"] - one["equivalent_diameter_mm"]) <= 2 * voxel_mm
        assert found["attenuation"] == "hypo"
    assert {one["third"] for one in findings["lesions"] if one["name"] == "pancreas_tumor"} == {"head", "tail"}


def test_all_suspected_regions_get_boxes(truth: list[dict[str, Any]], findings: dict[str, Any]) -> None:
    (mark,) = findings["requests"][2]["clauses"]
    boxes = [str(one["box_voxels"]) for target in mark["targets"] for one in target["found"]]
    assert sorted(boxes) == sorted(str(one["box_voxel"]) for one in truth)


def test_the_report_is_written_and_says_so(asked: Path, findings: dict[str, Any]) -> None:
    page = (asked / "report.html").read_text()
    assert all(sentence in page for sentence in SENTENCES)
    assert findings["impression"][0] in page
    assert [one["name"] for one in findings["detection"]] == ["pancreas_tumor", "liver_tumor"]
    assert all(one["detected"] and one["by"] == "masks" and one["lesions"] == 3 for one in findings["detection"])
