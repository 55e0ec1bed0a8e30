"""Requests of many kinds and what they mean; the table is ``requests.yaml`` beside this file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from voxicon.asking import Condition, Place, Target, parse
from voxicon.core.concepts import Vocabulary

VOCABULARY = Vocabulary.default()
REQUESTS: dict[str, str] = yaml.safe_load(Path(__file__).with_name("requests.yaml").read_text(encoding="utf8"))


@pytest.mark.parametrize(("text", "meaning"), REQUESTS.items(), ids=list(REQUESTS))
def test_a_request_means_what_the_table_says(text: str, meaning: str) -> None:
    request = parse(text, VOCABULARY)
    assert request.in_plain_words() == meaning
    assert parse(meaning, VOCABULARY) == request, "the plain words lose something"


def _targets(text: str) -> tuple[Target, ...]:
    return parse(text, VOCABULARY).clauses[-1].targets


def test_every_field_of_a_parse() -> None:
    (clause,) = parse(
        "the largest tumor in the tail of the pancreas within 1 cm of the aorta, if any", VOCABULARY
    ).clauses
    assert (clause.action, clause.if_any, clause.same, clause.without) == ("segment", True, False, ())
    assert clause.targets == (
        Target(
            "pancreas tumor",
            ("pancreas_tumor",),
            place=Place("pancreas", ("pancreas",), "tail"),
            conditions=(Condition("largest", 1.0), Condition("within", 10.0, "mm", "aorta", ("aorta",))),
        ),
    )


def test_a_parse_is_plain_data() -> None:
    data = parse("Please measure the panceas.", VOCABULARY).to_dict()
    assert json.loads(json.dumps(data))["clauses"][0]["targets"][0]["classes"] == ["pancreas"]
    assert data["ignored"] == ("please",)
    assert data["corrected"] == (("panceas", "pancreas"),)


def test_the_same_names_its_targets() -> None:
    assert _targets("Segment the tumors in the liver and then measure their size") == _targets("liver tumor")


def test_families_hold_their_classes() -> None:
    assert _targets("compare the kidneys")[0].classes == ("kidney_left", "kidney_right")
    cysts = {"kidney_cyst_left", "kidney_cyst_right"}  # they are parts of kidney_cyst
    assert set(_targets("everything")[0].classes) == set(VOCABULARY.names) - cysts
    assert set(_targets("vessels")[0].classes) == {c.name for c in VOCABULARY if c.kind == "vessel"}
    assert len(_targets("left ribs")[0].classes) == 12
    assert _targets("lumbar vertebrae")[0].classes == tuple(f"vertebrae_L{n}" for n in (5, 4, 3, 2, 1))


def test_lesions_without_side_are_not_asked_for_twice() -> None:
    assert "kidney_cyst_left" not in _targets("lesions")[0].classes
    assert _targets("left cysts")[0].classes == ("kidney_cyst_left",)


def test_tumors_of_an_area_are_those_of_its_organs() -> None:
    assert "lung_tumor" not in _targets("tumors in the abdomen")[0].classes
    assert "liver_tumor" in _targets("tumors in the abdomen")[0].classes


def test_everything_in_an_organ_holds_its_vessels() -> None:
    assert _targets("everything in the liver")[0].classes == ("hepatic_vessel", "liver_tumor", "hepatic_vessel_tumor")


def test_what_is_left_out_is_gone() -> None:
    assert "stomach" not in _targets("all abdominal organs except the stomach")[0].classes
    assert _targets("kidneys, not the left kidney")[0].classes == ("kidney_right",)


def test_the_parts_of_what_is_left_out_are_gone_too() -> None:
    left = _targets("everything except the bones and the left lung")[0].classes
    assert not {"rib_left_3", "femur_left", "vertebrae_L1", "lung_upper_lobe_left"}.intersection(left)
    assert {"lung_upper_lobe_right", "lung_tumor"} <= set(left)


def test_the_same_leaves_out_the_same() -> None:
    for text in ("liver without the vessels, then measure it", "segment and measure the liver without the vessels"):
        first, second = parse(text, VOCABULARY).clauses
        assert second.same
        assert second.without == first.without
    first, second = parse("segment and measure the organs except the liver", VOCABULARY).clauses
    assert second.targets == first.targets
    some = parse("organs except the liver, then measure the largest", VOCABULARY).clauses[1]
    assert "liver" not in some.targets[0].classes
    assert [excluded.said for excluded in some.without] == ["liver"]


def test_what_is_no_class_of_the_target_is_to_be_subtracted() -> None:
    (clause,) = parse("liver without the vessels", VOCABULARY).clauses
    assert clause.targets[0].classes == ("liver",)
    assert "hepatic_vessel" in clause.without[0].classes
