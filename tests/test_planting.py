"""Lesions planted into a scan of known organs: where they are is what the record says."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from tests.organs import BOXES, ORIGIN_MM, SHAPE, SPACING_MM, geometry, organs, torso
from tests.phantoms import oriented
from voxicon.core.components import components
from voxicon.core.masks import MaskSet
from voxicon.core.volume import Volume
from voxicon.errors import InputError, UsageError
from voxicon.planting import PlantedScan, Request, plant_lesions
from voxicon.synthesis.lesions.plant import KINDS

LIVER = KINDS["liver_tumor"]
CYST = KINDS["kidney_cyst"]


def ask(name: str, diameter_mm: float | None = None, contrast_hu: float | None = None, count: int = 1) -> list[Request]:
    size = None if diameter_mm is None else (diameter_mm, diameter_mm)
    level = None if contrast_hu is None else (contrast_hu, contrast_hu)
    return [Request(KINDS[name], size, level)] * count


def box_of(name: str) -> NDArray[np.bool_]:
    mask = np.zeros(SHAPE, dtype=bool)
    mask[BOXES[name]] = True
    return mask


@pytest.fixture(scope="module")
def planted() -> PlantedScan:
    requests = ask("liver_tumor", 10, -40, 3) + ask("kidney_cyst", 14, count=2) + ask("hepatic_vessel_tumor", 12)
    return plant_lesions(torso(), organs(), requests, 7)


def test_one_entry_and_one_piece_per_lesion(planted: PlantedScan) -> None:
    assert planted.masks.names == ("liver_tumor", "kidney_cyst", "hepatic_vessel_tumor")
    assert [one["class"] for one in planted.lesions] == ["liver_tumor"] * 3 + ["kidney_cyst"] * 2 + [
        "hepatic_vessel_tumor"
    ]
    assert [one["id"] for one in planted.lesions] == [1, 2, 3, 4, 5, 6]
    # One of the hepatic vessels is a tumor of the liver too. Lesions do not touch, so pieces can be counted.
    assert len(components(planted.masks["liver_tumor"]).sizes) - 1 == 4
    assert len(components(planted.masks["kidney_cyst"]).sizes) - 1 == 2
    assert not (planted.masks["hepatic_vessel_tumor"] & ~planted.masks["liver_tumor"]).any()
    assert planted.missing == ()
    json.dumps(planted.lesions)


def test_the_record_tells_where_and_how_large_each_is(planted: PlantedScan) -> None:
    for one in planted.lesions:
        mask = planted.masks[one["class"]]
        x, y, z = (slice(*side) for side in one["box_voxel"])
        inside = mask[x, y, z]
        assert inside.any(axis=(1, 2))[[0, -1]].all()
        assert inside.any(axis=(0, 2))[[0, -1]].all()
        assert inside.any(axis=(0, 1))[[0, -1]].all()
        at = np.argwhere(inside).mean(axis=0) + np.array((x.start, y.start, z.start))
        np.testing.assert_allclose(one["center_voxel"], at, atol=0.006)
        np.testing.assert_allclose(one["center_mm"], at * SPACING_MM + ORIGIN_MM, atol=0.01)
        # A voxel has 8 mm³.
        assert one["volume_ml"] == pytest.approx(inside.sum() * 0.008)
        assert one["equivalent_diameter_mm"] == pytest.approx((6000 * one["volume_ml"] / math.pi) ** (1 / 3), abs=0.01)
        assert one["equivalent_diameter_mm"] == pytest.approx(one["diameter_mm"], rel=0.05)
        host = box_of(one["host"])
        assert (inside & host[x, y, z]).any()
        side = {"kidney_right": "right", "kidney_left": "left", "liver": None}[one["host"]]
        assert one["side"] == side
    assert [one["also"] for one in planted.lesions] == [[]] * 5 + [["liver_tumor"]]
    assert [one["diameter_mm"] for one in planted.lesions] == [10, 10, 10, 14, 14, 12]
    assert [one["contrast_hu"] for one in planted.lesions[:3]] == [-40, -40, -40]


def test_only_the_surroundings_of_lesions_change(planted: PlantedScan) -> None:
    before = torso()
    changed = planted.volume.hu != before.hu
    every = planted.masks["liver_tumor"] | planted.masks["kidney_cyst"]
    assert (changed & every).sum() > 0.95 * every.sum()
    # Pushed tissue rests at 1.8 radii of at most 7 mm: 5.6 mm or 3 voxels from the ball; lobes reach another 5.
    assert not (changed & (ndimage.distance_transform_edt(~every) * SPACING_MM > 12)).any()
    assert planted.volume.geometry == before.geometry
    assert planted.volume.source == before.source
    inside = planted.masks["liver_tumor"] & ~planted.masks["hepatic_vessel_tumor"]
    deep = ndimage.binary_erosion(inside)
    assert float(planted.volume.hu[deep].mean()) == pytest.approx(60, abs=10)


def test_the_scan_handed_in_stays() -> None:
    volume, before = torso(), torso()
    plant_lesions(volume, organs(), ask("liver_tumor", 12), 0)
    np.testing.assert_array_equal(volume.hu, before.hu)


def test_a_seed_decides_everything() -> None:
    requests = ask("liver_tumor", 10, count=2)
    one, same, other = (plant_lesions(torso(), organs(), requests, seed) for seed in (4, 4, 5))
    np.testing.assert_array_equal(one.volume.hu, same.volume.hu)
    assert one.lesions == same.lesions
    assert one.lesions != other.lesions
    # The first lesion is the same, however many follow.
    assert plant_lesions(torso(), organs(), requests[:1], 4).lesions[0] == one.lesions[0]


def test_plain_arrays_are_as_good_as_a_mask_set() -> None:
    packed = organs()
    requests = ask("kidney_cyst", 12) + ask("liver_tumor", 12)
    one = plant_lesions(torso(), packed, requests, 3)
    other = plant_lesions(torso(), {name: packed[name] for name in packed}, requests, 3)
    assert one.lesions == other.lesions
    np.testing.assert_array_equal(one.volume.hu, other.volume.hu)


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1)])
def test_any_orientation_puts_the_record_where_the_patient_is(order: tuple[int, int, int]) -> None:
    volume = oriented(torso(), order, (-1, 1, -1))
    packed = organs()
    turned = {}
    for name in packed:
        turned[name] = oriented(Volume(packed[name].astype(float), geometry()), order, (-1, 1, -1)).hu > 0
    found = plant_lesions(volume, turned, ask("kidney_cyst", 10, count=3), 1)
    for one in found.lesions:
        right = one["center_mm"][0] > 0
        assert one["side"] == ("right" if right else "left")
        index = np.rint(volume.geometry.to_index(one["center_mm"])).astype(int)
        assert found.masks["kidney_cyst"][tuple(index)]


def test_vessels_with_a_mask_are_spared() -> None:
    vessel = box_of("hepatic_vessel")
    for seed in range(4):
        found = plant_lesions(torso(), organs(), ask("liver_tumor", 20, count=2), seed, mass_effect=False)
        assert not (found.masks["liver_tumor"] & vessel).any()
        np.testing.assert_array_equal(found.volume.hu[vessel], torso().hu[vessel])


def test_bright_vessels_of_the_liver_are_spared_without_a_mask() -> None:
    vessel = box_of("hepatic_vessel")
    inner = ndimage.binary_erosion(vessel, structure=np.ones((1, 3, 3)))
    for seed in range(4):
        found = plant_lesions(torso(), organs("hepatic_vessel"), ask("liver_tumor", 36), seed)
        assert not (found.masks["liver_tumor"] & inner).any()


def test_lesions_that_have_a_mask_are_spared() -> None:
    old = np.zeros(SHAPE, dtype=bool)
    old[32:44, 18:38, 16:40] = True
    packed = organs()
    masks = {**{name: packed[name] for name in packed}, "liver_tumor": old}
    around = ndimage.binary_dilation(old, structure=np.ones((3, 3, 3)))
    for given in (masks, MaskSet.from_masks(masks, geometry())):
        found = plant_lesions(torso(), given, ask("liver_tumor", 12, count=3), 0)
        assert not (found.masks["liver_tumor"] & around).any()
        np.testing.assert_array_equal(found.volume.hu[old], torso().hu[old])


def test_what_grows_outward_spares_other_organs_and_tells_what_it_touches() -> None:
    touched = set()
    for seed in range(6):
        found = plant_lesions(torso(), organs(), ask("kidney_tumor", 26), seed)
        mask = found.masks["kidney_tumor"]
        for name in ("liver", "spleen"):
            assert not (mask & box_of(name)).any()
        (one,) = found.lesions
        near = ndimage.binary_dilation(mask, structure=np.ones((3, 3, 3)))
        expected = {name for name in BOXES if (near & box_of(name)).any() and name != one["host"]}
        assert set(one["touches"]) == expected
        touched |= expected
    assert touched


def test_tissue_is_pushed_only_where_that_is_asked_for() -> None:
    pushed = [
        one["push_mm"]
        for on in (True, False)
        for one in plant_lesions(torso(), organs(), ask("liver_tumor", 6, count=8), 2, mass_effect=on).lesions
    ]
    assert any(push > 0 for push in pushed[:8])
    assert pushed[8:] == [0] * 8


def test_diameters_and_contrasts_are_drawn_from_ranges() -> None:
    request = Request(LIVER, (6, 12), (-60, -20))
    found = plant_lesions(torso(), organs(), [request] * 8, 0)
    assert all(6 <= one["diameter_mm"] <= 12 and -60 <= one["contrast_hu"] <= -20 for one in found.lesions)
    assert len({one["diameter_mm"] for one in found.lesions}) > 5
    free = plant_lesions(torso(), organs(), [Request(LIVER)] * 3, 0)
    assert all(4 <= one["diameter_mm"] <= 80 for one in free.lesions)


def test_what_finds_no_place_is_told() -> None:
    # A left kidney of 22 voxels each way takes no more than a few cysts of a sixth of its volume.
    only = {"kidney_left": box_of("kidney_left"), "spleen": ~box_of("kidney_left")}
    found = plant_lesions(torso(), only, ask("kidney_cyst", 24, count=9), 0)
    assert 1 <= len(found.lesions) < 9
    assert len(found.lesions) + len(found.missing) == 9
    # Half of a ball of 24 mm (7.24 ml) is the least that is taken for one.
    assert all(one["volume_ml"] >= 3.6 for one in found.lesions)
    assert found.missing[0].startswith("kidney_cyst: no place for lesion ")
    assert found.missing[0].endswith(" in kidney_left")


def test_no_place_at_all_is_refused() -> None:
    full = {"liver": box_of("liver"), "aorta": np.ones(SHAPE, dtype=bool)}
    with pytest.raises(InputError, match=r"torso: none of 2 lesions found a place \(liver_tumor: no place") as caught:
        plant_lesions(torso(), full, ask("liver_tumor", 10, count=2), 0)
    assert caught.value.code == "E-NOPLACE"


def test_an_absent_organ_is_refused() -> None:
    with pytest.raises(InputError, match="colon_tumor grows in colon, found no mask of it") as caught:
        plant_lesions(torso(), organs(), ask("colon_tumor", 20), 0)
    assert caught.value.code == "E-ORGAN"
    empty = {**{name: organs()[name] for name in BOXES}, "colon": np.zeros(SHAPE, dtype=bool)}
    with pytest.raises(InputError, match="grows in colon, found colon without a voxel"):
        plant_lesions(torso(), empty, ask("colon_tumor", 20), 0)


def test_a_lesion_larger_than_its_organ_allows_is_refused() -> None:
    # The liver has 26 · 28 · 30 · 8 = 174720 mm³, a third of it is a ball of 48.1 mm.
    with pytest.raises(UsageError, match=r"liver_tumor of 49 mm is too large for liver of torso.* has 48 mm"):
        plant_lesions(torso(), organs(), ask("liver_tumor", 49), 0)
    assert plant_lesions(torso(), organs(), ask("liver_tumor", 48), 0).lesions


def test_requests_that_make_no_sense_are_refused() -> None:
    with pytest.raises(UsageError, match="no lesion asked for"):
        plant_lesions(torso(), organs(), [], 0)
    with pytest.raises(UsageError, match="diameter of liver_tumor: 0 mm; expected more than 0"):
        Request(LIVER, (0, 5))
    with pytest.raises(UsageError, match="diameter of kidney_cyst: 30 to 4 is no range"):
        Request(CYST, (30, 4))
    with pytest.raises(UsageError, match="contrast of kidney_cyst: nan to 4 is no range"):
        Request(CYST, None, (math.nan, 4))
