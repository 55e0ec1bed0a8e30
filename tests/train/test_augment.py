"""Augmentations: identities where nothing is drawn, labels that follow the image, left that stays left."""

from __future__ import annotations

import pytest
import torch

from tests.train.phantoms import STILL
from voxicon.core.volume import AIR_HU
from voxicon.train.augment import (
    PAPER,
    PRESETS,
    AugmentConfig,
    Paint,
    Warp,
    apply_paint,
    degrade,
    draw_cut,
    draw_paint,
    draw_warp,
    warp_labels,
    warp_values,
)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def identity(shape: tuple[int, int, int]) -> Warp:
    axes = [torch.arange(n, dtype=torch.float32) for n in shape]
    return Warp(torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1))


def test_nothing_drawn_changes_nothing() -> None:
    hu = torch.randn(6, 7, 8, generator=generator()) * 100
    warp = draw_warp(STILL, generator(), (2.5, 3.0, 3.5), (6, 7, 8), 3.0)
    assert torch.allclose(warp.index_XYZ3, identity((6, 7, 8)).index_XYZ3, atol=1e-5)
    assert torch.allclose(warp_values(hu, warp), hu, atol=1e-2)
    assert torch.allclose(degrade(hu, STILL, generator()), hu, atol=1e-3)
    assert draw_cut(STILL, generator(), (6, 7, 8)) is None


@pytest.mark.parametrize("shape", [(4, 4, 4), (1, 4, 4), (4, 4, 1), (1, 1, 1)])
def test_a_step_outside_is_air_however_thin_the_scan(shape: tuple[int, int, int]) -> None:
    hu = torch.zeros(shape)
    for axis in range(3):
        for beyond in (-1.0, float(shape[axis])):
            at = torch.zeros(1, 1, 1, 3)
            at[..., axis] = beyond
            assert float(warp_values(hu, Warp(at))) == AIR_HU
            assert int(warp_labels(torch.ones(shape, dtype=torch.int64), Warp(at))) == 0
    assert float(warp_values(hu, Warp(torch.zeros(1, 1, 1, 3)))) == 0


def test_outside_is_air_and_no_class() -> None:
    hu, labels = torch.zeros(4, 4, 4), torch.ones(4, 4, 4, dtype=torch.int64)
    far = Warp(identity((4, 4, 4)).index_XYZ3 + 100)
    assert (warp_values(hu, far) == AIR_HU).all()
    assert (warp_labels(labels, far) == 0).all()


def test_labels_follow_the_image() -> None:
    hu = torch.full((30, 30, 30), -1000.0)
    hu[8:22, 10:20, 9:21] = 500.0
    labels = (hu > 0).long() << 40
    for seed in range(5):
        warp = draw_warp(AugmentConfig(), generator(seed), (14.5, 14.5, 14.5), (24, 24, 24), 3.0)
        image, moved = warp_values(hu, warp) > -250, warp_labels(labels, warp) == 1 << 40
        # Nearest and linear look-up differ by at most half a voxel at the surface.
        assert (image == moved).float().mean() > 0.97
        assert moved.any()


@pytest.mark.parametrize("quarter_turns", [0.0, 1.0])
def test_warps_never_mirror(quarter_turns: float) -> None:
    strongest = AugmentConfig(rotate_degrees=20, scale=1.3, elastic_mm=0, quarter_turns=quarter_turns)
    for seed in range(20):
        index = draw_warp(strongest, generator(seed), (0.0, 0.0, 0.0), (3, 3, 3), 3.0).index_XYZ3
        axes = torch.stack(
            [index[2, 1, 1] - index[0, 1, 1], index[1, 2, 1] - index[1, 0, 1], index[1, 1, 2] - index[1, 1, 0]]
        )
        assert torch.linalg.det(axes) > 0


def test_quarter_turns_turn_in_the_axial_plane() -> None:
    turning = STILL.model_copy(update={"quarter_turns": 1.0})
    seen = set()
    for seed in range(20):
        index = draw_warp(turning, generator(seed), (0.0, 0.0, 0.0), (3, 3, 3), 3.0).index_XYZ3
        assert index[1, 1, 2].tolist() == [0, 0, 1], "the head stays up"
        seen.add(tuple(index[2, 1, 1].tolist()))
    assert seen == {(0, 1, 0), (-1, 0, 0), (0, -1, 0)}, "a quarter, a half, three quarters"


def test_zoom_looks_at_less() -> None:
    index = draw_warp(STILL, generator(), (10.0, 10.0, 10.0), (5, 5, 5), 3.0, zoom=2.0).index_XYZ3
    assert index[0, 0, 0].tolist() == [9, 9, 9]
    assert index[4, 2, 2].tolist() == [11, 10, 10]


def test_the_papers_augmentation_is_the_originals() -> None:
    # Quarter turns p 0.1; shift by up to 0.1 of a window of 425 HU, p 0.2; nothing else but the cards' zoom.
    assert (PAPER.quarter_turns, PAPER.brightness_hu, PAPER.brightness) == (0.1, 42.5, 0.2)
    quiet = PAPER.model_copy(update={"quarter_turns": 0.0, "brightness": 0.0})
    hu = torch.randn(6, 7, 8, generator=generator()) * 100
    for seed in range(20):
        warp = draw_warp(quiet, generator(seed), (2.5, 3.0, 3.5), (6, 7, 8), 3.0)
        assert torch.equal(warp.index_XYZ3, identity((6, 7, 8)).index_XYZ3)
        assert torch.equal(degrade(hu, quiet, generator(seed)), hu)
        assert draw_cut(quiet, generator(seed), (6, 7, 8)) is None
    shifts = [float((degrade(hu, PAPER, generator(seed)) - hu).mean()) for seed in range(300)]
    moved = [abs(shift) for shift in shifts if shift]
    assert len(moved) / 300 == pytest.approx(0.2, abs=0.08)
    assert 30 < max(moved) <= 42.5
    assert (PRESETS["paper"], PRESETS["strong"]) == (PAPER, AugmentConfig())


