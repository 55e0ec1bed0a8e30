"""A body around given organs, where there is no CT to tell what it was.

A body is drawn out of nothing, fitted to the organs by a smooth map, and what it has of their kind gives way to them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from voxicon.synthesis.anatomy.naming import standard_name
from voxicon.synthesis.label_map import OUTSIDE, TISSUES, LabelMap
from voxicon.synthesis.phantom.body import draw_body

DRAWN_MM = 3.0
"""Spacing at which the body is drawn: finer details of an invented body mean nothing."""

FREE_VALUES = 200
"""An invented structure whose usual value a given one has, gets this much more."""

_ON_THE_SPINE = ("aorta", "inferior_vena_cava", "kidney_right", "kidney_left", "iliopsoas_right", "iliopsoas_left")
"""What lies close to the spine says best where it is from front to back."""

_FILLING = ("fat", "lung")
"""What spreads where an organ of the drawn body has given way."""

_WALL = ("rib", "vertebra", "hip", "sacrum", "femur", "sternum", "skin", "autochthon", "spinal_cord", "costal")
_SLOPES = (0.75, 1.35)
_REACH_MM = 60.0
_FARTHEST_MM = 18.0
_MARGIN_MM = 14.0
"""Skin, fat and muscle that at least cover an organ."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Landmarks:
    """Where a structure lies, world mm.

    Attributes:
        center: (3,) mean of its voxels.
        ends: (2, 3) tenth and ninetieth percentile along each axis.
        volume_ml: Its size.
    """

    center: Floats
    ends: Floats
    volume_ml: float


@dataclass(frozen=True)
class Fit:
    """World mm of the given organs → world mm of the drawn body: a stretch along each axis, and gentle pulls.

    Attributes:
        slopes: (3,) all above 0, so that no side is ever swapped.
        offsets_mm: (3,).
        anchors_mm: (n, 3) places with a pull, in the space of the organs.
        pulls_mm: (n, 3) added there after the stretch.
    """

    slopes: Floats
    offsets_mm: Floats
    anchors_mm: Floats
    pulls_mm: Floats

    def __call__(self, points_mm: Floats) -> Floats:
        """(..., 3) mm in the drawn body."""
        moved: Floats = points_mm * self.slopes + self.offsets_mm
        if not len(self.anchors_mm):
            return moved
        away = ((points_mm[..., None, :] - self.anchors_mm) ** 2).sum(axis=-1)
        weights = np.exp(-away / (2 * _REACH_MM**2))
        pull: Floats = (weights @ self.pulls_mm) / (weights.sum(axis=-1, keepdims=True) + 0.5)
        return moved + pull


def invent(label_map: LabelMap, rng: np.random.Generator) -> LabelMap:
    """The organs, untouched, within an invented body.

    Structures that the map has a name for are never invented, whether it has voxels of them or not: where the map could
    have said so and did not, there is none.

    Args:
        label_map: RAS-aligned, with at least one labeled voxel.
        rng: Draws the body.

    Returns:
        The same grid; what is not given has its usual value, or `FREE_VALUES` more where that is taken.
    """
    body = draw_body(rng, DRAWN_MM, "torso")
    fit = fitted(label_map, body)
    drawn = _looked_up(label_map, body, fit)
    code = {name: value for value, name in TISSUES.items()}
    given = label_map.values != OUTSIDE
    told = {standard_name(name) for value, name in label_map.names.items() if value not in TISSUES}
    if "liver" in told:
        told.add("hepatic_vessel")
    table = _renumbered(body.names, label_map.names)
    names = {**label_map.names, **TISSUES}
    translate = np.zeros(max(body.names) + 1, dtype=np.int16)
    for value, name in body.names.items():
        translate[value] = table[value]
        names.setdefault(table[value], name)
    gone = np.isin(drawn, [value for value, name in body.names.items() if name in told])
    values = translate[drawn]
    values = _covered(values, given, label_map.geometry.spacing_mm, code)
    soft = np.isin(values, [table[v] for v, n in body.names.items() if n.startswith(_FILLING)]) & ~given
    hole = gone & ~given
    if hole.any():
        values[hole] = _nearest(values, soft & ~gone, hole, label_map.geometry.spacing_mm, code["fat"])
    values[given] = label_map.values[given]
    used = set(np.unique(values).tolist())
    kept = {v: n for v, n in names.items() if v in used or v in label_map.names or v in TISSUES}
    return LabelMap(values.astype(np.int16), kept, label_map.geometry)


