"""The writer of example series: what it promises beyond being read back."""

import numpy as np
import pytest
from PIL import Image
from pydicom import dcmread

from tests.io.dicom_files import GRID, HU, SHAPE
from voxicon.core.geometry import Geometry
from voxicon.errors import BadGeometry, OutputError
from voxicon.io.dicom import read_mask_pngs, read_mask_series, read_series, slice_files
from voxicon.io.dicom_write import write_mask_pngs, write_series

MASK = HU > 0


def test_a_written_series_is_read_back(tmp_path):
    paths = write_series(tmp_path / "a" / "scan", HU, GRID, slope=0.5, intercept=-1024)
    volume = read_series(tmp_path / "a" / "scan")
    assert np.array_equal(volume.hu, np.maximum(HU, -1024))
    assert volume.geometry == GRID
    assert slice_files(tmp_path / "a" / "scan") == paths


def test_files_run_against_the_slices(tmp_path):
    paths = write_series(tmp_path, HU, GRID, pattern="image_{}")
    assert [path.name for path in paths] == [f"image_{11 - k}" for k in range(12)]
    first = dcmread(tmp_path / "image_0")
    assert first.InstanceNumber == 1
    assert first.ImagePositionPatient[2] == 12
    assert first.SliceThickness == 2
    assert len({first.StudyInstanceUID, first.SeriesInstanceUID, first.FrameOfReferenceUID}) == 3


def test_masks_beside_a_series_fit_it(tmp_path):
    write_series(tmp_path / "scan", HU, GRID)
    write_series(tmp_path / "mask", MASK.astype(np.float32), GRID, modality="OT")  # codespell:ignore ot
    pictures = write_mask_pngs(tmp_path / "Ground", MASK)
    like = read_series(tmp_path / "scan").geometry
    assert np.array_equal(read_mask_series(tmp_path / "mask", like), MASK)
    assert np.array_equal(read_mask_pngs(tmp_path / "Ground", slice_files(tmp_path / "scan"), like), MASK)
    assert [path.name for path in pictures][-1] == "liver_GT_000.png"
    assert set(np.unique(np.asarray(Image.open(pictures[6])))) == {0, 255}


def test_a_mirrored_grid_comes_back_with_its_slices_reversed(tmp_path):
    mirrored = Geometry(SHAPE, GRID.affine @ np.diag([-1, 1, 1, 1]))
    write_series(tmp_path, HU, mirrored)
    volume = read_series(tmp_path)
    assert np.array_equal(volume.hu, np.maximum(HU[..., ::-1], -1024))
    assert np.allclose(volume.geometry.to_world([1, 2, 0]), mirrored.to_world([1, 2, 11]))


def test_equal_input_gives_equal_bytes(tmp_path):
    first, second, other = (
        [path.read_bytes() for path in write_series(tmp_path / name, values, GRID)]
        for name, values in (("a", HU), ("b", HU), ("c", HU + 1))
    )
    assert first == second
    assert not set(first) & set(other)


def test_values_beyond_16_bits_are_clipped(tmp_path):
    loud = HU.astype(np.float64)
    loud[4, 4, 4] = 1e6
    write_series(tmp_path, loud, GRID)
    assert read_series(tmp_path).hu[4, 4, 4] == 32767


def test_what_slices_cannot_state(tmp_path):
    sheared = GRID.affine.copy()
    sheared[0, 2] = 0.5
    for grid in (Geometry(SHAPE, sheared), Geometry((2, 2, 2), np.eye(4))):
        with pytest.raises(BadGeometry, match="perpendicular"):
            write_series(tmp_path / "array", HU, grid)
    assert not (tmp_path / "array").exists()


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("in the way")
    for write in (lambda f: write_series(f, HU, GRID), lambda f: write_mask_pngs(f, MASK)):
        with pytest.raises(OutputError):
            write(tmp_path / "file")
