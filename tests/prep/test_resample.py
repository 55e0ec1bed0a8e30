"""Resampling: worked values, exact inverses, and one answer however the scan was stored."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.phantoms import ORIENTATIONS, body, body_hu, oriented, rotation
from voxicon.core.geometry import Geometry
from voxicon.core.orientation import from_ras_order, to_ras_order
from voxicon.prep.pipeline import model_grid
from voxicon.prep.resample import (
    apply_matrices,
    interpolation_matrix,
    resample_values,
    sample_values,
)


def test_interpolation_weights_by_hand() -> None:
    weights = interpolation_matrix(3, np.array([0.0, 0.25, 2.0, 5.0, -1.0]))
    assert weights.tolist() == [[1, 0, 0], [0.75, 0.25, 0], [0, 0, 1], [0, 0, 1], [1, 0, 0]]
    # A triangle of half width 2 at 1.0 weighs neighbors by 0.5, 1, 0.5; normalised: 1/4, 1/2, 1/4.
    assert interpolation_matrix(3, np.array([1.0]), support=2.0).tolist() == [[0.25, 0.5, 0.25]]


@given(n=st.integers(1, 20), support=st.floats(1, 5), at=st.lists(st.floats(-3, 25), min_size=1, max_size=8))
def test_weights_sum_to_one_and_are_never_negative(n: int, support: float, at: list[float]) -> None:
    weights = interpolation_matrix(n, np.array(at), support)
    assert weights.sum(axis=1) == pytest.approx(1, abs=1e-5)
    assert weights.min() >= 0


def test_matrices_apply_along_their_own_axis() -> None:
    values = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    eyes = [np.eye(n, dtype=np.float32) for n in values.shape]
    assert (apply_matrices(values, tuple(eyes)) == values).all()
    for axis in range(3):
        matrices = list(eyes)
        matrices[axis] = np.ones((1, values.shape[axis]), dtype=np.float32)
        assert (apply_matrices(values, tuple(matrices)) == values.sum(axis=axis, keepdims=True)).all()


@pytest.mark.parametrize("layout", ["C", "F"])
def test_slabs_change_nothing_but_rounding(monkeypatch: pytest.MonkeyPatch, layout: Literal["C", "F"]) -> None:
    rng = np.random.default_rng(0)
    values = np.array(rng.normal(size=(20, 30, 25)), order=layout)
    sizes = zip(values.shape, (7, 9, 11), strict=True)
    matrices = [interpolation_matrix(n, np.linspace(0, n - 1, k), n / k) for n, k in sizes]
    whole = apply_matrices(values, tuple(matrices))
    monkeypatch.setattr("voxicon.prep.resample._SLAB_VOXELS", 3000)
    np.testing.assert_allclose(apply_matrices(values, tuple(matrices)), whole, atol=1e-5)
    # Nothing of the last slices is asked for.
    matrices = [matrix[:1] for matrix in matrices]
    np.testing.assert_allclose(apply_matrices(values, tuple(matrices)), whole[:1, :1, :1], atol=1e-5)


@pytest.mark.parametrize(("order", "signs"), ORIENTATIONS)
def test_turning_to_ras_and_back_is_the_identity(order: tuple[int, int, int], signs: tuple[int, int, int]) -> None:
    volume = oriented(body((25.0, 20.0, 15.0)), order, signs)
    turned, geometry = to_ras_order(volume.hu, volume.geometry)
    assert geometry.orientation == "RAS"
    assert turned.shape == geometry.shape
    # The same place in the patient holds the same value.
    index = np.array([3, 2, 5])
    source = volume.geometry.to_index(geometry.to_world(index)).round().astype(int)
    assert turned[tuple(index)] == volume.hu[tuple(source)]
    assert (from_ras_order(turned, volume.geometry) == volume.hu).all()


@pytest.mark.parametrize(("order", "signs"), ORIENTATIONS)
@pytest.mark.parametrize("antialias", [True, False])
def test_every_orientation_gives_the_same_values(
    order: tuple[int, int, int], signs: tuple[int, int, int], antialias: bool
) -> None:
    volume = body((5.0, 6.0, 7.0))
    turned = oriented(volume, order, signs)
    grid = model_grid(volume.geometry, (8.0, 8.0, 8.0))
    assert model_grid(turned.geometry, (8.0, 8.0, 8.0)).same_grid(grid)
    expected = resample_values(volume.hu, volume.geometry, grid, antialias=antialias, outside=-1024)
    found = resample_values(turned.hu, turned.geometry, grid, antialias=antialias, outside=-1024)
    assert np.abs(found - expected).max() < 1e-2


def test_the_two_routes_agree_on_an_aligned_grid() -> None:
    volume = body((5.0, 5.0, 5.0))
    grid = model_grid(volume.geometry, (7.0, 7.0, 7.0))
    separable = resample_values(volume.hu, volume.geometry, grid, antialias=False, outside=-1024)
    general = sample_values(volume.hu, volume.geometry, grid, outside=-1024)
    # The last voxel may lie up to half a spacing beyond the scan, where the routes differ on purpose.
    inner = (slice(0, -1),) * 3
    assert np.abs(separable[inner] - general[inner]).max() < 1e-2


@settings(max_examples=8)
@given(degrees=st.floats(-30, 30), axis=st.integers(0, 2))
def test_oblique_scans_show_the_same_patient(degrees: float, axis: int) -> None:
    volume = body((3.0, 3.0, 3.0), rotation(degrees, axis))
    grid = Geometry((36, 26, 32), np.array([[4, 0, 0, -70], [0, 4, 0, -50], [0, 0, 4, -62], [0, 0, 0, 1.0]]))
    found = resample_values(volume.hu, volume.geometry, grid, antialias=True, outside=-1024)
    index = np.stack(np.meshgrid(*(np.arange(n) for n in grid.shape), indexing="ij"), axis=-1)
    truth = body_hu(grid.to_world(index))
    # Away from surfaces every voxel must agree; a surface crosses at most a fifth of them.
    assert np.mean(np.abs(found - truth) < 20) > 0.8
    assert abs(float(found.mean() - truth.mean())) < 15


def test_antialiasing_averages_what_sampling_would_pick() -> None:
    # Alternating slices of 0 and 100 HU: sampling every second slice sees only one of them.
    values = np.zeros((4, 4, 64), dtype=np.float32)
    values[..., 1::2] = 100
    source = Geometry((4, 4, 64), np.eye(4))
    grid = Geometry((4, 4, 30), np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 2, 2], [0, 0, 0, 1.0]]))
    assert resample_values(values, source, grid, antialias=False, outside=0).max() == 0
    assert resample_values(values, source, grid, antialias=True, outside=0) == pytest.approx(50)


def test_input_is_not_changed() -> None:
    volume = body((10.0, 10.0, 10.0))
    before = volume.hu.copy()
    resample_values(volume.hu, volume.geometry, model_grid(volume.geometry, (15.0,) * 3), antialias=True, outside=0)
    assert (volume.hu == before).all()
