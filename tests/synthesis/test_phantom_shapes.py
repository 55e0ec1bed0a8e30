"""Solids have the volumes of geometry, and a canvas changes only what it was told to."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from voxicon.synthesis.phantom.shapes import (
    Canvas,
    Solid,
    boundless,
    cloud,
    ellipsoid,
    evaluated,
    grown,
    join,
    meet,
    path,
    sheet,
    slab,
    smooth_max,
    smooth_noise,
    tube,
    volume_ml,
    wavy,
    without,
)

BALL_ML = 4 / 3 * np.pi * 20**3 / 1000  # radius 20 mm: 33.5 ml


def ball(center: tuple[float, float, float] = (0, 0, 0), radius: float = 20.0) -> Solid:
    return ellipsoid(center, (radius, radius, radius))


def at(solid: Solid, *points: tuple[float, float, float]) -> NDArray[np.float32]:
    x, y, z = np.array(points, dtype=np.float32).T
    return solid.field(x, y, z)


def canvas(spacing_mm: float = 2.0) -> Canvas:
    axis = np.arange(-30, 30, spacing_mm, dtype=np.float32)
    return Canvas(np.meshgrid(axis, axis, axis, indexing="ij"), {"fat": 1, "liver": 2, "bone": 3}, spacing_mm)


def test_an_ellipsoid_has_its_volume_and_its_box() -> None:
    solid = ellipsoid((5, 0, -5), (30, 20, 10))
    # 4/3 pi 30*20*10 = 25.13 ml
    assert volume_ml(solid, 1.5) == pytest.approx(25.13, rel=0.02)
    assert solid.low == pytest.approx((-25, -20, -15))
    assert solid.high == pytest.approx((35, 20, 5))


def test_a_turned_ellipsoid_is_long_where_it_is_turned_to() -> None:
    quarter = np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
    solid = ellipsoid((0, 0, 0), (30, 10, 10), quarter)
    assert (at(solid, (0, 29, 0), (0, -29, 0)) < 0).all()
    assert (at(solid, (29, 0, 0), (11, 0, 0)) > 0).all()
    assert solid.high == pytest.approx((10, 30, 10))


def test_a_tube_has_the_volume_of_a_capsule_and_scales() -> None:
    knots = [(0, 0, -40, 10), (0, 0, 40, 10)]
    # pi 10^2 * 80 + 4/3 pi 10^3 = 29.32 ml; with half the radius pi 25 * 80 + 4/3 pi 125 = 6.81 ml
    assert volume_ml(tube(knots), 1.5) == pytest.approx(29.32, rel=0.03)
    assert volume_ml(tube(knots, 0.5), 1.0) == pytest.approx(6.81, rel=0.04)


def test_a_cloud_is_far_away_where_no_ball_is_near() -> None:
    assert at(cloud([(0, 0, 0)], 5.0), (0, 0, 4), (0, 0, 6), (0, 0, 500)) == pytest.approx([-1, 1, 1e4])


def test_a_path_goes_through_its_knots_in_even_steps() -> None:
    way = path([(0, 0, 0), (30, 0, 0), (60, 0, 0)], 2.0)
    assert way[0] == pytest.approx([0, 0, 0])
    assert way[-1] == pytest.approx([60, 0, 0])
    assert np.linalg.norm(np.diff(way, axis=0), axis=1) == pytest.approx(60 / 29, abs=1e-6)


def test_a_sheet_is_flat_unless_it_is_bent() -> None:
    edge, other = [(-20, 0, 0), (20, 0, 0)], [(-20, 0, 40), (20, 0, 40)]
    assert at(sheet(edge, other, 4), (0, 0, 20), (0, 5, 20))[0] < 0 < at(sheet(edge, other, 4), (0, 5, 20))[0]
    bent = sheet(edge, other, 4, bulge=(0, 10, 0))
    assert at(bent, (0, 10, 20))[0] < 0 < at(bent, (0, 0, 20))[0]


def test_joining_meeting_cutting_and_growing() -> None:
    one, two = ball(), ball((100, 0, 0))
    assert volume_ml(join(one, two), 2.0) == pytest.approx(2 * BALL_ML, rel=0.03)
    upper = boundless(lambda x, y, z: -z)
    assert volume_ml(meet(one, upper), 1.5) == pytest.approx(BALL_ML / 2, rel=0.06)
    assert volume_ml(without(one, upper), 1.5) == pytest.approx(BALL_ML / 2, rel=0.06)
    assert volume_ml(meet(one, upper, round_mm=10), 1.5) < 0.95 * volume_ml(meet(one, upper), 1.5)
    # A ball of radius 25: 65.4 ml
    assert volume_ml(grown(one, 5), 1.5) == pytest.approx(65.4, rel=0.03)


def test_a_slab_ends_where_it_is_told_to() -> None:
    solid = slab(-5, 10, lambda x, y, z: np.hypot(x, y) - 10)
    painted = canvas()
    painted.paint("bone", solid, outside=True)
    z = painted.where[2][painted.values == 3]
    assert (z.min(), z.max()) == (-4, 8)


def test_an_edge_is_rounded_by_a_quarter_of_the_width() -> None:
    a, b = np.array([0.0, 10], dtype=np.float32), np.array([0.0, 0], dtype=np.float32)
    assert smooth_max(a, b, 8.0) == pytest.approx([2, 10])
    assert smooth_max(a, b, 0.0) == pytest.approx([0, 10])


def test_waves_move_the_surface_by_their_amplitude_at_most() -> None:
    solid = wavy(ball(), np.random.default_rng(0), 2.0, 15.0)
    x = np.linspace(-30, 30, 200, dtype=np.float32)
    zero = np.zeros_like(x)
    difference = np.abs(solid.field(x, zero, zero) - ball().field(x, zero, zero))
    assert 1 < difference.max() <= 4
    assert solid.high == pytest.approx((24, 24, 24))


def test_noise_is_smooth_reproducible_and_of_unit_spread() -> None:
    noise = smooth_noise(np.random.default_rng(1), (40, 50, 60), 3.0, 40.0)
    assert noise.shape == (40, 50, 60)
    assert (noise == smooth_noise(np.random.default_rng(1), (40, 50, 60), 3.0, 40.0)).all()
    assert 0.4 < noise.std() < 1.3
    assert np.abs(np.diff(noise, axis=2)).mean() < 0.35


def test_fields_are_the_same_in_pieces() -> None:
    rng = np.random.default_rng(0)
    where = [rng.uniform(-30, 30, (50, 40, 40)).astype(np.float32) for _ in range(3)]
    found = evaluated(ball().field, where)
    assert found.shape == (50, 40, 40)
    assert found.ravel() == pytest.approx(ball().field(*(w.ravel() for w in where)))


@pytest.mark.parametrize("spacing_mm", [1.5, 2.0, 3.0])
def test_paint_fills_a_solid_wherever_it_lies(spacing_mm: float) -> None:
    for center in ((0.0, 0.0, 0.0), (12.0, -9.0, 17.0)):
        painted = canvas(spacing_mm)
        painted.paint("liver", ball(center, 9.0), outside=True)
        distance = np.sqrt(sum((w - c) ** 2 for w, c in zip(painted.where, center, strict=True)))
        assert ((painted.values == 2) == (distance < 9)).all()


def test_paint_changes_only_what_it_may() -> None:
    painted = canvas()
    painted.paint("liver", ball())
    assert not painted.values.any()  # nothing of the patient is there yet
    painted.paint("fat", ball(), outside=True)
    painted.paint("bone", ball((15, 0, 0), 5.0), over=("fat",))
    painted.paint("liver", ball(radius=29.0), over=("fat",))
    assert set(np.unique(painted.values)) == {0, 2, 3}
    painted.paint("liver", ball(radius=29.0))
    assert set(np.unique(painted.values)) == {0, 2}


def test_paint_out_of_view_changes_nothing() -> None:
    painted = canvas()
    painted.paint("bone", ball((500, 0, 0)), outside=True)
    assert painted.near(ball((500, 0, 0))) is None
    assert not painted.values.any()
