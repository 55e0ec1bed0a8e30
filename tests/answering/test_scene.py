"""Pieces of a scan and what is measured of them, against numbers worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tests.answering.phantom import BOXES, LIVER_TUMORS, SHAPE, VOCABULARY, VOXEL_ML, box, drawn, full, geometry, scene
from tests.phantoms import rotation
from voxicon.answering.scene import VESSELS_OF


def test_a_lesion_is_a_piece_with_its_number_and_an_organ_is_one() -> None:
    belly = scene()
    tumors = belly.pieces("liver_tumor")
    assert [piece.number for piece in tumors] == [1, 2, 3, 4, 5]
    for piece, sides in zip(tumors, LIVER_TUMORS, strict=True):
        assert [(side.start, side.stop) for side in piece.box] == list(sides)
        assert piece.mask.all()
        assert piece.lesion is not None
        assert piece.lesion.number == piece.number
    (liver,) = belly.pieces("liver")
    assert (liver.name, liver.number, liver.lesion) == ("liver", None, None)
    assert (full(liver, belly) == drawn("liver")).all()


def test_an_organ_in_two_parts_is_one_piece() -> None:
    two = box((2, 4), (2, 4), (2, 4)) | box((10, 12), (2, 4), (2, 4))
    belly = scene(gallbladder=two)
    (piece,) = belly.pieces("gallbladder")
    assert (full(piece, belly) == two).all()


def test_an_empty_mask_has_no_piece() -> None:
    belly = scene(spleen=np.zeros(SHAPE, bool))
    assert belly.pieces("kidney_cyst") == belly.pieces("spleen") == ()
    assert belly.lesions("kidney_cyst") == ()
    assert belly.organ("spleen").volume_ml == 0


@pytest.mark.parametrize("turn", [None, rotation(30, 2)])
def test_what_is_measured_of_a_lesion(turn: np.ndarray | None) -> None:
    belly = scene(turn=turn)
    measured = belly.measure(belly.pieces("liver_tumor")[0])
    assert measured.volume_ml == pytest.approx(72 * VOXEL_ML)
    # 6 x 4 voxels of 2 mm: between the centers of faces 12 mm along and 3 rows of 2 mm across.
    assert measured.longest_mm == pytest.approx(math.hypot(12, 6))
    assert measured.hu_mean == pytest.approx(60)
    assert measured.hu_sd == pytest.approx(1)
    assert measured.box_voxels == ((34, 40), (8, 12), (20, 23))
    assert measured.center_mm == pytest.approx(geometry(turn).to_world((36.5, 9.5, 21)))
    assert not measured.touches_border
    if turn is None:
        assert measured.extent_mm == pytest.approx((12, 8, 12))
        assert np.array(measured.box_mm) == pytest.approx(np.array([(20, -15, 178), (32, -7, 190)]))


def test_what_is_measured_of_an_organ() -> None:
    belly = scene()
    measured = belly.measure(belly.pieces("aorta")[0])
    assert measured.volume_ml == pytest.approx(3 * 3 * 30 * VOXEL_ML)
    assert measured.longest_mm == pytest.approx(math.hypot(6, 4))
    assert measured.extent_mm == pytest.approx((6, 6, 120))
    assert measured.touches_border
    assert not belly.measure(belly.pieces("kidney_left")[0]).touches_border


def test_a_part_of_a_lesion_is_measured_anew() -> None:
    belly = scene()
    whole = belly.pieces("liver_tumor")[0]
    kept = np.zeros_like(whole.mask)
    kept[1:3, 0, 1] = True
    part = belly.trimmed(whole, kept)
    assert part is not None
    assert (part.number, part.lesion) == (1, None)
    measured = belly.measure(part)
    assert measured.box_voxels == ((35, 37), (8, 9), (21, 22))
    assert measured.volume_ml == pytest.approx(2 * VOXEL_ML)
    assert measured.longest_mm == pytest.approx(4)
    assert belly.trimmed(whole, np.ones_like(whole.mask)) is whole
    assert belly.trimmed(whole, np.zeros_like(whole.mask)) is None


def test_distances_between_surfaces() -> None:
    belly = scene()
    first, second, third, fourth, fifth = belly.pieces("liver_tumor")
    # Empty voxels between the boxes, along each axis, times 2, 2 and 4 mm.
    assert belly.distance_mm(first, "portal_vein_and_splenic_vein") == pytest.approx(math.hypot(2 * 2, 6 * 2, 4 * 4))
    assert belly.distance_mm(second, "portal_vein_and_splenic_vein") == pytest.approx(math.hypot(0, 4 * 2, 3 * 4))
    assert belly.distance_mm(third, "portal_vein_and_splenic_vein") == pytest.approx(10)
    assert belly.distance_mm(fourth, "portal_vein_and_splenic_vein") == pytest.approx(20)
    assert belly.distance_mm(fourth, "hepatic_vessel") == 0
    assert belly.distance_mm(fifth, "aorta") == pytest.approx(math.hypot(1 * 2, 19 * 2))
    assert belly.distance_mm(first, "liver") == 0
    assert belly.distance_mm(first, "kidney_cyst") is None


def test_what_lies_within_a_box() -> None:
    # One tumor is cut out of the liver's mask, and counts as liver all the same.
    belly = scene(liver=drawn("liver") & ~box(*LIVER_TUMORS[0]))
    here = (slice(26, 36), slice(6, 10), slice(21, 22))
    assert (belly.within(here, "liver") == drawn("liver")[here]).all()
    assert (belly.within(here, "liver_tumor") == box(*LIVER_TUMORS[0])[here]).all()
    apart = (slice(0, 3), slice(0, 4), slice(0, 5))
    assert belly.within(apart, "liver").shape == (3, 4, 5)
    assert not belly.within(apart, "liver").any()
    beyond = (slice(46, 48), slice(6, 10), slice(21, 22))
    assert not belly.within(beyond, "liver").any()
    assert not belly.within(here, "kidney_cyst").any()


def test_organs_and_lesions_are_measured_once() -> None:
    belly = scene()
    assert belly.organ("liver") is belly.organ("liver")
    assert belly.lesions("liver_tumor") is belly.lesions("liver_tumor")


def test_probabilities_reach_the_lesions() -> None:
    belly = scene()
    belly.probabilities = {"liver_tumor": np.where(drawn("liver_tumor"), 204, 0).astype(np.uint8)}
    belly.decisions = {"liver_tumor": 0.3}
    found = belly.lesions("liver_tumor")[0].confidence
    assert found is not None
    assert (found.mean, found.margin) == (pytest.approx(0.8), pytest.approx(0.5))
    assert belly.lesions("kidney_tumor")[0].confidence is None


def test_lesions_are_measured_against_the_vessels_that_are_there() -> None:
    names = [contact.name for contact in scene().lesions("pancreas_tumor")[0].vessels]
    assert names == ["portal_vein_and_splenic_vein", "aorta"]
    # Two hosts share the aorta; it is told once.
    assert [contact.name for contact in scene().lesions("kidney_tumor")[0].vessels] == ["aorta"]
    assert scene("aorta", "portal_vein_and_splenic_vein").lesions("pancreas_tumor")[0].vessels == ()


def test_every_kind_of_lesion_with_an_organ_names_vessels_that_exist() -> None:
    hosts = {parent for concept in VOCABULARY if concept.kind == "lesion" for parent in concept.parents}
    assert set(VESSELS_OF) == hosts
    assert {VOCABULARY[name].kind for vessels in VESSELS_OF.values() for name in vessels} == {"vessel"}


def test_the_belly_is_what_the_tests_say() -> None:
    assert drawn("liver").sum() == 18 * 22 * 18
    assert [int(np.prod([b - a for a, b in sides])) for sides in LIVER_TUMORS] == [72, 5, 4, 4, 2]
    inside = [(drawn("liver") & box(*sides)).sum() for sides in LIVER_TUMORS]
    assert inside == [72, 5, 4, 4, 0]
    assert not (drawn("pancreas") & drawn("liver")).any()
    assert drawn("pancreas").sum() == 9 * 2 * 3 * 2
    assert len(BOXES["pancreas"]) == 9
