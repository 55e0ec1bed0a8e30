"""Masks as bodies of glass, from the front and from the left: lesions are bright inside of their organs.

In each view a class becomes a layer: how deep its surface lies, which way that faces, how much of a pixel it covers.
Layers are put together from the back to the front, every pixel in its own order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from voxicon.core.concepts import Vocabulary
from voxicon.core.masks import MaskSet
from voxicon.report.canvas import DIM, Canvas, Pixels, beside, to_png
from voxicon.report.fields import Field, fields_of, outer_box
from voxicon.report.palette import Color, Palette

Side = Literal["front", "left"]

_AXES: dict[Side, tuple[tuple[int, bool], ...]] = {
    "front": ((1, True), (2, True), (0, True)),
    "left": ((0, False), (2, True), (1, True)),
}
"""RAS axes that run away from the viewer, down and to the right of the picture, and whether the other way."""

_MARKS: dict[Side, tuple[str, str]] = {"front": ("R", "L"), "left": ("A", "P")}

# How it looks is our own choice throughout.
_PAPER: Color = (15, 17, 20)
_MARGIN_PX = 24
_WIDEST = 2.2
"""Most width of both views for their height."""

_AMBIENT, _GLOSS, _FADE, _HOLLOW = 0.45, 0.3, 0.25, 0.08
_RIM = 0.75
"""Opacity of glass where it is seen edgewise."""

_SHINE = 0.65
"""Least share of a lesion's own color in a pixel, whatever lies before it."""

_STRIP = 16

Map = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class _Layer:
    """One class in one view: the pixels from a row and column on.

    Attributes:
        row: First one.
        column: First one.
        depth: (rows, columns) cubes from the viewer.
        color: (rows, columns, 3), lit, 0 to 255.
        share: (rows, columns) of the pixel that it takes.
        lesion: Whether it is one.
    """

    row: int
    column: int
    depth: Map
    color: Map
    share: Map
    lesion: bool


def solid_picture(
    masks: MaskSet, vocabulary: Vocabulary, palette: Palette | None = None, height_px: int = 600
) -> bytes:
    """A PNG of all masks from the front and from the left, head up, in one scale.

    From the front the patient's right is on the left of the picture; from the left the patient's front is. Lesions are
    opaque and shine through whatever lies before them. Without any voxel only the marks are drawn.

    Args:
        masks: On the scan's grid.
        vocabulary: Knows the classes.
        palette: Gives colors; those of the vocabulary if left out.
        height_px: Rows of the picture.
    """
    palette = palette or Palette(vocabulary)
    fields = list(fields_of(masks))
    low, size = outer_box(fields)
    free = height_px - 2 * _MARGIN_PX
    zoom = min(free / size[2], _WIDEST * free / (size[0] + size[1]))
    views: list[Pixels] = []
    for side, (left, right) in _MARKS.items():
        extent = [int(size[axis]) for axis, _ in _AXES[side]]
        rows, columns = height_px, round(extent[2] * zoom) + 2 * _MARGIN_PX
        # The body stands in the middle of the picture's height.
        origin = (rows - extent[1] * zoom) / 2, float(_MARGIN_PX)
        layers = []
        for field in fields:
            lesion, color = vocabulary[field.name].kind == "lesion", palette[field.name].color
            seen, first = _turned(field, side, low, extent)
            layers.append(_layer(seen, first, _Look(color, _opacity(field, lesion), lesion, extent[0], zoom, origin)))
        canvas = Canvas(_composed(layers, (rows, columns)))
        for spot, mark, anchor in (
            ((rows / 2, 5), left, "lm"), ((rows / 2, columns - 6), right, "rm"),
            ((5, columns / 2), "S", "mt"), ((rows - 6, columns / 2), "I", "mb"),
        ):  # fmt: skip
            canvas.text(spot, mark, DIM, 13, anchor)
        views.append(canvas.pixels)
    return to_png(beside(views, gap=0, paper=_PAPER))


@dataclass(frozen=True)
class _Look:
    """How a class is to look in a view.

    Attributes:
        color: Its own.
        opacity: Of a surface that faces the viewer.
        lesion: Whether it is one.
        deepest: Cubes from the nearest to the farthest one of the view.
        zoom: Pixels per cube.
        origin: Row and column of the view's first cube.
    """

    color: Color
    opacity: float
    lesion: bool
    deepest: int
    zoom: float
    origin: tuple[float, float]


def _opacity(field: Field, lesion: bool) -> float:
    """Large organs are clearer than small ones, or they would hide all that lies in them."""
    if lesion:
        return 1.0
    return float(np.clip(0.66 - 0.17 * np.log10(max(field.volume_ml, 1e-3) / 10), 0.14, 0.66))


def _turned(
    field: Field, side: Side, low: NDArray[np.int64], extent: Sequence[int]
) -> tuple[Map, tuple[int, int, int]]:
    """A field with its axes away from the viewer, down and right, and where it begins along them."""
    seen = field.values.transpose([axis for axis, _ in _AXES[side]])
    first = []
    for place, (axis, flipped) in enumerate(_AXES[side]):
        start = int(field.first[axis] - low[axis])
        first.append(extent[place] - start - seen.shape[place] if flipped else start)
    flips = tuple(slice(None, None, -1 if flipped else 1) for _, flipped in _AXES[side])
    return seen[flips], (first[0], first[1], first[2])


