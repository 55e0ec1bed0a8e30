"""Series, mask series and PNG slices: values and order; what is no series is refused in the other test files."""

import hashlib
import sys

import highdicom
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    HTJ2KLossless,
    ImplicitVRLittleEndian,
    JPEGLSLossless,
    RLELossless,
)
from scipy.spatial.transform import Rotation

from tests.io.dicom_files import GRID, HU, SHAPE, move, refused, save, series
from voxicon.core.geometry import Geometry
from voxicon.errors import BadGeometry, ConfigError, NotCt, UnreadableFile
from voxicon.io.dicom import read_mask_pngs, read_mask_series, read_series, slice_files
from voxicon.io.dicom_write import write_mask_pngs
from voxicon.io.nifti import read_volume
from voxicon.io.read_options import ReadOptions

MASK = np.random.default_rng(3).random(SHAPE) < 0.3
SPACINGS = st.floats(0.3, 5).map(lambda s: round(s, 3))


@settings(max_examples=12)
@given(
    turn=st.one_of(st.just((0.0, 0.0, 0.0)), st.tuples(*[st.floats(-180, 180)] * 3)),
    spacing=st.tuples(SPACINGS, SPACINGS, SPACINGS),
    origin=st.tuples(*[st.floats(-500, 500)] * 3),
    scale=st.sampled_from([(1, 0), (1, -1024), (2, -1000), (0.5, -1024)]),
    names=st.permutations([f"{k}" for k in range(SHAPE[2])]),
)
def test_any_placement_and_scale_comes_back_whatever_the_files_are_called(
    tmp_path_factory, turn, spacing, origin, scale, names
):
    slope, intercept = scale
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("xyz", turn, degrees=True).as_matrix() * spacing
    affine[:3, 3] = origin
    slices = series(HU, Geometry(SHAPE, affine), slope=slope, intercept=intercept)
    folder = save(tmp_path_factory.mktemp("series"), slices, names)
    volume = read_series(folder)
    assert np.abs(volume.geometry.affine - affine).max() < 1e-6
    assert volume.hu.dtype == np.float32
    # Rounding to stored values moves HU by half a slope at most; the phantom's range fits 16 bits.
    assert np.abs(volume.hu - np.maximum(HU, -1024)).max() <= slope / 2
    assert [file.name for file in slice_files(folder)] == list(names)

    theirs = highdicom.get_volume_from_series(slices)
    index = np.random.default_rng(0).integers(0, SHAPE, (30, 3))
    lps = volume.geometry.to_world(index) * [-1, -1, 1]
    there = np.linalg.solve(theirs.affine, np.column_stack([lps, np.ones(30)]).T)[:3].T
    assert np.abs(there - np.rint(there)).max() < 1e-4
    assert np.array_equal(theirs.array[tuple(np.rint(there).astype(int).T)], volume.hu[tuple(index.T)])


def test_every_slice_has_its_own_scale(tmp_path):
    slices = series(HU + 1024, slope=1, intercept=0)
    for k, data in enumerate(slices):
        data.RescaleSlope, data.RescaleIntercept = 1 + k / 16, -1024 - k
    hu = read_series(save(tmp_path, slices)).hu
    expected = (HU + 1024.0) * (1 + np.arange(12) / 16) - 1024 - np.arange(12)
    assert np.array_equal(hu, np.maximum(expected, -1024).astype(np.float32))


def test_source_says_where_it_came_from(tmp_path):
    folder = save(tmp_path / "case7", series())
    source = read_series(folder).source
    files = [(folder / f"{k:03d}.dcm").read_bytes() for k in range(12)]
    assert (source.name, source.path, source.header) == ("case7", str(folder), b"")
    assert source.sha256 == hashlib.sha256(b"".join(files)).hexdigest()
    assert source.warnings == ()


def test_padding_and_offsets_are_settled_as_for_nifti(tmp_path):
    padded = HU.copy()
    padded[0, 0] = -3024
    volume = read_series(save(tmp_path, series(padded)))
    assert volume.hu.min() == -1024
    assert any("padding" in warning for warning in volume.source.warnings)
    shifted = read_series(tmp_path, ReadOptions(hu_offset=10))
    assert shifted.hu[8, 7, 6] == volume.hu[8, 7, 6] + 10


@pytest.mark.parametrize(
    "syntax", [ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian, RLELossless, JPEGLSLossless]
)
def test_row_42_packed_slices_equal_plain_ones(tmp_path, syntax):
    slices = series()
    for data in slices:
        if syntax.is_compressed:
            data.compress(syntax, generate_instance_uid=False)
        data.file_meta.TransferSyntaxUID = syntax
    assert np.array_equal(read_series(save(tmp_path, slices)).hu, np.maximum(HU, -1024))


