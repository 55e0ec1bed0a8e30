"""Vectors of words, of weights and of banks: who is next to whom."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.weights_on_disk import CLASSES, write_small_weights
from voxicon.errors import ConfigError, UnknownClass
from voxicon.model.checkpoint import load_checkpoint, save_checkpoint
from voxicon.model.extend import config_of, extended
from voxicon.recipe import TextSection
from voxicon.weights.store import starter_path
from voxicon.words import (
    NEARLY_SAME,
    Entry,
    Pair,
    closest_pairs,
    cosines,
    encode_words,
    entries_of_bank,
    entries_of_table,
    entries_of_weights,
    neighbors,
    write_bank,
)

RANDOM = TextSection(encoder="random")


def entry(name: str, *vector: float, space: int = 0) -> Entry:
    return Entry(name, "", "", np.array(vector, dtype=np.float32), space)


def test_cosines_by_hand() -> None:
    entries = [entry("a", 3, 4), entry("b", 4, 3), entry("c", -6, -8), entry("d", 1, 0, 0, space=1)]
    assert [each.norm for each in entries] == [5, 5, 10, 1]
    found = cosines(entries)
    np.testing.assert_allclose(found[:3, :3], [[1, 0.96, -1], [0.96, 1, -0.96], [-1, -0.96, 1]], atol=1e-6)
    assert np.isnan(found[3, :3]).all()
    assert found[3, 3] == 1
    pairs = closest_pairs(entries)
    assert [(pair.first, pair.second) for pair in pairs] == [("a", "b"), ("b", "c"), ("a", "c")]
    near = neighbors(entries)
    assert near["a"] == pairs[0]
    assert near["b"] == Pair("b", "a", pairs[0].cosine)
    assert near["c"].second == "b"
    assert "d" not in near, "there is no other word in its space"


def test_a_single_word_has_no_pair() -> None:
    assert closest_pairs([entry("a", 1, 2)]) == []


@given(st.lists(st.tuples(st.floats(-9, 9), st.floats(-9, 9), st.floats(1, 9)), min_size=2, max_size=9))
def test_the_nearest_word_is_the_nearest(vectors: list[tuple[float, float, float]]) -> None:
    entries = [entry(f"w{n}", *vector) for n, vector in enumerate(vectors)]
    found = cosines(entries)
    np.fill_diagonal(found, -2)
    assert {name: pair.cosine for name, pair in neighbors(entries).items()} == {
        f"w{row}": float(found[row].max()) for row in range(len(entries))
    }


def test_a_zero_vector_is_refused() -> None:
    with pytest.raises(ConfigError, match="b: the vector is zero"):
        cosines([entry("a", 1), entry("b", 0)])


def test_words_are_understood_as_everywhere_else() -> None:
    bank = encode_words(["Left Kidney", "2", "hepar"], RANDOM)
    assert bank.names == ("kidney_left", "kidney_right", "liver")
    assert bank.prompts == ("left kidney", "right kidney", "liver")
    assert encode_words(["l kidney"], TextSection(encoder="random", side_angle_deg=20)).vectors.shape == (1, 513)


def test_free_words_are_taken_as_they_are_and_known_ones_as_known() -> None:
    with pytest.raises(UnknownClass, match="--free takes words"):
        encode_words(["liver", "left ovary"], RANDOM)
    bank = encode_words(["hepar", " left ovary"], TextSection(encoder="random", side_angle_deg=20), free=True)
    assert bank.names == ("liver", "left ovary")
    assert [bool(vector[-1]) for vector in bank.vectors] == [False, True]
    with pytest.raises(UnknownClass):
        encode_words([" "], RANDOM, free=True)


def test_a_word_that_is_there_twice_is_refused() -> None:
    with pytest.raises(UnknownClass, match="'hepar': liver is asked for twice"):
        encode_words(["liver", "hepar"], RANDOM)


@pytest.mark.parametrize("suffix", [".csv", ".json", ".safetensors"])
def test_a_bank_that_was_written_reads_back(tmp_path: Path, suffix: str) -> None:
    bank = encode_words(["liver", "spleen"], RANDOM)
    write_bank(bank, tmp_path / f"bank{suffix}")
    read, made = entries_of_table(tmp_path / f"bank{suffix}"), entries_of_bank(bank)
    for ours, theirs in zip(read, made, strict=True):
        np.testing.assert_array_equal(ours.vector, theirs.vector)
        assert ours.name == theirs.name
        assert (ours.prompt, ours.encoder) == (("", "") if suffix == ".csv" else (theirs.prompt, theirs.encoder))


def test_the_starter_says_how_its_words_were_made() -> None:
    entries = {each.name: each for each in entries_of_weights(starter_path())}
    assert entries["kidney_left"].prompt == "A computerized tomography of a left kidney."
    assert {each.encoder for each in entries.values()} == {"minilm"}
    assert all(each.norm == pytest.approx(9, abs=1e-3) for each in entries.values())
    assert closest_pairs(list(entries.values()))[0].cosine > NEARLY_SAME


@pytest.mark.parametrize(("encoder", "space"), [("random", 0), ("onehot", 1)])
def test_one_hot_words_that_were_added_count_from_one_again(tmp_path: Path, encoder: str, space: int) -> None:
    path = write_small_weights(tmp_path / "w.safetensors", text_bank={"encoder": encoder})
    old = load_checkpoint(path)
    network = extended(old.network, {"colon": torch.ones(8)})
    bank = {"encoder": encoder, "extensions": [{"names": ["colon"], "encoder": encoder}]}
    save_checkpoint(path, network, replace(old.metadata, network=config_of(network), text_bank=bank))
    assert entries_of_weights(path)[-1].space == space


def test_added_words_are_compared_only_with_those_made_alike(tmp_path: Path) -> None:
    path = write_small_weights(tmp_path / "w.safetensors")
    old = load_checkpoint(path)
    own = {"names": ["colon", "aorta"], "prompts": ["c", "a"], "encoder": "random"}
    other = {**own, "names": ["stomach"], "prompts": ["s"], "encoder": "minilm"}
    network = extended(old.network, {"colon": torch.ones(8), "aorta": torch.arange(8.0)})
    network = extended(network, {"stomach": torch.ones(5)})
    bank = {**old.metadata.text_bank, "extensions": [own, other]}
    save_checkpoint(path, network, replace(old.metadata, network=config_of(network), text_bank=bank))
    entries = entries_of_weights(path)
    assert [each.name for each in entries] == [*CLASSES, "colon", "aorta", "stomach"]
    assert [each.space for each in entries] == [0] * 7 + [2]
    assert [each.prompt for each in entries] == [""] * 5 + ["c", "a", "s"]
    assert "stomach" not in neighbors(entries)
