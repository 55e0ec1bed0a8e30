"""Dataset cards: one YAML file per dataset says where it comes from, how its files lie, and what they annotate.

A class that a card does not list is *unknown* in its scans: neither present nor absent, and no loss
is computed for it. A class that is listed and has no voxel is *known and absent*.
The whole language is described in ``docs/cards.md``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from voxicon.core.concepts import Concept, Vocabulary
from voxicon.errors import CardError

SplitName = Literal["train", "val", "test"]

_AXES = r"^(header|image|[RL][AP][SI]|[RL][SI][AP]|[AP][RL][SI]|[AP][SI][RL]|[SI][RL][AP]|[SI][AP][RL])$"


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class LabelSet(_Section):
    """Set algebra on raw structures: everything in `union`, less everything in `minus`, on one side if asked.

    An empty union says that the class is known to be absent from every scan: nothing is found there, and everything
    found is wrong.

    `side` is for structures that hold both sides in one value: the part right or left of the body's
    mid-plane, see `voxicon.data.sides`.
    """

    union: tuple[str, ...]
    minus: tuple[str, ...] = ()
    side: Literal["left", "right"] | None = None


class Part(_Section):
    """Scans of a dataset that lie alike and are annotated alike. Patterns are relative to the dataset's folder.

    In a pattern ``{case}`` stands for the case id, ``*`` for anything within one name; ``.nii`` and
    ``.nii.gz`` mean each other. A pattern that ends in ``/`` is a folder (a DICOM series, PNG slices).

    Attributes:
        image: The CT.
        label: A label map whose values `DatasetCard.raw` explains, or
        masks: one file or DICOM folder per structure, ``{structure}`` standing for its name.
        case: Regular expression that the case id must match in full.
        example: A case id as distributed; for people, and for ``voxicon assembly example``.
        numbers: Lowest and highest number a case id may hold, for datasets that mean different things by number.
        split: The official split of these cases.
        annotates: Classes annotated in these cases, where they are fewer than the card's.
    """

    image: str
    label: str | None = None
    masks: str | None = None
    case: str = r"[^/]+"
    example: str | None = None
    numbers: tuple[int, int] | None = None
    split: SplitName | None = None
    annotates: tuple[str, ...] | None = None

    @model_validator(mode="after")
    def _is_sound(self) -> Part:
        if self.label is not None and self.masks is not None:
            raise ValueError("give label or masks, not both")
        if self.masks is not None and "{structure}" not in self.masks:
            raise ValueError("masks needs {structure} in its pattern")
        try:
            re.compile(self.case)
        except re.error as error:
            raise ValueError(f"case is not a regular expression: {error}") from error
        if self.example is not None and not self.holds(self.example):
            raise ValueError(f"example {self.example!r} is not a case id of this part; give one that is")
        return self

    def holds(self, name: str) -> bool:
        """Whether a case id belongs to this part."""
        if not re.fullmatch(self.case, name):
            return False
        if self.numbers is None:
            return True
        digits = re.findall(r"\d+", name)
        return bool(digits) and self.numbers[0] <= int(digits[-1]) <= self.numbers[1]


class Splits(_Section):
    """Official splits that no folder tells: a table beside the scans, or lists of case ids (all others train)."""

    file: str | None = None
    delimiter: str = ","
    case: str = "case"
    split: str = "split"
    val: tuple[str, ...] = ()
    test: tuple[str, ...] = ()


class Sampling(_Section):
    """Where training patches are centered, in shares: one part of `background` to so many of the others.

    Attributes:
        background: Outside all annotated classes.
        foreground: Anywhere inside the annotated classes, or
        organ: inside organs and vessels, and
        lesion: inside lesions, where tumors are rare.
    """

    background: float = Field(1.0, ge=0)
    foreground: float = Field(0.0, ge=0)
    organ: float = Field(0.0, ge=0)
    lesion: float = Field(0.0, ge=0)

    @model_validator(mode="after")
    def _is_sound(self) -> Sampling:
        if self.background + self.foreground + self.organ + self.lesion <= 0:
            raise ValueError("at least one share must be above zero")
        return self


class Zoom(_Section):
    """Share of patches that are enlarged, and how much; see the original's training on MSD."""

    chance: float = Field(ge=0, le=1)
    low: float = Field(gt=0)
    high: float = Field(gt=0)

    @model_validator(mode="after")
    def _is_sound(self) -> Zoom:
        if self.high < self.low:
            raise ValueError("high must not be below low")
        return self


