"""How far apart the surfaces of two masks are: NSD at a tolerance, Hausdorff percentiles, mean distances.

A surface is seen as small pieces, one at every corner between eight voxels that are not all alike. A piece has the
area a marching-cubes surface has there and lies, for its distance, on the corner. Distances are measured once per
pair of masks; every number below is read from them.

Source: Nikolov et al., Clinically Applicable Segmentation of Head and Neck Anatomy, J Med Internet Res 2021; equal to
    the authors' package `surface-distance` 0.1 wherever that accepts the masks (tests/evaluate/test_surface.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from itertools import product

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import cKDTree

from voxicon.errors import ConfigError
from voxicon.evaluate.pair import Mask, State, check_pair, check_spacing, joint_box, state_of

Floats = NDArray[np.float64]
Spacing = tuple[float, float, float]
_Corner = tuple[int, int, int]

_CORNERS: tuple[_Corner, ...] = tuple((x, y, z) for x, y, z in product((0, 1), repeat=3))
_ALL_INSIDE = 255
_MOST_POLYGONS = 4

_NEAR_MM = 5.0
"""Up to here the other surface is sought in a tree of its pieces, beyond in a map of the whole box. The tree is several
times faster for masks that agree, but slower without bound for points far away, which all pieces are about as far from;
the map takes 12 bytes and 0.1 to 0.2 µs per voxel, whatever the masks."""
_DENSE = 0.05
"""Share of the box that are pieces above which no tree is built: the mask is noise."""


@dataclass(frozen=True, eq=False)
class Surface:
    """The pieces of one surface and how far each is from the other surface.

    Attributes:
        distances_mm: (N,) ascending; infinite where the other mask is empty.
        areas_mm2: (N,) in the same order.
    """

    distances_mm: Floats
    areas_mm2: Floats

    @property
    def area_mm2(self) -> float:
        """Area of the whole surface; 0.0 without a mask."""
        return float(self.areas_mm2.sum())

    @property
    def mean_mm(self) -> float:
        """Mean distance weighted by area; only where both masks have voxels."""
        return float((self.distances_mm * self.areas_mm2).sum() / self.areas_mm2.sum())

    def within_mm2(self, tolerance_mm: float) -> float:
        """Area at most that far from the other surface."""
        return float(self.areas_mm2[self.distances_mm <= tolerance_mm].sum())

    def percentile_mm(self, percent: float) -> float:
        """Smallest distance that at least `percent` of the area does not exceed; needs a surface."""
        share = np.cumsum(self.areas_mm2) / self.areas_mm2.sum()
        # The last share may round to just under 1.
        return float(self.distances_mm[min(int(np.searchsorted(share, percent / 100)), len(share) - 1)])


@dataclass(frozen=True, eq=False)
class SurfaceDistances:
    """The surfaces of a true and a predicted mask, each measured against the other.

    Attributes:
        state: Which of the masks have voxels; see `voxicon.evaluate.pair.State`.
        truth: Pieces of the true surface, with distances to the predicted one.
        predicted: Pieces of the predicted surface, with distances to the true one.
    """

    state: State
    truth: Surface
    predicted: Surface

    def nsd(self, tolerance_mm: float) -> float | None:
        """Normalized surface Dice: share of both surfaces' area that lies within a tolerance of the other.

        In [0, 1]; None when absent, 0.0 when missed or a false alarm.

        Raises:
            ConfigError: The tolerance is negative or not a number.
        """
        if not 0 <= tolerance_mm < np.inf:
            raise ConfigError(f"tolerance_mm {tolerance_mm}: expected 0 or more; 1 to 3 mm is usual for organs")
        if self.state == "absent":
            return None
        near_mm2 = self.truth.within_mm2(tolerance_mm) + self.predicted.within_mm2(tolerance_mm)
        return near_mm2 / (self.truth.area_mm2 + self.predicted.area_mm2)

    def hd(self, percentile: float = 95) -> float | None:
        """Robust Hausdorff distance in mm: the percentile of each direction, by area; the larger of the two.

        None unless both masks have voxels: a missed class is infinitely far, so count its state, do not average it.

        Raises:
            ConfigError: The percentile is not in (0, 100].
        """
        if not 0 < percentile <= 100:
            raise ConfigError(
                f"percentile {percentile}: expected above 0 and at most 100; 95 is usual, 100 the maximum"
            )
        if self.state != "scored":
            return None
        return max(self.truth.percentile_mm(percentile), self.predicted.percentile_mm(percentile))

    def assd(self) -> float | None:
        """Average symmetric surface distance in mm: the mean over both surfaces together, weighted by area.

        None unless both masks have voxels.

        Source: Maier-Hein et al., Metrics Reloaded, Nature Methods 2024 (ASSD; the mean of the two directions'
            means would be MASD). The directions alone are `truth.mean_mm` and `predicted.mean_mm`.
        """
        if self.state != "scored":
            return None
        total_mm2 = self.truth.area_mm2 + self.predicted.area_mm2
        return (self.truth.mean_mm * self.truth.area_mm2 + self.predicted.mean_mm * self.predicted.area_mm2) / total_mm2


def surface_distances(truth: Mask, predicted: Mask, spacing_mm: Spacing) -> SurfaceDistances:
    """Measure two surfaces against each other, once for all measures.

    Outside the grid there is no mask, so an organ cut off by the scan has a surface at the cut. Time goes with the
    number of surface pieces, and for pieces more than 5 mm apart with the box around both masks.

    Args:
        truth: (X, Y, Z) bool.
        predicted: (X, Y, Z) bool on the same grid.
        spacing_mm: Voxel size along X, Y, Z.

    Raises:
        BadGeometry: The shapes differ, or the spacing is not three sizes.
        InputError: A mask is not boolean.
    """
    check_pair(truth, predicted)
    check_spacing(spacing_mm)
    box = joint_box(truth, predicted)
    if box is None:
        nothing = Surface(np.empty(0), np.empty(0))
        return SurfaceDistances("absent", nothing, nothing)
    areas_mm2 = surface_areas_mm2(spacing_mm)
    true_codes, predicted_codes = _codes(truth[box]), _codes(predicted[box])
    state = state_of(int(true_codes.any()), int(predicted_codes.any()))
    return SurfaceDistances(
        state,
        _measure(true_codes, predicted_codes, areas_mm2, spacing_mm),
        _measure(predicted_codes, true_codes, areas_mm2, spacing_mm),
    )


def surface_areas_mm2(spacing_mm: Spacing) -> Floats:
    """Area of the surface inside a cube of eight voxel centers, for each of the 256 ways to be inside or outside.

    Bit *n* of the index (256,) is set when the voxel at corner *n* is inside, corners counted with Z fastest.
    All inside and all outside have area 0.
    """
    x, y, z = spacing_mm
    areas: Floats = np.linalg.norm(_area_vectors() * (y * z, x * z, x * y), axis=-1).sum(axis=-1)
    return areas


@cache
def _area_vectors() -> Floats:
    """(256, 4, 3): for every code the area vectors of its polygons, signs dropped, on a cube of edge 1."""
    table = np.zeros((_ALL_INSIDE + 1, _MOST_POLYGONS, 3))
    for code in range(1, _ALL_INSIDE):
        inside = [corner for bit, corner in enumerate(_CORNERS) if code >> bit & 1]
        if len(inside) > 4:  # the same surface, seen from its other side
            inside = [corner for corner in _CORNERS if corner not in inside]
        vectors = [vector for piece in _pieces(inside) for vector in _polygons(piece)]
        table[code, : len(vectors)] = vectors
    return table / 8


def _pieces(corners: list[_Corner]) -> list[list[_Corner]]:
    """Corners grouped so that those joined by cube edges are together; each group has a surface of its own."""
    pieces: list[list[_Corner]] = []
    for corner in corners:
        touching = [piece for piece in pieces if any(_is_edge(corner, other) for other in piece)]
        pieces = [piece for piece in pieces if piece not in touching] + [sum(touching, [corner])]
    return pieces


def _polygons(piece: list[_Corner]) -> list[NDArray[np.int_]]:
    """Area vectors, in eighths of a unit face, of the surface that cuts off a piece of at most four corners.

    The surface runs through the middles of the cube's edges. Where these do not lie in one plane there are several
    ways to span it; those of the source below are taken.

    Source: Lorensen and Cline, Marching Cubes, SIGGRAPH 1987, the cases of one to four joined corners.
    """
    edges = [(a, b) for i, a in enumerate(piece) for b in piece[i + 1 :] if _is_edge(a, b)]
    along = np.sum([np.abs(np.subtract(a, b)) for a, b in edges], axis=0) if edges else np.zeros(3, dtype=int)
    diagonal, across = np.ones(3, dtype=int), (along == 0).astype(int)
    if len(piece) == 1:
        return [diagonal]
    if len(piece) == 2:
        return [2 * across, 2 * across]
    if len(piece) == 3:
        return [4 * across, diagonal, 2 * diagonal]
    if len(edges) == 4:  # a face
        return [4 * across, 4 * across]
    degrees = {corner: sum(corner in edge for edge in edges) for corner in piece}
    if max(degrees.values()) == 3:  # a corner and its three neighbors
        return [diagonal, diagonal, 2 * diagonal, 2 * diagonal]
    inner = next((a, b) for a, b in edges if degrees[a] == degrees[b] == 2)  # the middle of a path along X, Y and Z
    first, last = (axis for axis in range(3) if inner[0][axis] == inner[1][axis])
    unit = np.eye(3, dtype=int)
    return [diagonal, 3 * diagonal, 2 * (diagonal - unit[first]), 2 * (diagonal - unit[last])]


def _is_edge(a: _Corner, b: _Corner) -> bool:
    return sum(abs(i - j) for i, j in zip(a, b, strict=True)) == 1


def _codes(mask: Mask) -> NDArray[np.uint8]:
    """(X + 1, Y + 1, Z + 1): for every corner between voxels which of the eight around it are inside."""
    padded = np.pad(mask, 1).view(np.uint8)
    x, y, z = (size + 1 for size in mask.shape)
    codes = np.zeros((x, y, z), dtype=np.uint8)
    for bit, (i, j, k) in enumerate(_CORNERS):
        codes |= padded[i : i + x, j : j + y, k : k + z] << np.uint8(bit)
    return codes


def _measure(
    codes: NDArray[np.uint8], other_codes: NDArray[np.uint8], areas_mm2: Floats, spacing_mm: Spacing
) -> Surface:
    """The pieces of one surface, nearest to the other first."""
    is_piece, is_other = ((each != 0) & (each != _ALL_INSIDE) for each in (codes, other_codes))
    pieces = np.argwhere(is_piece)
    areas = areas_mm2[codes[is_piece]]
    distances = np.zeros(len(pieces))
    # Where the surfaces coincide nothing is to be searched; for good masks that is most of them.
    apart = ~is_other[is_piece]
    distances[apart] = _nearest_mm(pieces[apart], is_other, spacing_mm)
    order = np.lexsort((areas, distances))
    return Surface(distances[order], areas[order])


def _nearest_mm(points: NDArray[np.intp], is_other: Mask, spacing_mm: Spacing) -> Floats:
    """Distance of every index (N, 3) to the nearest marked voxel; infinite when none is marked."""
    others = np.argwhere(is_other)
    if not len(others) or not len(points):
        return np.full(len(points), np.inf)
    sizes_mm = np.asarray(spacing_mm)
    nearest, far = np.empty_like(points), np.ones(len(points), dtype=bool)
    if len(others) < _DENSE * is_other.size:
        # Sliding midpoints, since a median split of points on a grid meets many equal coordinates.
        tree = cKDTree(others * sizes_mm, balanced_tree=False)
        _, found = tree.query(points * sizes_mm, distance_upper_bound=_NEAR_MM)
        far = found == len(others)
        nearest[~far] = others[found[~far]]
    if far.any():
        features = ndimage.distance_transform_edt(
            ~is_other, sampling=spacing_mm, return_distances=False, return_indices=True
        )
        nearest[far] = features[:, *points[far].T].T
    # From whole-voxel offsets, so that three voxels of 1 mm are 3 mm to the last bit wherever they lie.
    distances: Floats = np.linalg.norm((points - nearest) * sizes_mm, axis=1)
    return distances
