"""Organs whose volume, density, extent and place are known."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest

from tests import organs
from tests.findings.test_shape import block, grid
from tests.phantoms import rotation
from voxicon.core.concepts import Vocabulary
from voxicon.core.geometry import Geometry
from voxicon.core.masks import MaskSet
from voxicon.errors import BadGeometry, UnknownClass
from voxicon.findings.organs import NORMAL_VOLUMES, measure_organ, scanned_box

SHAPE = (20, 16, 12)
VOCABULARY = Vocabulary.default()


def scan(masks, turn=None, values=()):
    """Noise with organs painted over it, on a grid of 1 x 2 x 5 mm."""
    hu = np.random.default_rng(0).normal(0, 5, SHAPE)
    for name, value in values:
        hu[masks[name]] = value
    return MaskSet.from_masks(masks, grid(SHAPE, turn)), hu


def liver_and_tumor():
    """4 x 4 x 4 voxels; half of the tumor lies in the liver's mask, half is cut out of it."""
    return {"liver": block(SHAPE, (4, 8), (4, 8), (4, 8)), "liver_tumor": block(SHAPE, (7, 9), (4, 6), (4, 6))}


def test_an_organ_with_a_tumor():
    masks, hu = scan(liver_and_tumor(), values=(("liver", 100), ("liver_tumor", 40)))
    hu[4, 4, 4] = 160
    found = measure_organ("liver", masks, hu, VOCABULARY)
    assert found.volume_ml == pytest.approx((64 + 4) * 0.01)
    assert found.volume_without_lesions_ml == pytest.approx((64 - 4) * 0.01)
    assert found.hu_mean == pytest.approx((59 * 100 + 160) / 60)
    assert found.hu_sd == pytest.approx(60 * np.sqrt(59) / 60)
    assert found.extent_mm == pytest.approx((5, 8, 20))  # the tumor reaches one voxel farther right
    # 64 voxels around x = 5.5 and 4 at x = 8, y = 4.5, z = 4.5; 64 around y = z = 5.5.
    index = [(64 * 5.5 + 4 * 8) / 68, (64 * 5.5 + 4 * 4.5) / 68, (64 * 5.5 + 4 * 4.5) / 68]
    assert found.center_mm == pytest.approx(masks.geometry.to_world(index))
    assert (found.components, found.touches_border) == (1, False)
    assert found.flags == ("volume_below_normal",)


def test_an_oblique_organ_reaches_farther():
    masks, hu = scan({"spleen": block(SHAPE, (4, 8), (4, 8), (4, 5))}, rotation(30, 2))
    found = measure_organ("spleen", masks, hu, VOCABULARY)
    c, s = np.cos(np.pi / 6), 0.5
    assert found.extent_mm == pytest.approx((4 * c + 8 * s, 4 * s + 8 * c, 5))
    assert found.volume_ml == pytest.approx(16 * 0.01)


def test_one_voxel():
    masks, hu = scan({"spleen": block(SHAPE, (4, 5), (4, 5), (4, 5))}, values=(("spleen", 7),))
    found = measure_organ("spleen", masks, hu, VOCABULARY)
    assert (found.hu_mean, found.hu_sd, found.components) == (7, 0, 1)
    assert found.extent_mm == pytest.approx((1, 2, 5))
    assert found.center_mm == pytest.approx((14, -12, 50))


def test_none():
    masks, hu = scan({"spleen": np.zeros(SHAPE, bool)})
    found = measure_organ("spleen", masks, hu, VOCABULARY)
    assert (found.volume_ml, found.hu_mean, found.extent_mm, found.center_mm, found.components) == (
        0,
        None,
        None,
        None,
        0,
    )
    assert found.flags == ()


def test_an_organ_that_is_all_lesion_has_no_density():
    box = block(SHAPE, (4, 6), (4, 6), (4, 6))
    masks, hu = scan({"liver": box, "liver_tumor": box})
    found = measure_organ("liver", masks, hu, VOCABULARY)
    assert (found.volume_without_lesions_ml, found.hu_mean, found.hu_sd) == (0, None, None)
    assert found.volume_ml == pytest.approx(0.08)


def test_a_lesion_counts_to_the_kidney_it_touches():
    left, right = block(SHAPE, (2, 5), (4, 8), (4, 8)), block(SHAPE, (12, 15), (4, 8), (4, 8))
    tumors = block(SHAPE, (5, 7), (4, 5), (4, 5)) | block(SHAPE, (10, 12), (4, 5), (4, 7))
    tumors[9, 14, 10] = True  # touches neither
    masks, hu = scan({"kidney_left": left, "kidney_right": right, "kidney_tumor": tumors})
    assert measure_organ("kidney_left", masks, hu, VOCABULARY).volume_ml == pytest.approx((48 + 2) * 0.01)
    assert measure_organ("kidney_right", masks, hu, VOCABULARY).volume_ml == pytest.approx((48 + 6) * 0.01)