def test_row_42_a_packing_without_a_decoder_is_named(tmp_path):
    slices = series()
    for data in slices:
        data.compress(RLELossless, generate_instance_uid=False)
    slices[0].file_meta.TransferSyntaxUID = HTJ2KLossless
    message = refused(save(tmp_path, slices), "E-TS", UnreadableFile)
    assert "/000.dcm" in message
    assert "1.2.840.10008.1.2.4.201" in message


def test_row_40_a_packed_slice_that_ends_early(tmp_path):
    slices = series()
    slices[4].compress(JPEGLSLossless, generate_instance_uid=False)
    folder = save(tmp_path, slices)
    whole = (folder / "004.dcm").read_bytes()
    (folder / "004.dcm").write_bytes(whole[:-150])
    assert "/004.dcm" in refused(folder, "E-TRUNC", UnreadableFile)


def test_row_45_files_without_preamble(tmp_path):
    folder = save(tmp_path, series())
    for file in folder.iterdir():
        raw = file.read_bytes()
        start = raw.index(b"\x08\x00\x08\x00CS")  # ImageType, the first element after group 2
        file.write_bytes(raw[start:])
    assert np.array_equal(read_series(folder).hu, np.maximum(HU, -1024))


def test_row_76_bits_above_those_stored_mean_nothing(tmp_path):
    slices = series(HU + 1024)
    for data in slices:
        data.BitsStored, data.HighBit, data.PixelRepresentation = 12, 11, 0
        data.RescaleIntercept = -1024
        data.PixelData = (np.frombuffer(data.PixelData, "<u2") | 0x8000).tobytes()
    assert np.array_equal(read_series(save(tmp_path, slices)).hu, np.maximum(HU, -1024))


@pytest.mark.parametrize(
    ("element", "value"),
    [("RescaleSlope", None), ("RescaleIntercept", None), ("RescaleSlope", 0), ("RescaleType", "Z_EFF")],
)
def test_row_76_values_that_cannot_become_hu(tmp_path, element, value):
    slices = series()
    if value is None:
        del slices[5][element]
    else:
        setattr(slices[5], element, value)
    message = refused(save(tmp_path, slices), "E-HU", NotCt)
    assert "/005.dcm" in message
    assert element in message


def test_gray_levels_are_no_ct(tmp_path):
    refused(save(tmp_path, series(np.random.default_rng(0).integers(0, 256, SHAPE))), "E-HU", NotCt)


@pytest.mark.parametrize("options", [ReadOptions(volume=1), ReadOptions(spacing_mm=(1, 1, 1))])
def test_options_that_a_series_cannot_follow(tmp_path, options):
    with pytest.raises(ConfigError, match="leave it out"):
        read_series(save(tmp_path, series()), options)


def test_options_that_a_series_does_not_need(tmp_path):
    options = ReadOptions(volume=0, use="sform", assume_orientation="RAS")
    assert read_series(save(tmp_path, series()), options).geometry == read_series(tmp_path).geometry


def test_without_pydicom(tmp_path, monkeypatch):
    folder = save(tmp_path, series())
    monkeypatch.setitem(sys.modules, "pydicom", None)
    for read in (read_series, slice_files):
        with pytest.raises(ConfigError, match=r'pip install "voxicon\[dicom\]"'):
            read(folder)


def test_real_slices_equal_their_nifti(real_data):
    volume = read_series(real_data / "liver_slab")
    theirs = read_volume(real_data / "liver_slab" / "ct.nii.gz")
    assert volume.geometry.same_grid(theirs.geometry)
    assert np.array_equal(volume.hu, theirs.hu)
    # The files are numbered from head to feet.
    assert [file.name for file in slice_files(real_data / "liver_slab")] == ["03.dcm", "02.dcm", "01.dcm"]


@pytest.mark.parametrize("modality", ["CT", "OT"])  # codespell:ignore ot
@pytest.mark.parametrize("scale", [(1, 0), (1, -1024)])
def test_a_mask_series_is_what_is_not_zero_as_stored(tmp_path, modality, scale):
    slope, intercept = scale
    slices = series(MASK * 255, modality=modality)
    for data in slices:
        data.RescaleSlope, data.RescaleIntercept = slope, intercept
    names = [f"image_{k}" for k in np.random.default_rng(1).permutation(12)]
    assert np.array_equal(read_mask_series(save(tmp_path, slices, names), GRID), MASK)


def test_an_empty_mask_series(tmp_path):
    mask = read_mask_series(save(tmp_path, series(np.zeros(SHAPE))), GRID)
    assert mask.dtype == bool
    assert mask.shape == SHAPE
    assert not mask.any()


def test_masks_with_rounded_positions_still_fit(tmp_path):
    slices = series(MASK)
    for data in slices:
        move(data, 0.05, -0.05, 0.1)
    assert np.array_equal(read_mask_series(save(tmp_path, slices), GRID), MASK)


