"""The ball of a volume and the volume of a ball."""

from __future__ import annotations

from math import pi

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voxicon.core.ball import ball_diameter_mm, ball_mm3


def test_ball_of_ten_millimeters() -> None:
    assert ball_mm3(10.0) == pytest.approx(1000 * pi / 6)
    assert ball_diameter_mm(1000 * pi / 6) == pytest.approx(10.0)


def test_nothing_has_no_diameter() -> None:
    assert ball_diameter_mm(0.0) == 0.0
    assert ball_mm3(0.0) == 0.0


@given(st.floats(0.01, 1000))
def test_one_undoes_the_other(diameter_mm: float) -> None:
    assert ball_diameter_mm(ball_mm3(diameter_mm)) == pytest.approx(diameter_mm)
