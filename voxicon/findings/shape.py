"""Lengths of one mask in mm: exact on its voxels, oblique grids included.

A diameter runs between centers of voxel faces: n voxels in a row measure n spacings, one voxel its longest side.
Between voxel centers the same row would measure a spacing less; between voxel corners a ball would measure about one
voxel's diagonal too much.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import ConvexHull
from scipy.spatial.distance import pdist, squareform

from voxicon.core.components import Box, Mask
from voxicon.core.geometry import Geometry
from voxicon.findings.finding import Finding, Point

Points = NDArray[np.float64]


@dataclass(frozen=True)
class AxialDiameters(Finding):
    """The longest diameter in any axial slice and the longest one across it.

    Attributes:
        longest_mm: Longest line between face centers of one cross-section, over all slices. It may leave a hollow one.
        longest_ends_mm: Its two ends, RAS.
        perpendicular_mm: Longest line at right angles to it, in the convex hull of the same cross-section.
        perpendicular_ends_mm: Its two ends, RAS.
        slice_index: Of the scan, along the voxel axis that runs closest to S-I.
    """

    longest_mm: float
    longest_ends_mm: tuple[Point, Point]
    perpendicular_mm: float
    perpendicular_ends_mm: tuple[Point, Point]
    slice_index: int


def cropped(geometry: Geometry, box: Box) -> Geometry:
    """The grid of a box that is not empty: voxels stay where they are."""
    affine = geometry.affine.copy()
    affine[:3, 3] = geometry.to_world([side.start for side in box])
    x, y, z = (side.stop - side.start for side in box)
    return Geometry((x, y, z), affine)


def line_ends(mask: NDArray[np.bool_]) -> NDArray[np.intp]:
    """First and last voxel of every line along the last axis, (n, axes); their convex hull is that of the mask."""
    lines = mask.reshape(-1, mask.shape[-1])
    rows = np.flatnonzero(lines.any(axis=1))
    filled = lines[rows]
    across = np.stack(np.unravel_index(rows, mask.shape[:-1]), axis=1)
    ends = filled.argmax(axis=1), filled.shape[1] - 1 - filled[:, ::-1].argmax(axis=1)
    return np.concatenate([np.column_stack((across, end)) for end in ends])


def face_centers(mask: NDArray[np.bool_]) -> Points:
    """Voxel indices (n, axes) of face centers whose convex hull is that of all face centers of the mask."""
    steps = np.concatenate((np.eye(mask.ndim), -np.eye(mask.ndim))) / 2
    return np.unique((line_ends(mask)[:, None, :] + steps).reshape(-1, mask.ndim), axis=0)


def center_mm(mask: Mask, geometry: Geometry) -> Point:
    """Center of mass of a mask that is not empty, RAS mm."""
    others = ((1, 2), (0, 2), (0, 1))
    counts = [mask.sum(axis=axes) for axes in others]
    return _point(geometry.to_world([float(np.average(np.arange(len(c)), weights=c)) for c in counts]))


def bounds_mm(mask: Mask, geometry: Geometry) -> tuple[Point, Point]:
    """Smallest and largest R, A and S of a mask that is not empty, to the outer corners of its voxels."""
    centers = geometry.to_world(line_ends(mask))
    reach = np.abs(geometry.affine[:3, :3]).sum(axis=1) / 2
    return _point(centers.min(axis=0) - reach), _point(centers.max(axis=0) + reach)


def longest_diameter_mm(mask: Mask, geometry: Geometry) -> float:
    """Longest line between face centers in any direction, of a mask that is not empty."""
    points = geometry.to_world(face_centers(mask))
    return float(pdist(points[ConvexHull(points).vertices]).max())


def axial_diameters(mask: Mask, geometry: Geometry, first_slice: int = 0) -> AxialDiameters:
    """Longest axial diameter and its longest perpendicular, of a mask that is not empty.

    Axial slices are those of the voxel axis that runs closest to S-I, as a reader scrolls them. Where a slice cuts
    the mask into pieces that do not touch, each is measured for itself. Exact: every pair of hull corners is compared.

    Args:
        mask: (X, Y, Z), cropped or not.
        geometry: Its grid.
        first_slice: Index in the scan of the mask's first slice.

    Source: the longest diameter in the plane of acquisition, RECIST 1.1 (Eisenhauer et al., Eur J Cancer 2009); the
        longest perpendicular to it, WHO criteria (Miller et al., Cancer 1981).
    """
    axis = geometry.axis_order[2][0]
    first, second = (a for a in range(3) if a != axis)
    slices = np.moveaxis(mask, axis, 0)
    # In-plane mm from in-plane indices; the triangle keeps lengths and angles also where the grid is sheared.
    to_mm = np.linalg.qr(geometry.affine[:3, [first, second]])[1]
    limits = _limits(slices, to_mm)
    best: tuple[float, int, Points] = (-1.0, 0, np.empty((0, 2)))
    for number in np.argsort(-limits, kind="stable"):
        if limits[number] <= best[0]:
            break
        for hull in _hulls(slices[number], to_mm):
            best = max(best, (_longest(hull)[0], int(number), hull), key=lambda found: found[0])
    length, number, hull = best
    ends = hull[list(_longest(hull)[1:])]
    across = _perpendicular(hull, ends)
    index = np.empty((4, 3))
    index[:, [first, second]] = np.linalg.solve(to_mm, np.concatenate((ends, across)).T).T
    index[:, axis] = number
    a, b, c, d = (_point(point) for point in geometry.to_world(index))
    return AxialDiameters(length, (a, b), float(np.linalg.norm(across[1] - across[0])), (c, d), first_slice + number)


def _limits(slices: Mask, to_mm: Points) -> Points:
    """For each slice a length in mm that no line in it exceeds; 0 for an empty one."""
    sides = []
    for other in (2, 1):
        filled = np.any(slices, axis=other)
        last = filled.shape[1] - filled[:, ::-1].argmax(axis=1)
        sides.append(np.where(filled.any(axis=1), last - filled.argmax(axis=1), 0))
    gram = np.abs(to_mm.T @ to_mm)
    a, b = sides
    limits: Points = np.sqrt(gram[0, 0] * a**2 + gram[1, 1] * b**2 + 2 * gram[0, 1] * a * b)
    return limits


def _hulls(plane: NDArray[np.bool_], to_mm: Points) -> list[Points]:
    """Corners of the convex hull of each piece of a slice, in-plane mm."""
    labels: NDArray[Any]
    labels, count = ndimage.label(plane, structure=np.ones((3, 3)))
    hulls = []
    for number in range(1, count + 1):
        points = face_centers(labels == number) @ to_mm.T
        hulls.append(points[ConvexHull(points).vertices])
    return hulls


def _longest(hull: Points) -> tuple[float, int, int]:
    distances = squareform(pdist(hull))
    i, j = np.unravel_index(int(distances.argmax()), distances.shape)
    return float(distances[i, j]), int(i), int(j)


def _perpendicular(hull: Points, ends: Points) -> Points:
    """Ends (2, 2) of the longest chord of a convex polygon at right angles to its diameter."""
    along = (ends[1] - ends[0]) / np.linalg.norm(ends[1] - ends[0])
    turned = np.array([along, [-along[1], along[0]]])
    t, w = ((hull - ends[0]) @ turned.T).T
    # The diameter splits the corners into an upper and a lower chain, each a function of t; the length of a chord is
    # linear between corners, so the longest one passes through a corner.
    w = np.where((t <= t.min()) | (t >= t.max()), 0.0, w)
    chains = []
    for side in (w >= 0, w <= 0):
        order = np.argsort(t[side])
        chains.append(np.interp(t, t[side][order], w[side][order]))
    widest = int((chains[0] - chains[1]).argmax())
    chord: Points = ends[0] + np.array([[t[widest], chains[1][widest]], [t[widest], chains[0][widest]]]) @ turned
    return chord


def _point(values: NDArray[np.float64]) -> Point:
    x, y, z = (float(value) for value in values)
    return x, y, z
