"""Learning curves: every line, whisker and name is where its numbers say."""

from __future__ import annotations

import itertools
import xml.etree.ElementTree as ET

from hypothesis import given
from hypothesis import strategies as st

from voxicon.report.learning import Line, _apart, learning_curves

SVG = "{http://www.w3.org/2000/svg}"


def texts(picture: ET.Element) -> dict[str, float]:
    return {text.text or "": float(text.get("y", "0")) for text in picture.iter(f"{SVG}text")}


def test_points_rise_with_their_values_and_names_stand_in_the_order_of_the_ends() -> None:
    low = Line("low", ((1, 0.1, 0.0, 0.2), (10, 0.50, 0.4, 0.6)))
    high = Line("high", ((1, 0.3, None, None), (10, 0.51, 0.5, 0.6)))
    picture = ET.fromstring(learning_curves("title", [low, high]))
    circles = [(float(c.get("cx", "")), float(c.get("cy", ""))) for c in picture.iter(f"{SVG}circle")]
    assert len(circles) == 4
    assert circles[0][0] < circles[1][0]
    assert circles[0][1] > circles[2][1] > circles[1][1] > circles[3][1], "0.1 lowest, then 0.3, 0.5 and 0.51"
    whiskers = [line for line in picture.iter(f"{SVG}line") if line.get("stroke-opacity")]
    assert len(whiskers) == 3, "none where there is no interval"
    names = texts(picture)
    assert names["low"] - names["high"] >= 14


def test_a_picture_without_points_is_a_picture() -> None:
    picture = ET.fromstring(learning_curves("a < b", [Line("empty", ())]))
    assert not list(picture.iter(f"{SVG}circle"))
    assert next(picture.iter(f"{SVG}title")).text == "a < b"
    one = ET.fromstring(learning_curves("one", [Line("one", ((5, 0.5, None, None),))]))
    assert len(list(one.iter(f"{SVG}circle"))) == 1


@given(st.lists(st.floats(0, 300), max_size=6))
def test_names_never_lie_on_each_other(heights: list[float]) -> None:
    placed = _apart(heights)
    assert len(placed) == len(heights)
    ordered = sorted(placed)
    assert all(b - a >= 13.99 for a, b in itertools.pairwise(ordered))
    assert all(after >= before for before, after in zip(heights, placed, strict=True))
    if placed:
        assert min(placed) == min(heights)
