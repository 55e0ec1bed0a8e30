"""Case, courtesy, punctuation, plural and spelling do not change what a request means."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.asking.test_requests import REQUESTS
from voxicon.asking import parse
from voxicon.core.concepts import Vocabulary
from voxicon.errors import UsageError

VOCABULARY = Vocabulary.default()

requests = st.sampled_from(sorted(REQUESTS))
organs = st.sampled_from(["liver", "spleen", "pancreas", "left kidney", "stomach", "aorta", "trachea", "heart"])
lesions = st.sampled_from(["liver tumor", "kidney cyst", "lung nodule", "renal mass", "hepatic lesion"])
before = st.sampled_from(["please", "can you", "could you please", "hello,", "kindly", "I would like you to", "now"])
behind = st.sampled_from([", please", " in this scan", " on this CT, thanks", " for me", ", thank you"])
ends = st.sampled_from(["", ".", "!", "?", " ...", ";"])
verbs = st.sampled_from(["segment", "outline", "delineate", "find", "Show me", "extract", ""])


@given(requests, st.randoms(use_true_random=False))
def test_case_does_not_matter(text: str, random) -> None:  # type: ignore[no-untyped-def]
    changed = "".join(random.choice((letter.upper(), letter.lower())) for letter in text)
    assert parse(changed, VOCABULARY) == parse(text, VOCABULARY)


@given(requests, before, ends)
def test_courtesy_before_and_signs_at_the_end_do_not_matter(text: str, polite: str, end: str) -> None:
    assert parse(f"{polite} {text}{end}", VOCABULARY) == parse(text, VOCABULARY)


@given(requests, behind)
def test_courtesy_behind_does_not_matter(text: str, polite: str) -> None:
    assert parse(text.rstrip(".?!") + polite, VOCABULARY) == parse(text, VOCABULARY)


@given(requests, st.sampled_from(["  ", "\n", "\t"]))
def test_spacing_does_not_matter(text: str, space: str) -> None:
    assert parse(space + text.replace(" ", space), VOCABULARY) == parse(text, VOCABULARY)


@given(verbs, organs, st.booleans())
def test_verbs_of_one_kind_mean_the_same(verb: str, organ: str, article: bool) -> None:
    text = f"{verb} {'the ' if article else ''}{organ}"
    assert parse(text, VOCABULARY) == parse(organ, VOCABULARY)


@given(lesions)
def test_plural_does_not_matter(lesion: str) -> None:
    plural = lesion + ("es" if lesion.endswith("ss") else "s")
    assert parse(plural, VOCABULARY) == parse(lesion, VOCABULARY)


@pytest.mark.parametrize(
    ("british", "american"),
    [
        ("liver tumours larger than 2 centimetres", "liver tumors larger than 2 centimeters"),
        ("the oesophagus and the coeliac trunk", "the esophagus and the celiac trunk"),
        ("summarise the kidneys", "summarize the kidneys"),
    ],
)
def test_british_spelling_does_not_matter(british: str, american: str) -> None:
    assert parse(british, VOCABULARY) == parse(american, VOCABULARY)


@given(lesions, st.integers(1, 99))
def test_units_do_not_matter(lesion: str, size: int) -> None:
    in_mm, in_cm = (f"{lesion} larger than {value}" for value in (f"{size} mm", f"{size / 10}cm"))
    assert parse(in_mm, VOCABULARY) == parse(in_cm, VOCABULARY)


@given(st.text(max_size=40))
def test_any_text_is_understood_or_refused(text: str) -> None:
    with contextlib.suppress(UsageError):
        assert parse(text, VOCABULARY).clauses


_WORDS = sorted({word for text in REQUESTS for word in text.split()})


@given(st.lists(st.sampled_from(_WORDS), min_size=1, max_size=8))
def test_any_words_give_a_parse_that_can_be_said_again_or_a_refusal(words: list[str]) -> None:
    try:
        request = parse(" ".join(words), VOCABULARY)
    except UsageError:
        return
    assert parse(request.in_plain_words(), VOCABULARY) == request
