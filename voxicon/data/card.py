"""Dataset cards: one YAML file per dataset says where it comes from and which classes it annotates.

A class that a card does not list is *unknown* in its scans: neither present nor absent, and no loss
is computed for it. A class that is listed and has no voxel is *known and absent*.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from voxicon.core.concepts import Vocabulary
from voxicon.errors import CardError


class LabelSet(BaseModel):
    """Set algebra on raw structures: everything in `union`, less everything in `minus`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    union: tuple[str, ...] = Field(min_length=1)
    minus: tuple[str, ...] = ()


class DatasetCard(BaseModel):
    """What a dataset is and what its raw label values mean.

    Attributes:
        id: Short name, unique among cards.
        title: As its makers name it.
        source: Where it comes from.
        terms: Its license.
        labels_by: Who drew the labels. Agreement with machine labels is agreement, not accuracy.
        phase: Contrast phase, where known.
        image: CT file, relative to the data folder.
        label: Label map on the same grid, relative to the data folder.
        raw: Raw value → structure name, as distributed. Values not listed are background.
        annotates: Our class → raw structures. Classes left out are unknown in this dataset.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str = Field(pattern=r"^[a-z0-9_]+$")
    title: str
    source: str
    terms: str
    labels_by: Literal["human", "machine", "human and machine"]
    phase: str = "not stated"
    image: str
    label: str
    raw: Mapping[int, str]
    annotates: Mapping[str, LabelSet]


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
    shipped = resources.files(__package__).joinpath("cards", f"{name_or_path}.yaml")
    if not shipped.is_file():
        known = ", ".join(card_ids())
        raise CardError(f"no dataset card {str(name_or_path)!r}; known: {known}; or give the path of a .yaml file")
    return parse_card(shipped.read_text(encoding="utf8"), f"{name_or_path}.yaml")


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
    for name, labels in card.annotates.items():
        if name not in Vocabulary.default():
            near = ", ".join(Vocabulary.default().suggest(name))
            yield ("annotates", name), "no such class" + (f"; did you mean {near}?" if near else "")
        unknown = [s for s in (*labels.union, *labels.minus) if s not in structures]
        if unknown:
            yield ("annotates", name), f"{', '.join(unknown)} is not among the raw structures"


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
