"""Surfaces: equal to DeepMind's package where that runs, worked by hand where it does not."""

from __future__ import annotations

from math import sqrt

import numpy as np
import pytest
import surface_distance as deepmind
from hypothesis import given, settings
from hypothesis import strategies as st
from surface_distance.lookup_tables import create_table_neighbour_code_to_surface_area

from tests.evaluate.shapes import box, empty, mask_pairs, spacings
from voxicon.errors import BadGeometry, ConfigError, InputError
from voxicon.evaluate.surface import surface_areas_mm2, surface_distances

# The package calls scipy by names scipy has moved.
pytestmark = pytest.mark.filterwarnings("ignore:Please (use|import) `:DeprecationWarning")

TOLERANCES_MM = (0.0, 0.5, 1.0, 2.0, 3.5)
PERCENTILES = (1, 50, 95, 99, 100)


def assert_equal_to_deepmind(truth, predicted, spacing_mm):
    ours = surface_distances(truth, predicted, spacing_mm)
    theirs = deepmind.compute_surface_distances(truth, predicted, spacing_mm)
    for tolerance_mm in TOLERANCES_MM:
        expected = deepmind.compute_surface_dice_at_tolerance(theirs, tolerance_mm)
        assert ours.nsd(tolerance_mm) == pytest.approx(expected, abs=1e-6)
    for percentile in PERCENTILES:
        assert ours.hd(percentile) == pytest.approx(deepmind.compute_robust_hausdorff(theirs, percentile), abs=1e-6)
    means = deepmind.compute_average_surface_distance(theirs)
    assert (ours.truth.mean_mm, ours.predicted.mean_mm) == pytest.approx(means, abs=1e-6)
    assert ours.truth.area_mm2 == pytest.approx(theirs["surfel_areas_gt"].sum(), rel=1e-9)


# --- against the reference


@settings(max_examples=60)
@given(mask_pairs(may_be_empty=False), st.sampled_from([(1, 1, 1), (0.75, 0.75, 5.0), (2.0, 0.5, 1.25)]))
def test_random_masks_equal_deepmind(pair, spacing_mm):
    assert_equal_to_deepmind(*pair, spacing_mm)


@pytest.mark.parametrize("spacing_mm", [(1.0, 1.0, 1.0), (0.8, 0.7, 2.5)])
def test_organ_like_masks_equal_deepmind(spacing_mm):
    # Large enough for surfaces to be a small share of their box, so that they are searched by a tree.
    x, y, z = np.ogrid[:90, :80, :70]
    truth = ((x - 43) / 38) ** 2 + ((y - 39) / 30) ** 2 + ((z - 34) / 25) ** 2 < 1
    shifted = np.roll(truth, (2, 1), (0, 1))
    with_speckle = truth.copy()
    with_speckle[86:90, 76:80, 0:3] = True  # far away: its distances come from the map
    for predicted in (shifted, with_speckle & (z != 40)):
        assert_equal_to_deepmind(truth, predicted, spacing_mm)


@given(spacings)
def test_areas_of_all_256_corners_equal_deepmind(spacing_mm):
    theirs = create_table_neighbour_code_to_surface_area(spacing_mm)
    # There the first corner is the highest bit.
    reversed_codes = [int(f"{code:08b}"[::-1], 2) for code in range(256)]
    np.testing.assert_allclose(surface_areas_mm2(spacing_mm), theirs[reversed_codes], rtol=1e-12)


# --- by hand


def test_areas_of_simple_corners():
    areas = surface_areas_mm2((1.0, 2.0, 3.0))
    assert areas[0] == areas[255] == 0.0
    # Bits 0 to 3 are the four corners with X = 0: a flat face of Y·Z = 2·3.
    assert areas[0b1111] == pytest.approx(6.0)
    # One corner: a triangle of area vector (y·z, x·z, x·y) / 8 = (6, 3, 2) / 8, length 7 / 8.
    assert areas[1] == pytest.approx(7 / 8)
    # The two corners of an edge along Z: a rectangle 3 long, as wide as the line from X = 1/2 to Y = 2/2.
    assert areas[0b11] == pytest.approx(3 * sqrt(0.25 + 1.0))


def test_one_voxel_three_voxels_away():
    # Two single voxels, 3 apart along Z, 2 mm each: each has 8 pieces of equal area, at its 8 corners.
    truth = box((1, 1, 4), ((0, 1), (0, 1), (0, 1)))
    predicted = box((1, 1, 4), ((0, 1), (0, 1), (3, 4)))
    found = surface_distances(truth, predicted, (1.0, 1.0, 2.0))
    # True corners lie at Z = 0 and 1, predicted ones at 3 and 4: half the pieces are 2·2 mm away, half 3·2 mm.
    assert found.truth.distances_mm.tolist() == [4.0] * 4 + [6.0] * 4
    assert found.predicted.distances_mm.tolist() == [4.0] * 4 + [6.0] * 4
    # A piece: area vector (1·2, 1·2, 1·1) / 8, length 3 / 8.
    assert found.truth.area_mm2 == pytest.approx(3.0)
    assert (found.nsd(3.999), found.nsd(4.0), found.nsd(6.0)) == (0.0, 0.5, 1.0)
    assert (found.hd(50), found.hd(51), found.hd(100)) == (4.0, 6.0, 6.0)
    assert found.assd() == pytest.approx(5.0)


