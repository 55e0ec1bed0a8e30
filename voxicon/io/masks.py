"""Result folders: one file per class, and one label map of all classes with the names inside."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import EllipsisType
from typing import Any
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from voxicon.core.components import Box, crop, joint_box, put
from voxicon.core.concepts import Concept, Vocabulary
from voxicon.core.geometry import Geometry
from voxicon.core.masks import MaskSet
from voxicon.core.storage import release
from voxicon.errors import BadGeometry, InputError
from voxicon.io.atomic import write_text
from voxicon.io.nifti import case_name, read_labels, write_labels, write_mask

SEGMENTATIONS = "segmentations"
"""Folder of the single masks inside a result folder."""

_NOWHERE = (slice(0, 0), slice(0, 0), slice(0, 0))

_PRIORITY = {"organ": 0, "vessel": 1, "lesion": 2}


def write_masks(masks: MaskSet, folder: Path, vocabulary: Vocabulary) -> list[Path]:
    """Write ``segmentations/<name>.nii.gz`` for every class, those without a voxel included.

    Args:
        masks: Masks on the scan's grid, with the scan as `source`.
        folder: The result folder; made if missing.
        vocabulary: Knows every class of `masks`.

    Returns:
        The files in the order of `masks`; empty when there are no classes.

    Raises:
        UnknownClass: A name is not in the vocabulary; nothing is written.
        OutputError: A file cannot be written; files before it stay.
    """
    paths = [folder / SEGMENTATIONS / f"{vocabulary[name].name}.nii.gz" for name in masks]
    boxes = masks.bounds()

    def write(name: str, path: Path) -> None:
        box = boxes.get(name, _NOWHERE)
        write_mask(path, _OfClass(masks, name, box), masks.geometry, masks.source.header, box)

    # Packing leaves Python's lock alone, so threads share the work.
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        list(pool.map(write, masks.names, paths))
    return paths


def write_combined(masks: MaskSet, path: Path, vocabulary: Vocabulary) -> list[Path]:
    """Write one label map of all classes, its names inside the file and in a ``.json`` beside it.

    A voxel of several classes gets the id of the lesion before the vessel before the organ; among classes of
    one kind, that of a part (a class with parents, such as a femoral head) before a whole; then the highest id.

    Args:
        masks: Masks on the scan's grid, with the scan as `source`.
        path: The label map, such as ``combined_labels.nii.gz``: uint8, or uint16 when an id exceeds 255.
        vocabulary: Knows every class of `masks`; values are its ids.

    Returns:
        The label map and the JSON file, which maps each id to name, color, codes and more.

    Raises:
        UnknownClass: A name is not in the vocabulary; nothing is written.
        OutputError: A file cannot be written.
    """
    concepts = sorted((vocabulary[name] for name in masks), key=lambda c: (_PRIORITY[c.kind], bool(c.parents), c.id))
    labels = _OfAll(masks, concepts)
    concepts.sort(key=lambda concept: concept.id)
    write_labels(path, labels, masks.geometry, masks.source.header, extension=label_table(concepts), box=labels.box)
    names = path.with_name(path.name.removesuffix(".gz").removesuffix(".nii") + ".json")
    table = {str(concept.id): concept.to_dict() for concept in concepts}
    write_text(names, json.dumps(table, indent=2, ensure_ascii=False) + "\n")
    return [path, names]


def read_masks(folder: Path, geometry: Geometry, vocabulary: Vocabulary) -> MaskSet:
    """Masks of a scan that lie in a folder: one file per class, in ``segmentations/`` or in the folder itself.

    Files that are not named like a class are left out; any value but 0 is inside.

    Args:
        folder: A result folder, or one of masks.
        geometry: Grid of the scan.
        vocabulary: Knows the names.

    Raises:
        InputError: ``E-ORGAN``, no mask lies there; or a file cannot be read.
        BadGeometry: A mask lies on another grid than the scan.
    """
    paths = mask_files(folder, vocabulary)
    masks = MaskSet.empty(paths, geometry)
    for name, path in paths.items():
        values, grid = read_labels(path)
        if not grid.same_grid(geometry):
            raise BadGeometry(f"{path}: lies on another grid than the scan; give the masks of this scan", code="E-GRID")
        _put(masks, name, values)
    return masks


def mask_files(folder: Path, vocabulary: Vocabulary) -> dict[str, Path]:
    """The files that `read_masks` would read, by class; none is opened.

    Raises:
        InputError: ``E-ORGAN``, no mask lies there, or two of one class.
    """
    below = folder / SEGMENTATIONS if (folder / SEGMENTATIONS).is_dir() else folder
    found = [path for path in sorted(below.glob("*.nii*")) if case_name(path) in vocabulary]
    paths = {case_name(path): path for path in found}
    twice = next((path for path in found if path != paths[case_name(path)]), None)
    if twice is not None:
        other = paths[case_name(twice)].name
        raise InputError(f"{twice}: {other} lies beside it; expected one mask a class; remove one", code="E-ORGAN")
    if not paths:
        raise InputError(
            f"{folder}: holds no mask named like a class, such as {SEGMENTATIONS}/liver.nii.gz; "
            "give a result folder of 'voxicon segment', or a folder of such masks",
            code="E-ORGAN",
        )
    return paths


def _put(masks: MaskSet, name: str, values: NDArray[Any]) -> None:
    """Set a class that is empty so far to the voxels that are not 0, in their box alone."""
    ends = [np.flatnonzero(values.any(axis=others)) for others in ((1, 2), (0, 2), (0, 1))]
    if len(ends[0]):
        x, y, z = (slice(int(e[0]), int(e[-1]) + 1) for e in ends)
        put(masks, name, (x, y, z), values[x, y, z] != 0)


class _OfClass:
    """One class in a box, unpacked a few slices at a time."""

    dtype: np.dtype[Any] = np.dtype(bool)

    def __init__(self, masks: MaskSet, name: str, box: Box) -> None:
        self.masks, self.name, self.box = masks, name, box
        self.shape = _shape(box)

    def __getitem__(self, index: tuple[EllipsisType, slice], /) -> NDArray[Any]:
        x, y, z = self.box
        mask = crop(self.masks, self.name, (x, y, _shifted(index[1], z.start)))
        release(self.masks.words)
        return mask


class _OfAll:
    """The label map of all classes in the box they fill, painted a few slices at a time; later ones on top."""

    def __init__(self, masks: MaskSet, concepts: Sequence[Concept]) -> None:
        self.masks, self.boxes = masks, masks.bounds()
        self.painted = [concept for concept in concepts if concept.name in self.boxes]
        highest = max((concept.id for concept in concepts), default=0)
        self.dtype: np.dtype[Any] = np.dtype(np.uint8 if highest < 256 else np.uint16)
        self.box = joint_box(self.boxes.values(), (0, 0, 0), masks.geometry.shape) if self.boxes else _NOWHERE
        self.shape = _shape(self.box)

    def __getitem__(self, index: tuple[EllipsisType, slice], /) -> NDArray[Any]:
        x, y, z = self.box
        at = _shifted(index[1], z.start)
        labels = np.zeros((*self.shape[:2], at.stop - at.start), dtype=self.dtype, order="F")
        for concept in self.painted:
            own_x, own_y, own_z = self.boxes[concept.name]
            low, high = max(at.start, own_z.start), min(at.stop, own_z.stop)
            if low < high:
                mask = crop(self.masks, concept.name, (own_x, own_y, slice(low, high)))
                target = labels[_shifted(own_x, -x.start), _shifted(own_y, -y.start), low - at.start : high - at.start]
                np.copyto(target, self.dtype.type(concept.id), where=mask)
        release(self.masks.words)
        return labels


def _shape(box: Box) -> tuple[int, int, int]:
    x, y, z = (side.stop - side.start for side in box)
    return x, y, z


def _shifted(side: slice, by: int) -> slice:
    return slice(side.start + by, side.stop + by)


def label_table(concepts: list[Concept]) -> bytes:
    """Names and colors as the Caret XML that TotalSegmentator and Connectome Workbench keep in NIfTI files."""
    root = ElementTree.Element("CaretExtension")
    volume = ElementTree.SubElement(root, "VolumeInformation", Index="0")
    table = ElementTree.SubElement(volume, "LabelTable")
    for concept in concepts:
        red, green, blue = (f"{level / 255:.4f}" for level in concept.color)
        label = {"Key": str(concept.id), "Red": red, "Green": green, "Blue": blue, "Alpha": "1"}
        ElementTree.SubElement(table, "Label", label).text = concept.name
    ElementTree.SubElement(volume, "VolumeType").text = "Label"
    return bytes(ElementTree.tostring(root, encoding="UTF-8", xml_declaration=True))
