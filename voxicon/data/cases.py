"""One case read whole: its scan, its raw labels, and the labels in our classes."""

from __future__ import annotations

from voxicon.core.volume import Volume
from voxicon.data.annotation import Annotation, read_annotation
from voxicon.data.harmonise import Targets, harmonise
from voxicon.data.layout import Case
from voxicon.data.sides import body_midline_mm
from voxicon.io.scan import read_scan


def read_case(case: Case, classes: tuple[str, ...]) -> tuple[Volume, Annotation, Targets]:
    """The scan in HU, its raw labels, and its masks and known classes, all on the scan's grid.

    Raises:
        InputError: Scan or labels cannot be read, or lie on different grids.
        CardError: The labels belong to another dataset.
    """
    volume = read_scan(case.image)
    annotation = read_annotation(case, volume)
    sided = any(case.card.annotates[name].side for name in case.annotates if name in classes)
    midline_mm = body_midline_mm(volume) if sided else None
    targets = harmonise(annotation, case.card, classes, annotates=case.annotates, midline_mm=midline_mm)
    return volume, annotation, targets
