"""Masks on a scan's grid copied from the nearest model voxel, as the original system does it."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.phantoms import rotation
from voxicon.core.geometry import Geometry
from voxicon.core.masks import MaskSet
from voxicon.core.volume import Source
from voxicon.prep.restore import nearest_masks

ORIGIN = Source(name="a scan")


def test_by_hand() -> None:
    # Model voxels of 3 mm at 0, 3, 6 mm; scan voxels of 1 mm from -3 to 9 mm: each model voxel is copied into three.
    model = Geometry((3, 1, 1), np.diag([3.0, 1, 1, 1]))
    scan = Geometry((13, 1, 1), np.array([[1.0, 0, 0, -3], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]))
    ends = MaskSet.from_masks({"ends": np.array([True, False, True]).reshape(3, 1, 1)}, model)
    found = nearest_masks(ends, scan, ORIGIN)
    at = found.geometry.affine[0, 3] + np.flatnonzero(found["ends"].ravel())
    assert at.tolist() == [-1, 0, 1, 5, 6, 7]
    assert found.geometry is scan
    assert found.source is ORIGIN


def test_every_bit_of_every_word_survives() -> None:
    model = Geometry((4, 5, 6), np.diag([2.0, 2, 2, 1]))
    rng = np.random.default_rng(0)
    masks = MaskSet.from_masks({f"class {i}": rng.random(model.shape) < 0.5 for i in range(40)}, model)
    assert (nearest_masks(masks, model, ORIGIN).words == masks.words).all()


def test_no_class_gives_no_mask() -> None:
    model = Geometry((4, 5, 6), np.eye(4))
    assert nearest_masks(MaskSet.empty((), model), Geometry((2, 2, 2), np.eye(4)), ORIGIN).names == ()


@given(
    turn=st.builds(rotation, st.floats(-180, 180), st.integers(0, 2)),
    step=st.tuples(*[st.floats(0.7, 4.0)] * 3),
    shift=st.tuples(*[st.floats(-4.0, 4.0)] * 3),
    seed=st.integers(0, 99),
)
@settings(max_examples=40, deadline=None)
def test_is_the_nearest_voxel_on_any_grid(
    turn: np.ndarray, step: tuple[float, ...], shift: tuple[float, ...], seed: int
) -> None:
    model = Geometry((6, 5, 4), np.diag([2.0, 2.5, 3.0, 1]))
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = turn @ np.diag(step), shift
    scan = Geometry((5, 6, 7), affine)
    values = np.random.default_rng(seed).random(model.shape) < 0.5
    found = nearest_masks(MaskSet.from_masks({"it": values}, model), scan, ORIGIN)["it"]
    index = np.stack(np.meshgrid(*(np.arange(n) for n in scan.shape), indexing="ij"), axis=-1)
    places = model.to_index(scan.to_world(index.reshape(-1, 3)))
    for place, was in zip(places, found.ravel(), strict=True):
        halves = np.abs(place - np.floor(place) - 0.5)
        if halves.min() < 1e-6:
            continue  # as near to two
        at = np.rint(place).astype(int)
        inside = bool(((at >= 0) & (at < model.shape)).all())
        assert was == (inside and values[tuple(at)])
