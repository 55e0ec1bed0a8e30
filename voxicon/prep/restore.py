"""Masks and probabilities from the model grid back to the scan's own grid; masks smooth and without losing volume.

Copying the nearest model voxel would draw staircases on a finer scan. Instead each class's mask is
interpolated linearly in its own box and cut at the level that keeps its volume: at the usual level of
one half, thin things such as adrenal glands would shrink, because interpolation rounds their edges.
On an identical grid this is the identity. Probabilities are interpolated alike and not cut.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from voxicon.core.geometry import Geometry
from voxicon.core.masks import MaskSet
from voxicon.core.orientation import from_ras_order, to_ras_order
from voxicon.core.volume import Source
from voxicon.prep.resample import (
    apply_matrices,
    axis_positions,
    interpolation_matrix,
    sample_values,
)

LOWEST_LEVEL, HIGHEST_LEVEL = 0.2, 0.6
"""The cut never leaves this range, so that a mask cannot spread into voxels that hardly touch it."""

_SLAB_VOXELS = 1 << 24
"""Voxels of a probability map restored at once: 64 MB of float32."""

_ANY = np.zeros((1, 1, 1), dtype=np.uint8)

_Box = tuple[slice, slice, slice]

_NOTHING = (np.zeros((0, 0, 0), dtype=np.float32), (slice(0), slice(0), slice(0)))


def restore_masks(masks: MaskSet, source: Geometry, origin: Source) -> MaskSet:
    """Masks of a RAS-aligned model grid on a scan's grid.

    Args:
        masks: On the model grid.
        source: The scan's grid, in any orientation, oblique or sheared.
        origin: Put on the result.

    Returns:
        Same classes; `geometry` is `source` itself. Voxels more than half a model voxel outside the
        model grid are empty.
    """
    restored = MaskSet.empty(masks.names, source, origin)
    for name, box in masks.bounds().items():
        word, bit = divmod(masks.names.index(name), 32)
        rimmed = _rimmed(box, masks.geometry)
        padded = ((masks.words[word][rimmed] >> np.uint32(bit)) & np.uint32(1)).astype(np.float32)
        grid = crop_geometry(masks.geometry, rimmed)
        field, at = _field(padded, grid, source)
        if field.size == 0:
            continue
        voxels = np.count_nonzero(padded) * grid.voxel_ml / source.voxel_ml
        inside = field > _level(field, voxels)
        target = restored.words[word][at]
        np.bitwise_or(target, np.uint32(1 << bit), out=target, where=inside)
    return restored


def restore_probabilities(levels: NDArray[np.uint8], model: Geometry, source: Geometry) -> NDArray[np.uint8]:
    """Probabilities of a RAS-aligned model grid on a scan's grid, by linear interpolation.

    Args:
        levels: (X, Y, Z) uint8 on `model`: 255 times a probability, rounded.
        model: The model grid.
        source: The scan's grid, in any orientation, oblique or sheared.

    Returns:
        (X, Y, Z) uint8 on `source`, rounded again, so within one level of the interpolated probability; 0 outside the
        model grid, where an aligned scan keeps the border's value for half a model voxel and an oblique one fades
        within a voxel.
    """
    restored = np.zeros(source.shape, dtype=np.uint8)
    ends = [np.flatnonzero(levels.any(axis=other)) for other in ((1, 2), (0, 2), (0, 1))]
    if not len(ends[0]):
        return restored
    x, y, z = (slice(int(e[0]), int(e[-1]) + 1) for e in ends)
    rimmed = _rimmed((x, y, z), model)
    values, grid = levels[rimmed].astype(np.float32), crop_geometry(model, rimmed)
    for slab in _slabs(source.shape):
        field, at = _field(values, grid, crop_geometry(source, slab))
        restored[slab][at] = np.rint(field)
    return restored


def crop_geometry(geometry: Geometry, box: _Box) -> Geometry:
    """The grid of ``array[box]``; slices have start and stop, no step."""
    affine = geometry.affine.copy()
    affine[:3, 3] = geometry.to_world([s.start for s in box])
    x, y, z = (s.stop - s.start for s in box)
    return Geometry((x, y, z), affine)


def _rimmed(box: _Box, grid: Geometry) -> _Box:
    """A box and a rim of one voxel, which is zero, wherever the grid goes on beyond the box.

    At the grid's own border there is no rim: what lies beyond was never looked at, so a mask that
    reaches the border is taken to reach the edge of the last voxel.
    """
    x, y, z = (slice(max(0, s.start - 1), min(n, s.stop + 1)) for s, n in zip(box, grid.shape, strict=True))
    return x, y, z


def _slabs(shape: tuple[int, int, int]) -> Iterator[_Box]:
    depth = max(1, _SLAB_VOXELS // (shape[1] * shape[2]))
    for first in range(0, shape[0], depth):
        yield slice(first, min(shape[0], first + depth)), slice(0, shape[1]), slice(0, shape[2])


def _field(values: NDArray[np.float32], grid: Geometry, source: Geometry) -> tuple[NDArray[np.float32], _Box]:
    """Values interpolated on the box of a scan that they can reach, and that box; both empty where there is none."""
    return (_aligned_field if source.is_aligned else _oblique_field)(values, grid, source)


def _aligned_field(values: NDArray[np.float32], grid: Geometry, source: Geometry) -> tuple[NDArray[np.float32], _Box]:
    """`_field` of an aligned scan, in the scan's voxel order."""
    _, ras = to_ras_order(np.broadcast_to(_ANY, source.shape), source)
    matrices, starts, stops = [], [], []
    for axis, positions in enumerate(axis_positions(grid, ras)):
        reach = np.flatnonzero((positions > -0.5 - 1e-6) & (positions < grid.shape[axis] - 0.5 + 1e-6))
        if not len(reach):
            return _NOTHING  # thinner than the scan's slices, and between two of them
        starts.append(int(reach[0]))
        stops.append(int(reach[-1]) + 1)
        matrices.append(interpolation_matrix(grid.shape[axis], positions[reach]))
    field = apply_matrices(values, (matrices[0], matrices[1], matrices[2]))
    at: list[slice] = [slice(0)] * 3
    for world, (axis, backwards) in enumerate(source.axis_order):
        n = source.shape[axis]
        first, last = (n - stops[world], n - starts[world]) if backwards else (starts[world], stops[world])
        at[axis] = slice(first, last)
    return from_ras_order(field, source), (at[0], at[1], at[2])


