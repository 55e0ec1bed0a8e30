"""A small result folder whose every lesion is known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from voxicon.core.geometry import Geometry
from voxicon.core.masks import MaskSet
from voxicon.core.volume import Source, Volume
from voxicon.correction import Corrections
from voxicon.io.atomic import file_sha256
from voxicon.result import Result

SHAPE = (40, 30, 20)
AFFINE = np.diag([2.0, 2.0, 3.0, 1.0])
AFFINE[:3, 3] = (-40, -30, 5)
Box = tuple[slice, slice, slice]


def box(x: int, y: int, z: int, size: int) -> Box:
    return slice(x, x + size), slice(y, y + size), slice(z, z + size)


PIECES: dict[str, list[Box]] = {
    "liver": [box(25, 5, 3, 12)],
    "kidney_right": [box(22, 20, 2, 8)],
    "kidney_left": [box(4, 20, 2, 8)],
    "pancreas": [box(10, 5, 5, 8)],
    "liver_tumor": [box(27, 7, 5, 4), box(34, 12, 10, 2)],
    "kidney_tumor": [box(5, 21, 3, 3), box(24, 22, 4, 2)],
    "kidney_cyst": [box(23, 25, 8, 1)],
    "pancreas_tumor": [],
}


def masks_of(pieces: dict[str, list[Box]]) -> MaskSet:
    masks = {}
    for name, boxes in pieces.items():
        masks[name] = np.zeros(SHAPE, dtype=bool)
        for one in boxes:
            masks[name][one] = True
    return MaskSet.from_masks(masks, Geometry(SHAPE, AFFINE), Source(name="phantom"))


def save(folder: Path, pieces: dict[str, list[Box]] | None = None, **more: Any) -> Path:
    masks = masks_of(PIECES if pieces is None else pieces)
    volume = Volume(np.zeros(SHAPE, dtype=np.float32), masks.geometry, masks.source)
    weights = {"name": "none", "sha256": "0", "title": ""}
    Result(masks, volume, weights, {"classes": list(masks)}, **more).save(folder)
    return folder


def told(done: Corrections) -> list[tuple[str, str, int | None]]:
    return [
        (d.action, "|".join(d.lesions), d.piece) for d in done.decisions if d.action != "not mentioned"
    ]  # fmt: skip


def files_in(folder: Path) -> dict[str, str]:
    return {p.relative_to(folder).as_posix(): file_sha256(p) for p in folder.rglob("*") if p.is_file()}


def read(folder: Path, name: str, kind: str = "segmentations") -> Any:
    return np.asarray(nib.load(folder / kind / f"{name}.nii.gz").dataobj) != 0
