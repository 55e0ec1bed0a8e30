"""Text cannot leave its place, scales are straight, ticks are round."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.report.pages import parsed, texts, with_class
from voxicon.report.svg import (
    COLORS,
    Row,
    Scale,
    color,
    escape,
    hatches,
    legend,
    nothing,
    number,
    round_values,
    rows_picture,
    shape_legend,
    stairs,
    tag,
)


@given(st.text())
def test_any_text_is_safe_in_a_tag_and_in_quotes(text: str) -> None:
    picture = parsed(tag("text", escape(text), label=text) if text else tag("text", label=text))
    clean = "".join("\N{REPLACEMENT CHARACTER}" if c < " " and c not in "\t\n" else c for c in text)
    assert (picture.text or "") == clean
    assert "<" not in escape(text)
    assert '"' not in escape(text)


def test_attributes_are_spelled_as_in_svg() -> None:
    written = tag("line", x1=0.5, stroke_width=2, class_="grid", dy=None)
    assert written == '<line x1="0.5" stroke-width="2" class="grid"/>'


@pytest.mark.parametrize(("value", "written"), [(1.0, "1"), (0.126, "0.13"), (-0.001, "0"), (100.0, "100")])
def test_coordinates_are_short(value: float, written: str) -> None:
    assert number(value) == written


def test_a_scale_is_straight_and_stops_at_its_ends() -> None:
    scale = Scale(0.5, 1.0)
    # (0.6 - 0.5) / (1.0 - 0.5) = 20%
    assert scale.at(0.6) == "20%"
    assert (scale.at(0.1), scale.at(7)) == ("0%", "100%")
    # From 0.75 (50%) to 1.0 (100%), and to 2.0, which lies at the end too.
    assert scale.width(0.75, 1.0) == scale.width(0.75, 2.0) == "50%"
    assert scale.width(1.0, 0.75) == "0%"
    assert Scale(3, 3).at(3) == "0%"


def test_ticks_are_round() -> None:
    assert round_values(0, 2209) == [0, 500, 1000, 1500, 2000]
    assert round_values(-0.02, 0.02, 4) == pytest.approx([-0.02, -0.01, 0, 0.01, 0.02])
    assert round_values(1, 1) == round_values(0, math.inf) == []


@given(st.floats(-1e6, 1e6), st.floats(1e-3, 1e6))
def test_ticks_are_few_and_inside(low: float, length: float) -> None:
    values = round_values(low, low + length)
    assert 2 <= len(values) <= 7
    room = 1e-6 * max(length, abs(low))
    assert all(low - room <= value <= low + length + room for value in values)


def test_rows_have_names_values_and_notes() -> None:
    rows = [Row("liver", "<rect/>", "12", " of 20", "50%", "a note"), Row("a" * 40, "<rect/>")]
    svg = rows_picture("Title & more", rows, Scale(0, 10), unit="scans", reference=5)
    picture = parsed(svg)
    assert picture.find("title").text == "Title & more"
    assert {"liver", "12 of 20", "scans", "a" * 23 + "…"} <= set(texts(svg))
    assert [group.find("title").text for group in picture.iter("g") if group.find("title") is not None] == ["a note"]
    # A name cut short is there in full when pointed at.
    assert "a" * 40 in [title.text for title in picture.iter("title")]
    assert [line.get("x1") for line in with_class(svg, "reference")] == ["50%"]
    assert len({group.get("transform") for group in picture.iter("g")}) == 2


def test_a_narrow_page_can_hide_every_second_tick() -> None:
    svg = rows_picture("t", [Row("x", "<rect/>")], Scale(0, 5))
    assert [tag.text for tag in with_class(svg, "second")] == ["1", "3", "5"]


def test_room_for_values_counts_the_longer_form_only_where_it_is_shown() -> None:
    style = parsed(rows_picture("t", [Row("x", "<rect/>", "12", " of 20")], Scale(0, 1))).get("style") or ""
    room = dict(part.split(":") for part in style.split(";"))
    # 6.8 px a letter: 8 letters and 2 letters, and 16 px around.
    assert (room["--right"], room["--narrow"]) == ("70px", "30px")


def test_nothing_says_so() -> None:
    assert texts(nothing("empty")) == ["nothing to show"]
    assert rows_picture("empty", [], Scale(0, 1)) == nothing("empty")


def test_stairs_rise_only_at_points() -> None:
    assert stairs([(0, 0), (1, 2), (3, 4)]) == [(0, 0), (1, 0), (1, 2), (3, 2), (3, 4)]
    assert stairs([]) == []


def test_every_color_has_a_fill_and_more_share_the_last() -> None:
    assert [color(index) for index in (0, COLORS - 1, COLORS, 99)] == ["c0", "c17", "c17", "c17"]
    assert len(parsed(hatches()).findall(".//pattern")) == COLORS // 2


def test_a_legend_tells_apart_or_is_not_there() -> None:
    assert legend([("c0", "one")]) == shape_legend(["one"]) == ""
    found = parsed(legend([("c0", "<b>"), ("c1", "b")]))
    assert ["".join(item.itertext()) for item in found] == ["<b>", "b"]
    shapes = [child.tag for child in parsed(shape_legend(["a", "b", "c"])).iter() if child.tag in {"circle", "polygon"}]
    assert shapes == ["circle", "polygon", "polygon"]
