"""One slice as a picture, as radiologists look at it.

The patient's right is on the left of the picture, the front is up in axial slices and on the left in sagittal ones,
the head is up elsewhere. Pixels are square in mm. Slices are those of the scan: where it is oblique, so are they.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxicon.report.canvas import GUIDE, INK, Canvas, Pixels, Spot, text_width
from voxicon.report.palette import Color, Style
from voxicon.report.view import AXIS, Plane, Range, View

SHOWN_HU = (-160.0, 240.0)
"""Soft tissue window, level 40 width 400. Source: the usual abdominal preset of viewers."""

PIXEL_MM = 0.7
"""About the size of a voxel of the usual scan."""

LUNG_HU = (-1350.0, 150.0)
"""Lung window, level -600 width 1500. Source: the usual preset of viewers."""

_SIDES: dict[Plane, tuple[str, str, str, str]] = {
    "axial": ("R", "L", "A", "P"),
    "coronal": ("R", "L", "S", "I"),
    "sagittal": ("A", "P", "S", "I"),
}
"""Marks on the left, right, upper and lower side."""

_BAR_MM = (1, 2, 5, 10, 20, 50, 100, 200)
_MOST_OF_WIDTH = 0.3
_BOX_GAP_PX = 3
_TICK_PX = 4.0
_DASH_PX = 5
_MARGIN_PX = 5
_FAINT = 0.35

Point = tuple[float, float, float]
"""RAS mm."""

Places = NDArray[np.floating[Any]]
"""Fractional indices."""


@dataclass(frozen=True)
class Crop:
    """The part of a slice that is shown; what lies outside of the scan is black.

    Attributes:
        center_mm: RAS.
        width_mm: From left to right of the picture.
        height_mm: From top to bottom.
    """

    center_mm: Point
    width_mm: float
    height_mm: float


@dataclass(frozen=True)
class Boxed:
    """A dashed box around a lesion, shown where the slice cuts it.

    Attributes:
        box_voxels: First voxel and the one after the last, along the axes of the scan as stored.
        name: Class that gives the color.
        label: A few letters above the box.
    """

    box_voxels: tuple[Range, Range, Range]
    name: str
    label: str = ""


@dataclass(frozen=True)
class Shown:
    """What is drawn on a slice.

    Attributes:
        window_hu: HU shown black and white.
        outlines: Classes that are outlined and filled; None for all, empty for the bare CT.
        thin: Of these, classes that get a thin outline and no fill.
        outline_px: Width of the others' outlines.
        fill: Share of a class's color inside of it.
        boxes: Dashed boxes.
        lines: Measurements, two RAS ends each.
        guides: Other slices, by plane and index in the scan as stored; thin lines show where they cut this one.
        marks: Whether sides, scale and caption are written.
        letters_px: Height of letters.
    """

    window_hu: tuple[float, float] = SHOWN_HU
    outlines: Collection[str] | None = None
    thin: Collection[str] = ()
    outline_px: int = 1
    fill: float = 0.25
    boxes: tuple[Boxed, ...] = ()
    lines: tuple[tuple[Point, Point], ...] = ()
    guides: tuple[tuple[Plane, int], ...] = ()
    marks: bool = True
    letters_px: int = 12


@dataclass(frozen=True, eq=False)
class Picture:
    """A slice, drawn.

    Attributes:
        pixels: (rows, columns, 3) uint8.
        mm_per_pixel: The same in both directions.
    """

    pixels: Pixels
    mm_per_pixel: float


def draw_slice(
    view: View,
    plane: Plane,
    at: int,
    shown: Shown | None = None,
    *,
    crop: Crop | None = None,
    pixel_mm: float = PIXEL_MM,
) -> Picture:
    """Draw one slice.

    Args:
        view: The scan and its masks.
        plane: Which way it is cut.
        at: Index of the slice in the scan as stored, along the voxel axis that runs closest to the plane's normal.
        shown: What is drawn on it; masks, marks and scale bar if left out.
        crop: Part that is shown; the whole slice if left out.
        pixel_mm: Size of a pixel.
    """
    shown = shown or Shown()
    index = view.stored_index(plane, at)
    frame = frame_of(view, plane, crop, pixel_mm)
    canvas = Canvas(_gray(view, plane, index, frame, shown.window_hu))
    for name, flat in view.slice_masks(plane, index).items():
        if shown.outlines is None or name in shown.outlines or name in shown.thin:
            thin = name in shown.thin
            _mask(canvas, frame, flat, view.palette[name], 1 if thin else shown.outline_px, 0 if thin else shown.fill)
    for other, number in shown.guides:
        _guide(canvas, frame, AXIS[other], view.stored_index(other, number))
    for ends in shown.lines:
        _measure(canvas, *(frame.spot(one) for one in view.index(ends)))
    for box in shown.boxes:
        _box(canvas, frame, view.box(box.box_voxels), index, view.palette[box.name].color, box.label, shown)
    if shown.marks:
        _marks(canvas, plane, shown.letters_px)
        _scale_bar(canvas, pixel_mm, shown.letters_px)
        caption = caption_of(plane, at)
        canvas.text((_MARGIN_PX, _MARGIN_PX), caption, INK, shown.letters_px, "lt")
    return Picture(canvas.pixels, pixel_mm)


def caption_of(plane: Plane, at: int) -> str:
    """Plane and number of a slice, from 1 as viewers count."""
    return f"{plane} {at + 1}"


@dataclass(frozen=True)
class Frame:
    """Where indices of a plane lie in its picture. Rows and columns run against the indices, in every plane.

    Attributes:
        axis: Cut across.
        across: Index axis that runs from right to left of the picture, and the one from bottom to top.
        center: Indices at the middle of the picture, along these two.
        size: Rows and columns.
        step: Pixels per index, along these two.
    """

    axis: int
    across: tuple[int, int]
    center: tuple[float, float]
    size: tuple[int, int]
    step: tuple[float, float]

    def spot(self, index: NDArray[np.float64]) -> Spot:
        """Row and column of a point, given as three indices."""
        (a, b), (rows, columns) = self.across, self.size
        row = rows / 2 - 0.5 - (float(index[b]) - self.center[1]) * self.step[1]
        column = columns / 2 - 0.5 - (float(index[a]) - self.center[0]) * self.step[0]
        return row, column

    def indices(self) -> tuple[Places, Places]:
        """Index along the second axis of every row, along the first one of every column."""
        rows, columns = self.size
        down = self.center[1] - (np.arange(rows) + 0.5 - rows / 2) / self.step[1]
        along = self.center[0] - (np.arange(columns) + 0.5 - columns / 2) / self.step[0]
        return down, along


def frame_of(view: View, plane: Plane, crop: Crop | None, pixel_mm: float) -> Frame:
    """The frame of a crop, or of the whole slice."""
    axis = AXIS[plane]
    a, b = (other for other in range(3) if other != axis)
    shape, spacing = view.geometry.shape, view.geometry.spacing_mm
    if crop is None:
        center, size_mm = ((shape[a] - 1) / 2, (shape[b] - 1) / 2), (shape[a] * spacing[a], shape[b] * spacing[b])
    else:
        index = view.index(crop.center_mm)
        center, size_mm = (float(index[a]), float(index[b])), (crop.width_mm, crop.height_mm)
    columns, rows = (max(1, round(length / pixel_mm)) for length in size_mm)
    return Frame(axis, (a, b), center, (rows, columns), (spacing[a] / pixel_mm, spacing[b] / pixel_mm))


def _gray(view: View, plane: Plane, index: int, frame: Frame, window_hu: tuple[float, float]) -> Pixels:
    low, high = window_hu
    flat = np.clip((view.slice_hu(plane, index).astype(np.float32) - low) / (high - low), 0, 1)
    down, along = frame.indices()
    gray = _sampled(flat, along, down)
    for axis, (places, n) in enumerate(((down, flat.shape[1]), (along, flat.shape[0]))):
        outside = (places < -0.5) | (places > n - 0.5)
        gray[outside if axis == 0 else (slice(None), outside)] = 0
    return np.repeat(np.round(255 * gray).astype(np.uint8)[..., None], 3, axis=2)


def _sampled(flat: NDArray[np.float32], along: Places, down: Places) -> NDArray[np.float32]:
    """(rows, columns) of a slice at fractional indices, linear; the outermost values go on outside."""
    values = flat
    for axis, places in enumerate((along, down)):
        n = values.shape[axis]
        inside = np.clip(places, 0, n - 1)
        first = np.minimum(inside.astype(int), max(0, n - 2))
        share = (inside - first).astype(np.float32)
        share = share[:, None] if axis == 0 else share[None]
        low, high = values.take(first, axis=axis), values.take(np.minimum(first + 1, n - 1), axis=axis)
        values = low + share * (high - low)
    return values.T


def _mask(canvas: Canvas, frame: Frame, flat: NDArray[np.bool_], style: Style, width: int, fill: float) -> None:
    """Outline and fill one class, within the box of pixels it takes."""
    down, along = frame.indices()
    hits = [np.flatnonzero(flat.any(axis=axis)) for axis in (1, 0)]
    columns, rows = (_reached(*one) for one in zip((along, down), hits, frame.step, strict=True))
    if not len(rows) or not len(columns):
        return
    # One row of nothing around: an outline closes where the mask ends, and stays open where the picture does.
    mask = _sampled(np.pad(flat, 1).astype(np.float32), along[columns] + 1, down[rows] + 1) > 0.5
    if not mask.any():
        # Smaller than a pixel: shown as one, since nothing that was found may vanish.
        middle = tuple(float(hit.mean()) for hit in hits)
        mask[np.abs(down[rows] - middle[1]).argmin(), np.abs(along[columns] - middle[0]).argmin()] = True
    rim = mask & ~_eroded(mask, width)
    if style.dashed:
        tiles = np.add.outer((rows // _DASH_PX), (columns // _DASH_PX)) % 2 == 0
        rim &= tiles
    share = np.where(rim, 1.0, np.where(mask, fill, 0.0))
    canvas.cover(share, style.color, int(rows[0]), int(columns[0]))


def _reached(places: Places, hits: NDArray[np.intp], step: float) -> NDArray[np.intp]:
    """Rows or columns of a picture that a mask may reach, and one more on either side for its outline to close."""
    reach = max(1.0, 0.5 / step)
    inside = np.flatnonzero((places > hits[0] - reach) & (places < hits[-1] + reach))
    return inside if not len(inside) else np.arange(max(0, inside[0] - 1), min(len(places), inside[-1] + 2))


def _eroded(mask: NDArray[np.bool_], times: int) -> NDArray[np.bool_]:
    """What is left of a mask without its outermost pixels; the border of the array is no edge."""
    for _ in range(times):
        padded = np.pad(mask, 1, mode="edge")
        mask = mask & padded[2:, 1:-1] & padded[:-2, 1:-1] & padded[1:-1, 2:] & padded[1:-1, :-2]
    return mask


def _guide(canvas: Canvas, frame: Frame, axis: int, index: int) -> None:
    """A thin line where a slice across another axis cuts."""
    if axis == frame.axis:
        return
    (rows, columns), (row, column) = frame.size, frame.spot(np.full(3, float(index)))
    if axis == frame.across[0]:
        canvas.cover(np.full((rows, 1), _FAINT), GUIDE, 0, round(column))
    else:
        canvas.cover(np.full((1, columns), _FAINT), GUIDE, round(row), 0)


def _measure(canvas: Canvas, start: Spot, end: Spot) -> None:
    """A line with ticks at its ends."""
    span = np.subtract(end, start)
    length = float(np.hypot(*span))
    tick = np.array([-span[1], span[0]]) / length * _TICK_PX if length else np.array([_TICK_PX, 0.0])
    for width, color in ((3.0, (0, 0, 0)), (1.2, (255, 255, 255))):
        canvas.line(start, end, color, width)
        for r, c in (start, end):
            canvas.line((r - tick[0], c - tick[1]), (r + tick[0], c + tick[1]), color, width)


def _box(
    canvas: Canvas, frame: Frame, box: tuple[Range, Range, Range], index: int, color: Color, label: str, shown: Shown
) -> None:
    if not box[frame.axis][0] <= index < box[frame.axis][1]:
        return
    low = frame.spot(np.array([high - 0.5 for _, high in box]))
    high = frame.spot(np.array([low - 0.5 for low, _ in box]))
    top, left = round(low[0]) - _BOX_GAP_PX, round(low[1]) - _BOX_GAP_PX
    bottom, right = round(high[0]) + _BOX_GAP_PX, round(high[1]) + _BOX_GAP_PX
    canvas.rectangle((top, left), (bottom, right), color, dashed=True)
    if label:
        rows, columns = canvas.pixels.shape[:2]
        above = top - 3 >= shown.letters_px
        column = min(max(left, _MARGIN_PX), max(0, columns - text_width(label, shown.letters_px) - _MARGIN_PX))
        row = top - 3 if above else min(bottom + 3, rows - shown.letters_px)
        canvas.text((row, column), label, color, shown.letters_px, "lb" if above else "lt")


def _marks(canvas: Canvas, plane: Plane, size: int) -> None:
    rows, columns = canvas.pixels.shape[:2]
    left, right, up, down = _SIDES[plane]
    edge = _MARGIN_PX
    for spot, mark, anchor in (
        ((rows / 2, edge), left, "lm"),
        ((rows / 2, columns - 1 - edge), right, "rm"),
        ((edge, columns / 2), up, "mt"),
        ((rows - 1 - edge, columns / 2), down, "mb"),
    ):
        canvas.text(spot, mark, INK, size, anchor)


def bar_mm(width_mm: float) -> int:
    """Length of the scale bar for a picture that wide: the longest round one within three tenths of it."""
    return max((length for length in _BAR_MM if length <= _MOST_OF_WIDTH * width_mm), default=_BAR_MM[0])


def _scale_bar(canvas: Canvas, pixel_mm: float, size: int) -> None:
    rows, columns = canvas.pixels.shape[:2]
    length_mm = bar_mm(columns * pixel_mm)
    length = round(length_mm / pixel_mm)
    right, bottom = columns - 1 - 2 * _MARGIN_PX, rows - 1 - 2 * _MARGIN_PX
    left = right - length + 1
    canvas.cover(np.full((6, length + 2), 0.6), (0, 0, 0), bottom - 2, left - 1)
    canvas.cover(np.ones((2, length)), (255, 255, 255), bottom, left)
    for column in (left, right):
        canvas.cover(np.ones((6, 1)), (255, 255, 255), bottom - 2, column)
    label = f"{length_mm // 10} cm" if length_mm % 10 == 0 else f"{length_mm} mm"
    canvas.text((bottom - 4, (left + right) / 2), label, INK, size - 1, "mb")
