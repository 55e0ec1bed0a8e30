"""One CT series from a folder of DICOM files, and masks stored as DICOM series or as PNG slices beside one.

Voxel order is the pixel data's own: X runs along a row (column index), Y along a column (row index), Z from slice to
slice as `place` orders them.
"""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxicon.core.geometry import Geometry
from voxicon.core.volume import Source, Volume
from voxicon.errors import BadGeometry, ConfigError, NotCt, UnreadableFile
from voxicon.io.dicom_headers import Header, ct_images, ends_early, find_images, folder_name, one_series
from voxicon.io.dicom_placement import place, plane_of
from voxicon.io.hounsfield import settle_hu
from voxicon.io.read_options import TRUST_HEADER, ReadOptions

__all__ = ["read_mask_pngs", "read_mask_series", "read_series", "slice_files"]

FIT_VOXELS = 0.1
"""A mask slice may lie this far from its place on the scan's grid: headers are rounded when masks are exported."""

HU_TYPES = ("", "HU", "HU_MOD", "US")
"""What rescaled values of a CT may be; an empty type means HU. Source: DICOM PS3.3, C.11.1.1.2 and C.8.2.1."""

_GRAY_MODES = ("1", "L", "P", "I", "I;16", "I;16B")
"""Pillow's names for pictures of one whole number per pixel."""


def read_series(folder: Path | str, options: ReadOptions = TRUST_HEADER) -> Volume:
    """The one CT series in a folder and below it, in Hounsfield units, or one line saying why not.

    Slices are placed by their positions alone and scaled by each one's own slope and intercept. What was left out
    (localizers, other modalities, other files) or mended is in `source.warnings`.

    Args:
        folder: DICOM files of any name; uncompressed, or compressed in a way that pydicom can unpack here.
        options: Only `hu_offset` means something here; `use` and `assume_orientation` answer questions that DICOM
            does not leave open.

    Returns:
        (X, Y, Z) float32 HU of at least -1024. `source.name` is the folder's name, `source.sha256` the hash of the
        slices' files one after the other in the order of Z, and `source.header` empty.

    Raises:
        ConfigError: pydicom is not installed, or `volume` or `spacing_mm` is given.
        UnreadableFile: ``E-OPEN``, ``E-FORMAT``, ``E-TRUNC``, ``E-DTYPE``, ``E-TS``.
        BadGeometry: ``E-SERIES`` and whatever `place` refuses.
        NotCt: ``E-MODALITY``, ``E-HU`` and whatever `settle_hu` refuses.
    """
    folder = Path(folder)
    _refuse_options(options, folder)
    ordered, geometry, notes = _placed_series(folder)
    hu = np.empty(geometry.shape, dtype=np.float32, order="F")
    digest = hashlib.sha256()
    for k, header in enumerate(ordered):
        stored = _stored(header, digest.update)
        slope, intercept = _rescale(header)
        # A float64 too large for float32 becomes infinite, which the value checks count.
        with np.errstate(over="ignore"):
            hu[..., k] = stored.T * slope + intercept
    label = folder_name(folder)
    notes += settle_hu(hu, label, options.hu_offset)
    source = Source(name=label, path=str(folder), sha256=digest.hexdigest(), warnings=tuple(notes))
    return Volume(hu, geometry, source)


def slice_files(folder: Path | str) -> list[Path]:
    """The file of every slice that `read_series` reads, by index along Z.

    Raises:
        ConfigError: pydicom is not installed.
        UnreadableFile: As `read_series`.
        BadGeometry: As `read_series`.
        NotCt: ``E-MODALITY``.
    """
    return [header.path for header in _placed_series(Path(folder))[0]]


