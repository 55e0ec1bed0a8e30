"""Vessel trees of the liver: a portal tree from the hilum, three hepatic veins toward the caval vein.

A branch heads for the middle of the tissue it feeds, where that tissue is cut in two and each half gets a branch of
its own. So the tree fills the organ, whatever its shape, and never runs empty.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

PORTAL, HEPATIC = 1, 2
"""Values of the portal tree and of the hepatic veins in what `grow_vessels` returns."""

MURRAY = 3.0
"""Law of branching: r³ of a parent is the sum of r³ of its children. Source: Murray, PNAS 12(3), 1926."""

ROOT_RADIUS_MM = {PORTAL: (5.0, 7.0), HEPATIC: (3.8, 5.4)}
"""Radius at the root, smallest and largest. Source: portal trunk of 10-14 mm, hepatic veins of 7-11 mm in adults."""

_GENERATIONS = 10
_TAPER = 0.97
"""Radius at the end of a branch in terms of that at its start."""

_POINTS = 3000
"""Sampled places that want blood: about one in 0.4 ml of an adult liver, finer than the last branches reach."""

_SEEN = 0.4
"""Radius in voxels from which a vessel fills half of a voxel: its section π r² is then 0.5."""

Floats = NDArray[np.float64]
Root = Sequence[float]


@dataclass(frozen=True)
class _Organ:
    """A mask with, for every voxel outside, the nearest one inside."""

    mask: NDArray[np.bool_]
    spacing_mm: Floats
    nearest: NDArray[Any]

    @property
    def voxel_mm(self) -> float:
        """Edge of a cube as large as a voxel."""
        return float(np.cbrt(self.spacing_mm.prod()))

    @property
    def thinnest_mm(self) -> float:
        """Radius below which a branch does not show on this grid."""
        return _SEEN * self.voxel_mm

    def inside(self, points_mm: Floats) -> Floats:
        """The points, those outside moved to the nearest voxel of the organ."""
        index = np.clip(np.rint(points_mm / self.spacing_mm).astype(int), 0, np.array(self.mask.shape) - 1)
        out = ~self.mask[tuple(index.T)]
        moved = points_mm.copy()
        moved[out] = self.nearest[:, *index[out].T].T * self.spacing_mm
        return moved


@dataclass(frozen=True)
class _Growth:
    """What one tree is grown from: its organ, its source of randomness and the pieces grown so far."""

    organ: _Organ
    rng: np.random.Generator
    pieces: list[tuple[Floats, Floats]]
    """Points along each branch in mm, (n, 3), and the radius there in mm, (n,)."""


def grow_vessels(
    mask: NDArray[np.bool_],
    spacing_mm: Sequence[float],
    rng: np.random.Generator,
    roots: Mapping[str, Root] | None = None,
) -> NDArray[np.int16]:
    """Vessels inside a liver; without `roots` they start where they do in most people.

    Args:
        mask: (X, Y, Z) liver on a RAS-aligned grid.
        spacing_mm: Voxel size.
        rng: The same state grows the same trees.
        roots: Voxel index of where a tree starts: ``portal``, such as the end of the portal vein at the liver, and
            ``hepatic``, such as the caval vein behind the dome. The nearest voxel of the liver is taken.

    Returns:
        (X, Y, Z) int16: `PORTAL`, `HEPATIC`, else 0. All of one tree is one piece, and all of it lies in the mask.
        Branches of which a voxel holds less than half are left out. All 0 for an empty mask.
    """
    found = np.zeros(mask.shape, dtype=np.int16)
    if not mask.any():
        return found
    box = ndimage.find_objects(mask.astype(np.uint8))[0]
    inner, spacing = np.ascontiguousarray(mask[box]), np.asarray(spacing_mm, dtype=np.float64)
    nearest = ndimage.distance_transform_edt(~inner, sampling=spacing, return_distances=False, return_indices=True)
    organ = _Organ(inner, spacing, nearest)
    starts = _starts(organ, roots or {}, np.array([part.start for part in box]))
    places = np.argwhere(inner)[rng.integers(np.count_nonzero(inner), size=_POINTS)]
    places_mm = (places + rng.uniform(-0.5, 0.5, places.shape)) * spacing
    view = found[box]
    for kind in (HEPATIC, PORTAL):
        growth = _Growth(organ, rng, [])
        share = places_mm if kind == PORTAL else rng.permutation(places_mm)[: _POINTS // 2]
        territories = [share] if kind == PORTAL else _sectors(share, starts[kind])
        low, high = ROOT_RADIUS_MM[kind]
        # A small liver, such as a child's, has small vessels: the radius grows with the cube root of its volume.
        size = float(np.cbrt(np.count_nonzero(inner) * spacing.prod() / 1.4e6))
        radius = float(rng.uniform(low, high)) * min(max(size, 0.4), 1.2)
        for territory in territories:
            _branch(growth, territory, starts[kind], np.zeros(3), radius, _GENERATIONS)
        view[_rooted(_drawn(growth) & inner, starts[kind] / spacing)] = kind
    return found


def _starts(organ: _Organ, roots: Mapping[str, Root], corner: NDArray[Any]) -> dict[int, Floats]:
    """Roots in mm of the organ's box: those given, else medial and below for the portal vein, behind and above else."""
    points = np.argwhere(organ.mask) * organ.spacing_mm
    center, extent = points.mean(axis=0), np.ptp(points, axis=0)
    usual = {PORTAL: (-0.18, -0.08, -0.22), HEPATIC: (-0.22, -0.18, 0.32)}
    starts = {}
    for kind, name in ((PORTAL, "portal"), (HEPATIC, "hepatic")):
        if name in roots:
            wanted = (np.asarray(roots[name], dtype=np.float64) - corner) * organ.spacing_mm
        else:
            wanted = center + np.array(usual[kind]) * extent
        starts[kind] = organ.inside(_nearest_place(points, wanted)[None])[0]
    return starts


