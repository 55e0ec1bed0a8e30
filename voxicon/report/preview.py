"""One picture of a result: the masks over the CT in three planes, with a legend.

The planes are aligned: below the first axial slice the coronal one is as wide, and beside it the sagittal one as high.
Thin lines show where the others cut.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np

from voxicon.core.concepts import Concept, Vocabulary
from voxicon.core.masks import MaskSet
from voxicon.core.volume import Volume
from voxicon.report.palette import Colors, Palette, Style
from voxicon.report.slices import Crop, Point, Shown, draw_slice
from voxicon.report.view import Plane, View

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_INK, _DIM, _PAPER = "#e8e8e8", "#9aa0a6", "#101214"
_WIDTH_PX, _DPI = 1320, 100
_EDGE_PX, _GAP_PX, _HEAD_PX, _FOOT_PX = 12, 12, 48, 32
_PANEL_PX = (_WIDTH_PX - 2 * _EDGE_PX - 2 * _GAP_PX) // 3
_TALLEST_PX = 900
"""Scans that would be taller get a scale of their own in the planes that show their height."""

_LEGEND_PX = 360
_FILL = 0.33
_TWO_COLUMNS = 48
"""Most classes that a legend of two columns shows in readable print."""

_AXIAL_LEVELS = (0.78, 0.5, 0.22)
"""Shares of the masks' height at which axial slices are shown, from the head down."""


def render_preview(
    volume: Volume, masks: MaskSet, vocabulary: Vocabulary, footer: str = "", colors: Colors = "vocabulary"
) -> bytes:
    """A PNG of three axial slices, one coronal, one sagittal, and a legend with volumes.

    Slices are placed by the masks; without any mask they are placed by the scan.

    Args:
        volume: The scan.
        masks: On the scan's grid.
        vocabulary: Gives names, and colors where `colors` says so.
        footer: A line at the bottom.
        colors: ``vocabulary``, or ``safe`` for color-blind readers.
    """
    from matplotlib.figure import Figure

    view = View.of(volume, masks, Palette(vocabulary, colors))
    center, size_mm = _framed(view)
    axial_mm = max(size_mm[0], size_mm[1]) / _PANEL_PX
    upright_mm = max(axial_mm, size_mm[2] / _TALLEST_PX)
    upper, lower = round(size_mm[1] / axial_mm), max(_LEGEND_PX, round(size_mm[2] / upright_mm))
    height = _HEAD_PX + upper + _GAP_PX + lower + _FOOT_PX
    figure = Figure(figsize=(_WIDTH_PX / _DPI, height / _DPI), dpi=_DPI, facecolor=_PAPER)
    slices = [*_levels(view), _busiest(view, "coronal"), _busiest(view, "sagittal")]
    guides = tuple((plane, view.stored_index(plane, at)) for plane, at in slices)
    shown = Shown(fill=_FILL, guides=guides)
    for column, (plane, at) in enumerate(slices):
        row, mm = (0, axial_mm) if plane == "axial" else (1, upright_mm)
        crop = _crop(plane, center, size_mm)
        picture = draw_slice(view, plane, view.stored_index(plane, at), shown, crop=crop, pixel_mm=mm).pixels
        free = (lower if row else upper) - picture.shape[0], _PANEL_PX - picture.shape[1]
        top = _HEAD_PX + row * (upper + _GAP_PX) + free[0] // 2
        left = _EDGE_PX + column % 3 * (_PANEL_PX + _GAP_PX) + free[1] // 2
        # From the lower edge up: pixels of the picture stay pixels.
        figure.figimage(picture, left, height - top - picture.shape[0])
    width = _PANEL_PX / _WIDTH_PX
    axes = figure.add_axes((1 - _EDGE_PX / _WIDTH_PX - width, _FOOT_PX / height, width, lower / height))
    _legend(axes, masks, view.palette, lower * 72 / _DPI)
    _lines(figure, volume, footer)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", facecolor=_PAPER, metadata={"Software": None})
    return buffer.getvalue()


def _lines(figure: Figure, volume: Volume, footer: str) -> None:
    """The name of the scan, its grid, and the line at the bottom."""
    x, y, z = volume.geometry.shape
    spacing = " × ".join(f"{s:.2f}" for s in volume.geometry.spacing_mm)
    height = figure.get_figheight() * _DPI
    left, right = _EDGE_PX / _WIDTH_PX, 1 - _EDGE_PX / _WIDTH_PX
    top, bottom = 1 - _HEAD_PX / 2 / height, _FOOT_PX / 2 / height
    figure.text(left, top, volume.source.name, color=_INK, fontsize=14, weight="bold", va="center")
    grid = f"{x} × {y} × {z} voxels · {spacing} mm"
    figure.text(right, top, grid, color=_DIM, fontsize=10, ha="right", va="center")
    figure.text(left, bottom, footer, color=_DIM, fontsize=9, va="center")


