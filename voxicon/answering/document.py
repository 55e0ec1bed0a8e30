"""``findings.json``: everything that was asked, found and measured in one scan, and its JSON schema.

The schema is made from the dataclasses, descriptions included, so that it cannot tell of another file than the one
that is written. `FORMAT` changes when a program that reads the old one would be misled.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, is_dataclass
from typing import Any, Final, get_args, get_type_hints

from pydantic import TypeAdapter

from voxicon.answering.answers import RequestAnswer
from voxicon.answering.detection import Detection
from voxicon.findings.finding import Finding
from voxicon.findings.lesions import LesionFinding
from voxicon.findings.organs import OrganFinding

FORMAT: Final = "voxicon-findings-1"

FINDINGS_FILE = "findings.json"

_DECIMALS = 6


@dataclass(frozen=True)
class Scan(Finding):
    """The scan that was looked at.

    Attributes:
        name: Of its file, without extensions.
        file: Name of its file.
        sha256: Of the file's bytes.
        shape: Voxels along X, Y and Z.
        spacing_mm: Between their centers.
        orientation: Direction in which each voxel axis runs, such as LAS.
    """

    name: str
    file: str
    sha256: str
    shape: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]
    orientation: str


@dataclass(frozen=True)
class Makers(Finding):
    """Where masks came from.

    Attributes:
        weights: Name of the weights; None where all masks were given.
        title: Theirs.
        sha256: Of their file; None likewise.
        license: As they state it; None likewise.
        given: Classes of which masks were given.
        given_from: Name of the folder that held them; None where none were.
    """

    weights: str | None
    title: str | None
    sha256: str | None
    license: str | None
    given: tuple[str, ...]
    given_from: str | None


@dataclass(frozen=True)
class Document(Finding):
    """All that is known after requests about one scan.

    Attributes:
        format: ``voxicon-findings-1``.
        voxicon: Version of the program.
        notice: What this is not.
        scan: What was looked at.
        masks_by: What made the masks.
        requests: Answers, in the order of the requests.
        detection: One entry for each kind of lesion that was looked for.
        lesions: Every lesion of those kinds, by kind, largest first.
        organs: Every organ and vessel that was asked for.
        not_looked_for: Classes that a family or a report asked for and that could not be looked for.
        impression: The above in sentences, which say nothing that was not measured.
        language: Of these sentences, such as ``en``.
        warnings: What was odd about the scan or its computation.
        notes: What cleaning up took away from masks.
    """

    format: str
    voxicon: str
    notice: str
    scan: Scan
    masks_by: Makers
    requests: tuple[RequestAnswer, ...]
    detection: tuple[Detection, ...]
    lesions: tuple[LesionFinding, ...]
    organs: tuple[OrganFinding, ...]
    not_looked_for: tuple[str, ...]
    impression: tuple[str, ...]
    language: str
    warnings: tuple[str, ...]
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """The content of ``findings.json``; numbers to six decimals."""
        data: dict[str, Any] = _rounded(super().to_dict())
        return data


def schema() -> dict[str, Any]:
    """The JSON schema (draft 2020-12) of `Document.to_dict`, with what each field means."""
    made = TypeAdapter(Document).json_schema(mode="serialization")
    entries = {"Document": made, **made["$defs"]}
    for kind in {kind.__name__: kind for kind in _dataclasses(Document)}.values():
        entry = entries[kind.__name__]
        entry["description"], told = _described(kind.__doc__ or "")
        entry["additionalProperties"] = False
        entry["required"] = list(entry["properties"])  # what has a default is written like all else
        for name, text in told.items():
            entry["properties"][name]["description"] = text
    made["properties"]["format"]["const"] = FORMAT
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"urn:{FORMAT}",
        "title": "Findings of Voxicon",
        **{key: value for key, value in made.items() if key != "title"},
    }


def _rounded(data: Any) -> Any:
    """Plain data with floats rounded: more digits than nanometers would only tell how a machine rounds."""
    if isinstance(data, dict):
        return {key: _rounded(value) for key, value in data.items()}
    if isinstance(data, list):
        return [_rounded(value) for value in data]
    return round(float(data), _DECIMALS) if isinstance(data, float) else data


def _dataclasses(kind: Any) -> Iterator[type]:
    """A dataclass and all those that its fields hold."""
    if is_dataclass(kind) and isinstance(kind, type):
        yield kind
        for held in get_type_hints(kind).values():
            yield from _dataclasses(held)
    for argument in get_args(kind):
        yield from _dataclasses(argument)


def _described(docstring: str) -> tuple[str, Mapping[str, str]]:
    """A docstring's first part, and what its ``Attributes`` say."""
    summary, _, attributes = docstring.partition("Attributes:")
    told: dict[str, str] = {}
    for line in attributes.splitlines():
        if found := re.match(r" {8}(\w+): (.*)", line):
            name, text = found.groups()
            told[name] = text
        elif line.strip() and told:
            told[name] += f" {line.strip()}"
    return " ".join(summary.split()), told
