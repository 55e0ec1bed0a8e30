"""Answers to requests, clause by clause: what was looked for, what was found, how large it is, and in which file."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from voxicon.answering.scene import Piece, Scene
from voxicon.answering.select import is_narrowed, select
from voxicon.asking.request import Action, Clause, Request, Target
from voxicon.core.components import Box, Mask, joint_box
from voxicon.findings.finding import Finding, Point
from voxicon.findings.parts import inside

Range = tuple[int, int]
Quantity = Literal["volume", "diameter", "density"]

ANSWERS = "answers"
"""Folder of masks that are a part of what a class's own file holds."""

_LONGEST_SLUG = 60


@dataclass(frozen=True)
class Found(Finding):
    """One thing that was found.

    Attributes:
        name: Its class.
        number: Of a lesion, the same as under ``lesions``; None for an organ or a part of one.
        volume_ml: Of the voxels meant. A lower bound, as all lengths, where `touches_border`.
        longest_mm: Longest axial diameter.
        perpendicular_mm: Longest line across it, in the same slice.
        extent_mm: Along R-L, A-P and S-I, from outer corner to outer corner.
        hu_mean: Mean in Hounsfield units.
        hu_sd: Standard deviation of the same voxels.
        center_mm: Center of mass, RAS.
        box_voxels: First voxel and the one after the last, along X, Y and Z of the scan.
        box_mm: Smallest and largest R, A and S, to the outer corners of its voxels.
        touches_border: A voxel lies in the outermost slice that was scanned, on any side.
    """

    name: str
    number: int | None
    volume_ml: float
    longest_mm: float
    perpendicular_mm: float
    extent_mm: Point
    hu_mean: float | None
    hu_sd: float | None
    center_mm: Point
    box_voxels: tuple[Range, Range, Range]
    box_mm: tuple[Point, Point]
    touches_border: bool


@dataclass(frozen=True)
class TargetAnswer(Finding):
    """What became of one target.

    Attributes:
        said: The target in plain words.
        looked_for: Its classes that could be looked for.
        not_looked_for: Its classes that the weights do not know and of which no mask was given.
        narrowed: Whether less than all of its classes is meant: by side, place, size or what is left out.
        found: What was found; empty for nothing.
        masks: Files, relative to the result folder, whose voxels together are the answer.
    """

    said: str
    looked_for: tuple[str, ...]
    not_looked_for: tuple[str, ...]
    narrowed: bool
    found: tuple[Found, ...]
    masks: tuple[str, ...]


@dataclass(frozen=True)
class Comparison(Finding):
    """One quantity of several things.

    Attributes:
        quantity: ``volume`` (ml), ``diameter`` (mm, longest axial) or ``density`` (HU, mean).
        unit: Its unit.
        names: What is compared, in plain words: targets, or where there is but one, its classes that were looked for.
        values: One for each; None for what was not found.
        differences: Value minus the first one; None where one of the two is.
        ratios: Value through the first one; None likewise, for HU, and where the first is 0.
    """

    quantity: Quantity
    unit: str
    names: tuple[str, ...]
    values: tuple[float | None, ...]
    differences: tuple[float | None, ...]
    ratios: tuple[float | None, ...]


@dataclass(frozen=True)
class ClauseAnswer(Finding):
    """What became of one clause.

    Attributes:
        action: What was to be done.
        understood: The clause in plain words.
        quantities: What was to be measured: size, volume, diameter, density.
        if_any: Whether finding nothing was expected to be possible.
        targets: In the order of the request; empty for a report on the whole scan.
        comparisons: For ``compare`` alone.
    """

    action: Action
    understood: str
    quantities: tuple[str, ...]
    if_any: bool
    targets: tuple[TargetAnswer, ...]
    comparisons: tuple[Comparison, ...] = ()


@dataclass(frozen=True)
class RequestAnswer(Finding):
    """What became of one request.

    Attributes:
        text: As it was written.
        understood: In plain words.
        ignored: Words that were left out as polite or empty.
        corrected: Misspelled words and what they were taken for.
        clauses: One answer for each.
    """

    text: str
    understood: str
    ignored: tuple[str, ...]
    corrected: tuple[tuple[str, str], ...]
    clauses: tuple[ClauseAnswer, ...]


@dataclass(frozen=True, eq=False)
class Cutting:
    """A mask of its own, for an answer that is less than whole classes.

    Attributes:
        path: Where it belongs, relative to the result folder.
        box: In voxels of the scan.
        mask: Of the box's shape; empty where nothing was found.
    """

    path: str
    box: Box
    mask: Mask


