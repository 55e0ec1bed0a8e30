"""Preparation and its inverse: from any grid to the model and back to the very same grid."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.phantoms import ORIENTATIONS, body, dice, oriented, rotation
from voxicon.core.geometry import Geometry
from voxicon.core.masks import MaskSet
from voxicon.core.volume import Volume
from voxicon.errors import CheckpointError, NotCt
from voxicon.prep.pipeline import PreparationConfig, crop_geometry, model_grid, prepare, window
from voxicon.prep.restore import _level

CONFIG = PreparationConfig(spacing_mm=(4.0, 4.0, 4.0), window_hu=(-200.0, 300.0))


def segment_by_hu(volume: Volume, config: PreparationConfig = CONFIG) -> MaskSet:
    """The whole chain with a network that a thermometer could replace: bright is `bright`, body is `body`."""
    prepared = prepare(volume, config)
    low, high = config.window_hu
    hu = prepared.image * (high - low) + low
    masks = MaskSet.from_masks({"bright": hu > 75, "body": hu > -100}, prepared.trace.model)
    return prepared.trace.restore(masks)


def test_window_by_hand() -> None:
    hu = np.array([-500, -200, 50, 300, 900], dtype=np.float32)
    assert window(hu, (-200, 300)).tolist() == [0, 0, 0.5, 1, 1]


def test_model_grid_by_hand() -> None:
    # 11 voxels of 1.2 mm span 12 mm between centres: at 1.5 mm that is 8 steps, so 9 voxels.
    source = Geometry((11, 2, 5), np.diag([-1.2, 1.5, 1.0, 1.0]))
    grid = model_grid(source, (1.5, 1.5, 1.5))
    assert grid.shape == (9, 2, 4)
    assert grid.affine[:3, 3].tolist() == [-12, 0, 0]


def test_image_is_in_zero_to_one_and_cut_to_the_body() -> None:
    prepared = prepare(body(), CONFIG)
    assert prepared.image.dtype == np.float32
    assert prepared.image.min() == 0
    assert 0.4 < prepared.image.max() <= 1
    # Body ±80, ±55, ±70 mm plus a centimetre on each side, give or take a voxel.
    extent = np.array(prepared.image.shape) * 4.0
    assert np.abs(extent - [180, 130, 160]).max() <= 12
    whole = prepare(body(), PreparationConfig(spacing_mm=(4.0, 4.0, 4.0), window_hu=(-200.0, 300.0), crop="none"))
    assert whole.image.shape == model_grid(body().geometry, (4.0, 4.0, 4.0)).shape


def test_foreground_crop_is_the_box_of_what_the_window_shows() -> None:
    config = PreparationConfig(
        spacing_mm=(4.0, 4.0, 4.0), window_hu=(-200.0, 300.0), crop="foreground", antialias=False
    )
    image = prepare(body(), config).image
    for axis in range(3):
        ends = image.max(axis=tuple(a for a in range(3) if a != axis))
        assert ends[0] > 0
        assert ends[-1] > 0


def test_body_crop_ignores_a_table_beside_the_patient() -> None:
    volume = body()
    with_table = volume.hu.copy()
    with_table[:, 0:1, :] = 0  # a board at the very back, apart from the body
    same = prepare(Volume(with_table, volume.geometry), CONFIG)
    assert same.trace.model == prepare(volume, CONFIG).trace.model


@pytest.mark.parametrize(("order", "signs"), ORIENTATIONS)
def test_every_orientation_gives_the_same_masks(order: tuple[int, int, int], signs: tuple[int, int, int]) -> None:
    volume = body((5.0, 5.0, 6.0))
    expected = segment_by_hu(volume)
    turned = oriented(volume, order, signs)
    found = segment_by_hu(turned)
    assert found.geometry is turned.geometry
    for name in expected:
        as_volume = Volume(expected[name].astype(np.float32), volume.geometry)
        differs = found[name] != (oriented(as_volume, order, signs).hu > 0.5)
        # Float rounding may tip a voxel that lies exactly on a surface.
        assert differs.sum() <= 2


@settings(max_examples=6)
@given(degrees=st.floats(-40, 40), axis=st.integers(0, 2))
def test_oblique_grids_give_the_same_answer(degrees: float, axis: int) -> None:
    volume = body((4.0, 4.0, 4.0), rotation(degrees, axis))
    masks = segment_by_hu(volume)
    assert masks.geometry is volume.geometry
    assert dice(masks["bright"], volume.hu > 75) > 0.93
    # Interpolated between -1000 and 0 HU, the skin's voxels fall below the threshold: a thin shell is lost.
    assert dice(masks["body"], volume.hu > -100) > 0.95


def test_sheared_grids_work_too() -> None:
    straight = body((4.0, 4.0, 4.0))
    affine = straight.geometry.affine.copy()
    affine[:3, 2] += [0.0, 0.8, 0.0]  # a gantry tilt of 11 degrees
    geometry = Geometry(straight.geometry.shape, affine)
    from tests.phantoms import body_hu

    index = np.stack(np.meshgrid(*(np.arange(n) for n in geometry.shape), indexing="ij"), axis=-1)
    volume = Volume(body_hu(geometry.to_world(index)), geometry)
    assert dice(segment_by_hu(volume)["bright"], volume.hu > 75) > 0.93


def test_restoring_on_the_same_grid_is_the_identity() -> None:
    grid = Geometry((12, 13, 14), np.diag([3.0, 3.0, 3.0, 1.0]))
    rng = np.random.default_rng(0)
    masks = MaskSet.from_masks({f"c{i}": rng.random(grid.shape) < p for i, p in enumerate((0.5, 0.05, 0))}, grid)
    prepared = prepare(
        Volume(np.zeros(grid.shape, dtype=np.float32), grid),
        PreparationConfig(spacing_mm=(3.0, 3.0, 3.0), window_hu=(-1.0, 1.0), crop="none"),
    )
    restored = prepared.trace.restore(masks)
    assert (restored.words == masks.words).all()


@pytest.mark.parametrize("radius_mm", [4.0, 9.0, 30.0])
def test_volume_survives_restoring_to_a_finer_grid(radius_mm: float) -> None:
    source = Geometry((80, 80, 40), np.diag([-0.9, 0.8, 2.5, 1.0]))
    trace = prepare(
        Volume(np.zeros(source.shape, dtype=np.float32), source),
        PreparationConfig(spacing_mm=(3.0, 3.0, 3.0), window_hu=(-1.0, 1.0), crop="none"),
    ).trace
    index = np.stack(np.meshgrid(*(np.arange(n) for n in trace.model.shape), indexing="ij"), axis=-1)
    center = trace.model.to_world(np.array(trace.model.shape) / 2)
    ball = np.linalg.norm(trace.model.to_world(index) - center, axis=-1) < radius_mm
    masks = MaskSet.from_masks({"ball": ball}, trace.model)
    restored = trace.restore(masks)
    # The ball may reach the border of the scan, beyond which the model grid goes on by up to half a voxel.
    assert restored.volume_ml("ball") == pytest.approx(masks.volume_ml("ball"), rel=0.04)
    fine = np.stack(np.meshgrid(*(np.arange(n) for n in source.shape), indexing="ij"), axis=-1)
    truth = np.linalg.norm(source.to_world(fine) - center, axis=-1) < radius_mm
    assert dice(restored["ball"], truth) > 0.75


def test_the_cut_keeps_as_many_voxels_as_the_volume_asks_for() -> None:
    field = np.array([[[0, 0.3, 0.4, 0.5, 0.55, 1.0]]], dtype=np.float32)
    assert (field > _level(field, 2.0)).sum() == 2
    assert (field > _level(field, 3.4)).sum() == 3
    # One voxel would need a cut above the highest level: volume then gives way to shape.
    assert (field > _level(field, 1.0)).sum() == 1
    assert _level(np.array([0.1, 0.9, 0.95], dtype=np.float32), 1.0) == pytest.approx(0.6)
    # More voxels than the mask touches: all that are touched by more than the lowest level.
    assert (field > _level(field, 50.0)).sum() == 5
    assert (np.array([0.1, 0.3]) > _level(np.array([0.1, 0.3], dtype=np.float32), 9.0)).tolist() == [False, True]


def test_overlapping_classes_stay_independent() -> None:
    volume = body()
    prepared = prepare(volume, CONFIG)
    box = np.zeros(prepared.trace.model.shape, dtype=bool)
    box[10:20, 10:20, 10:20] = True
    inner = np.zeros_like(box)
    inner[12:15, 12:15, 12:15] = True
    together = prepared.trace.restore(MaskSet.from_masks({"organ": box, "tumor": inner}, prepared.trace.model))
    alone = prepared.trace.restore(MaskSet.from_masks({"tumor": inner}, prepared.trace.model))
    assert (together["tumor"] == alone["tumor"]).all()
    assert (together["organ"] & together["tumor"]).sum() == together.count("tumor")


def test_crop_geometry_keeps_world_places() -> None:
    grid = Geometry((10, 10, 10), np.diag([2.0, 3.0, 4.0, 1.0]))
    part = crop_geometry(grid, (slice(2, 5), slice(0, 10), slice(7, 8)))
    assert part.shape == (3, 10, 1)
    assert part.to_world([0, 0, 0]).tolist() == [4, 0, 28]


def test_refusals() -> None:
    air = Volume(np.full((20, 20, 20), -1000, dtype=np.float32), Geometry((20, 20, 20), np.eye(4)))
    with pytest.raises(NotCt, match="no body in this scan"):
        prepare(air, CONFIG)
    with pytest.raises(CheckpointError, match="make no sense"):
        PreparationConfig(spacing_mm=(0.0, 1.0, 1.0), window_hu=(0.0, 1.0))
    for broken in ({}, {"spacing_mm": [1, 1, 1]}, {"spacing_mm": 3, "window_hu": [0, 1]}, {**CONFIG.to_dict(), "x": 1}):
        with pytest.raises(CheckpointError, match="damaged"):
            PreparationConfig.from_dict(broken)
    assert PreparationConfig.from_dict(CONFIG.to_dict()) == CONFIG