def fitted(label_map: LabelMap, body: LabelMap) -> Fit:
    """The map that brings given organs onto those of a drawn body, and holds them inside its wall."""
    given, drawn = landmarks(label_map), landmarks(body)
    common = sorted(given.keys() & drawn.keys())
    if not common:
        return _centered(label_map, body)
    slopes, offsets = np.ones(3), np.zeros(3)
    for axis in range(3):
        pairs = [_pairs(name, given[name], drawn[name], axis) for name in common]
        weights = np.concatenate([p[2] for p in pairs])
        slopes[axis], offsets[axis] = _line(
            np.concatenate([p[0] for p in pairs]), np.concatenate([p[1] for p in pairs]), weights
        )
    anchors = np.array([given[name].center for name in common])
    targets = np.array([drawn[name].center for name in common])
    pulls = np.clip(targets - (anchors * slopes + offsets), -_FARTHEST_MM, _FARTHEST_MM)
    pulls *= 0.7
    return _roomy(Fit(slopes, offsets, anchors, pulls), label_map, body, given)


def landmarks(label_map: LabelMap) -> dict[str, Landmarks]:
    """Standard name → where it lies, of all structures but tissues that have at least 0.5 ml; lobes joined to lungs."""
    boxes = ndimage.find_objects(label_map.values.astype(np.int32))
    found = {}
    for value, name in label_map.names.items():
        if value in TISSUES or value > len(boxes) or boxes[value - 1] is None:
            continue
        box = boxes[value - 1]
        index = np.argwhere(label_map.values[box] == value) + [part.start for part in box]
        volume = len(index) * label_map.geometry.voxel_ml
        if volume < 0.5:
            continue
        points = label_map.geometry.to_world(index)
        found[standard_name(name)] = Landmarks(points.mean(axis=0), np.quantile(points, (0.1, 0.9), axis=0), volume)
    return found


def _pairs(name: str, given: Landmarks, drawn: Landmarks, axis: int) -> tuple[Floats, Floats, Floats]:
    """Places along an axis that belong together, and how much they count."""
    where = [given.center[axis], *given.ends[:, axis]]
    goal = [drawn.center[axis], *drawn.ends[:, axis]]
    weight = min(given.volume_ml, 300.0) ** 0.5
    if axis == 1 and name in _ON_THE_SPINE:
        weight *= 4
    # Vessels and gut are cut by the ends of the scan: their length says nothing.
    shape = 0.0 if axis == 2 and name in ("aorta", "inferior_vena_cava", "esophagus") else 0.4
    return np.array(where), np.array(goal), weight * np.array([1.0, shape, shape])


def _line(where: Floats, goal: Floats, weights: Floats) -> tuple[float, float]:
    """Slope and offset of the weighted least squares line; the slope within what bodies differ by."""
    middle, target = np.average(where, weights=weights), np.average(goal, weights=weights)
    spread = np.average((where - middle) ** 2, weights=weights)
    # A prior of slope 1 that counts like points 15 mm apart, so that one small organ does not set the size.
    together = np.average((where - middle) * (goal - target), weights=weights)
    slope = float(np.clip((together + 15.0**2) / (spread + 15.0**2), *_SLOPES))
    return slope, float(target - slope * middle)


def _centered(label_map: LabelMap, body: LabelMap) -> Fit:
    """Nothing in common: the middle of the labels on the middle of the body."""
    middles = []
    for part in (label_map, body):
        index = np.argwhere(part.values != OUTSIDE)
        middles.append(part.geometry.to_world(index).mean(axis=0))
    return Fit(np.ones(3), middles[1] - middles[0], np.zeros((0, 3)), np.zeros((0, 3)))


