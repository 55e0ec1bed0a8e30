"""Random fields that look like tissue: clouds, vessels and septa.

A field is white noise on a coarse grid, spread by cubic B-splines one axis at a time. The variance of such a
field is 8 % smaller between the coarse points than at them; they lie at a random place, so no voxel is special.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_CELL_PER_CORRELATION = math.sqrt(3) / 2
"""Coarse cell in correlation lengths. A cubic B-spline on cells of h has variance h²/3 and an autocorrelation of
variance 2h²/3; taken as a Gaussian that falls to 1/e at h·√(4/3). Source: B-splines are boxes of variance h²/12
convolved, four for a cubic: "Splines: a perfect fit for signal and image processing", IEEE SPM 16(6), 1999."""


def smooth_noise(
    rng: np.random.Generator, shape: Sequence[int], correlation_mm: float, spacing_mm: Sequence[float]
) -> NDArray[np.float32]:
    """A random field of zero mean and unit standard deviation whose values hang together over a distance.

    Args:
        rng: Source of randomness; the same state gives the same field.
        shape: Voxels along each axis; any number of axes.
        correlation_mm: Where the autocorrelation has fallen to about 1/e. Along axes whose voxels are not smaller
            than that, neighbors are independent: white noise.
        spacing_mm: Voxel size per axis. Larger numbers than the true ones along an axis stretch the texture less
            along it, so that streaks come from dividing the spacing of an axis.

    Returns:
        float32 of that shape. Mean and deviation hold for the array itself, not only on average; all zero
        where the array has fewer than two voxels.
    """
    weights = [
        _spread(rng, n, _CELL_PER_CORRELATION * correlation_mm / s) for n, s in zip(shape, spacing_mm, strict=True)
    ]
    coarse = [n if w is None else w.shape[1] for n, w in zip(shape, weights, strict=True)]
    field = rng.standard_normal(coarse, dtype=np.float32)
    # Axes that grow most go last: the arrays in between stay small.
    growth = [0.0 if w is None else w.shape[0] / w.shape[1] for w in weights]
    for axis in np.argsort(growth, kind="stable"):
        table = weights[axis]
        if table is not None:
            field = np.moveaxis(np.tensordot(table, field, axes=(1, axis)), 0, axis)
    field = np.ascontiguousarray(field)
    if field.size == 0:
        return field
    field -= field.mean(dtype=np.float64)
    deviation = math.sqrt(float(np.vdot(field, field)) / field.size)
    if deviation > 0:
        field /= np.float32(deviation)
    return field


def _spread(rng: np.random.Generator, voxels: int, cell_voxels: float) -> NDArray[np.float32] | None:
    """(voxels, coarse points) B-spline weights; None for an axis that stays white."""
    if cell_voxels < _CELL_PER_CORRELATION:
        return None
    place = np.arange(voxels, dtype=np.float64) / cell_voxels + rng.uniform()
    points = int(place[-1]) + 4 if voxels else 1
    away = np.abs(place[:, None] - (np.arange(points)[None, :] - 1))
    near, far = 2 / 3 - away**2 + away**3 / 2, np.clip(2 - away, 0, None) ** 3 / 6
    weights: NDArray[np.float64] = np.where(away < 1, near, far)
    return weights.astype(np.float32)


def tubes(
    rng: np.random.Generator,
    shape: Sequence[int],
    mesh_mm: float,
    radius_mm: float | NDArray[np.float32],
    spacing_mm: Sequence[float],
) -> NDArray[np.float32]:
    """Winding vessels: 1 on their axis, falling off like a Gaussian around it.

    The axes are where two independent smooth fields are both zero, so they never end inside the box. Their
    length per volume is 2 / (π · mesh²): 6 mm in a milliliter for a mesh of 10 mm.

    Args:
        rng: Source of randomness.
        shape: Voxels along each axis.
        mesh_mm: Correlation length of the fields: the size of the gaps between vessels.
        radius_mm: Of the vessels: one number, or one for each voxel.
        spacing_mm: Voxel size per axis.
    """
    first, second = (smooth_noise(rng, shape, mesh_mm, spacing_mm) for _ in range(2))
    return bump(first**2 + second**2, radius_mm, mesh_mm)


def sheets(
    rng: np.random.Generator,
    shape: Sequence[int],
    mesh_mm: float,
    radius_mm: float | NDArray[np.float32],
    spacing_mm: Sequence[float],
) -> NDArray[np.float32]:
    """Curved walls, such as septa in fat or fat between bundles of muscle: 1 in their middle; see `tubes`."""
    return bump(smooth_noise(rng, shape, mesh_mm, spacing_mm) ** 2, radius_mm, mesh_mm)


def bump(squared: NDArray[np.float32], radius_mm: float | NDArray[np.float32], mesh_mm: float) -> NDArray[np.float32]:
    """1 where a field is zero, falling off with the distance in mm that its square stands for.

    Args:
        squared: Square of a field of unit variance, or the sum of the squares of several.
        radius_mm: Distance at which about a quarter is left.
        mesh_mm: Correlation length of the field.
    """
    # A field with the autocorrelation exp(-d²/c²) has slopes of variance 2/c² along each axis, and around its zeros
    # it rises by about 2/c per mm: E|∇f × ∇g| = 4/c².
    width = np.maximum(np.asarray(radius_mm, dtype=np.float32), 1e-3) * np.float32(2 / mesh_mm)
    bump: NDArray[np.float32] = np.exp(-squared / (2 * (0.6 * width) ** 2))
    return bump
