"""Values and masks from one grid to another.

Two routes give the same answer. When both grids run along the RAS axes, interpolation separates into
one small matrix per axis: three dense products, which a CPU does near its peak. An oblique or sheared
grid takes the general route through its affine.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from voxicon.core.geometry import Geometry
from voxicon.core.orientation import to_ras_order
from voxicon.core.storage import release

Floats = NDArray[np.float32]

_SLAB_VOXELS = 1 << 24
"""Voxels worked on at once, of the source on the aligned and of the target on the general route: 64 MB of float32."""


def interpolation_matrix(n_source: int, positions: NDArray[np.float64], support: float = 1.0) -> Floats:
    """Weights that interpolate linearly at fractional positions, (len(positions), n_source).

    Args:
        n_source: Samples along the source axis.
        positions: Fractional source indices; beyond the ends the last sample is repeated.
        support: Half width of the triangle filter in source samples. 1 is linear interpolation; more
            averages, which is what sampling coarser than the source needs against aliasing.

    Returns:
        Rows sum to 1.
    """
    clipped = np.clip(positions, 0, n_source - 1)
    distance = np.abs(clipped[:, None] - np.arange(n_source)[None])
    weights = np.clip(1 - distance / max(support, 1.0), 0, None)
    matrix: Floats = (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)
    return matrix


def apply_matrices(values: NDArray[Any], matrices: tuple[Floats, Floats, Floats]) -> Floats:
    """Multiply a (X, Y, Z) array by one (new, old) matrix per axis; float32 result.

    Slab by slab along the axis whose neighbors lie farthest apart in memory, so that no second whole copy exists.
    """
    axis = int(np.argmax(np.abs(values.strides)))
    n_slices = values.shape[axis]
    depth = max(1, _SLAB_VOXELS * n_slices // max(1, values.size))
    if depth >= n_slices:
        result = _product(values, matrices)
        release(values)
        return result
    x, y, z = (len(matrix) for matrix in matrices)
    result = np.zeros((x, y, z), dtype=np.float32)
    for first in range(0, n_slices, depth):
        cut, at, parts = [slice(None)] * 3, [slice(None)] * 3, list(matrices)
        cut[axis] = slice(first, first + depth)
        reached = np.flatnonzero(matrices[axis][:, cut[axis]].any(axis=1))
        if not len(reached):
            continue
        at[axis] = slice(int(reached[0]), int(reached[-1]) + 1)
        parts[axis] = matrices[axis][at[axis], cut[axis]]
        result[tuple(at)] += _product(values[tuple(cut)], (parts[0], parts[1], parts[2]))
        release(values)
    return result


def _product(values: NDArray[Any], matrices: tuple[Floats, Floats, Floats]) -> Floats:
    along_x, along_y, along_z = matrices
    array = np.ascontiguousarray(values, dtype=np.float32)
    # The axis that shrinks most goes first, so that the later products are small.
    order = sorted(range(3), key=lambda axis: matrices[axis].shape[0] / matrices[axis].shape[1])
    for axis in order:
        if axis == 0:
            array = (along_x @ array.reshape(array.shape[0], -1)).reshape(-1, *array.shape[1:])
        elif axis == 1:
            array = np.matmul(along_y, array)
        else:
            array = np.matmul(array, along_z.T)
    return array


def resample_values(
    values: NDArray[Any], source: Geometry, target: Geometry, *, antialias: bool, outside: float
) -> Floats:
    """Values of a scan on another grid, by (triangle-filtered) linear interpolation.

    Args:
        values: (X, Y, Z) on `source`.
        source: Grid of the values.
        target: Grid wanted; must run along the RAS axes.
        antialias: Average over the footprint of a coarser target voxel instead of sampling one point.
        outside: Value where the target leaves the source by more than half a voxel (oblique grids only;
            aligned ones repeat the border, which they leave by less than half a voxel).

    Returns:
        (X, Y, Z) float32 on `target`.
    """
    ratios = np.array(target.spacing_mm) / _spacing_along_ras(source)
    supports = np.maximum(ratios, 1.0) if antialias else np.ones(3)
    if source.is_aligned:
        turned, aligned = to_ras_order(values, source)
        positions = axis_positions(aligned, target)
        along_x, along_y, along_z = (
            interpolation_matrix(aligned.shape[axis], positions[axis], supports[axis]) for axis in range(3)
        )
        return apply_matrices(turned, (along_x, along_y, along_z))
    if antialias:
        # Gaussian with the triangle's variance: half width h has variance h²/6; linear has 1/6 already.
        order = [axis for axis, _ in source.axis_order]
        sigma = [0.0, 0.0, 0.0]
        for world, axis in enumerate(order):
            sigma[axis] = float(np.sqrt((supports[world] ** 2 - 1) / 6))
        values = ndimage.gaussian_filter(np.asarray(values, dtype=np.float32), sigma, mode="nearest")
    return sample_values(values, source, target, outside)


def sample_values(values: NDArray[Any], source: Geometry, target: Geometry, outside: float) -> Floats:
    """Linear interpolation through the affines, whatever their directions; float32 on `target`.

    Args:
        values: (X, Y, Z) on `source`.
        source: Grid of the values.
        target: Grid wanted.
        outside: Value beyond the source's outermost voxel centres.
    """
    result = np.empty(target.shape, dtype=np.float32)
    between = np.linalg.solve(source.affine, target.affine)
    data = np.asarray(values, dtype=np.float32)
    depth = max(1, _SLAB_VOXELS // (target.shape[1] * target.shape[2]))
    for first in range(0, target.shape[0], depth):
        slab = result[first : first + depth]
        offset = between[:3, 3] + between[:3, 0] * first
        ndimage.affine_transform(
            data, between[:3, :3], offset, output_shape=slab.shape, output=slab, order=1,
            mode="grid-constant", cval=outside,
        )  # fmt: skip
    return result


def axis_positions(source: Geometry, target: Geometry) -> list[NDArray[np.float64]]:
    """Fractional source index of every target index, per axis; both grids aligned and in RAS order."""
    positions = []
    for axis in range(3):
        step = target.affine[axis, axis] / source.affine[axis, axis]
        start = (target.affine[axis, 3] - source.affine[axis, 3]) / source.affine[axis, axis]
        positions.append(start + step * np.arange(target.shape[axis]))
    return positions


def _spacing_along_ras(geometry: Geometry) -> NDArray[np.float64]:
    return np.array([geometry.spacing_mm[axis] for axis, _ in geometry.axis_order])
