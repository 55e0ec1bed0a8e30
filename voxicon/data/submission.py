"""Predictions handed in: a dataset's own label values, under the file names its makers expect."""

from __future__ import annotations

import gzip
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import numpy as np

from voxicon.core.masks import MaskSet
from voxicon.data.card import Part
from voxicon.data.harmonise import to_raw
from voxicon.data.layout import Case, Dataset, _matches, _to_regex
from voxicon.io.atomic import write_bytes
from voxicon.io.nifti import write_labels


def unlabeled_cases(dataset: Dataset) -> tuple[Case, ...]:
    """The scans without labels as cases: what a challenge asks predictions of. Their split is what the card says."""
    # A scan may lie where two parts look, and have labels where only one of them does.
    wanted = set(dataset.unlabeled) - {case.image for case in dataset.cases}
    found: dict[Path, Case] = {}
    for part in dataset.card.parts:
        for name, path in _matches(part.image, part, dataset.folder):
            if path in wanted:
                found.setdefault(path, Case(dataset.card, name, path, None, {}, _annotated(part, dataset), part.split))
    return tuple(found.values())


def submission_name(case: Case, dataset: Dataset) -> str:
    """The file name of a case's prediction: that of the card's label maps, with this case in it.

    A part without labels is named like the first part with labels; what its scans' names have in front of the
    others' stays in front (LiTS: ``test-volume-0.nii`` gives ``test-segmentation-0.nii``). Where the labels' names do
    not tell cases apart, or are no label maps, it is ``<case>.nii.gz``.
    """
    own = next((part for part in _parts_of(case, dataset)), None)
    named = [part for part in dataset.card.parts if _tells_cases(part)]
    if own is None or not named:
        return f"{case.name}.nii.gz"
    like = own if own in named else named[0]
    image, like_image = (PurePosixPath(part.image).name for part in (own, like))
    prefix = image.removesuffix(like_image) if image.endswith(like_image) else ""
    return (prefix + PurePosixPath(like.label or "").name).replace("{case}", case.name)


def write_submission(folder: Path, masks: MaskSet, case: Case, dataset: Dataset) -> Path:
    """Write one case as ``<folder>/<dataset>/<name>``, on the scan's own grid; see `to_raw` and `submission_name`.

    Args:
        folder: Made when missing.
        masks: On the scan's grid, with the scan as `source`. Classes that are missing leave their structures to the
            next larger class.
        case: Labeled or not.
        dataset: The case's.

    Raises:
        OutputError: The file cannot be written.
    """
    values = to_raw(masks, case.card)
    fits = values.min() >= 0 and values.max() <= np.iinfo(np.uint8).max
    path = folder / case.card.id / submission_name(case, dataset)
    write_labels(path, values.astype(np.uint8) if fits else values, masks.geometry, masks.source.header)
    if not path.name.endswith(".gz"):  # what is written is packed, whatever its name
        write_bytes(path, gzip.decompress(path.read_bytes()))
    return path


def _annotated(part: Part, dataset: Dataset) -> frozenset[str]:
    return frozenset(part.annotates if part.annotates is not None else dataset.card.annotates)


def _parts_of(case: Case, dataset: Dataset) -> Iterator[Part]:
    place = case.image.relative_to(dataset.folder).as_posix()
    for part in dataset.card.parts:
        if re.fullmatch(_to_regex(part.image, part.case), place) and part.holds(case.name):
            yield part


def _tells_cases(part: Part) -> bool:
    name = PurePosixPath(part.label or "").name
    return not (part.label or "/").endswith("/") and "{case}" in name and "*" not in name
