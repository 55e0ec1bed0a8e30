"""Bodies whose every number is known: boxes and balls in HU, on any grid."""

from __future__ import annotations

from itertools import permutations, product

import numpy as np
from numpy.typing import NDArray

from voxicon.core.geometry import Geometry
from voxicon.core.volume import Source, Volume

ORIENTATIONS = tuple((order, signs) for order in permutations(range(3)) for signs in product((1, -1), repeat=3))
"""All 48: which RAS axis each voxel axis runs along, and in which direction."""


def oriented(volume: Volume, order: tuple[int, int, int], signs: tuple[int, int, int]) -> Volume:
    """The same patient in the same place, stored with other axes; `volume` is in RAS order."""
    hu = volume.hu.transpose(order)
    affine = volume.geometry.affine.copy()
    affine[:3, :3] = affine[:3, order]
    start = [0 if s > 0 else n - 1 for s, n in zip(signs, hu.shape, strict=True)]
    affine[:3, 3] += affine[:3, :3] @ start
    affine[:3, :3] = affine[:3, :3] * np.array(signs)
    hu = hu[tuple(slice(None, None, s) for s in signs)]
    x, y, z = hu.shape
    return Volume(np.ascontiguousarray(hu), Geometry((x, y, z), affine), volume.source)


def rotation(degrees: float, axis: int) -> NDArray[np.float64]:
    """3×3 rotation about one RAS axis."""
    c, s = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    matrix = np.eye(3)
    i, j = (a for a in range(3) if a != axis)
    matrix[i, i], matrix[i, j], matrix[j, i], matrix[j, j] = c, -s, s, c
    return matrix


def body_hu(points_mm: NDArray[np.float64]) -> NDArray[np.float32]:
    """HU of a lopsided patient at RAS points (..., 3): an oval body, a big organ right, a small one left."""
    x, y, z = np.moveaxis(points_mm, -1, 0)
    hu = np.full(x.shape, -1000.0, dtype=np.float32)
    hu[(x / 80) ** 2 + (y / 55) ** 2 + (z / 70) ** 2 < 1] = 0
    hu[(x - 35) ** 2 + y**2 + (z - 10) ** 2 < 25**2] = 150
    hu[(x + 40) ** 2 + (y + 10) ** 2 + (z + 15) ** 2 < 15**2] = 250
    return hu


def body(spacing_mm: tuple[float, float, float] = (4.0, 4.0, 4.0), turn: NDArray[np.float64] | None = None) -> Volume:
    """The patient of `body_hu` on a grid around the origin, its axes turned by a rotation."""
    turn = np.eye(3) if turn is None else turn
    half = np.array([100.0, 80.0, 90.0])
    shape = np.round(2 * half / spacing_mm).astype(int)
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.diag(spacing_mm)
    affine[:3, 3] = -affine[:3, :3] @ ((shape - 1) / 2)
    geometry = Geometry((int(shape[0]), int(shape[1]), int(shape[2])), affine)
    index = np.stack(np.meshgrid(*(np.arange(n) for n in shape), indexing="ij"), axis=-1)
    return Volume(body_hu(geometry.to_world(index)), geometry, Source(name="phantom"))


def dice(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> float:
    """Dice of two masks; 1 when both are empty."""
    total = int(a.sum()) + int(b.sum())
    return 2 * int((a & b).sum()) / total if total else 1.0
