"""What every plot is made of: escaped tags, scales, and rows of marks that fit any width.

Lengths along a row are percentages, so a plot of rows is as wide as its page and its print stays as large as it is;
only square plots are scaled. Colors are classes (``c0`` to ``c17``) that the page's style sheet defines, once for
light and once for dark. No time, no random number, no id: the same data give the same bytes.
"""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

COLORS = 18
"""Fills: nine colors, then the same nine hatched. More keys than that share the last one."""

_CHAR_PX = 6.8
"""Mean width of a letter in the style sheet's 12 px print, a little generous."""

_ROW_PX, _TOP_PX, _BOTTOM_PX = 24, 6, 40
_LONGEST_NAME = 24

_CONTROLS = {code: "\N{REPLACEMENT CHARACTER}" for code in range(32) if chr(code) not in "\t\n"}


@dataclass(frozen=True)
class Scale:
    """Where values lie between two ends; outside of them they lie at the nearer one.

    Attributes:
        low: Value at 0%.
        high: Value at 100%; a scale without length puts everything at 0%.
    """

    low: float
    high: float

    def share(self, value: float) -> float:
        """Position from 0 to 1."""
        length = self.high - self.low
        return min(1.0, max(0.0, (value - self.low) / length)) if length > 0 else 0.0

    def at(self, value: float) -> str:
        """Position as a percentage."""
        return f"{number(100 * self.share(value))}%"

    def width(self, start: float, end: float) -> str:
        """Distance of two values as a percentage."""
        return f"{number(100 * max(0.0, self.share(end) - self.share(start)))}%"

    def ticks(self, wanted: int = 5) -> list[float]:
        """Round values inside, about as many as wanted."""
        return round_values(self.low, self.high, wanted)


@dataclass(frozen=True)
class Row:
    """One line of a plot of rows.

    Attributes:
        name: Written on the left.
        marks: Tags around the line y = 0, with percentages along x.
        value: Written on the right of `value_at`.
        more: Written after it where there is room.
        value_at: A percentage.
        note: Shown when pointed at.
    """

    name: str
    marks: str
    value: str = ""
    more: str = ""
    value_at: str = "100%"
    note: str = ""


def escape(value: object) -> str:
    """Text that is safe inside a tag and in quotes; control characters, which XML forbids, are replaced."""
    return html.escape(str(value).translate(_CONTROLS))


def number(value: float) -> str:
    """A coordinate with at most two decimals."""
    written = f"{value:.2f}".rstrip("0").rstrip(".")
    return "0" if written == "-0" else written


def spoken(name: str) -> str:
    """A class name as people write it: without underscores."""
    return name.replace("_", " ")


def tag(name: str, content: str = "", /, **attributes: object) -> str:
    """A tag; `content` is markup already. Attributes that are None are left out; ``class_`` is ``class``."""
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(number(v) if isinstance(v, float) else v)}"'
        for key, v in attributes.items()
        if v is not None
    )
    return f"<{name}{written}>{content}</{name}>" if content else f"<{name}{written}/>"


def note(text: str) -> str:
    """What is shown when the enclosing tag is pointed at; nothing for no text."""
    return tag("title", escape(text)) if text else ""


def round_values(low: float, high: float, wanted: int = 5) -> list[float]:
    """Multiples of 1, 2 or 5 times a power of ten from `low` to `high`; none for an empty or endless range."""
    if not (math.isfinite(low) and math.isfinite(high) and high > low):
        return []
    rough = (high - low) / wanted
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough * 0.999)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [index * step for index in range(first, last + 1)]


def picture(title: str, content: str, height_px: float, *, width_px: float | None = None, style: str = "") -> str:
    """An SVG with a title: as wide as its place, or scaled as a whole when it has a width of its own."""
    inside = note(title) + content
    if width_px is None:
        return tag("svg", inside, class_="plot", role="img", height=height_px, style=style or None)
    box = f"0 0 {number(width_px)} {number(height_px)}"
    return tag("svg", inside, class_="plot square", role="img", viewBox=box)


def nothing(title: str) -> str:
    """What stands where a plot would, had it data."""
    words = tag("text", "nothing to show", x="50%", y=30, text_anchor="middle", class_="soft")
    return picture(title, words, 48)


def rows_picture(
    title: str,
    rows: Sequence[Row],
    scale: Scale,
    *,
    unit: str = "",
    reference: float | None = None,
    row_px: int = _ROW_PX,
) -> str:
    """Rows under each other over one scale, names left and values right.

    Args:
        title: For those who cannot see it.
        rows: From the top down; none gives `nothing`.
        scale: Along the rows.
        unit: Written under the scale.
        reference: A value to mark by a stronger line.
        row_px: Height of a row.
    """
    if not rows:
        return nothing(title)
    height = row_px * len(rows)
    left = round(_CHAR_PX * max(min(len(row.name), _LONGEST_NAME) for row in rows)) + 14
    right, narrow = (round(_CHAR_PX * most) + 16 for most in _value_lengths(rows))
    lines = [_row(row, (index + 0.5) * row_px) for index, row in enumerate(rows)]
    content = _grid(scale, height, unit, reference) + "".join(lines)
    below = _BOTTOM_PX if unit else _BOTTOM_PX - 16
    # Padding makes percentages count from the plot's own ends, with room outside them for names and values.
    room = f"--top:{_TOP_PX}px;--below:{below}px;--left:{left}px;--right:{right}px;--narrow:{narrow}px"
    return picture(title, content, _TOP_PX + height + below, style=room)


