"""Curves pass through their points, marks sit on them, equal volumes lie on the diagonal."""

from __future__ import annotations

import math

import pytest

from tests.report.pages import parsed, texts, with_class
from voxicon.report.curves import Band, Mark, froc, roc, volumes
from voxicon.report.svg import nothing

# The square: x from 52 to 366, y from 294 (bottom) up to 12.
LEFT, RIGHT, TOP, BOTTOM = 52.0, 366.0, 12.0, 294.0


def points(svg: str, name: str) -> list[tuple[float, float]]:
    [line] = with_class(svg, name)
    return [(float(x), float(y)) for x, y in (pair.split(",") for pair in (line.get("points") or "").split())]


def test_roc_goes_through_its_points() -> None:
    svg = roc("t", [1.0, 0.5, 0.0], [0.0, 0.75, 1.0], label="AUC 0.81")
    # 1 - 0.5 is in the middle: x = (52 + 366) / 2 = 209; 0.75 of 282 px above 294: y = 82.5.
    assert points(svg, "curve") == [(LEFT, BOTTOM), (209, 82.5), (RIGHT, TOP)]
    assert points(svg, "chance") == [(LEFT, BOTTOM), (RIGHT, TOP)]
    assert {"AUC 0.81", "1 - specificity", "sensitivity"} <= set(texts(svg))


def test_the_operating_point_has_both_intervals() -> None:
    mark = Mark(0.5, 0.75, "chosen on val", (0.25, 1.0), (0.5, 1.0))
    svg = roc("t", [1.0, 0.0], [0.0, 1.0], mark=mark)
    [dot] = with_class(svg, "mark")
    assert (dot.get("cx"), dot.get("cy")) == ("209", "82.5")
    across, up = with_class(svg, "over")
    assert (across.get("x1"), across.get("x2")) == ("130.5", "366")
    assert (up.get("y1"), up.get("y2")) == ("153", "12")
    assert "● chosen on val" in texts(svg)
    assert with_class(roc("t", [1.0, 0.0], [0.0, 1.0], mark=Mark(math.nan, 0.5)), "mark") == []


def test_a_band_goes_out_above_and_back_below() -> None:
    svg = roc("t", [1.0, 0.0], [0.0, 1.0], band=Band([0.0, 1.0], [0.0, 0.5], [0.5, 1.0]))
    assert points(svg, "band") == [(LEFT, 153), (RIGHT, TOP), (RIGHT, 153), (LEFT, BOTTOM)]


def test_froc_rises_in_steps_and_goes_on_to_the_end() -> None:
    svg = froc("t", [0.0, 0.5, 1.0], [0.0, 0.5, 1.0], mark=Mark(0.5, 0.5))
    assert points(svg, "curve") == [
        (LEFT, BOTTOM), (209, BOTTOM), (209, 153), (RIGHT, 153), (RIGHT, TOP), (RIGHT, TOP), (RIGHT, TOP),
    ]  # fmt: skip
    assert len(with_class(svg, "mark")) == 1


def test_froc_is_cut_at_eight_false_findings() -> None:
    svg = froc("t", [0.0, 4.0, 12.0], [0.0, 0.5, 1.0])
    # 4 of 8 is in the middle; what comes after 8 is not shown.
    assert points(svg, "curve")[-1] == (RIGHT, 153)
    assert "8" in texts(svg)


def test_equal_volumes_lie_on_the_diagonal() -> None:
    svg = volumes("t", [(10.0, 10.0, "a"), (1000.0, 100.0, "b")])
    first, second = with_class(svg, "dot")
    # Decades from 10 to 1000: 10 is at the lower left corner, 100 half way up.
    assert (first.get("cx"), first.get("cy")) == ("52", "294")
    assert (second.get("cx"), second.get("cy")) == ("366", "153")
    assert first.find("title").text == "a: true 10 ml, predicted 10 ml"
    assert {"10", "100", "1,000", "true ml", "predicted ml"} <= set(texts(svg))


def test_missed_and_false_alarms_lie_at_the_edges_as_open_marks() -> None:
    svg = volumes("t", [(10.0, 12.0, "both"), (50.0, 0.0, "missed"), (0.0, 50.0, "alarm"), (math.nan, 1.0, "none")])
    assert len(with_class(svg, "dot")) == 3
    missed, alarm = with_class(svg, "open")
    assert missed.get("cy") == "294"
    assert alarm.get("cx") == "52"
    # Nothing that has a volume sits on an edge.
    both = with_class(svg, "dot")[0]
    assert float(both.get("cx") or 0) > LEFT + 20


@pytest.mark.parametrize(
    "svg", [roc("t", [], []), froc("t", [], []), volumes("t", []), volumes("t", [(0.0, 0.0, "x")])]
)
def test_no_data_is_said(svg: str) -> None:
    assert svg == nothing("t")


def test_hostile_names_stay_text() -> None:
    name = "</title><script>1</script>"
    for svg in (
        roc(name, [1.0, 0.0], [0.0, 1.0], mark=Mark(0.5, 0.5, name), label=name),
        volumes(name, [(1.0, 2.0, name)]),
    ):
        assert not list(parsed(svg).iter("script"))
        assert parsed(svg).find("title").text == name
