"""Bars as long as their numbers, dots where their values are, nothing invented where nothing is."""

from __future__ import annotations

import math

import pytest

from tests.report.pages import parsed, texts, with_class
from voxicon.report.plots import Bar, Dot, Share, Strip, bars, dots, shares, strips
from voxicon.report.svg import nothing

NAN = math.nan


def widths(svg: str, name: str) -> list[str | None]:
    return [tag.get("width") for tag in with_class(svg, name)]


def test_bars_are_as_long_as_their_parts_and_stand_one_after_another() -> None:
    svg = bars("t", [Bar("liver", {"a": 30, "b": 10}, 80), Bar("spleen", {"b": 20})], ["a", "b"], unit="scans")
    # The longest is the pale bar of 80: 30, 10 and 20 of 80 are 37.5, 12.5 and 25 per cent.
    assert widths(svg, "behind") == ["100%"]
    assert widths(svg, "c0") == ["37.5%"]
    assert widths(svg, "c1") == ["12.5%", "25%"]
    assert [tag.get("x") for tag in with_class(svg, "c1")] == ["37.5%", "0%"]
    assert {"liver", "spleen", "40 of 80", "20"} <= set(texts(svg))
    assert "liver, a: 30" in [title.text for title in parsed(svg).iter("title")]


def test_bars_without_length_are_rows_all_the_same() -> None:
    svg = bars("t", [Bar("liver", {}, 0)], ["a"])
    assert "0" in texts(svg)
    assert with_class(svg, "c0") == []


def test_fills_replace_colors() -> None:
    svg = bars("t", [Bar("x", {"train": 1, "test": 3})], ["train", "test"], fills=["split-train", "split-test"])
    assert widths(svg, "split-train") == ["25%"]
    assert with_class(svg, "c0") == []


def test_large_numbers_are_written_in_full() -> None:
    assert "12,345,678 of 23,456,789" in texts(bars("t", [Bar("x", {"a": 12_345_678}, 23_456_789)], ["a"]))


def test_dots_lie_at_their_values_with_their_intervals() -> None:
    svg = dots("t", [("liver", [Dot(0.9, 0.8, 0.95, "told")])], low=0.5, high=1.0, unit="Dice")
    [line] = with_class(svg, "interval")
    # On a scale from 0.5 to 1: 0.8 is 60%, 0.95 is 90%, 0.9 is 80%.
    assert (line.get("x1"), line.get("x2")) == ("60%", "90%")
    assert [mark.get("x") for mark in parsed(svg).findall(".//g/svg")] == ["80%"]
    assert "0.900" in texts(svg)
    assert "told" in [title.text for title in parsed(svg).iter("title")]


def test_dots_without_value_or_interval() -> None:
    svg = dots("t", [("a", [Dot(None)]), ("b", [Dot(NAN)]), ("c", [Dot(0.5)]), ("d", [Dot(0.7, None, 0.8)])])
    assert with_class(svg, "interval") == []
    assert {"c", "d"} <= set(texts(svg))
    assert not {"a", "b"} & set(texts(svg))


def test_series_differ_in_height_color_and_shape() -> None:
    svg = dots("t", [("liver", [Dot(0.5, 0.4, 0.6), Dot(0.5, 0.4, 0.6), Dot(0.5, 0.4, 0.6)])])
    lines = with_class(svg, "interval")
    assert len({line.get("y1") for line in lines}) == len({line.get("class") for line in lines}) == 3
    marks = [mark[0] for mark in parsed(svg).findall(".//g/svg")]
    assert len({(mark.tag, mark.get("points")) for mark in marks}) == 3


def test_a_series_more_than_there_are_colors() -> None:
    assert len(with_class(dots("t", [("x", [Dot(i, i, i + 1) for i in range(12)])]), "interval")) == 12


def test_shares_show_counts_and_keep_empty_strata() -> None:
    svg = shares("t", [Share("0-5 mm", 1, 4, 0.25, 0.05, 0.7), Share("20+ mm", 0, 0)])
    assert {"1 of 4", "0 of 0"} <= set(texts(svg))
    assert widths(svg, "accent") == ["25%"]
    [line] = with_class(svg, "over")
    assert (line.get("x1"), line.get("x2")) == ("5%", "70%")


def test_a_strip_has_quartiles_median_and_whiskers() -> None:
    # Quartiles of 0, 1, 2, 3, 4 are 1, 2, 3; nothing is further than 1.5 * 2 from the box.
    svg = strips("t", [Strip("liver", [4, 0, 2, 1, 3])], low=0, high=4)
    [box] = with_class(svg, "box")
    assert (box.get("x"), box.get("width")) == ("25%", "50%")
    assert [line.get("x1") for line in with_class(svg, "median")] == ["50%"]
    [whisker] = with_class(svg, "whisker")
    assert (whisker.get("x1"), whisker.get("x2")) == ("0%", "100%")
    assert len(with_class(svg, "dot")) == 5


def test_equal_values_are_not_drawn_over_each_other() -> None:
    svg = strips("t", [Strip("liver", [0.5] * 9)])
    assert len({dot.get("cy") for dot in with_class(svg, "dot")}) == 9


def test_of_many_values_only_outliers_are_dots_and_they_have_names() -> None:
    values = [0.9 + 0.0001 * i for i in range(100)] + [0.1]
    svg = strips("t", [Strip("liver", values, [f"case {i}" for i in range(101)]), Strip("x", [1, 2, 3])])
    [dot] = with_class(svg, "dot")
    assert dot.find("title").text == "case 100: 0.100"


def test_values_that_are_no_numbers_are_left_out_with_their_names() -> None:
    svg = strips("t", [Strip("a", [NAN, 0.5, math.inf], ["no", "yes", "no"]), Strip("b", [NAN])])
    [dot] = with_class(svg, "dot")
    assert dot.find("title").text == "yes: 0.500"
    assert "b" not in texts(svg)


@pytest.mark.parametrize("svg", [bars("t", [], ["a"]), dots("t", []), dots("t", [("a", [Dot(None)])]), shares("t", [])])
def test_no_data_is_said(svg: str) -> None:
    assert svg == nothing("t")


def test_the_same_data_give_the_same_picture() -> None:
    rows = [Strip("liver", [0.1 * i for i in range(9)])]
    assert strips("t", rows) == strips("t", rows)


def test_hostile_names_stay_text() -> None:
    name = '<script>alert("1")</script>'
    for svg in (
        bars(name, [Bar(name, {name: 1})], [name], unit=name),
        dots(name, [(name, [Dot(1.0, 0.5, 2.0, name)])]),
        shares(name, [Share(name, 1, 2, 0.5, 0.1, 0.9)]),
        strips(name, [Strip(name, [1.0], [name])]),
    ):
        assert not list(parsed(svg).iter("script"))
        assert name in [title.text for title in parsed(svg).iter("title")]
