"""NIfTI files: scans and label maps in, masks out on the scan's own grid."""

from __future__ import annotations

import gzip
import struct
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import EllipsisType
from typing import Any, Protocol

import nibabel as nib
import numpy as np
from nibabel.arrayproxy import ArrayProxy
from numpy.typing import NDArray

from voxicon.core.components import Box
from voxicon.core.geometry import Geometry
from voxicon.core.storage import pieces, release, zeros
from voxicon.core.volume import Source, Volume
from voxicon.errors import BadGeometry, UnreadableFile
from voxicon.io.atomic import open_atomic
from voxicon.io.hounsfield import check_intent, settle_hu
from voxicon.io.nifti_bytes import FileBytes, head_of, read_bytes, read_head
from voxicon.io.nifti_gate import Promise, check_header, parse_header
from voxicon.io.nifti_placement import is_sheared, places_alike
from voxicon.io.read_options import TRUST_HEADER, ReadOptions

__all__ = [
    "Planes", "ReadOptions", "case_name", "peek", "read_labels", "read_volume", "write_labels", "write_mask",
    "write_shares", "write_volume",
]  # fmt: skip

INTENT_LABEL = 1002
"""NIFTI_INTENT_LABEL: each value is a name in some list."""

SHARE = float(np.nextafter(np.float32(1 / 255), np.float32(0)))
"""``scl_slope`` of levels from 0 to 255: 1/255 rounded down, because the nearest float32 lies above and would make 255
more than 1."""

_MM = 2
_SCANNER = 1
_BLOCK_VOXELS = 1 << 22
_LONGEST_NIFTI1_AXIS = 32767
_GZIP_LEVEL = 1
"""Masks are nearly all zeros: higher levels cost several times the time and save little."""


class Planes(Protocol):
    """Voxels of a box of a grid that are made when they are written, a few slices at a time; an array is one."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the box."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the voxels."""

    def __getitem__(self, index: tuple[EllipsisType, slice], /) -> NDArray[Any]:
        """Some slices: (X, Y, z)."""


def case_name(path: Path) -> str:
    """The file's name without ``.nii``, ``.nii.gz`` or ``.gz``."""
    name = path.name
    for ending in (".gz", ".nii"):
        if name.lower().endswith(ending) and len(name) > len(ending):
            name = name[: -len(ending)]
    return name


def read_volume(path: Path | str, options: ReadOptions = TRUST_HEADER) -> Volume:
    """A CT in Hounsfield units with the place of every voxel, or one line saying why not.

    The header is checked before any voxel is touched, a packed file is read to its checksum, and what was
    mended on the way (units, padding, a stored offset, contradicting placements) is in `source.warnings`.

    Args:
        path: A NIfTI-1 or NIfTI-2 file in one piece, plain or packed.
        options: Answers to what the header leaves open.

    Returns:
        (X, Y, Z) float32 HU of at least -1024 in the file's own voxel order.

    Raises:
        UnreadableFile: ``E-OPEN``, ``E-FORMAT``, ``E-TRUNC``, ``E-CRC``, ``E-SIZE``, ``E-HEADER``, ``E-DTYPE``.
        BadGeometry: ``E-2D``, ``E-4D``, ``E-SPACING``, ``E-ORIENT``, ``E-FORMS``, ``E-AFFINE``.
        NotCt: ``E-INTENT``, ``E-NAN``, ``E-EMPTY``, ``E-HU``.
    """
    path = Path(path)
    promise, file = _open(path, options, ct=True)
    hu: NDArray[np.float32] = _voxels(promise, file, np.dtype(np.float32))
    notes = settle_hu(hu, path.name, options.hu_offset)
    source = Source(
        name=case_name(path),
        path=str(path),
        sha256=file.sha256,
        header=promise.raw,
        warnings=(*file.warnings, *promise.warnings, *notes),
    )
    return Volume(hu, promise.geometry, source)


def peek(path: Path | str, options: ReadOptions = TRUST_HEADER) -> tuple[Geometry, int]:
    """The grid that `read_volume` would give, and the bytes of the file unpacked; no voxel is read.

    Raises:
        UnreadableFile: As `read_volume`, as far as the header tells.
        BadGeometry: As `read_volume`.
    """
    path = Path(path)
    promise = check_header(read_head(path), path.name, options)
    return promise.geometry, promise.file_bytes


def read_labels(path: Path | str, options: ReadOptions = TRUST_HEADER) -> tuple[NDArray[Any], Geometry]:
    """A label map and its grid; the file is checked like a scan's, its values only for being whole numbers.

    Args:
        path: A NIfTI-1 or NIfTI-2 file in one piece, plain or packed.
        options: Answers to what the header leaves open; `hu_offset` means nothing here.

    Returns:
        (X, Y, Z) integers: of the stored type, or int32 where whole numbers were stored as floats or scaled.
        A map without any label is all zeros.

    Raises:
        UnreadableFile: As `read_volume`; ``E-DTYPE`` also for values that are not whole numbers.
        BadGeometry: As `read_volume`.
    """
    path = Path(path)
    promise, file = _open(path, options, ct=False)
    if promise.dtype.kind in "iu" and (promise.slope, promise.intercept) == (1, 0):
        return _voxels(promise, file, promise.dtype.newbyteorder("=")), promise.geometry
    values = _voxels(promise, file, np.dtype(np.float64))
    top = np.iinfo(np.int32)
    # Written so that NaN fails too.
    if not bool(((values == np.rint(values)) & (values >= top.min) & (values <= top.max)).all()):
        raise UnreadableFile(
            f"{path.name}: holds fractions, NaN or numbers beyond 32 bits; expected a label map of whole numbers; "
            "give the label file, resampled with nearest neighbour if at all",
            code="E-DTYPE",
        )
    return values.astype(np.int32), promise.geometry


