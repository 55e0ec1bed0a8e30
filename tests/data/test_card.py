"""Cards: the shipped ones are sound, and a broken one is refused with file and line."""

from __future__ import annotations

from pathlib import Path

import pytest

from voxicon.core.concepts import Vocabulary
from voxicon.data.card import FOREGROUND, OWN_IDS, Part, card_ids, define_concepts, load_card, parse_card
from voxicon.errors import CardError, UsageError

GOOD = """\
id: example
title: An example
source: made up
terms: none
labels_by: human
parts:
  - {image: "{case}_ct.nii.gz", label: "{case}_labels.nii.gz"}
raw:
  1: liver
  2: lesion
annotates:
  liver: {union: [liver, lesion]}
  liver_tumor: {union: [lesion]}
"""


def test_shipped_cards_are_sound() -> None:
    assert {"abdomen_pelvis", "chest_abdomen"} <= set(card_ids())
    for name in card_ids():
        card = load_card(name)
        assert card.id == name
        assert set(card.annotates) <= set(card.vocabulary().names)


def test_shipped_cards_know_what_they_do_not_know() -> None:
    assert "gallbladder" not in load_card("chest_abdomen").annotates
    assert "esophagus" not in load_card("abdomen_pelvis").annotates
    # The two datasets number the same structures differently: 117 is another thing in each.
    assert load_card("abdomen_pelvis").raw[117] == "costal_cartilages"
    assert load_card("chest_abdomen").raw[117] == "carpal"


def test_a_good_card_reads() -> None:
    card = parse_card(GOOD, "example.yaml")
    assert card.annotates["liver"].union == ("liver", "lesion")
    assert card.raw[2] == "lesion"
    assert card.parts[0].image == "{case}_ct.nii.gz"
    assert (card.sampling, card.zoom, card.label_axes, card.missing) == (FOREGROUND, None, "header", "unknown")
    assert card.structures_of(card.annotates["liver"]) == {"liver", "lesion"}


@pytest.mark.parametrize(
    ("old", "new", "line", "message"),
    [
        ("title: An example\n", "", 1, "title: Field required"),
        ("terms: none", "terms: none\ncolour: red", 5, "colour: Extra inputs"),
        ("  liver_tumor: {union: [lesion]}", "  liver_tumour: {union: [lesion]}", 13, "did you mean liver_tumor"),
        ("{union: [liver, lesion]}", "{union: [liver, tumor]}", 12, "tumor is not among the raw structures"),
        ("{union: [liver, lesion]}", "{union: [liver], minus: [cyst]}", 12, "cyst is not among the raw structures"),
        ("  2: lesion", "  2: liver", 8, "two values have the same structure name"),
        ("  2: lesion", "  two: lesion", 10, "integer"),
        ("labels_by: human", "labels_by: nobody", 5, "labels_by"),
        ("{union: [lesion]}", "{union: [lesion], side: up}", 13, "'left' or 'right'"),
        ("id: example", "id: Example 1", 1, "pattern"),
        ("raw:\n", "raw: [\n", 10, "not valid YAML"),
        ('{image: "{case}_ct.nii.gz", ', "{", 7, "parts.0.image: Field required"),
        ("_labels.nii.gz", '_labels.nii.gz", masks: "{structure}', 7, "give label or masks, not both"),
        ('label: "{case}_labels.nii.gz"', 'masks: "{case}.nii.gz"', 7, "masks needs {structure}"),
        ('.gz"}\n', ".gz\", case: '('}\n", 7, "not a regular expression"),
        ('.gz"}\n', ".gz\", case: 'a.', example: b1}\n", 7, "'b1' is not a case id of this part"),
        ('.gz"}\n', '.gz", annotates: [spleen]}\n', 7, "spleen is not among the card's classes"),
        ("raw:\n", "names: {cyst: [a]}\nraw:\n", 8, "names.cyst: is not among the raw structures"),
        ("raw:\n", "label_axes: LRS\nraw:\n", 8, "pattern"),
        ("raw:\n", "sampling: {background: 0}\nraw:\n", 8, "at least one share"),
        ("raw:\n", "zoom: {chance: 0.3, low: 2, high: 1}\nraw:\n", 8, "high must not be below low"),
    ],
)
def test_broken_cards_are_refused_with_file_and_line(old: str, new: str, line: int, message: str) -> None:
    assert old in GOOD
    with pytest.raises(CardError) as caught:
        parse_card(GOOD.replace(old, new), "example.yaml")
    assert f"example.yaml:{line}: " in str(caught.value)
    assert message in str(caught.value)


def test_cards_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(CardError, match="known: abdomen_pelvis"):
        load_card("nowhere")
    with pytest.raises(CardError, match="no such dataset card"):
        load_card(tmp_path / "mine.yaml")
    with pytest.raises(CardError, match="a mapping of fields, found list"):
        parse_card("- 1\n", "list.yaml")
    (tmp_path / "mine.yaml").write_text(GOOD)
    assert load_card(tmp_path / "mine.yaml").id == "example"


def test_a_part_holds_the_cases_of_its_numbers() -> None:
    part = Part(image="{case}", case=r"img\d+(_b)?", numbers=(1, 60))
    assert [part.holds(name) for name in ("img0060", "img0061", "img1_b", "scan1", "img")] == [
        True, False, True, False, False,
    ]  # fmt: skip


def test_a_card_brings_classes_of_its_own() -> None:
    text = GOOD.replace("  liver_tumor:", "  pet_stone:") + "defines:\n  pet_stone: {kind: lesion, parents: [liver]}\n"
    card = parse_card(text, "example.yaml")
    stone = card.vocabulary()["pet_stone"]
    assert (stone.kind, stone.parents, stone.cleanup.rule) == ("lesion", ("liver",), "none")
    assert stone.id == OWN_IDS > max(concept.id for concept in Vocabulary.default())
    assert card.vocabulary().resolve("Pet stone") == stone
    assert "pet_stone" not in Vocabulary.default()


def test_classes_that_are_not_well_defined_are_refused() -> None:
    with pytest.raises(CardError, match="the class 'stone' is not well defined"):
        define_concepts({"stone": {"kind": "lesion", "smell": "none"}})
    with pytest.raises(CardError, match="the class 'stone' is not well defined"):
        define_concepts({"stone": {}})
    with pytest.raises(UsageError, match="refers to moon"):
        parse_card(GOOD + "defines:\n  stone: {kind: lesion, parents: [moon]}\n", "example.yaml")
