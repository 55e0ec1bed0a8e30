"""Plain CT series and PNG masks as scanners and challenges leave them: for example datasets and tests.

Files are numbered against the order of the slices, as scanners that run from head to feet number them, so that
whoever trusts file names instead of positions is found out.
"""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from voxicon.core.geometry import Geometry
from voxicon.errors import BadGeometry
from voxicon.io.atomic import open_atomic, write_bytes
from voxicon.io.dicom_headers import require_pydicom

if TYPE_CHECKING:
    from pydicom import Dataset
    from pydicom.uid import UID

_RAS_TO_LPS = np.array([-1.0, -1.0, 1.0])

_ASKEW_COSINE = 1e-4
"""Axes further from a right angle than this cannot be stated by DICOM slices."""


def write_series(
    folder: Path,
    values: NDArray[Any],
    geometry: Geometry,
    *,
    pattern: str = "{:04d}.dcm",
    modality: str = "CT",
    slope: float = 1,
    intercept: float = 0,
) -> list[Path]:
    """Write a volume as one DICOM series of 16-bit slices; equal input gives equal bytes.

    Args:
        folder: Where; made if missing.
        values: (X, Y, Z) numbers; HU, or the stored values of a mask. Rounded to what 16 bits and `slope` can tell.
        geometry: Their grid; its axes are perpendicular. One that is a mirror image (X × Y against Z) is read back
            with its slices in the other order.
        pattern: Names of the files by number; the last slice is number 0.
        modality: What the files say they are.
        slope: Value = stored × slope + intercept.
        intercept: See `slope`.

    Returns:
        The file of each slice by index along Z.

    Raises:
        ConfigError: pydicom is not installed.
        BadGeometry: The grid's axes are not perpendicular, or array and grid differ in shape.
        OutputError: A file cannot be written.
    """
    slices = series_slices(values, geometry, modality=modality, slope=slope, intercept=intercept)
    from pydicom import dcmwrite

    paths = []
    for k, data in enumerate(slices):
        packed = io.BytesIO()
        dcmwrite(packed, data, enforce_file_format=True)
        path = folder / pattern.format(len(slices) - 1 - k)
        write_bytes(path, packed.getvalue())
        paths.append(path)
    return paths


def series_slices(
    values: NDArray[Any], geometry: Geometry, *, modality: str = "CT", slope: float = 1, intercept: float = 0
) -> list[Dataset]:
    """The slices that `write_series` writes, by index along Z, not yet written.

    Raises:
        ConfigError: pydicom is not installed.
        BadGeometry: The grid's axes are not perpendicular, or array and grid differ in shape.
    """
    require_pydicom()
    from pydicom.uid import generate_uid

    cosines = geometry.affine[:3, :3] / geometry.spacing_mm
    if values.shape != geometry.shape or np.abs(cosines.T @ cosines - np.eye(3)).max() > _ASKEW_COSINE:
        raise BadGeometry(
            f"array of shape {values.shape} on a grid of shape {geometry.shape} and directions "
            f"{cosines.round(4).tolist()}; expected one shape and perpendicular axes; resample it first"
        )
    top = np.iinfo(np.int16)
    stored = np.clip(np.rint((np.asarray(values, np.float64) - intercept) / slope), top.min, top.max).astype("<i2")
    seed = hashlib.sha256(stored.tobytes() + geometry.affine.tobytes() + modality.encode()).hexdigest()
    study, series, frame = (generate_uid(entropy_srcs=[seed, name]) for name in ("study", "series", "frame"))
    slices = []
    for k in range(geometry.shape[2]):
        data = _slice(stored[..., k], generate_uid(entropy_srcs=[seed, str(k)]), modality)
        data.StudyInstanceUID, data.SeriesInstanceUID, data.FrameOfReferenceUID = study, series, frame
        data.InstanceNumber = geometry.shape[2] - k
        data.ImagePositionPatient = _decimals(geometry.to_world([0, 0, k]) * _RAS_TO_LPS)
        data.ImageOrientationPatient = _decimals((cosines[:, :2] * _RAS_TO_LPS[:, None]).T.ravel())
        data.PixelSpacing = _decimals([geometry.spacing_mm[1], geometry.spacing_mm[0]])
        data.SliceThickness = _decimals([geometry.spacing_mm[2]])[0]
        data.RescaleSlope, data.RescaleIntercept = _decimals([slope, intercept])
        slices.append(data)
    return slices


def write_mask_pngs(folder: Path, mask: NDArray[np.bool_], pattern: str = "liver_GT_{:03d}.png") -> list[Path]:
    """Write a mask as one black and white PNG per slice, numbered like the files of `write_series`.

    Returns:
        The file of each slice by index along Z.

    Raises:
        OutputError: A file cannot be written.
    """
    from PIL import Image

    paths = []
    for k in range(mask.shape[2]):
        path = folder / pattern.format(mask.shape[2] - 1 - k)
        with open_atomic(path) as stream:
            Image.fromarray(np.where(mask[..., k].T, np.uint8(255), np.uint8(0))).save(stream, format="PNG")
        paths.append(path)
    return paths


def _slice(stored: NDArray[np.int16], uid: UID, modality: str) -> Dataset:
    """A slice without its place: the elements that say what the file is, and its pixels."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID = CTImageStorage
    data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID = uid
    data.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    data.Modality = modality
    data.PatientName = data.PatientID = "EXAMPLE"
    data.SeriesNumber = 1
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.Columns, data.Rows = stored.shape
    data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 16, 16, 15, 1
    data.PixelData = stored.T.tobytes()
    return data


def _decimals(numbers: Any) -> list[str]:
    """Numbers as texts of at most 16 characters. Source: DICOM PS3.5, 6.2, value representation DS."""
    from pydicom.valuerep import format_number_as_ds

    return [format_number_as_ds(float(number) + 0.0) for number in numbers]
