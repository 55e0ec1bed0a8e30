"""Reading and writing together: worlds, label maps, byte identity, atomicity."""

import gzip
import itertools
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.io.nifti_faults import LPS_AFFINE, nifti_bytes, phantom, refused, save
from voxicon.core.geometry import Geometry
from voxicon.errors import BadGeometry, OutputError, UnreadableFile
from voxicon.io import nifti
from voxicon.io.nifti import ReadOptions, case_name, read_labels, read_volume, write_labels, write_mask

ORIENTATIONS = [
    "".join(letters) for axes in itertools.permutations(["RL", "AP", "SI"]) for letters in itertools.product(*axes)
]
RAS_AFFINE = np.array([[0.9, 0, 0, -70], [0, 1.1, 0, -40], [0, 0, 3, 500], [0, 0, 0, 1.0]])
PLACEMENT_FIELDS = (
    *("qform_code", "sform_code", "quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_y", "qoffset_z"),
    *("srow_x", "srow_y", "srow_z", "pixdim", "xyzt_units"),
)


def reoriented(code, tilt):
    """The phantom stored with its axes along `code`, and the affine that keeps every voxel in its place."""
    turn = nib.orientations.ornt_transform(nib.orientations.axcodes2ornt("RAS"), nib.orientations.axcodes2ornt(code))
    voxels = nib.orientations.apply_orientation(phantom(), turn)
    cos, sin = np.cos(tilt), np.sin(tilt)
    rotation = np.array([[1, 0, 0, 0], [0, cos, -sin, 0], [0, sin, cos, 0], [0, 0, 0, 1]])
    placed = rotation @ RAS_AFFINE
    return voxels, placed @ nib.orientations.inv_ornt_aff(turn, phantom().shape), placed


def test_there_are_48_orientations():
    assert len(set(ORIENTATIONS)) == 48


@settings(max_examples=60, deadline=None)
@given(code=st.sampled_from(ORIENTATIONS), tilt=st.sampled_from([0.0, 0.2]), version=st.sampled_from([1, 2]))
def test_row_27_every_orientation_puts_values_in_the_same_place(tmp_path_factory, code, tilt, version):
    voxels, affine, placed = reoriented(code, tilt)
    folder = tmp_path_factory.mktemp("orientation")
    volume = read_volume(save(folder, nifti_bytes(voxels, affine=affine, version=version)))
    assert volume.geometry.orientation == code
    assert volume.source.warnings == ()

    index = np.random.default_rng(1).integers(0, phantom().shape, (50, 3))
    world = Geometry(phantom().shape, placed).to_world(index)
    there = volume.geometry.to_index(world)
    assert np.abs(there - np.rint(there)).max() < 1e-3
    assert (volume.hu[tuple(np.rint(there).astype(int).T)] == phantom()[tuple(index.T)]).all()

    write_mask(folder / "mask.nii.gz", volume.hu > 0, volume.geometry, volume.source.header)
    mask, geometry = read_labels(folder / "mask.nii.gz")
    assert (mask == (volume.hu > 0)).all()
    assert geometry == volume.geometry


@pytest.mark.parametrize(
    ("file", "case"),
    [("a.nii.gz", "a"), ("a.nii", "a"), ("A.NII.GZ", "A"), ("a.b.nii.gz", "a.b"), ("a.gz", "a"), ("a", "a")],
)
def test_case_name(file, case):
    assert case_name(Path("/x") / file) == case


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("endian", ["<", ">"])
@pytest.mark.parametrize("codes", [(1, 1), (2, 1), (1, 0), (0, 1), (4, 3)])
def test_results_keep_the_bytes_that_place_the_scan(tmp_path, version, endian, codes):
    raw = nifti_bytes(version=version, endian=endian, sform_code=codes[0], qform_code=codes[1], qoffset_x=120.1)
    volume = read_volume(save(tmp_path, raw))
    write_mask(tmp_path / "m.nii.gz", volume.hu > 0, volume.geometry, volume.source.header)
    theirs, ours = nib.load(tmp_path / "scan.nii").header, nib.load(tmp_path / "m.nii.gz").header
    for field in PLACEMENT_FIELDS:
        assert theirs[field].tobytes() == ours[field].tobytes(), field
    assert type(theirs) is type(ours)
    assert ours.endianness == endian
    assert (nib.load(tmp_path / "m.nii.gz").affine == nib.load(tmp_path / "scan.nii").affine).all()


