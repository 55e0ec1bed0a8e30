"""A tiny assembly of two datasets on disk, whose every label is known, predictions for it, and what judging them gave.

``tiny`` (MSD-like) annotates liver, liver tumor and spleen; ``spleens`` (BTCV-like) the spleen alone. Organs are boxes.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from voxicon.core.geometry import Geometry
from voxicon.io.nifti import write_labels, write_mask, write_volume

SHAPE = (24, 20, 16)
AFFINE = np.diag([-3.0, -3.0, 4.0, 1.0])
AFFINE[:3, 3] = [36.0, 30.0, -32.0]
GRID = Geometry(SHAPE, AFFINE)

LIVER = (slice(4, 14), slice(4, 12), slice(4, 10))  # 10 x 8 x 6 voxels
LESION = (slice(6, 9), slice(6, 9), slice(5, 8))  # 27 voxels in the liver: 27 x 36 mm3 = 0.972 ml, a ball of 12.3 mm
SPLEEN = (slice(16, 20), slice(10, 16), slice(3, 9))

CASES = {"a1": True, "v1": True, "v2": False, "t1": True, "t2": False, "t3a": True, "t3b": True}
"""Case of ``tiny`` → whether it has a lesion. t3a and t3b are one patient."""

TINY = {
    "id": "tiny",
    "title": "Tiny",
    "source": "tests",
    "terms": "none",
    "labels_by": "human",
    "parts": [
        {"image": "imagesTr/{case}.nii.gz", "label": "labelsTr/{case}.nii.gz"},
        {"image": "imagesTs/{case}.nii.gz"},
    ],
    "patient": r"([a-z]\d)",
    "splits": {"val": ["v1", "v2"], "test": ["t1", "t2", "t3a", "t3b"]},
    "raw": {1: "liver", 2: "lesion", 5: "spleen"},
    "annotates": {
        "liver": {"union": ["liver", "lesion"]},
        "liver_tumor": {"union": ["lesion"]},
        "spleen": {"union": ["spleen"]},
    },
}
SPLEENS = {
    "id": "spleens",
    "title": "Spleens",
    "source": "tests",
    "terms": "none",
    "labels_by": "machine",
    "parts": [
        {"image": "img/img{case}.nii.gz", "label": "label/label{case}.nii.gz", "case": r"\d{4}"},
        {"image": "img2/img{case}.nii.gz", "case": r"\d{4}"},
    ],
    "splits": {"test": ["0001"]},
    "raw": {7: "spleen"},
    "annotates": {"spleen": {"union": ["spleen"]}},
}

Change = Callable[[str, np.ndarray], np.ndarray]


def labels_of(case: str) -> np.ndarray:
    """The label map of a case of ``tiny``."""
    labels = np.zeros(SHAPE, dtype=np.uint8)
    labels[LIVER] = 1
    labels[SPLEEN] = 5
    if CASES.get(case, False):
        labels[LESION] = 2
    return labels


def masks_of(labels: np.ndarray) -> dict[str, np.ndarray]:
    """Label map of ``tiny`` → masks of its classes."""
    return {"spleen": labels == 5, "liver": np.isin(labels, (1, 2)), "liver_tumor": labels == 2}


def write_scan(path: Path, seed: int = 0) -> Path:
    """A noisy scan on the grid of all."""
    hu = np.random.default_rng(seed).normal(0, 60, SHAPE)
    hu[LIVER] += 100
    write_volume(path, np.rint(hu).astype(np.int16), GRID)
    return path


def write_assembly(folder: Path) -> Path:
    """Scans, labels, cards and ``assembly.yaml``; returns the last. One scan of each dataset has no labels."""
    tiny, spleens = folder / "tiny", folder / "spleens"
    for seed, case in enumerate(CASES):
        write_scan(tiny / "imagesTr" / f"{case}.nii.gz", seed)
        write_labels(tiny / "labelsTr" / f"{case}.nii.gz", labels_of(case), GRID)
    write_scan(tiny / "imagesTs" / "u1.nii.gz", 100)
    for seed, case in enumerate(("0001", "0002"), start=200):
        write_scan(spleens / "img" / f"img{case}.nii.gz", seed)
        write_labels(
            spleens / "label" / f"label{case}.nii.gz", np.where(labels_of("t1") == 5, 7, 0).astype(np.uint8), GRID
        )
    write_scan(spleens / "img2" / "img0061.nii.gz", 300)
    entries = []
    for card in (TINY, SPLEENS):
        (folder / f"{card['id']}.yaml").write_text(yaml.safe_dump(card), encoding="utf8")
        entries.append({"card": f"{card['id']}.yaml", "folder": card["id"]})
    path = folder / "assembly.yaml"
    path.write_text(yaml.safe_dump({"name": "tiny", "datasets": entries}), encoding="utf8")
    return path


def write_prediction(folder: Path, masks: dict[str, np.ndarray], grid: Geometry = GRID) -> None:
    """Masks of one scan as a result folder without a case.json, as anybody could make it."""
    for name, mask in masks.items():
        write_mask(folder / "segmentations" / f"{name}.nii.gz", mask, grid)


def write_predictions(folder: Path, change: Change = lambda name, mask: mask) -> Path:
    """The truth of every case as its prediction, each mask changed by a function of class and mask."""
    for case in (*CASES, "u1"):
        masks = {name: change(name, mask) for name, mask in masks_of(labels_of(case)).items()}
        write_prediction(folder / "tiny" / case, masks)
    for case in ("0001", "0002", "0061"):
        write_prediction(folder / "spleens" / case, {"spleen": change("spleen", labels_of("t1") == 5)})
    return folder


def shifted(_: str, mask: np.ndarray) -> np.ndarray:
    """Moved by one voxel of 3 mm along the first axis."""
    return np.roll(mask, 1, axis=0)


def summary(out: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((out / "summary.json").read_text(encoding="utf8"))
    return found


def table(out: Path, name: str = "cases.csv") -> list[dict[str, str]]:
    with (out / name).open(encoding="utf8", newline="") as file:
        return list(csv.DictReader(file))


def by_case(out: Path) -> dict[tuple[str, str], dict[str, str]]:
    return {(row["case"], row["class"]): row for row in table(out)}
