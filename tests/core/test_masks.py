"""MaskSet: bits behave like independent boolean arrays."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from voxicon.core.geometry import Geometry
from voxicon.core.masks import MaskSet, word_count
from voxicon.core.volume import Volume
from voxicon.errors import BadGeometry, UnknownClass

GRID = Geometry((3, 4, 5), np.diag([2.0, 2.0, 2.0, 1.0]))


def random_masks(n: int, seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {f"class_{i}": rng.random(GRID.shape) < 0.3 for i in range(n)}


@settings(max_examples=25)
@given(n=st.integers(0, 70), seed=st.integers(0, 99))
def test_packing_and_unpacking_is_the_identity(n: int, seed: int) -> None:
    masks = random_masks(n, seed)
    packed = MaskSet.from_masks(masks, GRID)
    assert packed.words.shape == (word_count(n), *GRID.shape)
    assert list(packed) == list(masks)
    for name, mask in masks.items():
        assert (packed[name] == mask).all()
        assert packed.count(name) == mask.sum()
        assert packed.volume_ml(name) == pytest.approx(mask.sum() * 0.008)


@settings(max_examples=25)
@given(n=st.integers(0, 70), seed=st.integers(0, 99))
def test_file_order_changes_nothing_but_the_order_in_memory(n: int, seed: int) -> None:
    packed = MaskSet.from_masks(random_masks(n, seed), GRID)
    ordered = MaskSet.empty(packed.names, GRID, file_order=True)
    assert not ordered.words.any()
    assert all(word.flags.f_contiguous for word in ordered.words)
    for name in packed:
        ordered.set(name, packed[name])
    assert (ordered.words == packed.words).all()
    assert ordered.bounds() == packed.bounds()
    assert ordered.volumes_ml() == packed.volumes_ml()


def test_word_count_by_hand() -> None:
    assert [word_count(n) for n in (0, 1, 32, 33, 64, 65)] == [0, 1, 1, 2, 2, 3]


def test_setting_one_class_leaves_the_others() -> None:
    masks = random_masks(34, 1)
    packed = MaskSet.from_masks(masks, GRID)
    packed.set("class_33", np.zeros(GRID.shape, dtype=bool))
    packed.set("class_0", np.ones(GRID.shape, dtype=bool))
    assert not packed["class_33"].any()
    assert packed["class_0"].all()
    assert all((packed[name] == masks[name]).all() for name in list(masks)[1:33])


def test_bounds_are_tight_and_leave_out_the_empty() -> None:
    mask = np.zeros(GRID.shape, dtype=bool)
    mask[1:3, 2, 0:4] = True
    packed = MaskSet.from_masks({"box": mask, "none": np.zeros_like(mask)}, GRID)
    assert packed.bounds() == {"box": (slice(1, 3), slice(2, 3), slice(0, 4))}


def test_volumes_of_all_are_those_of_each() -> None:
    packed = MaskSet.from_masks({**random_masks(34, 3), "none": np.zeros(GRID.shape, dtype=bool)}, GRID)
    assert list(packed.volumes_ml()) == list(packed.names)
    assert packed.volumes_ml() == {name: packed.volume_ml(name) for name in packed}
    assert packed.volumes_ml()["none"] == 0
    assert MaskSet.empty((), GRID).volumes_ml() == {}


def test_overlap_survives() -> None:
    mask = np.ones(GRID.shape, dtype=bool)
    packed = MaskSet.from_masks({"liver": mask, "liver_tumor": mask}, GRID)
    assert packed["liver"].all()
    assert packed["liver_tumor"].all()


def test_refusals() -> None:
    with pytest.raises(UnknownClass, match="no mask named 'spleen' here; there are: liver"):
        MaskSet.empty(["liver"], GRID)["spleen"]
    with pytest.raises(BadGeometry, match="repeat"):
        MaskSet.empty(["liver", "liver"], GRID)
    with pytest.raises(BadGeometry, match="uint32"):
        MaskSet(np.zeros((1, 3, 4, 5), dtype=np.int64), ["liver"], GRID)
    with pytest.raises(BadGeometry, match="has shape"):
        MaskSet.empty(["liver"], GRID).set("liver", np.zeros((1, 1, 1), dtype=bool))
    with pytest.raises(BadGeometry, match="does not fit"):
        Volume(np.zeros((1, 1, 1)), GRID)


@settings(max_examples=25)
@given(n=st.integers(1, 70), seed=st.integers(0, 99), data=st.data())
def test_gathering_is_packing_of_what_was_picked(n: int, seed: int, data: st.DataObject) -> None:
    one, other = random_masks(n, seed), random_masks(n, seed + 100)
    one["class_0"] = np.zeros(GRID.shape, dtype=bool)
    sets = [MaskSet.from_masks(masks, GRID) for masks in (one, other)]
    names = data.draw(st.lists(st.sampled_from(list(one)), unique=True))
    of = {name: data.draw(st.sampled_from((0, 1))) for name in names}
    gathered = MaskSet.gathered({name: sets[which] for name, which in of.items()}, GRID)
    assert gathered.names == tuple(names)
    for name, which in of.items():
        assert (gathered[name] == (one, other)[which][name]).all()


def test_gathering_refuses_what_is_not_there_or_does_not_fit() -> None:
    packed = MaskSet.from_masks(random_masks(2, 0), GRID)
    with pytest.raises(UnknownClass, match="no mask named 'other'"):
        MaskSet.gathered({"other": packed}, GRID)
    with pytest.raises(BadGeometry, match="the grid has"):
        MaskSet.gathered({"class_0": packed}, Geometry((3, 4, 6), np.eye(4)))
