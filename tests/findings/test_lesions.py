"""Lesions whose every measurement is known."""

from __future__ import annotations

import json

import numpy as np
import pytest

from tests.findings.test_shape import block, grid
from tests.phantoms import ORIENTATIONS, oriented, rotation
from voxicon.core.masks import MaskSet
from voxicon.core.volume import Volume
from voxicon.errors import BadGeometry, InputError, UnknownClass
from voxicon.findings.lesions import attenuation_of, measure_lesions

SHAPE = (24, 16, 16)


def scan(turn=None):
    """A liver of 12 x 12 x 12 voxels of 1 x 2 x 5 mm, half 90 and half 110 HU, with two tumors of 50 and 130 HU."""
    liver = block(SHAPE, (2, 14), (2, 14), (2, 14))
    large, small = block(SHAPE, (3, 7), (3, 5), (10, 12)), block(SHAPE, (8, 10), (8, 9), (3, 4))
    hu = np.where(np.indices(SHAPE).sum(axis=0) % 2, 90.0, 110.0)
    hu[large], hu[small] = 50, 130
    masks = {"liver": liver, "liver_tumor": large | small, "aorta": np.zeros(SHAPE, bool)}
    return MaskSet.from_masks(masks, grid(SHAPE, turn)), hu


@pytest.mark.parametrize("turn", [None, rotation(25, 2)])
def test_two_lesions(turn):
    masks, hu = scan(turn)
    large, small = measure_lesions("liver_tumor", masks, hu)
    assert (large.number, small.number) == (1, 2)
    assert large.volume_ml == pytest.approx(16 * 0.01)
    assert small.volume_ml == pytest.approx(2 * 0.01)
    assert (large.organ, large.side, large.third, small.third) == ("liver", None, "upper", "lower")
    assert (large.hu_mean, large.hu_sd, small.hu_mean) == (50, 0, 130)
    assert (large.attenuation, small.attenuation) == ("hypo", "hyper")
    # 1728 - 18 voxels of the liver are left, as many of 90 as of 110 HU.
    assert large.hu_difference == pytest.approx(-50)
    assert large.box_voxels == ((3, 7), (3, 5), (10, 12))
    assert large.center_mm == pytest.approx(masks.geometry.to_world((4.5, 3.5, 10.5)))
    # 4 mm by 4 mm in plane, 10 mm high, between face centers half a voxel in.
    assert large.axial.longest_mm == pytest.approx(np.hypot(3, 4))
    assert large.longest_diameter_mm == pytest.approx(np.sqrt(3**2 + 2**2 + 10**2))
    assert large.axial.slice_index == 10
    assert (large.confidence, large.vessels) == (None, ())


@pytest.mark.parametrize(("order", "signs"), ORIENTATIONS)
def test_stored_any_way_a_lesion_measures_the_same(order, signs):
    masks, hu = scan()
    masks.set("aorta", block(SHAPE, (7, 9), (3, 5), (8, 14)))
    turned = {name: oriented(Volume(masks[name], masks.geometry), order, signs) for name in masks}
    again = MaskSet.from_masks({name: v.hu for name, v in turned.items()}, turned["liver"].geometry)
    hu_again = oriented(Volume(hu, masks.geometry), order, signs).hu
    before = measure_lesions("liver_tumor", masks, hu, vessels=["aorta"])
    after = measure_lesions("liver_tumor", again, hu_again, vessels=["aorta"])
    for old, new in zip(before, after, strict=True):
        assert (new.organ, new.third, new.attenuation) == (old.organ, old.third, old.attenuation)
        assert new.volume_ml == pytest.approx(old.volume_ml)
        assert new.center_mm == pytest.approx(old.center_mm)
        assert np.array(new.box_mm) == pytest.approx(np.array(old.box_mm))
        assert new.longest_diameter_mm == pytest.approx(old.longest_diameter_mm)
        assert new.axial.longest_mm == pytest.approx(old.axial.longest_mm)
        assert new.vessels[0].distance_mm == pytest.approx(old.vessels[0].distance_mm)
        assert new.vessels[0].contact_deg == pytest.approx(old.vessels[0].contact_deg)
    assert before[0].vessels[0].contact_deg == pytest.approx(360 * 4 / 12)


def test_the_box_in_mm():
    masks, hu = scan()
    small = measure_lesions("liver_tumor", masks, hu)[1]
    low, high = small.box_mm
    assert low == pytest.approx((10 + 7.5, -20 + 15, 30 + 12.5))
    assert high == pytest.approx((10 + 9.5, -20 + 17, 30 + 17.5))


def test_one_voxel_and_none():
    masks, hu = scan()
    masks.set("liver_tumor", block(SHAPE, (5, 6), (5, 6), (5, 6)))
    (found,) = measure_lesions("liver_tumor", masks, hu)
    assert not found.touches_border
    assert (found.volume_ml, found.axial.longest_mm, found.longest_diameter_mm) == (
        pytest.approx(0.01),
        pytest.approx(2),
        pytest.approx(5),
    )
    masks.set("liver_tumor", np.zeros(SHAPE, bool))
    assert measure_lesions("liver_tumor", masks, hu, vessels=["aorta"]) == ()


def test_a_lesion_apart_from_its_organ():
    masks, hu = scan()
    masks.set("liver_tumor", block(SHAPE, (16, 18), (5, 6), (5, 6)))
    (found,) = measure_lesions("liver_tumor", masks, hu)
    assert (found.organ, found.beside, found.third) == (None, "liver", "lower")
    assert (found.attenuation, found.hu_difference) == (None, None)


