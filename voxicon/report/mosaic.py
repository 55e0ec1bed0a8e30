"""Three planes through one lesion, with and without what was drawn on it."""

from __future__ import annotations

import numpy as np

from voxicon.core.concepts import Vocabulary
from voxicon.core.masks import MaskSet
from voxicon.core.volume import Volume
from voxicon.findings.lesions import LesionFinding
from voxicon.report.canvas import beside, to_png
from voxicon.report.palette import Palette
from voxicon.report.slices import LUNG_HU, SHOWN_HU, Crop, Point, Shown, draw_slice
from voxicon.report.view import Plane, View

LEAST_MM, TIMES_EXTENT = 60.0, 2.5
"""A crop shows that much, or that many times the lesion's longest side, whichever is more."""

_PANEL_PX = 320
_AIRY_HU = -400.0
"""Where half of what is around a lesion is below, it lies in the lung. Own choice."""

_PLANES: tuple[Plane, ...] = ("axial", "coronal", "sagittal")


def lesion_mosaic(
    volume: Volume, masks: MaskSet, vocabulary: Vocabulary, finding: LesionFinding, palette: Palette | None = None
) -> bytes:
    """A PNG of three planes through a lesion, all in one scale: drawn on above, the bare CT below.

    The axial slice is the one of the longest diameter, drawn with its perpendicular; the other two go through the
    center of mass. The lesion is outlined, its organ thinly. Where there is air around, as in the lung, the window is
    one for lungs.

    Args:
        volume: The scan.
        masks: On the scan's grid.
        vocabulary: Knows the classes.
        finding: The lesion, measured on `masks`.
        palette: Gives colors; those of the vocabulary if left out.
    """
    view = View.of(volume, masks, palette or Palette(vocabulary))
    side = max(LEAST_MM, TIMES_EXTENT * max(high - low for low, high in zip(*finding.box_mm, strict=True)))
    crop = Crop(finding.center_mm, side, side)
    organs = (finding.organ,) if finding.organ else tuple(p for p in vocabulary[finding.name].parents if p in masks)
    window_hu = _window(view, finding)
    drawn, bare = [], []
    for plane in _PLANES:
        at = view.stored_index(plane, view.nearest(plane, finding.center_mm))
        lines: tuple[tuple[Point, Point], ...] = ()
        if plane == "axial":
            at = finding.axial.slice_index
            lines = (finding.axial.longest_ends_mm, finding.axial.perpendicular_ends_mm)
        shown = Shown(window_hu, outlines=(finding.name,), thin=organs, outline_px=2, fill=0.12, lines=lines)
        pixel_mm = side / _PANEL_PX
        drawn.append(draw_slice(view, plane, at, shown, crop=crop, pixel_mm=pixel_mm).pixels)
        bare.append(draw_slice(view, plane, at, Shown(window_hu, outlines=()), crop=crop, pixel_mm=pixel_mm).pixels)
    return to_png(beside([beside(drawn), beside(bare)], axis=0))


def _window(view: View, finding: LesionFinding) -> tuple[float, float]:
    """A lung window for a lesion in air, told by what its largest slice shows around it."""
    at = view.stored_index("axial", finding.axial.slice_index)
    around = []
    for (low, high), n in zip(view.box(finding.box_voxels)[:2], view.hu.shape[:2], strict=True):
        reach = high - low
        around.append(slice(max(0, low - reach), min(n, high + reach)))
    flat = view.slice_hu("axial", at)[tuple(around)]
    return LUNG_HU if np.median(flat) < _AIRY_HU else SHOWN_HU