def _framed(view: View) -> tuple[Point, tuple[float, float, float]]:
    """Middle of the patient, RAS, and the lengths shown along each axis; no picture is mostly air."""
    box = view.body()
    x, y, z = (float(value) for value in view.geometry.to_world([(low + high - 1) / 2 for low, high in box]))
    sx, sy, sz = ((high - low) * s for (low, high), s in zip(box, view.geometry.spacing_mm, strict=True))
    return (x, y, z), (sx, sy, sz)


def _crop(plane: Plane, center: Point, size_mm: tuple[float, float, float]) -> Crop:
    width, height, depth = size_mm
    shown = {"axial": (width, height), "coronal": (width, depth), "sagittal": (height, depth)}[plane]
    return Crop(center, *shown)


def _levels(view: View) -> list[tuple[Plane, int]]:
    """Axial slices at shares of the height that the masks take, or the scan; the nearest goes to lesions instead."""
    bits, voxels = view.classes_by_slice("axial")
    hits = np.flatnonzero(voxels)
    low, high = (int(hits[0]), int(hits[-1])) if len(hits) else (0, len(voxels) - 1)
    levels = [round(low + share * (high - low)) for share in _AXIAL_LEVELS]
    lesions = np.flatnonzero((bits & view.lesion_bits()[:, None]).any(axis=0))
    if len(lesions):
        middle = int(lesions[len(lesions) // 2])
        levels[int(np.argmin([abs(at - middle) for at in levels]))] = middle
    return [("axial", at) for at in levels]


def _busiest(view: View, plane: Plane) -> tuple[Plane, int]:
    """The slice through the most classes, lesions first, then through the most voxels; the middle one without masks."""
    bits, voxels = view.classes_by_slice(plane)
    if not voxels.any():
        return plane, len(voxels) // 2
    classes = np.bitwise_count(bits).sum(axis=0)
    lesions = np.bitwise_count(bits & view.lesion_bits()[:, None]).sum(axis=0)
    return plane, int(np.argmax(lesions * len(view.names) + classes + voxels / (voxels.max() + 1)))


def _legend(axes: Axes, masks: MaskSet, palette: Palette, height_pt: float) -> None:
    """Colored names with volumes, in columns; classes that were looked for and not found are gray."""
    rows = [(palette.vocabulary[name], _amount(volume_ml)) for name, volume_ml in masks.volumes_ml().items()]
    columns = 2 if len(rows) <= _TWO_COLUMNS else 3
    height = -(-max(1, len(rows)) // columns)
    step, width = min(20 / height_pt, 0.98 / height), 2 / columns
    longest = max((len(_label(concept)) + len(amount) for concept, amount in rows), default=1)
    # In points: as small as the rows are low and as the longest of them is long.
    size = min(9.0, 0.85 * step * height_pt, 225 * width / longest)
    axes.set_axis_off()
    axes.set(xlim=(0, 2), ylim=(0, 1))
    for i, (concept, amount) in enumerate(rows):
        x, y = 0.06 + width * (i // height), 1 - (i % height + 0.5) * step
        _swatch(axes, (x, y), palette[concept.name] if amount else Style((51, 55, 59)), size)
        axes.text(x + 0.055, y, _label(concept), color=_INK if amount else "#6b7075", fontsize=size, va="center")
        axes.text(x + 0.9 * width, y, amount or "–", color=_DIM, fontsize=size, va="center", ha="right")


def _swatch(axes: Axes, spot: tuple[float, float], style: Style, size: float) -> None:
    """A square of a class's color; of two bars where its outline is dashed."""
    color, (x, y) = np.array(style.color) / 255, spot
    if not style.dashed:
        axes.plot([x], [y], marker="s", markersize=size, color=color)
        return
    bar = [(-0.38, -1.0), (0.38, -1.0), (0.38, 1.0), (-0.38, 1.0)]
    for shift in (-0.002 * size, 0.002 * size):
        axes.plot([x + shift], [y], marker=bar, markersize=size, markeredgewidth=0, color=color)


def _amount(volume_ml: float) -> str:
    if not volume_ml:
        return ""
    return f"{volume_ml:,.0f} ml" if volume_ml >= 10 else f"{volume_ml:.1f} ml"


def _label(concept: Concept) -> str:
    return concept.display_name.replace(" and ", " & ").replace("portal vein &", "portal &")
