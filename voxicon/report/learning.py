"""Learning curves: a picture that stands alone, colors included, for a file or a page of documentation."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from voxicon.report.svg import escape, note, number, round_values, tag

_WIDTH, _HEIGHT = 560.0, 340.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 52.0, 110.0, 16.0, 46.0
_COLORS = ("#5b6770", "#0072b2", "#d55e00", "#009e73", "#cc79a7")
"""Source: Okabe and Ito, Color Universal Design, 2008: the color-blind tell them apart; gray is for a baseline."""

_PRINT = 14.0
"""Height of a line of print."""

_DASHES = (None, "7 3", "2 3", "9 3 2 3", "4 4")


@dataclass(frozen=True)
class Line:
    """One curve.

    Attributes:
        name: Written at its end.
        points: (x above 0, value, lower bound, upper bound), x ascending; bounds may be None.
    """

    name: str
    points: tuple[tuple[float, float, float | None, float | None], ...]


def learning_curves(title: str, lines: Sequence[Line], label: str = "training scans", value: str = "Dice") -> str:
    """An SVG file's text: curves over a logarithmic axis, with whiskers for intervals. Empty lines are not shown.

    Args:
        title: For those who cannot see it.
        lines: In order; the first in gray.
        label: Of the axis below.
        value: Of the axis on the left, which begins at 0.
    """
    lines = [line for line in lines if line.points]
    xs = sorted({x for line in lines for x, *_ in line.points}) or [1.0, 2.0]
    low, high = math.log2(xs[0]), math.log2(xs[-1]) if len(xs) > 1 else math.log2(xs[0]) + 1
    tops = [v for line in lines for _, *values in line.points for v in values if v is not None]
    end = min(1.0, max([0.2, *tops]) * 1.05)

    def place(x: float) -> float:
        return _LEFT + (math.log2(x) - low) / (high - low) * (_WIDTH - _LEFT - _RIGHT)

    def rise(v: float) -> float:
        return _HEIGHT - _BOTTOM - v / end * (_HEIGHT - _TOP - _BOTTOM)

    content = note(title) + tag("rect", width=_WIDTH, height=_HEIGHT, fill="#ffffff")
    content += _axes(xs, end, place, rise, (label, value))
    names = _apart([rise(line.points[-1][1]) + 4 for line in lines])
    for index, line in enumerate(lines):
        content += _line(line, index, place, rise, names[index])
    box = f"0 0 {number(_WIDTH)} {number(_HEIGHT)}"
    style = "font: 12px system-ui, sans-serif"
    return tag(
        "svg", content, xmlns="http://www.w3.org/2000/svg", viewBox=box, width=_WIDTH, height=_HEIGHT, role="img",
        style=style,
    )  # fmt: skip


def _axes(
    xs: Sequence[float],
    end: float,
    place: Callable[[float], float],
    rise: Callable[[float], float],
    labels: tuple[str, str],
) -> str:
    content = ""
    for v in round_values(0, end):
        content += tag("line", x1=_LEFT, x2=_WIDTH - _RIGHT, y1=rise(v), y2=rise(v), stroke="#dfe3e6")
        content += tag("text", f"{v:g}", x=_LEFT - 8, y=rise(v) + 4, text_anchor="end", fill="#33383c")
    for x in xs:
        content += tag("text", f"{x:g}", x=place(x), y=_HEIGHT - _BOTTOM + 18, text_anchor="middle", fill="#33383c")
    middle = (_LEFT + _WIDTH - _RIGHT) / 2
    content += tag("text", escape(labels[0]), x=middle, y=_HEIGHT - 8, text_anchor="middle", fill="#33383c")
    up = (_TOP + _HEIGHT - _BOTTOM) / 2
    turned = f"rotate(-90 14 {number(up)})"
    return content + tag(
        "text", escape(labels[1]), x=14.0, y=up, text_anchor="middle", transform=turned, fill="#33383c"
    )


def _line(
    line: Line, index: int, place: Callable[[float], float], rise: Callable[[float], float], name_y: float
) -> str:
    color, dash = _COLORS[index % len(_COLORS)], _DASHES[index % len(_DASHES)]
    # Beside each other, so that whiskers do not hide each other.
    shift = 3.0 * index
    at = [(place(x) + shift, v, low, high) for x, v, low, high in line.points]
    content = tag(
        "polyline", points=" ".join(f"{number(x)},{number(rise(v))}" for x, v, _, _ in at), fill="none", stroke=color,
        stroke_width=2, stroke_dasharray=dash,
    )  # fmt: skip
    for (x, v, low, high), (scans, *_) in zip(at, line.points, strict=True):
        if low is not None and high is not None:
            content += tag("line", x1=x, x2=x, y1=rise(low), y2=rise(high), stroke=color, stroke_opacity=0.6)
        content += tag("circle", note(f"{line.name}, {scans:g}: {v:.3f}"), cx=x, cy=rise(v), r=4, fill=color)
    return content + tag("text", escape(line.name), x=at[-1][0] + 12, y=name_y, fill=color)


def _apart(heights: Sequence[float]) -> list[float]:
    """Heights of lines of text, in their order from top to bottom, at least as far from each other as print is high."""
    placed = list(heights)
    for upper, lower in pairwise(sorted(range(len(heights)), key=lambda index: heights[index])):
        placed[lower] = max(placed[lower], placed[upper] + _PRINT)
    return placed
