"""Scans filled with lesions: as large as asked for, far from each other, in their organs, the same every time."""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np
import pytest
from scipy import ndimage

from voxicon.core.ball import ball_mm3
from voxicon.core.geometry import Geometry
from voxicon.core.volume import AIR_HU, Source, Volume
from voxicon.synthesis import trials as trials_module
from voxicon.synthesis.lesions.kinds import kind_of
from voxicon.synthesis.trials import APART_MM, LARGEST_SHARE, Trial, Wanted, fill, vary

SHAPE = (60, 50, 30)
SPACING_MM = (2.0, 2.0, 3.0)
LIVER = np.zeros(SHAPE, dtype=bool)
LIVER[8:52, 8:42, 4:26] = True  # 88 x 68 x 66 mm
VOLUME = Volume(
    np.where(LIVER, 100, 20).astype(np.float32), Geometry(SHAPE, np.diag([*SPACING_MM, 1.0])), Source("box", "x.nii")
)
TUMOR = kind_of("liver_tumor")


def filled(seed: int = 0, contrast_hu: float | None = -60.0, n: int = 4) -> tuple[Volume, list[Trial]]:
    wanted = [Wanted(TUMOR, low, high) for low, high in ((14, 22), (7, 14)) for _ in range(n)]
    return fill(VOLUME, {"liver": LIVER}, wanted, np.random.default_rng(seed), contrast_hu)


def whole(trial: Trial) -> np.ndarray:
    mask = np.zeros(SHAPE, dtype=bool)
    mask[trial.box] = trial.mask
    return mask


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_lesions_are_apart_inside_and_of_the_size_asked_for(seed: int) -> None:
    volume, trials = filled(seed)
    assert len(trials) >= 4
    masks = [whole(trial) for trial in trials]
    for one, other in combinations(masks, 2):
        distance_mm = ndimage.distance_transform_edt(~one, sampling=SPACING_MM)
        assert distance_mm[other].min() > APART_MM
    for trial, mask in zip(trials, masks, strict=True):
        assert (mask & ~LIVER).sum() == 0
        assert trial.host == "liver"
        assert trial.volume_ml == pytest.approx(mask.sum() * 12 / 1000)
        assert trial.diameter_mm == pytest.approx((6 * 1000 * trial.volume_ml / math.pi) ** (1 / 3))
        assert trial.wanted.low_mm <= trial.diameter_mm < trial.wanted.high_mm
        assert trial.wanted.low_mm <= trial.planned_mm < trial.wanted.high_mm
        assert trial.center_voxel == pytest.approx(np.argwhere(mask).mean(axis=0).tolist())
        assert trial.contrast_hu == -60
        # Half of the contrast is there at least, texture and rim left aside.
        assert np.median(volume.hu[mask]) < 80
    # The middle of a lesion is far from everything that was not planted.
    far = ndimage.distance_transform_edt(~np.logical_or.reduce(masks), sampling=SPACING_MM) > 12
    assert (volume.hu[far] == VOLUME.hu[far]).all()
    assert sum(trial.volume_ml for trial in trials) <= LARGEST_SHARE * LIVER.sum() * 12 / 1000 * 1.5


def test_the_same_seed_is_the_same_scan() -> None:
    (one, trials), (again, _), (other, _) = filled(5), filled(5), filled(6)
    assert (one.hu == again.hu).all()
    assert (one.hu != other.hu).any()
    assert len({trial.seed for trial in trials}) == len(trials)
    # What was handed in is as it was.
    assert set(np.unique(VOLUME.hu)) == {20, 100}


def test_an_organ_never_becomes_mostly_tumor() -> None:
    small = np.zeros(SHAPE, dtype=bool)
    small[20:32, 20:32, 10:18] = True  # 24 x 24 x 24 mm: 13.8 ml, a third is 4.6 ml, a ball of 20.6 mm
    assert ball_mm3(20.6) == pytest.approx(4600, abs=50)
    _, trials = fill(VOLUME, {"liver": small}, [Wanted(TUMOR, 21, 23)], np.random.default_rng(0))
    assert trials == []
    _, trials = fill(VOLUME, {"liver": small}, [Wanted(TUMOR, 12, 18)] * 6, np.random.default_rng(0))
    assert len(trials) == 1


