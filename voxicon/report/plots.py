"""Plots of rows: how many, how good and how sure, one class or dataset per line.

Every function gives an SVG as text, made for the pages of this package (their style sheet colors it), with a title
for those who cannot see it. Without data it says so.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeGuard

import numpy as np

from voxicon.report.svg import Row, Scale, color, note, rows_picture, series_color, shape, tag

_GOLDEN = 0.6180339887498949
_ALL_DOTS = 60
"""Values of the fullest row up to which a box plot shows all of them."""
_FEW_OUTLIERS = 30


@dataclass(frozen=True)
class Bar:
    """One bar.

    Attributes:
        name: Of the row.
        parts: Key → length; keys without a length are left out.
        behind: A paler bar behind: what the parts are taken from. None for none.
    """

    name: str
    parts: Mapping[str, float]
    behind: float | None = None


@dataclass(frozen=True)
class Dot:
    """A value and its interval.

    Attributes:
        value: None for nothing to draw.
        low: Lower bound; None for no interval.
        high: Upper bound; None likewise.
        note: Shown when pointed at.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    note: str = ""


@dataclass(frozen=True)
class Share:
    """So many of so many, with an interval; the fields of `voxicon.evaluate.statistics.Proportion` and a name."""

    name: str
    count: int
    total: int
    value: float | None = None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Strip:
    """All values of one row, at best with a note each."""

    name: str
    values: Sequence[float]
    notes: Sequence[str] = field(default=())


def bars(title: str, rows: Sequence[Bar], keys: Sequence[str], *, unit: str = "", fills: Sequence[str] = ()) -> str:
    """Horizontal bars, each made of parts in the order of `keys`, with their sum at the end.

    Args:
        title: For those who cannot see it.
        rows: From the top down.
        keys: All parts that may occur; the n-th has the n-th color.
        unit: Under the scale.
        fills: Classes to use in place of the colors, one per key.
    """
    fills = fills or [color(index) for index in range(len(keys))]
    longest = max((max(sum(row.parts.values()), row.behind or 0) for row in rows), default=0)
    scale = Scale(0, longest or 1)
    drawn = []
    for row in rows:
        start, marks = 0.0, ""
        if row.behind is not None:
            marks += _rect(scale, 0, row.behind, 14, "behind")
        for key, fill in zip(keys, fills, strict=True):
            length = row.parts.get(key, 0)
            if length > 0:
                told = note(f"{row.name}, {key}: {length:,.10g}")
                marks += _rect(scale, start, start + length, 14, fill, told)
                start += length
        behind = row.behind or 0
        more = f" of {behind:,.10g}" if behind > start else ""
        drawn.append(Row(row.name, marks, f"{start:,.10g}", more, scale.at(max(start, behind))))
    return rows_picture(title, drawn, scale, unit=unit)


def dots(
    title: str,
    rows: Sequence[tuple[str, Sequence[Dot]]],
    *,
    low: float | None = None,
    high: float | None = None,
    unit: str = "",
    reference: float | None = None,
) -> str:
    """Values with their intervals, one series after another in every row; a series alone has its values written.

    Args:
        title: For those who cannot see it.
        rows: Name and one dot per series.
        low: Start of the scale; by default at or below the lowest bound.
        high: End of the scale; by default at or above the highest bound.
        unit: Under the scale.
        reference: A value to mark, such as zero for differences.
    """
    rows = [(name, row) for name, row in rows if any(_is_number(dot.value) for dot in row)]
    scale = _scale([v for _, row in rows for dot in row for v in (dot.value, dot.low, dot.high)], low, high, reference)
    several = max((len(row) for _, row in rows), default=1)
    drawn = []
    for name, row in rows:
        if several == 1:
            drawn.append(Row(name, _dot(row[0], None, scale, 0), _written(row[0].value or 0)))
            continue
        offsets = [8 * (index - (several - 1) / 2) for index in range(len(row))]
        marks = [_dot(dot, index, scale, y) for index, (dot, y) in enumerate(zip(row, offsets, strict=True))]
        drawn.append(Row(name, "".join(marks)))
    return rows_picture(
        title, drawn, scale, unit=unit, reference=reference, row_px=24 if several == 1 else 12 + 9 * several
    )


def shares(title: str, rows: Sequence[Share], *, unit: str = "") -> str:
    """Bars of shares from 0 to 1 with intervals and counts, such as lesions found by size; empty rows stay."""
    scale = Scale(0, 1)
    drawn = []
    for row in rows:
        marks = _rect(scale, 0, 1, 16, "behind")
        if _is_number(row.value):
            marks += _rect(scale, 0, row.value, 16, "accent") + _whisker(scale, row.low, row.high, 0, "over")
        drawn.append(Row(row.name, marks, f"{row.count:,} of {row.total:,}"))
    return rows_picture(title, drawn, scale, unit=unit, row_px=28)