def _value_lengths(rows: Sequence[Row]) -> tuple[int, int]:
    """Letters of the longest value, with what follows it and without."""
    return max(len(row.value) + len(row.more) for row in rows), max(len(row.value) for row in rows)


def _row(row: Row, y: float) -> str:
    short = row.name if len(row.name) <= _LONGEST_NAME else row.name[: _LONGEST_NAME - 1].rstrip() + "…"
    name = tag("text", escape(short) + note(row.name), x=-10, dy="0.35em", text_anchor="end")
    more = tag("tspan", escape(row.more), class_="more") if row.more else ""
    value = tag("text", escape(row.value) + more, x=row.value_at, dx=8, dy="0.35em") if row.value else ""
    return tag("g", note(row.note) + name + row.marks + value, transform=f"translate(0 {number(y)})")


def _grid(scale: Scale, height: int, unit: str, reference: float | None) -> str:
    parts = []
    for index, value in enumerate(scale.ticks()):
        x = scale.at(value)
        parts.append(tag("line", x1=x, x2=x, y1=0, y2=height, class_="grid"))
        # A narrow page hides every second one.
        class_ = "soft second" if index % 2 else "soft"
        parts.append(tag("text", f"{round(value, 9):,g}", x=x, y=height + 16, text_anchor="middle", class_=class_))
    if reference is not None:
        x = scale.at(reference)
        parts.append(tag("line", x1=x, x2=x, y1=0, y2=height, class_="reference"))
    if unit:
        parts.append(tag("text", escape(unit), x="50%", y=height + 33, text_anchor="middle", class_="soft"))
    return "".join(parts)


def polyline(points: Iterable[tuple[float, float]], class_: str) -> str:
    """A line through points in pixels."""
    return tag("polyline", points=" ".join(f"{number(x)},{number(y)}" for x, y in points), class_=class_)


def stairs(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Corners added so that the height changes only where a point is, never on the way to it."""
    if not points:
        return []
    corners = [(after[0], before[1]) for before, after in pairwise(points)]
    return [points[0], *(p for pair in zip(corners, points[1:], strict=True) for p in pair)]


def hatches() -> str:
    """Fill patterns of the hatched colors; once per page, before the first plot."""
    patterns = [
        tag(
            "pattern",
            tag("rect", width=6, height=6, class_=f"c{index}") + tag("rect", width=2.5, height=6, class_="stripe"),
            id=f"hatch{index}",
            width=6,
            height=6,
            patternUnits="userSpaceOnUse",
            patternTransform="rotate(45)",
        )
        for index in range(COLORS // 2)
    ]
    # Not hidden by display: a pattern in there would not be drawn anywhere.
    return tag("svg", tag("defs", "".join(patterns)), class_="patterns", width=0, height=0, aria_hidden="true")


def color(index: int) -> str:
    """Class of the fill of the key with that number."""
    return f"c{min(index, COLORS - 1)}"


def series_color(series: int) -> int:
    """Number of the color of a series: those that differ most in lightness first."""
    return (0, 6, 2, 4, 8, 1, 7, 5, 3)[series % (COLORS // 2)]


def shape(series: int | None, inside: str = "") -> str:
    """The mark of a series around (0, 0): color is never the only difference. None for a series alone."""
    if series is None:
        return tag("circle", inside, r=4.5, class_="alone")
    class_ = f"c{series_color(series)}"
    if series % 3 == 0:
        return tag("circle", inside, r=4.5, class_=class_)
    corners = ("-4,-4 4,-4 4,4 -4,4", "0,-5 5,4 -5,4")[series % 3 - 1]
    return tag("polygon", inside, points=corners, class_=class_)


def legend(keys: Sequence[tuple[str, str]]) -> str:
    """A list of swatches as HTML, (class, name) each; nothing for fewer than two keys, which need no telling apart."""
    swatches = [(tag("rect", x=-6, y=-6, width=12, height=12, rx=2, class_=key), name) for key, name in keys]
    return _legend(swatches)


def shape_legend(names: Sequence[str]) -> str:
    """A list of the shapes of several series as HTML; nothing for fewer than two."""
    return _legend([(shape(index), name) for index, name in enumerate(names)])


def _legend(marks: Sequence[tuple[str, str]]) -> str:
    if len(marks) < 2:
        return ""
    items = [
        tag("li", tag("svg", mark, width=12, height=12, viewBox="-6 -6 12 12") + escape(name)) for mark, name in marks
    ]
    return tag("ul", "".join(items), class_="legend")
