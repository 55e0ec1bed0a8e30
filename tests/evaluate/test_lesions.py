"""Lesions: sizes worked by hand, who hits whom, scores, every empty case."""

from __future__ import annotations

from itertools import pairwise
from math import inf, pi, sqrt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from tests.evaluate.shapes import box, empty, mask_pairs, spacings
from voxicon.errors import BadGeometry, ConfigError, InputError
from voxicon.evaluate.lesions import (
    SIZE_STRATA_MM,
    LesionMatch,
    longest_extent_mm,
    match_lesions,
    stratum_of,
)

UNIT = (1.0, 1.0, 1.0)
ROW = (20, 2, 2)


def row(*ranges: tuple[int, int]) -> np.ndarray:
    """Bars along X, 4 voxels per step."""
    return box(ROW, *((each, (0, 2), (0, 2)) for each in ranges))


def along_x(*values: tuple[tuple[int, int], float]) -> np.ndarray:
    probability = np.zeros(ROW, dtype=np.float32)
    for (start, stop), value in values:
        probability[start:stop] = value
    return probability


# --- sizes


def test_size_of_a_bar_on_a_stretched_grid():
    lesion = match_lesions(row((2, 5)), row(), (2.0, 1.0, 5.0)).true_lesions[0]
    assert lesion.volume_ml == pytest.approx(0.12)  # 12 voxels of 10 mm³
    assert lesion.diameter_mm == pytest.approx((6 * 120 / pi) ** (1 / 3))  # 6.12 mm
    assert lesion.stratum == "5-10 mm"
    assert lesion.extent_mm == pytest.approx(sqrt(6**2 + 2**2 + 10**2))  # corner to corner of 3·2, 2·1, 2·5 mm


def test_extent_of_one_voxel_is_its_diagonal():
    assert longest_extent_mm(np.ones((1, 1, 1), bool), (1.0, 2.0, 2.0)) == 3.0


def test_extent_ends_in_the_middle_of_a_column():
    # An L: the longest line runs from the foot's tip to the top, whatever lies between along Z.
    shape = box((4, 1, 4), ((0, 1), (0, 1), (0, 4)), ((0, 4), (0, 1), (1, 2)))
    # From corner (4, 0, 1) to (0, 1, 4): √(16 + 1 + 9) = √26; the bar alone has √(1 + 1 + 16).
    assert longest_extent_mm(shape, UNIT) == pytest.approx(sqrt(26))


@given(mask_pairs(may_be_empty=False), spacings)
def test_extent_equals_that_of_all_corners(pair, spacing_mm):
    mask = pair[0]
    corners = np.argwhere(ndimage.convolve(np.pad(mask, 1).astype(int), np.ones((2, 2, 2)))) * spacing_mm
    gaps = np.linalg.norm(corners[:, None] - corners[None], axis=-1)
    assert longest_extent_mm(mask, spacing_mm) == pytest.approx(gaps.max())


def test_strata_begin_at_their_lower_bound_and_leave_no_gap():
    assert [stratum_of(d) for d in (0.0, 4.999, 5.0, 9.999, 10.0, 19.999, 20.0, 500.0)] == [
        *["0-5 mm"] * 2,
        *["5-10 mm"] * 2,
        *["10-20 mm"] * 2,
        *["20+ mm"] * 2,
    ]
    bounds = list(SIZE_STRATA_MM.values())
    assert bounds[0][0] == 0.0
    assert bounds[-1][1] == inf
    assert all(here[1] == following[0] for here, following in pairwise(bounds))


# --- who hits whom


def test_a_hit_a_miss_and_a_false_positive():
    # Truth 0-3 and 8-10; predictions 2-5 (one step shared, 4 voxels) and 15-17.
    found = match_lesions(row((0, 3), (8, 10)), row((2, 5), (15, 17)), UNIT)
    hit, missed = found.true_lesions
    assert (hit.number, hit.hit, hit.covered, hit.matches, hit.score) == (1, True, pytest.approx(1 / 3), (1,), None)
    assert hit.dice == pytest.approx(2 * 4 / (12 + 12))
    assert (missed.number, missed.hit, missed.covered, missed.dice, missed.matches) == (2, False, 0.0, 0.0, ())
    true_positive, false_positive = found.predicted_lesions
    assert (true_positive.hits, true_positive.false_positive, true_positive.volume_ml) == ((1,), False, 0.012)
    assert (false_positive.hits, false_positive.false_positive, false_positive.volume_ml) == ((), True, 0.008)
    assert false_positive.diameter_mm == pytest.approx((6 * 8 / pi) ** (1 / 3))


def test_one_prediction_over_two_lesions_hits_both():
    found = match_lesions(row((0, 3), (5, 7)), row((0, 7)), UNIT)
    assert [lesion.hit for lesion in found.true_lesions] == [True, True]
    assert found.predicted_lesions[0].hits == (1, 2)
    # It pays in Dice: 2·12 / (12 + 28) and 2·8 / (8 + 28).
    assert [lesion.dice for lesion in found.true_lesions] == pytest.approx([0.6, 16 / 36])


def test_two_predictions_in_one_lesion_are_both_right():
    found = match_lesions(row((0, 10)), row((0, 3), (7, 12)), UNIT)
    lesion = found.true_lesions[0]
    assert lesion.matches == (1, 2)
    assert lesion.covered == 0.6
    assert lesion.dice == pytest.approx(2 * 24 / (40 + 32))
    assert not any(finding.false_positive for finding in found.predicted_lesions)


