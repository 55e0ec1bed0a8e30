"""Square plots: ROC and FROC curves, and true against predicted volumes. SVG as text, as in `voxicon.report.plots`."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from voxicon.report.svg import escape, note, nothing, number, picture, polyline, round_values, stairs, tag

_WIDTH, _HEIGHT = 380.0, 340.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 52.0, 14.0, 12.0, 46.0
_MOST_FALSE_POSITIVES = 8.0
"""End of a FROC scale. Source: LUNA16's last operating point (Setio et al., MedIA 2017)."""


@dataclass(frozen=True)
class Mark:
    """A point to point out, with intervals where it has some."""

    x: float
    y: float
    label: str = ""
    x_interval: tuple[float, float] | None = None
    y_interval: tuple[float, float] | None = None


@dataclass(frozen=True)
class Band:
    """An interval around a curve.

    Attributes:
        x: Ascending.
        low: Lower bound at each x.
        high: Upper bound at each x.
    """

    x: Sequence[float]
    low: Sequence[float]
    high: Sequence[float]


@dataclass(frozen=True)
class _Axes:
    """Where values lie in a square plot, in pixels."""

    x: Callable[[float], float]
    y: Callable[[float], float]

    @classmethod
    def linear(cls, x_end: float, y_end: float) -> _Axes:
        return cls(
            lambda v: _LEFT + min(1.0, max(0.0, v / x_end)) * (_WIDTH - _LEFT - _RIGHT),
            lambda v: _HEIGHT - _BOTTOM - min(1.0, max(0.0, v / y_end)) * (_HEIGHT - _TOP - _BOTTOM),
        )

    @classmethod
    def logarithmic(cls, low: float, high: float) -> _Axes:
        """The same decades both ways; values at or below the low end, zero too, lie at it."""
        length = math.log10(high / low)
        unit = cls.linear(length, length)
        return cls(
            lambda v: unit.x(math.log10(max(v, low) / low)),
            lambda v: unit.y(math.log10(max(v, low) / low)),
        )


def roc(
    title: str,
    specificity: Sequence[float],
    sensitivity: Sequence[float],
    *,
    band: Band | None = None,
    mark: Mark | None = None,
    label: str = "",
) -> str:
    """A ROC curve: sensitivity over 1 - specificity, with the diagonal of chance.

    Args:
        title: For those who cannot see it.
        specificity: Of every point, descending.
        sensitivity: Of every point, ascending.
        band: Interval of sensitivity over 1 - specificity.
        mark: The operating point, x being 1 - specificity.
        label: Written in the free corner, such as the area under the curve.
    """
    if not len(specificity):
        return nothing(title)
    axes = _Axes.linear(1, 1)
    points = [(1 - sp, se) for sp, se in zip(specificity, sensitivity, strict=True)]
    chance = polyline([(axes.x(0), axes.y(0)), (axes.x(1), axes.y(1))], "chance")
    return _curve(title, axes, points, (1.0, "1 - specificity"), chance + _band(axes, band), (mark, label))


def froc(
    title: str,
    false_positives_per_scan: Sequence[float],
    sensitivity: Sequence[float],
    *,
    mark: Mark | None = None,
    label: str = "",
) -> str:
    """A FROC curve: share of lesions found over false findings per scan, shown up to 8 of them.

    Args:
        title: For those who cannot see it.
        false_positives_per_scan: Of every point, ascending.
        sensitivity: Of every point, ascending.
        mark: The operating point.
        label: Written in the free corner.
    """
    if not len(false_positives_per_scan):
        return nothing(title)
    last = max(false_positives_per_scan)
    end = min(_MOST_FALSE_POSITIVES, max(0.5, math.ceil(last * 2) / 2))
    points = list(zip(false_positives_per_scan, sensitivity, strict=True))
    shown = [(x, y) for x, y in points if x <= end]
    # What was found at the last point shown stays found up to the end of the scale.
    shown.append((end, shown[-1][1] if shown else 0.0))
    axes = _Axes.linear(end, 1)
    parts = (end, "false findings per scan")
    return _curve(title, axes, stairs(shown), parts, "", (mark, label))


