"""How planted lesions look: contrast, rim and core, noise, vessels, and tissue pushed away."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from tests.synthesis.flat_organs import EVEN, FLAT_HU, LIVER, SIDE, ball_mm3, everywhere, flat, interior, painted, whole
from voxicon.synthesis.lesions.look import Site, level_of_host, pushed
from voxicon.synthesis.lesions.plant import KINDS, plant


@pytest.mark.parametrize("contrast_hu", [-60.0, -20.0, 35.0])
def test_contrast_inside_is_what_was_asked_for(contrast_hu: float) -> None:
    for seed in range(4):
        found = interior(replace(LIVER, rim=0, core=0), 16, (1, 1, 1), seed, contrast_hu)
        deep = ndimage.distance_transform_edt(found.mask) > 2
        # Texture is zero on average over the lesion, not over its inside.
        assert float(found.hu[deep].mean()) - FLAT_HU == pytest.approx(contrast_hu, abs=4)
        assert found.facts["contrast_hu"] == contrast_hu
        assert found.facts["host_hu"] == FLAT_HU


def test_rim_and_core_keep_the_mean() -> None:
    for seed in range(6):
        found = interior(replace(LIVER, rim=1, core=1, edge_mm=(0.5, 0.5)), 18, (1, 1, 1), seed, -40)
        assert found.facts["rim_hu"] != 0
        assert found.facts["core_hu"] < 0
        # All of the darkening, spread over the planned volume; soft edges add a few percent.
        assert float((found.hu - FLAT_HU).sum()) == pytest.approx(-40 * ball_mm3(18), rel=0.06)
        mask, deep = found.mask, ndimage.distance_transform_edt(found.mask) > 5
        shell = mask & ~ndimage.binary_erosion(mask, iterations=4)
        assert float(found.hu[deep].mean()) < float(found.hu[shell & (found.hu < FLAT_HU - 30)].mean())


def test_small_lesions_have_neither_rim_nor_core() -> None:
    # Up to a radius of 6 mm they would not show.
    for seed in range(3):
        found = interior(replace(LIVER, rim=1, core=1), 11, (1, 1, 1), seed, -40)
        assert (found.facts["rim_hu"], found.facts["core_hu"]) == (0, 0)


def test_what_a_lesion_covers_is_not_beside_it() -> None:
    hu, share = flat(80), np.zeros((SIDE,) * 3, dtype=np.float32)
    share[:, :, 5:] = 0.3
    hu[:, :, 5:] = 200
    half = everywhere()
    half[:20] = False
    assert level_of_host(Site(hu, half, half, (1, 1, 1)), share, 10) == 80
    few = np.zeros_like(half)
    few[0, :29, 0] = True
    assert level_of_host(Site(hu, few, few, (1, 1, 1)), share, 10) == 10


def test_contrast_is_measured_against_the_host_beside_the_lesion() -> None:
    hu = flat()
    hu[:, :, SIDE // 2 :] = 60
    host = np.zeros_like(hu, dtype=bool)
    host[4:36, 4:36, 25:38] = True
    host[4:36, 4:36, 2:12] = True
    top = host.copy()
    top[:, :, :25] = False
    avoid = ~top
    found = plant(hu, host, (1, 1, 1), EVEN, np.random.default_rng(0), diameter_mm=6, avoid_XYZ=avoid, contrast_hu=-30)
    assert found is not None
    assert found.facts["host_hu"] == 60
    assert float(found.hu[found.mask].min()) == pytest.approx(30, abs=0.5)


def test_own_noise_stays_and_vessels_go() -> None:
    rng = np.random.default_rng(0)
    noise = rng.normal(0, 12, (SIDE,) * 3).astype(np.float32)
    hu = flat() + noise
    hu[:, 18:22, 18:22] += 90
    vessel = np.zeros_like(hu, dtype=bool)
    vessel[:, 18:22, 18:22] = True
    lesions = (
        plant(hu, everywhere(), (1, 1, 1), EVEN, np.random.default_rng(seed), diameter_mm=24, contrast_hu=-50)
        for seed in range(20)
    )
    found = next(one for one in lesions if one is not None and (whole(one, hu.shape) & vessel).sum() > 200)
    after, mask = painted(found, hu), whole(found, hu.shape)
    deep = ndimage.distance_transform_edt(mask) > 2
    assert float(after[deep & ~vessel].std()) == pytest.approx(12, rel=0.3)
    assert float(after[deep & vessel].mean() - after[deep & ~vessel].mean()) < 0.35 * 90
    assert float(after[deep].mean()) == pytest.approx(50, abs=5)


def test_vessels_shine_through_ground_glass() -> None:
    hu = flat(-850)
    hu[:, 18:22, 18:22] = 40
    glass = replace(KINDS["lung_tumor"], own_hu=((-500, -500),), texture_hu=(0, 0), rim=0, core=0)
    solid = replace(glass, own_hu=((20, 20),))
    lungs = everywhere()
    for kind, vessel_hu, tissue_hu in ((glass, 40, -500), (solid, 20, 20)):
        found = plant(hu, lungs, (1, 1, 1), kind, np.random.default_rng(4), diameter_mm=26)
        assert found is not None
        after, mask = painted(found, hu), whole(found, hu.shape)
        deep = ndimage.distance_transform_edt(mask) > 3
        vessel = np.zeros_like(mask)
        vessel[:, 19:21, 19:21] = True
        if (deep & vessel).any():
            assert float(np.median(after[deep & vessel])) == pytest.approx(vessel_hu, abs=25)
        assert float(np.median(after[deep & ~vessel])) == pytest.approx(tissue_hu, abs=15)


def test_nothing_is_drawn_brighter_than_a_kidney_full_of_contrast() -> None:
    drawn = []
    for seed in range(30):
        found = plant(
            flat(230), everywhere(), (3, 3, 3), KINDS["kidney_tumor"], np.random.default_rng(seed), diameter_mm=12
        )
        assert found is not None
        drawn.append(found.facts["contrast_hu"])
    assert max(drawn) < 0


def test_pushing_moves_tissue_by_hand_and_never_folds() -> None:
    grid = np.linalg.norm(np.indices((81, 9, 9)) - np.array([40, 4, 4])[:, None, None, None], axis=0)
    # HU that tell the distance from the middle; the ray runs along the first axis.
    moved = pushed((10 * grid).astype(np.float32), (40, 4, 4), (0.5, 0.5, 0.5), 6, 12, 2, np.random.default_rng(0))
    old = moved[40:, 4, 4] / 10 * 0.5
    new = np.arange(41) * 0.5
    # At the radius tissue comes from 2 mm further in, half way (9 mm) from 1 mm (cos² 45° = ½), from 12 mm on it rests.
    assert old[12] == pytest.approx(4, abs=0.3)
    assert old[18] == pytest.approx(8, abs=0.3)
    np.testing.assert_allclose(old[24:], new[24:], atol=1e-4)
    assert (np.diff(old) > 0).all()
