"""Where in an organ something lies: parts of it, cut at shares of its length along one direction.

The pancreas is cut along its principal axis, the direction in which its voxels spread most, from the end that lies
right and caudal (head) to the other (tail), into three parts of equal length. Other parts are thirds and halves along
S-I, R-L or A-P. These are parts of what the mask holds: an approximation where the borders of anatomy are vessels (the
superior mesenteric vein for the head of the pancreas), and of less than the organ where the scan cuts it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from voxicon.core.components import Mask
from voxicon.core.geometry import Geometry
from voxicon.findings.finding import Point
from voxicon.findings.shape import line_ends

Words = tuple[str, str, str]
Vector = NDArray[np.float64]

ALONG_PRINCIPAL_AXIS: Final[Mapping[str, Words]] = {"pancreas": ("head", "body", "tail")}
"""From the right, caudal end. Source: Gray's Anatomy: the head lies in the duodenum's curve, right of the midline and
lowest; the tail reaches the splenic hilum, left and highest."""

_UPRIGHT: Words = ("upper", "middle", "lower")
ALONG_S_I: Final[Mapping[str, Words]] = dict.fromkeys(("liver", "kidney_right", "kidney_left"), _UPRIGHT)
"""From the head down: organs whose lesions are told by thirds."""

_CAUDAL = np.array([0.0, 0.0, -1.0])
_LEFT = np.array([-1.0, 0.0, 0.0])
_BACK = np.array([0.0, -1.0, 0.0])
_RIGHT_CAUDAL = np.array([1.0, 0.0, -1.0])

_THIRD, _HALF = 1 / 3, 1 / 2
PARTS_OF_ANY: Final[Mapping[str, tuple[Vector, float, float]]] = {
    "upper third": (_CAUDAL, 0, _THIRD),
    "middle third": (_CAUDAL, _THIRD, 2 * _THIRD),
    "lower third": (_CAUDAL, 2 * _THIRD, 1),
    "upper half": (_CAUDAL, 0, _HALF),
    "lower half": (_CAUDAL, _HALF, 1),
    "right half": (_LEFT, 0, _HALF),
    "left half": (_LEFT, _HALF, 1),
    "front half": (_BACK, 0, _HALF),
    "back half": (_BACK, _HALF, 1),
    "upper part": (_CAUDAL, 0, _THIRD),
    "middle part": (_CAUDAL, _THIRD, 2 * _THIRD),
    "lower part": (_CAUDAL, 2 * _THIRD, 1),
    "upper pole": (_CAUDAL, 0, _THIRD),
    "lower pole": (_CAUDAL, 2 * _THIRD, 1),
}
"""Direction in RAS, and the shares of the organ's length along it between which a part lies. Poles are read as the
outer thirds: own choice."""


@dataclass(frozen=True, eq=False)
class Part:
    """What of an organ lies between two shares of its length.

    Attributes:
        direction: Unit vector in RAS.
        start_mm: Place of the first voxel center along the direction.
        length_mm: From there to the last voxel center.
        low: Share from which the part begins, inclusive.
        high: Share at which it ends, exclusive, but for 1.
    """

    direction: Vector
    start_mm: float
    length_mm: float
    low: float
    high: float

    def holds(self, points_mm: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Which of some RAS points (..., 3) lie in it; beyond an end of the organ counts as that end."""
        share = np.clip((points_mm @ self.direction - self.start_mm) / self.length_mm, 0, 1)
        held: NDArray[np.bool_] = (share >= self.low) & ((share < self.high) | (self.high == 1))
        return held

    def cut(self, mask: Mask, geometry: Geometry) -> Mask:
        """The voxels of a mask (X, Y, Z) whose centers lie in it."""
        index = np.argwhere(mask)
        kept = index[self.holds(geometry.to_world(index))]
        cut = np.zeros_like(mask)
        cut[tuple(kept.T)] = True
        return cut


@dataclass(frozen=True, eq=False)
class Thirds:
    """An organ cut into three parts of equal length, by name, from the first end on."""

    parts: Mapping[str, Part]

    def at(self, point_mm: Point) -> str:
        """The third in which a RAS point lies; beyond an end, the third at that end."""
        point = np.asarray(point_mm)
        return next(name for name, part in self.parts.items() if part.holds(point))


def thirds_of(name: str, organ: Mask, geometry: Geometry) -> Thirds | None:
    """Cut an organ into thirds.

    Args:
        name: The organ's class.
        organ: (X, Y, Z) bool with at least one voxel, lesions included.
        geometry: Its grid.

    Returns:
        None for organs that are not cut into thirds, and where voxel centers do not spread along the direction.
    """
    if name in ALONG_PRINCIPAL_AXIS:
        words, direction = ALONG_PRINCIPAL_AXIS[name], -_principal_axis(organ, geometry, _RIGHT_CAUDAL)
    elif name in ALONG_S_I:
        words, direction = ALONG_S_I[name], _CAUDAL
    else:
        return None
    shares = [(word, number * _THIRD, 1 if number == 2 else (number + 1) * _THIRD) for number, word in enumerate(words)]
    cut = {word: _between(organ, geometry, direction, low, high) for word, low, high in shares}
    parts = {word: part for word, part in cut.items() if part is not None}
    return Thirds(parts) if parts else None


def part_of(name: str, part: str, organ: Mask, geometry: Geometry) -> Part | None:
    """A named part of an organ, such as the "tail" of the pancreas or the "upper third" of anything.

    Args:
        name: The organ's class.
        part: A name of `parts_known`.
        organ: (X, Y, Z) bool with at least one voxel, lesions included.
        geometry: Its grid.

    Returns:
        None for a part that no method here tells, and where voxel centers do not spread along its direction.
    """
    if part in ALONG_PRINCIPAL_AXIS.get(name, ()):
        thirds = thirds_of(name, organ, geometry)
        return thirds.parts[part] if thirds else None
    if part not in PARTS_OF_ANY:
        return None
    direction, low, high = PARTS_OF_ANY[part]
    return _between(organ, geometry, direction, low, high)


def parts_known(name: str) -> tuple[str, ...]:
    """The parts of an organ that `part_of` can tell."""
    return (*ALONG_PRINCIPAL_AXIS.get(name, ()), *PARTS_OF_ANY)


def _between(organ: Mask, geometry: Geometry, direction: Vector, low: float, high: float) -> Part | None:
    reach = geometry.to_world(line_ends(organ)) @ direction
    length_mm = float(np.ptp(reach))
    return Part(direction, float(reach.min()), length_mm, low, high) if length_mm > 0 else None


def _principal_axis(mask: Mask, geometry: Geometry, toward: Vector) -> Vector:
    """Unit vector in RAS along which voxel centers spread most, pointing toward a side; 0 for one voxel."""
    points = geometry.to_world(np.argwhere(mask))
    if len(points) == 1:
        return np.zeros(3)
    axis: Vector = np.linalg.eigh(np.cov(points.T))[1][:, -1]
    return axis if axis @ toward >= 0 else -axis
