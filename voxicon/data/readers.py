"""What another reader drew of the same scans: label maps in a dataset's own values, named like its own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from voxicon.core.volume import Volume
from voxicon.data.annotation import read_annotation
from voxicon.data.harmonise import Targets, harmonise
from voxicon.data.layout import Case, _spelled
from voxicon.data.sides import body_midline_mm


def find_reading(folder: Path, case: Case, root: Path) -> Path | None:
    """The label map of a case in a reader's folder; None without one.

    It lies where the dataset's own label lies (below ``<dataset>/`` or not), or is named like it. Cases whose labels
    are one file per structure have no reading.

    Args:
        folder: The reader's.
        case: Has a label map.
        root: The dataset's folder.
    """
    if case.label is None:
        return None
    within = case.label.relative_to(root)
    # A name that does not hold the case belongs to every case, and only its folder tells them apart.
    by_name = [Path(case.label.name)] if case.name in case.label.name else []
    places = [folder / below / path for path in (within, *by_name) for below in (case.card.id, "")]
    spelled = (Path(path) for place in places for path in _spelled(str(place)))
    return next((path for path in spelled if path.exists()), None)


def read_reading(path: Path, case: Case, volume: Volume, classes: tuple[str, ...]) -> Targets:
    """Masks and known classes as a reader drew them, on the scan's grid, read through the dataset's card.

    Raises:
        InputError: The labels cannot be read, or lie on another grid than the scan.
        CardError: They hold none of the card's values.
    """
    annotation = read_annotation(replace(case, label=path, masks={}), volume)
    sided = any(case.card.annotates[name].side for name in case.annotates if name in classes)
    midline_mm = body_midline_mm(volume) if sided else None
    return harmonise(annotation, case.card, classes, annotates=case.annotates, midline_mm=midline_mm)
