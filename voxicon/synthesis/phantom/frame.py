"""The plan of a body: its outlines level by level, its spine, its diaphragm, and how it is warped onto a grid.

Body millimeters: x to the patient's right, y to the front, z to the head, the origin in the middle of the body of the
first lumbar vertebra of an average adult. Everything is drawn in these, and one smooth warp makes each patient.

Source: positions and sizes are rounded from normal adult anatomy (Gray's Anatomy, 41st edition, chapters on thorax,
abdomen and pelvis) and checked against the two labeled torso CTs of the tests; own choice where those leave room.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib import resources

import numpy as np
import yaml
from numpy.typing import ArrayLike, NDArray

from voxicon.synthesis.label_map import TISSUES
from voxicon.synthesis.phantom.shapes import Canvas, Floats, Solid, boundless, slab, smooth_noise

LEVELS_MM = {
    "C5": 313, "C6": 296, "C7": 279, "T1": 262, "T2": 244, "T3": 226, "T4": 207, "T5": 187, "T6": 166, "T7": 145,
    "T8": 123, "T9": 101, "T10": 79, "T11": 55, "T12": 29, "L1": 0, "L2": -33, "L3": -67, "L4": -102, "L5": -136,
    "S1": -162,
}  # fmt: skip
"""Height of the middle of each vertebral body, body mm."""

_SPINE_YZ = np.array([
    (-345, -60), (-275, -42), (-255, -56), (-225, -58), (-195, -38), (-162, -9), (-136, 8), (-102, 15), (-67, 15),
    (-33, 8), (0, 0), (29, -8), (55, -17), (79, -25), (101, -31), (123, -34), (145, -34), (166, -31), (187, -26),
    (207, -19), (226, -11), (244, -2), (262, 8), (279, 17), (296, 22), (340, 24),
], dtype=np.float32)  # fmt: skip

# z, half width, half depth, middle behind the middle of the vertebral body
_BACK_MUSCLE = np.array([
    (-185, 16, 10, -22), (-150, 28, 17, -40), (-102, 38, 22, -52), (-67, 39, 24, -55), (0, 36, 22, -55),
    (55, 29, 16, -51), (101, 24, 13, -48), (187, 23, 12, -47), (244, 25, 14, -45), (290, 27, 18, -42),
], dtype=np.float32)  # fmt: skip

# z, half width, front, back
_CAVITY = np.array([
    (-345, 20, 10, -20), (-305, 45, 50, -50), (-270, 66, 66, -74), (-230, 84, 78, -82), (-180, 112, 92, -74),
    (-140, 124, 99, -60), (-100, 127, 106, -50), (-60, 129, 110, -50), (-20, 131, 113, -56), (20, 133, 115, -65),
    (60, 131, 113, -71), (100, 127, 109, -74), (140, 119, 103, -72), (170, 110, 97, -66), (200, 98, 90, -55),
    (225, 82, 83, -42), (245, 64, 76, -25), (262, 42, 66, 2), (275, 22, 52, 20), (340, 10, 45, 25),
], dtype=np.float32)  # fmt: skip
_CORE = np.array([
    (-345, 158, 78, -84), (-310, 160, 80, -92), (-270, 162, 85, -102), (-230, 159, 94, -104), (-180, 149, 104, -100),
    (-140, 141, 110, -95), (-100, 140, 116, -88), (-60, 143, 121, -87), (-20, 147, 125, -90), (20, 149, 127, -95),
    (60, 148, 127, -100), (100, 145, 124, -103), (140, 142, 119, -103), (170, 140, 114, -101), (200, 137, 107, -95),
    (225, 126, 99, -86), (245, 104, 90, -76), (262, 80, 82, -66), (285, 60, 76, -55), (340, 58, 74, -52),
], dtype=np.float32)  # fmt: skip

FAT = ("fat",)


@cache
def structure_names() -> dict[int, str]:
    """Value → name: the structures of TotalSegmentator under its own ids, and `TISSUES`.

    Read from the dataset card of a CT labeled that way, so that the package has one list of them.
    """
    card = resources.files("voxicon").joinpath("data/cards/chest_abdomen.yaml").read_text(encoding="utf-8")
    return {**yaml.safe_load(card)["raw"], **TISSUES}


@dataclass(frozen=True)
class Outline:
    """A closed curve per height: half a superellipse in front, half behind.

    Attributes:
        rows: (K, 4) z, half width, front, back in body mm, z rising.
        exponent: 2 is an ellipse, more is squarer.
    """

    rows: NDArray[np.float32]
    exponent: float = 2.3

    def ratio(self, x: Floats, y: Floats, z: Floats) -> Floats:
        """0 on the axis, 1 on the outline."""
        width, front, back = (np.interp(z, self.rows[:, 0], self.rows[:, i]).astype(np.float32) for i in (1, 2, 3))
        depth = (y - (front + back) / 2) / ((front - back) / 2)
        value: Floats = (np.abs(x / width) ** self.exponent + np.abs(depth) ** self.exponent) ** (1 / self.exponent)
        return value

    def field(self, x: Floats, y: Floats, z: Floats) -> Floats:
        """Distance to the outline along the ray from the axis, negative inside, mm."""
        middle = np.interp(z, self.rows[:, 0], (self.rows[:, 2] + self.rows[:, 3]) / 2).astype(np.float32)
        ratio = np.maximum(self.ratio(x, y, z), np.float32(1e-3))
        value: Floats = np.hypot(x, y - middle) * (1 - 1 / ratio)
        return value

    def front(self, z: float) -> float:
        """Where the outline crosses the midline in front: its y, mm."""
        return float(np.interp(z, self.rows[:, 0], self.rows[:, 2]))

    def width(self, z: float) -> float:
        """Half width."""
        return float(np.interp(z, self.rows[:, 0], self.rows[:, 1]))

    def grown(self, width: float, front: float, back: float) -> Outline:
        """The same outline with the sides, front and back moved outward by some mm."""
        return Outline(self.rows + np.array([0, width, front, -back], dtype=np.float32), self.exponent)


@dataclass(frozen=True)
class Plan:
    """What is drawn before the first organ: who this is and which shells hold the organs."""

    female: bool
    arms_down: bool
    obesity: float
    """0 thin to 1 obese."""
    bulk: float
    """Thickness of muscles, 1 on average."""
    cavity: Outline
    core: Outline
    skin: Outline
    fat_mm: tuple[float, float, float]
    """Subcutaneous fat at the side, in front, behind."""
    dome_mm: tuple[float, float, float]
    """Height of the diaphragm on the left, in the middle, on the right."""
    view_mm: tuple[float, float]
    """Lowest and highest z in view."""

    def diaphragm(self, x: Floats, y: Floats, z: Floats) -> Floats:
        """Height above the diaphragm, mm: negative in the abdomen."""
        left, middle, right = self.dome_mm
        top = np.full_like(x, middle - 3)
        for side, height in ((60, right), (-62, left)):
            bump = ((x - side) / 50) ** 2 + ((y - 12) / 64) ** 2
            top += (height - middle + 3) * np.exp(-(bump**1.4))
        u = np.minimum(self.cavity.ratio(x, y, z), 1.1)
        angle = np.arctan2(y - 15, np.abs(x) + 1)  # -90 degrees behind, 90 in front
        rim = np.interp(angle, (-1.57, -0.6, 0, 0.7, 1.57), (-4, 0, 14, 38, 62))
        value: Floats = (z - top + np.maximum(top - rim, 0) * u**5).astype(np.float32)
        return value

    def below_diaphragm(self, gap_mm: float) -> Solid:
        """The half space below the diaphragm, by a gap."""
        return boundless(lambda x, y, z: self.diaphragm(x, y, z) + np.float32(gap_mm))

    def wall(self, x: Floats, y: Floats, z: Floats) -> Floats:
        """Distance to the wall of chest and belly, negative inside; the muscles of the back bulge into it."""
        return np.maximum(self.cavity.field(x, y, z), 3 - self.back_muscle(np.abs(x), y, z))

    def back_muscle(self, x: Floats, y: Floats, z: Floats) -> Floats:
        """Field of the right muscle column beside the spine."""
        rows = _BACK_MUSCLE
        width, depth, middle = (np.interp(z, rows[:, 0], rows[:, i]).astype(np.float32) for i in (1, 2, 3))
        u = np.abs(x - 4 - width * self.bulk) / (width * self.bulk)
        v = np.abs(y - spine_y_at(z) - middle) / (depth * self.bulk)
        value: Floats = (np.sqrt(u**2.4 + v**2.4) - 1) * depth
        return value

    def back(self, side: float) -> Solid:
        """The muscle column on the right (1) or left (-1) of the spine."""
        return slab(-180, 310, lambda x, y, z: self.back_muscle(x * np.float32(side), y, z))

    def in_cavity(self, gap_mm: float) -> Solid:
        """What lies inside the wall of chest and belly, by a gap."""
        return boundless(lambda x, y, z: self.wall(x, y, z) + np.float32(gap_mm))


@dataclass
class Scene:
    """One body in the making."""

    rng: np.random.Generator
    plan: Plan
    canvas: Canvas

    def shift(self, spread_mm: float) -> NDArray[np.float64]:
        """A random offset of a whole organ."""
        return np.clip(self.rng.normal(size=3), -2, 2) * spread_mm

    def scale(self, spread: float) -> float:
        """A random factor around 1, at most two spreads off."""
        return float(np.exp(np.clip(self.rng.normal(), -2, 2) * spread))

    def knots(self, rows: ArrayLike, spread_mm: float = 2.0) -> NDArray[np.float64]:
        """Knots of a curve, (K, 3 or 4), every one moved a little; radii vary together by a tenth."""
        knots = np.array(rows, dtype=np.float64)
        knots[:, :3] += self.shift(spread_mm) + np.clip(self.rng.normal(size=(len(knots), 3)), -2, 2) * spread_mm / 2
        if knots.shape[1] > 3:
            knots[:, 3] *= self.scale(0.1)
        return knots


def spine_y(z: float) -> float:
    """How far in front the middle of the vertebral bodies lies at a height, mm."""
    return float(np.interp(z, _SPINE_YZ[:, 0], _SPINE_YZ[:, 1]))


def spine_y_at(z: Floats) -> Floats:
    """`spine_y` for many heights."""
    value: Floats = np.interp(z, _SPINE_YZ[:, 0], _SPINE_YZ[:, 1]).astype(np.float32)
    return value


REGIONS: dict[str, tuple[tuple[float, float], tuple[float, float]]] = {
    "torso": ((-345, -310), (265, 300)),
    "chest": ((-40, 30), (262, 300)),
    "abdomen": ((-200, -120), (85, 140)),
    "pelvis": ((-345, -310), (-90, -20)),
}
"""Region → lowest and highest end of its lower cut, and of its upper cut, body mm."""


def draw_plan(rng: np.random.Generator, region: str) -> Plan:
    """A patient: sex, habitus, arms, breath and field of view."""
    obesity = float(rng.beta(1.3, 1.8))
    female = bool(rng.random() < 0.5)
    (low, low_to), (high, high_to) = REGIONS[region]
    belly = np.array([1 - abs(z + 60) / 190 for z in _CAVITY[:, 0]]).clip(0, 1) ** 0.7
    inner, outer = _CAVITY.copy(), _CORE.copy()
    for rows, weight in ((inner, belly), (outer, np.interp(_CORE[:, 0], _CAVITY[:, 0], belly))):
        rows[:, 1] += weight * (obesity - 0.3) * 16
        rows[:, 2] += weight * (obesity - 0.35) * 60
    side = 4 + 40 * obesity ** rng.uniform(0.8, 1.6) * rng.uniform(0.5, 1.1)
    fat = (side, side * rng.uniform(0.7, 1.3), side * rng.uniform(0.7, 1.2))
    right = rng.normal(83, 10)
    core = Outline(outer, rng.uniform(2.2, 2.5))
    skin = core.grown(*fat)
    hips = (10 if female else 4) + 12 * obesity
    skin.rows[:, 1] += np.interp(skin.rows[:, 0], (-320, -230, -110, 100, 225, 262), (hips, hips, 0, 0, -2, -side + 4))
    skin.rows[:, 2] -= np.interp(skin.rows[:, 0], (80, 160, 262), (0, 0.4, 0.8)) * fat[1]
    return Plan(
        female=female,
        arms_down=bool(rng.random() < 0.2),
        obesity=obesity,
        bulk=float(np.exp(np.clip(rng.normal(), -2, 2) * 0.1)) * (0.94 if female else 1.04),
        cavity=Outline(inner, rng.uniform(2.15, 2.45)),
        core=core,
        skin=skin,
        fat_mm=fat,
        dome_mm=(right - rng.uniform(4, 18), right - rng.uniform(16, 26), right),
        view_mm=(rng.uniform(low, low_to), rng.uniform(high, high_to)),
    )


def lay_grid(rng: np.random.Generator, plan: Plan, spacing_mm: float) -> tuple[Canvas, NDArray[np.float64]]:
    """A blank canvas whose voxels know their place in the body, and the grid's affine.

    Size, proportions, tilt, stoop and a smooth warp of this patient are all in those places.
    """
    size = np.exp(np.clip(rng.normal(size=3), -2, 2) * (0.045, 0.045, 0.035) + np.clip(rng.normal(), -2, 2) * 0.04)
    size *= 1.0 if plan.female else 1.05
    half_width = float(plan.skin.rows[:, 1].max()) + (95 if plan.arms_down else 0)
    low = np.array([-half_width - 15, float(plan.skin.rows[:, 3].min()) - 60, plan.view_mm[0]]) * size
    high = np.array([half_width + 15, float(plan.skin.rows[:, 2].max()) + 30, plan.view_mm[1]]) * size
    shape = np.maximum(np.round((high - low) / spacing_mm).astype(int), 8)
    affine = np.diag([spacing_mm] * 3 + [1.0])
    affine[:3, 3] = low
    x, y, z = (
        (low[i] + spacing_mm * np.arange(n, dtype=np.float32)).reshape([-1 if j == i else 1 for j in range(3)])
        for i, n in enumerate(shape)
    )
    angles = np.deg2rad(np.clip(rng.normal(size=3), -2, 2) * (2, 2, 3))
    a, b, c = (np.float32(angle) for angle in angles)
    # Rotations of a few degrees: the linear terms are enough.
    turned = (x - c * y + b * z, y + c * x - a * z, z - b * x + a * y)
    stoop = np.float32(rng.normal(0, 0.12)) * ((z / 100) ** 2 * 10).astype(np.float32)
    where = []
    for axis, place in enumerate(turned):
        warp = smooth_noise(rng, shape, spacing_mm, 190) * np.float32((6, 5, 8)[axis])
        warp += smooth_noise(rng, shape, spacing_mm, 45) * np.float32(rng.uniform(0.6, 1.3))
        where.append(place / np.float32(size[axis]) + warp + (stoop if axis == 1 else 0))
    ids = {name: value for value, name in structure_names().items()}
    return Canvas(where, ids, spacing_mm), affine
