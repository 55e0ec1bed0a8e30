"""Result folders: one file per class, and one label map of all classes with the names inside."""

from __future__ import annotations

import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from voxicon.core.components import crop
from voxicon.core.concepts import Concept, Vocabulary
from voxicon.core.masks import MaskSet
from voxicon.io.atomic import write_text
from voxicon.io.nifti import write_labels, write_mask

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
        write_mask(path, crop(masks, name, box), masks.geometry, masks.source.header, box)

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
    highest = max((concept.id for concept in concepts), default=0)
    labels = np.zeros(masks.geometry.shape, dtype=np.uint8 if highest < 256 else np.uint16)
    boxes = masks.bounds()
    for concept in concepts:
        if concept.name in boxes:
            box = boxes[concept.name]
            np.copyto(labels[box], labels.dtype.type(concept.id), where=crop(masks, concept.name, box))
    concepts.sort(key=lambda concept: concept.id)
    write_labels(path, labels, masks.geometry, masks.source.header, extension=label_table(concepts))
    names = path.with_name(path.name.removesuffix(".gz").removesuffix(".nii") + ".json")
    table = {str(concept.id): concept.to_dict() for concept in concepts}
    write_text(names, json.dumps(table, indent=2, ensure_ascii=False) + "\n")
    return [path, names]


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
