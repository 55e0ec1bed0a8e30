"""What hollow organs hold: gas above, fluid below, stool, food, swallowed and excreted contrast.

Gut is cut into stretches that each hold one thing, with folds of the wall between them. Inside a stretch the patient,
who lies on the back, decides: gas gathers in front, down to a level that is flat.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special
from scipy.spatial import KDTree

from voxicon.synthesis.painting.canvas import AnyFloats, Canvas, Floats, Region

_GAS_HU = -950.0

_KINDS = ("gas", "fluid", "mush", "contrast", "collapsed")
"""What a stretch of gut may hold. ``mush`` is stool or food: mixed, speckled with gas."""

_GAS_SHARES = np.array([(0.75, 0.25), (0.06, 0.12), (0.08, 0.12), (0.12, 0.15), (-1, 0)])
"""Mean and SD of the share of a stretch of each kind that gas fills; below 0 is none."""

_TALL = 2.5
"""Stretches are so many times longer from back to front: what is light rises, whatever lies behind it."""

_FOLD_MM = 1.5
"""Thickness of the folds between stretches."""


@dataclass(frozen=True)
class _Habit:
    """How one organ tends to look.

    Attributes:
        wall_mm: Thinnest and thickest mean wall; a stretch without a wall has no folds either.
        stretch_ml: Volume that holds one thing.
        shares: Tendency to each of `_KINDS`.
    """

    wall_mm: tuple[float, float]
    stretch_ml: float
    shares: tuple[float, float, float, float, float]


_HABITS = {
    "stomach": _Habit((2.5, 5), 400, (0.8, 1.5, 2.0, 1.0, 0.5)),
    "duodenum": _Habit((1.5, 3), 15, (0.5, 2.0, 0.5, 1.0, 2.0)),
    "small_bowel": _Habit((1.2, 2.6), 18, (0.25, 2.5, 0.8, 1.5, 2.5)),
    "colon": _Habit((1.0, 2.5), 45, (1.5, 0.5, 2.8, 0.8, 0.6)),
    "rectum": _Habit((2, 4), 60, (1.0, 0.4, 1.6, 0.4, 1.5)),
    "esophagus": _Habit((2.5, 4.5), 6, (0.6, 0.3, 0.1, 0.1, 4.0)),
    "bowel_content": _Habit((0, 0), 30, (1.0, 1.5, 1.5, 1.0, 0.0)),
}


def paint_hollow(canvas: Canvas, region: Region) -> None:
    """A wall of the table's HU around stretches of gut that each hold something."""
    habit = _HABITS.get(region.name, _HABITS["small_bowel"])
    rng, spacing = canvas.rng, min(canvas.spacing_mm)
    wall_mm = rng.uniform(*habit.wall_mm) * np.clip(1 + 0.3 * canvas.noise(region, 12), 0.3, 2)
    wall = _wall(canvas, region, wall_mm)[region.mask] * (habit.wall_mm[1] > 0)
    stretch, fold_mm, seeds = _stretches(canvas, region, habit)
    fold = np.clip(0.5 + (_FOLD_MM / 2 - fold_mm) / spacing, 0, _FOLD_MM / max(spacing, _FOLD_MM))
    kinds = _kinds(canvas, habit, seeds)
    shares = rng.normal(*_GAS_SHARES[kinds].T)
    height = np.broadcast_to(canvas.coordinates_mm(region)[1], region.mask.shape)[region.mask]
    content = _content(canvas, region, kinds[stretch])
    for number, share in enumerate(shares):
        inside = np.flatnonzero((stretch == number) & (wall < 0.5))
        if share > 0 and len(inside):
            level = np.quantile(height[inside], 1 - min(share, 1))
            content[(stretch == number) & (height >= level)] = _GAS_HU
    part = canvas.hu[region.box]
    part[region.mask] += (1 - np.maximum(wall, fold * (habit.wall_mm[1] > 0))) * (content - part[region.mask])


def paint_bile(canvas: Canvas, region: Region) -> None:
    """A thin wall; stones at the bottom of a few."""
    rng = canvas.rng
    canvas.pull(region, _wall(canvas, region, rng.uniform(0.5, 2)), canvas.patient.mean_hu("duodenum"))
    if rng.uniform() < 0.12:
        low = _below(canvas, region, rng.uniform(0.1, 0.3), 1) * (canvas.noise(region, 6) > 0.3)
        canvas.pull(region, low, float(rng.uniform(60, 500)))