OWN_IDS = 1000
"""First id of classes that are not in the vocabulary; the package's own stay below."""

FOREGROUND = Sampling(background=1, foreground=2)
"""Source: the original's default, two patches on any label to one beside it."""


class DatasetCard(_Section):
    """What a dataset is, where its files lie, and what its raw labels mean.

    Attributes:
        id: Short name, unique among cards.
        title: As its makers name it.
        citation: Whom to cite.
        source: Where to download it.
        terms: Its license, and when that was read.
        labels_by: Who drew the labels. Agreement with machine labels is agreement, not accuracy.
        phase: Contrast phase, where known.
        pitfalls: What has gone wrong for others.
        parts: Where the files lie; scans that lie or are annotated differently are different parts.
        raw: Raw value → structure name, as distributed. Values not listed are background. For datasets with
            one file per structure the numbers only order the structures.
        names: Structure name → names (with ``*``) its files go by, where they differ.
        missing: What a structure without a file means.
        label_axes: ``header`` (the label file says where its voxels are), ``image`` (same voxel order as the CT,
            whatever the label's header says), or an orientation such as ``LPS`` that the label's voxels really have.
        annotates: Our class → raw structures. Classes left out are unknown in this dataset.
        patient: Regular expression whose first group is the patient within a case id; the whole id by default.
        splits: Official splits.
        sampling: Where patches are centered.
        zoom: How patches are enlarged.
        repaint_hu: Structure name, or the start of one → range of mean HU it may be repainted to in training.
        defines: Classes the vocabulary does not have: name → entry as in ``vocabulary.yaml``, without an id.
    """

    id: str = Field(pattern=r"^[a-z0-9_]+$")
    title: str
    citation: str = ""
    source: str
    terms: str
    labels_by: Literal["human", "machine", "human and machine"]
    phase: str = "not stated"
    pitfalls: tuple[str, ...] = ()
    parts: tuple[Part, ...] = Field(min_length=1)
    raw: Mapping[int, str]
    names: Mapping[str, tuple[str, ...]] = {}
    missing: Literal["unknown", "empty"] = "unknown"
    label_axes: str = Field("header", pattern=_AXES)
    annotates: Mapping[str, LabelSet]
    patient: str | None = None
    splits: Splits = Splits()
    sampling: Sampling = FOREGROUND
    zoom: Zoom | None = None
    repaint_hu: Mapping[str, tuple[float, float]] = {}
    defines: Mapping[str, Mapping[str, Any]] = {}

    def vocabulary(self) -> Vocabulary:
        """The shipped vocabulary with the classes this card defines."""
        default = Vocabulary.default()
        return default.extended(define_concepts(self.defines)) if self.defines else default

    def structures_of(self, labels: LabelSet) -> frozenset[str]:
        """Raw structures that make up a class, sides aside."""
        return frozenset(labels.union) - frozenset(labels.minus)


def define_concepts(entries: Mapping[str, Mapping[str, Any]]) -> tuple[Concept, ...]:
    """Concepts for classes that a card or a checkpoint brings along, numbered from `OWN_IDS`.

    Only `kind` is required of an entry; what is left out is as for a class without a code, a side or a
    cleanup rule. Colors are spread by number.

    Raises:
        CardError: A field is unknown or missing.
    """
    concepts = []
    for number, (name, entry) in enumerate(entries.items(), start=OWN_IDS):
        color = [round(128 + 100 * math.sin(number * 2.4 + phase)) for phase in (0, 2, 4)]
        values = {
            "snomed": ["", name],
            "color": color,
            "cleanup": {"rule": "none"},
            **entry,
            "id": number,
            "name": name,
        }
        try:
            concepts.append(Concept.from_dict(values))
        except (TypeError, KeyError) as error:
            raise CardError(f"the class {name!r} is not well defined: {error}") from error
    return tuple(concepts)


