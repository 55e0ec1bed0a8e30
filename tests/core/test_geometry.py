"""Geometry: worked values, and what holds for every orientation."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.phantoms import ORIENTATIONS, body, oriented, rotation
from voxicon.core.geometry import Geometry
from voxicon.errors import BadGeometry


def test_worked_values() -> None:
    # 2 × 3 × 4 mm, first axis toward the patient's left.
    geometry = Geometry((10, 20, 30), np.array([[-2, 0, 0, 100], [0, 3, 0, -50], [0, 0, 4, 7], [0, 0, 0, 1]]))
    assert geometry.spacing_mm == (2, 3, 4)
    assert geometry.voxel_ml == pytest.approx(0.024)
    assert geometry.orientation == "LAS"
    assert geometry.is_aligned
    assert geometry.to_world([1, 1, 1]).tolist() == [98, -47, 11]
    assert geometry.to_index([98, -47, 11]) == pytest.approx([1, 1, 1])
    assert geometry.corners_mm().min(axis=0).tolist() == [82, -50, 7]


@pytest.mark.parametrize(("order", "signs"), ORIENTATIONS)
def test_every_orientation_is_named_and_keeps_world_places(
    order: tuple[int, int, int], signs: tuple[int, int, int]
) -> None:
    volume = body((20.0, 20.0, 20.0))
    turned = oriented(volume, order, signs)
    names = ["RAS"[axis] if sign > 0 else "LPI"[axis] for axis, sign in zip(order, signs, strict=True)]
    assert turned.geometry.orientation == "".join(names)
    bright = np.argwhere(turned.hu == 150)
    assert turned.geometry.to_world(bright).mean(axis=0) == pytest.approx(
        volume.geometry.to_world(np.argwhere(volume.hu == 150)).mean(axis=0)
    )


@given(st.floats(-44, 44), st.integers(0, 2))
def test_oblique_grids_keep_their_nearest_name(degrees: float, axis: int) -> None:
    affine = np.eye(4)
    affine[:3, :3] = rotation(degrees, axis)
    geometry = Geometry((3, 3, 3), affine)
    assert geometry.orientation == "RAS"
    assert geometry.is_aligned == (abs(np.sin(np.deg2rad(degrees))) < 1e-4)


def test_shear_changes_voxel_volume_not_spacing_along_the_axis() -> None:
    affine = np.eye(4)
    affine[0, 2] = 1.0  # third axis leans: length sqrt(2), but the slab between slices is still 1 mm
    geometry = Geometry((2, 2, 2), affine)
    assert geometry.spacing_mm[2] == pytest.approx(2**0.5)
    assert geometry.voxel_ml == pytest.approx(0.001)
    assert not geometry.is_aligned


def test_same_grid_tolerates_rounding_and_nothing_more() -> None:
    geometry = Geometry((100, 100, 100), np.eye(4))
    nudged, moved = np.eye(4), np.eye(4)
    nudged[0, 3], moved[0, 3] = 5e-4, 2e-3
    assert geometry.same_grid(Geometry((100, 100, 100), nudged))
    assert not geometry.same_grid(Geometry((100, 100, 100), moved))
    assert not geometry.same_grid(Geometry((100, 100, 99), np.eye(4)))
    # A direction error too small to see at the origin moves the far corner.
    tilted = np.eye(4)
    tilted[0, 2] = 1e-4
    assert not geometry.same_grid(Geometry((100, 100, 100), tilted))


@pytest.mark.parametrize(
    ("shape", "affine", "message"),
    [
        ((2, 2, 2), np.full((4, 4), np.nan), "finite"),
        ((2, 2, 2), np.eye(3), "4×4"),
        ((2, 2, 2), np.diag([1.0, 1.0, 0.0, 1.0]), "singular"),
        ((2, 2, 2), np.array([[1, 1, 0, 0], [0, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]]), "singular"),
        ((0, 2, 2), np.eye(4), "positive"),
    ],
)
def test_refusals(shape: tuple[int, int, int], affine: np.ndarray, message: str) -> None:
    with pytest.raises(BadGeometry, match=message):
        Geometry(shape, affine)


def test_small_voxels_are_not_singular() -> None:
    assert Geometry((2, 2, 2), np.diag([1e-3, 1e-3, 1e-3, 1.0])).voxel_ml == pytest.approx(1e-12)


def test_equality_hash_and_immutability() -> None:
    a, b = Geometry((2, 2, 2), np.eye(4)), Geometry((2, 2, 2), np.eye(4))
    assert a == b
    assert hash(a) == hash(b)
    assert a != Geometry((2, 2, 3), np.eye(4))
    with pytest.raises(ValueError, match="read-only"):
        a.affine[0, 0] = 5
    assert a.to_dict()["orientation"] == "RAS"