def _oblique_field(values: NDArray[np.float32], grid: Geometry, source: Geometry) -> tuple[NDArray[np.float32], _Box]:
    """`_field` of an oblique or sheared scan, in the scan's voxel order."""
    corners = np.array([[-0.5, n - 0.5] for n in grid.shape])
    points = grid.to_world(np.array(np.meshgrid(*corners, indexing="ij")).reshape(3, -1).T)
    index = source.to_index(points)
    low = np.clip(np.floor(index.min(axis=0)).astype(int), 0, source.shape)
    high = np.clip(np.ceil(index.max(axis=0)).astype(int) + 1, 0, source.shape)
    x, y, z = (slice(int(a), max(int(a), int(b))) for a, b in zip(low, high, strict=True))
    if min(s.stop - s.start for s in (x, y, z)) == 0:
        return _NOTHING
    return sample_values(values, grid, crop_geometry(source, (x, y, z)), outside=0.0), (x, y, z)


def _level(field: NDArray[np.float32], voxels: float) -> float:
    """The cut of an interpolated mask that leaves about that many voxels."""
    positive = field[field > 0]
    keep = round(voxels)
    if keep <= 0 or keep >= positive.size:
        return LOWEST_LEVEL
    level = float(np.partition(positive, positive.size - keep)[positive.size - keep])
    # Just below the value found, so that the voxel that holds it stays in.
    return float(np.clip(level - 1e-6, LOWEST_LEVEL, HIGHEST_LEVEL))
