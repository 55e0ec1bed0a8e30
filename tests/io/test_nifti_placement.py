"""Placement rows of the fault corpus: spacing, units, affines, codes, contradictions."""

import nibabel as nib
import numpy as np
import pytest

from tests.io.nifti_faults import LPS_AFFINE, nifti_bytes, phantom, refused, save
from voxicon.errors import BadGeometry, UnreadableFile
from voxicon.io.nifti import ReadOptions, read_labels, read_volume, write_mask

MASK = phantom() > 0


def moved(shift_mm):
    affine = LPS_AFFINE.copy()
    affine[0, 3] += shift_mm
    return affine


def qform_of(affine):
    header = nib.Nifti1Header()
    header.set_qform(affine, code=1)
    return {key: header[key] for key in ("quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_y", "qoffset_z")}


def rewritten(tmp_path, volume):
    """Geometry that our own reader, without options, and nibabel find in a mask written for a volume."""
    path = tmp_path / "mask.nii.gz"
    write_mask(path, MASK, volume.geometry, volume.source.header)
    labels, geometry = read_labels(path)
    assert (labels == MASK).all()
    assert np.allclose(nib.load(path).affine, geometry.affine)
    return geometry


def test_units_and_spacing_are_what_the_header_says(tmp_path):
    assert np.allclose(read_volume(save(tmp_path, nifti_bytes())).geometry.spacing_mm, (0.8, 0.8, 2.5))
    assert read_volume(save(tmp_path, nifti_bytes(xyzt_units=0))).source.warnings == ()


@pytest.mark.parametrize("bad", [0, np.nan, -2.5, np.inf])
def test_row_9_pixdim(tmp_path, bad):
    path = save(tmp_path, nifti_bytes(pixdim=[1, 0.8, 0.8, bad, 0, 0, 0, 0]))
    assert "spacing_mm" in refused(path, "E-SPACING", BadGeometry)
    refused(path, "E-SPACING", BadGeometry, read=read_labels)
    volume = read_volume(path, ReadOptions(spacing_mm=(0.8, 0.8, 5)))
    assert np.allclose(volume.geometry.spacing_mm, (0.8, 0.8, 5))
    assert np.allclose(volume.geometry.affine[:3, 3], LPS_AFFINE[:3, 3])
    assert volume.geometry.orientation == "LPS"
    assert "0.8 × 0.8 × 5 mm used instead" in volume.source.warnings[0]
    assert rewritten(tmp_path, volume).same_grid(volume.geometry)


def test_row_9_spacing_given_for_a_file_with_only_a_qform(tmp_path):
    path = save(tmp_path, nifti_bytes(sform_code=0, pixdim=[1, 0, 0, 0, 0, 0, 0, 0]))
    refused(path, "E-SPACING", BadGeometry)
    volume = read_volume(path, ReadOptions(spacing_mm=(0.8, 0.8, 2.5)))
    assert np.allclose(volume.geometry.affine, LPS_AFFINE, atol=1e-4)


def test_row_10_micrometers_are_converted(tmp_path):
    scale = np.diag([1000, 1000, 1000, 1.0])
    volume = read_volume(save(tmp_path, nifti_bytes(affine=scale @ LPS_AFFINE, xyzt_units=3)))
    assert np.allclose(volume.geometry.affine, LPS_AFFINE, atol=1e-4)
    assert "micrometres; converted to mm" in volume.source.warnings[0]
    assert rewritten(tmp_path, volume).same_grid(volume.geometry)
    assert nib.load(tmp_path / "mask.nii.gz").header.get_xyzt_units()[0] == "mm"


def test_metres_are_converted(tmp_path):
    scale = np.diag([1e-3, 1e-3, 1e-3, 1.0])
    volume = read_volume(save(tmp_path, nifti_bytes(affine=scale @ LPS_AFFINE, xyzt_units=1)))
    assert np.allclose(volume.geometry.affine, LPS_AFFINE, atol=1e-4)


