"""Real scans through reader and writer; skipped, with the reason printed, where they are absent."""

import nibabel as nib
import numpy as np
import pytest

from tests.io.nifti_faults import refused
from voxicon.core.concepts import Vocabulary
from voxicon.core.masks import MaskSet
from voxicon.errors import NotCt, UnreadableFile
from voxicon.io.masks import write_combined, write_masks
from voxicon.io.nifti import read_labels, read_volume

SCANS = ["abdomen_pelvis/ct.nii.gz", "liver_slab/ct.nii.gz", "sarcoma/STS_003_ct.nii.gz"]
LABELS = ["abdomen_pelvis/labels.nii.gz", "liver_slab/labels.nii.gz", "label_maps/amos_0013.nii.gz"]


@pytest.mark.parametrize("scan", SCANS)
def test_scan_in_masks_out(real_data, tmp_path, scan):
    volume = read_volume(real_data / scan)
    theirs = nib.load(real_data / scan)
    assert np.array_equal(volume.hu, np.maximum(np.asanyarray(theirs.dataobj), -1024))
    assert np.array_equal(volume.geometry.affine, theirs.affine)
    assert len(volume.source.sha256) == 64
    assert all("padding" in warning for warning in volume.source.warnings)

    masks = MaskSet.from_masks(
        {"liver": volume.hu > 0, "liver_tumor": volume.hu > 300, "spleen": np.zeros(volume.hu.shape, bool)},
        volume.geometry,
        volume.source,
    )
    vocabulary = Vocabulary.default()
    paths = write_masks(masks, tmp_path, vocabulary)
    combined, _ = write_combined(masks, tmp_path / "combined_labels.nii.gz", vocabulary)
    for name, path in zip(masks, paths, strict=True):
        mask, geometry = read_labels(path)
        assert np.array_equal(mask, masks[name])
        assert geometry == volume.geometry
    labels, geometry = read_labels(combined)
    assert geometry == volume.geometry
    assert np.array_equal(labels, np.where(volume.hu > 300, 27, np.where(volume.hu > 0, 6, 0)))
    written = nib.load(combined).header
    for field in ("sform_code", "qform_code", "srow_x", "srow_y", "srow_z", "quatern_b", "pixdim", "xyzt_units"):
        assert written[field].tobytes() == theirs.header[field].tobytes()


@pytest.mark.parametrize("labels", LABELS)
def test_label_maps_are_read_as_labels_and_refused_as_scans(real_data, labels):
    values, geometry = read_labels(real_data / labels)
    assert np.array_equal(values, np.asanyarray(nib.load(real_data / labels).dataobj))
    assert geometry.shape == values.shape
    refused(real_data / labels, "E-INTENT", NotCt)


def test_half_a_real_file_is_refused(real_data, tmp_path):
    packed = (real_data / SCANS[0]).read_bytes()
    path = tmp_path / "ct.nii.gz"
    path.write_bytes(packed[: len(packed) // 2])
    refused(path, "E-TRUNC", UnreadableFile)


def test_a_real_scan_stored_with_offset_is_brought_back(real_data, tmp_path):
    image = nib.load(real_data / SCANS[0])
    hu = np.maximum(np.asanyarray(image.dataobj), -1024)
    path = tmp_path / "ct.nii.gz"
    nib.save(nib.Nifti1Image((hu + 1024).astype(np.uint16), image.affine), path)
    volume = read_volume(path)
    assert np.array_equal(volume.hu, hu)
    assert any("HU + 1024" in warning for warning in volume.source.warnings)