def _layer(seen: Map, first: tuple[int, int, int], look: _Look) -> _Layer:
    """The first surface along every line of sight, and the light on it."""
    depth, normal, cover = _surface(seen)
    # Hollows, deeper than what is around them, get less light.
    there = (cover > 0.5).astype(np.float32)
    around = ndimage.gaussian_filter(depth * there, 4) / np.maximum(ndimage.gaussian_filter(there, 4), 1e-3)
    hollow = 1 - np.clip(_HOLLOW * (depth - around), -0.25, 0.45)
    # From cubes to pixels.
    top, left = (o + f * look.zoom for o, f in zip(look.origin, first[1:], strict=True))
    row, column = int(np.floor(top)), int(np.floor(left))
    rows, columns = (int(np.ceil(n * look.zoom)) + 1 for n in seen.shape[1:])
    places = np.meshgrid(
        (np.arange(rows) + row + 0.5 - top) / look.zoom - 0.5,
        (np.arange(columns) + column + 0.5 - left) / look.zoom - 0.5,
        indexing="ij",
    )

    def fine(values: Map) -> Map:
        found: Map = ndimage.map_coordinates(values, places, order=1, mode="nearest", output=np.float32)
        return found

    depth, cover = fine(depth) + first[0], fine(cover)
    facing = np.stack([fine(part) for part in normal], axis=-1)
    facing /= np.maximum(np.linalg.norm(facing, axis=-1, keepdims=True), 1e-6)
    toward = np.clip(-facing[..., 0], 0, 1)
    light = _AMBIENT + (1 - _AMBIENT) * np.clip(facing @ _lamp(), 0, 1)
    light = light * fine(hollow) * (1 - _FADE * np.clip(depth / max(1, look.deepest), 0, 1))
    between = _lamp() + np.array([-1, 0, 0], dtype=np.float32)
    gloss = _GLOSS * np.clip(facing @ (between / np.linalg.norm(between)), 0, 1) ** 30
    color = np.array(look.color, dtype=np.float32) * light[..., None] + 255 * gloss[..., None]
    opacity = look.opacity + (max(_RIM, look.opacity) - look.opacity) * (1 - toward) ** 2.5
    share = opacity * np.clip((cover - 0.5) * 2.5 * look.zoom + 0.5, 0, 1)
    return _Layer(row, column, depth, np.clip(color, 0, 255).astype(np.float32), share, look.lesion)


def _lamp() -> NDArray[np.float32]:
    """Unit vector toward the lamp, in the axes of a view: away from the viewer, down, right."""
    lamp: NDArray[np.float32] = np.array([-0.8, -0.45, -0.35], dtype=np.float32)
    return lamp / np.linalg.norm(lamp)


def _surface(seen: Map) -> tuple[Map, list[Map], Map]:
    """Depth of the surface in cubes, its outward normal, and the largest value on each line of sight.

    Lines that miss the surface get those of the place where they come nearest to it, so that edges can be drawn
    finer than cubes.
    """
    inside = seen > 0.5
    at = np.where(inside.any(axis=0), inside.argmax(axis=0), seen.argmax(axis=0))
    rows, columns = np.indices(at.shape)

    def value(da: int = 0, dr: int = 0, dc: int = 0) -> Map:
        places = (at + da, rows + dr, columns + dc)
        found: Map = seen[tuple(np.clip(p, 0, n - 1) for p, n in zip(places, seen.shape, strict=True))]
        return found

    here, before = value(), value(-1)
    share = np.clip((here - 0.5) / np.maximum(here - before, 1e-3), 0, 1)
    normal = [value(-1) - value(1), value(0, -1) - value(0, 1), value(0, 0, -1) - value(0, 0, 1)]
    return (at - share).astype(np.float32), normal, seen.max(axis=0)


def _composed(layers: Sequence[_Layer], shape: tuple[int, int]) -> Pixels:
    """All layers in one picture, strip by strip: the memory of a strip, however many classes there are."""
    picture = np.empty((*shape, 3), dtype=np.float32)
    picture[:] = _PAPER
    for top in range(0, shape[0], _STRIP):
        strip = picture[top : top + _STRIP]
        parts = [part for layer in layers if (part := _in_strip(layer, top, strip.shape)) is not None]
        if not parts:
            continue
        depth, color, share = (np.stack([part[i] for part in parts]) for i in range(3))
        order = np.argsort(-depth, axis=0)
        color = np.take_along_axis(color, order[..., None], axis=0)
        share = np.take_along_axis(share, order, axis=0)
        shine = _SHINE * share * np.array([part[3] for part in parts])[order]
        # Once more for the lesions alone, so that no organ dims them.
        for shares in (share, shine) if shine.any() else (share,):
            for one, much in zip(color, shares[..., None], strict=True):
                strip += much * (one - strip)
    return np.clip(np.round(picture), 0, 255).astype(np.uint8)


def _in_strip(layer: _Layer, top: int, shape: tuple[int, ...]) -> tuple[Map, Map, Map, bool] | None:
    """Depth, color and share of a layer over the whole width of a strip of rows; None where it does not reach it."""
    rows, columns = layer.share.shape
    low, high = max(top, layer.row, 0), min(top + shape[0], layer.row + rows)
    left, right = max(layer.column, 0), min(shape[1], layer.column + columns)
    if low >= high or left >= right:
        return None
    source = slice(low - layer.row, high - layer.row), slice(left - layer.column, right - layer.column)
    target = slice(low - top, high - top), slice(left, right)
    found: list[Any] = []
    for values in (layer.depth, layer.color, layer.share):
        whole = np.zeros((shape[0], shape[1], *values.shape[2:]), dtype=np.float32)
        whole[target] = values[source]
        found.append(whole)
    return found[0], found[1], found[2], layer.lesion