def test_micrometers_together_with_a_given_spacing_in_mm(tmp_path):
    scale = np.diag([1000, 1000, 1000, 1.0])
    path = save(tmp_path, nifti_bytes(affine=scale @ LPS_AFFINE, xyzt_units=3))
    volume = read_volume(path, ReadOptions(spacing_mm=(1, 1, 2)))
    assert np.allclose(volume.geometry.spacing_mm, (1, 1, 2))


def test_unit_that_makes_no_sense(tmp_path):
    assert "0.0008" in refused(save(tmp_path, nifti_bytes(xyzt_units=3)), "E-SPACING", BadGeometry)
    refused(save(tmp_path, nifti_bytes(xyzt_units=1)), "E-SPACING", BadGeometry)
    refused(save(tmp_path, nifti_bytes(xyzt_units=5)), "E-HEADER", UnreadableFile)


def test_row_12_sheared_affine_is_used_as_it_is(tmp_path):
    sheared = LPS_AFFINE.copy()
    sheared[1, 2] = 0.6
    path = save(tmp_path, nifti_bytes(srow_y=sheared[1], qform_code=0))
    volume = read_volume(path)
    assert np.allclose(volume.geometry.affine, sheared, atol=1e-5)
    assert any("not perpendicular" in w for w in volume.source.warnings)
    write_mask(tmp_path / "m.nii.gz", MASK, volume.geometry, volume.source.header)
    assert (nib.load(tmp_path / "m.nii.gz").affine == volume.geometry.affine).all()


def test_row_13_singular_affine(tmp_path):
    same = LPS_AFFINE[0]
    path = save(tmp_path, nifti_bytes(srow_y=same))
    refused(path, "E-AFFINE", BadGeometry)
    volume = read_volume(path, ReadOptions(use="qform"))
    assert np.allclose(volume.geometry.affine, LPS_AFFINE, atol=1e-4)
    refused(save(tmp_path, nifti_bytes(srow_x=[0] * 4, srow_y=[0] * 4, srow_z=[0] * 4)), "E-AFFINE", BadGeometry)
    refused(save(tmp_path, nifti_bytes(srow_x=[np.nan, 0, 0, 0])), "E-AFFINE", BadGeometry)


def test_quaternion_longer_than_one(tmp_path):
    broken = {"quatern_b": 1, "quatern_c": 1, "quatern_d": 1}
    refused(save(tmp_path, nifti_bytes(sform_code=0, **broken)), "E-AFFINE", BadGeometry)
    path = save(tmp_path, nifti_bytes(**broken))
    refused(path, "E-FORMS", BadGeometry)
    assert np.allclose(read_volume(path, ReadOptions(use="sform")).geometry.affine, LPS_AFFINE, atol=1e-5)


def test_quaternion_of_nan(tmp_path):
    path = save(tmp_path, nifti_bytes(quatern_b=np.nan))
    refused(path, "E-FORMS", BadGeometry)
    assert read_volume(path, ReadOptions(use="sform")).geometry.orientation == "LPS"
    refused(path, "E-AFFINE", BadGeometry, ReadOptions(use="qform"))


def test_row_14_no_codes_is_refused(tmp_path):
    path = save(tmp_path, nifti_bytes(sform_code=0, qform_code=0))
    message = refused(path, "E-ORIENT", BadGeometry)
    assert "assume_orientation=RAS" in message
    assert "left" in message


@pytest.mark.parametrize("code", ["RAS", "LPS", "SAL", "PIR"])
def test_row_14_orientation_given_by_the_user(tmp_path, code):
    path = save(tmp_path, nifti_bytes(sform_code=0, qform_code=0))
    volume = read_volume(path, ReadOptions(assume_orientation=code))
    assert volume.geometry.orientation == code
    assert np.allclose(volume.geometry.spacing_mm, (0.8, 0.8, 2.5))
    assert f"assumed to grow to {code}" in volume.source.warnings[0]
    again = rewritten(tmp_path, volume)
    assert again.orientation == code
    assert again.same_grid(volume.geometry)


