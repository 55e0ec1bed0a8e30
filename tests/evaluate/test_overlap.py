"""Overlap: worked boxes, every empty case, properties."""

from __future__ import annotations

import pytest
from hypothesis import given

from tests.evaluate.shapes import box, empty, mask_pairs
from voxicon.errors import BadGeometry, InputError
from voxicon.evaluate.overlap import Overlap, overlap


def test_two_boxes_worked_by_hand():
    truth = box((8, 4, 4), ((0, 4), (0, 2), (0, 2)))  # 4·2·2 = 16 voxels
    predicted = box((8, 4, 4), ((2, 5), (0, 2), (0, 4)))  # 3·2·4 = 24; shared 2·2·2 = 8
    found = overlap(truth, predicted, voxel_ml=0.5)
    assert found == Overlap(
        state="scored",
        dice=0.4,  # 2·8 / (16 + 24)
        sensitivity=0.5,  # 8 / 16
        precision=8 / 24,
        truth_ml=8.0,  # 16 · 0.5
        predicted_ml=12.0,
        volume_error_ml=4.0,
        volume_error_percent=50.0,  # 100 · (24 - 16) / 16
    )


def test_too_little_is_negative():
    full, half = box((2, 1, 1), ((0, 2), (0, 1), (0, 1))), box((2, 1, 1), ((0, 1), (0, 1), (0, 1)))
    found = overlap(full, half, 1.0)
    assert (found.volume_error_ml, found.volume_error_percent) == (-1.0, -50.0)


def test_both_empty_is_right_and_not_scored():
    assert overlap(empty(), empty(), 1.0) == Overlap("absent", None, None, None, 0.0, 0.0, 0.0, None)


def test_missed():
    truth = box((4, 4, 4), ((0, 2), (0, 1), (0, 1)))
    assert overlap(truth, empty(), 1.0) == Overlap("missed", 0.0, 0.0, None, 2.0, 0.0, -2.0, -100.0)


def test_false_alarm():
    predicted = box((4, 4, 4), ((0, 2), (0, 1), (0, 1)))
    assert overlap(empty(), predicted, 1.0) == Overlap("false_alarm", 0.0, None, 0.0, 0.0, 2.0, 2.0, None)


def test_both_there_and_apart_is_scored_as_zero():
    apart = overlap(box((4, 1, 1), ((0, 1), (0, 1), (0, 1))), box((4, 1, 1), ((3, 4), (0, 1), (0, 1))), 1.0)
    assert (apart.state, apart.dice, apart.sensitivity, apart.precision) == ("scored", 0.0, 0.0, 0.0)


def test_refusals():
    with pytest.raises(BadGeometry, match="one shape"):
        overlap(empty(), empty((4, 4, 5)), 1.0)
    with pytest.raises(InputError, match="expected bool"):
        overlap(empty(), empty().astype(int), 1.0)
    for voxel_ml in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(BadGeometry, match="voxel_ml"):
            overlap(empty(), empty(), voxel_ml)


@given(mask_pairs())
def test_symmetric_and_bounded(pair):
    one, other = overlap(*pair, 0.1), overlap(*pair[::-1], 0.1)
    assert one.dice == other.dice
    assert one.sensitivity == other.precision
    assert one.volume_error_ml == -other.volume_error_ml
    assert (one.dice is None) == (one.state == "absent")
    for ratio in (one.dice, one.sensitivity, one.precision):
        assert ratio is None or 0 <= ratio <= 1


@given(mask_pairs(may_be_empty=False))
def test_identity_is_one(pair):
    found = overlap(pair[0], pair[0], 0.1)
    assert (found.dice, found.sensitivity, found.precision, found.volume_error_percent) == (1.0, 1.0, 1.0, 0.0)
