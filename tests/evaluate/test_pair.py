"""Pairs of masks: their states, their box, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given

from tests.evaluate.shapes import box, empty, mask_pairs
from voxicon.errors import BadGeometry, InputError
from voxicon.evaluate.pair import check_pair, check_spacing, joint_box, state_of


def test_four_states():
    assert [state_of(*voxels) for voxels in ((3, 1), (0, 0), (1, 0), (0, 1))] == [
        "scored",
        "absent",
        "missed",
        "false_alarm",
    ]


def test_masks_of_two_grids_are_refused():
    with pytest.raises(BadGeometry, match=r"\(4, 4, 4\).*\(4, 4, 5\).*resample"):
        check_pair(empty(), empty((4, 4, 5)))
    with pytest.raises(BadGeometry, match="one shape"):
        check_pair(np.zeros((4, 4), bool), np.zeros((4, 4), bool))


def test_label_maps_are_refused():
    with pytest.raises(InputError, match="predicted mask has type uint8"):
        check_pair(empty(), empty().astype(np.uint8))
    with pytest.raises(InputError, match="true mask has type float64"):
        check_pair(empty().astype(float), empty())


@pytest.mark.parametrize("spacing_mm", [(1, 1), (1, 1, 0), (1, -1, 1), (1, 1, np.nan), (1, np.inf, 1)])
def test_sizes_that_are_none_are_refused(spacing_mm):
    with pytest.raises(BadGeometry, match="spacing_mm"):
        check_spacing(spacing_mm)


def test_joint_box_of_two_corners_and_of_nothing():
    truth, predicted = box((9, 9, 9), ((1, 2), (3, 5), (4, 5))), box((9, 9, 9), ((6, 7), (2, 3), (4, 8)))
    assert joint_box(truth, predicted) == (slice(1, 7), slice(2, 5), slice(4, 8))
    assert joint_box(empty(), empty()) is None


@given(mask_pairs())
def test_joint_box_holds_everything_and_touches_it_on_all_sides(pair):
    found = joint_box(*pair)
    union = pair[0] | pair[1]
    if found is None:
        assert not union.any()
        return
    inside = union[found]
    assert inside.sum() == union.sum()
    for axis in range(3):
        assert inside.take(0, axis).any()
        assert inside.take(-1, axis).any()