def test_pieces():
    masks, hu = scan({"spleen": block(SHAPE, (4, 5), (4, 5), (4, 5)) | block(SHAPE, (5, 6), (5, 6), (5, 6))})
    assert measure_organ("spleen", masks, hu, VOCABULARY).components == 1  # joined by a corner
    masks, hu = scan({"spleen": block(SHAPE, (4, 5), (4, 5), (4, 5)) | block(SHAPE, (6, 7), (5, 6), (5, 6))})
    found = measure_organ("spleen", masks, hu, VOCABULARY)
    assert found.components == 2
    assert "in_pieces" in found.flags


@pytest.mark.parametrize(("side", "touches"), [((0, 3), True), ((1, 3), False), ((9, 12), True), ((9, 11), False)])
def test_the_border(side, touches):
    masks, hu = scan({"spleen": block(SHAPE, (4, 8), (4, 8), side)})
    found = measure_organ("spleen", masks, hu, VOCABULARY)
    assert found.touches_border is touches
    assert found.flags == (("at_border",) if touches else ("volume_below_normal",))


def test_padding_is_no_border():
    masks, hu = scan({"spleen": block(SHAPE, (4, 8), (4, 8), (2, 5))})
    assert not measure_organ("spleen", masks, hu, VOCABULARY).touches_border
    hu[:, :, :2] = -2048  # the spleen's first slice is now the first that was scanned
    assert measure_organ("spleen", masks, hu, VOCABULARY).touches_border
    assert scanned_box(hu) == (slice(0, 20), slice(0, 16), slice(2, 12))


def test_a_constant_scan_has_no_padding():
    assert scanned_box(np.zeros((3, 4, 5))) == (slice(0, 3), slice(0, 4), slice(0, 5))


def test_plausible_volumes():
    # 100 ml in one voxel of 100 mm by 100 mm by 10 mm.
    affine = np.diag([100.0, 100.0, 10.0, 1.0])
    flags = []
    for voxels in (10, 15, 20):
        mask = np.zeros((7, 3, 22), bool)
        mask[1:6, 1, 1:5] = np.arange(20).reshape(5, 4) < voxels
        masks = MaskSet.from_masks({"liver": mask}, Geometry(mask.shape, affine))
        hu = np.random.default_rng(0).normal(size=mask.shape)
        flags.append(measure_organ("liver", masks, hu, VOCABULARY).flags)
    assert flags == [("volume_below_normal",), (), ("volume_above_normal",)]


def test_ranges_name_their_sources():
    assert all(
        re.search(r"(19|20)\d\d;\d+:\d+", normal.source) and normal.low_ml < normal.high_ml
        for normal in NORMAL_VOLUMES.values()
    )
    assert (NORMAL_VOLUMES["liver"].low_ml, NORMAL_VOLUMES["liver"].high_ml) == (1493 - 2 * 230, 1493 + 2 * 230)
    assert (NORMAL_VOLUMES["spleen"].low_ml, NORMAL_VOLUMES["spleen"].high_ml) == (219 - 2 * 76, 219 + 2 * 76)
    for name, women, men in (
        ("kidney_right", (121, 138, 156), (154, 174, 197)),
        ("kidney_left", (125, 144, 165), (160, 180, 203)),
    ):
        low = women[1] - 2 * (women[2] - women[0]) / 1.349
        high = men[1] + 2 * (men[2] - men[0]) / 1.349
        assert (NORMAL_VOLUMES[name].low_ml, NORMAL_VOLUMES[name].high_ml) == (round(low), round(high))


def test_the_torso():
    found = measure_organ("liver", organs.organs(), organs.torso().hu, VOCABULARY)
    assert found.volume_ml == pytest.approx(26 * 28 * 30 * 0.008)
    assert found.extent_mm == pytest.approx((52, 56, 60))
    # The vessel is part of it: 26 x 3 x 3 voxels 80 HU brighter.
    assert found.hu_mean == pytest.approx(100 + 80 * 9 / (28 * 30), abs=0.3)


def test_plain_data():
    masks, hu = scan(liver_and_tumor())
    data = json.loads(json.dumps(measure_organ("liver", masks, hu, VOCABULARY).to_dict()))
    assert data["name"] == "liver"
    assert len(data["extent_mm"]) == 3
    assert data["normal_volume"]["high_ml"] == 1953


def test_refusals():
    masks, hu = scan(liver_and_tumor())
    with pytest.raises(UnknownClass, match="no mask named 'spleen'"):
        measure_organ("spleen", masks, hu, VOCABULARY)
    with pytest.raises(BadGeometry, match="expected the scan"):
        measure_organ("liver", masks, hu[1:], VOCABULARY)


@pytest.mark.parametrize(("crumb", "pieces"), [(9, 1), (10, 1), (11, 2)])
def test_a_crumb_is_no_piece(crumb, pieces):
    mask = np.zeros((20, 12, 12), bool)
    mask[1:11, 1:11, 1:11] = True  # 1000 voxels: of 1010 one percent is more than 10
    line = np.zeros((4, 3), bool)
    line.flat[:crumb] = True
    mask[13:17, 1:4, 1] = line
    masks = MaskSet.from_masks({"liver": mask}, Geometry(mask.shape, np.eye(4)))
    hu = np.random.default_rng(0).normal(size=mask.shape)
    found = measure_organ("liver", masks, hu, VOCABULARY)
    assert found.components == pieces
    assert ("in_pieces" in found.flags) == (pieces > 1)
