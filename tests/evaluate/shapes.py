"""Masks to measure: boxes whose numbers are known, and random ones."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

Range = tuple[int, int]


def box(shape: tuple[int, int, int], *ranges: tuple[Range, Range, Range]) -> np.ndarray:
    """A mask of some boxes, each given by [start, stop) along X, Y, Z."""
    mask = np.zeros(shape, dtype=bool)
    for x, y, z in ranges:
        mask[slice(*x), slice(*y), slice(*z)] = True
    return mask


def empty(shape: tuple[int, int, int] = (4, 4, 4)) -> np.ndarray:
    return np.zeros(shape, dtype=bool)


@st.composite
def mask_pairs(draw, may_be_empty: bool = True) -> tuple[np.ndarray, np.ndarray]:
    """Two random masks of one small shape, from a few voxels to nearly full."""
    shape = draw(st.tuples(*[st.integers(1, 7)] * 3))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    masks = []
    for _ in range(2):
        mask = rng.random(shape) < draw(st.sampled_from([0.0, 0.1, 0.5, 0.9] if may_be_empty else [0.1, 0.5, 0.9]))
        if not may_be_empty:
            mask[tuple(rng.integers(shape))] = True
        masks.append(mask)
    return masks[0], masks[1]


spacings = st.tuples(*[st.floats(0.3, 5.0)] * 3)