def test_mean_is_over_both_surfaces_together():
    # One voxel inside a row of three: true corners coincide with predicted ones (X = 1 and 2), so their mean is 0.
    truth = box((3, 1, 1), ((1, 2), (0, 1), (0, 1)))
    predicted = box((3, 1, 1), ((0, 3), (0, 1), (0, 1)))
    found = surface_distances(truth, predicted, (1.0, 1.0, 1.0))
    single = sqrt(3) / 8  # area at the end corners of either, 8 of them
    edge = sqrt(0.5)  # area at the row's inner corners: a rectangle 1 by √(1/4 + 1/4) at each of 8
    assert found.truth.mean_mm == 0.0
    assert found.predicted.mean_mm == pytest.approx(8 * single / (8 * single + 8 * edge))  # ends are 1 mm off
    assert found.assd() == pytest.approx(8 * single / (8 * single + (8 * single + 8 * edge)))


def test_percentile_takes_the_worse_direction():
    truth = box((30, 3, 3), ((0, 3), (0, 3), (0, 3)))
    predicted = truth | box((30, 3, 3), ((20, 23), (0, 3), (0, 3)))
    found = surface_distances(truth, predicted, (1.0, 1.0, 1.0))
    assert found.truth.percentile_mm(95) == 0.0
    assert found.predicted.percentile_mm(95) == 20.0  # from X = 23 to X = 3
    assert found.hd() == surface_distances(predicted, truth, (1.0, 1.0, 1.0)).hd() == 20.0


def test_noise_is_measured_without_a_tree():
    rng = np.random.default_rng(0)
    truth, predicted = box((9, 9, 9), ((4, 5), (4, 5), (4, 5))), rng.random((9, 9, 9)) < 0.5
    assert_equal_to_deepmind(truth, predicted, (1.0, 1.0, 3.0))


def test_a_mask_cut_by_the_edge_of_the_grid_has_a_surface_there():
    touching = surface_distances(np.ones((2, 2, 2), bool), np.ones((2, 2, 2), bool), (1.0, 1.0, 1.0))
    inside = np.pad(np.ones((2, 2, 2), bool), 3)
    assert touching.truth.area_mm2 == surface_distances(inside, inside, (1.0, 1.0, 1.0)).truth.area_mm2 > 0


# --- empty


def test_both_empty_is_not_scored():
    found = surface_distances(empty(), empty(), (1.0, 1.0, 1.0))
    assert (found.state, found.nsd(1.0), found.hd(), found.assd()) == ("absent", None, None, None)
    assert found.truth.area_mm2 == found.predicted.area_mm2 == 0.0


@pytest.mark.parametrize("state", ["missed", "false_alarm"])
def test_one_empty_is_zero_and_infinitely_far(state):
    full = box((4, 4, 4), ((1, 3), (1, 3), (1, 3)))
    pair = (full, empty()) if state == "missed" else (empty(), full)
    found = surface_distances(*pair, (1.0, 1.0, 1.0))
    assert (found.state, found.nsd(1e9), found.hd(), found.assd()) == (state, 0.0, None, None)
    lone, other = (found.truth, found.predicted) if state == "missed" else (found.predicted, found.truth)
    assert np.isinf(lone.distances_mm).all()
    assert lone.area_mm2 > 0 == other.area_mm2


# --- properties


@given(mask_pairs(), spacings, st.floats(0, 5))
def test_symmetric_and_bounded(pair, spacing_mm, tolerance_mm):
    one = surface_distances(*pair, spacing_mm)
    other = surface_distances(*pair[::-1], spacing_mm)
    nsd = one.nsd(tolerance_mm)
    assert nsd == pytest.approx(other.nsd(tolerance_mm))
    assert nsd is None or 0 <= nsd <= 1
    assert one.hd(100) == other.hd(100)
    assert one.assd() == pytest.approx(other.assd())
    if one.state == "scored":
        assert one.nsd(tolerance_mm + 1) >= nsd
        assert one.nsd(one.hd(100)) == 1.0
        assert one.hd(50) <= one.hd(95) <= one.hd(100)


@given(mask_pairs(may_be_empty=False), spacings)
def test_identity(pair, spacing_mm):
    found = surface_distances(pair[0], pair[0], spacing_mm)
    assert (found.nsd(0.0), found.hd(), found.assd()) == (1.0, 0.0, 0.0)


@given(mask_pairs(), st.permutations(range(3)))
def test_axes_may_be_renamed(pair, order):
    spacing_mm = (0.5, 1.0, 3.0)
    one = surface_distances(*pair, spacing_mm)
    turned = surface_distances(*(mask.transpose(order) for mask in pair), tuple(spacing_mm[axis] for axis in order))
    assert one.truth.area_mm2 == pytest.approx(turned.truth.area_mm2)
    assert one.hd(100) == pytest.approx(turned.hd(100))


# --- refusals


def test_refusals():
    with pytest.raises(BadGeometry, match="one shape"):
        surface_distances(empty(), empty((4, 4, 5)), (1.0, 1.0, 1.0))
    with pytest.raises(InputError, match="expected bool"):
        surface_distances(empty().astype(np.uint8), empty(), (1.0, 1.0, 1.0))
    with pytest.raises(BadGeometry, match="spacing_mm"):
        surface_distances(empty(), empty(), (1.0, 1.0, 0.0))
    found = surface_distances(empty(), empty(), (1.0, 1.0, 1.0))
    for tolerance_mm in (-0.1, float("nan"), float("inf")):
        with pytest.raises(ConfigError, match="tolerance_mm"):
            found.nsd(tolerance_mm)
    for percentile in (0, 101, float("nan")):
        with pytest.raises(ConfigError, match="percentile"):
            found.hd(percentile)
