"""Lines and letters on a picture: smooth edges, whole pixels where a length is to be read off."""

from __future__ import annotations

import io
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from voxicon.report.palette import Color

Pixels = NDArray[np.uint8]
Spot = tuple[float, float]
"""Row and column; whole numbers are centers of pixels."""

INK: Color = (232, 232, 232)
DIM: Color = (154, 160, 166)
GUIDE: Color = (120, 200, 255)
SHADE: Color = (12, 13, 15)

_DASH_PX = 4.0


class Canvas:
    """Draws on an RGB picture in place.

    Args:
        pixels: (rows, columns, 3) uint8. What falls outside is left out.
    """

    def __init__(self, pixels: Pixels) -> None:
        self.pixels = pixels

    def cover(self, share: NDArray[Any], color: Color, row: int = 0, column: int = 0) -> None:
        """Mix a color into the picture, `share` (rows, columns) of it from 0 to 1, from a pixel on."""
        rows, columns = self.pixels.shape[:2]
        top, left = max(0, -row), max(0, -column)
        share = share[top : max(top, rows - row), left : max(left, columns - column)]
        row, column = row + top, column + left
        below = self.pixels[row : row + share.shape[0], column : column + share.shape[1]]
        mixed = below + share[..., None].astype(np.float32) * (np.array(color, dtype=np.float32) - below)
        below[...] = np.round(mixed).astype(np.uint8)

    def line(self, start: Spot, end: Spot, color: Color, width: float = 1.5, *, dashed: bool = False) -> None:
        """A straight line between two spots, with smooth edges and butt ends."""
        (r0, c0), (r1, c1) = start, end
        reach = int(width) + 2
        top, left = int(min(r0, r1)) - reach, int(min(c0, c1)) - reach
        rows, columns = np.ogrid[: int(abs(r1 - r0)) + 2 * reach + 2, : int(abs(c1 - c0)) + 2 * reach + 2]
        y, x = rows + (top - r0), columns + (left - c0)
        length = max(1e-6, float(np.hypot(r1 - r0, c1 - c0)))
        along = (y * (r1 - r0) + x * (c1 - c0)) / length
        aside = np.abs(y * (c1 - c0) - x * (r1 - r0)) / length
        share = np.clip((width + 1) / 2 - aside, 0, 1) * np.clip(0.5 + np.minimum(along, length - along) + 0.5, 0, 1)
        if dashed:
            share = share * (np.floor(along / _DASH_PX) % 2 == 0)
        self.cover(share, color, top, left)

    def rectangle(self, low: Spot, high: Spot, color: Color, *, dashed: bool = False) -> None:
        """The frame between an upper left and a lower right spot, in whole pixels."""
        (top, left), (bottom, right) = (tuple(round(value) for value in spot) for spot in (low, high))
        for start, end in (
            ((top, left), (top, right)),
            ((bottom, left), (bottom, right)),
            ((top, left), (bottom, left)),
            ((top, right), (bottom, right)),
        ):
            self.line(start, end, color, 1.0, dashed=dashed)

    def text(self, spot: Spot, text: str, color: Color = INK, size: int = 12, anchor: str = "mm") -> None:
        """Letters with a dark rim, so that they are read on bone as on air.

        Args:
            spot: Where they stand.
            text: One line.
            color: Of the letters.
            size: Height in pixels.
            anchor: Which point of the text stands there: ``l``, ``m`` or ``r``, and ``t``, ``m`` or ``b``.
        """
        for share, top, left, ink in _letters(text, size, anchor, color):
            self.cover(share, ink, round(spot[0]) + top, round(spot[1]) + left)


def text_width(text: str, size: int = 12) -> int:
    """Pixels that a line of letters takes from left to right."""
    return int(_font(size).getlength(text) + 0.5)


def to_png(pixels: Pixels) -> bytes:
    """A picture, (rows, columns, 3) uint8, as the bytes of a PNG file."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG")
    return buffer.getvalue()


def beside(pictures: list[Pixels], gap: int = 6, axis: Literal[0, 1] = 1, paper: Color = SHADE) -> Pixels:
    """Pictures in one row (axis 1) or column (axis 0), centered across it, a gap between them."""
    across = 1 - axis
    most = max(picture.shape[across] for picture in pictures)
    shape = [0, 0, 3]
    shape[across], shape[axis] = most, sum(picture.shape[axis] for picture in pictures) + gap * (len(pictures) - 1)
    sheet: Pixels = np.full(shape, paper, dtype=np.uint8)
    at = 0
    for picture in pictures:
        place = [slice(0, 0), slice(0, 0)]
        first = (most - picture.shape[across]) // 2
        place[across] = slice(first, first + picture.shape[across])
        place[axis] = slice(at, at + picture.shape[axis])
        sheet[tuple(place)] = picture
        at += picture.shape[axis] + gap
    return sheet


def _letters(text: str, size: int, anchor: str, color: Color) -> list[tuple[NDArray[Any], int, int, Color]]:
    """Shares of ink, where they lie from the spot, and their color: the rim first."""
    from PIL import Image, ImageDraw

    font, rim = _font(size), 2
    x0, y0, x1, y1 = font.getbbox(text, anchor="ls", stroke_width=rim)
    width, height = int(np.ceil(x1 - x0)), int(np.ceil(y1 - y0))
    left = {"l": 0, "m": -(width // 2), "r": -width}[anchor[0]]
    top = {"t": 0, "m": -(height // 2), "b": -height}[anchor[1]]
    found = []
    for stroke, ink in ((rim, SHADE), (0, color)):
        image = Image.new("L", (max(1, width), max(1, height)))
        ImageDraw.Draw(image).text((-x0, -y0), text, fill=255, font=font, anchor="ls", stroke_width=stroke)
        found.append((np.asarray(image) / 255 * (0.75 if stroke else 1), top, left, ink))
    return found


@cache
def _font(size: int) -> Any:
    import matplotlib
    from PIL import ImageFont

    return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"), size)