def test_all_lesions_of_an_organ_share_its_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trials_module, "LARGEST_SHARE", 0.02)
    _, trials = fill(VOLUME, {"liver": LIVER}, [Wanted(TUMOR, 14, 18)] * 8, np.random.default_rng(0))
    # 2 % of 395 ml are 7.9 ml: of lesions from 1.4 to 3.1 ml not more than five, though eight have places.
    assert LIVER.sum() * 12 / 1000 == pytest.approx(394.9, abs=0.1)
    assert 2 <= len(trials) <= 5
    assert len(fill(VOLUME, {"liver": LIVER}, [Wanted(TUMOR, 7, 9)] * 8, np.random.default_rng(0))[1]) == 8


def test_where_it_is_crowded_lesions_are_left_out() -> None:
    small = np.zeros(SHAPE, dtype=bool)
    small[20:36, 20:36, 8:19] = True  # 32 x 32 x 33 mm
    for seed in range(4):
        _, trials = fill(VOLUME, {"liver": small}, [Wanted(TUMOR, 6, 8)] * 12, np.random.default_rng(seed))
        # One in each corner is all there is room for.
        assert 1 <= len(trials) <= 8
        for one, other in combinations([whole(trial) for trial in trials], 2):
            assert ndimage.distance_transform_edt(~one, sampling=SPACING_MM)[other].min() > APART_MM


def test_what_cannot_be_planted_is_left_out() -> None:
    rng = np.random.default_rng(0)
    nowhere = {"liver": np.zeros(SHAPE, dtype=bool)}
    for hosts in ({}, {"pancreas": LIVER}, nowhere):
        volume, trials = fill(VOLUME, hosts, [Wanted(TUMOR, 7, 14)], rng)
        assert trials == []
        assert (volume.hu == VOLUME.hu).all()
    # No voxel of 2 x 2 x 3 mm is as small as a ball of 2 mm, which has 4.2 of its 12 mm3.
    assert fill(VOLUME, {"liver": LIVER}, [Wanted(TUMOR, 1, 2)], rng)[1] == []


def test_a_contrast_asked_for_leaves_kinds_with_values_of_their_own() -> None:
    cyst = kind_of("kidney_cyst")
    _, [trial] = fill(VOLUME, {"kidney_left": LIVER}, [Wanted(cyst, 12, 20)], np.random.default_rng(0), -500.0)
    # Water, -8 to 20 HU, in a host of 100.
    assert -108 <= trial.contrast_hu <= -80
    drawn = [trial.contrast_hu for seed in range(3) for trial in filled(seed, None)[1]]
    assert len(set(drawn)) == len(drawn)


def test_a_variation_is_slightly_another_patient() -> None:
    air = np.full(SHAPE, AIR_HU, dtype=np.float32)
    air[LIVER] = 100
    volume = Volume(air, VOLUME.geometry, VOLUME.source)
    seen = [vary(volume, np.random.default_rng(seed)) for seed in range(6)]
    for one in seen:
        ratio = np.array(one.geometry.spacing_mm) / SPACING_MM
        assert ((ratio > 0.92) & (ratio < 1.08)).all()
        assert one.geometry.is_aligned
        assert one.hu.min() >= AIR_HU
        assert one.hu.dtype == np.float32
        # 3 % of 100 HU and 10 HU of shift; noise averages out over 33 000 voxels.
        assert abs(float(one.hu[LIVER].mean()) - 100) < 14
        assert one.source == volume.source
    assert len({one.geometry.spacing_mm for one in seen}) == 6
    assert max(float(one.hu[LIVER].std()) for one in seen) > 3
    again = vary(volume, np.random.default_rng(3))
    assert (again.hu == seen[3].hu).all()
    assert again.geometry == seen[3].geometry
    assert set(np.unique(volume.hu)) == {AIR_HU, 100}
