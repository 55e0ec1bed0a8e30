"""Lesions on ground whose every number is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage

from tests.synthesis.flat_organs import (
    EVEN,
    FLAT_HU,
    LIVER,
    SIDE,
    Spacing,
    ball_mm3,
    everywhere,
    flat,
    interior,
    middle,
    painted,
    whole,
)
from voxicon.core.components import components
from voxicon.core.concepts import Vocabulary
from voxicon.errors import ConfigError
from voxicon.synthesis.lesions.plant import KINDS, Planted, kind_of, largest_diameter_mm, plant


@given(
    name=st.sampled_from(sorted(KINDS)),
    voxels=st.floats(3, 14),
    spacing_mm=st.sampled_from([(1.0, 1.0, 1.0), (3.0, 3.0, 3.0), (0.8, 0.8, 2.0)]),
    seed=st.integers(0, 10**6),
)
@settings(max_examples=40)
def test_the_mask_has_the_volume_of_the_ball_asked_for(
    name: str, voxels: float, spacing_mm: Spacing, seed: int
) -> None:
    diameter_mm = voxels * max(spacing_mm)
    found = interior(KINDS[name], diameter_mm, spacing_mm, seed)
    assert np.count_nonzero(found.mask) * np.prod(spacing_mm) == pytest.approx(ball_mm3(diameter_mm), rel=0.15)
    assert found.facts["volume_ml"] == pytest.approx(np.count_nonzero(found.mask) * np.prod(spacing_mm) / 1000)


def test_volume_by_hand() -> None:
    # π/6 · 12³ = 904.8 mm³ = 904.8 voxels of 1 mm.
    found = interior(LIVER, 12, (1, 1, 1), 3)
    assert np.count_nonzero(found.mask) == pytest.approx(904.8, rel=0.02)


@pytest.mark.parametrize("seed", range(5))
def test_a_mask_is_one_piece(seed: int) -> None:
    found = interior(replace(LIVER, roughness=0.5), 20, (1, 1, 1), seed)
    assert len(components(found.mask).sizes) == 2


def test_less_than_a_voxel_darkens_by_its_share() -> None:
    # A ball of 4 mm is 33.51 mm³, in voxels of 4 mm (64 mm³) 0.524 of one: -40 HU become -20.9 in all.
    for seed in range(40):
        found = plant(flat(), middle(), (4, 4, 4), EVEN, np.random.default_rng(seed), diameter_mm=4, contrast_hu=-40)
        if found is None:
            continue
        # Soft edges add up to 1/16 (0.5 radii), and unevenness another little.
        assert float((found.hu - FLAT_HU).sum()) == pytest.approx(-20.9, rel=0.12)
        assert float(found.hu.min()) > FLAT_HU - 40
        assert np.count_nonzero(found.mask) == 1
        assert found.hu[found.mask][0] == found.hu.min()


def test_what_leaves_no_trace_is_none() -> None:
    assert plant(flat(), middle(), (8, 8, 8), EVEN, np.random.default_rng(0), diameter_mm=4) is None
    assert plant(flat(), ~everywhere(), (1, 1, 1), EVEN, np.random.default_rng(0)) is None


def test_the_same_chance_gives_the_same_lesion() -> None:
    one, same, other = (
        plant(flat(), everywhere(), (2, 2, 2), LIVER, np.random.default_rng(seed)) for seed in (5, 5, 6)
    )
    assert one is not None
    assert same is not None
    assert other is not None
    assert one.facts == same.facts
    np.testing.assert_array_equal(one.hu, same.hu)
    np.testing.assert_array_equal(one.mask, same.mask)
    assert one.facts != other.facts


def test_the_volume_handed_in_and_what_is_far_stay() -> None:
    hu, host = flat(), everywhere()
    before = hu.copy()
    found = plant(hu, host, (1, 1, 1), LIVER, np.random.default_rng(1), diameter_mm=8)
    assert found is not None
    np.testing.assert_array_equal(hu, before)
    after, mask = painted(found, hu), whole(found, hu.shape)
    # An edge of at most 2 mm (half the radius) reaches 1 mm out of the mask, and a voxel 1 more.
    far = ndimage.distance_transform_edt(~mask) > 3
    np.testing.assert_array_equal(after[far], hu[far])


@pytest.mark.parametrize("name", ["liver_tumor", "hepatic_vessel_tumor"])
def test_lesions_of_the_liver_stay_in_it(name: str) -> None:
    rng = np.random.default_rng(2)
    hu = flat(-90)
    host = np.zeros_like(hu, dtype=bool)
    host[8:30, 10:30, 12:26] = True
    hu[host] = 110
    for seed in range(6):
        found = plant(
            hu, host, (2, 2, 2), KINDS[name], np.random.default_rng(seed), diameter_mm=float(rng.uniform(6, 24))
        )
        assert found is not None
        assert not (whole(found, hu.shape) & ~host).any()
        np.testing.assert_array_equal(painted(found, hu)[~host], hu[~host])


def test_a_nodule_closes_the_seam_at_the_pleura_and_stops_at_the_wall() -> None:
    hu = flat(40)
    host = np.zeros_like(hu, dtype=bool)
    host[:, :, :20] = True
    hu[host] = -850
    hu[:, :, 20] = -400  # part lung, part wall, in no mask
    solid = replace(KINDS["lung_tumor"], own_hu=((50, 50),), texture_hu=(0, 0), rim=0, core=0)
    reached = 0
    for seed in range(8):
        found = plant(hu, host, (1, 1, 1), solid, np.random.default_rng(seed), diameter_mm=14)
        assert found is not None
        after, mask = painted(found, hu), whole(found, hu.shape)
        assert not mask[:, :, 21:].any()
        np.testing.assert_array_equal(after[:, :, 21:], hu[:, :, 21:])
        reached += int(mask[:, :, 20].sum())
    assert reached > 50


def test_what_is_to_be_avoided_is_neither_covered_nor_changed() -> None:
    hu, host = flat(), everywhere()
    avoid = np.zeros_like(host)
    avoid[:, :, 10:30:5] = True
    hu[avoid] = 180
    for seed in range(5):
        found = plant(hu, host, (2, 2, 2), LIVER, np.random.default_rng(seed), diameter_mm=30, avoid_XYZ=avoid)
        assert found is not None
        assert not (whole(found, hu.shape) & avoid).any()
        np.testing.assert_array_equal(painted(found, hu)[avoid], hu[avoid])


def test_a_free_place_is_preferred() -> None:
    avoid = everywhere()
    avoid[:, :, 22:] = False
    for seed in range(10):
        found = plant(
            flat(), everywhere(), (1, 1, 1), LIVER, np.random.default_rng(seed), diameter_mm=6, avoid_XYZ=avoid
        )
        assert found is not None
        assert found.facts["center_voxel"][2] > 23


@pytest.mark.parametrize("name", ["kidney_tumor", "kidney_cyst", "pancreas_tumor"])
def test_what_grows_outward_enters_neither_bone_nor_gas(name: str) -> None:
    hu = flat(-90)
    x, y, z = np.indices(hu.shape) - SIDE // 2
    host = (x**2 + y**2 + z**2) < 9**2
    hu[host] = 120
    hu[:, :, :9], hu[:, :, 31:] = 600, -900
    grown = 0
    for seed in range(12):
        found = plant(hu, host, (2, 2, 2), KINDS[name], np.random.default_rng(seed), diameter_mm=24)
        assert found is not None
        mask, after = whole(found, hu.shape), painted(found, hu)
        assert not mask[:, :, :9].any()
        # What lies beside gas is part gas in a scan.
        assert not mask[:, :, 30:].any()
        for beyond in (slice(9), slice(31, None)):
            np.testing.assert_array_equal(after[:, :, beyond], hu[:, :, beyond])
        grown += int((mask & ~host).sum())
    assert grown > 500


def test_a_cyst_is_water_round_and_sharp_whatever_the_kidney() -> None:
    for seed, level in enumerate((30.0, 120.0, 220.0)):
        hu = flat(level)
        # The middle of a cyst may lie outside of its kidney; here tissue like it is all around.
        cyst = replace(KINDS["kidney_cyst"], rim=0)
        found = plant(np.minimum(hu, 150), middle(), (1, 1, 1), cyst, np.random.default_rng(seed), diameter_mm=20)
        assert found is not None
        deep = ndimage.distance_transform_edt(found.mask) > 3
        assert -12 < float(found.hu[deep].mean()) < 24
        assert float(found.hu[deep].std()) < 4
        # Of a ball of radius r, every surface voxel lies near r: 6 % roughness, 8 % of an axis and a voxel.
        at = np.argwhere(found.mask) - np.argwhere(found.mask).mean(axis=0)
        assert float(np.linalg.norm(at, axis=1).max()) < 10 * 1.3 + 1


def test_a_colon_tumor_thickens_the_wall() -> None:
    hu = flat(-90, 64)
    x, y, _ = np.indices(hu.shape) - 32
    host = x**2 + y**2 < 16**2
    hu[host] = 30
    hu[x**2 + y**2 < 14**2] = -900
    into = ndimage.distance_transform_edt(host) - ndimage.distance_transform_edt(~host)
    for seed in range(6):
        rng = np.random.default_rng(seed)
        found = plant(hu, host, (1, 1, 1), KINDS["colon_tumor"], rng, diameter_mm=14)
        assert found is not None
        mask = whole(found, hu.shape)
        # 7 mm of radius: at most 1.6 of them inward and 0.4 outward, and the stretch of a third.
        assert float(into[mask].max()) < 1.6 * 7 + 0.35 * 7 + 2
        assert float(into[mask].min()) > -(0.4 * 7 + 0.35 * 7 + 2)
        assert bool((mask & (np.abs(into) <= 2)).any())
        assert float(np.median(painted(found, hu)[mask])) > 0


def test_drawn_diameters_span_the_kind_and_fit_the_host() -> None:
    drawn = []
    for seed in range(150):
        found = plant(flat(), everywhere(), (4, 4, 4), LIVER, np.random.default_rng(seed))
        drawn += [] if found is None else [found.facts["diameter_mm"]]
    # Even on a log scale from 4 to 80 mm: half of them below the geometric mean, 17.9 mm.
    assert min(drawn) < 6
    assert 60 < max(drawn) <= 80
    assert 12 < float(np.median(drawn)) < 27
    small = np.zeros((SIDE,) * 3, dtype=bool)
    small[10:20, 10:20, 10:20] = True
    # A third of 8000 mm³ is a ball of 2 · (3/(4π) · 2666.7)^⅓ = 17.2 mm.
    sizes = [
        found.facts["diameter_mm"]
        for seed in range(40)
        if (found := plant(flat(), small, (2, 2, 2), LIVER, np.random.default_rng(seed))) is not None
    ]
    assert max(sizes) <= 17.21


def test_largest_diameter_by_hand() -> None:
    # A host of 1000 mm³: a third is a ball of 8.60 mm, two thirds one of 10.84 mm.
    assert largest_diameter_mm(LIVER, 1000) == pytest.approx(8.60, abs=0.01)
    assert largest_diameter_mm(KINDS["pancreas_tumor"], 1000) == pytest.approx(10.84, abs=0.01)
    assert largest_diameter_mm(LIVER, 0) == 0


def test_a_growing_lesion_pushes_its_host_and_only_that() -> None:
    pushy = replace(EVEN, mass_effect=1.0)
    hu = flat()
    hu[:, :, ::4] = 140
    free = np.zeros_like(hu, dtype=bool)

    def one(host: NDArray[np.bool_], still: NDArray[np.bool_] | None, seed: int = 0) -> Planted:
        found = plant(hu, host, (1, 1, 1), pushy, np.random.default_rng(seed), diameter_mm=10, still_XYZ=still)
        assert found is not None
        return found

    at = next(seed for seed in range(20) if one(everywhere(), free, seed).facts["push_mm"] > 0)
    moved = one(everywhere(), free, at)
    # 0.1 to 0.35 of a radius of 5 mm.
    assert 0.5 <= moved.facts["push_mm"] <= 1.75
    after, mask = painted(moved, hu), whole(moved, hu.shape)
    away = np.linalg.norm(np.indices(hu.shape) - np.array(moved.facts["center_voxel"])[:, None, None, None], axis=0)
    assert (after != hu)[(away > 6.5) & (away < 8) & ~mask].any()
    np.testing.assert_array_equal(after[away > 1.8 * 5 + 1], hu[away > 1.8 * 5 + 1])
    calm = plant(
        hu, everywhere(), (1, 1, 1), replace(pushy, mass_effect=0.0), np.random.default_rng(at),
        diameter_mm=10, still_XYZ=free,
    )  # fmt: skip
    assert calm is not None
    assert calm.facts["push_mm"] == 0
    assert one(everywhere(), None, at).facts["push_mm"] == 0
    assert one(everywhere(), everywhere(), at).facts["push_mm"] == 0
    slab = np.zeros_like(free)
    slab[:, :, 16:24] = True
    assert all(one(slab, free, seed).facts["push_mm"] == 0 for seed in range(10))


def test_unknown_lesions_are_refused_with_those_that_are_known() -> None:
    assert kind_of("kidney_cyst") is KINDS["kidney_cyst"]
    with pytest.raises(
        ConfigError, match=r"'spleen_tumor' cannot be planted; known lesions: liver_tumor, .*kidney_cyst"
    ):
        kind_of("spleen_tumor")


def test_every_kind_has_hosts_and_a_look_and_is_a_class() -> None:
    vocabulary = Vocabulary.default()
    for kind in KINDS.values():
        assert vocabulary[kind.name].kind == "lesion"
        assert set(kind.hosts) <= set(vocabulary.names)
        assert set(kind.also) <= set(vocabulary.names)
        assert bool(kind.contrast_hu) != bool(kind.own_hu)