def test_a_lesion_at_the_border():
    masks, hu = scan()
    masks.set("liver_tumor", block(SHAPE, (5, 6), (5, 6), (5, 6)) | block(SHAPE, (5, 6), (15, 16), (5, 6)))
    assert [found.touches_border for found in measure_lesions("liver_tumor", masks, hu)] == [False, True]


def test_sides():
    shape = (20, 8, 8)
    masks = {
        "kidney_left": block(shape, (2, 6), (2, 6), (2, 6)),
        "kidney_right": block(shape, (12, 16), (2, 6), (2, 6)),
        "kidney_tumor": block(shape, (14, 17), (3, 5), (2, 3)) | block(shape, (3, 4), (3, 4), (5, 6)),
        "kidney_cyst_left": block(shape, (19, 20), (7, 8), (7, 8)),
    }
    packed, hu = MaskSet.from_masks(masks, grid(shape)), np.zeros(shape)
    found = measure_lesions("kidney_tumor", packed, hu)
    assert [(f.organ, f.side, f.third) for f in found] == [
        ("kidney_right", "right", "lower"),
        ("kidney_left", "left", "upper"),
    ]
    assert [(f.organ, f.side) for f in measure_lesions("kidney_cyst_left", packed, hu)] == [(None, "left")]


@pytest.mark.parametrize(("gap", "beside"), [(1, "liver"), (20, "liver"), (21, None)])
def test_a_lesion_that_touches_no_organ_is_told_by_the_nearest(gap, beside):
    shape = (60, 8, 30)
    liver, tumor = block(shape, (2, 10), (2, 6), (0, 30)), block(shape, (10 + gap, 12 + gap), (2, 6), (14, 16))
    masks = MaskSet.from_masks({"liver": liver, "liver_tumor": tumor}, grid(shape, spacing_mm=(1.0, 1.0, 1.0)))
    (found,) = measure_lesions("liver_tumor", masks, np.where(tumor, 50.0, 100.0))
    assert (found.organ, found.beside, found.third) == (None, beside, beside and "middle")
    assert (found.attenuation, found.hu_difference) == (None, None)


def test_confidence():
    masks, hu = scan()
    probabilities = np.zeros(SHAPE, np.uint8)
    probabilities[3:7, 3:5, 10:12] = 204
    probabilities[3, 3, 10] = 255
    probabilities[8, 8, 3] = 51
    large, small = measure_lesions("liver_tumor", masks, hu, probabilities)
    assert large.confidence.mean == pytest.approx((15 * 0.8 + 1) / 16)
    assert (large.confidence.highest, large.confidence.margin) == (1, 0.5)
    assert (small.confidence.mean, small.confidence.margin) == (pytest.approx(0.1), pytest.approx(-0.3))
    as_float = measure_lesions("liver_tumor", masks, hu, probabilities / 255)
    assert as_float[0].confidence.mean == pytest.approx(large.confidence.mean)


def test_stability():
    masks, hu = scan()
    probabilities = np.zeros(SHAPE)
    probabilities[3:7, 3:5, 10:12] = 0.7  # 16 voxels of the mask
    probabilities[3, 3:5, 10:12] = 0.55  # 4 of them fall out above 0.6
    probabilities[7, 3:5, 10:12] = 0.45  # 4 beside them join above 0.4
    probabilities[12:, :, :] = 0.9  # far off: of another piece
    large, small = measure_lesions("liver_tumor", masks, hu, probabilities)
    assert large.confidence.stability == pytest.approx(12 / 20)
    assert small.confidence.stability == 0
    lower = measure_lesions("liver_tumor", masks, hu, probabilities, decision=0.4)[0].confidence
    assert lower.stability == pytest.approx(16 / 20)
    assert lower.margin == pytest.approx(0.3)


def test_attenuation():
    assert [attenuation_of(d) for d in (-10.1, -10, 0, 10, 10.1)] == ["hypo", "iso", "iso", "iso", "hyper"]
    assert attenuation_of(None) is None


def test_plain_data():
    masks, hu = scan()
    masks.set("aorta", block(SHAPE, (20, 22), (3, 5), (0, 16)))
    found = measure_lesions("liver_tumor", masks, hu, np.full(SHAPE, 0.5), vessels=["aorta"])
    data = json.loads(json.dumps([lesion.to_dict() for lesion in found]))
    assert data[0]["confidence"] == {"mean": 0.5, "highest": 0.5, "margin": 0.0, "stability": 0.0}
    assert data[0]["vessels"] == [{"name": "aorta", "distance_mm": 13.0, "contact_deg": 0.0, "slice_index": None}]
    assert data[0]["box_voxels"] == [[3, 7], [3, 5], [10, 12]]


def test_refusals():
    masks, hu = scan()
    with pytest.raises(UnknownClass, match="no mask named 'celiac_trunk'"):
        measure_lesions("liver_tumor", masks, hu, vessels=["celiac_trunk"])
    with pytest.raises(BadGeometry, match="expected the scan"):
        measure_lesions("liver_tumor", masks, hu, np.zeros((2, 2, 2)))
    for wrong in (1.5, -0.1, np.nan):
        with pytest.raises(InputError, match="from 0 to 1"):
            measure_lesions("liver_tumor", masks, hu, np.full(SHAPE, wrong))