def changed(affine=None, shape=SHAPE):
    return series(np.zeros(shape), Geometry(shape, GRID.affine if affine is None else affine))


def shifted(axis, mm):
    affine = GRID.affine.copy()
    affine[axis, 3] += mm
    return affine


@pytest.mark.parametrize(
    "slices",
    [
        changed(shifted(0, 0.2)),
        changed(shifted(2, 1)),
        changed(shifted(2, 2)),
        changed(shifted(2, -2)),
        changed(GRID.affine @ np.diag([1.1, 1, 1, 1])),
        changed(GRID.affine @ np.diag([1, 1.1, 1, 1])),
        changed(shape=(15, 14, 12)),
        changed(shape=(16, 15, 12)),
        changed(shape=(16, 14, 13)),
        changed(GRID.affine @ np.diag([-1, -1, 1, 1])),
    ],
    ids=["beside", "between", "above", "below", "wide", "tall", "narrow", "high", "longer", "turned"],
)
def test_masks_of_another_grid(tmp_path, slices):
    assert "its grid 16 × 14 × 12" in refused(save(tmp_path, slices), "E-GRID", BadGeometry, read_mask_series, GRID)


def test_masks_with_a_slice_missing_or_twice(tmp_path):
    slices = series(MASK)
    folder = save(tmp_path / "missing", slices[:5] + slices[6:])
    assert "none for slice 5" in refused(folder, "E-GRID", BadGeometry, read_mask_series, GRID)
    folder = save(tmp_path / "twice", [*slices, slices[3]])
    assert "012.dcm and 003.dcm" in refused(folder, "E-GRID", BadGeometry, read_mask_series, GRID)


def test_pngs_belong_to_the_files_of_the_same_rank(tmp_path):
    # As in CHAOS, the first file is the topmost slice, so pairing by position would turn the mask upside down.
    dicom = save(tmp_path / "DICOM_anon", series(), [f"i{11 - k:04d},0000b.dcm" for k in range(12)])
    ground = tmp_path / "Ground"
    for k in range(12):
        ground.mkdir(exist_ok=True)
        Image.fromarray(MASK[..., 11 - k].T.copy()).save(ground / f"liver_GT_{k:03d}.png")
    (ground / "._liver_GT_000.png").write_bytes(b"left by a Mac")
    files = slice_files(dicom)
    assert np.array_equal(read_mask_pngs(ground, files, GRID), MASK)
    assert np.array_equal(read_mask_pngs(ground, files, GRID, "liver_GT_*.png"), MASK)


def test_numbers_in_names_count_as_numbers(tmp_path):
    dicom = save(tmp_path / "dicom", series(), [f"IMG-0004-{k}.dcm" for k in range(12)])
    write_mask_pngs(tmp_path / "ground", MASK[..., ::-1], "{:03d}.png")
    assert np.array_equal(read_mask_pngs(tmp_path / "ground", slice_files(dicom), GRID), MASK)


def test_pngs_that_do_not_fit(tmp_path):
    files = slice_files(save(tmp_path / "dicom", series()))
    ground = tmp_path / "ground"
    write_mask_pngs(ground, MASK)
    message = refused(ground, "E-GRID", BadGeometry, read_mask_pngs, files, GRID, "other_*.png")
    assert "0 pictures other_*.png for 12 DICOM files and 12 slices" in message
    refused(ground, "E-GRID", BadGeometry, read_mask_pngs, files[1:], GRID)
    refused(ground, "E-GRID", BadGeometry, read_mask_pngs, files, Geometry((16, 14, 11), GRID.affine))
    message = refused(ground, "E-GRID", BadGeometry, read_mask_pngs, files, Geometry((14, 16, 12), GRID.affine))
    assert "16 × 14 pixels; expected 14 × 16" in message
    (ground / "liver_GT_004.png").unlink()
    refused(ground, "E-GRID", BadGeometry, read_mask_pngs, files, GRID)


def test_pngs_that_are_damaged_or_colored(tmp_path):
    files = slice_files(save(tmp_path / "dicom", series()))
    ground = tmp_path / "ground"
    write_mask_pngs(ground, MASK)
    picture = ground / "liver_GT_004.png"
    whole = picture.read_bytes()
    for raw in (b"", b"no picture", whole[:50], whole[:-20]):
        picture.write_bytes(raw)
        message = refused(ground, "E-TRUNC", UnreadableFile, read_mask_pngs, files, GRID)
        assert message.startswith("ground/liver_GT_004.png: ")
    Image.new("RGBA", (16, 14)).save(picture)
    refused(ground, "E-DTYPE", UnreadableFile, read_mask_pngs, files, GRID)
