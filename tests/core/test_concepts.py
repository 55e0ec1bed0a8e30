"""The vocabulary: complete, unambiguous, and helpful with words it does not know."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voxicon.core.concepts import Cleanup, Concept, Vocabulary
from voxicon.errors import UnknownClass

VOCABULARY = Vocabulary.default()


def test_thirty_two_classes_numbered_as_the_original() -> None:
    assert [c.id for c in VOCABULARY] == list(range(1, 33))
    # Spot checks against the original's table, femurs included, where left comes first.
    expected = {1: "spleen", 2: "kidney_right", 9: "inferior_vena_cava", 23: "femoral_head_left", 27: "liver_tumor"}
    assert {i: VOCABULARY.names[i - 1] for i in expected} == expected
    assert sum(c.kind == "lesion" for c in VOCABULARY) == 7


def test_every_reference_leads_somewhere() -> None:
    for concept in VOCABULARY:
        assert all(parent in VOCABULARY for parent in (*concept.parents, *concept.cleanup.of))
        assert bool(concept.parents) or concept.kind != "lesion"
        assert (concept.side is None) == (not concept.name.endswith(("_left", "_right")))
        assert all(0 <= part <= 255 for part in concept.color)
    assert len({c.color for c in VOCABULARY}) == 32


def verhoeff_is_valid(code: str) -> bool:
    """SNOMED CT check digit. Source: Verhoeff's dihedral-group scheme, as SNOMED CT uses it."""
    table = [[(i + j) % 5 if i < 5 and j < 5 else 0 for j in range(10)] for i in range(10)]
    for i in range(10):
        for j in range(10):
            flip_i, flip_j = i >= 5, j >= 5
            a, b = i % 5, j % 5
            rotated = (a - b) % 5 if flip_i else (a + b) % 5
            table[i][j] = rotated + (5 if flip_i != flip_j else 0)
    base = [1, 5, 7, 6, 2, 8, 3, 0, 9, 4]
    permutations = [list(range(10))]
    for _ in range(7):
        permutations.append([base[p] for p in permutations[-1]])
    check = 0
    for i, digit in enumerate(reversed(code)):
        check = table[check][permutations[i % 8][int(digit)]]
    return check == 0


def test_snomed_codes_carry_valid_check_digits() -> None:
    codes = {c.snomed[0] for c in VOCABULARY} | {c.region[0] for c in VOCABULARY if c.region}
    assert not verhoeff_is_valid("10200005"), "the check must be able to fail"
    assert [code for code in codes if not verhoeff_is_valid(code)] == []


@pytest.mark.parametrize(
    ("word", "name"),
    [
        ("liver", "liver"),
        ("Left Kidney", "kidney_left"),
        ("kidney-left", "kidney_left"),
        ("POSTCAVA", "inferior_vena_cava"),
        ("Celiac Truck", "celiac_trunk"),
        ("Arota", "aorta"),
        ("pancreatic  tumour", "pancreas_tumor"),
        ("28", "pancreas_tumor"),
        ("gall_bladder", "gallbladder"),
    ],
)
def test_words_resolve(word: str, name: str) -> None:
    assert VOCABULARY.resolve(word).name == name


@given(st.sampled_from(list(VOCABULARY)), st.sampled_from([str.upper, str.title, lambda s: f"  {s} "]))
def test_every_name_resolves_in_any_dress(concept: Concept, dress) -> None:
    for word in (concept.name, concept.display_name, concept.original, *concept.aliases):
        assert VOCABULARY.resolve(dress(word)) is concept


def test_display_names_put_the_side_first() -> None:
    assert VOCABULARY["adrenal_gland_left"].display_name == "left adrenal gland"
    assert VOCABULARY["liver"].display_name == "liver"


@pytest.mark.parametrize(
    ("word", "hint"),
    [
        ("livr", "did you mean liver"),
        ("kidney", "kidney_right, kidney_left"),
        ("zzzz", "voxicon classes"),
        ("99", "voxicon classes"),
        ("", "voxicon classes"),
    ],
)
def test_unknown_words_are_refused_with_a_hint(word: str, hint: str) -> None:
    with pytest.raises(UnknownClass, match=hint):
        VOCABULARY.resolve(word)
    with pytest.raises(UnknownClass):
        VOCABULARY[word]


def test_two_concepts_cannot_share_a_word() -> None:
    def concept(number: int, name: str, alias: str) -> Concept:
        return Concept(
            id=number, name=name, original=name, kind="organ", snomed=("1", "x"), color=(0, 0, 0),
            cleanup=Cleanup("none"), aliases=(alias,),
        )  # fmt: skip

    with pytest.raises(UnknownClass, match="names both"):
        Vocabulary([concept(1, "a", "same"), concept(2, "b", "same")])


def test_json_form_holds_what_programs_need() -> None:
    entry = VOCABULARY["kidney_tumor"].to_dict()
    assert entry["id"] == 26
    assert entry["snomed"] == ["108369006", "Neoplasm"]
    assert entry["parents"] == ["kidney_right", "kidney_left"]
    assert entry["cleanup"]["rule"] == "inside"
