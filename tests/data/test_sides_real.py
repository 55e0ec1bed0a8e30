"""Paired organs of real scans, merged and split again; skipped, with the reason printed, where data is absent."""

from __future__ import annotations

import numpy as np
import pytest

from tests.phantoms import dice
from voxicon.data.card import load_card
from voxicon.data.sides import body_midline_mm, split_sides
from voxicon.io.nifti import read_labels, read_volume


@pytest.fixture(scope="module", params=["chest_abdomen", "abdomen_pelvis"])
def labeled(request, real_data):
    labels, geometry = read_labels(real_data / request.param / "labels.nii.gz")
    value_of = {name: value for value, name in load_card(request.param).raw.items()}

    def mask(organ, side):
        return np.isin(labels, [v for n, v in value_of.items() if n.startswith(organ) and n.endswith(side)])

    return mask, geometry, body_midline_mm(read_volume(real_data / request.param / "ct.nii.gz"))


@pytest.mark.parametrize("organ", ["kidney", "lung", "adrenal", "femur", "hip"])
def test_merged_organs_of_real_scans_come_apart_again(labeled, organ):
    """The lungs of chest_abdomen touch; its pelvis is out of view, so femur and hip are empty there."""
    mask, geometry, midline_mm = labeled
    right, left = mask(organ, "right"), mask(organ, "left")
    for midline in (midline_mm, None):
        found_right, found_left = split_sides(right | left, geometry, midline)
        assert dice(found_right, right) >= 0.999
        assert dice(found_left, left) >= 0.999


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("organ", ["kidney", "lung"])
def test_a_single_organ_of_a_real_scan_keeps_its_side(labeled, organ, side):
    mask, geometry, midline_mm = labeled
    only = mask(organ, side)
    found = split_sides(only, geometry, midline_mm)
    assert dice(found[0 if side == "right" else 1], only) == 1
