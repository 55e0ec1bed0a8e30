"""``findings.json`` and its schema: nothing missing, nothing unknown, every field explained, the format guarded."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from tests.answering.documents import document, poor, rich
from tests.answering.phantom import SHAPE, scene
from voxicon.answering.document import FORMAT, Document, _dataclasses, schema
from voxicon.findings.finding import Finding

SCHEMA = schema()
VALIDATOR = Draft202012Validator(SCHEMA)

REQUIRED = (
    "format", "voxicon", "notice", "scan", "masks_by", "requests", "detection", "lesions", "organs", "not_looked_for",
    "impression", "language", "warnings", "notes",
)  # fmt: skip
"""Programs of other people read these. Who changes them, or the meaning of one, changes FORMAT: to
``voxicon-findings-2``, in this test too."""


@pytest.fixture(scope="module")
def data() -> dict[str, Any]:
    """A rich document, through JSON."""
    made: dict[str, Any] = json.loads(json.dumps(rich().to_dict(), allow_nan=False))
    return made


def test_the_schema_is_a_schema() -> None:
    Draft202012Validator.check_schema(SCHEMA)
    assert SCHEMA["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert SCHEMA["$id"] == f"urn:{FORMAT}"
    json.dumps(SCHEMA, allow_nan=False)


def test_the_format_is_guarded() -> None:
    assert FORMAT == "voxicon-findings-1"
    assert tuple(SCHEMA["required"]) == tuple(SCHEMA["properties"]) == REQUIRED
    assert SCHEMA["properties"]["format"]["const"] == FORMAT


def test_documents_are_valid(data: dict[str, Any]) -> None:
    VALIDATOR.validate(data)
    VALIDATOR.validate(json.loads(json.dumps(poor().to_dict(), allow_nan=False)))
    assert all(data[key] for key in REQUIRED)
    assert [len(data[key]) for key in ("requests", "detection")] == [5, 4]
    assert [entry["name"] for entry in data["detection"] if entry["measured"]] == ["liver_tumor"]
    assert {one["name"] for one in data["lesions"]} == {"liver_tumor", "kidney_tumor", "pancreas_tumor"}


def objects(node: Any, path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every object of a document, with its path."""
    if isinstance(node, dict):
        yield path, node
        for key, value in node.items():
            yield from objects(value, f"{path}/{key}")
    elif isinstance(node, list):
        for at, value in enumerate(node):
            yield from objects(value, f"{path}/{at}")


def test_an_unknown_field_is_refused_everywhere(data: dict[str, Any]) -> None:
    for path, _ in list(objects(data)):
        if path.endswith("/sensitivity"):
            continue  # keys are sizes
        other = copy.deepcopy(data)
        dict(objects(other))[path]["surprise"] = 1
        assert not VALIDATOR.is_valid(other), path


def test_a_missing_field_is_refused_everywhere(data: dict[str, Any]) -> None:
    seen = set()
    for path, node in objects(data):
        kind = tuple(node)
        if kind in seen or path.endswith("/sensitivity"):
            continue
        seen.add(kind)
        for key in node:
            other = copy.deepcopy(data)
            del dict(objects(other))[path][key]
            assert not VALIDATOR.is_valid(other), f"{path} without {key}"
    assert len(seen) > 12


WRONG = {
    "format": "voxicon-findings-2", "impression": "none", "lesions": None, "detection": [{}], "language": 1,
    "scan": None, "organs": [1],
}  # fmt: skip


@pytest.mark.parametrize(("key", "value"), WRONG.items())
def test_a_wrong_value_is_refused(data: dict[str, Any], key: str, value: object) -> None:
    assert not VALIDATOR.is_valid({**data, key: value})


def test_every_field_of_every_dataclass_is_described() -> None:
    kinds = set(_dataclasses(Document))
    assert len(kinds) > 14
    for kind in kinds:
        entry = SCHEMA if kind is Document else SCHEMA["$defs"][kind.__name__]
        assert entry["description"]
        assert not entry["additionalProperties"]
        for field in fields(kind):
            text = entry["properties"][field.name].get("description", "")
            assert text.endswith("."), f"{kind.__name__}.{field.name}: {text!r}"
            assert "Attributes" not in text
            assert "\n" not in text
        assert set(entry["required"]) == {field.name for field in fields(kind)}


