"""Connected pieces of masks, and masks cut to the box they fill.

Two voxels belong to one component when they share a face, an edge or a corner (26 neighbors).
Everything here works on a box, not on the whole scan: one organ fills a few percent of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import cc3d
import numpy as np
from numpy.typing import NDArray

from voxicon.core.masks import BITS_PER_WORD, MaskSet

Box = tuple[slice, slice, slice]
Mask = NDArray[np.bool_]

CONNECTIVITY: Final = 26
"""Faces, edges and corners join voxels. Source: the original cleanup, so sizes can be compared."""

SIZABLE_FRACTION = 0.1
"""Share of the largest piece below which a piece is a crumb. Own choice: a bowel loop is more, noise is less."""


@dataclass(frozen=True)
class Components:
    """The pieces of one mask, numbered from 1.

    Attributes:
        labels: Array of the mask's shape; 0 is outside, ``n`` is the piece ``n``.
        sizes: (n + 1,) voxels per piece; entry 0 is 0, so that outside never counts as a piece.
        centers: (n + 1, 3) mean voxel index per piece; entry 0 is meaningless.
        boxes: Box of each piece; entry 0 is meaningless.
    """

    labels: NDArray[np.unsignedinteger[Any]]
    sizes: NDArray[np.int64]
    centers: NDArray[np.float64]
    boxes: Sequence[Box]

    def ranked(self, count: int) -> tuple[int, ...]:
        """Numbers of the `count` largest pieces; of equal ones that whose first voxel (C order) comes first."""
        # The labeling numbers pieces by their first voxel; a stable sort keeps that order among equals.
        order = np.argsort(-self.sizes[1:], kind="stable") + 1
        return tuple(int(number) for number in order[:count])

    def pick(self, numbers: Iterable[int]) -> Mask:
        """The union of some pieces; no number gives an empty mask."""
        wanted = np.zeros(len(self.sizes), dtype=bool)
        wanted[list(numbers)] = True
        picked: Mask = wanted[self.labels]
        return picked


def components(mask: Mask) -> Components:
    """The pieces of a mask of shape (X, Y, Z); an empty mask has none."""
    # As bytes: on booleans, version 4.1.1 raises "maximum length exception" for some masks one voxel thin.
    as_bytes = np.ascontiguousarray(mask).view(np.uint8)
    labels = cc3d.connected_components(as_bytes, connectivity=CONNECTIVITY, return_N=False)
    found = cc3d.statistics(labels)
    sizes = found["voxel_counts"].astype(np.int64)
    sizes[0] = 0
    return Components(labels, sizes, found["centroids"].astype(np.float64), found["bounding_boxes"])


def largest(mask: Mask, count: int = 1) -> Mask:
    """The largest pieces of a mask, at most `count`; an empty mask stays empty."""
    parts = components(mask)
    return parts.pick(parts.ranked(count))


def sizable(mask: Mask) -> Mask:
    """The pieces that have at least `SIZABLE_FRACTION` of the voxels of the largest one."""
    parts = components(mask)
    return parts.pick(np.flatnonzero((parts.sizes > 0) & (parts.sizes >= SIZABLE_FRACTION * parts.sizes.max())))


def crop(masks: MaskSet, name: str, box: Box) -> Mask:
    """A fresh boolean array of one class inside a box, without unpacking the whole scan."""
    word, bit = _locate(masks, name)
    mask: Mask = (masks.words[word][box] & bit) != 0
    return mask


def put(masks: MaskSet, name: str, box: Box, mask: Mask) -> None:
    """Replace one class inside a box, in place; outside the box nothing changes."""
    word, bit = _locate(masks, name)
    target = masks.words[word][box]
    np.bitwise_and(target, ~bit, out=target)
    np.bitwise_or(target, bit, out=target, where=mask)


def joint_box(boxes: Iterable[Box], margin: Sequence[int], shape: Sequence[int]) -> Box:
    """The smallest box around some boxes, widened by a margin in voxels per axis, cut at the grid's edge."""
    several = list(boxes)
    x, y, z = (
        slice(
            max(min(box[axis].start for box in several) - margin[axis], 0),
            min(max(box[axis].stop for box in several) + margin[axis], shape[axis]),
        )
        for axis in range(3)
    )
    return x, y, z


def _locate(masks: MaskSet, name: str) -> tuple[int, np.uint32]:
    index = masks.names.index(name)
    return index // BITS_PER_WORD, np.uint32(1 << (index % BITS_PER_WORD))
