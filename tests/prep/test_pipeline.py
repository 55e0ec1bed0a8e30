"""Preparation and its inverse: from any grid to the model and back to the very same grid."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.phantoms import ORIENTATIONS, body, dice, oriented, rotation
from voxicon.core.geometry import Geometry
from voxicon.core.masks import MaskSet
from voxicon.core.volume import Source, Volume
from voxicon.errors import CheckpointError, NotCt
from voxicon.prep import restore as restore_module
from voxicon.prep.pipeline import PreparationConfig, model_grid, prepare, window
from voxicon.prep.restore import _level, crop_geometry, restore_masks, restore_probabilities

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


def level_of(values: list[float], voxels: float) -> float:
    """Of values in two slabs."""
    nowhere = (slice(0), slice(0), slice(0))
    halves = np.array(values[::2], dtype=np.float32), np.array(values[1::2], dtype=np.float32)
    return _level([(half, nowhere) for half in halves], voxels)


def test_the_cut_keeps_as_many_voxels_as_the_volume_asks_for() -> None:
    values = [0, 0.3, 0.4, 0.5, 0.55, 1.0]
    field = np.array(values, dtype=np.float32)
    assert (field > level_of(values, 2.0)).sum() == 2
    assert (field > level_of(values, 3.4)).sum() == 3
    # One voxel would need a cut above the highest level: volume then gives way to shape.
    assert (field > level_of(values, 1.0)).sum() == 1
    assert level_of([0.1, 0.9, 0.95], 1.0) == pytest.approx(0.6)
    # More voxels than the mask touches: all that are touched by more than the lowest level.
    assert (field > level_of(values, 50.0)).sum() == 5
    assert (np.array([0.1, 0.3]) > level_of([0.1, 0.3], 9.0)).tolist() == [False, True]
    assert level_of([], 3.0) == level_of([0.4], 0.2) == pytest.approx(0.2)


@pytest.mark.parametrize("degrees", [0.0, 20.0])
def test_slabs_of_masks_fit_together(monkeypatch: pytest.MonkeyPatch, degrees: float) -> None:
    turned = np.eye(4)
    cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    turned[:2, :2] = [[-cos, sin], [sin, cos]]
    source = Geometry((50, 40, 30), turned @ np.diag([1.1, 0.9, 1.7, 1.0]))
    rng = np.random.default_rng(0)
    placed = np.diag([5.0, 4.0, 5.0, 1.0])
    placed[:3, 3] = source.corners_mm().min(axis=0)
    model = Geometry((12, 11, 10), placed)
    masks = MaskSet.from_masks({"a": rng.random(model.shape) > 0.5, "b": rng.random(model.shape) > 0.99}, model)
    whole = restore_masks(masks, source, masks.source)
    monkeypatch.setattr(restore_module, "_SLAB_VOXELS", 4000)
    parts = restore_masks(masks, source, masks.source)
    assert whole.count("a") > 1000
    # Float sums in another order: a voxel at the very level may fall either way.
    assert (parts.words != whole.words).sum() <= 2


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_what_lies_between_two_slices_is_lost_and_nothing_else_happens(axis: int) -> None:
    # Model voxels at 0, 1.5, 3, ... mm, slices at 0, 6, 12, ... mm: a mask at 3 mm, with its rim from 0.75 to
    # 5.25 mm, touches no slice.
    model = Geometry((20, 20, 20), np.diag([1.5, 1.5, 1.5, 1.0]))
    spacing, shape = np.full(3, 1.5), [20, 20, 20]
    spacing[axis], shape[axis] = 6.0, 5
    source = Geometry((shape[0], shape[1], shape[2]), np.diag([*spacing, 1.0]))
    mask = np.zeros(model.shape, dtype=bool)
    np.moveaxis(mask, axis, 0)[2, 5:8, 5:8] = True
    restored = restore_masks(MaskSet.from_masks({"thin": mask}, model), source, Source(name="thick"))
    assert restored.count("thin") == 0
    assert not restore_probabilities(mask.astype(np.uint8) * 255, model, source).any()


def test_probabilities_restored_by_hand() -> None:
    # Model voxels at 0, 2 and 4 mm, scan voxels at -2, -1, ... 6 mm. Between them the mean; half a voxel beyond
    # the border its value; further out nothing.
    model = Geometry((3, 1, 1), np.diag([2.0, 2.0, 2.0, 1.0]))
    affine = np.diag([1.0, 2.0, 2.0, 1.0])
    affine[0, 3] = -2
    levels = np.array([40, 100, 250], dtype=np.uint8).reshape(3, 1, 1)
    found = restore_probabilities(levels, model, Geometry((9, 1, 1), affine))
    assert found.dtype == np.uint8
    assert found.ravel().tolist() == [0, 40, 40, 70, 100, 175, 250, 250, 0]
    # What lies inside of the model grid fades on both sides.
    lone = np.array([0, 0, 200, 0, 0], dtype=np.uint8)
    for axis in range(3):
        shape, fine, spacing = [1, 1, 1], [1, 1, 1], [2.0, 2.0, 2.0]
        shape[axis], fine[axis] = 5, 9
        wide = Geometry((shape[0], shape[1], shape[2]), np.diag([*spacing, 1.0]))
        spacing[axis] = 1.0
        narrow = Geometry((fine[0], fine[1], fine[2]), np.diag([*spacing, 1.0]))
        found = restore_probabilities(lone.reshape(shape), wide, narrow)
        assert found.ravel().tolist() == [0, 0, 0, 100, 200, 100, 0, 0, 0]
    # A quarter of the way from 0 to 3 is 0.75: rounded, not cut off. 1.5 goes to the even 2, 2.25 to 2.
    quarters = Geometry((5, 1, 1), np.diag([0.5, 2.0, 2.0, 1.0]))
    zero_three = np.array([0, 3, 3], dtype=np.uint8).reshape(3, 1, 1)
    assert restore_probabilities(zero_three, model, quarters).ravel().tolist() == [0, 1, 2, 2, 3]


def test_probabilities_on_the_same_grid_are_unchanged() -> None:
    grid = Geometry((12, 13, 14), np.diag([3.0, 3.0, 3.0, 1.0]))
    levels = np.random.default_rng(0).integers(0, 256, grid.shape, dtype=np.uint8)
    levels[:3] = 0
    assert (restore_probabilities(levels, grid, grid) == levels).all()
    assert not restore_probabilities(np.zeros_like(levels), grid, grid).any()


@pytest.mark.parametrize("slab_voxels", [1, 700])
@pytest.mark.parametrize("degrees", [0.0, 15.0])
def test_slabs_of_probabilities_fit_together(degrees: float, slab_voxels: int, monkeypatch: pytest.MonkeyPatch) -> None:
    volume = body((10.0, 10.0, 12.0), rotation(degrees, 2))
    prepared = prepare(volume, CONFIG)
    levels = {"bright": (prepared.image * 255).astype(np.uint8)}
    whole = prepared.trace.restore_probabilities(levels)["bright"]
    monkeypatch.setattr(restore_module, "_SLAB_VOXELS", slab_voxels)
    found = prepared.trace.restore_probabilities(levels)["bright"]
    assert found.shape == volume.geometry.shape
    assert np.abs(found.astype(int) - whole).max() <= 1  # float sums in another order may round another way
    assert whole.max() > 200


@pytest.mark.parametrize(("order", "signs"), ORIENTATIONS)
def test_every_orientation_gives_the_same_probabilities(
    order: tuple[int, int, int], signs: tuple[int, int, int]
) -> None:
    volume = body((8.0, 10.0, 9.0))
    prepared = prepare(volume, CONFIG)
    levels = {"bright": (prepared.image * 255).astype(np.uint8)}
    expected = prepared.trace.restore_probabilities(levels)["bright"].astype(np.float32)
    turned = oriented(volume, order, signs)
    trace = prepare(turned, CONFIG).trace
    assert trace.model.same_grid(prepared.trace.model)
    found = trace.restore_probabilities(levels)["bright"].astype(np.float32)
    assert np.abs(found - oriented(Volume(expected, volume.geometry), order, signs).hu).max() <= 1


def test_probabilities_on_an_oblique_scan_follow_the_place_and_end_with_the_model_grid() -> None:
    # A level that grows by 2 per mm along R is exactly what linear interpolation keeps.
    model = Geometry((40, 30, 20), np.diag([3.0, 3.0, 3.0, 1.0]))
    levels = np.broadcast_to(np.arange(40, dtype=np.uint8)[:, None, None] * 6, model.shape)
    affine = np.eye(4)
    affine[:3, :3] = rotation(20.0, 2) @ np.diag([2.0, 2.5, 4.0])
    affine[:3, 3] = [10.0, -30.0, -8.0]
    source = Geometry((60, 60, 20), affine)
    found = restore_probabilities(levels, model, source).astype(float)
    index = np.stack(np.meshgrid(*(np.arange(n) for n in source.shape), indexing="ij"), axis=-1)
    world = source.to_world(index)
    place = model.to_index(world)
    last = np.array(model.shape) - 1
    inside = ((place >= 0) & (place <= last)).all(axis=-1)
    beyond = ((place < -1) | (place > last + 1)).any(axis=-1)
    assert inside.sum() > 1000
    assert beyond.sum() > 1000
    assert np.abs(found - 2 * world[..., 0])[inside].max() <= 0.5 + 1e-3
    assert not found[beyond].any()


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