def test_a_description_of_several_lines_is_whole() -> None:
    text = SCHEMA["$defs"]["Found"]["properties"]["touches_border"]["description"]
    assert text == "A voxel lies in the outermost slice that was scanned, on any side."
    text = SCHEMA["$defs"]["Confidence"]["properties"]["stability"]["description"]
    assert text.startswith("Volume with the threshold raised")
    assert text.endswith("there on logits.")
    assert SCHEMA["description"] == "All that is known after requests about one scan."


def test_no_two_dataclasses_share_a_name() -> None:
    # The schema knows them by it.
    names = [kind.__name__ for kind in set(_dataclasses(Document))]
    assert len(names) == len(set(names))


WHAT = ("liver", "kidneys", "liver tumors", "tumors", "aorta", "largest tumor", "tail of the pancreas", "kidney cysts",
        "liver tumors larger than 1 cm", "upper half of the liver", "spleen", "vessels")  # fmt: skip
DO = ("segment", "mark", "measure", "count", "measure the volume and density of", "report on")


@settings(max_examples=15)
@given(st.lists(st.tuples(st.sampled_from(DO), st.sampled_from(WHAT)), min_size=1, max_size=4))
def test_whatever_is_asked_the_document_is_valid(asked: list[tuple[str, str]]) -> None:
    drawn = scene(spleen=np.zeros(SHAPE, bool)).masks
    made = document(*(f"{do} the {what}" for do, what in asked), found=drawn)
    VALIDATOR.validate(json.loads(json.dumps(made.to_dict(), allow_nan=False)))
    assert [request.text for request in made.requests] == [f"{do} the {what}" for do, what in asked]


def numbers(node: Any) -> Iterator[float]:
    if isinstance(node, dict):
        node = list(node.values())
    if isinstance(node, list):
        for one in node:
            yield from numbers(one)
    elif isinstance(node, float):
        yield node


def test_plain_types_alone(data: dict[str, Any]) -> None:
    # Lists, not tuples; and JSON writes what it reads, to the last digit.
    assert rich().to_dict() == data
    assert len(list(numbers(data))) > 100
    assert all(np.isfinite(list(numbers(data))))


def test_what_the_document_says_of_scan_and_makers(data: dict[str, Any]) -> None:
    assert data["scan"] == {
        "name": "belly", "file": "belly.nii.gz", "sha256": "0" * 64, "shape": [48, 32, 30],
        "spacing_mm": [2.0, 2.0, 4.0], "orientation": "RAS",
    }  # fmt: skip
    assert data["masks_by"] == {
        "weights": "small", "title": "noise", "sha256": "a" * 64, "license": "Apache-2.0", "given": [],
        "given_from": None,
    }  # fmt: skip
    assert (data["warnings"], data["notes"], data["language"]) == (["odd"], ["liver: removed"], "en")
    assert data["notice"] == "Research software, not a medical device."


def test_lesions_and_organs_are_those_asked_for() -> None:
    only = poor().to_dict()
    assert [organ["name"] for organ in only["organs"]] == ["spleen"]
    assert (only["lesions"], only["detection"], only["not_looked_for"]) == ([], [], [])
    assert only["impression"] == ["No kind of tumor or cyst was looked for.", "Not found: spleen."]


def test_the_schema_in_the_docs_is_the_one_that_holds() -> None:
    path = Path(__file__).parents[2] / "docs" / "findings.schema.json"
    # To write it again: json.dumps(voxicon.answering.document.schema(), indent=2, ensure_ascii=False) and a newline.
    assert json.loads(path.read_text(encoding="utf8")) == schema()


def test_numbers_are_told_to_six_decimals_and_nothing_else_changes() -> None:
    told, exact = rich().to_dict(), Finding.to_dict(rich())

    def same(one: Any, other: Any) -> bool:
        if isinstance(other, dict):
            return one.keys() == other.keys() and all(same(one[key], other[key]) for key in other)
        if isinstance(other, list):
            return len(one) == len(other) and all(map(same, one, other))
        if isinstance(other, float):
            return type(one) is float and one == round(other, 6)
        return bool(one == other)

    assert same(told, exact)
    assert told != exact, "this document has a number of more decimals"
