"""Which lesion lies in which organ, and an organ with and without its lesions.

A lesion may be drawn inside of its organ's mask or cut out of it; both give the same here. A lesion belongs to that
of its parent organs with which it shares most voxels, itself widened by one voxel in all 26 directions. One that
touches no parent belongs to none: most likely it is a false alarm, and it must not move an organ's volume.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from voxicon.core.components import Box, Mask, components, crop, joint_box
from voxicon.core.concepts import Vocabulary
from voxicon.core.masks import MaskSet

Boxes = Mapping[str, Box]
"""Of every class that has a voxel, as `MaskSet.bounds` gives them."""


@dataclass(frozen=True, eq=False)
class Lesion:
    """One 26-connected piece of a lesion class.

    Attributes:
        box: In voxels of the scan.
        mask: Of the box's shape.
        organ: The organ it belongs to, or None.
    """

    box: Box
    mask: Mask
    organ: str | None


@dataclass(frozen=True, eq=False)
class Organ:
    """An organ that has voxels.

    Attributes:
        box: Tight around `whole`, in voxels of the scan.
        whole: With all lesions that belong to it; of the box's shape.
        spared: Without any voxel of a lesion. May be empty.
    """

    box: Box
    whole: Mask
    spared: Mask


def lesions_of(name: str, masks: MaskSet, vocabulary: Vocabulary, boxes: Boxes) -> tuple[Lesion, ...]:
    """The pieces of a lesion class, largest first; none where it has no voxel."""
    if name not in boxes:
        return ()
    box = boxes[name]
    found = components(crop(masks, name, box))
    parents = [parent for parent in vocabulary[name].parents if parent in boxes]
    lesions = []
    for number in found.ranked(len(found.sizes) - 1):
        inner = found.boxes[number]
        x, y, z = (slice(b.start + int(i.start), b.start + int(i.stop)) for b, i in zip(box, inner, strict=True))
        mask = found.labels[inner] == number
        lesions.append(Lesion((x, y, z), mask, _owner((x, y, z), mask, masks, parents)))
    return tuple(lesions)


def organ_of(name: str, masks: MaskSet, vocabulary: Vocabulary, boxes: Boxes) -> Organ | None:
    """An organ with and without its lesions; None where its mask has no voxel."""
    if name not in boxes:
        return None
    classes = [c.name for c in vocabulary if c.kind == "lesion" and name in c.parents and c.name in boxes]
    own = [lesion for c in classes for lesion in lesions_of(c, masks, vocabulary, boxes) if lesion.organ == name]
    box = joint_box([boxes[name], *(lesion.box for lesion in own)], (0, 0, 0), masks.geometry.shape)
    whole = crop(masks, name, box)
    spared = whole.copy()
    for lesion in own:
        whole[inside(box, lesion.box)] |= lesion.mask
    for lesion_class in classes:
        spared &= ~crop(masks, lesion_class, box)
    return Organ(box, whole, spared)


def inside(outer: Box, inner: Box) -> Box:
    """An inner box counted from the corner of the outer one."""
    x, y, z = (slice(i.start - o.start, i.stop - o.start) for o, i in zip(outer, inner, strict=True))
    return x, y, z


def _owner(box: Box, mask: Mask, masks: MaskSet, parents: list[str]) -> str | None:
    wide = joint_box([box], (1, 1, 1), masks.geometry.shape)
    touched = np.zeros([side.stop - side.start for side in wide], dtype=bool)
    touched[inside(wide, box)] = mask
    touched = ndimage.binary_dilation(touched, np.ones((3, 3, 3)))
    shared = {parent: np.count_nonzero(touched & crop(masks, parent, wide)) for parent in parents}
    owner = max(shared, key=lambda parent: shared[parent], default=None)
    return owner if owner is not None and shared[owner] else None
