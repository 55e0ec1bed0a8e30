"""Header rows of the fault corpus: dimensions, offsets, types, volumes, scaling, intent."""

import nibabel as nib
import numpy as np
import pytest

from tests.io.nifti_faults import LPS_AFFINE, nifti_bytes, phantom, refused, save
from voxicon.errors import BadGeometry, ConfigError, NotCt, UnreadableFile
from voxicon.io.nifti import ReadOptions, read_labels, read_volume
from voxicon.io.nifti_gate import MAX_EXTENSION_BYTES, check_header


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("endian", ["<", ">"])
@pytest.mark.parametrize("name", ["scan.nii", "scan.nii.gz"])
def test_clean_file(tmp_path, version, endian, name):
    path = save(tmp_path, nifti_bytes(version=version, endian=endian), name)
    volume = read_volume(path)
    assert (volume.hu == phantom()).all()
    assert volume.hu.dtype == np.float32
    assert np.abs(volume.geometry.affine - LPS_AFFINE).max() < 1e-5
    assert volume.geometry.orientation == "LPS"
    assert volume.source.name == "scan"
    assert volume.source.path == str(path)
    assert volume.source.header == nifti_bytes(version=version, endian=endian)[: 348 if version == 1 else 540]
    assert volume.source.warnings == ()


@pytest.mark.parametrize(
    "dim",
    [
        [3, 20, 0, 16, 1, 1, 1, 1],
        [3, 20, -18, 16, 1, 1, 1, 1],
        [0, 20, 18, 16, 1, 1, 1, 1],
        [9, 20, 18, 16, 1, 1, 1, 1],
        [4, 20, 18, 16, 0, 1, 1, 1],
    ],
)
def test_row_8_zero_or_negative_dim(tmp_path, dim):
    refused(save(tmp_path, nifti_bytes(dim=dim)), "E-HEADER", UnreadableFile)


@pytest.mark.parametrize("offset", [1e9, np.nan, np.inf, -1, 0, 351, 352.5, 2 * MAX_EXTENSION_BYTES])
def test_row_11_vox_offset(tmp_path, offset):
    assert "vox_offset" in refused(save(tmp_path, nifti_bytes(vox_offset=offset)), "E-HEADER", UnreadableFile)


def test_vox_offset_after_an_extension_is_followed(tmp_path):
    raw = nifti_bytes(vox_offset=352 + 32)
    raw = raw[:348] + b"\1\0\0\0" + b"\x20\0\0\0\6\0\0\0" + b"comment".ljust(24) + raw[352:]
    assert (read_volume(save(tmp_path, raw)).hu == phantom()).all()


def test_row_16_one_volume_in_4d_is_squeezed(tmp_path):
    volume = read_volume(save(tmp_path, nifti_bytes(phantom()[..., None])))
    assert (volume.hu == phantom()).all()
    assert "4 dimensions but one volume" in volume.source.warnings[0]


def test_row_17_several_volumes_need_a_choice(tmp_path):
    stack = np.stack([phantom(seed=1), phantom(seed=2), phantom(seed=3)], axis=-1)
    path = save(tmp_path, nifti_bytes(stack), "scan.nii.gz")
    message = refused(path, "E-4D", BadGeometry)
    assert "has 3 volumes" in message
    assert "volume=0 to volume=2" in message
    for k in range(3):
        volume = read_volume(path, ReadOptions(volume=k))
        assert (volume.hu == stack[..., k]).all()
        assert f"volume {k} of 3" in volume.source.warnings[0]
    refused(path, "E-4D", BadGeometry, ReadOptions(volume=3))
    refused(path, "E-4D", BadGeometry, read=read_labels)


def test_volume_0_of_a_3d_file_is_that_file(tmp_path):
    volume = read_volume(save(tmp_path, nifti_bytes()), ReadOptions(volume=0))
    assert (volume.hu == phantom()).all()
    assert volume.source.warnings == ()