def test_a_placed_file_ignores_an_assumed_orientation(tmp_path):
    volume = read_volume(save(tmp_path, nifti_bytes()), ReadOptions(assume_orientation="RAS"))
    assert volume.geometry.orientation == "LPS"
    assert volume.source.warnings == ()


def test_row_15_small_disagreement_sform_wins_with_a_warning(tmp_path):
    path = save(tmp_path, nifti_bytes(**qform_of(moved(0.6))))
    volume = read_volume(path)
    assert np.allclose(volume.geometry.affine, LPS_AFFINE, atol=1e-5)
    assert "0.75 voxels apart; the sform was used" in volume.source.warnings[0]


def test_row_15_rounding_is_no_disagreement(tmp_path):
    assert read_volume(save(tmp_path, nifti_bytes(**qform_of(moved(0.02))))).source.warnings == ()


def test_row_15_large_disagreement_needs_a_word(tmp_path):
    path = save(tmp_path, nifti_bytes(**qform_of(moved(1.2))))
    assert "1.5 voxels" in refused(path, "E-FORMS", BadGeometry)
    refused(path, "E-FORMS", BadGeometry, read=read_labels)

    by_sform = read_volume(path, ReadOptions(use="sform"))
    assert np.allclose(by_sform.geometry.affine, LPS_AFFINE, atol=1e-5)
    assert "the sform was used" in by_sform.source.warnings[0]
    # The mask repeats the scan's header, contradiction included: every program lays it onto the scan.
    write_mask(tmp_path / "mask.nii.gz", MASK, by_sform.geometry, by_sform.source.header)
    assert np.allclose(nib.load(tmp_path / "mask.nii.gz").header.get_qform(), moved(1.2), atol=1e-4)

    by_qform = read_volume(path, ReadOptions(use="qform"))
    assert np.allclose(by_qform.geometry.affine, moved(1.2), atol=1e-4)
    assert "the qform was used" in by_qform.source.warnings[0]
    assert rewritten(tmp_path, by_qform).same_grid(by_qform.geometry)


def test_row_15_spacing_disagreement_is_seen_at_the_far_corner(tmp_path):
    path = save(tmp_path, nifti_bytes(pixdim=[1, 0.8, 0.8, 5, 0, 0, 0, 0]))
    refused(path, "E-FORMS", BadGeometry)


def test_pixdim_that_no_form_confirms(tmp_path):
    volume = read_volume(save(tmp_path, nifti_bytes(pixdim=[1, 0.8, 0.8, 5, 0, 0, 0, 0], qform_code=0)))
    assert np.allclose(volume.geometry.spacing_mm, (0.8, 0.8, 2.5))
    assert "pixdim says 0.8 × 0.8 × 5 mm" in volume.source.warnings[0]


def test_use_names_a_form_that_is_absent(tmp_path):
    path = save(tmp_path, nifti_bytes(qform_code=0))
    assert "no qform" in refused(path, "E-FORMS", BadGeometry, ReadOptions(use="qform"))


@pytest.mark.parametrize("qfac", [0, 1, np.nan])
def test_qfac_other_than_minus_one_is_one(tmp_path, qfac):
    volume = read_volume(save(tmp_path, nifti_bytes(sform_code=0, pixdim=[qfac, 0.8, 0.8, 2.5, 0, 0, 0, 0])))
    assert np.allclose(volume.geometry.affine, LPS_AFFINE, atol=1e-4)


def test_mirrored_qform(tmp_path):
    mirrored = LPS_AFFINE @ np.diag([-1, 1, 1, 1.0])
    volume = read_volume(save(tmp_path, nifti_bytes(affine=mirrored, sform_code=0)))
    assert volume.geometry.orientation == "RPS"
    assert np.allclose(volume.geometry.affine, mirrored, atol=1e-4)