def test_painting_moves_a_structure_to_its_range_and_spares_gas() -> None:
    structure = torch.zeros(9, 9, 9, dtype=torch.int16)
    structure[2:7, 2:7, 2:7] = 3
    hu = torch.full((9, 9, 9), -100.0)
    hu[2:7, 2:7, 2:7] = 50.0
    hu[4, 4, 4] = -800.0
    for seed in range(10):
        paint = draw_paint(generator(seed), {3: 50.0}, {3: (100.0, 200.0)}, 4)
        offset = paint.offset_hu
        assert 50 <= offset[3] <= 150
        assert (offset[:3] == 0).all()
        painted = apply_paint(hu, structure, paint)
        assert painted[4, 4, 4] == -800
        # The gas at the middle has no change of its own and takes its 27th part from the 26 around it.
        assert painted[3, 3, 3] == pytest.approx(50 + 26 / 27 * float(offset[3]), abs=1e-3)
        assert painted[0, 0, 0] == -100


def test_flattening_takes_away_what_marks_a_phase_within_an_organ() -> None:
    structure = torch.full((12, 12, 12), 2, dtype=torch.int16)
    hu = torch.full((12, 12, 12), 100.0)
    hu[:6] = 200.0
    one = torch.tensor([0.0, 0.0, 1.0])
    paint = Paint(torch.tensor([0.0, 0.0, -50.0]), one * 0.75, one * 150.0)
    painted = apply_paint(hu, structure, paint)
    # 200 → 200 + 0.75 (150 - 200) - 50 = 112.5; 100 → 100 + 0.75 (150 - 100) - 50 = 87.5.
    assert painted[2, 5, 5] == pytest.approx(112.5)
    assert painted[9, 5, 5] == pytest.approx(87.5)
    drawn = [draw_paint(generator(seed), {2: 150.0}, {2: (0.0, 90.0)}, 3, 0.6).flatten for seed in range(40)]
    assert all((flatten[:2] == 0).all() and 0 <= flatten[2] <= 0.6 for flatten in drawn)
    assert max(float(flatten[2]) for flatten in drawn) > 0.5
    assert not draw_paint(generator(), {2: 150.0}, {2: (0.0, 90.0)}, 3).flatten.any()


@pytest.mark.parametrize(
    ("vessel", "expected"),
    [
        # 100 + 40 → 140 + 1.5 (100 - 140) = 80: from brighter than the organ to darker.
        (140.0, 80.0),
        # 60 HU of the difference and no more: 200 + 1.5 (-60) = 110; fat stays darker: -100 + 1.5 (60) = -10.
        (200.0, 110.0),
        (-100.0, -10.0),
    ],
)
def test_more_than_flat_is_turned_over(vessel: float, expected: float) -> None:
    structure = torch.full((12, 12, 12), 2, dtype=torch.int16)
    hu = torch.full((12, 12, 12), 100.0)
    hu[4:9, 4:9, 4:9] = vessel
    one = torch.tensor([0.0, 0.0, 1.0])
    painted = apply_paint(hu, structure, Paint(one * 0, one * 1.5, one * 100.0))
    assert painted[6, 6, 6] == pytest.approx(expected)
    assert painted[0, 0, 0] == pytest.approx(100.0)


def test_the_same_seed_degrades_the_same_way() -> None:
    hu = torch.randn(10, 11, 12, generator=generator()) * 50
    config = AugmentConfig(thick_slices=1)
    first, second = degrade(hu, config, generator(7)), degrade(hu, config, generator(7))
    assert torch.equal(first, second)
    assert not torch.equal(first, degrade(hu, config, generator(8)))
    assert first.shape == hu.shape


@pytest.mark.parametrize("n", [1, 2, 3])
def test_patches_of_a_few_slices_can_be_degraded(n: int) -> None:
    config = AugmentConfig(thick_slices=1, blur_voxels=0, noise_hu=0, contrast=1, brightness_hu=0)
    for seed in range(10):
        degraded = degrade(torch.full((4, 4, n), 30.0), config, generator(seed))
        assert degraded.shape == (4, 4, n)
        assert torch.allclose(degraded, torch.full((4, 4, n), 30.0), atol=1e-4)


def test_contrast_changes_tissue_and_leaves_air_where_it_is() -> None:
    hu = torch.tensor([-1000.0, -200.0, 100.0]).expand(6, 6, 3)
    strong = STILL.model_copy(update={"contrast": 1.5})
    for seed in range(10):
        air, fat, tissue = degrade(hu, strong, generator(seed))[3, 3].tolist()
        # A factor c moves 100 HU to 100 c, and everything below -200 HU by the same (c - 1) * -200.
        factor = tissue / 100
        assert 1 / 1.5 <= factor <= 1.5
        assert fat == pytest.approx(-200 * factor, abs=1e-2)
        assert air == pytest.approx(-1000 - 200 * (factor - 1), abs=1e-2)


def test_a_cut_takes_a_slab_from_one_end() -> None:
    always = STILL.model_copy(update={"cut": 1.0})
    for seed in range(10):
        box = draw_cut(always, generator(seed), (40, 40, 40))
        assert box is not None
        kept = torch.ones(40, 40, 40)
        kept[box] = 0
        lost = 1 - kept.mean()
        assert 0.02 < lost < 0.31
        assert sum(s == slice(None) for s in box) == 2
