"""The list of scans an assembly trains and judges on: split, fold, checksums and what is wrong with them."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from voxicon.errors import ConfigError
from voxicon.io.atomic import write_text


@dataclass(frozen=True)
class ManifestRow:
    """One scan.

    Attributes:
        id: ``dataset/case``, unique.
        patient: Whose scan it is.
        split: ``train``, ``val``, ``test``, or ``excluded`` for scans that cannot be used.
        fold: Cross-validation fold, -1 for test and excluded scans.
        group: The same for scans that must stay together: one patient's, and copies of one scan.
        copy_of: First scan with the same image, empty for scans of their own.
        image_sha256: Of the CT's bytes.
        labels_sha256: Of the labels' bytes.
        shape: Voxels, such as ``512x512x133``.
        spacing_mm: Voxel size, such as ``0.70x0.70x2.50``.
        problem: Why it is excluded, or what was odd; empty when nothing was.
    """

    id: str
    patient: str
    split: str
    fold: int
    group: str
    copy_of: str = ""
    image_sha256: str = ""
    labels_sha256: str = ""
    shape: str = ""
    spacing_mm: str = ""
    problem: str = ""


_COLUMNS = tuple(field.name for field in fields(ManifestRow))
_SPLITS = ("train", "val", "test", "excluded")


def write_manifest(path: Path, rows: Iterable[ManifestRow]) -> None:
    """Rows as CSV in order of id; equal rows give equal bytes.

    Raises:
        OutputError: The file cannot be written.
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, _COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(row) for row in sorted(rows, key=lambda row: row.id))
    write_text(path, text.getvalue())


def read_manifest(path: Path) -> dict[str, ManifestRow]:
    """Rows by id. Columns that are not ours are ignored, so people may add some.

    Raises:
        ConfigError: Missing, a column is missing, or a value makes no sense; names file and line.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise ConfigError(
            f"{path}: cannot be read ({error.strerror}); make it with 'voxicon assembly check'"
        ) from error
    reader = csv.DictReader(io.StringIO(text))
    missing = {"id", "split"} - set(reader.fieldnames or ())
    if missing:
        raise ConfigError(f"{path}:1: has no column {', '.join(sorted(missing))}; expected {', '.join(_COLUMNS)}")
    rows: dict[str, ManifestRow] = {}
    for values in reader:
        row = _row(values, f"{path}:{reader.line_num}")
        if row.id in rows:
            raise ConfigError(f"{path}:{reader.line_num}: {row.id} is listed twice; keep one line per scan")
        rows[row.id] = row
    return rows


def _row(values: dict[str, str | None], place: str) -> ManifestRow:
    given = {name: values.get(name) or "" for name in _COLUMNS}
    if given["split"] not in _SPLITS:
        raise ConfigError(f"{place}: split is {given['split']!r}; expected {', '.join(_SPLITS)}")
    try:
        fold = int(given.pop("fold") or -1)
    except ValueError as error:
        raise ConfigError(f"{place}: fold is not a whole number; expected 0, 1, … or -1") from error
    patient = given["patient"] or given["id"]
    return ManifestRow(**{**given, "patient": patient, "group": given["group"] or patient}, fold=fold)
