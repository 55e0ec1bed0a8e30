"""One picture of a result: the masks over the CT in three planes, with a legend.

Shown as radiologists look at it: the patient's right is on the left of the picture, the front is up in
axial slices and on the left in sagittal ones, the head is up elsewhere. Pixels are square in millimetres.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from voxicon.core.concepts import Concept, Vocabulary
from voxicon.core.masks import MaskSet
from voxicon.core.orientation import to_ras_order
from voxicon.core.storage import pieces, plane, release
from voxicon.core.volume import Volume

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SHOWN_HU = (-160.0, 240.0)
"""Soft tissue window, level 40 width 400. Source: the usual abdominal preset of viewers."""

_SKIN_HU = -300.0
_FRAME_MM = 8.0
_PIXEL_MM = 0.8
_FILL, _INK, _PAPER = 0.38, "#e8e8e8", "#101214"
_RIGHT, _FRONT, _HEAD = 0, 1, 2
_TWO_COLUMNS = 48
"""Most classes that a legend of two columns shows in readable print."""

_AXIAL_LEVELS = (0.78, 0.5, 0.22)
"""Shares of the masks' height at which axial slices are shown, from the head down."""


@dataclass(frozen=True)
class _View:
    """A scan and its masks in RAS order, as views of the arrays."""

    hu: NDArray[Any]
    words: tuple[NDArray[np.uint32], ...]
    spacing_mm: tuple[float, float, float]
    first: tuple[int, int, int] = (0, 0, 0)
    """Index in the whole scan of the first voxel shown."""


def render_preview(volume: Volume, masks: MaskSet, vocabulary: Vocabulary, footer: str = "") -> bytes:
    """A PNG of three axial slices, one coronal, one sagittal, and a legend with volumes.

    Slices are placed by the masks; without any mask they are placed by the scan.

    Args:
        volume: The scan.
        masks: On the scan's grid.
        vocabulary: Gives colors and names.
        footer: A line at the bottom.
    """
    from matplotlib.figure import Figure

    view = _framed(_ras_view(volume, masks))
    bounds = _occupied(view)
    figure = Figure(figsize=(13.2, 8.4), dpi=100, facecolor=_PAPER)
    grid = figure.add_gridspec(2, 3, left=0.01, right=0.99, top=0.94, bottom=0.045, wspace=0.02, hspace=0.06)
    low, high = bounds[_HEAD]
    for column, share in enumerate(_AXIAL_LEVELS):
        at = round(low + share * (high - 1 - low))
        _draw(figure.add_subplot(grid[0, column]), view, masks, vocabulary, _HEAD, at, "axial")
    for column, (axis, name) in enumerate([(_FRONT, "coronal"), (_RIGHT, "sagittal")]):
        at = _busiest(view, axis)
        _draw(figure.add_subplot(grid[1, column]), view, masks, vocabulary, axis, at, name)
    _legend(figure.add_subplot(grid[1, 2]), masks, vocabulary)
    x, y, z = volume.geometry.shape
    spacing = " × ".join(f"{s:.2f}" for s in volume.geometry.spacing_mm)
    figure.text(0.012, 0.962, volume.source.name, color=_INK, fontsize=14, weight="bold")
    figure.text(0.988, 0.964, f"{x} × {y} × {z} voxels · {spacing} mm", color="#9aa0a6", fontsize=10, ha="right")
    figure.text(0.012, 0.014, footer, color="#9aa0a6", fontsize=9)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", facecolor=_PAPER, metadata={"Software": None})
    return buffer.getvalue()


def _ras_view(volume: Volume, masks: MaskSet) -> _View:
    hu, geometry = to_ras_order(volume.hu, volume.geometry)
    words = tuple(to_ras_order(word, volume.geometry)[0] for word in masks.words)
    return _View(hu, words, geometry.spacing_mm)