def _nearest_place(points: Floats, wanted: Floats) -> Floats:
    place: Floats = points[np.argmin(((points - wanted) ** 2).sum(axis=1))]
    return place


def _sectors(places_mm: Floats, start: Floats) -> list[Floats]:
    """Territories of the left, middle and right hepatic vein: equal shares by the angle around the caval vein."""
    away = places_mm - start
    angle = np.argsort(np.arctan2(away[:, 0], away[:, 1] - away[:, 2].min()), kind="stable")
    return [places_mm[part] for part in np.array_split(angle, 3)]


def _branch(
    growth: _Growth, places_mm: Floats, start: Floats, heading: Floats, radius_mm: float, generations: int
) -> None:
    """Grow one branch toward the middle of some places, and from its end two for the halves of them."""
    middle = places_mm.mean(axis=0)
    # A branch ends short of the middle: its children go there and beyond, on either side.
    reach = growth.rng.uniform(0.45, 0.7)
    end = growth.organ.inside((start + reach * (middle - start))[None])[0]
    taper = radius_mm * _TAPER
    points, leaving = _path(growth, start, end, heading)
    growth.pieces.append((points, np.linspace(radius_mm, taper, len(points))))
    if generations <= 1 or len(places_mm) < 6 or taper < growth.organ.thinnest_mm:
        return
    away = places_mm - end
    # Cut across the longest axis of the territory, a little askew: no two livers branch alike.
    axis = np.linalg.eigh(np.cov(away.T))[1][:, -1] + growth.rng.normal(0, 0.25, 3)
    along = away @ axis
    cut = np.quantile(along, growth.rng.uniform(0.36, 0.64))
    for half in (along <= cut, along > cut):
        share = float(half.mean())
        if share > 0:
            _branch(growth, places_mm[half], end, leaving, taper * share ** (1 / MURRAY), generations - 1)


def _path(growth: _Growth, start: Floats, end: Floats, heading: Floats) -> tuple[Floats, Floats]:
    """Points of a winding way every third of a voxel, and its direction at the end."""
    length = float(np.linalg.norm(end - start))
    step = float(growth.organ.spacing_mm.min()) / 3
    t = np.linspace(0, 1, max(2, int(np.ceil(1.3 * length / step)) + 1))[:, None]
    sway = growth.rng.normal(0, 0.08 * length, (2, 3))
    first = start + (end - start) / 3 + heading * length * 0.15 + sway[0]
    second = start + (end - start) * 2 / 3 + sway[1]
    curve = (1 - t) ** 3 * start + 3 * t * (1 - t) ** 2 * first + 3 * t**2 * (1 - t) * second + t**3 * end
    leaving = end - second
    return growth.organ.inside(curve), leaving / max(float(np.linalg.norm(leaving)), 1e-6)


def _rooted(drawn: NDArray[np.bool_], root: Floats) -> NDArray[np.bool_]:
    """The piece that the root is in: a branch that had to jump along a hollow of the organ may have come off."""
    pieces, _ = ndimage.label(drawn, np.ones((3, 3, 3)))
    number = pieces[tuple(np.rint(root).astype(int))]
    kept: NDArray[np.bool_] = pieces == number if number else np.zeros_like(drawn)
    return kept


def _drawn(growth: _Growth) -> NDArray[np.bool_]:
    """Voxels of which the branches of a tree fill at least half."""
    spacing, shape = growth.organ.spacing_mm, np.array(growth.organ.mask.shape)
    points = np.concatenate([piece[0] for piece in growth.pieces])
    radii = np.concatenate([piece[1] for piece in growth.pieces])
    voxel = growth.organ.voxel_mm
    drawn = np.zeros(growth.organ.mask.shape, dtype=bool)
    seen = radii >= growth.organ.thinnest_mm
    nearest = np.clip(np.rint(points[seen] / spacing).astype(int), 0, shape - 1)
    drawn[tuple(nearest.T)] = True
    # Radii in steps of a quarter voxel share one ball of neighbors.
    steps = np.ceil(radii / (voxel / 4)).astype(int)
    for level in np.unique(steps[radii >= voxel / 2]):
        chosen, radius = points[steps == level], (level - 0.5) * voxel / 4
        reach = np.ceil(radius / spacing).astype(int)
        ball = np.argwhere(np.ones(2 * reach + 1)) - reach
        index = np.rint(chosen / spacing).astype(int)[:, None] + ball[None]
        near = ((index * spacing - chosen[:, None]) ** 2).sum(axis=-1) <= radius**2
        hits = np.clip(index[near], 0, shape - 1)
        drawn[tuple(hits.T)] = True
    return drawn
