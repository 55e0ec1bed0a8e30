"""A folder is a series, a file is NIfTI."""

import numpy as np
import pytest

from tests.io.dicom_files import GRID, HU, save, series
from tests.io.nifti_faults import nifti_bytes
from tests.io.nifti_faults import save as save_nifti
from voxicon.errors import BadGeometry, ConfigError, UnreadableFile
from voxicon.io.read_options import ReadOptions
from voxicon.io.scan import read_scan


@pytest.mark.parametrize("kind", [str, lambda path: path])
def test_the_same_scan_in_both_formats(tmp_path, kind):
    folder = save(tmp_path / "series", series())
    file = save_nifti(tmp_path, nifti_bytes(HU, affine=GRID.affine))
    by_series, by_file = read_scan(kind(folder)), read_scan(kind(file))
    assert by_series.geometry.same_grid(by_file.geometry)
    assert np.array_equal(by_series.hu, by_file.hu)


def test_options_reach_both_readers(tmp_path):
    folder = save(tmp_path / "series", series())
    file = save_nifti(tmp_path, nifti_bytes(HU, affine=GRID.affine))
    options = ReadOptions(hu_offset=100)
    assert np.array_equal(read_scan(folder, options).hu, read_scan(file, options).hu)
    assert read_scan(folder, options).hu[8, 7, 6] == HU[8, 7, 6] + 100
    with pytest.raises(ConfigError):
        read_scan(folder, ReadOptions(volume=1))


def test_neither(tmp_path):
    with pytest.raises(UnreadableFile):
        read_scan(tmp_path / "absent")
    with pytest.raises(BadGeometry):
        read_scan(save(tmp_path / "one", series()[:1]))
