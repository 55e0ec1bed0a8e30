"""Windows that cover a volume, and the weights with which their overlapping answers are blended.

Places and weights follow MONAI's ``sliding_window_inference`` (mode ``gaussian``), so that the same
network gives the same answer there and here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from voxicon.core.components import Box

SIGMA_SCALE = 0.125
"""Standard deviation of the blend weights as a share of the window. Source: MONAI's default."""

LEAST_WEIGHT = 1e-3
"""Weights never fall below this, so that every voxel has an answer. Source: MONAI's importance map."""

Size = tuple[int, int, int]

Pads = tuple[tuple[int, int], tuple[int, int], tuple[int, int]]
"""Voxels added before and after each axis."""


@dataclass(frozen=True)
class Window:
    """A box of voxels: where it starts and how large it is."""

    start: Size
    size: Size

    def to_slices(self) -> tuple[slice, slice, slice]:
        """For indexing a (X, Y, Z) array."""
        x, y, z = (slice(a, a + n) for a, n in zip(self.start, self.size, strict=True))
        return x, y, z


@dataclass(frozen=True)
class Tiling:
    """All windows of a volume, grouped into rows along one axis.

    Attributes:
        shape: Voxels of the (padded) volume.
        window: Voxels of a window.
        axis: The axis along which rows follow each other: the one with the most rows, so that a row
            holds few windows.
        rows: Windows with the same start along `axis`, in order of that start.
    """

    shape: Size
    window: Size
    axis: int
    rows: tuple[tuple[Window, ...], ...]

    @property
    def n_windows(self) -> int:
        """Windows in all rows."""
        return sum(len(row) for row in self.rows)

    def finished(self, row: int) -> tuple[int, int]:
        """The stretch along `axis` that no later row touches, once this row is done."""
        start = self.rows[row][0].start[self.axis]
        last = row + 1 == len(self.rows)
        return start, self.shape[self.axis] if last else self.rows[row + 1][0].start[self.axis]


def starts(length: int, window: int, overlap: float) -> list[int]:
    """Starts of windows along one axis; the last window ends where the axis ends."""
    if length <= window:
        return [0]
    step = max(1, int(window * (1 - overlap)))
    count = math.ceil((length - window) / step) + 1
    return [min(i * step, length - window) for i in range(count)]


def fitted(window: Size, shape: Size, multiple: int) -> Size:
    """A window for a scan thinner than the usual one: less along thin axes, and what that spares along the others.

    A network sees a slab of few slices better through a flat, wide window than through a thick one filled with copies.

    Args:
        window: The usual one, of multiples of `multiple`.
        shape: Voxels of the volume.
        multiple: What each side must be a multiple of.

    Returns:
        The usual window where no axis is shorter; else one with no more voxels in all, each side at least the lesser of
        its usual length and two multiples.
    """
    whole = [max(2, math.ceil(n / multiple)) * multiple for n in shape]
    size = [min(usual, cover) for usual, cover in zip(window, whole, strict=True)]
    if tuple(size) == window:
        return window
    most = math.prod(window)
    while True:
        voxels = math.prod(size)
        short = [a for a in range(3) if size[a] < whole[a] and voxels + voxels // size[a] * multiple <= most]
        if not short:
            return size[0], size[1], size[2]
        size[max(short, key=lambda axis: whole[axis] - size[axis])] += multiple


def tile(shape: Size, window: Size, overlap: float) -> Tiling:
    """Cover a volume with windows.

    Args:
        shape: Voxels of the volume, at least the window along each axis.
        window: Voxels of a window.
        overlap: Share of a window that its neighbor covers too, in [0, 1).

    Returns:
        Windows that together cover every voxel.
    """
    per_axis = [starts(n, w, overlap) for n, w in zip(shape, window, strict=True)]
    axis = max(range(3), key=lambda a: (len(per_axis[a]), a))
    others = [a for a in range(3) if a != axis]
    rows = []
    for at in per_axis[axis]:
        row = []
        for first in per_axis[others[0]]:
            for second in per_axis[others[1]]:
                start = [0, 0, 0]
                start[axis], start[others[0]], start[others[1]] = at, first, second
                row.append(Window((start[0], start[1], start[2]), window))
        rows.append(tuple(row))
    return Tiling(shape, window, axis, tuple(rows))


def blend_weights(window: Size) -> NDArray[np.float32]:
    """Gaussian weights of a window's voxels, largest in its middle, never below `LEAST_WEIGHT`."""
    weights = np.ones((1, 1, 1), dtype=np.float32)
    for axis, n in enumerate(window):
        offset = np.arange(n, dtype=np.float32) - (n - 1) / 2
        line = np.exp(-(offset**2) / (2 * (SIGMA_SCALE * n) ** 2)).astype(np.float32)
        shape = [1, 1, 1]
        shape[axis] = n
        weights = weights * line.reshape(shape)
    return np.maximum(weights, max(LEAST_WEIGHT, float(weights[weights > 0].min())))


def padding(shape: Size, window: Size) -> Pads:
    """Voxels to add before and after each axis so that a window fits; the same on both sides, odd one after."""
    missing = [max(0, w - n) for n, w in zip(shape, window, strict=True)]
    x, y, z = ((m // 2, m - m // 2) for m in missing)
    return x, y, z


def unpadded(begin: list[int], shape: list[int], pads: Pads, volume: Size) -> tuple[Box, Box]:
    """The part of a slab that is no padding, in voxels of the volume and in voxels of the slab; it may be empty."""
    into, of = [], []
    for axis in range(3):
        start = begin[axis] - pads[axis][0]
        low, high = max(0, start), min(volume[axis], start + shape[axis])
        into.append(slice(low, max(low, high)))
        of.append(slice(low - start, max(low, high) - start))
    return (into[0], into[1], into[2]), (of[0], of[1], of[2])