@pytest.mark.parametrize("dim", [[2, 20, 18, 1, 1, 1, 1, 1], [3, 20, 18, 1, 1, 1, 1, 1], [3, 1, 20, 18, 1, 1, 1, 1]])
def test_row_18_one_slice(tmp_path, dim):
    raw = nifti_bytes(phantom((20, 18, 2))[..., :1], dim=dim)
    refused(save(tmp_path, raw), "E-2D", BadGeometry)


def test_two_slices_are_a_volume(tmp_path):
    assert read_volume(save(tmp_path, nifti_bytes(phantom((20, 18, 2))))).hu.shape == (20, 18, 2)


@pytest.mark.parametrize(
    ("code", "word"), [(128, "RGB"), (2304, "RGBA"), (32, "complex"), (1792, "complex"), (0, "unknown"), (1, "unknown")]
)
def test_row_19_colors_and_complex(tmp_path, code, word):
    assert word in refused(save(tmp_path, nifti_bytes(datatype=code)), "E-DTYPE", UnreadableFile)


@pytest.mark.parametrize("dtype", ["i2", "i4", "i8", "f4", "f8"])
@pytest.mark.parametrize("endian", ["<", ">"])
def test_number_types_are_read(tmp_path, dtype, endian):
    path = save(tmp_path, nifti_bytes(phantom().astype(dtype), endian=endian))
    assert (read_volume(path).hu == phantom()).all()


def test_row_21_scaling_is_applied_once(tmp_path):
    stored = ((phantom().astype(np.int32) + 1024) // 2).astype(np.uint16)
    path = save(tmp_path, nifti_bytes(stored, scl_slope=2, scl_inter=-1024))
    assert (read_volume(path).hu == stored.astype(np.float32) * 2 - 1024).all()


@pytest.mark.parametrize(("slope", "inter"), [(0, -1024), (np.nan, -1024), (np.inf, 5), (1, np.nan), (np.nan, np.nan)])
def test_row_21_scaling_by_zero_or_nan_is_none(tmp_path, slope, inter):
    path = save(tmp_path, nifti_bytes(scl_slope=slope, scl_inter=inter))
    assert (read_volume(path).hu == phantom()).all()


@pytest.mark.parametrize("code", [1002, 1005, 1007])
def test_row_26_intent_declares_labels_or_vectors(tmp_path, code):
    path = save(tmp_path, nifti_bytes(intent_code=code))
    assert str(code) in refused(path, "E-INTENT", NotCt)
    assert read_labels(path)[0].shape == (20, 18, 16)


def test_other_intents_are_a_scan(tmp_path):
    assert read_volume(save(tmp_path, nifti_bytes(intent_code=2))).source.warnings == ()


def test_the_intent_is_refused_before_voxels_are_read(tmp_path):
    refused(save(tmp_path, nifti_bytes(intent_code=1002)[:400]), "E-INTENT", NotCt)


@pytest.mark.parametrize(
    "wrong",
    [
        {"volume": -1},
        {"use": "both"},
        {"assume_orientation": "RAX"},
        {"assume_orientation": "RLS"},
        {"assume_orientation": "RA"},
        {"spacing_mm": (1, 1)},
        {"spacing_mm": (1, 1, 0)},
        {"spacing_mm": (1, 1, float("nan"))},
        {"hu_offset": float("inf")},
    ],
)
def test_senseless_options(wrong):
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        ReadOptions(**wrong)


def test_gate_needs_only_the_header():
    promise = check_header(nifti_bytes()[:540], "scan.nii", ReadOptions())
    assert promise.file_bytes == len(nifti_bytes())
    assert promise.stacked_shape == (20, 18, 16, 1)


def test_nibabel_would_read_the_same(tmp_path):
    path = save(tmp_path, nifti_bytes(phantom().astype("f4"), scl_slope=1.5, scl_inter=3, version=2), "a.nii.gz")
    theirs, ours = nib.load(path), read_volume(path, ReadOptions(hu_offset=0))
    assert np.array_equal(ours.hu, np.maximum(theirs.get_fdata(), -1024).astype(np.float32))
    assert np.array_equal(ours.geometry.affine, theirs.affine)
