"""Distances and contact that can be worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from tests.findings.test_shape import block, grid
from tests.phantoms import rotation
from voxicon.core.components import components
from voxicon.core.masks import MaskSet
from voxicon.findings.vessels import Vessel

SHAPE = (20, 20, 6)


def contact(vessel, lesion, turn=None, spacing_mm=(1.0, 2.0, 5.0)):
    masks = MaskSet.from_masks({"aorta": vessel, "lesion": lesion}, grid(vessel.shape, turn, spacing_mm))
    boxes = masks.bounds()
    return Vessel("aorta", masks, boxes.get("aorta")).against(lesion[boxes["lesion"]], boxes["lesion"])


@pytest.mark.parametrize("turn", [None, rotation(33, 1)])
def test_distance_between_faces(turn):
    vessel = block(SHAPE, (2, 4), (2, 4), (0, 2))
    assert contact(vessel, block(SHAPE, (7, 9), (2, 4), (0, 1)), turn).distance_mm == pytest.approx(3)
    apart = contact(vessel, block(SHAPE, (7, 9), (6, 9), (4, 6)), turn)
    assert apart.distance_mm == pytest.approx(np.sqrt(3**2 + 4**2 + 10**2))
    assert (apart.contact_deg, apart.slice_index) == (0, None)


def test_touching_by_a_face_in_plane():
    # The vessel's circumference is 2 x (2 + 4) mm; the lesion covers one face of 4 mm, in slice 1 half of it.
    vessel = block(SHAPE, (2, 4), (2, 4), (1, 6))
    lesion = block(SHAPE, (4, 6), (2, 4), (2, 3)) | block(SHAPE, (4, 6), (2, 3), (1, 2))
    found = contact(vessel, lesion)
    assert found.distance_mm == 0
    assert found.contact_deg == pytest.approx(360 * 4 / 12)
    assert found.slice_index == 2


def test_touching_across_slices_only():
    found = contact(block(SHAPE, (2, 4), (2, 4), (0, 2)), block(SHAPE, (2, 4), (2, 4), (2, 4)))
    assert (found.distance_mm, found.contact_deg, found.slice_index) == (0, 0, None)


def test_encased_and_overlapping():
    vessel = block(SHAPE, (8, 11), (8, 11), (0, 6))
    around = block(SHAPE, (5, 15), (5, 15), (2, 4))
    assert contact(vessel, around & ~vessel).contact_deg == pytest.approx(360)
    assert contact(vessel, around).contact_deg == pytest.approx(360)
    inner = block(SHAPE, (9, 10), (9, 10), (2, 3))  # inside, away from the wall
    found = contact(vessel, inner)
    assert (found.distance_mm, found.contact_deg) == (0, 0)


@pytest.mark.parametrize("degrees", [45, 90, 120, 180, 270])
def test_a_round_vessel(degrees):
    x, y = np.meshgrid(np.arange(121) - 60, np.arange(121) - 60, indexing="ij")
    radius, angle = np.hypot(x, y), np.rad2deg(np.arctan2(y, x)) % 360
    vessel = (radius <= 40)[..., None]
    lesion = ((radius > 40) & (radius < 55) & (angle < degrees))[..., None]
    assert contact(vessel, lesion, spacing_mm=(0.5, 0.5, 1.0)).contact_deg == pytest.approx(degrees, abs=3)


def test_pieces_of_a_vessel_are_counted_apart():
    # Two cross-sections in one slice; the lesion covers one of four equal faces of the second.
    vessel = block(SHAPE, (2, 4), (2, 3), (0, 1)) | block(SHAPE, (10, 12), (2, 3), (0, 1))
    assert components(vessel).sizes.tolist() == [0, 2, 2]
    assert contact(vessel, block(SHAPE, (12, 13), (2, 3), (0, 1))).contact_deg == pytest.approx(90)


def test_no_vessel():
    found = contact(np.zeros(SHAPE, bool), block(SHAPE, (2, 4), (2, 4), (2, 4)))
    assert (found.distance_mm, found.contact_deg, found.slice_index) == (None, None, None)