class Answerer:
    """Answers requests about one scan.

    Args:
        scene: Masks and values.
        folder_of_masks: Where the masks of whole classes are, relative to the result folder.

    Attributes:
        cuttings: Masks that answers named so far and that no class's own file is.
    """

    def __init__(self, scene: Scene, folder_of_masks: str) -> None:
        self.scene, self.folder_of_masks = scene, folder_of_masks
        self.cuttings: list[Cutting] = []
        self._known: dict[tuple[Target, tuple[str, ...]], TargetAnswer] = {}

    def answer(self, text: str, request: Request) -> RequestAnswer:
        """One request, whose classes, places and neighbors `voxicon.answering.needs` found to be known."""
        clauses = tuple(self._clause(clause) for clause in request.clauses)
        return RequestAnswer(text, request.in_plain_words(), request.ignored, request.corrected, clauses)

    def _clause(self, clause: Clause) -> ClauseAnswer:
        without = tuple(dict.fromkeys(name for target in clause.without for name in target.classes))
        targets = tuple(self._target(target, without) for target in clause.targets)
        compared = self._comparisons(clause, targets) if clause.action == "compare" else ()
        return ClauseAnswer(clause.action, clause.in_plain_words(), clause.quantities, clause.if_any, targets, compared)

    def _target(self, target: Target, without: tuple[str, ...]) -> TargetAnswer:
        key = (target, without)
        if key not in self._known:
            looked_for = tuple(name for name in target.classes if name in self.scene.masks)
            pieces = select(target, without, self.scene)
            masks = tuple(f"{self.folder_of_masks}/{name}.nii.gz" for name in looked_for)
            narrowed = is_narrowed(target, without, self.scene)
            if narrowed:
                masks = (self._cut(target, pieces),)
            lost = tuple(name for name in target.classes if name not in self.scene.masks)
            found = tuple(self._found(piece) for piece in pieces)
            self._known[key] = TargetAnswer(target.in_plain_words(), looked_for, lost, narrowed, found, masks)
        return self._known[key]

    def _found(self, piece: Piece) -> Found:
        measured = self.scene.measure(piece)
        return Found(name=piece.name, number=piece.number, **vars(measured))

    def _cut(self, target: Target, pieces: Sequence[Piece]) -> str:
        words = re.sub(r"[^a-z0-9]+", "_", target.in_plain_words().casefold()).strip("_")
        path = f"{ANSWERS}/{len(self.cuttings) + 1}_{words[:_LONGEST_SLUG].rstrip('_')}.nii.gz"
        box: Box = (slice(0, 0), slice(0, 0), slice(0, 0))
        if pieces:
            box = joint_box([piece.box for piece in pieces], (0, 0, 0), self.scene.geometry.shape)
        mask = np.zeros([side.stop - side.start for side in box], dtype=bool)
        for piece in pieces:
            mask[inside(box, piece.box)] |= piece.mask
        self.cuttings.append(Cutting(path, box, mask))
        return path

    def _comparisons(self, clause: Clause, targets: Sequence[TargetAnswer]) -> tuple[Comparison, ...]:
        items: list[tuple[str, list[Found]]] = [(target.said, list(target.found)) for target in targets]
        if len(items) == 1:
            names = targets[0].looked_for
            display = {name: self.scene.vocabulary[name].display_name for name in names}
            items = [(display[name], [one for one in targets[0].found if one.name == name]) for name in names]
        wanted: dict[Quantity, None] = {}
        for asked in clause.quantities or ("size", "density"):
            wanted |= dict.fromkeys(_QUANTITIES[asked])
        return tuple(_compare(quantity, items) for quantity in wanted)


_QUANTITIES: dict[str, tuple[Quantity, ...]] = {
    "size": ("volume", "diameter"),
    "volume": ("volume",),
    "diameter": ("diameter",),
    "density": ("density",),
}
_UNITS: dict[Quantity, str] = {"volume": "ml", "diameter": "mm", "density": "HU"}


def _compare(quantity: Quantity, items: Sequence[tuple[str, Sequence[Found]]]) -> Comparison:
    values = tuple(_value(quantity, found) for _, found in items)
    first = values[0]
    differences = tuple(None if v is None or first is None else v - first for v in values)
    related = quantity != "density"  # HU have no zero that means nothing
    ratios = tuple(None if v is None or not first or not related else v / first for v in values)
    return Comparison(quantity, _UNITS[quantity], tuple(name for name, _ in items), values, differences, ratios)


def _value(quantity: Quantity, found: Sequence[Found]) -> float | None:
    """Of several things: their volume together, the longest diameter, the mean over all of their voxels."""
    if not found:
        return None
    if quantity == "volume":
        return sum(one.volume_ml for one in found)
    if quantity == "diameter":
        return max(one.longest_mm for one in found)
    sized = [(one.hu_mean, one.volume_ml) for one in found if one.hu_mean is not None]
    return sum(mean * ml for mean, ml in sized) / sum(ml for _, ml in sized) if sized else None
