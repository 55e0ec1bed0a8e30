"""Maps made of boxes, small enough to paint many times."""

from __future__ import annotations

import numpy as np

from voxicon.core.geometry import Geometry
from voxicon.synthesis.label_map import LabelMap

FAT = 1000

Box = tuple[slice, slice, slice]


def grid(shape: tuple[int, int, int], spacing_mm: float = 3.0) -> Geometry:
    return Geometry(shape, np.diag([spacing_mm, spacing_mm, spacing_mm, 1.0]))


def cube(low: int, high: int) -> Box:
    return (slice(low, high),) * 3


def in_fat(
    boxes: dict[str, Box], shape: tuple[int, int, int] = (24, 24, 24), margin: int = 2, spacing_mm: float = 3.0
) -> LabelMap:
    """Boxes of structures in a body of fat with air around it; later boxes cover earlier ones. Values count from 1."""
    values = np.zeros(shape, dtype=np.int16)
    values[(slice(margin, -margin or None),) * 3] = FAT
    for value, box in enumerate(boxes.values(), start=1):
        values[box] = value
    names = dict(enumerate(boxes, start=1)) | {FAT: "fat"}
    return LabelMap(values, names, grid(shape, spacing_mm))
