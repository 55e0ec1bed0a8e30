"""The axial slices worth seeing: those of the lesions, then those through most classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from voxicon.core.concepts import Vocabulary
from voxicon.core.masks import BITS_PER_WORD, MaskSet
from voxicon.core.volume import Volume
from voxicon.findings.lesions import LesionFinding
from voxicon.report.canvas import to_png
from voxicon.report.palette import Palette
from voxicon.report.slices import Boxed, Crop, Shown, draw_slice
from voxicon.report.view import View

_NEAR_MM = 6.0
"""Lesions whose largest slices are that near share one. Own choice: two slices of 3 mm."""


@dataclass(frozen=True)
class KeySlice:
    """What a key slice shows.

    Attributes:
        number: From 1, as viewers count the scan's own slices.
        z_mm: RAS height of the middle of the picture.
        classes: Classes that have a voxel in it, in the order of the masks.
        lesions: Class and number of every finding whose box it cuts, largest first.
    """

    number: int
    z_mm: float
    classes: tuple[str, ...]
    lesions: tuple[tuple[str, int], ...]


def key_slices(
    volume: Volume,
    masks: MaskSet,
    vocabulary: Vocabulary,
    findings: Sequence[LesionFinding],
    palette: Palette | None = None,
    most: int = 6,
) -> list[tuple[bytes, KeySlice]]:
    """PNGs of axial slices and what they show: one per lesion, largest first, then ones through most classes.

    Lesions whose longest diameters lie in one slice, or nearly, share it; every lesion that a slice cuts has a box.
    The others are spread over the height and come from the head down. Without any voxel there are none.

    Args:
        volume: The scan.
        masks: On the scan's grid.
        vocabulary: Knows the classes.
        findings: Lesions, measured on `masks`.
        palette: Gives colors; those of the vocabulary if left out.
        most: Slices at most.
    """
    view = View.of(volume, masks, palette or Palette(vocabulary))
    largest = sorted(findings, key=lambda finding: -finding.axial.longest_mm)
    bits, voxels = view.classes_by_slice("axial")
    chosen = _of_lesions(view, largest)[:most]
    chosen += _spread(np.bitwise_count(bits).sum(axis=0), voxels, chosen, most - len(chosen))
    (x0, x1), (y0, y1), _ = view.body()
    sx, sy, _ = view.geometry.spacing_mm
    found = []
    for at in chosen:
        middle = view.geometry.to_world([(x0 + x1 - 1) / 2, (y0 + y1 - 1) / 2, at])
        crop = Crop((float(middle[0]), float(middle[1]), float(middle[2])), (x1 - x0) * sx, (y1 - y0) * sy)
        cut = [f for f in largest if view.box(f.box_voxels)[2][0] <= at < view.box(f.box_voxels)[2][1]]
        shown = Shown(boxes=tuple(Boxed(f.box_voxels, f.name, _label(f, largest, vocabulary)) for f in cut))
        stored = view.stored_index("axial", at)
        picture = draw_slice(view, "axial", stored, shown, crop=crop)
        classes = tuple(
            name for i, name in enumerate(masks.names) if int(bits[i // BITS_PER_WORD, at]) >> i % BITS_PER_WORD & 1
        )
        data = KeySlice(stored + 1, round(float(middle[2]), 1), classes, tuple((f.name, f.number) for f in cut))
        found.append((to_png(picture.pixels), data))
    return found


def _of_lesions(view: View, largest: Sequence[LesionFinding]) -> list[int]:
    """The slice of every longest diameter, but where one before it cuts the lesion nearly there."""
    chosen: list[int] = []
    for finding in largest:
        at = view.stored_index("axial", finding.axial.slice_index)
        low, high = view.box(finding.box_voxels)[2]
        near = _NEAR_MM / view.geometry.spacing_mm[2]
        if not any(low <= other < high and abs(other - at) <= near for other in chosen):
            chosen.append(at)
    return chosen


def _spread(classes: np.ndarray, voxels: np.ndarray, taken: Sequence[int], most: int) -> list[int]:
    """Slices through most classes, none near another or one that was taken already, from the head down."""
    score = classes + voxels / (voxels.max(initial=0) + 1)
    occupied = np.flatnonzero(voxels)
    if not len(occupied):
        return []
    gap = len(occupied) / (most + len(taken) + 1)
    free = voxels > 0
    places = np.arange(len(voxels))
    found: list[int] = []
    for at in taken:
        free &= np.abs(places - at) >= gap
    while len(found) < most and free.any():
        at = int(np.argmax(np.where(free, score, -1)))
        found.append(at)
        free &= np.abs(places - at) >= gap
    return sorted(found, reverse=True)


def _label(finding: LesionFinding, others: Sequence[LesionFinding], vocabulary: Vocabulary) -> str:
    """Its number, and its class where there are several."""
    if all(other.name == finding.name for other in others):
        return str(finding.number)
    return f"{vocabulary[finding.name].display_name} {finding.number}"
