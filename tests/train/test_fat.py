"""Fat and dark vessels: dark where they are, in organs, lesions spared, the same for the same chance."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.train.phantoms import STILL, make_card, make_case, make_config, make_sampler
from voxicon.train import fat
from voxicon.train.fat import with_fat

SHAPE = (32, 32, 32)
EVEN = np.full(SHAPE, 100, dtype=np.float32)
NOTHING = np.zeros(SHAPE, dtype=bool)
ORGAN = NOTHING.copy()
ORGAN[4:28, 4:28, 4:28] = True


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000))
def test_they_are_dark_and_small_and_in_organs(seed: int) -> None:
    found = with_fat(EVEN, ORGAN, NOTHING, 3.0, np.random.default_rng(seed))
    assert found.dtype == np.float32
    assert found.max() <= 100
    # The middle of the thinnest, of 1 mm, is fat by 0.73 of 0.15, and fat is at most -70.
    assert -120 <= found.min() < 100 - 0.15 * 0.73 * 170
    # At most four, the largest of half extents of 3.5, 30 and 30 mm: 13.2 ml.
    assert float((found < -20).sum()) * 0.027 < 4 * 15


@pytest.mark.parametrize("seed", range(20))
def test_their_middle_lies_in_the_organ_and_they_reach_30_mm_beyond(seed: int) -> None:
    right = ORGAN & (np.arange(32) > 20)[:, None, None]
    change = np.abs(with_fat(EVEN, right, NOTHING, 3.0, np.random.default_rng(seed)) - 100)
    # Ten voxels beyond the first of the organ, and at their tips they fade slowly.
    assert change[:8].max() < 15
    assert change[21:].max() > 18


def test_thin_ones_share_their_voxels_with_the_organ_and_thick_ones_do_not() -> None:
    darkest = np.array([with_fat(EVEN, ORGAN, NOTHING, 3.0, np.random.default_rng(seed)).min() for seed in range(100)])
    # Of one to four, each thick with a chance of 0.3, none is in 44 of 100 patches; thin ones may be dark too.
    assert 10 < (darkest > -40).sum() < 44
    assert (darkest < -70).sum() > 20


@pytest.mark.parametrize(
    ("shape", "least", "most"),
    [
        # The share in the middle of what is 1.5, 1, 1 and 3 mm thick or more is 0.82, 0.73, 0.73 and 0.95 or more.
        (fat._POCKET, 0.82, 1.0),
        (fat._FOLD, 0.15 * 0.73, 1.0),
        (fat._STRAND, 0.15 * 0.73, 1.0),
        (fat._VESSEL, 0.07 * 0.95, 0.25),
    ],
)
def test_how_dark_each_is(shape: fat.Shape, least: float, most: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fat, "_CHANCES", ((1.0, shape),))
    darkest = [float(with_fat(EVEN, ORGAN, NOTHING, 3.0, np.random.default_rng(seed)).min()) for seed in range(40)]
    assert max(darkest) < 100 - least * 170
    assert min(darkest) >= 100 - most * 220
    assert max(darkest) - min(darkest) > 20


def test_noise_stays_as_it_was() -> None:
    noisy = (EVEN + np.random.default_rng(1).normal(0, 20, SHAPE)).astype(np.float32)
    found = with_fat(noisy, ORGAN, NOTHING, 3.0, np.random.default_rng(3))
    core = with_fat(EVEN, ORGAN, NOTHING, 3.0, np.random.default_rng(3)) < -40
    assert core.sum() > 10
    assert found[core].std() == pytest.approx(noisy[core].std(), rel=0.3)


def test_lesions_and_what_they_touch_are_spared() -> None:
    lesion = NOTHING.copy()
    lesion[10:22, 10:22, 10:22] = True
    touched = NOTHING.copy()
    touched[9:23, 9:23, 9:23] = True
    for seed in range(10):
        found = with_fat(EVEN, ORGAN, lesion, 3.0, np.random.default_rng(seed))
        assert (found[touched] == 100).all()
        assert (found < 0).any()


def test_without_an_organ_nothing_changes() -> None:
    found = with_fat(EVEN, NOTHING, NOTHING, 3.0, np.random.default_rng(0))
    np.testing.assert_array_equal(found, EVEN)
    assert found is not EVEN
    np.testing.assert_array_equal(with_fat(EVEN, ORGAN, ORGAN, 3.0, np.random.default_rng(0)), EVEN)


def test_the_same_chance_gives_the_same_and_the_scan_stays() -> None:
    before = EVEN.copy()
    first, second = (with_fat(EVEN, ORGAN, NOTHING, 3.0, np.random.default_rng(5)) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(EVEN, before)
    assert (with_fat(EVEN, ORGAN, NOTHING, 3.0, np.random.default_rng(6)) != first).any()


def test_a_share_of_patches_gets_them() -> None:
    case = make_case(make_card())

    def patches(share: float) -> list[Tensor]:
        augment = STILL.model_copy(update={"fat": share})
        sampler = make_sampler(make_config(augment=augment), [case])
        return [sampler.batch(step, [0]).hu_B1XYZ for step in range(12)]

    never, always, half = patches(0.0), patches(1.0), patches(0.5)
    assert all(bool((one != bare).any()) for one, bare in zip(always, never, strict=True))
    assert 0 < sum(float(one.min()) < float(bare.min()) for one, bare in zip(half, never, strict=True)) < 12