def paint_urine(canvas: Canvas, region: Region) -> None:
    """A wall of muscle; excreted contrast lies at the back of some."""
    rng = canvas.rng
    if canvas.patient.weights[0] < 0.5 and rng.uniform() < 0.2:
        share = _below(canvas, region, rng.uniform(0.05, 1), rng.uniform(1, 5))
        canvas.pull(region, share, float(rng.uniform(100, 800)))
    wall = _wall(canvas, region, rng.uniform(1.5, 4))
    canvas.pull(region, wall, canvas.patient.mean_hu("muscle") - 8)


def _stretches(canvas: Canvas, region: Region, habit: _Habit) -> tuple[NDArray[np.intp], Floats, Floats]:
    """Stretch of each voxel, its distance to the next stretch in mm, and (stretches, 3) where they are centered."""
    rng = canvas.rng
    places = np.argwhere(region.mask).astype(np.float32) * np.array(canvas.spacing_mm, dtype=np.float32)
    places += 4 * canvas.noise(region, 20)[region.mask][:, None]
    places[:, 1] /= _TALL
    volume_ml = len(places) * canvas.label_map.geometry.voxel_ml
    count = min(1 + int(rng.poisson(volume_ml / habit.stretch_ml)), len(places))
    seeds = places[rng.choice(len(places), size=count, replace=False)]
    if count == 1:
        return np.zeros(len(places), dtype=np.intp), np.full(len(places), np.inf, dtype=np.float32), seeds
    distance, nearest = KDTree(seeds).query(places, k=2)
    return nearest[:, 0], ((distance[:, 1] - distance[:, 0]) / 2).astype(np.float32), seeds


def _kinds(canvas: Canvas, habit: _Habit, seeds: Floats) -> NDArray[np.intp]:
    """What each stretch holds: neighbors often the same, all in proportions of this patient."""
    rng = canvas.rng
    chance = np.array(habit.shares) * (1, 1, 1, canvas.patient.oral_hu > 0, 1)
    shares = rng.gamma(chance)
    reach_mm = 2 * (1000 * habit.stretch_ml) ** (1 / 3)
    near = np.exp(-(np.linalg.norm(seeds[:, None] - seeds[None], axis=-1) ** 2) / reach_mm**2)
    rank = special.ndtr((near @ rng.standard_normal(len(seeds))) / np.linalg.norm(near, axis=1))
    order = rng.permutation(len(_KINDS))
    found = np.searchsorted(np.cumsum(shares[order])[:-1] / shares.sum(), rank, side="right")
    kinds: NDArray[np.intp] = order[found]
    return kinds


def _content(canvas: Canvas, region: Region, kind: NDArray[np.intp]) -> Floats:
    """HU of what fills each voxel of a region where it is not gas above a level."""
    rng, patient = canvas.rng, canvas.patient
    wall = patient.mean_hu(region.name)
    fluid = rng.uniform(0, 30)
    means = [fluid, fluid, rng.uniform(0, 60), patient.oral_hu, wall]
    rough = [5.0, 5.0, rng.uniform(15, 45), 0.12 * patient.oral_hu, 10.0]
    small = canvas.noise(region, 6)[region.mask]
    content = np.array(means, dtype=np.float32)[kind] + np.array(rough, dtype=np.float32)[kind] * small
    grain_mm = float(rng.uniform(4, 9))
    bubbles = np.clip(2 * (canvas.noise(region, grain_mm)[region.mask] - rng.uniform(0.3, 2.2)), 0, 1)
    share = bubbles * (kind == _KINDS.index("mush")) * rng.uniform(0.3, 1)
    filled: Floats = (content + share * (_GAS_HU - content)).astype(np.float32)
    return filled


def _wall(canvas: Canvas, region: Region, wall_mm: AnyFloats) -> Floats:
    """Share of each voxel in the box that the wall fills."""
    share: Floats = np.clip((wall_mm - canvas.inside_mm(region)) / min(canvas.spacing_mm) + 0.5, 0, 1)
    return share


def _below(canvas: Canvas, region: Region, share: float, soft_mm: float) -> Floats:
    """1 in the share of a region that lies lowest in a patient on the back, 0 above, softly."""
    height = canvas.coordinates_mm(region)[1]
    level = np.quantile(np.broadcast_to(height, region.mask.shape)[region.mask], share)
    below: Floats = special.expit((level - height) / soft_mm).astype(np.float32)
    return below