def test_a_mask_says_that_it_is_one_and_nothing_of_the_patient(tmp_path):
    raw = nifti_bytes(
        np.stack([phantom(), phantom()], axis=-1),
        descrip=b"Doe^Jane",
        aux_file=b"Doe^Jane",
        db_name=b"Doe^Jane",
        intent_name=b"Doe^Jane",
        scl_slope=2,
        scl_inter=5,
        cal_max=400,
        cal_min=-100,
        toffset=3,
        intent_p1=7,
        slice_end=9,
    )
    volume = read_volume(save(tmp_path, raw), ReadOptions(volume=1))
    path = tmp_path / "m.nii.gz"
    write_mask(path, volume.hu > 0, volume.geometry, volume.source.header)
    unpacked = gzip.decompress(path.read_bytes())
    assert b"Doe" not in unpacked
    assert len(unpacked) == 352 + 20 * 18 * 16
    image = nib.load(path)
    header = image.header
    assert image.shape == (20, 18, 16)
    assert image.get_data_dtype() == np.uint8
    stored = nib.Nifti1Header(unpacked[:348])
    assert (stored["scl_slope"], stored["scl_inter"], stored["vox_offset"]) == (1, 0, 352)
    for field in ("cal_min", "cal_max", "toffset", "intent_code", "intent_p1", "slice_end"):
        assert header[field] == 0, field
    assert set(np.unique(np.asanyarray(image.dataobj))) == {0, 1}
    assert (np.asanyarray(image.dataobj) == (volume.hu > 0)).all()


@pytest.mark.parametrize("version", [1, 2])
def test_labels_are_marked_and_keep_their_type(tmp_path, version):
    volume = read_volume(save(tmp_path, nifti_bytes(version=version, endian=">")))
    labels = np.random.default_rng(0).integers(0, 400, volume.hu.shape).astype(np.uint16)
    write_labels(tmp_path / "l.nii.gz", labels, volume.geometry, volume.source.header, b"names")
    again, geometry = read_labels(tmp_path / "l.nii.gz")
    image = nib.load(tmp_path / "l.nii.gz")
    assert again.dtype == np.uint16
    assert (again == labels).all()
    assert geometry == volume.geometry
    assert int(image.header["intent_code"]) == 1002
    assert image.header.extensions[0].get_content().strip() == b"names"
    assert (np.asanyarray(image.dataobj) == labels).all()
    start = 352 if version == 1 else 544
    extension = gzip.decompress((tmp_path / "l.nii.gz").read_bytes())[start : start + 16]
    assert extension[8:] == b"names   "  # blanks: a reader that strips no zeros still finds text


def test_equal_input_gives_equal_bytes(tmp_path):
    mask = phantom() > 0
    for name in ("a.nii.gz", "b.nii.gz"):
        write_mask(tmp_path / name, mask, Geometry(mask.shape, LPS_AFFINE))
    assert (tmp_path / "a.nii.gz").read_bytes() == (tmp_path / "b.nii.gz").read_bytes()
    assert (tmp_path / "a.nii.gz").read_bytes()[4:8] == bytes(4)  # gzip mtime


@pytest.mark.parametrize("order", ["C", "F"])
def test_memory_order_and_slabs_do_not_matter(tmp_path, monkeypatch, order):
    mask = np.array(phantom() > 0, order=order)
    monkeypatch.setattr("voxicon.io.nifti._BLOCK_VOXELS", 20 * 18 * 3)
    write_mask(tmp_path / "m.nii.gz", mask, Geometry(mask.shape, LPS_AFFINE))
    assert (np.asanyarray(nib.load(tmp_path / "m.nii.gz").dataobj) == mask).all()


@pytest.mark.parametrize("slab_slices", [2, 3, 100])
def test_a_mask_in_its_box_is_the_mask(tmp_path, monkeypatch, slab_slices):
    monkeypatch.setattr("voxicon.io.nifti._BLOCK_VOXELS", 20 * 18 * slab_slices)
    grid = Geometry((20, 18, 16), LPS_AFFINE)
    whole, box = np.zeros(grid.shape, bool), (slice(3, 9), slice(0, 4), slice(5, 12))
    whole[box] = np.random.default_rng(0).random((6, 4, 7)) > 0.5
    write_mask(tmp_path / "whole.nii.gz", whole, grid)
    write_mask(tmp_path / "box.nii.gz", whole[box], grid, box=box)
    assert gzip.decompress((tmp_path / "whole.nii.gz").read_bytes()) == gzip.decompress(
        (tmp_path / "box.nii.gz").read_bytes()
    )
    with pytest.raises(BadGeometry, match=r"shape \(20, 18, 16\), its box \(6, 4, 7\)"):
        write_mask(tmp_path / "wrong.nii.gz", whole, grid, box=box)
    assert not (tmp_path / "wrong.nii.gz").exists()


