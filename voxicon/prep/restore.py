"""Masks from the model grid back to the scan's own grid, smooth and without losing volume.

Copying the nearest model voxel would draw staircases on a finer scan. Instead each class's mask is
interpolated linearly in its own box and cut at the level that keeps its volume: at the usual level of
one half, thin things such as adrenal glands would shrink, because interpolation rounds their edges.
On an identical grid this is the identity.
"""

from __future__ import annotations

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

_ANY = np.zeros((1, 1, 1), dtype=np.uint8)


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
        padded, grid = _padded_box(masks, name, box)
        if source.is_aligned:
            field, at = _aligned_field(padded, grid, source)
        else:
            field, at = _oblique_field(padded, grid, source)
        if field.size == 0:
            continue
        voxels = np.count_nonzero(padded) * grid.voxel_ml / source.voxel_ml
        inside = field > _level(field, voxels)
        word, bit = divmod(masks.names.index(name), 32)
        target = restored.words[word][at]
        np.bitwise_or(target, np.uint32(1 << bit), out=target, where=inside)
    return restored


def _padded_box(masks: MaskSet, name: str, box: tuple[slice, slice, slice]) -> tuple[NDArray[np.float32], Geometry]:
    """One class in its box as 0/1, with a rim of zeros wherever the grid goes on beyond the box.

    At the grid's own border there is no rim: what lies beyond was never looked at, so a mask that
    reaches the border is taken to reach the edge of the last voxel.
    """
    word, bit = divmod(masks.names.index(name), 32)
    low = [max(0, s.start - 1) for s in box]
    high = [min(n, s.stop + 1) for s, n in zip(box, masks.geometry.shape, strict=True)]
    view = masks.words[word][tuple(slice(a, b) for a, b in zip(low, high, strict=True))]
    affine = masks.geometry.affine.copy()
    affine[:3, 3] = masks.geometry.to_world(low)
    x, y, z = view.shape
    return ((view >> np.uint32(bit)) & np.uint32(1)).astype(np.float32), Geometry((x, y, z), affine)


def _aligned_field(
    mask: NDArray[np.float32], grid: Geometry, source: Geometry
) -> tuple[NDArray[np.float32], tuple[slice, slice, slice]]:
    """Interpolated mask on the part of an aligned scan that it can reach, in the scan's voxel order."""
    _, ras = to_ras_order(np.broadcast_to(_ANY, source.shape), source)
    matrices, starts, stops = [], [], []
    for axis, positions in enumerate(axis_positions(grid, ras)):
        reach = np.flatnonzero((positions > -0.5 - 1e-6) & (positions < grid.shape[axis] - 0.5 + 1e-6))
        starts.append(int(reach[0]) if len(reach) else 0)
        stops.append(int(reach[-1]) + 1 if len(reach) else 0)
        matrices.append(interpolation_matrix(grid.shape[axis], positions[reach]))
    field = apply_matrices(mask, (matrices[0], matrices[1], matrices[2]))
    at: list[slice] = [slice(0)] * 3
    for world, (axis, backwards) in enumerate(source.axis_order):
        n = source.shape[axis]
        first, last = (n - stops[world], n - starts[world]) if backwards else (starts[world], stops[world])
        at[axis] = slice(first, last)
    return from_ras_order(field, source), (at[0], at[1], at[2])


def _oblique_field(
    mask: NDArray[np.float32], grid: Geometry, source: Geometry
) -> tuple[NDArray[np.float32], tuple[slice, slice, slice]]:
    """Interpolated mask on the box of an oblique scan that it can reach, in the scan's voxel order."""
    corners = np.array([[-0.5, n - 0.5] for n in grid.shape])
    points = grid.to_world(np.array(np.meshgrid(*corners, indexing="ij")).reshape(3, -1).T)
    index = source.to_index(points)
    low = np.clip(np.floor(index.min(axis=0)).astype(int), 0, source.shape)
    high = np.clip(np.ceil(index.max(axis=0)).astype(int) + 1, 0, source.shape)
    x, y, z = (slice(int(a), max(int(a), int(b))) for a, b in zip(low, high, strict=True))
    if min(s.stop - s.start for s in (x, y, z)) == 0:
        return np.zeros((0, 0, 0), dtype=np.float32), (slice(0), slice(0), slice(0))
    affine = source.affine.copy()
    affine[:3, 3] = source.to_world([x.start, y.start, z.start])
    part = Geometry((x.stop - x.start, y.stop - y.start, z.stop - z.start), affine)
    return sample_values(mask, grid, part, outside=0.0), (x, y, z)


def _level(field: NDArray[np.float32], voxels: float) -> float:
    """The cut of an interpolated mask that leaves about that many voxels."""
    positive = field[field > 0]
    keep = round(voxels)
    if keep <= 0 or keep >= positive.size:
        return LOWEST_LEVEL
    level = float(np.partition(positive, positive.size - keep)[positive.size - keep])
    # Just below the value found, so that the voxel that holds it stays in.
    return float(np.clip(level - 1e-6, LOWEST_LEVEL, HIGHEST_LEVEL))
