"""The shape of a lesion: merged ellipsoids with an uneven surface, of exactly the volume planned."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from voxicon.synthesis.lesions.kinds import LesionKind
from voxicon.synthesis.texture import smooth_noise

Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]
Box = tuple[slice, slice, slice]
Triple = tuple[float, float, float]

_MERGE = 0.08
"""Over how much of the radius ellipsoids melt into each other; without it there would be creases."""

_MOST_NOISE = 1.8
"""Bumps of the surface in standard deviations: rarer ones would come loose."""

_LOBULATION = 0.35
"""Finer bumps, as a share of the coarse ones."""

_STRETCH = 0.35
"""How far, in radii, a lesion may grow where it can to make up for where it cannot."""

_LEAST_SHARE = 1 / 3

_POINTS_PER_RADIUS = 4
"""Points that a voxel is divided into, for its share of lesion: a ball of 268 of them has its volume within 1 %."""

_OUTSIDE = np.float32(-1e4)


@dataclass(frozen=True)
class Shape:
    """Merged ellipsoids around the origin.

    Attributes:
        radius_mm: Of the ball of the same volume.
        lobes: For each ellipsoid its middle (3,) in mm and the matrix (3, 3) whose quadratic form is 1 on its surface.
        roughness_mm: Standard deviation of the surface.
        edge_mm: Over how much it fades into what is around it.
    """

    radius_mm: float
    lobes: tuple[tuple[NDArray[np.float64], NDArray[np.float64]], ...]
    roughness_mm: float
    edge_mm: float

    @property
    def reach_mm(self) -> tuple[float, float, float]:
        """Half the size of a box that holds the lesion however it grows, along each axis."""
        extent = np.max([np.abs(m) + np.sqrt(np.diag(np.linalg.inv(q))) for m, q in self.lobes], axis=0)
        x, y, z = extent + 0.5 * _STRETCH * self.radius_mm + _MOST_NOISE * self.roughness_mm + self.edge_mm
        return float(x), float(y), float(z)


def draw_shape(kind: LesionKind, radius_mm: float, rng: np.random.Generator) -> Shape:
    """A shape of a kind: one ellipsoid, or two or three for larger uneven ones."""
    lobes = []
    extra = int(rng.integers(1, 3)) if rng.random() < 2 * kind.roughness and radius_mm > 5 else 0
    spread = 0.25 if kind.roughness > 0.1 else 0.08
    for lobe in range(1 + extra):
        share = 1.0 if not extra else 0.88 if lobe == 0 else rng.uniform(0.45, 0.65)
        axes = rng.uniform(1 - spread, 1 + spread, 3)
        axes *= share * radius_mm / np.prod(axes) ** (1 / 3)
        turn, _ = np.linalg.qr(rng.normal(size=(3, 3)))
        away = rng.normal(size=3)
        middle = away / np.linalg.norm(away) * radius_mm * 0.6 if lobe else np.zeros(3)
        lobes.append((middle, turn.T @ np.diag(axes**-2.0) @ turn))
    roughness = kind.roughness * radius_mm * rng.uniform(0.2, 0.8)
    # A wider edge would be more volume: half the radius adds 1/16, from r³ + r·w²/4.
    edge = min(rng.uniform(*kind.edge_mm), 0.5 * radius_mm)
    return Shape(radius_mm, tuple(lobes), float(roughness), float(edge))


def box_around(center: Triple, reach_mm: Sequence[float], spacing_mm: Triple, shape: tuple[int, ...]) -> Box:
    """Voxels within a distance along each axis, cut at the volume's border; never empty."""
    sides = []
    for c, reach, step, n in zip(center, reach_mm, spacing_mm, shape, strict=True):
        middle = min(max(round(c), 0), n - 1)
        low, high = int(np.floor(c - reach / step)), int(np.ceil(c + reach / step)) + 1
        sides.append(slice(min(max(0, low), middle), max(min(n, high), middle + 1)))
    return sides[0], sides[1], sides[2]


