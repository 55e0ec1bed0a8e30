"""What must hold for any wording: how it is typed does not matter, and a denial never says that something is there."""

from __future__ import annotations

from pathlib import Path

import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.statements.wording import VOCABULARY, all_in_short, in_short
from voxicon.statements import read_report
from voxicon.statements.lexicon import grammar

unhurried = settings(deadline=None)  # the first example reads the table of words
SENTENCES: dict[str, str] = yaml.safe_load(Path(__file__).with_name("sentences.yaml").read_text(encoding="utf8"))
SENTENCE = st.sampled_from(sorted(SENTENCES))
ORGANS = ("liver", "left kidney", "kidneys", "pancreas", "right lung", "colon", "spleen")
WHOLE = [text for text in sorted(SENTENCES) if ":" not in text and text.endswith(".")]
FOUND = [
    phrase for group in ("tumor", "named tumor", "nodule", "lesion", "cyst") for phrase in grammar()["findings"][group]
]
BEFORE = [p for p in grammar()["negations"] if not p.startswith(("neither", "nor", "rather"))]
FILLER = st.lists(st.sampled_from(["new", "large", "enhancing", "hilar", "the", "any", "zzz", "of"]), max_size=3)


@unhurried
@given(SENTENCE, st.sampled_from([str.upper, str.lower, str.title]))
def test_case_does_not_matter(text: str, typed) -> None:
    assert all_in_short(read_report(typed(text), VOCABULARY)) == SENTENCES[text]


@unhurried
@given(SENTENCE, st.data())
def test_more_white_space_does_not_matter(text: str, data: st.DataObject) -> None:
    spaces = st.text(" \t", min_size=1, max_size=4)
    wide = "".join(data.draw(spaces) if sign == " " else sign for sign in text)
    padded = data.draw(st.text(" \t\n", max_size=3)) + wide + data.draw(st.text(" \t\n", max_size=3))
    assert all_in_short(read_report(padded, VOCABULARY)) == SENTENCES[text]


@unhurried
@given(st.lists(st.sampled_from(WHOLE), min_size=2, max_size=6), st.randoms())
def test_the_order_of_sentences_does_not_matter(texts: list[str], random) -> None:
    shuffled = random.sample(texts, len(texts))
    one, other = (read_report(" ".join(some), VOCABULARY) for some in (texts, shuffled))
    assert sorted(map(in_short, one.statements)) == sorted(map(in_short, other.statements))
    assert sorted(map(in_short, one.statements)) == sorted(
        meaning for text in texts for meaning in SENTENCES[text].split("; ") if meaning != "-"
    )


@unhurried
@given(st.sampled_from(BEFORE), st.sampled_from(FOUND), st.sampled_from(ORGANS), FILLER, FILLER)
def test_what_is_denied_is_not_there(denial: str, found: str, organ: str, before: list[str], after: list[str]) -> None:
    negated = denial.startswith("not ")
    text = f"The scan does {denial}" if negated else denial.capitalize()
    text = " ".join([text, *before, found, "in the", organ, *after]) + "."
    assert not [s for s in read_report(text, VOCABULARY).statements if s.kind == "present"], text


@unhurried
@given(st.sampled_from(grammar()["negations_after"]), st.sampled_from(FOUND), st.sampled_from(ORGANS), FILLER)
def test_what_is_denied_afterwards_is_not_there(denial: str, found: str, organ: str, between: list[str]) -> None:
    text = " ".join(["A", *between, found, "in the", organ, "is", denial]) + "."
    assert not [s for s in read_report(text, VOCABULARY).statements if s.kind == "present"], text


@unhurried
@given(st.text(max_size=300))
def test_any_text_is_read_or_refused(text: str) -> None:
    if any(character.isalpha() for character in text) and "\0" not in text:
        for statement in read_report(text, VOCABULARY).statements:
            assert statement.sentence.text in text


def test_every_word_of_the_table_is_a_text() -> None:
    def walk(value: object) -> None:
        if isinstance(value, dict):
            for key, inner in value.items():
                assert isinstance(key, str)
                walk(inner)
        elif isinstance(value, list):
            for inner in value:
                walk(inner)
        else:
            assert not isinstance(value, bool), "YAML reads on and no as true and false: put them in quotes"

    walk(grammar())