def _framed(view: _View) -> _View:
    """Cut left-right and front-back to the patient, so that no picture is mostly air; all slices stay."""
    shadow = (view.hu[..., :: max(1, view.hu.shape[2] // 32)] > _SKIN_HU).sum(axis=2)
    release(view.hu)
    box = []
    for axis in range(2):
        # A line of couch or a wire crosses few voxels; the body crosses many.
        across = (shadow > 0).sum(axis=1 - axis)
        hits = np.flatnonzero(across > 0.15 * across.max())
        margin = round(_FRAME_MM / view.spacing_mm[axis])
        low, high = (hits[0], hits[-1] + 1) if len(hits) else (0, view.hu.shape[axis])
        box.append(slice(max(0, int(low) - margin), int(high) + margin))
    first = (box[0].start, box[1].start, 0)
    words = tuple(word[box[0], box[1]] for word in view.words)
    return _View(view.hu[box[0], box[1]], words, view.spacing_mm, first)


def _occupied(view: _View) -> list[tuple[int, int]]:
    """First and one-past-last index with any mask, per axis; the whole axis where there is none."""
    seen = [np.zeros(n, dtype=bool) for n in view.hu.shape]
    for word in view.words:
        for piece in pieces(word):
            for axis, others in enumerate(((1, 2), (0, 2), (0, 1))):
                seen[axis][piece[axis]] |= word[piece].any(axis=others)
    hits = [np.flatnonzero(one) for one in seen]
    return [(int(h[0]), int(h[-1]) + 1) if len(h) else (0, len(s)) for h, s in zip(hits, seen, strict=True)]


def _busiest(view: _View, axis: int) -> int:
    """The slice through the most classes, and among those through the most voxels; the middle one without masks."""
    others = tuple(a for a in range(3) if a != axis)
    classes, voxels = np.zeros((2, view.hu.shape[axis]))
    for word in view.words:
        folded = np.zeros(view.hu.shape[axis], dtype=np.uint32)
        for piece in pieces(word):
            folded[piece[axis]] |= np.bitwise_or.reduce(word[piece], axis=others)
            voxels[piece[axis]] += np.count_nonzero(word[piece], axis=others)
        classes += np.bitwise_count(folded)
    if not voxels.any():
        return int(view.hu.shape[axis]) // 2
    return int(np.argmax(classes + voxels / (voxels.max() + 1)))


def _draw(axes: Axes, view: _View, masks: MaskSet, vocabulary: Vocabulary, axis: int, at: int, title: str) -> None:
    """One slice with its masks."""
    a, b = (other for other in range(3) if other != axis)
    zoom = (view.spacing_mm[a] / _PIXEL_MM, view.spacing_mm[b] / _PIXEL_MM)
    low, high = SHOWN_HU
    gray = np.clip((plane(view.hu, axis, at).astype(np.float32) - low) / (high - low), 0, 1)
    gray = ndimage.zoom(gray, zoom, order=1, grid_mode=True, mode="nearest")
    picture = np.repeat(gray[..., None], 3, axis=2)
    words = [plane(word, axis, at) for word in view.words]
    for index, name in enumerate(masks.names):
        flat = (words[index // 32] >> np.uint32(index % 32)) & np.uint32(1)
        if not flat.any():
            continue
        mask = ndimage.zoom(flat.astype(np.float32), zoom, order=1, grid_mode=True, mode="nearest") > 0.5
        color = np.array(vocabulary[name].color) / 255
        picture[mask] = (1 - _FILL) * picture[mask] + _FILL * color
        picture[mask & ~ndimage.binary_erosion(mask)] = color
    # (x, y) → rows from the front down, columns from the patient's right; head up in the other planes.
    shown = picture.transpose(1, 0, 2)[::-1]
    axes.imshow(shown[:, ::-1], interpolation="bilinear")
    axes.set_axis_off()
    caption = f"{title} {view.first[axis] + at + 1}"
    axes.text(
        0.012, 0.985, caption, transform=axes.transAxes, color=_INK, fontsize=9, va="top",
        bbox={"facecolor": _PAPER, "alpha": 0.6, "edgecolor": "none", "pad": 2},
    )  # fmt: skip
    left = {_HEAD: "R", _FRONT: "R", _RIGHT: "A"}[axis]
    axes.text(0.012, 0.5, left, transform=axes.transAxes, color="#9aa0a6", fontsize=10, va="center")


def _legend(axes: Axes, masks: MaskSet, vocabulary: Vocabulary) -> None:
    """Colored names with volumes, in columns; classes that were looked for and not found are gray."""
    rows = [(vocabulary[name], _amount(volume_ml)) for name, volume_ml in masks.volumes_ml().items()]
    columns = 2 if len(rows) <= _TWO_COLUMNS else 3
    height = -(-max(1, len(rows)) // columns)
    step, width = min(0.075, 0.96 / height), 2 / columns
    longest = max((len(_label(concept)) + len(amount) for concept, amount in rows), default=1)
    # In points: as small as the rows are low and as the longest of them is long.
    size = min(9.0, 225 * step, 225 * width / longest)
    axes.set_axis_off()
    axes.set(xlim=(0, 2), ylim=(0, 1))
    for i, (concept, amount) in enumerate(rows):
        x, y = 0.06 + width * (i // height), 0.97 - (i % height) * step
        color, ink = (np.array(concept.color) / 255, _INK) if amount else ("#33373b", "#6b7075")
        axes.plot([x], [y], marker="s", markersize=size, color=color)
        axes.text(x + 0.055, y, _label(concept), color=ink, fontsize=size, va="center")
        axes.text(x + 0.9 * width, y, amount or "–", color="#9aa0a6", fontsize=size, va="center", ha="right")


def _amount(volume_ml: float) -> str:
    if not volume_ml:
        return ""
    return f"{volume_ml:,.0f} ml" if volume_ml >= 10 else f"{volume_ml:.1f} ml"


def _label(concept: Concept) -> str:
    return concept.display_name.replace(" and ", " & ").replace("portal vein &", "portal &")
