"""Predicted masks made plausible: crumbs removed, lesions kept in their organs, lungs told apart.

Every class names its rule in ``vocabulary.yaml`` (``cleanup: {rule: ..., of: [...]}``). Rules run in this
order, so that a rule sees the cleaned masks of the organs it refers to:

- ``none``: left as it is.
- ``largest``: the largest component (26 neighbors). For solid organs.
- ``sizable``: components of at least `SIZABLE_FRACTION` of the largest. For tubes, which the field of view or
  a thin spot cuts into pieces.
- ``lungs``, of the right and the left lung: see `voxicon.infer.lungs`.
- ``above``, of some organs: nothing below their lowest slice.
- ``inside``, of some organs: nothing farther than `INSIDE_MARGIN_MM` from them; holes that the lesion leaves in
  the organ count as organ. Growing by a margin also closes every gap up to twice as wide: a closing with
  the same element before it would change nothing.

A rule that refers to a class that was not asked for, or that is empty, does nothing and says so: what cannot
be known is no reason to delete a lesion.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from voxicon.core.components import SIZABLE_FRACTION, Box, Mask, components, crop, joint_box, largest, put, sizable
from voxicon.core.concepts import Vocabulary
from voxicon.core.masks import MaskSet
from voxicon.errors import ConfigError
from voxicon.infer.cleanup_original import clean_original
from voxicon.infer.lungs import separate_lungs

INSIDE_MARGIN_MM = 3.0
"""How far a lesion may reach out of its organ. Own choice: two voxels of 1.5 mm, as the original allows."""

Mode = Literal["default", "original", "none"]


@dataclass(frozen=True)
class _Work:
    """The masks being cleaned, in place, and a box around every class that was not empty."""

    masks: MaskSet
    boxes: dict[str, Box]

    def unusable(self, of: tuple[str, ...]) -> str | None:
        """Why a rule cannot refer to some classes: one was not asked for, or all are empty."""
        absent = [name for name in of if name not in self.masks]
        if absent:
            return f"{', '.join(absent)} not asked for"
        return None if any(name in self.boxes for name in of) else f"{', '.join(of)} empty"

    def restrict(self, name: str, box: Box, allowed: Mask, reason: str) -> str | None:
        """Remove a class outside of what is allowed in a box, and everywhere outside that box."""
        own = self.boxes[name]
        before = int(np.count_nonzero(crop(self.masks, name, own)))
        kept = crop(self.masks, name, box) & allowed
        n_removed = before - int(np.count_nonzero(kept))
        if not n_removed:
            return None
        put(self.masks, name, own, np.zeros([cut.stop - cut.start for cut in own], dtype=bool))
        put(self.masks, name, box, kept)
        size_ml = n_removed * self.masks.geometry.voxel_ml
        return f"{name}: removed {n_removed} of {before} voxels ({size_ml:.2f} ml) {reason}"


Rule = Callable[[_Work, str, tuple[str, ...]], str | None]


def clean(masks: MaskSet, vocabulary: Vocabulary, mode: Mode = "default") -> tuple[MaskSet, tuple[str, ...]]:
    """Masks without crumbs and strays, and what was taken away.

    Args:
        masks: Thresholded masks on an axis-aligned grid; not changed. Any spacing.
        vocabulary: Names the rule of each class. A class it does not know is left as it is.
        mode: ``default`` for the rules above, ``original`` for those of the original system with their
            defects (`voxicon.infer.cleanup_original`), ``none`` for an unchanged copy.

    Returns:
        New masks with the same names on the same grid, and one line for each class that changed or whose rule
        could not be applied. Empty masks stay empty and are not mentioned.

    Raises:
        ConfigError: No such mode, or the vocabulary names a rule that does not exist.
    """
    if mode == "original":
        return clean_original(masks, vocabulary)
    if mode not in ("default", "none"):
        raise ConfigError(f"cleanup: unknown mode {mode!r}; expected default, original or none")
    cleaned = MaskSet(masks.words.copy(), masks.names, masks.geometry, masks.source)
    if mode == "none":
        return cleaned, ()
    work = _Work(cleaned, cleaned.bounds())
    notes = []
    for name in _in_order(tuple(work.boxes), vocabulary):
        cleanup = vocabulary[name].cleanup
        notes.append(RULES[cleanup.rule](work, name, cleanup.of))
    return cleaned, tuple(note for note in notes if note)


def candidates(
    probabilities: Mapping[str, NDArray[Any]], organs: MaskSet, vocabulary: Vocabulary, least: float
) -> MaskSet:
    """Where probabilities of lesions count: what cleanup takes from masks must not come back by its probability.

    Args:
        probabilities: By class, (X, Y, Z) on the grid of `organs`: uint8, 255 times the probability, or floats.
        organs: Masks as delivered; of them those that the rules of the lesions refer to are looked at.
        vocabulary: Names the rules.
        least: Probability from which a voxel is a candidate.
    """
    around = dict.fromkeys(organ for name in probabilities for organ in vocabulary[name].cleanup.of)
    masks = {name: organs[name] for name in around if name in organs}
    for name, levels in probabilities.items():
        masks[name] = levels >= least * (255 if np.issubdtype(levels.dtype, np.integer) else 1)
    return clean(MaskSet.from_masks(masks, organs.geometry), vocabulary)[0]


def _in_order(names: tuple[str, ...], vocabulary: Vocabulary) -> list[str]:
    known = [name for name in names if name in vocabulary]
    for name in known:
        rule = vocabulary[name].cleanup.rule
        if rule not in RULES:
            raise ConfigError(
                f"vocabulary: {name} asks for cleanup rule {rule!r}; there are {', '.join(RULES)}; correct the entry"
            )
    order = list(RULES)
    return sorted(known, key=lambda name: order.index(vocabulary[name].cleanup.rule))


def _none(work: _Work, name: str, of: tuple[str, ...]) -> str | None:
    return None


def _largest(work: _Work, name: str, of: tuple[str, ...]) -> str | None:
    box = work.boxes[name]
    return work.restrict(name, box, largest(crop(work.masks, name, box)), "outside the largest component")


def _sizable(work: _Work, name: str, of: tuple[str, ...]) -> str | None:
    box = work.boxes[name]
    kept = sizable(crop(work.masks, name, box))
    return work.restrict(name, box, kept, f"in components below {SIZABLE_FRACTION:.0%} of the largest")


def _lungs(work: _Work, name: str, of: tuple[str, ...]) -> str | None:
    """Both lungs at once, when the first of them comes up."""
    present = [lung for lung in of if lung in work.boxes]
    if len(present) < len(of):
        note = _sizable(work, name, of)
        absent = ", ".join(lung for lung in of if lung not in work.boxes)
        return note and f"{note}; {absent} empty or not asked for"
    if name != present[0]:
        return None
    box = joint_box((work.boxes[lung] for lung in of), (0, 0, 0), work.masks.geometry.shape)
    before = [crop(work.masks, lung, box) for lung in of]
    after = separate_lungs(before[0], before[1], work.masks.geometry)
    for lung, mask in zip(of, after, strict=True):
        put(work.masks, lung, box, mask)
        work.boxes[lung] = box
    n_gone = np.count_nonzero((before[0] | before[1]) & ~(after[0] | after[1]))
    n_moved = np.count_nonzero((after[0] & ~before[0]) | (after[1] & ~before[1]))
    n_shared = np.count_nonzero(before[0] & before[1])
    if (after[0] & after[1]).any():
        return f"{', '.join(of)}: {n_shared} voxels claimed by both, left as they are: nothing tells the lungs apart"
    if not (n_gone or n_moved or n_shared):
        return None
    return (
        f"{', '.join(of)}: removed {n_gone} voxels in small components, moved {n_moved} to the other lung, "
        f"shared out {n_shared} claimed by both"
    )


def _above(work: _Work, name: str, of: tuple[str, ...]) -> str | None:
    reason = work.unusable(of)
    if reason:
        return f"{name}: kept as it is, {reason}"
    axis, backwards = work.masks.geometry.axis_order[2]
    others = tuple(other for other in range(3) if other != axis)
    ends = []
    for organ in (organ for organ in of if organ in work.boxes):
        box = work.boxes[organ]
        slices = np.flatnonzero(crop(work.masks, organ, box).any(axis=others)) + box[axis].start
        ends.append(int(slices[-1]) if backwards else int(slices[0]))
    own = work.boxes[name]
    indices = np.arange(own[axis].start, own[axis].stop)
    allowed = indices <= max(ends) if backwards else indices >= min(ends)
    along = [1, 1, 1]
    along[axis] = -1
    return work.restrict(name, own, allowed.reshape(along), f"below the lowest slice of {', '.join(of)}")


def _inside(work: _Work, name: str, of: tuple[str, ...]) -> str | None:
    reason = work.unusable(of)
    if reason:
        return f"{name}: kept as it is, {reason}"
    geometry = work.masks.geometry
    margin = [max(1, round(INSIDE_MARGIN_MM / step)) for step in geometry.spacing_mm]
    organs = [organ for organ in of if organ in work.boxes]
    box = joint_box((work.boxes[organ] for organ in organs), margin, geometry.shape)
    region = np.logical_or.reduce([crop(work.masks, organ, box) for organ in organs])
    size = [2 * voxels + 1 for voxels in margin]
    grown = ndimage.maximum_filter(region.view(np.uint8), size=size, mode="constant").view(bool)
    return work.restrict(name, box, without_holes(grown), f"farther than {INSIDE_MARGIN_MM:g} mm from {', '.join(of)}")


def without_holes(mask: Mask) -> Mask:
    """A mask (X, Y, Z) with its enclosed holes filled; a pocket that is open at the edge of the box is no hole."""
    # A rim of background joins everything outside into the one piece that holds the first voxel.
    outside = components(~np.pad(mask, 1))
    filled: Mask = outside.labels[1:-1, 1:-1, 1:-1] != outside.labels[0, 0, 0]
    return filled


RULES: dict[str, Rule] = {
    "none": _none,
    "largest": _largest,
    "sizable": _sizable,
    "lungs": _lungs,
    "above": _above,
    "inside": _inside,
}
"""Rules by name, in the order in which they are applied."""
