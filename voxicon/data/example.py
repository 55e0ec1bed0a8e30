"""Tiny made-up scans in a dataset's own layout and label values: to see what a card expects, and to try commands.

The body is a box of soft tissue in air. Every raw structure of the card is a small box in it: right ones on the
right, left ones on the left, what is part of another inside it. Every other scan lacks the lesions.
"""

from __future__ import annotations

import gzip
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import count, product
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from voxicon.core.geometry import Geometry
from voxicon.core.orientation import from_ras_order, to_ras_order
from voxicon.core.volume import AIR_HU
from voxicon.data.card import DatasetCard, Part
from voxicon.io.atomic import write_bytes
from voxicon.io.nifti import write_labels, write_volume

SHAPE = (48, 40, 40)
SPACING_MM = (6.0, 6.0, 6.0)
_BODY = (slice(2, 46), slice(2, 38), slice(1, 39))
_STEP = 6
_SIDE = 5
"""Voxels of a structure's box; one voxel of tissue between boxes."""

_TISSUE_HU, _LUNG_HU, _AIR_HU = 40.0, -800.0, -1000.0


@dataclass(frozen=True)
class ExampleScan:
    """One made-up scan in RAS order.

    Attributes:
        hu: (X, Y, Z) float32.
        structures: Structure → (X, Y, Z) bool; absent ones are left out.
        geometry: The grid.
    """

    hu: NDArray[np.float32]
    structures: Mapping[str, NDArray[np.bool_]]
    geometry: Geometry


def write_example(card: DatasetCard, folder: Path, *, n_cases: int = 3, seed: int = 0) -> list[Path]:
    """Write scans and labels where the card expects them.

    Args:
        card: The dataset.
        folder: Made when missing; the card's patterns are relative to it.
        n_cases: Scans for each part of the dataset.
        seed: Other scans for another seed.

    Returns:
        Path of every scan written.

    Raises:
        OutputError: The folder cannot be written.
        ConfigError: The layout holds DICOM and the reader for it is not installed.
    """
    written: list[Path] = []
    taken: set[str] = set()
    for number, part in enumerate(part for part in card.parts if part.label or part.masks):
        for index in range(n_cases):
            scan = make_scan(card, index, seed * 1000 + number * 100 + index)
            case = next(name for k in count(index) if (name := case_id(part, k)) not in taken)
            taken.add(case)
            written.append(_write(card, part, folder, case, scan))
    _write_split_table(card, folder)
    return written


def case_id(part: Part, index: int) -> str:
    """The part's example id, its last number raised by `index`."""
    example = part.example or "001"
    digits = list(re.finditer(r"\d+", example))
    if not digits:
        return example + ("" if index == 0 else str(index))
    last = digits[-1]
    number = str(int(last.group()) + index).zfill(len(last.group()))
    return example[: last.start()] + number + example[last.end() :]


def make_scan(card: DatasetCard, index: int, seed: int) -> ExampleScan:
    """One made-up scan with the structures of a card; every second one (`index` odd) lacks the lesions."""
    # Scans of two datasets with the same noise would be taken for copies, and rightly so.
    random = np.random.default_rng([seed, crc32(card.id.encode())])
    hu = np.full(SHAPE, _AIR_HU, dtype=np.float32)
    hu[_BODY] = _TISSUE_HU
    structures: dict[str, NDArray[np.bool_]] = {}
    vocabulary = card.vocabulary()
    lesions = {s for c, labels in card.annotates.items() if vocabulary[c].kind == "lesion" for s in labels.union}
    shift = random.integers(0, 2, size=3)
    for name, boxes in _places(card).items():
        if name in lesions and index % 2:
            continue
        mask = np.zeros(SHAPE, dtype=bool)
        for low, side in boxes:
            x, y, z = (slice(int(a + s), int(a + s + side)) for a, s in zip(low, shift, strict=True))
            mask[x, y, z] = True
        structures[name] = mask
        hu[mask] = _LUNG_HU if "lung" in name and name not in lesions else float(random.uniform(60, 160))
    hu = np.maximum(hu + random.normal(0, 10, SHAPE).astype(np.float32), AIR_HU)
    affine = np.diag([*SPACING_MM, 1.0])
    affine[:3, 3] = [-SPACING_MM[0] * (SHAPE[0] - 1) / 2, -100.0, -200.0]
    return ExampleScan(hu, _without_overlap(structures, card), Geometry(SHAPE, affine))


