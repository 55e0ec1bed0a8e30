"""Hollow organs: gas on top, walls around, contrast only where it was swallowed or excreted."""

from __future__ import annotations

import numpy as np
import pytest

from tests.synthesis.test_patterns import PLAIN, VENOUS, ball, canvas_of, painted, radius_of
from voxicon.synthesis.painting import lumen


def tube_of(name: str, seed: int, **changes: float) -> tuple[np.ndarray, np.ndarray]:
    canvas = canvas_of(ball(name, 36), seed=seed, **changes)
    canvas.hu += 70
    return painted(canvas, lumen.paint_hollow, "hollow"), canvas.label_map.values == 1


@pytest.mark.parametrize("name", ["stomach", "colon", "small_bowel"])
def test_gas_rises_to_the_front(name):
    heights = []
    for seed in range(12):
        hu, inside = tube_of(name, seed)
        gas = (hu < -600) & inside
        if 0.02 < gas[inside].mean() < 0.8:
            y = np.indices(hu.shape)[1]
            heights.append(y[gas].mean() - y[inside & ~gas].mean())
    assert len(heights) >= 3
    assert np.mean(heights) > 1


def test_a_level_is_flat():
    found = 0
    for seed in range(30):
        hu, _ = tube_of("stomach", seed, oral_hu=0.0)
        gas = hu < -900
        # Without stretches beside each other: the ball of 36 mm has 195 ml, a stomach's stretch on average 400.
        y = np.indices(hu.shape)[1]
        lowest = np.where(gas, y, 99).min(axis=1)[gas.sum(axis=1) > 3]
        if len(lowest) > 60 and not (gas & (y < hu.shape[1] // 2)).any():
            found += 1
            assert (lowest == np.median(lowest)).mean() > 0.5
    assert found >= 1


def test_gas_fills_its_share(monkeypatch):
    monkeypatch.setattr(lumen, "_GAS_SHARES", np.tile([0.3, 0.0], (5, 1)))
    monkeypatch.setitem(lumen._HABITS, "bowel_content", lumen._Habit((0, 0), 40, (0, 1, 0, 0, 0)))
    hu, inside = tube_of("bowel_content", 0)
    # Levels lie between layers of voxels: half a layer of 24 is 2 %, more in small stretches.
    assert (hu[inside] == -950).mean() == pytest.approx(0.3, abs=0.06)


def test_folds_stand_between_stretches(monkeypatch):
    monkeypatch.setattr(lumen, "_GAS_SHARES", np.tile([1.0, 0.0], (5, 1)))
    core = radius_of(canvas_of(ball("colon", 36))) < 28
    for stretch_ml, folded in ((20, True), (1e6, False)):
        monkeypatch.setitem(lumen._HABITS, "colon", lumen._Habit((1, 2), stretch_ml, (1, 0, 0, 0, 0)))
        hu, _ = tube_of("colon", 0)
        assert (hu[core] > -900).any() == folded


def test_walls_are_tissue():
    found = 0
    for seed in range(12):
        hu, inside = tube_of("stomach", seed)
        outer = inside & (radius_of(canvas_of(ball("stomach", 36))) > 34.5)
        gas = (hu < -900) & inside
        if gas[inside].mean() > 0.3:
            found += 1
            assert (hu[outer] < -800).mean() < 0.2 * gas[inside].mean()
    assert found >= 1


def test_swallowed_contrast_is_seen_only_where_it_was_swallowed():
    without = max(tube_of("small_bowel", seed, oral_hu=0.0)[0].max() for seed in range(12))
    within = [tube_of("small_bowel", seed, oral_hu=400.0)[0].max() for seed in range(12)]
    assert without < 230
    assert sum(brightest > 300 for brightest in within) >= 4


def test_stretches_fill_the_organ_and_have_the_size_of_the_habit():
    canvas = canvas_of(ball("colon", 36))
    (region,) = canvas.regions("hollow", together=False)
    counts = []
    for _ in range(30):
        stretch, fold_mm, seeds = lumen._stretches(canvas, region, lumen._HABITS["colon"])
        assert len(stretch) == len(fold_mm) == region.mask.sum()
        assert stretch.max() < len(seeds)
        assert fold_mm.min() >= 0
        counts.append(len(seeds))
    # 4/3 π 3.6³ = 195 ml in stretches of 45 ml: 4.3 and the one that is always there.
    assert np.mean(counts) == pytest.approx(5.3, abs=1.3)


def test_contrast_and_gas_share_a_stretch_but_never_a_patient_without_contrast():
    canvas = canvas_of(ball("colon", 36), oral_hu=0.0)
    seeds = np.random.default_rng(0).uniform(0, 300, (400, 3))
    kinds = [lumen._kinds(canvas, lumen._HABITS["colon"], seeds) for _ in range(10)]
    assert lumen._KINDS.index("contrast") not in np.concatenate(kinds)
    assert len(np.unique(np.concatenate(kinds))) == 4


def test_neighboring_stretches_often_hold_the_same():
    canvas = canvas_of(ball("colon", 36))
    line = np.zeros((60, 3))
    line[:, 0] = np.arange(60) * 15.0
    alike = np.mean([np.diff(lumen._kinds(canvas, lumen._HABITS["colon"], line)) == 0 for _ in range(20)])
    assert alike > 0.7


def test_outside_of_the_organ_nothing_changes():
    hu, inside = tube_of("colon", 0)
    assert (hu[~inside] == 70).all()


def test_kinds_of_content_differ_between_patients():
    shares = [float((tube_of("colon", seed)[0] < -600).mean()) for seed in range(10)]
    assert max(shares) > 3 * min(shares) + 0.01


def test_excreted_contrast_lies_at_the_back_and_only_after_contrast():
    layered = 0
    for seed in range(25):
        canvas = canvas_of(ball("urinary_bladder"), VENOUS, seed)
        hu, away = painted(canvas, lumen.paint_urine, "urine"), radius_of(canvas)
        core = hu[:, :, hu.shape[2] // 2][away[:, :, hu.shape[2] // 2] < 22]
        if core.max() > 80:
            layered += 1
            y = np.indices(hu.shape)[1]
            assert np.average(y[away < 22], weights=hu[away < 22] + 1e-3) <= y[away < 22].mean() + 0.01
        plain = painted(canvas_of(ball("urinary_bladder"), PLAIN, seed), lumen.paint_urine, "urine")
        assert plain[away < 22].max() < 5
    assert 1 <= layered <= 12


def test_bladder_and_gallbladder_have_walls():
    for name, painter, pattern in (
        ("urinary_bladder", lumen.paint_urine, "urine"),
        ("gallbladder", lumen.paint_bile, "bile"),
    ):
        canvas = canvas_of(ball(name), PLAIN, 3)
        hu, away = painted(canvas, painter, pattern), radius_of(canvas)
        assert hu[(away > 28.5) & (away < 30)].mean() > 4
        assert hu[away < 15].mean() == pytest.approx(0, abs=0.5)


def test_stones_lie_at_the_back():
    found = []
    for seed in range(40):
        canvas = canvas_of(ball("gallbladder", 20), PLAIN, seed)
        hu, away = painted(canvas, lumen.paint_bile, "bile"), radius_of(canvas)
        stone = (hu > 50) & (away < 16)
        if stone.any():
            found.append(np.indices(hu.shape)[1][stone].mean() - (hu.shape[1] - 1) / 2)
    assert 1 <= len(found) <= 12
    assert max(found) < 0