def _roomy(fit: Fit, label_map: LabelMap, body: LabelMap, given: Mapping[str, Landmarks]) -> Fit:
    """A fit with a body just wide and deep enough to hold the organs within its ribs and muscles."""
    index = np.argwhere(label_map.values != OUTSIDE)
    points = label_map.geometry.to_world(index[:: max(1, len(index) // 20000)])
    wall = {n for n in body.names.values() if n.startswith(_WALL)}
    outer = body.mask(wall) | (body.values == OUTSIDE)
    spine = [given[name].center for name in _ON_THE_SPINE if name in given] or [points.mean(axis=0)]
    pivot = np.mean(spine, axis=0)
    best, least = fit, np.inf
    for wider in (1.0, 0.95, 0.9, 0.85, 0.8, 0.75):
        for deeper in (1.0, 0.95, 0.9, 0.85, 0.8, 0.75):
            factor = np.array([wider, deeper, 1.0])
            # Stretched about the spine, which stays where the vessels before it say.
            tried = Fit(
                fit.slopes * factor, fit.offsets_mm + fit.slopes * (1 - factor) * pivot, fit.anchors_mm, fit.pulls_mm
            )
            at = np.rint(body.geometry.to_index(tried(points))).astype(int)
            at = np.clip(at, 0, np.array(body.values.shape) - 1)
            cost = float(outer[tuple(at.T)].mean()) + 0.1 * (2 - wider - deeper)
            if cost < least:
                best, least = tried, cost
    return best


def _looked_up(label_map: LabelMap, body: LabelMap, fit: Fit) -> NDArray[np.int16]:
    """The drawn body on the grid of the organs; beyond its ends it goes on as it ends."""
    geometry = label_map.geometry
    step = [max(1, round(12.0 / s)) for s in geometry.spacing_mm]
    coarse = [np.arange(0, n + s, s) for n, s in zip(geometry.shape, step, strict=True)]
    # The map is smooth: it is worked out every 12 mm and read between.
    points = fit(geometry.to_world(np.stack(np.meshgrid(*coarse, indexing="ij"), axis=-1)))
    index = body.geometry.to_index(points)
    fine = np.stack(np.meshgrid(*(np.arange(n) / s for n, s in zip(geometry.shape, step, strict=True)), indexing="ij"))
    at = np.stack([ndimage.map_coordinates(index[..., a], fine, order=1, mode="nearest") for a in range(3)])
    nearest = np.rint(at).astype(int)
    limits = np.array(body.values.shape).reshape(3, 1, 1, 1)
    inside = ((nearest[:2] >= 0) & (nearest[:2] < limits[:2])).all(axis=0)
    nearest = np.clip(nearest, 0, limits - 1)
    return np.where(inside, body.values[tuple(nearest)], OUTSIDE).astype(np.int16)


def _renumbered(drawn: Mapping[int, str], given: Mapping[int, str]) -> dict[int, int]:
    """Drawn value → value in the new map: a given structure keeps its own, one of the same name shares it."""
    known = {name: value for value, name in given.items()}
    table = {}
    for value, name in drawn.items():
        if name in known:
            table[value] = known[name]
        else:
            table[value] = value if value not in given else value + FREE_VALUES
    return table


def _covered(
    values: NDArray[np.int16], given: NDArray[np.bool_], spacing_mm: tuple[float, ...], code: Mapping[str, int]
) -> NDArray[np.int16]:
    """The body with every organ under at least `_MARGIN_MM` of wall: an organ that sticks out pushes the skin out."""
    depth = ndimage.distance_transform_edt(~given, sampling=spacing_mm)
    bare = (values == OUTSIDE) | (values == code["skin"]) | (values == code["table"])
    new = values.copy()
    new[bare & (depth < _MARGIN_MM)] = code["skin"]
    new[bare & (depth < _MARGIN_MM - 3.0)] = code["fat"]
    new[bare & (depth < _MARGIN_MM - 7.0)] = code["muscle"]
    new[bare & (depth < 2.0)] = code["fat"]
    return new


def _nearest(
    values: NDArray[np.int16],
    sources: NDArray[np.bool_],
    holes: NDArray[np.bool_],
    spacing_mm: tuple[float, ...],
    otherwise: int,
) -> NDArray[np.int16]:
    """For every hole the value of the nearest source."""
    if not sources.any():
        return np.full(np.count_nonzero(holes), otherwise, dtype=np.int16)
    at = ndimage.distance_transform_edt(~sources, sampling=spacing_mm, return_distances=False, return_indices=True)
    found: NDArray[np.int16] = values[tuple(axis[holes] for axis in at)]
    return found
