"""What has to be found before a request can be answered, and what is refused before anything is computed."""

from __future__ import annotations

from collections.abc import Collection

import pytest

from voxicon.answering.needs import Needs, needs_of
from voxicon.asking import Request, parse
from voxicon.asking.request import Clause, Place, Target
from voxicon.core.concepts import Vocabulary
from voxicon.errors import UnknownClass, UsageError

VOCABULARY = Vocabulary.default()
ABLE = (
    "liver", "pancreas", "kidney_right", "kidney_left", "spleen", "aorta", "hepatic_vessel",
    "portal_vein_and_splenic_vein", "liver_tumor", "pancreas_tumor", "kidney_tumor",
)  # fmt: skip
BY = "weights 'small'"


def needs(*texts: str, able: Collection[str] = ABLE) -> Needs:
    return needs_of([parse(text, VOCABULARY) for text in texts], VOCABULARY, able, BY)


def test_a_mask_of_an_organ_needs_that_organ_alone() -> None:
    for text in ("segment the liver", "mark the liver", "count the liver"):
        assert needs(text) == Needs(("liver",), (), ())


def test_an_organ_is_measured_with_and_without_its_lesions() -> None:
    for text in ("measure the liver", "report on the liver", "compare the liver with the spleen"):
        assert needs(text).around == ("liver_tumor",), text
    assert needs("measure the liver", able=("liver", "spleen")).around == ()


def test_a_lesion_needs_its_organ_and_the_vessels_that_are_known() -> None:
    found = needs("segment the pancreas tumors")
    assert found.asked == ("pancreas_tumor",)
    assert found.around == ("pancreas", "portal_vein_and_splenic_vein", "aorta")
    assert needs("kidney tumors").around == ("kidney_right", "kidney_left", "aorta")
    assert needs("pancreas tumors", able=("pancreas_tumor",)).around == ()


def test_places_neighbors_and_what_is_left_out_are_needed_too() -> None:
    assert needs("the upper third of the spleen").around == ()
    assert needs("portal vein in the liver") == Needs(("portal_vein_and_splenic_vein",), ("liver",), ())
    assert "spleen" in needs("kidney tumors near the spleen").around
    assert needs("segment the liver without the hepatic vessels").around == ("hepatic_vessel",)
    # What is left out and nobody can find takes nothing away.
    assert needs("segment the liver without the vessels", able=("liver", "aorta")).around == ("aorta",)


def test_a_class_is_named_once_and_asked_for_goes_before_around() -> None:
    found = needs("measure the pancreas tumors", "segment the aorta and the pancreas", "measure the aorta")
    assert found.asked == ("pancreas_tumor", "aorta", "pancreas")
    assert found.around == ("portal_vein_and_splenic_vein",)
    assert found.classes == ("pancreas_tumor", "aorta", "pancreas", "portal_vein_and_splenic_vein")


def test_of_a_family_what_is_known_is_looked_for_and_the_rest_told() -> None:
    found = needs("count the tumors")
    assert set(found.asked) == {"liver_tumor", "pancreas_tumor", "kidney_tumor"}
    assert {"lung_tumor", "colon_tumor"} <= set(found.unknown)
    assert not set(found.unknown) & set(ABLE)


def test_a_report_on_the_whole_scan_asks_for_all_that_is_known() -> None:
    found = needs("generate a report")
    assert found.asked == tuple(name for name in VOCABULARY.names if name in ABLE)
    assert set(found.unknown) == {c.name for c in VOCABULARY if c.kind == "lesion"} - set(ABLE)


def refused(kind: type[UsageError], request: str | Request, able: Collection[str] = ABLE) -> str:
    parsed = parse(request, VOCABULARY) if isinstance(request, str) else request
    with pytest.raises(kind) as caught:
        needs_of([parsed], VOCABULARY, able, BY)
    message = str(caught.value)
    assert message.startswith("request: ")
    assert "\n" not in message
    assert type(caught.value) is kind
    return message


def test_what_nobody_can_find_is_refused_with_what_they_find() -> None:
    assert refused(UnknownClass, "segment the stomach", ("liver", "spleen")) == (
        "request: weights 'small' cannot find stomach; they find spleen, liver; use weights that know it (--weights), "
        "or bring masks of it (--masks)"
    )
    # Who asks for lesions is told of lesions.
    told = refused(UnknownClass, "segment the lung tumors", ("liver", "liver_tumor", "kidney_tumor"))
    assert "they find kidney tumor, liver tumor; use weights" in told
    assert "they find no lesions at all; use" in refused(UnknownClass, "measure the tumors", ("liver",))
    assert "cannot find lung tumor" in refused(UnknownClass, "measure the lung tumors, the liver")


def test_places_and_neighbors_that_nobody_can_find_are_refused() -> None:
    assert refused(UnknownClass, "kidney tumors near the stomach") == (
        "request: weights 'small' cannot find stomach, which the request refers to; leave that out"
    )
    assert "cannot find liver, which" in refused(
        UnknownClass, "portal vein in the liver", ("portal_vein_and_splenic_vein",)
    )
    assert "cannot find pancreas; they find liver" in refused(UnknownClass, "tail of the pancreas", ("liver",))


def test_parts_that_no_mask_tells_are_refused_with_those_that_are_told() -> None:
    told = refused(UsageError, "segment the dome of the liver")
    assert told.startswith("request: found 'the dome of the liver'; a mask of the liver does not tell where that is; ")
    assert "expected one of: upper third, middle third" in told
    assert "expected one of: head, body, tail, upper third" in refused(UsageError, "tumors in the neck of the pancreas")
    # One organ of a family that cannot be cut so is enough.
    place = Place("organs", ("pancreas", "liver"), "tail")
    request = Request((Clause("segment", (Target("tumors", ("pancreas_tumor",), place=place),)),))
    assert "the tail of the liver" in refused(UsageError, request)