def write_mask(
    path: Path, mask: NDArray[np.bool_] | Planes, geometry: Geometry, source_header: bytes = b"", box: Box | None = None
) -> None:
    """One class as a packed uint8 file of 0 and 1, placed exactly like the scan it was made from.

    Args:
        path: Where; replaced whole or left alone. Equal input gives equal bytes.
        mask: (X, Y, Z) boolean; may be empty of voxels. With a box, what lies in it, slice by slice if need be.
        geometry: The mask's grid, from the scan.
        source_header: `Source.header` of the scan. Its affine bytes, codes and units are kept when they place
            voxels where `geometry` does; empty bytes, or a header that was overridden on reading, give a
            header that states `geometry` in mm with code 1.
        box: Where in the grid the mask lies, all around it being empty; the whole grid when left out. One organ fills
            a few percent of a scan.

    Raises:
        BadGeometry: Mask and geometry, or mask and box, differ in shape.
        OutputError: The file cannot be written.
    """
    _write(path, mask, np.dtype(np.uint8), geometry, source_header, box=box)


def write_labels(
    path: Path,
    labels: NDArray[np.integer[Any]] | Planes,
    geometry: Geometry,
    source_header: bytes = b"",
    extension: bytes = b"",
    box: Box | None = None,
) -> None:
    """A label map as a packed file of the array's own type, marked as labels and placed like the scan.

    Args:
        path: Where; replaced whole or left alone. Equal input gives equal bytes.
        labels: (X, Y, Z) integers.
        geometry: The map's grid, from the scan.
        source_header: As for `write_mask`.
        extension: Content of a header extension of code 0; none when empty.
        box: As for `write_mask`.

    Raises:
        BadGeometry: Labels and geometry, or labels and box, differ in shape.
        OutputError: The file cannot be written.
    """
    _write(path, labels, labels.dtype, geometry, source_header, intent_code=INTENT_LABEL, extension=extension, box=box)


def write_volume(
    path: Path, hu: NDArray[np.integer[Any] | np.floating[Any]], geometry: Geometry, source_header: bytes = b""
) -> None:
    """A CT as a packed file of the array's own type, in HU.

    Args:
        path: Where; ends in ``.nii.gz`` to be read again. Replaced whole or left alone.
        hu: (X, Y, Z) whole or real numbers.
        geometry: The grid.
        source_header: As for `write_mask`; without it the grid is placed in mm with code 1.

    Raises:
        BadGeometry: Values and geometry differ in shape.
        OutputError: The file cannot be written.
    """
    _write(path, hu, hu.dtype, geometry, source_header)


def write_shares(path: Path, levels: NDArray[np.uint8], geometry: Geometry, source_header: bytes = b"") -> None:
    """Numbers from 0 to 1 as a packed uint8 file of 0 to 255 with the scale in its header.

    Args:
        path: Where; replaced whole or left alone. Equal input gives equal bytes.
        levels: (X, Y, Z), 255 times a share.
        geometry: The grid.
        source_header: As for `write_mask`.

    Raises:
        BadGeometry: Levels and geometry differ in shape.
        OutputError: The file cannot be written.
    """
    _write(path, levels, levels.dtype, geometry, source_header, scale=SHARE)


def _open(path: Path, options: ReadOptions, *, ct: bool) -> tuple[Promise, FileBytes]:
    check = partial(check_header, name=path.name, options=options)

    def length(head: bytes) -> int:
        promise = check(head)
        if ct:
            check_intent(promise.intent_code, path.name)
        return promise.file_bytes

    file = read_bytes(path, length)
    return check(head_of(file.content)), file


def _voxels(promise: Promise, file: FileBytes, dtype: np.dtype[Any]) -> NDArray[Any]:
    """The chosen volume as `dtype`, scaled once; slab by slab, so no second whole copy exists. Closes the file."""
    layout = (promise.stacked_shape, promise.dtype, promise.offset, promise.slope, promise.intercept)
    stored = ArrayProxy(file.content, layout, mmap=False)  # type: ignore[no-untyped-call]
    values = zeros(promise.geometry.shape, dtype, order="F")
    # A float64 too large for float32 becomes infinite, which the value checks count.
    with file.content, np.errstate(over="ignore"):
        for piece in pieces(values):
            values[piece] = stored[(*piece, promise.volume)]
    return values


