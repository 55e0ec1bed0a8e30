"""Lengths of shapes whose every length can be worked out by hand."""

from __future__ import annotations

import math

import cc3d
import numpy as np
import pytest
from scipy import ndimage
from scipy.spatial import ConvexHull

from tests.phantoms import rotation
from voxicon.core.components import components
from voxicon.core.geometry import Geometry
from voxicon.findings.shape import (
    axial_diameters,
    bounds_mm,
    center_mm,
    cropped,
    face_centers,
    line_ends,
    longest_diameter_mm,
)

SPACING_MM = (1.0, 2.0, 5.0)


def grid(shape, turn=None, spacing_mm=SPACING_MM, origin_mm=(10.0, -20.0, 30.0)):
    affine = np.eye(4)
    affine[:3, :3] = (np.eye(3) if turn is None else turn) @ np.diag(spacing_mm)
    affine[:3, 3] = origin_mm
    return Geometry(shape, affine)


def block(shape, *sides):
    mask = np.zeros(shape, dtype=bool)
    mask[tuple(slice(*side) for side in sides)] = True
    return mask


def test_one_voxel_measures_its_own_sides():
    mask = block((5, 5, 5), (2, 3), (3, 4), (4, 5))
    found = axial_diameters(mask, grid(mask.shape), first_slice=7)
    assert found.longest_mm == pytest.approx(2)  # along y
    assert found.perpendicular_mm == pytest.approx(1)
    assert found.slice_index == 11
    assert sorted(found.longest_ends_mm) == [pytest.approx((12, -15, 50)), pytest.approx((12, -13, 50))]
    assert sorted(found.perpendicular_ends_mm) == [pytest.approx((11.5, -14, 50)), pytest.approx((12.5, -14, 50))]
    assert longest_diameter_mm(mask, grid(mask.shape)) == pytest.approx(5)
    assert center_mm(mask, grid(mask.shape)) == pytest.approx((12, -14, 50))


def test_a_row_of_voxels_measures_its_spacings():
    mask = block((12, 3, 3), (1, 11), (1, 2), (1, 2))
    found = axial_diameters(mask, grid(mask.shape))
    assert (found.longest_mm, found.perpendicular_mm) == (pytest.approx(10), pytest.approx(2))


def test_a_block():
    # 12 by 8 mm in plane, two slices: the longest line joins face centers of opposite sides, half a voxel in.
    mask = block((14, 6, 4), (1, 13), (1, 5), (1, 3))
    found = axial_diameters(mask, grid(mask.shape))
    assert found.longest_mm == pytest.approx(max(math.hypot(12, 6), math.hypot(11, 8)))
    assert longest_diameter_mm(mask, grid(mask.shape)) == pytest.approx(
        max(math.hypot(12, 6, 5), math.hypot(11, 8, 5), math.hypot(11, 6, 10))
    )
    low, high = bounds_mm(mask, grid(mask.shape))
    assert (low, high) == (pytest.approx((10.5, -19, 32.5)), pytest.approx((22.5, -11, 42.5)))


SHEARED = np.array([[1.0, 0.4, 0], [0.3, 1.0, 0], [0, 0.2, 1.0]])


@pytest.mark.parametrize("turn", [None, rotation(40, 2), rotation(20, 0), SHEARED])
def test_the_perpendicular_is_one(turn):
    mask = np.random.default_rng(3).random((9, 8, 2)) < 0.3
    found = axial_diameters(mask, grid(mask.shape, turn))
    a, b, c, d = (np.array(p) for p in (*found.longest_ends_mm, *found.perpendicular_ends_mm))
    assert np.linalg.norm(b - a) == pytest.approx(found.longest_mm)
    assert np.linalg.norm(d - c) == pytest.approx(found.perpendicular_mm)
    assert (b - a) @ (d - c) == pytest.approx(0, abs=1e-9)


def test_an_ellipse_measures_its_axes():
    x, y = np.meshgrid(np.arange(101), np.arange(101), indexing="ij")
    mask = (((x - 50) / 40) ** 2 + ((y - 50) / 20) ** 2 <= 1)[..., None]
    found = axial_diameters(mask, grid(mask.shape, spacing_mm=(0.5, 0.5, 3.0)))
    assert found.longest_mm == pytest.approx(40, abs=0.6)
    assert found.perpendicular_mm == pytest.approx(20, abs=0.6)


def test_turned_in_plane_nothing_changes():
    mask = block((14, 6, 4), (1, 13), (1, 5), (1, 3))
    mask[2:5, 1:3, 2] = False
    straight, turned = (axial_diameters(mask, grid(mask.shape, turn)) for turn in (None, rotation(20, 2)))
    assert turned.longest_mm == pytest.approx(straight.longest_mm)
    assert turned.perpendicular_mm == pytest.approx(straight.perpendicular_mm)
    ends = np.array(turned.longest_ends_mm)
    assert np.linalg.norm(ends[1] - ends[0]) == pytest.approx(straight.longest_mm)


def test_axial_whatever_the_order_of_axes():
    # Voxel axis 0 runs along S: the row along it is 10 slices of one voxel each.
    affine = np.array([[0, 2.0, 0, 0], [0, 0, 3.0, 0], [1.0, 0, 0, 0], [0, 0, 0, 1]])
    mask = block((12, 3, 3), (1, 11), (1, 2), (1, 2))
    found = axial_diameters(mask, Geometry(mask.shape, affine))
    assert (found.longest_mm, found.perpendicular_mm) == (pytest.approx(3), pytest.approx(2))
    assert longest_diameter_mm(mask, Geometry(mask.shape, affine)) == pytest.approx(10)


