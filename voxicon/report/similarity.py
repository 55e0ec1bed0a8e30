"""A picture of how alike words are: the matrix of their vectors' cosines, with names."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from voxicon.report.svg import spoken

_CELL_IN, _NAME_IN, _EDGE_IN = 0.3, 0.068, 0.25
_NUMBERS = 48
"""Most words of which every cell has its cosine written into it."""
_MOST_IN = 60.0
"""Longest side of a picture; above it the cells get smaller."""


def similarity_matrix(
    title: str, names: Sequence[str], cosines: NDArray[Any], kind: Literal["png", "svg"] = "png"
) -> bytes:
    """A square of cells, from blue (-1, opposite) over white (0) to red (1, the same).

    The same numbers give the same bytes. Every cell says its cosine in percent, up to 48 words.

    Args:
        title: Above the square.
        names: Of the rows and columns; at least one.
        cosines: (N, N); NaN is left gray.
        kind: Of the picture.
    """
    import matplotlib
    from matplotlib.figure import Figure

    size = len(names)
    cell = min(_CELL_IN, _MOST_IN / size)
    room = _NAME_IN * max(len(name) for name in names) + 0.2
    width, height = cell * size + room + _EDGE_IN + 0.9, cell * size + room + 2 * _EDGE_IN
    width = max(width, _NAME_IN * len(title) + 2 * _EDGE_IN)
    figure = Figure(figsize=(width, height), dpi=110)
    axes = figure.add_axes((room / width, room / height, cell * size / width, cell * size / height))
    colors = matplotlib.colormaps["RdBu_r"].with_extremes(bad="0.75")
    image = axes.imshow(np.ma.masked_invalid(cosines), cmap=colors, vmin=-1, vmax=1, interpolation="nearest")
    print_pt = min(8.0, 0.7 * 72 * cell)
    axes.set_xticks(range(size), [spoken(name) for name in names], rotation=90, fontsize=print_pt)
    axes.set_yticks(range(size), [spoken(name) for name in names], fontsize=print_pt)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    if size <= _NUMBERS:
        _write_numbers(axes, cosines, 0.8 * print_pt)
    figure.text(_EDGE_IN / width, 1 - 0.2 / height, title, fontsize=9, va="center")
    left = (room + cell * size + 0.15) / width
    scale = figure.add_axes((left, room / height, 0.12 / width, min(cell * size, 2.0) / height))
    figure.colorbar(image, cax=scale, ticks=[-1, 0, 1]).ax.tick_params(labelsize=8)
    return _drawn(figure, kind)


def _write_numbers(axes: Any, cosines: NDArray[Any], print_pt: float) -> None:
    for row, column in np.argwhere(~np.isnan(cosines) & ~np.eye(len(cosines), dtype=bool)):
        value = float(cosines[row, column])
        ink = "white" if abs(value) > 0.65 else "black"  # the map's ends are dark
        axes.text(column, row, f"{round(100 * value)}", ha="center", va="center", fontsize=print_pt, color=ink)


def _drawn(figure: Any, kind: str) -> bytes:
    import matplotlib

    content = io.BytesIO()
    # Without a salt the ids of an SVG are random; without a date of None it tells the time.
    with matplotlib.rc_context({"svg.hashsalt": "voxicon", "svg.fonttype": "none"}):
        figure.savefig(content, format=kind, metadata={"Date": None} if kind == "svg" else None)
    return content.getvalue()
