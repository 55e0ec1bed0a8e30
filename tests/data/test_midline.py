"""The body's middle: tables, arms, patients off center or cut off, any orientation, real scans."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.phantoms import ORIENTATIONS, body, oriented, rotation
from voxicon.core.geometry import Geometry
from voxicon.core.volume import Volume
from voxicon.data.card import load_card
from voxicon.data.midline import body_midline_mm
from voxicon.errors import NotCt
from voxicon.io.nifti import read_labels, read_volume

BODY = body()  # middle at x = 0, larger organ on the right; grid from -98 to 98 mm


def changed(volume, change, moved_mm=0.0):
    """The body with values changed by a function of RAS points, and moved to the right."""
    index = np.stack(np.meshgrid(*(np.arange(n) for n in volume.hu.shape), indexing="ij"), axis=-1)
    hu = change(volume.hu.copy(), *np.moveaxis(volume.geometry.to_world(index), -1, 0))
    affine = volume.geometry.affine.copy()
    affine[0, 3] += moved_mm
    return Volume(hu, Geometry(volume.geometry.shape, affine))


def cut(volume, axis, start, stop):
    affine = volume.geometry.affine.copy()
    affine[:3, 3] += affine[:3, axis] * start
    hu = np.moveaxis(np.moveaxis(volume.hu, axis, 0)[start:stop], 0, axis)
    return Volume(hu, Geometry(hu.shape, affine))


def flipped(volume):
    """The mirror image of a patient: x of every voxel changes its sign."""
    return Volume(volume.hu, Geometry(volume.hu.shape, np.diag([-1.0, 1, 1, 1]) @ volume.geometry.affine))


def with_table(hu, x, y, z):
    hu[(np.abs(y + 70) < 5) & (x > -20)] = 600  # to the edge of view at the right: its middle is not the body's
    return hu


def with_arm(hu, x, y, z):
    hu[(x - 90) ** 2 + (y - 40) ** 2 < 14**2] = 900
    return hu


def with_spine(hu, x, y, z):
    hu[x**2 + (y + 30) ** 2 < 14**2] = 700
    hu[(np.abs((x / 76) ** 2 + (y / 51) ** 2 + (z / 66) ** 2 - 0.9) < 0.1) & (np.abs(x) > 20)] = 600
    return hu


def test_middle_of_a_body():
    assert abs(body_midline_mm(BODY)) <= 4


@pytest.mark.parametrize("change", [with_table, with_arm])
def test_table_and_arm_do_not_count(change):
    assert abs(body_midline_mm(changed(BODY, change))) <= 4


def test_both_legs_count():
    def legs(hu, x, y, z):
        leg, bone = (np.abs(x) - 40) ** 2 + y**2 < 30**2, (np.abs(x) - 35) ** 2 + y**2 < 9**2
        return np.where(bone, 900, np.where(leg, 40, -1000))

    assert abs(body_midline_mm(changed(BODY, legs))) <= 4


def test_bone_outweighs_soft_tissue():
    def lump(hu, x, y, z):
        hu[((x - 65) / 40) ** 2 + (y / 75) ** 2 + (z / 85) ** 2 < 1] = 40
        return hu

    assert abs(body_midline_mm(changed(changed(BODY, lump), with_spine))) <= 4


@pytest.mark.parametrize("moved_mm", [-250.0, 37.0])
def test_a_patient_off_center(moved_mm):
    assert abs(body_midline_mm(changed(BODY, with_table, moved_mm)) - moved_mm) <= 4


@pytest.mark.parametrize(("start", "stop"), [(18, 50), (0, 34)])
def test_a_body_cut_on_one_side(start, stop):
    """The body fills indices 5 to 44: 13 of its 40 columns are out of view at one side."""
    whole = changed(BODY, with_spine)
    assert abs(body_midline_mm(cut(whole, 0, start, stop))) <= 4


@pytest.mark.parametrize("slices", [1, 2, 5])
def test_a_slab_of_few_slices(slices):
    assert abs(body_midline_mm(cut(changed(BODY, with_table), 2, 22, 22 + slices))) <= 4


def test_a_body_too_thin_to_be_told_from_a_table():
    thin = changed(BODY, lambda hu, x, y, z: np.where((np.abs(y) < 5) & (np.abs(x - 20) < 30), 0, -1000))
    assert abs(body_midline_mm(thin) - 20) <= 4


@settings(max_examples=20)
@given(st.sampled_from(ORIENTATIONS), st.sampled_from([0.0, 20.0]), st.integers(0, 2))
def test_any_grid(orientation, degrees, axis):
    volume = oriented(body(turn=rotation(degrees, axis)), *orientation)
    assert abs(body_midline_mm(volume)) <= 4


def test_air_alone_has_no_middle():
    air = Volume(np.full(BODY.hu.shape, -1000.0, dtype=np.float32), BODY.geometry)
    with pytest.raises(NotCt, match="volume: no voxel above -300 HU") as refusal:
        body_midline_mm(air)
    assert refusal.value.code == "E-EMPTY"


@pytest.fixture(scope="module", params=["chest_abdomen", "abdomen_pelvis"])
def real(request, real_data):
    """A scan and x of the mean of its vertebrae and of its spinal cord."""
    labels, geometry = read_labels(real_data / request.param / "labels.nii.gz")
    raw = load_card(request.param).raw
    spine_mm = []
    for start in ("vertebrae", "spinal_cord"):
        found = np.argwhere(np.isin(labels, [v for v, name in raw.items() if name.startswith(start)]))
        spine_mm.append(float(geometry.to_world(found)[:, 0].mean()))
    return read_volume(real_data / request.param / "ct.nii.gz"), spine_mm


def test_real_scans_whole_mirrored_moved_and_cut(real):
    scan, spine_mm = real
    middle_mm = body_midline_mm(scan)
    assert all(abs(middle_mm - x) <= 8 for x in spine_mm)
    assert abs(body_midline_mm(flipped(scan)) + middle_mm) <= 4
    affine = scan.geometry.affine.copy()
    affine[0, 3] += 300
    assert body_midline_mm(Volume(scan.hu, Geometry(scan.hu.shape, affine))) == pytest.approx(middle_mm + 300)
    width, height = scan.hu.shape[0], scan.hu.shape[2]
    # A quarter of the field of view is missing at one side.
    for start, stop in ((width // 4, width), (0, width - width // 4)):
        assert all(abs(body_midline_mm(cut(scan, 0, start, stop)) - x) <= 10 for x in spine_mm)
    # A third of the length: the spine of chest_abdomen bends by 26 mm from end to end.
    for start in (0, height // 3, 2 * height // 3):
        assert all(abs(body_midline_mm(cut(scan, 2, start, start + height // 3)) - x) <= 15 for x in spine_mm)
