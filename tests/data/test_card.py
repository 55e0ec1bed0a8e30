"""Cards: the shipped ones are sound, and a broken one is refused with file and line."""

from __future__ import annotations

from pathlib import Path

import pytest

from voxicon.core.concepts import Vocabulary
from voxicon.data.card import card_ids, load_card, parse_card
from voxicon.errors import CardError

GOOD = """\
id: example
title: An example
source: made up
terms: none
labels_by: human
image: ct.nii.gz
label: labels.nii.gz
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
        assert set(card.annotates) <= set(Vocabulary.default().names)


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


@pytest.mark.parametrize(
    ("old", "new", "line", "message"),
    [
        ("title: An example\n", "", 1, "title: Field required"),
        ("terms: none", "terms: none\ncolour: red", 5, "colour: Extra inputs"),
        ("  liver_tumor: {union: [lesion]}", "  liver_tumour: {union: [lesion]}", 13, "did you mean liver_tumor"),
        ("{union: [liver, lesion]}", "{union: [liver, tumor]}", 12, "tumor is not among the raw structures"),
        ("  2: lesion", "  2: liver", 8, "two values have the same structure name"),
        ("  2: lesion", "  two: lesion", 10, "integer"),
        ("labels_by: human", "labels_by: nobody", 5, "labels_by"),
        ("{union: [lesion]}", "{union: []}", 13, "at least 1 item"),
        ("id: example", "id: Example 1", 1, "pattern"),
        ("raw:\n", "raw: [\n", 10, "not valid YAML"),
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
