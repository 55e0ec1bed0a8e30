"""Where organs lie, so that windows that cannot hold any of them need not be computed.

A quick model finds the organs coarsely. Every window that touches the box of one of them, widened by a margin, is
computed as ever: within those boxes nothing changes, voxel by voxel. What is given up is what lies farther from an
organ than the margin.

That is safe for organs in one piece, of which no end is far from the rest: their box held every voxel of the truth on
two CTs that the locating weights had not seen, and boxes of bowel, esophagus and veins did not (docs/performance.md).
So only those are located; and no tumor, as it may be anywhere.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from voxicon.core.components import Box
from voxicon.core.concepts import Concept
from voxicon.core.geometry import Geometry
from voxicon.core.masks import MaskSet

MARGIN_MM = 30.0
"""Around the box of an organ. Own choice: ten voxels of the starter weights; with 20 mm the liver of one of those CTs
would have lost 0.2 % of its voxels."""

_IN_ONE_PIECE = ("largest", "lungs")


def is_locatable(concept: Concept) -> bool:
    """Whether a class is an organ in one piece, by its cleanup rule; a lung counts as one."""
    return concept.kind == "organ" and concept.cleanup.rule in _IN_ONE_PIECE


def boxes_of(masks: MaskSet, grid: Geometry, margin_mm: float = MARGIN_MM) -> tuple[Box, ...] | None:
    """The box of every class on another grid, widened; None where a class has no voxel, as it could be anywhere.

    Args:
        masks: On any grid.
        grid: The grid of the boxes, in the same world.
        margin_mm: Added on every side.

    Returns:
        Boxes of voxels of `grid`, cut at its edge; empty where they lie beyond it. No class gives no box.
    """
    bounds = masks.bounds()
    if len(bounds) < len(masks.names):
        return None
    boxes = []
    for name in masks.names:
        ends = [(side.start - 0.5, side.stop - 0.5) for side in bounds[name]]
        corners = np.array(np.meshgrid(*ends, indexing="ij")).reshape(3, -1).T
        index = grid.to_index(masks.geometry.to_world(corners))
        margin = margin_mm / np.array(grid.spacing_mm)
        low = np.clip(np.floor(index.min(axis=0) - margin + 0.5), 0, grid.shape).astype(int)
        high = np.clip(np.ceil(index.max(axis=0) + margin + 0.5), low, grid.shape).astype(int)
        x, y, z = (slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
        boxes.append((x, y, z))
    return tuple(boxes)


def touches(start: Sequence[int], size: Sequence[int], boxes: Sequence[Box]) -> bool:
    """Whether a window and any of some boxes have a voxel in common."""
    return any(
        all(max(a, side.start) < min(a + n, side.stop) for a, n, side in zip(start, size, box, strict=True))
        for box in boxes
    )
