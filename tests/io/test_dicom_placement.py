"""Slices that make a volume, and those that do not."""

import numpy as np
import pytest

from tests.io.dicom_files import GRID, HU, SHAPE, move, refused, save, series
from voxicon.core.geometry import Geometry
from voxicon.errors import BadGeometry
from voxicon.io.dicom import read_series

# Without a slice of GRID at k, its neighbours lie at z = -10 + 2 (k - 1) and -10 + 2 (k + 1) mm.


@pytest.mark.parametrize("k", [1, 5, 10])
def test_row_32_a_slice_is_missing(tmp_path, k):
    slices = series()
    names = [f"{number:03d}.dcm" for number in range(12)]
    folder = save(tmp_path / "scan", slices[:k] + slices[k + 1 :], names[:k] + names[k + 1 :])
    message = refused(folder, "E-GAP", BadGeometry)
    assert message.startswith("scan: 1 slices are missing: ")
    found = f"{k - 1:03d}.dcm ({2 * k - 12} mm) and {k + 1:03d}.dcm ({2 * k - 8} mm) lie 4 mm, expected 2;"
    assert found in message


def test_row_32_several_are_missing(tmp_path):
    slices = series()
    message = refused(save(tmp_path / "scan", slices[:3] + slices[4:6] + slices[9:]), "E-GAP", BadGeometry)
    assert message.startswith("scan: 4 slices are missing: ")
    assert "lie 8 mm" in message  # 6, 7 and 8 are: the widest gap is told
    message = refused(save(tmp_path / "three", [slices[0], slices[1], slices[3]]), "E-GAP", BadGeometry)
    assert "between 001.dcm (-8 mm) and 002.dcm (-4 mm) lie 4 mm, expected 2" in message


def test_row_33_two_at_one_place(tmp_path):
    slices = series()
    folder = save(tmp_path / "scan", [*slices, slices[4], slices[7]])
    message = refused(folder, "E-DUP", BadGeometry)
    assert "004.dcm and 012.dcm lie at the same place (-2 mm), as do 1 more pairs" in message


def test_row_38_two_phases_in_one_series(tmp_path):
    late = series(HU + 1)
    for data in late:
        data.SeriesInstanceUID = series()[0].SeriesInstanceUID
    assert "11 more pairs" in refused(save(tmp_path / "scan", series() + late), "E-DUP", BadGeometry)


def test_row_34_spacing_changes(tmp_path):
    slices = series()
    for k in range(7, 12):
        move(slices[k], 0, 0, 3 * (k - 6))
    message = refused(save(tmp_path / "scan", slices), "E-SPACING", BadGeometry)
    assert "not equally spaced (2 to 5 mm)" in message
    assert "between 006.dcm (2 mm) and 007.dcm (7 mm) lie 5 mm, expected 2" in message


@pytest.mark.parametrize(("jitter_mm", "fits"), [(0.09, True), (0.11, False)])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_rounded_positions(tmp_path, jitter_mm, fits, axis):
    slices = series()
    shift = [0.0, 0.0, 0.0]
    shift[axis] = jitter_mm
    move(slices[5], *shift)
    folder = save(tmp_path / "scan", slices)
    if fits:
        assert read_series(folder).geometry.same_grid(GRID)
    else:
        message = refused(folder, "E-SPACING", BadGeometry)
        assert "005.dcm" in message
        assert ("beside" in message) == (axis < 2)


def tilted(degrees, axis, spacing_mm=2):
    slices = series(HU, Geometry(SHAPE, GRID.affine @ np.diag([1, 1, spacing_mm / 2, 1])))
    for k, data in enumerate(slices):
        shift = [0.0, 0.0, 0.0]
        shift[axis] = spacing_mm * k * np.tan(np.radians(degrees))
        move(data, *shift)
    return slices


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("degrees", [12, -20, 0.6])
def test_row_35_gantry_tilt(tmp_path, axis, degrees):
    message = refused(save(tmp_path / "scan", tilted(degrees, axis)), "E-TILT", BadGeometry)
    assert f"askew by {abs(degrees):.1f} degrees" in message


