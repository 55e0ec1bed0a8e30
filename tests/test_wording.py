"""What a text encoder is told of a class."""

from __future__ import annotations

import pytest

from voxicon.core.concepts import Vocabulary
from voxicon.errors import UnknownClass
from voxicon.model.text import Word
from voxicon.wording import free_word, words_of

VOCABULARY = Vocabulary.default()


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("spleen", Word("spleen", None, ("organ",))),
        ("kidney_left", Word("left kidney", "left", ("organ", "left"))),
        ("hepatic_vessel", Word("hepatic vessel", None, ("vessel", "in the liver"))),
        ("kidney_tumor", Word("kidney tumor", None, ("lesion", "in the right kidney or the left kidney"))),
        ("kidney_cyst_right", Word("right kidney cyst", "right", ("lesion", "in the right kidney", "right"))),
    ],
)
def test_a_class_is_told_by_name_side_and_facts(name: str, word: Word) -> None:
    assert words_of([name], VOCABULARY) == {name: word}


def test_sides_are_those_of_the_vocabulary() -> None:
    assert {n: w.side for n, w in words_of(VOCABULARY.names, VOCABULARY).items()} == {
        concept.name: concept.side for concept in VOCABULARY
    }


def test_a_name_that_is_none_is_refused() -> None:
    with pytest.raises(UnknownClass, match="did you mean"):
        words_of(["left kidney"], VOCABULARY)


@pytest.mark.parametrize(
    ("text", "side"),
    [
        ("Left ovary", "left"),
        ("ovary, right", "right"),
        ("ovary", None),
        ("left or right", None),
        ("cleft", None),
    ],
)
def test_a_free_word_has_the_side_that_it_says(text: str, side: str | None) -> None:
    assert free_word(text) == Word(text, side, (side,) if side else ())
