"""Patches: which scan, which place, and the very voxels that lie there."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch.nn import functional

from tests.train.phantoms import NO_JITTER, SPACING_MM, STILL, bare_case, make_card, make_case
from voxicon.core.volume import AIR_HU
from voxicon.data.card import Sampling, Zoom
from voxicon.errors import ConfigError
from voxicon.train.augment import PAPER, AugmentConfig
from voxicon.train.cases import TrainingCase, Traits
from voxicon.train.patches import PatchSampler, Pool, SamplingConfig

RARE = Sampling(background=1, organ=1, lesion=5)


def sampler(
    *cases: TrainingCase,
    size: tuple[int, int, int] = (8, 8, 8),
    augment: AugmentConfig = STILL,
    sampling: SamplingConfig = NO_JITTER,
    datasets: list[int] | None = None,
    lesions: NDArray[np.bool_] | None = None,
    seed: int = 3,
) -> PatchSampler:
    numbers = list(range(len(cases))) if datasets is None else datasets
    return PatchSampler(Pool(cases, numbers, {}, lesions), size, SPACING_MM, augment, sampling, seed)


def ball(shape: tuple[int, int, int], center: tuple[int, int, int], radius: float) -> NDArray[np.bool_]:
    offsets = np.indices(shape) - np.array(center)[:, None, None, None]
    return (offsets**2).sum(axis=0) < radius**2


def thirds(n: int = 30) -> NDArray[np.bool_]:
    """Two classes: the first fills the first third along x, the second the second; the last is background."""
    masks = np.zeros((2, n, n, n), dtype=bool)
    masks[0, : n // 3], masks[1, n // 3 : 2 * n // 3] = True, True
    return masks


def middles(made: PatchSampler, steps: int) -> list[int]:
    """What lies in the middle of many patches of one voxel: class 0, 1, or background -1."""
    found = []
    for step in range(steps):
        target = made.batch(step, [0]).target_BNXYZ[0, :, 0, 0, 0]
        found.append(int(target.nonzero()[0]) if target.any() else -1)
    return found


# --- the same patch, always -------------------------------------------------------------------------------------


def test_a_patch_depends_on_seed_step_and_number_alone() -> None:
    case = make_case(paint_hu={"liver": (0.0, 90.0)})
    strong, jittered = AugmentConfig(), SamplingConfig()
    one, two = (sampler(case, augment=strong, sampling=jittered) for _ in range(2))
    together = one.batch(5, range(4))
    assert together.hu_B1XYZ.shape == (4, 1, 8, 8, 8)
    assert together.target_BNXYZ.shape == (4, 3, 8, 8, 8)
    assert together.target_BNXYZ.dtype == torch.bool
    one.batch(6, [0])
    for grouped in ([0, 1], [2, 3], [3, 0], [1]):
        batch = two.batch(5, grouped)
        assert torch.equal(batch.hu_B1XYZ, together.hu_B1XYZ[grouped]), "however patches are dealt to batches"
        assert torch.equal(batch.target_BNXYZ, together.target_BNXYZ[grouped])
    others = [
        together.hu_B1XYZ[1],
        one.batch(6, [0]).hu_B1XYZ[0],
        sampler(case, augment=strong, sampling=jittered, seed=4).batch(5, [0]).hu_B1XYZ[0],
    ]
    assert not any(torch.equal(together.hu_B1XYZ[0], other) for other in others)


# --- which place ------------------------------------------------------------------------------------------------


def shares(case: TrainingCase, sampling: SamplingConfig = NO_JITTER, steps: int = 700) -> dict[int, float]:
    made = sampler(case, size=(1, 1, 1), sampling=sampling, lesions=np.array([False, True]))
    return {what: n / steps for what, n in Counter(middles(made, steps)).items()}


def test_two_patches_on_the_foreground_to_one_beside_it() -> None:
    found = shares(bare_case(thirds()))
    # Both classes are equally large. The standard deviation of a share of 1/3 in 700 draws is 0.018.
    assert found == {k: pytest.approx(1 / 3, abs=0.06) for k in (-1, 0, 1)}


def test_foreground_is_drawn_by_size() -> None:
    masks = thirds()
    masks[1, :, 10:] = False  # a third of it stays
    found = shares(bare_case(masks, traits=Traits(Sampling(background=0, foreground=1))))
    assert found == {0: pytest.approx(0.75, abs=0.06), 1: pytest.approx(0.25, abs=0.06)}


def test_one_to_one_to_five_where_tumors_are_rare() -> None:
    found = shares(bare_case(thirds(), traits=Traits(RARE)))
    # The standard deviation of a share of 1/7 in 700 draws is 0.013, of 5/7 it is 0.017.
    assert found == {
        -1: pytest.approx(1 / 7, abs=0.05), 0: pytest.approx(1 / 7, abs=0.05), 1: pytest.approx(5 / 7, abs=0.06),
    }  # fmt: skip


def test_shares_are_those_of_what_is_there() -> None:
    masks = thirds()
    masks[1] = False
    found = shares(bare_case(masks, traits=Traits(RARE)), steps=300)
    assert found == {-1: pytest.approx(0.5, abs=0.1), 0: pytest.approx(0.5, abs=0.1)}
    masks[0], masks[1] = False, True
    assert shares(bare_case(masks, traits=Traits(RARE)), steps=20) == {1: 1.0}
    masks[1] = False
    assert shares(bare_case(masks, traits=Traits(RARE)), steps=20) == {-1: 1.0}, "nothing but background"
    empty = bare_case(masks, background=np.zeros((0, 3), dtype=np.int16))
    assert shares(empty, steps=20) == {-1: 1.0}, "a scan of air: anywhere"


def test_classes_evenly_whatever_their_size() -> None:
    masks = np.stack([np.ones((30, 30, 30), dtype=bool), ball((30, 30, 30), (15, 15, 15), 3)])
    even = SamplingConfig(centers="classes", class_share=1, jitter=0)
    made = sampler(bare_case(masks), size=(1, 1, 1), sampling=even)
    seen = [bool(made.batch(step, [0]).target_BNXYZ[0, 1].any()) for step in range(300)]
    assert np.mean(seen) == pytest.approx(0.5, abs=0.1)
    # The ball is 0.4 % of the scan: without a class drawn it is hardly ever met.
    anywhere = sampler(bare_case(masks), size=(1, 1, 1), sampling=even.model_copy(update={"class_share": 0.0}))
    assert sum(bool(anywhere.batch(step, [0]).target_BNXYZ[0, 1].any()) for step in range(300)) < 15


def test_what_a_patch_is_centered_on_stays_inside() -> None:
    corner = np.zeros((1, 40, 40, 40), dtype=bool)
    corner[0, 0, 39, 20] = True
    on_it = SamplingConfig(centers="classes", class_share=1, jitter=0.3)
    zoom = Traits(zoom=Zoom(chance=1, low=1.5, high=1.5))
    for traits in (Traits(), zoom):
        made = sampler(bare_case(corner, traits=traits), size=(16, 16, 16), sampling=on_it)
        # Enlarged patches look voxels up between voxels; the nearest of the one drawn must be among them.
        assert all(made.batch(step, [0]).target_BNXYZ.any() for step in range(40))


# --- which scan -------------------------------------------------------------------------------------------------


def scans_drawn(made: PatchSampler, steps: int) -> Counter[int]:
    """How often each scan is drawn; scan i holds i everywhere."""
    return Counter(round(float(made.batch(step, [0]).hu_B1XYZ.max())) for step in range(steps))


def numbered(number: int, classes: int = 1, has: tuple[int, ...] = (0,)) -> TrainingCase:
    masks = np.zeros((classes, 4, 4, 4), dtype=bool)
    for index in has:
        masks[index] = True
    return bare_case(masks, np.full((4, 4, 4), number, dtype=np.int16))


def test_uniform_draws_every_dataset_equally_often() -> None:
    cases = [numbered(n) for n in range(5)]
    datasets = [0, 0, 0, 0, 1]
    by_scan = scans_drawn(sampler(*cases, size=(2, 2, 2), datasets=datasets), 400)
    assert by_scan[4] / 400 == pytest.approx(1 / 5, abs=0.06)
    uniform = SamplingConfig(datasets="uniform", jitter=0)
    by_dataset = scans_drawn(sampler(*cases, size=(2, 2, 2), datasets=datasets, sampling=uniform), 400)
    assert by_dataset[4] / 400 == pytest.approx(1 / 2, abs=0.08)
    assert all(by_dataset[n] / 400 == pytest.approx(1 / 8, abs=0.06) for n in range(4))


def test_balanced_sees_the_long_tail_as_often_as_the_liver() -> None:
    # Class 0 is in all ten scans of two datasets, class 1 in one of them.
    cases = [numbered(n, 2, (0, 1) if n == 9 else (0,)) for n in range(10)]
    datasets = [0] * 6 + [1] * 4
    balanced = SamplingConfig(datasets="balanced", class_share=1, jitter=0)
    drawn = scans_drawn(sampler(*cases, size=(2, 2, 2), datasets=datasets, sampling=balanced), 600)
    # Scan 9: half for class 1; of the half for class 0, half go to its dataset and a quarter of those to it.
    assert drawn[9] / 600 == pytest.approx(1 / 2 + 1 / 2 * 1 / 2 * 1 / 4, abs=0.07)
    assert sum(drawn[n] for n in range(6)) / 600 == pytest.approx(1 / 4, abs=0.06)
    even = scans_drawn(sampler(*cases, size=(2, 2, 2), datasets=datasets), 600)
    assert even[9] / 600 == pytest.approx(1 / 10, abs=0.05)


def test_balanced_centers_on_the_class_it_drew() -> None:
    masks = np.stack([~ball((30, 30, 30), (8, 8, 8), 4), ball((30, 30, 30), (8, 8, 8), 4)])
    balanced = SamplingConfig(datasets="balanced", class_share=1, jitter=0)
    made = sampler(bare_case(masks), size=(1, 1, 1), sampling=balanced)
    assert np.mean([middle == 1 for middle in middles(made, 300)]) == pytest.approx(0.5, abs=0.1)


def test_balanced_without_any_class_draws_all_scans() -> None:
    cases = [numbered(n, has=()) for n in range(3)]
    balanced = SamplingConfig(datasets="balanced", jitter=0)
    assert set(scans_drawn(sampler(*cases, size=(2, 2, 2), sampling=balanced), 60)) == {0, 1, 2}


def test_no_scan_is_refused() -> None:
    with pytest.raises(ConfigError, match="no scan to train on"):
        sampler()


# --- the very voxels --------------------------------------------------------------------------------------------


def corner_of(patch: torch.Tensor, shape: tuple[int, int, int]) -> NDArray[np.int64]:
    """Where in a scan that counts its voxels a patch begins, from a voxel of the patch that is scan."""
    inside = tuple(int(i) for i in (patch > AIR_HU / 2).nonzero()[0])
    return np.array(np.unravel_index(round(float(patch[inside])), shape)) - np.array(inside)


@pytest.mark.parametrize("augment", [STILL, PAPER.model_copy(update={"quarter_turns": 0, "brightness": 0})])
@pytest.mark.parametrize("size", [(8, 8, 8), (8, 12, 6), (30, 8, 40)])
@settings(max_examples=10)
@given(seed=st.integers(0, 10_000))
def test_without_chance_a_patch_is_a_piece_of_the_scan(
    augment: AugmentConfig, size: tuple[int, int, int], seed: int
) -> None:
    shape = (20, 21, 22)
    masks = np.random.default_rng(seed).random((3, *shape)) < 0.5
    made = sampler(bare_case(masks), size=size, augment=augment, sampling=SamplingConfig(), seed=seed)
    batch = made.batch(0, [0])
    patch = batch.hu_B1XYZ[0, 0]
    start = corner_of(patch, shape)
    hu = np.full(size, AIR_HU)
    labels = np.zeros((3, *size), dtype=bool)
    into = tuple(slice(max(0, -s), min(n, m - s)) for s, n, m in zip(start, size, shape, strict=True))
    of = tuple(slice(max(0, s), min(m, s + n)) for s, n, m in zip(start, size, shape, strict=True))
    hu[into] = np.arange(np.prod(shape)).reshape(shape)[of]
    labels[(slice(None), *into)] = masks[(slice(None), *of)]
    assert np.abs(patch.numpy() - hu).max() < 0.1, "whole HU come back; beyond the scan lies air"
    assert (batch.target_BNXYZ[0].numpy() == labels).all()


@pytest.mark.parametrize("shape", [(20, 20, 1), (1, 20, 20), (20, 1, 1), (1, 1, 1)])
def test_a_scan_of_one_slice_is_one_slice(shape: tuple[int, int, int]) -> None:
    masks = np.ones((1, *shape), dtype=bool)
    made = sampler(bare_case(masks, np.full(shape, 40, dtype=np.int16)), size=(8, 8, 8))
    for step in range(5):
        batch = made.batch(step, [0])
        scan = batch.hu_B1XYZ[0, 0] > AIR_HU / 2
        assert scan.any()
        assert torch.equal(scan, batch.target_BNXYZ[0, 0]), "image and labels end at the same place"


def test_a_patch_larger_than_the_scan_holds_all_of_it() -> None:
    masks = ball((9, 10, 11), (4, 5, 5), 4)[None]
    batch = sampler(bare_case(masks), size=(16, 16, 16)).batch(0, [0])
    assert batch.target_BNXYZ.sum() == masks.sum()
    assert (batch.hu_B1XYZ > AIR_HU / 2).sum() == 9 * 10 * 11


def test_zoom_enlarges() -> None:
    shape = (40, 40, 40)
    masks = ball(shape, (20, 20, 20), 6)[None]
    on_it = SamplingConfig(centers="classes", class_share=1, jitter=0)

    def voxels(traits: Traits) -> float:
        made = sampler(bare_case(masks, traits=traits), size=(32, 32, 32), sampling=on_it)
        return float(np.mean([made.batch(step, [0]).target_BNXYZ.sum() for step in range(4)]))

    plain = voxels(Traits())
    assert plain == masks.sum()
    assert voxels(Traits(zoom=Zoom(chance=1, low=1.5, high=1.5))) == pytest.approx(1.5**3 * plain, rel=0.05)
    assert voxels(Traits(zoom=Zoom(chance=0, low=1.5, high=1.5))) == plain


def test_quarter_turns_keep_left_and_right() -> None:
    """An arrow along +y with a mark on its right: however it is turned in the axial plane, the mark stays right."""
    shape = (21, 21, 21)
    masks = np.zeros((3, *shape), dtype=bool)
    masks[0, 10, 15, 10], masks[1, 13, 10, 10], masks[2, 10, 10, 12] = True, True, True
    turning = PAPER.model_copy(update={"quarter_turns": 1.0, "brightness": 0})
    whole = bare_case(masks, np.zeros(shape, dtype=np.int16), centers={0: np.array([[10, 10, 10]], dtype=np.int16)})
    made = sampler(
        whole, size=(21, 21, 21), augment=turning, sampling=SamplingConfig(centers="classes", class_share=1, jitter=0)
    )
    seen = set()
    for step in range(30):
        ahead, mark, up = (target.nonzero()[0].numpy() - 10 for target in made.batch(step, [0]).target_BNXYZ[0])
        assert np.linalg.det(np.stack([mark, ahead, up])) > 0
        assert tuple(up) == (0, 0, 2)
        seen.add(tuple(ahead))
    assert seen == {(-5, 0, 0), (0, -5, 0), (5, 0, 0)}, "a quarter, a half and three quarters"


def test_more_than_64_classes() -> None:
    shape = (12, 12, 12)
    masks = np.random.default_rng(0).random((70, *shape)) < 0.1
    batch = sampler(bare_case(masks), size=(16, 16, 16)).batch(0, [0])
    assert batch.target_BNXYZ.shape == (1, 70, 16, 16, 16)
    # The scan lies in the middle of the larger patch.
    assert (batch.target_BNXYZ[0, :, 2:14, 2:14, 2:14].numpy() == masks).all()
    assert batch.known_BN.shape == (1, 70)


# --- repainting and cutting -------------------------------------------------------------------------------------


def test_repainting_moves_a_structure_into_its_range() -> None:
    always = STILL.model_copy(update={"repaint": 1.0})
    case = make_case(
        make_card(repaint_hu={"liver": [200, 300]}), paint_hu={"liver": (-50.0, 0.0), "spl": (400.0, 500.0)}
    )
    made = sampler(case, size=(24, 24, 24), augment=always)
    plain = sampler(case, size=(24, 24, 24))
    for step in range(5):
        batch, before = made.batch(step, [0]), plain.batch(step, [0])
        assert torch.equal(batch.target_BNXYZ, before.target_BNXYZ)
        hu, (liver, tumor, spleen) = batch.hu_B1XYZ[0, 0], batch.target_BNXYZ[0]
        # Offsets fade at the surface. What the card says goes before what the recipe says.
        assert 180 < float(hu[inner(liver & ~tumor)].mean()) < 320
        assert 380 < float(hu[inner(spleen)].mean()) < 520
        untouched = inner(~(liver & ~tumor | spleen))
        assert torch.equal(hu[untouched], before.hu_B1XYZ[0, 0][untouched])


def inner(mask: torch.Tensor) -> torch.Tensor:
    """Voxels of a mask whose neighbors are all in it."""
    return functional.max_pool3d((~mask)[None].float(), 3, 1, 1)[0] == 0


def test_beyond_a_cut_field_of_view_nothing_is_labeled() -> None:
    always = STILL.model_copy(update={"cut": 1.0})
    made = sampler(make_case(), size=(12, 12, 12), augment=always)
    for step in range(12):
        batch = made.batch(step, [0])
        beyond = batch.hu_B1XYZ[0, 0] == AIR_HU
        assert beyond.any()
        assert not batch.target_BNXYZ[0][:, beyond].any()


def test_streaks_change_the_scan_and_not_the_labels() -> None:
    case = make_case()
    plain = sampler(case).batch(0, [0])
    banded = sampler(case, augment=STILL.model_copy(update={"streaks": 1.0})).batch(0, [0])
    assert torch.equal(plain.target_BNXYZ, banded.target_BNXYZ)
    assert (plain.hu_B1XYZ - banded.hu_B1XYZ).abs().max() > 1


def test_what_is_known_travels_with_the_patch() -> None:
    known, partly = make_case(), make_case(make_card(classes=("spleen",)))
    assert sampler(known).batch(0, [0]).known_BN.tolist() == [[True, True, True]]
    assert sampler(partly).batch(0, [0]).known_BN.tolist() == [[False, False, True]]


# --- what counts ------------------------------------------------------------------------------------------------


def test_the_weight_of_a_dataset_says_how_often_it_is_drawn() -> None:
    cases = [numbered(number) for number in range(3)]
    uniform = SamplingConfig(datasets="uniform", jitter=0)
    made = PatchSampler(Pool(cases, [0, 0, 7], {7: 3.0}), (2, 2, 2), SPACING_MM, STILL, uniform, 3)
    drawn = scans_drawn(made, 600)
    assert drawn[2] / 600 == pytest.approx(3 / 4, abs=0.06)
    assert drawn[0] / 600 == pytest.approx(1 / 8, abs=0.05)


def test_a_share_of_what_is_known_to_be_absent_counts_and_all_that_is_there() -> None:
    masks = np.zeros((40, 8, 8, 8), dtype=bool)
    masks[0] = True
    case = bare_case(masks, known_N=np.arange(40) < 30)
    few = sampler(case, sampling=SamplingConfig(jitter=0, absent=0.25))
    counted = torch.stack([few.batch(step, [0]).known_BN[0] for step in range(60)])
    assert counted[:, 0].all(), "a class that is there always counts"
    assert not counted[:, 30:].any(), "an unknown class never does"
    assert float(counted[:, 1:30].float().mean()) == pytest.approx(0.25, abs=0.04)
    assert sampler(case).batch(0, [0]).known_BN[0].tolist() == case.known_N.tolist()