def test_voxels_that_share_a_corner_are_one_lesion():
    diagonal = box((4, 4, 4), ((0, 1), (0, 1), (0, 1)), ((1, 2), (1, 2), (1, 2)))
    assert len(match_lesions(diagonal, empty(), UNIT).true_lesions) == 1


def test_enough_must_be_covered_by_all_predictions_together():
    truth, predicted = row((0, 10)), row((0, 3), (7, 10))  # 30 % each
    assert match_lesions(truth, predicted, UNIT, min_fraction=0.6).true_lesions[0].hit
    found = match_lesions(truth, predicted, UNIT, min_fraction=0.61)
    assert not found.true_lesions[0].hit
    assert found.true_lesions[0].matches == (1, 2)
    assert all(finding.false_positive and finding.hits == () for finding in found.predicted_lesions)


# --- scores


def test_a_finding_is_scored_by_its_highest_voxel():
    probability = along_x(((2, 5), 0.5), ((3, 4), 0.75), ((15, 17), 0.25), ((9, 10), 1.0))
    found = match_lesions(row((0, 3)), row((2, 5), (15, 17)), UNIT, probability)
    assert [finding.score for finding in found.predicted_lesions] == [0.75, 0.25]
    assert found.true_lesions[0].score == 0.75
    outside = along_x(((18, 20), float("nan")), ((2, 5), 0.5))
    assert match_lesions(row((18, 20)), row((2, 5)), UNIT, outside).predicted_lesions[0].score == 0.5


def test_a_lesion_has_the_score_at_which_enough_is_covered():
    truth, predicted = row((0, 10)), row((0, 2), (3, 6), (7, 10))  # 20, 30 and 30 %
    probability = along_x(((0, 2), 0.75), ((3, 6), 0.25), ((7, 10), 0.5))
    for min_fraction, score in ((0.0, 0.75), (0.2, 0.75), (0.21, 0.5), (0.5, 0.5), (0.51, 0.25), (0.8, 0.25)):
        lesion = match_lesions(truth, predicted, UNIT, probability, min_fraction).true_lesions[0]
        assert lesion.score == score
    missed = match_lesions(truth, predicted, UNIT, probability, 0.9).true_lesions[0]
    assert (missed.hit, missed.score) == (False, None)


# --- empty


def test_empty_cases():
    full = row((0, 2))
    assert match_lesions(row(), row(), UNIT) == LesionMatch((), ())
    assert match_lesions(row(), row(), UNIT, along_x()) == LesionMatch((), ())
    missed = match_lesions(full, row(), UNIT, along_x())
    assert (len(missed.true_lesions), missed.true_lesions[0].hit, missed.predicted_lesions) == (1, False, ())
    alarm = match_lesions(row(), full, UNIT, along_x(((0, 2), 0.5)))
    assert (alarm.true_lesions, alarm.predicted_lesions[0].false_positive) == ((), True)
    assert alarm.predicted_lesions[0].score == 0.5


# --- properties


@given(mask_pairs(), st.sampled_from([0.0, 0.3, 1.0]))
def test_both_sides_tell_the_same(pair, min_fraction):
    truth, predicted = pair
    found = match_lesions(truth, predicted, (1.0, 2.0, 0.5), min_fraction=min_fraction)
    assert sum(lesion.volume_ml for lesion in found.true_lesions) == pytest.approx(truth.sum() / 1000)
    assert sum(finding.volume_ml for finding in found.predicted_lesions) == pytest.approx(predicted.sum() / 1000)
    by_truth = {(lesion.number, p) for lesion in found.true_lesions if lesion.hit for p in lesion.matches}
    assert by_truth == {(t, finding.number) for finding in found.predicted_lesions for t in finding.hits}
    assert all(finding.false_positive == (not finding.hits) for finding in found.predicted_lesions)
    for lesion in found.true_lesions:
        assert 0 <= lesion.dice <= 1
        assert lesion.hit == (lesion.covered > 0 and lesion.covered >= min_fraction)
        assert lesion.diameter_mm <= lesion.extent_mm + 1e-9  # of all bodies so long the ball is the largest


@given(mask_pairs(may_be_empty=False))
def test_identity_finds_everything(pair):
    found = match_lesions(pair[0], pair[0], UNIT, min_fraction=1.0)
    assert all(lesion.hit and lesion.dice == lesion.covered == 1.0 for lesion in found.true_lesions)
    assert not any(finding.false_positive for finding in found.predicted_lesions)


# --- refusals


def test_refusals():
    with pytest.raises(BadGeometry, match="one shape"):
        match_lesions(empty(), empty((4, 4, 5)), UNIT)
    with pytest.raises(InputError, match="expected bool"):
        match_lesions(empty(), empty().astype(int), UNIT)
    with pytest.raises(BadGeometry, match="spacing_mm"):
        match_lesions(empty(), empty(), (1.0, 1.0, -1.0))
    with pytest.raises(BadGeometry, match="probability of shape"):
        match_lesions(empty(), empty(), UNIT, np.zeros((4, 4, 5)))
    with pytest.raises(InputError, match="not a number"):
        match_lesions(row(), row((0, 2)), UNIT, along_x(((1, 2), float("nan"))))
    for min_fraction in (-0.1, 1.1, float("nan")):
        with pytest.raises(ConfigError, match="min_fraction"):
            match_lesions(empty(), empty(), UNIT, min_fraction=min_fraction)