def fill(
    shape: Shape,
    box: Box,
    center: Triple,
    spacing_mm: Triple,
    ground: Mask,
    wall_mm: Floats | None,
    rng: np.random.Generator,
) -> tuple[Floats, Floats]:
    """Let a shape grow on the ground it has until it has the volume planned.

    Voxels that are coarse for the shape are divided, so that the share of each is right for lesions smaller than a
    voxel too: the shares of a lesion with a sharp edge add up to its volume.

    Args:
        shape: What grows.
        box: Where, in the volume.
        center: Voxel of the shape's origin, fractional, in the volume.
        spacing_mm: Voxel size.
        ground: (X, Y, Z) bool, where in the box it may be.
        wall_mm: (X, Y, Z) float32, negative where the shape is cut off besides; None where it is not.
        rng: Source of chance.

    Returns:
        Share of each voxel that is lesion, 0 to 1 and 0 off the ground; and roughly how deep in the lesion its middle
        lies, in mm, negative outside. Both (X, Y, Z) float32.
    """
    radius = shape.radius_mm
    target = min(radius / _POINTS_PER_RADIUS, 2 * min(spacing_mm))
    parts = [max(1, int(np.ceil(step / target - 1e-6))) for step in spacing_mm]
    steps = [step / n for step, n in zip(spacing_mm, parts, strict=True)]
    axes = [
        ((np.arange(s.start * n, s.stop * n) + 0.5) / n - 0.5 - c) * step
        for s, n, c, step in zip(box, parts, center, spacing_mm, strict=True)
    ]
    depth = radius * _merged(shape, [axis.astype(np.float32) for axis in axes])
    if shape.roughness_mm > 0:
        noise = smooth_noise(rng, depth.shape, 0.7 * radius, steps)
        noise += np.float32(_LOBULATION) * smooth_noise(rng, depth.shape, 0.3 * radius, steps)
        depth += np.float32(shape.roughness_mm) * np.clip(noise, -_MOST_NOISE, _MOST_NOISE)
    divided = depth.reshape([n for pair in zip(ground.shape, parts, strict=True) for n in pair])
    if wall_mm is not None:
        np.minimum(divided, wall_mm[:, None, :, None, :, None], out=divided)
    allowed = np.broadcast_to(ground[:, None, :, None, :, None], divided.shape)
    level = _level(divided[allowed], 4 / 3 * np.pi * radius**3 / float(np.prod(steps)), _STRETCH * radius)
    divided -= np.float32(level)
    width = max(shape.edge_mm, float(np.mean(steps)))
    share = np.clip(divided / np.float32(width) + np.float32(0.5), 0, 1)
    return share.mean(axis=(1, 3, 5)) * ground, divided.mean(axis=(1, 3, 5))


def mask_of(share: Floats, voxels: float) -> Mask:
    """The voxels that are lesion, in one connected piece; what is loose is taken out of `share`, in place.

    They are at least half lesion. A coarse grid cuts more voxels of a small lesion in less than half than it should, so
    where they fall short of the number given, those that hold the most of what is left are added, down to a third.
    """
    ranked = np.sort(share, axis=None)
    wanted = min(max(1, round(voxels)), ranked.size)
    mask = share >= min(0.5, max(float(ranked[-wanted]), _LEAST_SHARE))
    labels, pieces = ndimage.label(mask, structure=np.ones((3, 3, 3), dtype=bool))
    if pieces > 1:
        keep = labels == 1 + int(np.argmax(np.bincount(labels.ravel())[1:]))
        loose = ndimage.binary_dilation(mask & ~keep, structure=np.ones((3, 3, 3), dtype=bool))
        share[loose & ~keep] = 0
        mask = keep
    found: Mask = mask
    return found


def _merged(shape: Shape, axes: Sequence[Floats]) -> Floats:
    """1 in the middle of the ellipsoids, 0 on their surface, below outside."""
    merged: Floats | None = None
    for middle, form in shape.lobes:
        x, y, z = (axis - np.float32(m) for axis, m in zip(axes, middle, strict=True))
        x, y, z = x[:, None, None], y[None, :, None], z[None, None, :]
        q = form.astype(np.float32)
        plane = q[0, 0] * x * x + q[1, 1] * y * y + 2 * q[0, 1] * x * y
        squared = plane + q[2, 2] * z * z + 2 * (q[0, 2] * x + q[1, 2] * y) * z
        inside = 1 - np.sqrt(np.maximum(squared, 0))
        merged = inside if merged is None else _smooth_maximum(merged, inside)
    return merged if merged is not None else np.zeros([len(axis) for axis in axes], dtype=np.float32)


def _smooth_maximum(a: Floats, b: Floats) -> Floats:
    """Source: Quilez, smooth minimum, quadratic form (iquilezles.org/articles/smin)."""
    blend = np.maximum(_MERGE - np.abs(a - b), 0)
    found: Floats = np.maximum(a, b) + blend * blend * np.float32(0.25 / _MERGE)
    return found


def _level(depths: Floats, count: float, most_mm: float) -> float:
    """The depth above which there are so many points, as far as the shape stretches."""
    wanted = max(1, round(count))
    if wanted >= len(depths):
        return -most_mm
    return max(float(np.partition(depths, -wanted)[-wanted]), -most_mm)
