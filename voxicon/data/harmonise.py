"""A raw label map and its card become our classes, each marked known or unknown."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxicon.core.geometry import Geometry
from voxicon.core.masks import MaskSet
from voxicon.data.card import DatasetCard
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
    labels: NDArray[np.integer[Any]], geometry: Geometry, card: DatasetCard, classes: tuple[str, ...]
) -> Targets:
    """Masks of our classes from a raw label map.

    Args:
        labels: (X, Y, Z) raw values on `geometry`; values the card does not list are background.
        geometry: Grid of the label map.
        card: Says what the values mean.
        classes: Canonical names wanted, in order.

    Raises:
        CardError: The label map holds none of the values of the card: it belongs to another dataset.
    """
    present = set(np.unique(labels).tolist()) - {0}
    if present and not present & set(card.raw):
        shown = ", ".join(str(v) for v in sorted(present)[:5])
        raise CardError(f"{card.id}: the label map holds the values {shown}, of which the card lists none")
    value_of = {structure: value for value, structure in card.raw.items()}
    masks = MaskSet.empty(classes, geometry)
    for name in classes:
        if name in card.annotates:
            wanted = card.annotates[name]
            mask = np.isin(labels, [value_of[s] for s in wanted.union])
            if wanted.minus:
                mask &= ~np.isin(labels, [value_of[s] for s in wanted.minus])
            masks.set(name, mask)
    return Targets(masks, frozenset(card.annotates) & frozenset(classes))