def volumes(title: str, cases: Sequence[tuple[float, float, str]], *, unit: str = "ml") -> str:
    """True against predicted volume of cases (truth, prediction, name) on two equal logarithmic scales.

    On the diagonal they agree. Cases where one of the two is 0 lie at the lower or left end, as open marks.
    """
    cases = [case for case in cases if math.isfinite(case[0]) and math.isfinite(case[1])]
    positive = [v for truth, predicted, _ in cases for v in (truth, predicted) if v > 0]
    if not positive:
        return nothing(title)
    low = 10.0 ** (math.floor(math.log10(min(positive))) - (0 if all(a * b > 0 for a, b, _ in cases) else 0.5))
    high = max(10.0 ** math.ceil(math.log10(max(positive)) - 1e-9), 10 * low)
    axes = _Axes.logarithmic(low, high)
    decades = range(math.ceil(math.log10(low) - 1e-9), round(math.log10(high)) + 1)
    grid = _grid(axes, [10.0**d for d in decades], [10.0**d for d in decades], (f"true {unit}", f"predicted {unit}"))
    grid += polyline([(axes.x(low), axes.y(low)), (axes.x(high), axes.y(high))], "chance")
    dots = [
        tag(
            "circle",
            note(f"{name}: true {truth:,.4g} {unit}, predicted {predicted:,.4g} {unit}"),
            cx=axes.x(truth),
            cy=axes.y(predicted),
            r=3,
            class_="dot" if truth > 0 and predicted > 0 else "dot open",
        )
        for truth, predicted, name in cases
    ]
    return picture(title, grid + "".join(dots), _HEIGHT, width_px=_WIDTH)


def _curve(
    title: str,
    axes: _Axes,
    points: Sequence[tuple[float, float]],
    along: tuple[float, str],
    under: str,
    over: tuple[Mark | None, str],
) -> str:
    end, x_label = along
    mark, label = over
    content = _grid(axes, round_values(0, end), round_values(0, 1), (x_label, "sensitivity")) + under
    content += polyline([(axes.x(x), axes.y(y)) for x, y in points], "curve")
    if mark is not None and math.isfinite(mark.x) and math.isfinite(mark.y):
        content += _mark(axes, mark)
    lines = [(label, None), (f"● {mark.label}" if mark and mark.label else "", "marked")]
    for index, (line, class_) in enumerate(reversed([line for line in lines if line[0]])):
        y = _HEIGHT - _BOTTOM - 14 - 17 * index
        content += tag("text", escape(line), x=_WIDTH - _RIGHT - 10, y=y, text_anchor="end", class_=class_)
    return picture(title, content, _HEIGHT, width_px=_WIDTH)


def _grid(axes: _Axes, x_values: Sequence[float], y_values: Sequence[float], labels: tuple[str, str]) -> str:
    bottom, right = _HEIGHT - _BOTTOM, _WIDTH - _RIGHT
    parts = []
    for value in x_values:
        x = axes.x(value)
        parts.append(tag("line", x1=x, x2=x, y1=_TOP, y2=bottom, class_="grid"))
        parts.append(tag("text", _short(value), x=x, y=bottom + 16, text_anchor="middle", class_="soft"))
    for value in y_values:
        y = axes.y(value)
        parts.append(tag("line", x1=_LEFT, x2=right, y1=y, y2=y, class_="grid"))
        parts.append(tag("text", _short(value), x=_LEFT - 6, y=y, dy="0.35em", text_anchor="end", class_="soft"))
    middle = number((_TOP + bottom) / 2)
    parts.append(
        tag("text", escape(labels[0]), x=(_LEFT + right) / 2, y=_HEIGHT - 8, text_anchor="middle", class_="soft")
    )
    turned = f"translate(13 {middle}) rotate(-90)"
    parts.append(tag("text", escape(labels[1]), text_anchor="middle", class_="soft", transform=turned))
    return "".join(parts)


def _band(axes: _Axes, band: Band | None) -> str:
    if band is None or not len(band.x):
        return ""
    upper = [(axes.x(x), axes.y(y)) for x, y in zip(band.x, band.high, strict=True)]
    lower = [(axes.x(x), axes.y(y)) for x, y in zip(band.x, band.low, strict=True)]
    corners = " ".join(f"{number(x)},{number(y)}" for x, y in [*upper, *reversed(lower)])
    return tag("polygon", points=corners, class_="band")


def _mark(axes: _Axes, mark: Mark) -> str:
    x, y = axes.x(mark.x), axes.y(mark.y)
    parts = ""
    if mark.x_interval is not None:
        parts += tag("line", x1=axes.x(mark.x_interval[0]), x2=axes.x(mark.x_interval[1]), y1=y, y2=y, class_="over")
    if mark.y_interval is not None:
        parts += tag("line", x1=x, x2=x, y1=axes.y(mark.y_interval[0]), y2=axes.y(mark.y_interval[1]), class_="over")
    return parts + tag("circle", note(mark.label), cx=x, cy=y, r=5.5, class_="mark")


def _short(value: float) -> str:
    return f"{round(value, 9):,g}" if value < 1e6 else f"{value:.0e}"
