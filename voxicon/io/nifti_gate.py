"""The NIfTI header gate: what a header promises, or the reason why it cannot be believed."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import nibabel as nib
import numpy as np

from voxicon.core.geometry import Geometry
from voxicon.errors import BadGeometry, UnreadableFile
from voxicon.io.nifti_placement import place
from voxicon.io.read_options import ReadOptions

HEADER_BYTES = {1: 348, 2: 540}

MAX_EXTENSION_BYTES = 1 << 26
"""Voxels that start later than this: the offset is damaged; real extensions hold a header copy or some text."""

_MAGIC = {1: (344, b"n+1\0"), 2: (4, b"n+2\0\r\n\x1a\n")}

_VOXEL_TYPES = {
    2: "u1",
    4: "i2",
    8: "i4",
    16: "f4",
    64: "f8",
    256: "i1",
    512: "u2",
    768: "u4",
    1024: "i8",
    1280: "u8",
}
"""NIfTI datatype code to NumPy type. Source: nifti1.h, NIFTI_TYPE_*; colors, complex and 128-bit left out."""

_REFUSED_TYPES = {32: "complex", 128: "RGB color", 1792: "complex", 2048: "complex", 2304: "RGBA color"}


@dataclass(frozen=True, eq=False)
class Promise:
    """A header that passed the gate: where in the file which voxels are, and where in the body.

    Attributes:
        raw: The header's own bytes: 348 for NIfTI-1, 540 for NIfTI-2.
        geometry: The grid to use, after the user's options.
        n_volumes: Volumes in the file, at least 1.
        volume: The one to read.
        dtype: Stored type, byte order included.
        offset: First byte of the first voxel.
        slope: Value = stored × slope + intercept; 1 where the header has no scaling.
        intercept: See `slope`; 0 where the header has no scaling.
        intent_code: What the file says its values are; 0 when it says nothing.
        warnings: What was odd and what was done about it.
    """

    raw: bytes
    geometry: Geometry
    n_volumes: int
    volume: int
    dtype: np.dtype[Any]
    offset: int
    slope: float
    intercept: float
    intent_code: int
    warnings: tuple[str, ...]

    @property
    def stacked_shape(self) -> tuple[int, int, int, int]:
        """Shape of everything in the file: three axes of space, then volumes."""
        return (*self.geometry.shape, self.n_volumes)

    @property
    def file_bytes(self) -> int:
        """Length that the unpacked file must have."""
        return self.offset + math.prod(self.stacked_shape) * self.dtype.itemsize


def check_header(head: bytes, name: str, options: ReadOptions) -> Promise:
    """What a file promises, judged by its first bytes alone.

    Args:
        head: The first 540 bytes, or all there are.
        name: The file's name for messages.
        options: The user's answers to open questions.

    Raises:
        UnreadableFile: Not a NIfTI (``E-FORMAT``), cut inside the header (``E-TRUNC``), impossible numbers
            (``E-HEADER``), or voxels that are no plain numbers (``E-DTYPE``).
        BadGeometry: ``E-2D``, ``E-4D``, ``E-SPACING``, ``E-ORIENT``, ``E-FORMS`` or ``E-AFFINE``.
    """
    version = _sniff(head, name)
    raw = head[: HEADER_BYTES[version]]
    header = parse_header(raw)
    shape, n_volumes = _dimensions(header, name)
    dtype = _voxel_type(header, name)
    offset = _voxel_offset(header, name, HEADER_BYTES[version] + 4)
    volume, volume_notes = _choose_volume(n_volumes, name, options.volume)
    if int(header["dim"][0]) > 3 and n_volumes == 1:
        volume_notes = (f"{name}: has {int(header['dim'][0])} dimensions but one volume; read as 3D",)
    geometry, placement_notes = place(header, shape, name, options)
    slope, intercept = _scaling(header)
    return Promise(
        raw=raw,
        geometry=geometry,
        n_volumes=n_volumes,
        volume=volume,
        dtype=dtype,
        offset=offset,
        slope=slope,
        intercept=intercept,
        intent_code=int(header["intent_code"]),
        warnings=(*volume_notes, *placement_notes),
    )


def parse_header(raw: bytes) -> Any:
    """A nibabel header of 348 (NIfTI-1) or 540 (NIfTI-2) bytes, taken as they are."""
    kind: Any = nib.Nifti2Header if len(raw) == HEADER_BYTES[2] else nib.Nifti1Header
    return kind(raw, check=False)


def _sniff(head: bytes, name: str) -> int:
    """1 or 2 for the NIfTI version."""
    for version, (start, magic) in _MAGIC.items():
        if head[start : start + len(magic)] == magic:
            if len(head) < HEADER_BYTES[version]:
                raise _cut_in_header(name, len(head), HEADER_BYTES[version])
            return version
    if head[:4] in (b"\x5c\x01\0\0", b"\0\0\x01\x5c"):  # 348, either byte order
        if len(head) < HEADER_BYTES[1]:
            raise _cut_in_header(name, len(head), HEADER_BYTES[1])
        found = f"an Analyze or two-file header (magic {head[344:348]!r})"
    elif head[128:132] == b"DICM":
        found = "a DICOM file"
    else:
        found = f"starts with {head[:8].decode('latin-1')!r}" if head else "an empty file"
    raise UnreadableFile(
        f"{name}: not a NIfTI: {found}; expected a .nii or .nii.gz file in one piece; export or convert the scan again",
        code="E-FORMAT",
    )


def _cut_in_header(name: str, found: int, expected: int) -> UnreadableFile:
    return UnreadableFile(
        f"{name}: ends early: got {found} bytes, expected {expected} for the header alone; copy the file again",
        code="E-TRUNC",
    )


def _dimensions(header: Any, name: str) -> tuple[tuple[int, int, int], int]:
    """Shape in space, and the number of volumes."""
    dim = [int(n) for n in header["dim"]]
    n_axes = dim[0]
    if not 1 <= n_axes <= 7 or min(dim[1 : n_axes + 1]) < 1:
        raise UnreadableFile(
            f"{name}: header dim is {dim}; expected 3 to 7 axes of at least one voxel each; convert the scan again",
            code="E-HEADER",
        )
    sizes = dim[1 : n_axes + 1]
    x, y, z = [*sizes, 1, 1][:3]
    if min(x, y, z) < 2:
        raise BadGeometry(
            f"{name}: is flat ({x}×{y}×{z} voxels); expected a volume of at least two slices; give the whole series",
            code="E-2D",
        )
    return (x, y, z), math.prod(sizes[3:])


def _choose_volume(n_volumes: int, name: str, asked: int | None) -> tuple[int, tuple[str, ...]]:
    last = n_volumes - 1
    if asked is None and n_volumes > 1:
        raise BadGeometry(
            f"{name}: has {n_volumes} volumes; expected one; say which: volume=0 to volume={last}", code="E-4D"
        )
    if asked is not None and asked > last:
        raise BadGeometry(
            f"{name}: has {n_volumes} volumes, asked for was volume {asked}; expected 0 to {last}; choose among these",
            code="E-4D",
        )
    if n_volumes > 1:
        return asked or 0, (f"{name}: volume {asked} of {n_volumes} was read (counted from 0)",)
    return 0, ()


def _voxel_type(header: Any, name: str) -> np.dtype[Any]:
    code = int(header["datatype"])
    if code not in _VOXEL_TYPES:
        raise UnreadableFile(
            f"{name}: voxels are of type {code} ({_REFUSED_TYPES.get(code, 'unknown')}); expected one whole or real "
            "number per voxel; export the scan as 16-bit integers",
            code="E-DTYPE",
        )
    return np.dtype(_VOXEL_TYPES[code]).newbyteorder(header.endianness)


def _voxel_offset(header: Any, name: str, least: int) -> int:
    offset = float(header["vox_offset"])
    if not least <= offset <= MAX_EXTENSION_BYTES or offset != int(offset):
        raise UnreadableFile(
            f"{name}: header vox_offset is {offset:g}; expected a whole number of bytes from {least} to "
            f"{MAX_EXTENSION_BYTES}; convert the scan again",
            code="E-HEADER",
        )
    return int(offset)


def _scaling(header: Any) -> tuple[float, float]:
    """Slope and intercept; a slope of zero or NaN means the stored numbers are the values (nifti1.h)."""
    slope, intercept = float(header["scl_slope"]), float(header["scl_inter"])
    if slope == 0 or not math.isfinite(slope):
        return 1.0, 0.0
    return slope, intercept if math.isfinite(intercept) else 0.0