def read_mask_series(folder: Path | str, like: Geometry) -> NDArray[np.bool_]:
    """A mask stored as a DICOM series, slice by slice at its place on the scan's grid.

    Args:
        folder: One series of any modality, such as ``MASKS_DICOM/liver``; whatever is not zero as stored is inside,
            and rescaling is ignored.
        like: The grid of the scan as `read_series` gives it.

    Returns:
        (X, Y, Z) bool; may be empty of voxels.

    Raises:
        ConfigError: pydicom is not installed.
        UnreadableFile: As `read_series`.
        BadGeometry: ``E-SERIES``, ``E-ORIENT``, or the slices are not those of the grid (``E-GRID``).
    """
    folder = Path(folder)
    images, _ = find_images(folder)
    label = folder_name(folder)
    headers, _ = one_series(images, label)
    found: dict[int, Header] = {}
    for header in headers:
        k = _slice_index(header, like)
        if k in found:
            raise BadGeometry(
                f"{label}: {header.path.name} and {found[k].path.name} lie at the same place; expected one slice per "
                "place; remove one of them",
                code="E-GRID",
            )
        found[k] = header
    if len(found) < like.shape[2]:
        absent = min(set(range(like.shape[2])) - set(found))
        raise BadGeometry(
            f"{label}: has {len(found)} slices, the scan {like.shape[2]} (none for slice {absent}); expected one for "
            "each; copy the masks again",
            code="E-GRID",
        )
    mask = np.zeros(like.shape, dtype=bool, order="F")
    for k, header in found.items():
        mask[..., k] = _stored(header).T != 0
    return mask


def read_mask_pngs(
    folder: Path | str, files: Sequence[Path], like: Geometry, pattern: str = "*.png"
) -> NDArray[np.bool_]:
    """A mask stored as one picture per DICOM slice, such as the ``Ground`` folders of CHAOS.

    Such pictures carry no position. They belong to the DICOM files in the order of both names (numbers inside names
    count as numbers), which need not be the order of the slices in the body.

    Args:
        folder: Holds the pictures.
        files: The file of every slice by index along Z, from `slice_files`.
        like: The grid of the scan as `read_series` gives it.
        pattern: Which files of the folder are the pictures; hidden files never are.

    Returns:
        (X, Y, Z) bool: whatever is not zero is inside; may be empty of voxels.

    Raises:
        BadGeometry: Numbers of pictures, files and slices, or sizes, differ (``E-GRID``).
        UnreadableFile: A picture is damaged (``E-TRUNC``) or not gray (``E-DTYPE``).
    """
    folder = Path(folder)
    pictures = sorted((p for p in folder.glob(pattern) if not p.name.startswith(".")), key=_natural)
    if not len(pictures) == len(files) == like.shape[2]:
        raise BadGeometry(
            f"{folder_name(folder)}: {len(pictures)} pictures {pattern} for {len(files)} DICOM files and "
            f"{like.shape[2]} slices; expected one for each; copy the dataset again",
            code="E-GRID",
        )
    mask = np.zeros(like.shape, dtype=bool, order="F")
    by_name = sorted(range(len(files)), key=lambda k: _natural(files[k]))
    for picture, k in zip(pictures, by_name, strict=True):
        mask[..., k] = _read_picture(picture, like.shape[:2]).T != 0
    return mask


def _placed_series(folder: Path) -> tuple[list[Header], Geometry, list[str]]:
    label = folder_name(folder)
    images, skipped = find_images(folder)
    slices, left_out = ct_images(images, label)
    series, odd = one_series(slices, label)
    ordered, geometry = place(series, label)
    return ordered, geometry, skipped + left_out + odd


def _refuse_options(options: ReadOptions, folder: Path) -> None:
    for name, given in (("volume", options.volume or None), ("spacing_mm", options.spacing_mm)):
        if given is not None:
            raise ConfigError(
                f"{folder_name(folder)}: {name}={given} was given for a DICOM series; expected it for NIfTI files "
                "only, since DICOM slices have one volume and positions; leave it out"
            )


def _rescale(header: Header) -> tuple[float, float]:
    slope, intercept = header.numbers("RescaleSlope", 1), header.numbers("RescaleIntercept", 1)
    if slope is None or intercept is None or slope[0] == 0:
        raise NotCt(
            f"{header.name}: RescaleSlope is {header.text('RescaleSlope') or 'missing'} and RescaleIntercept "
            f"{header.text('RescaleIntercept') or 'missing'}; expected two numbers that turn stored values into "
            "Hounsfield units; export the series again as the scanner gave it",
            code="E-HU",
        )
    if (kind := header.text("RescaleType").upper()) not in HU_TYPES:
        raise NotCt(
            f"{header.name}: RescaleType is {kind}; expected HU; give the series in Hounsfield units", code="E-HU"
        )
    return float(slope[0]), float(intercept[0])


