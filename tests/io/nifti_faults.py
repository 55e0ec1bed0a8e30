"""Small NIfTI files, whole or broken in one known way, and the check that a refusal is a good one."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from numpy.typing import NDArray

from voxicon.errors import InputError
from voxicon.io.nifti import ReadOptions, read_volume
from voxicon.io.read_options import TRUST_HEADER

LPS_AFFINE = np.array([[-0.8, 0, 0, 120], [0, -0.8, 0, 90], [0, 0, 2.5, -300], [0, 0, 0, 1.0]])


def phantom(shape: tuple[int, int, int] = (20, 18, 16), seed: int = 0) -> NDArray[np.int16]:
    """A noisy slab of soft tissue with a fat rim, in air: Hounsfield units as a scanner would give them."""
    hu = np.full(shape, -1000.0)
    hu[2:-2, 2:-2] = -90
    hu[4:-4, 4:-4] = 50
    noise = np.random.default_rng(seed).normal(0, 12, shape)
    return np.clip(np.rint(hu + noise), -1024, 3071).astype(np.int16)


def nifti_bytes(
    voxels: NDArray[Any] | None = None,
    *,
    affine: NDArray[np.float64] = LPS_AFFINE,
    version: int = 1,
    endian: str = "<",
    after: bytes = b"",
    **fields: Any,
) -> bytes:
    """A plain NIfTI file with sform = qform = `affine` in mm; `fields` overwrite header fields last of all."""
    voxels = phantom() if voxels is None else voxels
    header = (nib.Nifti1Header if version == 1 else nib.Nifti2Header)(endianness=endian)
    header.set_data_shape(voxels.shape)
    header.set_data_dtype(voxels.dtype)
    header.set_xyzt_units("mm", "sec")
    header.set_sform(affine, code=1)
    header.set_qform(affine, code=1)
    header["vox_offset"] = 352 if version == 1 else 544
    header["magic"] = header.single_magic
    header["scl_slope"] = np.nan
    header["scl_inter"] = np.nan
    for field, value in fields.items():
        header[field] = value
    stored = voxels.astype(voxels.dtype.newbyteorder(endian))
    return header.binaryblock + bytes(4) + stored.tobytes(order="F") + after


def with_field(raw: bytes, start: int, value: bytes) -> bytes:
    """The same file with some bytes replaced."""
    return raw[:start] + value + raw[start + len(value) :]


def save(folder: Path, raw: bytes, name: str = "scan.nii") -> Path:
    """Write a file; a name that ends in .gz packs it."""
    path = folder / name
    path.write_bytes(gzip.compress(raw, 1, mtime=0) if name.endswith(".gz") else raw)
    return path


def refused(
    path: Path, code: str, kind: type[InputError], options: ReadOptions = TRUST_HEADER, read: Any = read_volume
) -> str:
    """Assert that a file is refused with this code by one line that names it; returns the line."""
    with pytest.raises(kind) as caught:
        read(path, options)
    message = str(caught.value)
    assert caught.value.code == code
    assert message.startswith(f"{path.name}: ")
    assert "expected" in message
    assert ";" in message
    assert "\n" not in message
    assert str(path.parent) not in message
    return message