def _places(card: DatasetCard) -> dict[str, list[tuple[tuple[int, int, int], int]]]:
    """Structure → lowest corner and side length of its boxes, in voxels."""
    corners = [range(3, n - _STEP - 1, _STEP) for n in SHAPE]
    lattice = list(product(corners[2], corners[1], corners[0]))
    right = [(x, y, z) for z, y, x in lattice if x >= SHAPE[0] // 2]
    left = [(SHAPE[0] - _SIDE - 1 - x, y, z) for x, y, z in right]
    free = {"right": list(range(len(right))), "left": list(range(len(left)))}
    inside = _part_of(card)
    sided = {s for labels in card.annotates.values() if labels.side for s in labels.union}
    places: dict[str, list[tuple[tuple[int, int, int], int]]] = {}
    for name in sorted(card.raw.values(), key=lambda s: s in inside):
        holder = inside.get(name)
        if holder is not None:
            low, side = places[holder][0]
            lifted = 1 + 2 * sum(inside.get(other) == holder for other in places)
            places[name] = [((low[0] + 1, low[1] + 1, low[2] + min(lifted, side - 2)), 2)]
            continue
        if name in sided:
            index = min(set(free["right"]) & set(free["left"]))
            places[name] = [(right[index], _SIDE), (left[index], _SIDE)]
            taken = ["right", "left"]
        else:
            named = [where for where in free if where in name.lower()]
            taken = named[:1] or [max(free, key=lambda where: len(free[where]))]
            index = free[taken[0]][0]
            places[name] = [((right if taken[0] == "right" else left)[index], _SIDE)]
        for where in taken:
            free[where].remove(index)
    return places


def _part_of(card: DatasetCard) -> dict[str, str]:
    """Structures that a lesion class is made of, and the first other structure of a class they are also part of."""
    vocabulary = card.vocabulary()
    found: dict[str, str] = {}
    lesions = {s for c, labels in card.annotates.items() if vocabulary[c].kind == "lesion" for s in labels.union}
    for labels in card.annotates.values():
        holders = [s for s in labels.union if s not in lesions]
        if holders:
            found.update({s: holders[0] for s in labels.union if s in lesions})
    return found


def _without_overlap(structures: dict[str, NDArray[np.bool_]], card: DatasetCard) -> dict[str, NDArray[np.bool_]]:
    """As a label map has it: what lies inside takes its voxels from what it lies in."""
    if any(part.masks for part in card.parts):
        return structures
    for name, holder in _part_of(card).items():
        if name in structures and holder in structures:
            structures[holder] = structures[holder] & ~structures[name]
    return structures


def _write(card: DatasetCard, part: Part, folder: Path, case: str, scan: ExampleScan) -> Path:
    image = folder / _concrete(part.image, case)
    if part.image.endswith("/"):
        from voxicon.io.dicom_write import write_series

        write_series(image, scan.hu, scan.geometry)
    else:
        # As scanners and converters do it: stored toward the left and the back.
        _save(write_volume, image, *_stored(np.rint(scan.hu).astype(np.int16), scan.geometry))
    if part.label is not None and part.label.endswith("/"):
        from voxicon.io.dicom_write import write_mask_pngs

        (mask,) = scan.structures.values()
        write_mask_pngs(folder / _concrete(part.label, case), mask)
    elif part.label is not None:
        values = np.zeros(SHAPE, dtype=np.int16)
        for value, name in card.raw.items():
            if name in scan.structures:
                values[scan.structures[name]] = value
        stored, geometry = _stored(values, scan.geometry)
        if card.label_axes not in ("header", "image"):
            stored = _turned(values, card.label_axes, scan.geometry)
        _save(write_labels, folder / _concrete(part.label, case), stored, geometry)
    else:
        _write_masks(card, part, folder, case, scan)
    return image


def _write_masks(card: DatasetCard, part: Part, folder: Path, case: str, scan: ExampleScan) -> None:
    used = {s for labels in card.annotates.values() for s in (*labels.union, *labels.minus)}
    for name in (name for name in card.raw.values() if name in used):
        mask = scan.structures.get(name)
        if mask is None:
            if card.missing == "unknown":
                continue
            mask = np.zeros(SHAPE, dtype=bool)
        spelled = card.names.get(name, (name,))[0]
        path = folder / _concrete((part.masks or "").replace("{structure}", spelled), case)
        if (part.masks or "").endswith("/"):
            from voxicon.io.dicom_write import write_series

            write_series(path, mask.astype(np.float32), scan.geometry)
        else:
            _save(write_labels, path, *_stored(mask.astype(np.uint8), scan.geometry))


def _save(
    write: Callable[[Path, NDArray[np.integer[Any]], Geometry], None],
    path: Path,
    values: NDArray[np.integer[Any]],
    geometry: Geometry,
) -> None:
    packed = path if path.name.endswith(".gz") else path.with_name(path.name + ".gz")
    write(packed, values, geometry)
    if packed != path:
        write_bytes(path, gzip.decompress(packed.read_bytes()))
        packed.unlink()


def _write_split_table(card: DatasetCard, folder: Path) -> None:
    splits = card.splits
    if splits.file is None:
        return
    rows = [splits.delimiter.join((splits.case, splits.split))]
    rows += [splits.delimiter.join((case_id(part, 0), "test")) for part in card.parts]
    (folder / splits.file).write_text("\n".join(rows) + "\n", encoding="utf8")


def _concrete(pattern: str, case: str) -> str:
    return pattern.replace("{case}", case).replace("*", "1").rstrip("/")


def _stored(values: NDArray[np.integer[Any]], geometry: Geometry) -> tuple[NDArray[np.integer[Any]], Geometry]:
    """Values on a grid whose axes run toward the left, the back and the head."""
    x, y, z = values.shape
    affine = geometry.affine @ np.diag([-1.0, -1.0, 1.0, 1.0])
    affine[:3, 3] = geometry.to_world([x - 1, y - 1, 0])
    return values[::-1, ::-1], Geometry((x, y, z), affine)


def _turned(values: NDArray[np.int16], axes: str, geometry: Geometry) -> NDArray[np.int16]:
    """RAS values stored in the order of three axis letters."""
    rows = {"R": 0, "L": 0, "A": 1, "P": 1, "S": 2, "I": 2}
    affine = np.zeros((4, 4))
    affine[3, 3] = 1
    for axis, letter in enumerate(axes):
        affine[rows[letter], axis] = 1 if letter in "RAS" else -1
    shape = [values.shape[rows[letter]] for letter in axes]
    ordered, _ = to_ras_order(values, geometry)
    turned: NDArray[np.int16] = from_ras_order(ordered, Geometry((shape[0], shape[1], shape[2]), affine))
    return turned
