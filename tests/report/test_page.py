"""The frame: version and warning on every page, foreign text escaped, numbers as people write them."""

from __future__ import annotations

import math

import pytest
from jinja2 import UndefinedError
from markupsafe import Markup

from tests.report.pages import checked
from voxicon.report.page import Figure, count, decimal, drawn, first, interval, p_value, percent, render
from voxicon.version import __version__


def test_the_frame_has_title_version_and_figures() -> None:
    page = checked(render("page.html", "A <title>", figures=[Figure("12", "data & sets", "a note", "warn")]))
    assert f"Voxicon {__version__}" in page.text
    assert "A <title>" in page.text
    assert "12 data & sets a note" in page.text
    assert ("div", {"class": "figure warn"}) in page.tags


def test_bytes_of_odd_file_names_cannot_break_the_page() -> None:
    source = render("page.html", "a\x00b\x1b\udcffc\td", figures=[])
    assert "a\N{REPLACEMENT CHARACTER}b\N{REPLACEMENT CHARACTER}\N{REPLACEMENT CHARACTER}c\td" in source
    source.encode("utf8")


def test_a_value_that_a_template_lacks_is_an_error() -> None:
    with pytest.raises(UndefinedError):
        render("page.html", "t")


def test_only_pictures_are_markup() -> None:
    assert isinstance(drawn("<svg/>"), Markup)


@pytest.mark.parametrize(
    ("shown", "written"),
    [
        (count(1234.0), "1,234"),
        (count(None), "–"),
        (decimal(0.12345), "0.123"),
        (decimal(-0.0001), "0.000"),
        (decimal(-1234.5, 1), "-1,234.5"),
        (decimal(None), "–"),
        (decimal(math.nan), "–"),
        (decimal(math.inf), "∞"),
        (decimal(-math.inf), "-∞"),
        (percent(0.256), "26%"),
        (percent(None), "–"),
        (interval({"low": 0.1, "high": 0.25}), "0.100 to 0.250"),
        (interval({"low": 0.1, "high": 0.25}, 0, "%"), "10% to 25%"),
        (interval({"low": None, "high": 0.25}), ""),
        (interval(None), ""),
        (p_value(0.00004), "< 0.001"),
        (p_value(0.0123), "0.012"),
        (p_value(0.5), "0.50"),
        (p_value(None), "–"),
        (first([1, 2, 3], 2), ([1, 2], 1)),
        (first([1], 2), ([1], 0)),
    ],
)
def test_numbers_as_people_write_them(shown: object, written: object) -> None:
    assert shown == written