def test_what_is_less_than_a_tilt_is_followed(tmp_path):
    # 0.4 degrees move the last slice 55 tan 0.4° = 0.384 mm aside, half a pixel.
    geometry = read_series(save(tmp_path / "scan", tilted(0.4, 0, 5))).geometry
    moved = geometry.to_world([0, 0, 11]) - GRID.to_world([0, 0, 0])
    assert np.allclose(moved, [-0.384, 0, 55], atol=1e-4)
    # 0.6 degrees over two slices of 2 mm are 0.02 mm, a fortieth of a pixel: rounding, not a tilt.
    assert read_series(save(tmp_path / "two", tilted(0.6, 0)[:2])).geometry.shape == (16, 14, 2)


def test_row_36_mixed_directions(tmp_path):
    slices = series()
    slices[3].ImageOrientationPatient = [1, 0, 0, 0, 0, -1]
    message = refused(save(tmp_path / "scan", slices), "E-MIXED", BadGeometry)
    assert "differ in direction: 000.dcm has [1, 0, 0, 0, 1, 0]" in message.replace(".0", "")
    assert "003.dcm" in message


def test_directions_that_differ_by_rounding(tmp_path):
    slices = series()
    slices[3].ImageOrientationPatient = [1, 0.00005, 0, 0, 1, 0]
    assert read_series(save(tmp_path / "scan", slices)).geometry == GRID


def test_row_39_mixed_sizes(tmp_path):
    slices = series()
    other = series(HU[:, :10], Geometry((16, 10, 12), GRID.affine))[3]
    other.SeriesInstanceUID = slices[0].SeriesInstanceUID
    slices[3] = other
    message = refused(save(tmp_path / "scan", slices), "E-MIXED", BadGeometry)
    assert "differ in size: 000.dcm has 16 × 14, 003.dcm has 16 × 10" in message


def test_mixed_pixel_sizes(tmp_path):
    slices = series()
    slices[3].PixelSpacing = [0.9, 0.81]
    message = refused(save(tmp_path / "scan", slices), "E-MIXED", BadGeometry)
    assert "differ in pixel size: 000.dcm has 0.8 × 0.9, 003.dcm has 0.81 × 0.9" in message


@pytest.mark.parametrize("element", ["ImagePositionPatient", "ImageOrientationPatient"])
@pytest.mark.parametrize("value", [None, [1, 2]])
def test_row_41_no_place(tmp_path, element, value):
    slices = series()
    if value is None:
        del slices[5][element]
    else:
        setattr(slices[5], element, value)
    message = refused(save(tmp_path / "scan", slices), "E-ORIENT", BadGeometry)
    assert message.startswith("scan/005.dcm: ")
    assert f"no usable {element}" in message


def test_no_slice_has_a_place(tmp_path):
    slices = series()
    for data in slices:
        del data.ImagePositionPatient
    refused(save(tmp_path / "scan", slices), "E-ORIENT", BadGeometry)


@pytest.mark.parametrize("directions", [[1, 0, 0, 1, 0, 0], [2, 0, 0, 0, 2, 0], [0] * 6, [1, 0, 0, 0.1, 0.995, 0]])
def test_directions_that_are_none(tmp_path, directions):
    slices = series()
    slices[5].ImageOrientationPatient = directions
    assert "right angle" in refused(save(tmp_path / "scan", slices), "E-ORIENT", BadGeometry)


@pytest.mark.parametrize("value", [None, [0, 0.8], [0.8], [-1, 1], [1000, 1]])
def test_pixels_without_a_size(tmp_path, value):
    slices = series()
    slices[5].PixelSpacing = value
    message = refused(save(tmp_path / "scan", slices), "E-SPACING", BadGeometry)
    assert message.startswith("scan/005.dcm: PixelSpacing is ")


def test_slices_too_far_apart(tmp_path):
    affine = GRID.affine @ np.diag([1, 1, 60, 1])  # 120 mm
    message = refused(save(tmp_path / "scan", series(HU, Geometry(SHAPE, affine))), "E-SPACING", BadGeometry)
    assert "slices lie 120 mm apart" in message


def test_row_18_one_slice(tmp_path):
    message = refused(save(tmp_path / "scan", series()[:1]), "E-2D", BadGeometry)
    assert "single slice (000.dcm)" in message


def test_two_slices_are_a_volume(tmp_path):
    volume = read_series(save(tmp_path / "scan", series()[4:6]))
    assert volume.geometry == Geometry((16, 14, 2), GRID.affine + np.array([[0] * 4, [0] * 4, [0, 0, 0, 8], [0] * 4]))
