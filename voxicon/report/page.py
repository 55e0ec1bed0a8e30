"""The frame of every page: one HTML file that needs nothing else, on screen, on paper and on a phone.

Style and pictures are inside; there is no script, and the page forbids its browser to load anything. Templates escape
whatever they are given, since file names and messages come from other people's disks.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from voxicon.report.svg import hatches, spoken
from voxicon.version import __version__

# Tab and newline stay; a lone surrogate stands for a byte of a file name that is no UTF-8.
_UNPRINTABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")


@dataclass(frozen=True)
class Figure:
    """A number to see first.

    Attributes:
        value: As it is shown.
        label: What it counts.
        note: A second, smaller line.
        tone: ``good``, ``warn``, ``bad``, or plain when empty.
    """

    value: str
    label: str
    note: str = ""
    tone: str = ""


def render(template: str, title: str, **values: Any) -> str:
    """A whole page from one of the package's templates.

    Args:
        template: Its file name.
        title: Of the page.
        values: What the template asks for; strings are escaped unless they are `Markup`.
    """
    page = _environment().get_template(template).render(title=title, version=__version__, **values)
    return _UNPRINTABLE.sub("\N{REPLACEMENT CHARACTER}", page)


def drawn(svg: str) -> Markup:
    """A plot or a legend of this package, which is escaped already, as markup for a template."""
    # Everything foreign in it went through `voxicon.report.svg.escape`.
    return Markup(svg)


def count(value: float | None) -> str:
    """A whole number with separators; a dash for none."""
    return "–" if value is None else f"{value:,.0f}"


def decimal(value: float | None, digits: int = 3) -> str:
    """A number with that many decimals; a dash for none, ∞ for infinity."""
    if value is None or math.isnan(value):
        return "–"
    if math.isinf(value):
        return "∞" if value > 0 else "-∞"
    written = f"{value:,.{digits}f}"
    return written if float(written.replace(",", "")) else written.lstrip("-")


def percent(value: float | None, digits: int = 0) -> str:
    """A share as a percentage; a dash for none."""
    return "–" if value is None or math.isnan(value) else f"{value:.{digits}%}"


def interval(estimate: Mapping[str, Any] | None, digits: int = 3, unit: str = "") -> str:
    """``low to high`` of an estimate or share; nothing when it has no interval.

    Args:
        estimate: With ``low`` and ``high``.
        digits: Decimals.
        unit: ``%`` writes shares as percentages.
    """
    if not estimate or estimate.get("low") is None or estimate.get("high") is None:
        return ""
    low, high = float(estimate["low"]), float(estimate["high"])
    if unit == "%":
        return f"{low:.{digits}%} to {high:.{digits}%}"
    return f"{decimal(low, digits)} to {decimal(high, digits)}"


def p_value(value: float | None) -> str:
    """A p value with two significant digits, from 0.001 on."""
    if value is None or math.isnan(value):
        return "–"
    return "< 0.001" if value < 0.001 else f"{value:.2g}" if value < 0.1 else f"{value:.2f}"


def first(items: Sequence[Any], most: int) -> tuple[Sequence[Any], int]:
    """The first items, and how many more there are."""
    return items[:most], max(0, len(items) - most)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("voxicon.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "count": count,
        "decimal": decimal,
        "percent": percent,
        "interval": interval,
        "p_value": p_value,
        "spoken": spoken,
    }
    environment.globals |= {"hatches": drawn(hatches()), "first": first}
    return environment
