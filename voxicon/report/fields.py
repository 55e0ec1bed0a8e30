"""Masks as smooth fields on a coarse grid of cubes: what a 3-D picture is made from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from voxicon.core.masks import BITS_PER_WORD, MaskSet
from voxicon.core.orientation import to_ras_order
from voxicon.core.storage import pieces

CUBE_MM = 1.5
"""Side of a cube. Own choice: finer costs time and memory with the third power and is hardly seen."""

_MOST_CUBES = 24_000_000
"""Scans that would need more get larger cubes."""

_SMOOTH_CUBES = (1.0, 2.0)
"""Width of the Gaussian that takes the steps of voxels off a surface: of small classes, and of those of a liter."""

_MARGIN = 4
_THIN = 0.7

Words = NDArray[np.uint32]


@dataclass(frozen=True, eq=False)
class Field:
    """One class.

    Attributes:
        name: Of the class.
        values: (X, Y, Z) float32 in RAS order; the surface is where they cross one half.
        first: Index of the first of them on the grid; may be below 0.
        volume_ml: About how large it is.
    """

    name: str
    values: NDArray[np.float32]
    first: tuple[int, int, int]
    volume_ml: float


def fields_of(masks: MaskSet) -> Iterator[Field]:
    """Every class that has a voxel, in the order of the masks. None is so small that it is lost."""
    words, side_mm = _cubes(masks)
    for number, word in enumerate(words):
        folded = [np.bitwise_or.reduce(word, axis=others) for others in ((1, 2), (0, 2), (0, 1))]
        for bit, name in enumerate(masks.names[number * BITS_PER_WORD : (number + 1) * BITS_PER_WORD]):
            one = np.uint32(1 << bit)
            ends = [np.flatnonzero(axis & one) for axis in folded]
            if not len(ends[0]):
                continue
            x, y, z = (slice(int(end[0]), int(end[-1]) + 1) for end in ends)
            mask = np.pad((word[x, y, z] & one) != 0, _MARGIN)
            volume_ml = np.count_nonzero(mask) * side_mm**3 / 1000
            width = np.interp(np.log10(volume_ml + 1e-6), (1, 3), _SMOOTH_CUBES)
            values = ndimage.gaussian_filter(mask.astype(np.float32), float(width), truncate=2.5)
            if values.max() < _THIN:
                # The Gaussian would melt away what is a cube or two across.
                values *= _THIN / values.max()
            first = x.start - _MARGIN, y.start - _MARGIN, z.start - _MARGIN
            yield Field(name, values, first, volume_ml)


def _cubes(masks: MaskSet) -> tuple[list[Words], float]:
    """Words on a grid of cubes in RAS order, and the side of a cube in mm."""
    views = [to_ras_order(word, masks.geometry)[0] for word in masks.words]
    spacing = masks.geometry.spacing_mm
    extent = [masks.geometry.shape[axis] * spacing[axis] for axis, _ in masks.geometry.axis_order]
    side_mm = max(CUBE_MM, float(np.cbrt(np.prod(extent) / _MOST_CUBES)))
    size = [max(1, round(length / side_mm)) for length in extent]
    found = []
    for view in views:
        cubes: Words = np.zeros(size, dtype=np.uint32)
        for piece in pieces(view):
            part, place = view[piece], []
            for axis, n in enumerate(size):
                part, reached = _along(part, axis, piece[axis], view.shape[axis], n)
                place.append(reached)
            cubes[tuple(place)] |= part
        found.append(cubes)
    return found, side_mm


def _along(part: Words, axis: int, inside: slice, n: int, size: int) -> tuple[Words, slice]:
    """One axis of a part of `n` voxels brought to `size` cubes, and which of these it reaches.

    A cube has a class where any voxel in it has, or, where voxels are larger, the one around its center.
    """
    if size < n:
        cube = np.arange(inside.start, inside.stop) * size // n
        starts = np.flatnonzero(np.diff(cube, prepend=-1))
        return np.bitwise_or.reduceat(part, starts, axis=axis), slice(int(cube[0]), int(cube[-1]) + 1)
    voxel = ((np.arange(size) + 0.5) * n / size).astype(int)
    low, high = np.searchsorted(voxel, (inside.start, inside.stop))
    return part.take(voxel[low:high] - inside.start, axis=axis), slice(int(low), int(high))


def outer_box(fields: Sequence[Field]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Index of the first value of all fields together, and how many there are along each axis; none: a small cube."""
    if not fields:
        return np.zeros(3, dtype=np.int64), np.full(3, 100, dtype=np.int64)
    low = np.min([field.first for field in fields], axis=0)
    return low, np.max([np.add(field.first, field.values.shape) for field in fields], axis=0) - low
