"""Which third of an organ a lesion lies in: thirds of equal length along one direction of the organ.

The pancreas is cut along its principal axis, the direction in which its voxels spread most, from the end that lies
right and caudal (head) to the other (tail). Liver and kidneys are cut along S-I into upper, middle and lower. These
are thirds of what the mask holds: an approximation where the borders of anatomy are vessels (the superior mesenteric
vein for the head of the pancreas), and of less than the organ where the scan cuts it.
"""

from __future__ import annotations

import math
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

ALONG_PRINCIPAL_AXIS: Final[Mapping[str, Words]] = {"pancreas": ("head", "body", "tail")}
"""From the right, caudal end. Source: Gray's Anatomy: the head lies in the duodenum's curve, right of the midline and
lowest; the tail reaches the splenic hilum, left and highest."""

_UPRIGHT: Words = ("upper", "middle", "lower")
ALONG_S_I: Final[Mapping[str, Words]] = dict.fromkeys(("liver", "kidney_right", "kidney_left"), _UPRIGHT)
"""From the head down."""

_CAUDAL = np.array([0.0, 0.0, -1.0])
_RIGHT_CAUDAL = np.array([1.0, 0.0, -1.0])


@dataclass(frozen=True, eq=False)
class Thirds:
    """An organ cut into three parts of equal length.

    Attributes:
        words: The parts, from the first end on.
        direction: Unit vector in RAS from the first end to the last.
        start_mm: Place of the first voxel center along the direction.
        length_mm: From there to the last voxel center.
    """

    words: Words
    direction: NDArray[np.float64]
    start_mm: float
    length_mm: float

    def at(self, point_mm: Point) -> str:
        """The third in which a RAS point lies; beyond an end, the third at that end."""
        share = (float(np.asarray(point_mm) @ self.direction) - self.start_mm) / self.length_mm
        return self.words[min(max(math.floor(3 * share), 0), 2)]


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
    reach = geometry.to_world(line_ends(organ)) @ direction
    length_mm = float(np.ptp(reach))
    return Thirds(words, direction, float(reach.min()), length_mm) if length_mm > 0 else None


def _principal_axis(mask: Mask, geometry: Geometry, toward: NDArray[np.float64]) -> NDArray[np.float64]:
    """Unit vector in RAS along which voxel centers spread most, pointing toward a side; 0 for one voxel."""
    points = geometry.to_world(np.argwhere(mask))
    if len(points) == 1:
        return np.zeros(3)
    axis: NDArray[np.float64] = np.linalg.eigh(np.cov(points.T))[1][:, -1]
    return axis if axis @ toward >= 0 else -axis
