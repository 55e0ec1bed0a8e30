"""Two networks in one file: both come back as they went, and what does not fit together is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.model.test_checkpoint import METADATA
from voxicon.errors import CheckpointError
from voxicon.model.checkpoint import Metadata, load_checkpoint, read_metadata, save_checkpoint, save_with_card
from voxicon.model.config import NetworkConfig
from voxicon.model.network import UniversalNetwork, build_network

INSIDE = replace(
    METADATA,
    network=NetworkConfig(
        backbone="compact", classes=("liver_tumor",), embedding_size=4, options={"channels": [16, 16], "host": {}}
    ),
    trained=("liver_tumor",),
    card={"title": "lesions"},
)
BOTH = replace(METADATA, inside=INSIDE)


def built(metadata: Metadata, seed: int) -> UniversalNetwork:
    torch.manual_seed(seed)
    shape = metadata.network
    return build_network(shape, torch.randn(len(shape.classes), shape.embedding_size))


@pytest.fixture
def networks() -> tuple[UniversalNetwork, UniversalNetwork]:
    return built(METADATA, 0), built(INSIDE, 1)


@pytest.fixture
def file(networks: tuple[UniversalNetwork, UniversalNetwork], tmp_path: Path) -> Path:
    path = tmp_path / "both.safetensors"
    save_checkpoint(path, networks[0], BOTH, inside=networks[1])
    return path


def assert_same(found: UniversalNetwork | None, expected: UniversalNetwork) -> None:
    assert found is not None
    ours, theirs = found.state_dict(), expected.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)


def test_both_come_back_bit_for_bit_and_ready_to_run(
    file: Path, networks: tuple[UniversalNetwork, UniversalNetwork]
) -> None:
    found = load_checkpoint(file)
    assert_same(found.network, networks[0])
    assert_same(found.inside, networks[1])
    assert found.inside is not None
    assert not found.inside.training
    assert not found.network.training
    assert found.metadata == read_metadata(file) == BOTH
    assert found.metadata.cards == (METADATA.card, {"title": "lesions"})


def test_a_file_without_has_no_word_of_it(file: Path, networks: tuple[UniversalNetwork, UniversalNetwork]) -> None:
    save_checkpoint(file, networks[0], METADATA)
    assert load_checkpoint(file).inside is None
    assert b"inside" not in file.read_bytes()
    assert METADATA.cards == (METADATA.card,)


def test_the_first_one_halved_leaves_the_other_as_it_is(
    file: Path, networks: tuple[UniversalNetwork, UniversalNetwork]
) -> None:
    save_checkpoint(file, networks[0], BOTH, dtype=torch.float16, inside=networks[1])
    assert_same(load_checkpoint(file).inside, networks[1])
    assert load_file(file)["head.controller.bias"].dtype == torch.float16
    save_checkpoint(file, networks[0], BOTH, inside=networks[1].half().float())
    assert load_file(file)["inside.head.controller.bias"].dtype == torch.float16


def test_another_card_leaves_both_networks(file: Path, tmp_path: Path) -> None:
    new = tmp_path / "new.safetensors"
    save_with_card(file, new, {"title": "new"})
    assert load_checkpoint(new).metadata == replace(BOTH, card={"title": "new"})
    assert load_file(new).keys() == load_file(file).keys()


def rewrite(
    file: Path, metadata: Metadata | dict[str, Any] = BOTH, tensors: Callable[[dict[str, Any]], Any] = dict
) -> None:
    values = metadata.to_dict() if isinstance(metadata, Metadata) else metadata
    save_file(tensors(load_file(file)), file, metadata={"voxicon": json.dumps(values)})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            lambda t: {k: v for k, v in t.items() if not k.startswith("inside.head.controller")},
            r"both\.safetensors, inside: the weights lack head\.controller\.bias",
        ),
        (lambda t: {**t, "inside.extra": torch.ones(1)}, r"inside: the weights have unknown extra"),
        (lambda t: {**t, "inside.text_vectors": torch.ones(1, 5)}, "inside: .* wrong shape for text_vectors"),
        (lambda t: {k: v for k, v in t.items() if k != "text_vectors"}, r"both\.safetensors: the weights lack text_ve"),
    ],
)
def test_tensors_must_fit_the_network_they_are_of(
    file: Path, change: Callable[[dict[str, Any]], Any], words: str
) -> None:
    rewrite(file, tensors=change)
    with pytest.raises(CheckpointError, match=words):
        load_checkpoint(file)


def test_tensors_that_no_metadata_tells_of_are_refused(file: Path) -> None:
    # As versions do that know of no network inside.
    rewrite(file, METADATA)
    with pytest.raises(CheckpointError, match=r"the weights have unknown inside\."):
        load_checkpoint(file)


WITH_ANOTHER = replace(METADATA, inside=replace(INSIDE, inside=INSIDE))


def prepared(**changes: object) -> Metadata:
    return replace(METADATA, inside=replace(INSIDE, preparation={**METADATA.preparation, **changes}))


@pytest.mark.parametrize(
    ("metadata", "words"),
    [
        (WITH_ANOTHER, r"both\.safetensors: the network inside has another one inside; expected two at most"),
        (
            prepared(spacing_mm=[1.5, 1.5, 1.5]),
            r"prepared otherwise: spacing_mm \[1\.5, 1\.5, 1\.5\], the first one's is \[3\.0, 3\.0, 3\.0\]; both must",
        ),
        (prepared(window_hu=[-250, 250]), r"window_hu \[-250, 250\], the first one's is \[-175, 250\]"),
        (prepared(antialias=False), "antialias False, the first one's is True"),
    ],
)
def test_what_does_not_fit_together_is_neither_read_nor_written(
    file: Path, networks: tuple[UniversalNetwork, UniversalNetwork], metadata: Metadata, words: str
) -> None:
    with pytest.raises(CheckpointError, match=words):
        save_checkpoint(file, networks[0], metadata, inside=networks[1])
    rewrite(file, metadata)
    for read in (load_checkpoint, read_metadata):
        with pytest.raises(CheckpointError, match=words):
            read(file)


def test_the_same_preparation_in_other_words_fits(file: Path) -> None:
    rewrite(file, prepared(spacing_mm=[3, 3, 3], antialias=True, crop="none"))
    assert load_checkpoint(file).inside is not None


def test_tuples_compare_as_what_json_makes_of_them(
    file: Path, networks: tuple[UniversalNetwork, UniversalNetwork]
) -> None:
    save_checkpoint(file, networks[0], prepared(spacing_mm=(3, 3, 3)), inside=networks[1])
    assert load_checkpoint(file).inside is not None


def test_what_looks_into_no_organ_is_not_put_inside(
    file: Path, networks: tuple[UniversalNetwork, UniversalNetwork]
) -> None:
    words = "the network inside reads 1 channel, expected 2, the scan and an organ"
    plain = replace(METADATA, inside=METADATA)
    with pytest.raises(CheckpointError, match=words):
        save_checkpoint(file, networks[0], plain, inside=networks[0])
    rewrite(file, plain)
    with pytest.raises(CheckpointError, match=words):
        load_checkpoint(file)


def test_network_and_metadata_inside_go_together(
    file: Path, networks: tuple[UniversalNetwork, UniversalNetwork]
) -> None:
    for metadata, inside in ((METADATA, networks[1]), (BOTH, None)):
        with pytest.raises(CheckpointError, match="go together; give both or neither"):
            save_checkpoint(file, networks[0], metadata, inside=inside)


@pytest.mark.parametrize("damaged", [3, {}, {**INSIDE.to_dict(), "format": "voxicon-9"}, {"format": "voxicon-1"}])
def test_damaged_metadata_inside_is_refused(file: Path, damaged: object) -> None:
    rewrite(file, {**METADATA.to_dict(), "inside": damaged})
    with pytest.raises(CheckpointError, match=r"metadata is damaged|checkpoint format 'voxicon-9'"):
        read_metadata(file)
