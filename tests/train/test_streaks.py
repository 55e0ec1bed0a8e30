"""Streaks: bands of tens of HU across a voxel, thin along the body, the same for the same chance."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from voxicon.train.streaks import streaked

EVEN = np.full((40, 40, 40), 100, dtype=np.float32)
AT = (20.0, 20.0, 20.0)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000))
def test_bands_are_bounded_and_thin_along_the_body(seed: int) -> None:
    found = streaked(EVEN, AT, 3.0, np.random.default_rng(seed))
    change = np.abs(found - EVEN)
    assert found.dtype == np.float32
    assert 0 < change.max() <= 4 * 60
    # A slab of at most 15 mm standard deviation: nothing 19 voxels away.
    assert change[:, :, :1].max() < 0.01 * change.max()
    assert change[:, :, 20].max() == change.max()


def test_bands_are_dark_and_bright() -> None:
    changes = [streaked(EVEN, AT, 3.0, np.random.default_rng(seed)) - EVEN for seed in range(20)]
    assert min(change.min() for change in changes) < -30
    assert max(change.max() for change in changes) > 30


def test_the_same_chance_gives_the_same_bands_and_the_scan_stays() -> None:
    before = EVEN.copy()
    first, second = (streaked(EVEN, AT, 3.0, np.random.default_rng(5)) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(EVEN, before)
