"""Random fields: unit variance everywhere, and as rough as asked."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from voxicon.synthesis.texture import bump, sheets, smooth_noise, tubes

ISOTROPIC = (2.0, 2.0, 2.0)


def neighbor_correlation(field: np.ndarray, axis: int, steps: int = 1) -> float:
    low = np.take(field, range(field.shape[axis] - steps), axis=axis)
    high = np.take(field, range(steps, field.shape[axis]), axis=axis)
    return float(np.corrcoef(low.ravel(), high.ravel())[0, 1])


@settings(deadline=None, max_examples=40)
@given(
    shape=st.tuples(*[st.integers(1, 20)] * 3).filter(lambda s: np.prod(s) > 1),
    correlation_mm=st.floats(0, 60),
    spacing_mm=st.tuples(*[st.floats(0.5, 5)] * 3),
    seed=st.integers(0, 1000),
)
def test_any_box_has_zero_mean_and_unit_deviation(shape, correlation_mm, spacing_mm, seed):
    field = smooth_noise(np.random.default_rng(seed), shape, correlation_mm, spacing_mm)
    assert field.shape == shape
    assert field.dtype == np.float32
    assert abs(field.mean()) < 1e-4
    assert field.std() == pytest.approx(1, abs=1e-3)


def test_same_state_same_field():
    first, second, other = (smooth_noise(np.random.default_rng(s), (9, 8, 7), 6, ISOTROPIC) for s in (1, 1, 2))
    assert (first == second).all()
    assert (first != other).any()


def test_roughness_falls_with_the_correlation_length():
    rng = np.random.default_rng(0)
    found = [neighbor_correlation(smooth_noise(rng, (40, 40, 40), mm, ISOTROPIC), 0) for mm in (1, 3, 6, 12, 40)]
    assert found == sorted(found)
    assert abs(found[0]) < 0.02
    assert found[-1] > 0.97


def test_autocorrelation_is_one_over_e_at_the_correlation_length():
    field = smooth_noise(np.random.default_rng(0), (80, 80, 80), 8, ISOTROPIC)
    for axis in range(3):
        # 8 mm are 4 voxels.
        assert neighbor_correlation(field, axis, 4) == pytest.approx(np.exp(-1), abs=0.06)


def test_anisotropic_voxels_see_the_same_millimeters():
    field = smooth_noise(np.random.default_rng(0), (60, 60, 60), 8, (1, 2, 4))
    for axis, steps in enumerate((8, 4, 2)):
        assert neighbor_correlation(field, axis, steps) == pytest.approx(np.exp(-1), abs=0.08)


def test_an_axis_with_coarse_voxels_is_white_and_the_others_are_not():
    field = smooth_noise(np.random.default_rng(0), (40, 40, 40), 4, (1, 1, 5))
    assert neighbor_correlation(field, 0) > 0.8
    assert abs(neighbor_correlation(field, 2)) < 0.03


def test_a_single_voxel_and_an_empty_box_are_zero():
    rng = np.random.default_rng(0)
    assert smooth_noise(rng, (1, 1, 1), 5, ISOTROPIC).tolist() == [[[0.0]]]
    assert smooth_noise(rng, (0, 4, 4), 5, ISOTROPIC).shape == (0, 4, 4)


def test_tubes_fill_as_much_as_their_length_says():
    # A mesh of 10 mm: 2 / (3.14 · 100) = 0.0064 mm per mm³. A tube of value exp(-r² / 2s²) with s = 0.6 · 1 mm
    # fills 2π s² = 2.26 mm² per mm, so the mean is 0.0064 · 2.26 = 0.0144.
    found = [tubes(np.random.default_rng(s), (60, 60, 60), 10, 1.0, (1, 1, 1)).mean() for s in range(6)]
    assert np.mean(found) == pytest.approx(0.0144, rel=0.1)


def test_wider_vessels_fill_more_and_reach_one_on_their_axis():
    thin, wide = (tubes(np.random.default_rng(0), (40, 40, 40), 12, r, (1, 1, 1)) for r in (1.0, 2.0))
    assert wide.mean() > 3 * thin.mean()
    assert 0.95 < wide.max() <= 1


def test_radius_may_differ_from_voxel_to_voxel():
    radius = np.full((40, 40, 40), 0.3, dtype=np.float32)
    radius[:20] = 2.0
    found = sheets(np.random.default_rng(0), radius.shape, 12, radius, (1, 1, 1))
    assert found[:20].mean() > 3 * found[20:].mean()


def test_sheets_fill_more_than_tubes():
    sheet, tube = (f(np.random.default_rng(0), (30, 30, 30), 12, 1.0, (1, 1, 1)).mean() for f in (sheets, tubes))
    assert sheet > 3 * tube


def test_a_bump_has_a_quarter_left_at_its_radius():
    # Distance r is 2r/mesh in the field: 2 mm at a mesh of 10 mm squares to 0.16; exp(-1 / (2 · 0.36)) = 0.249.
    assert bump(np.array([0.0, 0.16], dtype=np.float32), 2.0, 10.0).tolist() == pytest.approx([1, 0.249], abs=1e-3)
