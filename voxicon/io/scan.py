"""Any scan: a folder is a DICOM series, a file is NIfTI."""

from __future__ import annotations

from pathlib import Path

from voxicon.core.volume import Volume
from voxicon.io.dicom import read_series
from voxicon.io.nifti import read_volume
from voxicon.io.read_options import TRUST_HEADER, ReadOptions


def read_scan(path: Path | str, options: ReadOptions | None = None) -> Volume:
    """A CT in Hounsfield units from a NIfTI file or a folder of DICOM slices, told apart by being a folder.

    Args:
        path: A file for `read_volume` or a folder for `read_series`.
        options: Answers to what the header leaves open.

    Returns:
        (X, Y, Z) float32 HU of at least -1024 in the stored voxel order.

    Raises:
        InputError: As `read_volume` or `read_series`.
        ConfigError: The folder needs pydicom and it is not installed, or an option does not fit a series.
    """
    read = read_series if Path(path).is_dir() else read_volume
    return read(path, TRUST_HEADER if options is None else options)
