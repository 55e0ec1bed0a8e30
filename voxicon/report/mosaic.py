"""Three planes through one lesion, with and without what was drawn on it."""

from __future__ import annotations

from voxicon.core.concepts import Vocabulary
from voxicon.core.masks import MaskSet
from voxicon.core.volume import Volume
from voxicon.findings.lesions import LesionFinding
from voxicon.report.canvas import beside, to_png
from voxicon.report.palette import Palette
from voxicon.report.scene import Plane, Scene
from voxicon.report.slices import Crop, Point, Shown, draw_slice

LEAST_MM, TIMES_EXTENT = 60.0, 2.5
"""A crop shows that much, or that many times the lesion's longest side, whichever is more."""

_PANEL_PX = 320
_PLANES: tuple[Plane, ...] = ("axial", "coronal", "sagittal")


def lesion_mosaic(
    volume: Volume, masks: MaskSet, vocabulary: Vocabulary, finding: LesionFinding, palette: Palette | None = None
) -> bytes:
    """A PNG of three planes through a lesion, all in one scale: drawn on above, the bare CT below.

    The axial slice is the one of the longest diameter, drawn with its perpendicular; the other two go through the
    center of mass. The lesion is outlined, its organ thinly.

    Args:
        volume: The scan.
        masks: On the scan's grid.
        vocabulary: Knows the classes.
        finding: The lesion, measured on `masks`.
        palette: Gives colors; those of the vocabulary if left out.
    """
    scene = Scene.of(volume, masks, palette or Palette(vocabulary))
    side = max(LEAST_MM, TIMES_EXTENT * max(high - low for low, high in zip(*finding.box_mm, strict=True)))
    crop = Crop(finding.center_mm, side, side)
    organs = (finding.organ,) if finding.organ else tuple(p for p in vocabulary[finding.name].parents if p in masks)
    drawn, bare = [], []
    for plane in _PLANES:
        at = scene.stored_index(plane, scene.nearest(plane, finding.center_mm))
        lines: tuple[tuple[Point, Point], ...] = ()
        if plane == "axial":
            at = finding.axial.slice_index
            lines = (finding.axial.longest_ends_mm, finding.axial.perpendicular_ends_mm)
        shown = Shown(outlines=(finding.name,), thin=organs, outline_px=2, fill=0.12, lines=lines)
        pixel_mm = side / _PANEL_PX
        drawn.append(draw_slice(scene, plane, at, shown, crop=crop, pixel_mm=pixel_mm).pixels)
        bare.append(draw_slice(scene, plane, at, Shown(outlines=()), crop=crop, pixel_mm=pixel_mm).pixels)
    return to_png(beside([beside(drawn), beside(bare)], axis=0))