def strips(
    title: str,
    rows: Sequence[Strip],
    *,
    low: float | None = None,
    high: float | None = None,
    unit: str = "",
    reference: float | None = None,
) -> str:
    """Box plots with their values as dots; with many values in some row only those beyond the whiskers are dots.

    Boxes go from the first to the third quartile, whiskers to the last value within 1.5 box lengths.
    Source: Tukey, Exploratory Data Analysis, 1977.

    Args:
        title: For those who cannot see it.
        rows: From the top down; values that are no numbers are left out, and so are rows without any.
        low: Start of the scale.
        high: End of the scale.
        unit: Under the scale.
        reference: A value to mark, such as zero for differences.
    """
    kept = [(row, _numbers(row.values)) for row in rows]
    kept = [(row, values) for row, values in kept if len(values)]
    scale = _scale([v for _, values in kept for v in values], low, high, reference)
    all_dots = max((len(values) for _, values in kept), default=0) <= _ALL_DOTS
    drawn = [
        Row(row.name, _strip(row, values, scale, all_dots), _written(float(np.median(values)))) for row, values in kept
    ]
    return rows_picture(title, drawn, scale, unit=unit, reference=reference, row_px=26)


def _strip(row: Strip, values: Sequence[float], scale: Scale, all_dots: bool) -> str:
    first, median, third = (float(q) for q in np.percentile(values, (25, 50, 75)))
    reach = 1.5 * (third - first)
    inside = [v for v in values if first - reach <= v <= third + reach]
    low, high = min(inside), max(inside)
    told = f"{row.name}: median {_written(median)}, quartiles {_written(first)} and {_written(third)}"
    marks = ""
    if len(values) > 2:
        marks += _whisker(scale, low, high, 0, "whisker") + _rect(scale, first, third, 14, "box", note(told))
    notes = list(row.notes) if len(row.notes) == len(row.values) else [""] * len(row.values)
    named = [(v, text) for v, text in zip(row.values, notes, strict=True) if _is_number(v)]
    if not all_dots:
        named = sorted((v, text) for v, text in named if v < low or v > high)[:_FEW_OUTLIERS]
    for index, (value, text) in enumerate(named):
        # Spread by the golden ratio: even, and the same every time.
        y = ((index * _GOLDEN) % 1 - 0.5) * 10
        said = note(f"{text}: {_written(value)}") if text else ""
        marks += tag("circle", said, cx=scale.at(value), cy=y, r=2.5, class_="dot")
    return marks + tag("line", x1=scale.at(median), x2=scale.at(median), y1=-9, y2=9, class_="median")


def _dot(dot: Dot, series: int | None, scale: Scale, y: float) -> str:
    """A mark with its interval; a series alone has the color of the page, not one of several."""
    if not _is_number(dot.value):
        return ""
    line = "interval" if series is None else f"interval s{series_color(series)}"
    # A nested picture, since the corners of a shape cannot be percentages.
    mark = tag("svg", shape(series, note(dot.note)), x=scale.at(dot.value), y=y, overflow="visible")
    return _whisker(scale, dot.low, dot.high, y, line) + mark


def _whisker(scale: Scale, low: float | None, high: float | None, y: float, class_: str) -> str:
    if not (_is_number(low) and _is_number(high)):
        return ""
    return tag("line", x1=scale.at(low), x2=scale.at(high), y1=y, y2=y, class_=class_)


def _rect(scale: Scale, start: float, end: float, height: float, class_: str, inside: str = "") -> str:
    width = scale.width(start, end)
    return tag("rect", inside, x=scale.at(start), width=width, y=-height / 2, height=height, class_=class_)


def _scale(values: Iterable[float | None], low: float | None, high: float | None, also: float | None) -> Scale:
    """Ends as asked for, or the data's; one value alone gets room around it."""
    seen = [v for v in [*values, also] if _is_number(v)] or [0.0]
    start, end = min(seen) if low is None else low, max(seen) if high is None else high
    room = 0.04 * (end - start) or 0.5
    return Scale(start - room if low is None else low, end + room if high is None else high)


def _numbers(values: Iterable[float | None]) -> list[float]:
    return [float(v) for v in values if _is_number(v)]


def _is_number(value: float | None) -> TypeGuard[float]:
    return value is not None and math.isfinite(value)


def _written(value: float) -> str:
    if abs(value) < 10:
        return f"{value:.3f}"
    return f"{value:.1f}" if abs(value) < 1000 else f"{value:,.0f}"