def test_pieces_of_a_slice_are_measured_apart():
    # Single voxels at 0, 5 and 10.
    mask = block((12, 3, 2), (0, 11), (1, 2), (0, 1))
    mask[[0, 10], 1, 1] = True
    mask[1:10, :, 0] = False
    mask[5, 1, 0] = True
    assert axial_diameters(mask, grid(mask.shape)).longest_mm == pytest.approx(2)


def test_the_longest_slice_is_found_behind_larger_boxes():
    # Slice 0: a cross of 7 x 7 mm, its longest line 7 mm; slice 1: a diagonal of 6 x 6 mm.
    mask = np.zeros((7, 7, 2), dtype=bool)
    mask[:, 3, 0] = mask[3, :, 0] = True
    mask[:6, :6, 1] = np.eye(6, dtype=bool)
    found = axial_diameters(mask, grid(mask.shape, spacing_mm=(1.0, 1.0, 1.0)))
    assert found.longest_mm == pytest.approx(math.hypot(6, 5))
    assert found.slice_index == 1


def test_the_longest_slice_is_found_on_a_sheared_grid():
    # Axis 1 runs along (1, 1): a diagonal of 4 voxels reaches from (0, -0.5) to (3, 3.5), which is 7 mm by 4 mm.
    affine = np.array([[1.0, 1, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    mask = np.zeros((6, 6, 2), dtype=bool)
    mask[:, 0, 0] = True
    mask[:4, :4, 1] = np.eye(4, dtype=bool)
    found = axial_diameters(mask, Geometry(mask.shape, affine))
    assert found.longest_mm == pytest.approx(np.sqrt(65))
    assert found.slice_index == 1


def test_no_chord_across_is_longer():
    rng = np.random.default_rng(1)
    for _ in range(20):
        mask = np.zeros((9, 9, 1), dtype=bool)
        mask[2:5, 2:5] = mask[rng.integers(4, 9, 3), rng.integers(3, 9, 3)] = True
        mask = ndimage.binary_closing(mask[..., 0], np.ones((3, 3)))[..., None] | mask
        mask = np.asarray(components(mask).labels == 1)
        found = axial_diameters(mask, grid(mask.shape))
        start, end = (np.array(p[:2]) for p in found.longest_ends_mm)
        along = (end - start) / found.longest_mm
        points = (face_centers(mask[..., 0]) * SPACING_MM[:2]) + (10, -20)
        corners = (points[ConvexHull(points).vertices] - start) @ np.array([along, (-along[1], along[0])]).T
        best = 0.0
        for t in np.linspace(0.001, found.longest_mm - 0.001, 4001):
            # Where the outline crosses the line at t.
            one, other = corners, np.roll(corners, -1, axis=0)
            crossed = (one[:, 0] - t) * (other[:, 0] - t) < 0
            one, other = one[crossed], other[crossed]
            w = one[:, 1] + (t - one[:, 0]) / (other[:, 0] - one[:, 0]) * (other[:, 1] - one[:, 1])
            best = max(best, float(np.ptp(w)))
        assert best <= found.perpendicular_mm + 1e-9
        assert found.perpendicular_mm == pytest.approx(best, abs=0.02)


def test_every_pair_is_compared():
    rng = np.random.default_rng(0)
    for _ in range(20):
        mask = rng.random((7, 6, 1)) < 0.4
        mask[3, 3, 0] = True
        pieces = cc3d.connected_components(mask[:, :, 0].astype(np.uint8), connectivity=8)
        best = 0.0
        for number in range(1, int(pieces.max()) + 1):
            index = np.argwhere(pieces == number)
            faces = np.concatenate([index + step for step in ((0.5, 0), (-0.5, 0), (0, 0.5), (0, -0.5))])
            points = faces * SPACING_MM[:2]
            best = max(best, float(np.linalg.norm(points[:, None] - points[None], axis=-1).max()))
        assert axial_diameters(mask, grid(mask.shape)).longest_mm == pytest.approx(best)


def test_bounds_of_an_oblique_voxel():
    turn = rotation(30, 2)
    geometry = grid((1, 1, 1), turn, origin_mm=(0, 0, 0))
    low, high = bounds_mm(np.ones((1, 1, 1), dtype=bool), geometry)
    c, s = math.cos(math.radians(30)), 0.5
    assert high == pytest.approx(((c * 1 + s * 2) / 2, (s * 1 + c * 2) / 2, 2.5))
    assert low == pytest.approx(tuple(-value for value in high))


def test_a_box_stays_where_it_is():
    geometry = grid((9, 9, 9), rotation(15, 0))
    part = cropped(geometry, (slice(2, 4), slice(3, 9), slice(5, 6)))
    assert part.shape == (2, 6, 1)
    assert part.to_world([1, 2, 0]) == pytest.approx(geometry.to_world([3, 5, 5]))


def test_line_ends_skip_what_lies_between():
    mask = block((3, 3, 8), (1, 2), (0, 1), (2, 7))
    assert sorted(map(tuple, line_ends(mask))) == [(1, 0, 2), (1, 0, 6)]
    assert face_centers(block((1, 1, 1), (0, 1), (0, 1), (0, 1))).shape == (6, 3)
