"""Lesions planted into a file: where its organ masks come from, and the folder that holds the outcome."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from voxicon.core.concepts import Vocabulary
from voxicon.core.masks import MaskSet
from voxicon.core.volume import Volume
from voxicon.data.annotation import read_annotation
from voxicon.data.card import DatasetCard
from voxicon.data.harmonise import harmonise
from voxicon.data.layout import Case
from voxicon.data.sides import body_midline_mm
from voxicon.errors import OutputError
from voxicon.io.atomic import file_sha256, write_text
from voxicon.io.masks import read_masks, write_masks
from voxicon.io.nifti import case_name, write_volume
from voxicon.io.nifti_gate import parse_header
from voxicon.planting import PlantedScan, Request
from voxicon.result import CASE_FILE, DISCLAIMER, remove_file
from voxicon.version import __version__

if TYPE_CHECKING:
    from voxicon.segmenter import Segmenter

RECORD: Final = "planted.json"
"""Written last: a folder that has it is complete."""

CT: Final = "ct.nii.gz"

_INT16 = np.iinfo(np.int16)


@dataclass(frozen=True)
class Organs:
    """Masks to plant into.

    Attributes:
        masks: By class, on the scan's grid.
        origin: Where they came from, for the record: ``kind`` (labels, result or weights), names and hashes.
    """

    masks: MaskSet
    origin: Mapping[str, Any] = field(default_factory=dict)


def organs_of_labels(volume: Volume, labels: Path, card: DatasetCard) -> Organs:
    """Masks of all classes that a card annotates, from a label map with its dataset's own values.

    Raises:
        InputError: The labels cannot be read, or lie on another grid than the scan.
        CardError: They hold none of the card's values.
    """
    case = Case(card, case_name(labels), Path(volume.source.path), labels, {}, frozenset(card.annotates))
    known = card.vocabulary()
    classes = tuple(name for name in known.names if name in card.annotates)
    sided = any(card.annotates[name].side for name in classes)
    midline_mm = body_midline_mm(volume) if sided else None
    targets = harmonise(read_annotation(case, volume), card, classes, midline_mm=midline_mm)
    origin = {"kind": "labels", "file": labels.name, "sha256": file_sha256(labels), "card": card.id}
    return Organs(targets.masks, origin)


def organs_of_result(volume: Volume, folder: Path) -> Organs:
    """Masks from a result folder, one file per class in ``segmentations/`` or in the folder itself.

    Files that are not named like a class are left out.

    Raises:
        InputError: ``E-ORGAN``, no mask lies there; or a file cannot be read.
        BadGeometry: A mask lies on another grid than the scan.
    """
    masks = read_masks(folder, volume.geometry, Vocabulary.default())
    return Organs(masks, {"kind": "result", "folder": folder.name, "classes": list(masks)})


def organs_by_weights(volume: Volume, segmenter: Segmenter, progress: Callable[[int, int], None]) -> Organs:
    """Masks of everything that weights find in the scan.

    Raises:
        InputError: The scan cannot be used.
    """
    result = segmenter.segment(volume, progress=progress)
    weights = {"name": segmenter.name, "sha256": segmenter.checkpoint.sha256}
    return Organs(result.masks, {"kind": "weights", **weights})


def refuse_existing(folder: Path, *, overwrite: bool) -> None:
    """Stop before the work when its outcome could not be written.

    Raises:
        OutputError: The folder holds something and `overwrite` is not set, or it holds the result of a segmentation.
    """
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"{folder}: is a file, but results need a folder; choose another output")
    if (folder / CASE_FILE).exists():
        raise OutputError(f"{folder}: holds the result of a segmentation; choose another output folder")
    if not overwrite and folder.is_dir() and any(folder.iterdir()):
        raise OutputError(f"{folder}: already holds something; use --overwrite to replace it")


def save(scan: PlantedScan, folder: Path, facts: Mapping[str, Any], *, overwrite: bool = False) -> Path:
    """Write ``ct.nii.gz``, ``segmentations/<class>.nii.gz`` and, last, ``planted.json``; returns the path of that.

    The CT has the grid and the header codes of the file it was made from: int16 where that held whole numbers, else
    float32. ``planted.json`` holds `facts`, the lesions as in `PlantedScan.lesions`, those without a place, and the
    hashes of the other files. One of an earlier run is removed first, and so are files it lists that do not come again.

    Raises:
        OutputError: As `refuse_existing`, or the folder cannot be written.
    """
    refuse_existing(folder, overwrite=overwrite)
    earlier = _listed(folder)
    remove_file(folder / RECORD)
    volume = scan.volume
    write_volume(folder / CT, _stored(volume), volume.geometry, volume.source.header)
    files = [folder / CT, *write_masks(scan.masks, folder, Vocabulary.default())]
    for stale in set(earlier) - set(files):
        remove_file(stale)
    record = {
        "voxicon": __version__,
        "notice": DISCLAIMER,
        "case": volume.source.name,
        "input": {
            "file": Path(volume.source.path).name,
            "sha256": volume.source.sha256,
            "geometry": volume.geometry.to_dict(),
        },
        **facts,
        "lesions": list(scan.lesions),
        "missing": list(scan.missing),
        "volumes_ml": {name: round(volume_ml, 6) for name, volume_ml in scan.masks.volumes_ml().items()},
        "warnings": list(volume.source.warnings),
        "files": {path.relative_to(folder).as_posix(): file_sha256(path) for path in files},
    }
    write_text(folder / RECORD, json.dumps(record, indent=2) + "\n")
    return folder / RECORD


def requested(requests: Sequence[Request]) -> list[dict[str, Any]]:
    """What was asked for, as plain data for the record."""
    return [
        {
            "class": request.kind.name,
            "diameter_mm": request.diameter_mm and list(request.diameter_mm),
            "contrast_hu": request.contrast_hu and list(request.contrast_hu),
        }
        for request in requests
    ]


def _stored(volume: Volume) -> NDArray[Any]:
    """The values as they go into the file."""
    header = parse_header(volume.source.header) if volume.source.header else None
    if header is not None:
        scale = [1.0 if n is None else float(n) for n in header.get_slope_inter()]
        is_whole = header.get_data_dtype().kind in "iu" and all(n == round(n) for n in scale)
        if not is_whole:
            return volume.hu.astype(np.float32, copy=False)
    whole: NDArray[Any] = np.rint(volume.hu).clip(_INT16.min, _INT16.max).astype(np.int16)
    return whole


def _listed(folder: Path) -> list[Path]:
    """Files that an earlier record lists; none where there is no sound one."""
    try:
        names = json.loads((folder / RECORD).read_text(encoding="utf8"))["files"]
        paths = [folder / name for name in names]
    except (OSError, ValueError, KeyError, TypeError):
        return []
    # A record from elsewhere must not name files outside of its folder.
    return [path for path in paths if folder.resolve() in path.resolve().parents]