def _stored(header: Header, update: Callable[[bytes], None] | None = None) -> NDArray[Any]:
    """The stored values of one slice, (rows, columns), unpacked but not rescaled."""
    from pydicom import dcmread
    from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

    try:
        raw = header.path.read_bytes()
        data = dcmread(io.BytesIO(raw), force=True)
        if "TransferSyntaxUID" not in data.file_meta:
            # A file without preamble does not name its encoding, but the parser found it out.
            implicit = data.original_encoding[0]
            data.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian
        stored: NDArray[Any] = data.pixel_array
    except Exception as error:  # damaged bytes make parsers and codecs raise anything
        raise _not_unpacked(header, error) from error
    if update is not None:
        update(raw)
    return stored


def _not_unpacked(header: Header, error: Exception) -> UnreadableFile:
    from pydicom.pixels.decoders.base import get_decoder
    from pydicom.uid import UID

    syntax = UID(header.data.file_meta.get("TransferSyntaxUID", ""))
    try:
        usable = not syntax or get_decoder(syntax).is_available
    except NotImplementedError:
        usable = False
    if usable:
        return ends_early(header.name, f"its pixels cannot be unpacked ({error})")
    return UnreadableFile(
        f"{header.name}: pixels are packed as {syntax.name} ({syntax}), which cannot be unpacked here; expected an "
        "uncompressed series; decompress it (for instance with gdcmconv --raw), or pip install python-gdcm",
        code="E-TS",
    )


def _slice_index(header: Header, like: Geometry) -> int:
    """Index along Z of the grid's slice that a mask slice covers pixel by pixel."""
    columns, rows = header.columns_rows
    plane = plane_of(header)
    step = plane.cosines * plane.pixel_mm
    far = np.array([[0, 0], [columns - 1, 0], [0, rows - 1]])
    index = like.to_index(plane.origin + far @ step.T)
    k = int(np.rint(index[0, 2]))
    apart = float(np.abs(index - np.column_stack([far, [k] * 3])).max())
    if (columns, rows) != like.shape[:2] or not 0 <= k < like.shape[2] or apart > FIT_VOXELS:
        raise BadGeometry(
            f"{header.name}: {columns} × {rows} pixels from voxel ({', '.join(f'{i:.4g}' for i in index[0])}) of the "
            f"scan on; expected a slice of its grid {' × '.join(map(str, like.shape))}; give the masks made for this "
            "scan",
            code="E-GRID",
        )
    return k


def _natural(path: Path) -> tuple[Any, ...]:
    """Sorts names as people do: image_2 before image_10."""
    parts = re.split(r"(\d+)", path.name)
    return (*((int(part), "") if part.isdecimal() else (-1, part) for part in parts), (-1, str(path)))


def _read_picture(path: Path, expected: tuple[int, int]) -> NDArray[Any]:
    """The values of a gray picture, (rows, columns)."""
    from PIL import Image

    name = f"{path.parent.name}/{path.name}"
    try:
        raw = path.read_bytes()
        with Image.open(io.BytesIO(raw), formats=["PNG"]) as picture:
            size, mode = picture.size, picture.mode
            picture.verify()  # loading alone forgives checksums and a missing end; a verified picture cannot be loaded
        with Image.open(io.BytesIO(raw), formats=["PNG"]) as picture:
            values: NDArray[Any] = np.asarray(picture)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise UnreadableFile(
            f"{name}: is no whole picture ({type(error).__name__}); expected a PNG; copy the file again",
            code="E-TRUNC",
        ) from error
    if size != expected:
        raise BadGeometry(
            f"{name}: has {size[0]} × {size[1]} pixels; expected {expected[0]} × {expected[1]} as the DICOM slices; "
            "give the masks made for this scan",
            code="E-GRID",
        )
    if mode not in _GRAY_MODES:
        raise UnreadableFile(
            f"{name}: is a picture of type {mode}; expected one gray value per pixel; give the masks as distributed",
            code="E-DTYPE",
        )
    return values
