"""Labels brought to the model grid: classes by averaging, raw values by nearest look-up."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxicon.core.geometry import Geometry
from voxicon.core.masks import MaskSet
from voxicon.prep.resample import resample_values


def averaged_masks(masks: MaskSet, model: Geometry) -> MaskSet:
    """Masks on the model grid: each class averaged over the coarser voxel and cut at one half.

    Thin structures do not break, as they would under nearest look-up.
    """
    coarse = MaskSet.empty(masks.names, model, masks.source)
    for name in masks:
        share = resample_values(masks[name], masks.geometry, model, antialias=True, outside=0.0)
        coarse.set(name, share > 0.5)
    return coarse


def nearest_labels(raw: NDArray[np.integer[Any]], grid: Geometry, model: Geometry) -> NDArray[np.int16]:
    """Raw label values of the voxel nearest to each model voxel; beyond the border, of the outermost voxel.

    Args:
        raw: (X, Y, Z) label values, below 32768, on `grid`.
        grid: Any orientation, oblique or not.
        model: RAS-aligned grid.
    """
    corners = [np.arange(n) for n in model.shape]
    if grid.is_aligned:
        index = []
        for world, (axis, _) in enumerate(grid.axis_order):
            points = np.zeros((model.shape[world], 3))
            points[:, world] = corners[world]
            found = grid.to_index(model.to_world(points))[:, axis]
            index.append(np.clip(found.round().astype(int), 0, grid.shape[axis] - 1))
        order = [axis for axis, _ in grid.axis_order]
        return np.ascontiguousarray(raw.transpose(order)[np.ix_(*index)], dtype=np.int16)
    points = np.stack(np.meshgrid(*corners, indexing="ij"), axis=-1)
    nearest = grid.to_index(model.to_world(points)).round().astype(int)
    nearest = np.clip(nearest, 0, np.array(grid.shape) - 1)
    return np.ascontiguousarray(raw[nearest[..., 0], nearest[..., 1], nearest[..., 2]], dtype=np.int16)
