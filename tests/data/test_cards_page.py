"""docs/cards.md says what is so: its table, its worked example and the messages it lists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from voxicon.data.card import DatasetCard, LabelSet, Part, Sampling, Splits, Zoom, card_ids, load_card, parse_card
from voxicon.errors import CardError

PAGE = Path(__file__).parents[2].joinpath("docs", "cards.md").read_text(encoding="utf8")
EXAMPLE = re.findall(r"```yaml\n(.*?)```", PAGE, flags=re.DOTALL)[0]

BREAKAGES = {
    "a class is misspelled": ("  liver_tumor:", "  liver_tumour:"),
    "a structure is not in `raw`": ("{union: [lesion]}", "{union: [tumor]}"),
    "two values share a name": ("  2: lesion", "  2: liver"),
    "a field is missing": ('terms: "ethics approval 2026-17, internal research only; read 2026-11-21"\n', ""),
    "a field does not exist": ("title:", "licence: x\ntitle:"),
    "a choice that does not exist": ("labels_by: human", "labels_by: radiologist"),
    "a text with a colon stands without quotes": ('citation: "none, private"', "citation: none: private"),
    "`masks` without `{structure}`": ('    label: "labels/{case}.nii.gz"', '    masks: "labels/{case}.nii.gz"'),
    "both ways of labeling at once": ("    numbers: [41", '    masks: "m/{structure}.nii"\n    numbers: [41'),
    "the regular expression is broken": ("case: 'P\\d{3}', ", "case: 'P(\\d{3}', "),
    "a part annotates what the card does not": ("annotates: [liver, liver_tumor]", "annotates: [liver, spleen]"),
    "all shares are zero": ("background: 1, organ: 1, lesion: 5", "background: 0"),
}


def test_the_table_lists_every_card_as_it_is() -> None:
    table = PAGE.split("## The shipped cards")[1]
    rows = dict(re.findall(r"^\| `(\w+)` \|(.*)\|$", table, flags=re.MULTILINE))
    assert set(rows) == set(card_ids())
    for name, row in rows.items():
        cells = [cell.strip() for cell in row.split("|")]
        card = load_card(name)
        assert cells[2] == str(len(card.annotates)), f"classes of {name}"
        assert cells[3] == card.labels_by, f"who labeled {name}"


def test_every_field_is_described() -> None:
    for section in (DatasetCard, Part, LabelSet, Splits, Sampling, Zoom):
        for field in section.model_fields:
            assert f"`{field}`" in PAGE or f"`{field}:`" in PAGE or f"`{field}: " in PAGE, field


def test_the_worked_example_reads_as_the_text_says() -> None:
    card = parse_card(EXAMPLE, "our_liver.yaml")
    assert card.id == "our_liver"
    first, later = card.parts
    assert first.annotates is None
    assert later.annotates == ("liver", "liver_tumor")
    assert (first.numbers, later.numbers) == ((1, 40), (41, 120))


@pytest.mark.parametrize("what", sorted(BREAKAGES))
def test_the_listed_messages_are_the_ones_that_come(what: str) -> None:
    old, new = BREAKAGES[what]
    assert old in EXAMPLE
    with pytest.raises(CardError) as caught:
        parse_card(EXAMPLE.replace(old, new, 1), "our_liver.yaml")
    listed = re.search(rf"^\| {re.escape(what)} \| `(.+)` \|$", PAGE, flags=re.MULTILINE)
    assert listed is not None
    assert re.match(r"our_liver\.yaml:\d+: ", str(caught.value))
    assert listed.group(1) in str(caught.value)


def test_every_listed_message_is_tried() -> None:
    table = PAGE.split("## Common errors")[1].split("## The shipped cards")[0]
    rows = re.findall(r"^\| (.+?) \| `.+` \|$", table, flags=re.MULTILINE)
    assert sorted(rows) == sorted(BREAKAGES)