def test_empty_mask(tmp_path):
    mask = np.zeros((5, 4, 3), bool)
    write_mask(tmp_path / "m.nii.gz", mask, Geometry(mask.shape, LPS_AFFINE))
    again, _ = read_labels(tmp_path / "m.nii.gz")
    assert again.dtype == np.uint8
    assert again.shape == (5, 4, 3)
    assert not again.any()


def test_a_volume_made_in_memory_is_placed_by_both_forms(tmp_path):
    mask = phantom() > 0
    geometry = Geometry(mask.shape, LPS_AFFINE)
    write_mask(tmp_path / "m.nii.gz", mask, geometry)
    header = nib.load(tmp_path / "m.nii.gz").header
    assert (int(header["sform_code"]), int(header["qform_code"])) == (1, 1)
    assert np.allclose(header.get_qform(), LPS_AFFINE, atol=1e-4)
    assert header.get_xyzt_units()[0] == "mm"
    assert np.allclose(header["pixdim"][1:4], (0.8, 0.8, 2.5))
    assert read_labels(tmp_path / "m.nii.gz")[1].same_grid(geometry)


def test_a_sheared_volume_made_in_memory_has_no_qform(tmp_path):
    sheared = LPS_AFFINE.copy()
    sheared[0, 2] = 0.5
    mask = phantom() > 0
    write_mask(tmp_path / "m.nii.gz", mask, Geometry(mask.shape, sheared))
    header = nib.load(tmp_path / "m.nii.gz").header
    assert (int(header["sform_code"]), int(header["qform_code"])) == (1, 0)
    assert np.allclose(header.get_sform(), sheared, atol=1e-4)


def test_an_axis_too_long_for_nifti_1(tmp_path):
    mask = np.zeros((40_000, 2, 2), bool)
    mask[39_999] = True
    write_mask(tmp_path / "m.nii.gz", mask, Geometry(mask.shape, np.eye(4)))
    assert isinstance(nib.load(tmp_path / "m.nii.gz"), nib.Nifti2Image)
    assert (read_labels(tmp_path / "m.nii.gz")[0] == mask).all()


def test_mask_of_another_shape(tmp_path):
    with pytest.raises(BadGeometry, match="grid"):
        write_mask(tmp_path / "m.nii.gz", np.zeros((2, 2, 2), bool), Geometry((3, 3, 3), np.eye(4)))
    assert list(tmp_path.iterdir()) == []


def test_a_failure_while_writing_leaves_the_old_result(tmp_path, monkeypatch):
    mask = phantom() > 0
    path = tmp_path / "m.nii.gz"
    write_mask(path, mask, Geometry(mask.shape, LPS_AFFINE))
    before = path.read_bytes()

    def half(*_args):
        yield b"half"
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(nifti, "_blocks", half)
    with pytest.raises(OutputError, match="No space left"):
        write_mask(path, ~mask, Geometry(mask.shape, LPS_AFFINE))
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["m.nii.gz"]


@pytest.mark.parametrize("dtype", ["u1", "i1", "i2", "u2", "i4", "u4", "i8", "u8"])
def test_label_types_are_kept(tmp_path, dtype):
    labels = np.random.default_rng(0).integers(0, 100, (6, 5, 4)).astype(dtype)
    again, geometry = read_labels(save(tmp_path, nifti_bytes(labels, endian=">")))
    assert again.dtype == np.dtype(dtype)
    assert (again == labels).all()
    assert geometry.orientation == "LPS"


def test_whole_numbers_stored_as_floats_or_scaled_are_labels(tmp_path):
    labels = np.random.default_rng(0).integers(-3, 100, (6, 5, 4))
    again, _ = read_labels(save(tmp_path, nifti_bytes(labels.astype(np.float32))))
    assert again.dtype == np.int32
    assert (again == labels).all()
    again, _ = read_labels(save(tmp_path, nifti_bytes(labels.astype(np.int16), scl_slope=2, scl_inter=1)))
    assert (again == labels * 2 + 1).all()


@pytest.mark.parametrize("bad", [0.5, np.nan, np.inf, 2.0**40])
def test_other_floats_are_no_labels(tmp_path, bad):
    labels = np.zeros((6, 5, 4), np.float32)
    labels[3, 3, 3] = bad
    refused(save(tmp_path, nifti_bytes(labels)), "E-DTYPE", UnreadableFile, read=read_labels)


def test_labels_of_one_value_are_fine(tmp_path):
    assert (read_labels(save(tmp_path, nifti_bytes(np.zeros((6, 5, 4), np.uint8))))[0] == 0).all()
