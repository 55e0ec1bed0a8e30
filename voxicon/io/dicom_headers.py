"""The DICOM images of a folder and the one series among them; no voxel is read."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from voxicon.errors import BadGeometry, ConfigError, NotCt, UnreadableFile

if TYPE_CHECKING:
    from pydicom import Dataset

_MAGIC_AT, _MAGIC = 128, b"DICM"

_FIRST_GROUPS = (b"\x02\x00", b"\x08\x00")
"""How a file without the 128 bytes of preamble starts: group 2 or 8, little endian. Source: DICOM PS3.10, 7.1."""

_DIRECTORY = "1.2.840.10008.1.3.10"
"""Media Storage Directory (a DICOMDIR file). Its links are never followed. Source: DICOM PS3.6, A."""

_PLAIN = ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2")
"""Transfer syntaxes that pack nothing: implicit, explicit, big endian. Source: DICOM PS3.5, 10."""

_RESULTS = ("SEG", "RTDOSE")
"""Modalities of objects that have rows and columns but are results, not images."""

_ENDINGS = (".dcm", ".dicom", ".ima")

_LEAST_SCATTERED = 3
"""Fewer images that each claim a series of their own are two pictures rather than one scattered series."""

_TAGS = [
    *("SOPClassUID", "ImageType", "Modality", "PatientID", "SeriesInstanceUID", "SeriesNumber"),
    *("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"),
    *("Rows", "Columns", "SamplesPerPixel", "NumberOfFrames", "BitsAllocated"),
    *("RescaleSlope", "RescaleIntercept", "RescaleType"),
]


@dataclass(frozen=True, eq=False)
class Header:
    """What one file says about its image.

    Attributes:
        path: The file.
        name: The file for messages: the folder's name and the path below it.
        data: The elements that placing and scaling need.
    """

    path: Path
    name: str
    data: Dataset

    @property
    def columns_rows(self) -> tuple[int, int]:
        """Pixels along a row, and number of rows."""
        return int(self.data.Columns), int(self.data.Rows)

    def text(self, keyword: str) -> str:
        """An element as text without blanks around it; empty when it is missing."""
        value = self.data.get(keyword)
        return "" if value is None else str(value).strip()

    def numbers(self, keyword: str, count: int) -> NDArray[np.float64] | None:
        """An element of so many finite numbers, (count,); None when it is missing or anything else."""
        try:
            values = np.atleast_1d(np.asarray(self.data.get(keyword), dtype=np.float64))
        except (TypeError, ValueError, OverflowError):
            return None
        return values if values.shape == (count,) and np.isfinite(values).all() else None


def find_images(folder: Path) -> tuple[list[Header], list[str]]:
    """Headers of all single images in a folder and below it, by path, and words about what was skipped.

    DICOMDIR, reports, files of other formats and hidden files are skipped.

    Raises:
        ConfigError: pydicom is not installed.
        UnreadableFile: No such folder or no image in it (``E-OPEN``, ``E-FORMAT``), a file that ends early
            (``E-TRUNC``), that is no DICOM although it is named so (``E-FORMAT``), or whose pixels are colors
            or many frames (``E-DTYPE``).
    """
    require_pydicom()
    if not folder.is_dir():
        raise UnreadableFile(
            f"{folder.name}: cannot be opened (no such folder); expected a folder of DICOM files; check the path",
            code="E-OPEN",
        )
    label = folder_name(folder)
    images, skipped = [], 0
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        header = _read_header(path, f"{label}/{path.relative_to(folder).as_posix()}")
        if header is None:
            skipped += not path.name.startswith(".")
        else:
            images.append(header)
    if not images:
        raise UnreadableFile(
            f"{label}: holds no DICOM image ({skipped} other files); expected the slices of one CT; "
            "give the folder that holds them",
            code="E-FORMAT",
        )
    return images, [f"{label}: {skipped} files that are no DICOM images were skipped"] if skipped else []


def ends_early(name: str, found: str) -> UnreadableFile:
    """The refusal of a file that lacks something every slice has; `found` says what was there."""
    return UnreadableFile(
        f"{name}: ends early or is damaged: {found}; expected a whole slice; copy the file again", code="E-TRUNC"
    )


def require_pydicom() -> None:
    """Refuse with the command that installs pydicom where it is missing.

    Raises:
        ConfigError: pydicom is not installed.
    """
    try:
        import pydicom  # noqa: F401
    except ImportError:
        raise ConfigError(
            "DICOM: the library pydicom is not installed; expected it for folders of slices; "
            'pip install "voxicon[dicom]"'
        ) from None


def folder_name(folder: Path) -> str:
    """The folder's own name, also for ``.`` and ``..``."""
    return folder.resolve().name


def ct_images(images: list[Header], label: str) -> tuple[list[Header], list[str]]:
    """The images that are CT and no localizer, and words about the others.

    Raises:
        NotCt: None is (``E-MODALITY``).
    """
    found = Counter(image.text("Modality") or "none" for image in images)
    ct = [image for image in images if image.text("Modality") == "CT"]
    slices = [image for image in ct if "LOCALIZER" not in image.text("ImageType").upper()]
    if not slices:
        kinds = ", ".join(f"{count} of modality {kind}" for kind, count in sorted(found.items()))
        raise NotCt(
            f"{label}: holds no slices of a CT (images: {kinds}; localizers: {len(ct)}); expected modality CT; "
            "give the folder of the CT series",
            code="E-MODALITY",
        )
    notes = []
    if others := len(images) - len(ct):
        notes.append(f"{label}: {others} images of another modality than CT were left out")
    if localizers := len(ct) - len(slices):
        notes.append(f"{label}: {localizers} localizer images were left out")
    return slices, notes