def _write(  # noqa: PLR0913  what a file may be besides its voxels
    path: Path,
    array: NDArray[Any] | Planes,
    dtype: np.dtype[Any],
    geometry: Geometry,
    source_header: bytes,
    *,
    intent_code: int = 0,
    extension: bytes = b"",
    box: Box | None = None,
    scale: float | None = None,
) -> None:
    expected = geometry.shape if box is None else tuple(side.stop - side.start for side in box)
    if array.shape != expected:
        raise BadGeometry(
            f"{path.name}: array has shape {array.shape}, its {'grid' if box is None else 'box'} {expected}; expected "
            "the same; give the geometry that belongs to the array"
        )
    header = _header_for(geometry, source_header)
    tail = _extension_block(extension, header.endianness)
    _describe(header, geometry.shape, dtype, intent_code, len(tail))
    if scale is not None:
        header["scl_slope"], header["cal_max"] = scale, 1
    stored = dtype.newbyteorder(header.endianness)
    with open_atomic(path) as file, gzip.GzipFile("", "wb", _GZIP_LEVEL, file, mtime=0) as packed:
        packed.write(header.binaryblock + tail)
        if box is None:
            array = np.asarray(array)
            box = _occupied(array)
            array = array[box]
        for block in _blocks(array, box, geometry.shape, stored):
            packed.write(block)


def _occupied(array: NDArray[Any]) -> Box:
    """All slices of an array, but of each no more than where any of them has something."""
    some = [np.zeros(n, dtype=bool) for n in array.shape[:2]]
    for piece in pieces(array):
        for axis, others in enumerate(((1, 2), (0, 2))):
            some[axis][piece[axis]] |= array[piece].any(axis=others)
    return _extent(some[0]), _extent(some[1]), slice(0, array.shape[2])


def _blocks(
    inside: NDArray[Any] | Planes, box: Box, shape: tuple[int, int, int], stored: np.dtype[Any]
) -> Iterator[bytes]:
    """The voxels of a grid in file order (x fastest), slab by slab: zero but for what lies in a box."""
    # Turning C order into file order is most of the cost of writing, and most of a mask is empty.
    x, y, filled = box
    depth = max(1, _BLOCK_VOXELS // max(1, shape[0] * shape[1]))
    for first in range(0, shape[2], depth):
        last = min(shape[2], first + depth)
        block = np.zeros((*shape[:2], last - first), dtype=stored, order="F")
        low, high = max(first, filled.start), min(last, filled.stop)
        if low < high:
            block[x, y, low - first : high - first] = inside[..., low - filled.start : high - filled.start]
            if isinstance(inside, np.ndarray):
                release(inside)
        yield block.tobytes(order="F")


def _extent(occupied: NDArray[np.bool_]) -> slice:
    places = np.flatnonzero(occupied)
    return slice(int(places[0]), int(places[-1]) + 1) if len(places) else slice(0, 0)


def _header_for(geometry: Geometry, source_header: bytes) -> Any:
    """The scan's header where it places voxels like `geometry`; else one that does."""
    if source_header:
        header = parse_header(source_header)
        if places_alike(header, geometry):
            return header
    else:
        kind: Any = nib.Nifti2Header if max(geometry.shape) > _LONGEST_NIFTI1_AXIS else nib.Nifti1Header
        header = kind()
    header["pixdim"] = [1, *geometry.spacing_mm, 0, 0, 0, 0]
    header["xyzt_units"] = _MM
    header.set_sform(geometry.affine, code=_SCANNER)
    if is_sheared(geometry.affine):
        header["qform_code"] = 0
    else:
        header.set_qform(geometry.affine, code=_SCANNER)
    return header


def _describe(
    header: Any, shape: tuple[int, int, int], dtype: np.dtype[Any], intent_code: int, tail_bytes: int
) -> None:
    """Make a header say what is in this file; where the voxels are is left as it is."""
    header["dim"] = [3, *shape, 1, 1, 1, 1]
    header.set_data_dtype(dtype)
    header["vox_offset"] = int(header["sizeof_hdr"]) + tail_bytes
    header["scl_slope"], header["scl_inter"] = 1, 0
    header["intent_code"] = intent_code
    # Times, ranges and free text describe the scan, not the mask; free text may hold a patient's name.
    for field in ("cal_min", "cal_max", "toffset", "slice_start", "slice_end", "slice_code", "slice_duration"):
        header[field] = 0
    for field in ("intent_p1", "intent_p2", "intent_p3"):
        header[field] = 0
    for field in ("intent_name", "aux_file", "data_type", "db_name"):
        if field in header.keys():  # noqa: SIM118  a nibabel header has no __contains__
            header[field] = b""
    header["descrip"] = b"voxicon"


def _extension_block(content: bytes, endianness: str) -> bytes:
    """The four bytes after the header and, where there is content, one extension of code 0 (nifti1.h)."""
    if not content:
        return bytes(4)
    # Blanks, not zeros, fill up to a multiple of 16: text stays text for readers that strip nothing.
    size = -(-(len(content) + 8) // 16) * 16
    return b"\1\0\0\0" + struct.pack(f"{endianness}ii", size, 0) + content.ljust(size - 8)