def load_card(name_or_path: str | Path) -> DatasetCard:
    """Read a card that ships with the package by its id, or any card by its path.

    Raises:
        CardError: No such card, not YAML, or a field is missing, unknown or wrong; names file and line.
    """
    path = Path(name_or_path)
    if path.suffix in {".yaml", ".yml"}:
        if not path.is_file():
            raise CardError(f"{path}: no such dataset card")
        return parse_card(path.read_text(encoding="utf8"), str(path))
    return _shipped(str(name_or_path))


@cache
def _shipped(name: str) -> DatasetCard:
    shipped = resources.files(__package__).joinpath("cards", f"{name}.yaml")
    if not shipped.is_file():
        known = ", ".join(card_ids())
        raise CardError(f"no dataset card {name!r}; known: {known}; or give the path of a .yaml file")
    return parse_card(shipped.read_text(encoding="utf8"), f"{name}.yaml")


def card_ids() -> tuple[str, ...]:
    """Ids of the cards that ship with the package."""
    folder = resources.files(__package__).joinpath("cards")
    return tuple(sorted(f.name.removesuffix(".yaml") for f in folder.iterdir() if f.name.endswith(".yaml")))


def parse_card(text: str, name: str) -> DatasetCard:
    """A card from YAML text; `name` stands for the file in messages.

    Raises:
        CardError: See `load_card`.
    """
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        values = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = mark.line + 1 if mark else 1
        raise CardError(f"{name}:{line}: not valid YAML: {getattr(error, 'problem', error)}") from error
    if not isinstance(values, dict):
        raise CardError(f"{name}:1: a dataset card is a mapping of fields, found {type(values).__name__}")
    try:
        card = DatasetCard.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        place = tuple(str(part) for part in first["loc"])
        raise CardError(f"{name}:{_line_of(root, place)}: {'.'.join(place)}: {first['msg']}") from error
    for place, problem in _dangling(card):
        raise CardError(f"{name}:{_line_of(root, place)}: {'.'.join(place)}: {problem}")
    return card


def _dangling(card: DatasetCard) -> Iterator[tuple[tuple[str, ...], str]]:
    """References that lead nowhere, with their place in the card."""
    structures = set(card.raw.values())
    if len(structures) != len(card.raw):
        yield ("raw",), "two values have the same structure name"
    vocabulary = card.vocabulary()
    for name, labels in card.annotates.items():
        if name not in vocabulary:
            near = ", ".join(vocabulary.suggest(name))
            yield ("annotates", name), "no such class" + (f"; did you mean {near}?" if near else "")
        unknown = [s for s in (*labels.union, *labels.minus) if s not in structures]
        if unknown:
            yield ("annotates", name), f"{', '.join(unknown)} is not among the raw structures"
    for name in card.names:
        if name not in structures:
            yield ("names", name), "is not among the raw structures"
    for index, part in enumerate(card.parts):
        unlisted = [name for name in part.annotates or () if name not in card.annotates]
        if unlisted:
            yield ("parts", str(index), "annotates"), f"{', '.join(unlisted)} is not among the card's classes"


def _line_of(node: Any, place: tuple[str, ...]) -> int:
    """Line of the deepest part of a path that exists in a YAML document; 1-based."""
    line: int = node.start_mark.line + 1
    for part in place:
        if isinstance(node, yaml.MappingNode):
            pairs = [(key, value) for key, value in node.value if key.value == part]
            if not pairs:
                return line
            key, node = pairs[0]
            line = key.start_mark.line + 1
        elif isinstance(node, yaml.SequenceNode) and part.isdigit() and int(part) < len(node.value):
            node = node.value[int(part)]
            line = node.start_mark.line + 1
    return line
