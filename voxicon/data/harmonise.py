"""Raw labels and their card become our classes, each marked known or unknown; and back again."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxicon.core.masks import MaskSet
from voxicon.data.annotation import Annotation, Mask
from voxicon.data.card import DatasetCard, LabelSet
from voxicon.data.sides import split_sides
from voxicon.errors import CardError


@dataclass(frozen=True)
class Targets:
    """What is known about a scan.

    Attributes:
        masks: One mask per class asked for; empty for unknown classes, and for known ones that are absent.
        known: Classes the dataset annotates. Nothing may be learned about the others.
    """

    masks: MaskSet
    known: frozenset[str]


def harmonise(
    annotation: Annotation,
    card: DatasetCard,
    classes: tuple[str, ...],
    *,
    annotates: Collection[str] | None = None,
    midline_mm: float | None = None,
) -> Targets:
    """Masks of our classes from raw labels.

    Args:
        annotation: Raw labels on the scan's grid; values the card does not list are background.
        card: Says what the values mean.
        classes: Canonical names wanted, in order.
        annotates: Classes annotated in this case; all of the card's by default.
        midline_mm: RAS x of the body's mid-plane, for structures that hold both sides; see
            `voxicon.data.sides`.

    Raises:
        CardError: The label map holds none of the values of the card: it belongs to another dataset.
    """
    if annotation.raw is not None:
        _refuse_strangers(annotation.raw, card)
    given = frozenset(card.annotates if annotates is None else annotates)
    masks = MaskSet.empty(classes, annotation.geometry)
    sides: dict[tuple[frozenset[str], frozenset[str]], tuple[Mask, Mask]] = {}
    for name in classes:
        if name not in given:
            continue
        labels = card.annotates[name]
        if labels.side is None:
            masks.set(name, _algebra(annotation, card, labels))
            continue
        key = frozenset(labels.union), frozenset(labels.minus)
        if key not in sides:
            sides[key] = split_sides(_algebra(annotation, card, labels), annotation.geometry, midline_mm)
        masks.set(name, sides[key][0 if labels.side == "right" else 1])
    return Targets(masks, given & frozenset(classes))


def to_raw(masks: MaskSet, card: DatasetCard) -> NDArray[np.int16]:
    """Our classes as one label map with a dataset's own values, the way its makers score it.

    Every structure is painted where the class that tells most about it (the one made of the fewest
    structures) is set; classes made of fewer structures are painted over those made of more, so a tumor
    lies over its organ and both sides of an organ share its value. Structures that no class is made of stay
    background, and of several structures that only one class holds together the first stands for all.

    Args:
        masks: Any grid. Classes that the card does not annotate are not looked at; classes that are missing
            leave their structures to the next larger class.
        card: The dataset.

    Returns:
        (X, Y, Z) int16; all zero when no mask is set.
    """
    values = np.zeros(masks.geometry.shape, dtype=np.int16)
    # A class that is known to be absent has no value to be written as.
    made_of = {c: card.structures_of(labels) for c, labels in card.annotates.items() if c in masks and labels.union}
    tellers: dict[frozenset[str], list[str]] = {}
    for name, structures in made_of.items():
        tellers.setdefault(structures, []).append(name)
    value_of = {structure: value for value, structure in card.raw.items()}
    for structures in sorted(tellers, key=lambda s: (-len(s), sorted(s))):
        own = [s for s in structures if not any(s in other and len(other) < len(structures) for other in tellers)]
        stands = min(value_of[s] for s in own or structures)
        for name in tellers[structures]:
            values[masks[name]] = stands
    return values


def _algebra(annotation: Annotation, card: DatasetCard, labels: LabelSet) -> Mask:
    mask = annotation.mask(labels.union, card)
    if labels.minus:
        mask &= ~annotation.mask(labels.minus, card)
    return mask


def _refuse_strangers(raw: NDArray[np.integer[Any]], card: DatasetCard) -> None:
    present = set(np.unique(raw).tolist()) - {0}
    if present and not present & set(card.raw):
        shown = ", ".join(str(v) for v in sorted(present)[:5])
        raise CardError(f"{card.id}: the label map holds the values {shown}, of which the card lists none")
