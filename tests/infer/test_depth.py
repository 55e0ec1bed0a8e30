"""A finding counts whole if a part of it lies deep in its organ, wherever probabilities are cut."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from voxicon.infer.depth import deep_in, levels_reaching, reaching

SHAPE = (5, 4, 6)
FEW = st.sampled_from([0, 1, 90, 128, 200, 255])


def test_depth_is_counted_from_the_nearest_voxel_outside_in_mm() -> None:
    organ = np.zeros((11, 11, 11), dtype=bool)
    organ[2:9, 2:9, 2:9] = True
    # The outermost voxels lie one voxel from the outside: 1, 2 and 3 mm.
    deep = deep_in(organ, 3.0, (1.0, 2.0, 3.0))
    expected = np.zeros_like(organ)
    expected[5, 3:8, 3:8] = True  # 4 mm along x, 4 or more along y, 6 or more along z
    assert (deep == expected).all()
    assert (deep_in(organ, 0.0, (1.0, 2.0, 3.0)) == organ).all()
    assert not deep_in(organ, 20.0, (1.0, 2.0, 3.0)).any()


def test_where_a_scan_cuts_an_organ_off_it_has_no_surface() -> None:
    organ = np.zeros((10, 5, 5), dtype=bool)
    organ[4:] = True
    assert (deep_in(organ, 2.0, (1.0, 1.0, 1.0)) == (np.arange(10) >= 6)[:, None, None]).all()
    everything = np.ones((3, 3, 3), dtype=bool)
    assert deep_in(everything, 20.0, (1.0, 1.0, 1.0)).all()
    assert not deep_in(~everything, 0.0, (1.0, 1.0, 1.0)).any()


def test_a_piece_that_reaches_deep_is_kept_whole_and_one_that_does_not_is_dropped() -> None:
    found = np.zeros((8, 8, 8), dtype=bool)
    found[0:4, 1, 1], found[4, 2, 2], found[7, 5:8, 7] = True, True, True  # the first two touch at a corner
    deep = np.zeros_like(found)
    deep[4:6] = True
    kept = reaching(found, deep)
    assert kept[0:4, 1, 1].all()
    assert int(kept.sum()) == 5
    assert not reaching(found, np.zeros_like(deep)).any()
    assert not reaching(np.zeros_like(found), deep).any()


def test_levels_come_down_to_what_leads_to_the_depth() -> None:
    levels = np.array([200, 90, 150, 255, 0, 255], dtype=np.uint8)[:, None, None]
    deep = np.array([0, 0, 1, 0, 0, 0], dtype=bool)[:, None, None]
    assert levels_reaching(levels, deep)[:, 0, 0].tolist() == [90, 90, 150, 150, 0, 0]


@settings(max_examples=60, deadline=None)
@given(arrays(np.uint8, SHAPE, elements=FEW), arrays(np.bool_, SHAPE), st.sampled_from([0, 1, 89, 127, 199, 254]))
def test_wherever_levels_are_cut_the_pieces_are_those_that_reach(
    levels: NDArray[np.uint8], deep: NDArray[np.bool_], cut: int
) -> None:
    lowered = levels_reaching(levels, deep)
    assert ((lowered > cut) == reaching(levels > cut, deep)).all()
    assert (lowered <= levels).all()


@pytest.mark.parametrize("everywhere", [True, False])
def test_where_all_is_deep_or_nothing_levels_stay_or_go(everywhere: bool) -> None:
    levels = np.random.default_rng(0).integers(0, 256, SHAPE).astype(np.uint8)
    lowered = levels_reaching(levels, np.full(SHAPE, everywhere))
    assert (lowered == (levels if everywhere else 0)).all()
