"""Where voxels are: a shape and an affine from voxel index to RAS millimetres.

RAS is the one world frame of this package: x grows toward the patient's right, y toward the
front (anterior), z toward the head (superior). An orientation code such as ``LAS`` names, for each
voxel axis, the direction in which its index grows.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from voxicon.errors import BadGeometry

GRID_TOLERANCE_VOXELS = 1e-3
"""Two grids are the same when no voxel centre moves by more than this share of a voxel."""

ALIGNED_TOLERANCE_RADIANS = 1e-4
"""Directions closer to the RAS axes than this count as aligned: 0.05 mm over half a metre."""

_POSITIVE, _NEGATIVE = "RAS", "LPI"


@dataclass(frozen=True, eq=False)
class Geometry:
    """The grid of a scan, without its values.

    Attributes:
        shape: Number of voxels along the three axes, each at least 1.
        affine: (4, 4) float64, voxel index to RAS mm. May be oblique or sheared; never singular.

    Raises:
        BadGeometry: The affine is not a finite, invertible 4×4 matrix, or an axis is empty.
    """

    shape: tuple[int, int, int]
    affine: NDArray[np.float64]

    def __post_init__(self) -> None:
        affine = np.array(self.affine, dtype=np.float64)
        if affine.shape != (4, 4) or not np.isfinite(affine).all():
            raise BadGeometry(f"affine is not a finite 4×4 matrix: {affine.tolist()}; repair the header")
        columns = np.linalg.norm(affine[:3, :3], axis=0)
        if not (columns > 0).all() or abs(np.linalg.det(affine[:3, :3] / columns)) < 1e-6:
            raise BadGeometry(
                f"affine is singular: {affine[:3].round(4).tolist()}; two voxel axes coincide or one has "
                "no length, so no place in the body can be computed; repair the header",
                code="E-AFFINE",
            )
        if len(self.shape) != 3 or min(self.shape) < 1:
            raise BadGeometry(f"shape {tuple(self.shape)} is not three positive numbers of voxels")
        affine.setflags(write=False)
        object.__setattr__(self, "affine", affine)
        object.__setattr__(self, "shape", tuple(int(n) for n in self.shape))

    @cached_property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Distance between neighbouring voxel centres along each axis."""
        return cast(
            "tuple[float, float, float]",
            tuple(float(s) for s in np.linalg.norm(self.affine[:3, :3], axis=0)),
        )

    @property
    def voxel_ml(self) -> float:
        """Volume of one voxel in millilitres, shear included."""
        return float(abs(np.linalg.det(self.affine[:3, :3])) / 1000)

    @cached_property
    def axis_order(self) -> tuple[tuple[int, bool], ...]:
        """For each of R, A, S: the voxel axis that runs closest to it, and whether it runs the other way.

        Among all assignments the one with the largest sum of squared direction cosines is taken, so an
        oblique grid never assigns two voxel axes to one direction.
        """
        cosines = self.affine[:3, :3] / np.linalg.norm(self.affine[:3, :3], axis=0)
        permutations = [(0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)]
        best = max(permutations, key=lambda p: sum(cosines[w, p[w]] ** 2 for w in range(3)))
        return tuple((axis, bool(cosines[world, axis] < 0)) for world, axis in enumerate(best))

    @property
    def orientation(self) -> str:
        """Three letters, one per voxel axis, such as ``LPS``."""
        letters = [""] * 3
        for world, (axis, backwards) in enumerate(self.axis_order):
            letters[axis] = (_NEGATIVE if backwards else _POSITIVE)[world]
        return "".join(letters)

    @property
    def is_aligned(self) -> bool:
        """True when every voxel axis runs along one RAS axis (no oblique or sheared directions)."""
        cosines = self.affine[:3, :3] / np.linalg.norm(self.affine[:3, :3], axis=0)
        off_axis = np.sort(np.abs(cosines), axis=0)[:2]
        return bool((off_axis < ALIGNED_TOLERANCE_RADIANS).all())

    def to_world(self, index: ArrayLike) -> NDArray[np.float64]:
        """RAS mm of voxel indices (..., 3); index 0 is the centre of the first voxel."""
        points = np.asarray(index, dtype=np.float64)
        world: NDArray[np.float64] = points @ self.affine[:3, :3].T + self.affine[:3, 3]
        return world

    def to_index(self, world_mm: ArrayLike) -> NDArray[np.float64]:
        """Fractional voxel indices of RAS points in mm, (..., 3)."""
        points = np.asarray(world_mm, dtype=np.float64) - self.affine[:3, 3]
        index: NDArray[np.float64] = np.linalg.solve(self.affine[:3, :3], points[..., None])[..., 0].astype(np.float64)
        return index

    def corners_mm(self) -> NDArray[np.float64]:
        """RAS mm of the eight outer voxel centres, (8, 3)."""
        ends = [(0, n - 1) for n in self.shape]
        return self.to_world(np.array(np.meshgrid(*ends, indexing="ij")).reshape(3, -1).T)

    def same_grid(self, other: Geometry) -> bool:
        """True when both have the same shape and no voxel lies elsewhere (`GRID_TOLERANCE_VOXELS`)."""
        if self.shape != other.shape:
            return False
        shift = np.abs(self.corners_mm() - other.corners_mm()).max()
        return bool(shift <= GRID_TOLERANCE_VOXELS * min(self.spacing_mm))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Geometry):
            return NotImplemented
        return self.shape == other.shape and bool((self.affine == other.affine).all())

    def __hash__(self) -> int:
        return hash((self.shape, self.affine.tobytes()))

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON: shape, spacing, orientation, affine."""
        return {
            "shape": list(self.shape),
            "spacing_mm": [round(s, 6) for s in self.spacing_mm],
            "orientation": self.orientation,
            "affine": [[float(v) for v in row] for row in self.affine],
        }