def one_series(images: list[Header], label: str) -> tuple[list[Header], list[str]]:
    """The images if they are one series, and words about odd ones.

    Pictures of a series in which nothing has a position (dose reports, screen shots) are left out where
    another series has one. Files that each claim a series of their own, as some anonymizers leave them, are
    one series of one patient; their positions are checked later like any others.

    Raises:
        BadGeometry: Several series (``E-SERIES``).
    """
    series: dict[str, list[Header]] = {}
    for image in images:
        series.setdefault(image.text("SeriesInstanceUID"), []).append(image)
    placed = {uid: some for uid, some in series.items() if any(i.text("ImagePositionPatient") for i in some)}
    notes = []
    if placed and len(placed) < len(series):
        left_out = len(images) - sum(map(len, placed.values()))
        notes.append(f"{label}: {left_out} images of series without any position were left out")
        series = placed
    groups = list(series.values())
    if len(groups) == 1:
        return groups[0], notes
    if _is_scattered(groups):
        notes.append(
            f"{label}: every file claims a series of its own (anonymizers do that); read as one series by its positions"
        )
        return [image for (image,) in groups], notes
    listed = "; ".join(
        f"series {some[0].text('SeriesNumber') or '?'}: {len(some)} images from {some[0].name.partition('/')[2]} on"
        for some in groups[:5]
    )
    raise BadGeometry(
        f"{label}: holds {len(groups)} series ({listed}{'; ...' if len(groups) > 5 else ''}); expected one; "
        "give the folder of one of them, or move its files into a folder of their own",
        code="E-SERIES",
    )


def _is_scattered(groups: list[list[Header]]) -> bool:
    patients = {image.text("PatientID") for some in groups for image in some}
    return len(groups) >= _LEAST_SCATTERED and all(len(some) == 1 for some in groups) and len(patients) == 1


def _read_header(path: Path, name: str) -> Header | None:
    """The header of an image; None for a file that is none."""
    try:
        with path.open("rb") as stream:
            head = stream.read(_MAGIC_AT + len(_MAGIC))
        size = path.stat().st_size
    except OSError as error:
        raise UnreadableFile(
            f"{name}: cannot be opened ({error.strerror or error}); expected a readable file; check its permissions",
            code="E-OPEN",
        ) from error
    marked = head[_MAGIC_AT:] == _MAGIC
    data = _parse(path) if marked or head[:2] in _FIRST_GROUPS else None
    kind = _sop_class(data)
    if not marked and not kind:
        _refuse_pretender(path, name, size)
        return None
    if kind.startswith(_DIRECTORY):
        return None
    if data is None:
        raise ends_early(name, f"got {size:,} bytes without a readable header")
    header = Header(path, name, data)
    if header.text("Modality") in _RESULTS:
        return None
    if not (header.text("Rows").strip("0") and header.text("Columns").strip("0")):
        # Every other object has a series too; a header without one was cut before it could tell its kind.
        if "Image Storage" in kind or not header.text("SeriesInstanceUID"):
            raise ends_early(name, f"got {size:,} bytes without Rows and Columns")
        return None
    _check_pixels(header, size)
    return header


def _parse(path: Path) -> Dataset | None:
    from pydicom import dcmread

    try:
        data = dcmread(path, stop_before_pixels=True, specific_tags=_TAGS, force=True)
        for _ in data:
            pass  # each step decodes an element, so that none can fail later
        return data
    except Exception:  # damaged bytes make a parser raise anything; all of it means the same
        return None


def _sop_class(data: Any) -> str:
    """What kind of object a file holds, as UID and name; empty when it does not say."""
    if data is None:
        return ""
    meta = data.file_meta.get("MediaStorageSOPClassUID")
    uid = meta if meta == _DIRECTORY else data.get("SOPClassUID")
    return f"{uid} {getattr(uid, 'name', '')}" if uid else ""


def _refuse_pretender(path: Path, name: str, size: int) -> None:
    """Refuse what must have been a slice once: skipping it would shorten the scan without a word."""
    if path.name.startswith("."):
        return
    if size == 0 or path.suffix.lower() in _ENDINGS:
        raise UnreadableFile(
            f"{name}: is no DICOM file ({size:,} bytes without its marks); expected a slice; copy it again, or "
            "remove it if it does not belong to the scan",
            code="E-FORMAT",
        )


def _check_pixels(header: Header, size: int) -> None:
    """Refuse what cannot be one gray slice, and a file shorter than the pixels it promises."""
    frames, samples = header.numbers("NumberOfFrames", 1), header.numbers("SamplesPerPixel", 1)
    for found, what in ((frames, "frames"), (samples, "values per pixel")):
        if found is not None and found[0] > 1:
            raise UnreadableFile(
                f"{header.name}: holds {found[0]:g} {what}; expected one gray slice per file; export the series as "
                "single CT images, or remove the file if it does not belong to the scan",
                code="E-DTYPE",
            )
    bits = header.numbers("BitsAllocated", 1)
    if bits is None:
        raise ends_early(header.name, f"got {size:,} bytes without BitsAllocated")
    promised = math.ceil(math.prod(header.columns_rows) * bits[0] / 8)
    if header.data.file_meta.get("TransferSyntaxUID", _PLAIN[0]) in _PLAIN and size < promised:
        raise ends_early(header.name, f"got {size:,} bytes, expected more than {promised:,} for its pixels")
