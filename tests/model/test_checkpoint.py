"""A checkpoint comes back as it went, and nothing half-right is accepted."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from voxicon.errors import CheckpointError, OutputError
from voxicon.model import load_network
from voxicon.model.checkpoint import Metadata, file_sha256, load_checkpoint, read_metadata, save_checkpoint
from voxicon.model.config import NetworkConfig
from voxicon.model.network import UniversalNetwork, build_network

CONFIG = NetworkConfig(
    backbone="compact", classes=("liver", "spleen"), embedding_size=12, options={"channels": [16, 32]}
)
METADATA = Metadata(
    network=CONFIG,
    preparation={"spacing_mm": [3.0, 3.0, 3.0], "window_hu": [-175, 250]},
    inference={"window": [96, 96, 96], "threshold": 0.5},
    text_bank={"names": ["liver", "spleen"], "prompts": ["a liver", "a spleen"], "encoder": "minilm"},
    trained=("liver",),
    card={"license": "Apache-2.0", "scores": {"liver": 0.93}, "note": "größer"},
)


@pytest.fixture
def network() -> UniversalNetwork:
    torch.manual_seed(0)
    return build_network(CONFIG, torch.randn(2, 12))


@pytest.fixture
def file(network: UniversalNetwork, tmp_path: Path) -> Path:
    path = tmp_path / "tiny.safetensors"
    save_checkpoint(path, network, METADATA)
    return path


def rewrite(file: Path, *, tensors: Callable[[dict[str, Any]], Any] = dict, metadata: Any = None) -> None:
    """Save the same file with some of it changed; metadata as text."""
    text = METADATA.to_json() if metadata is None else metadata
    save_file(tensors(load_file(file)), file, metadata={"voxicon": text})


def test_weights_come_back_bit_for_bit_and_ready_to_run(network: UniversalNetwork, file: Path) -> None:
    checkpoint = load_checkpoint(file)
    found, expected = checkpoint.network.state_dict(), network.state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[key], expected[key]) for key in expected)
    assert checkpoint.network.classes == ("liver", "spleen")
    assert not checkpoint.network.training
    assert checkpoint.sha256 == file_sha256(file)


def test_metadata_comes_back_and_is_read_alone(file: Path) -> None:
    assert load_checkpoint(file).metadata == METADATA
    assert read_metadata(file) == METADATA


def test_half_precision_halves_the_file_and_loads_as_float32(network: UniversalNetwork, file: Path) -> None:
    half = file.with_name("half.safetensors")
    save_checkpoint(half, network, METADATA, dtype=torch.float16)
    n_weights = sum(tensor.numel() for tensor in network.state_dict().values())
    assert abs((file.stat().st_size - half.stat().st_size) - 2 * n_weights) < 64
    found, expected = load_checkpoint(half).network.state_dict(), network.state_dict()
    assert all(torch.equal(found[key], expected[key].half().float()) for key in expected)


def test_a_header_length_that_looks_like_a_pickle_is_no_pickle(network: UniversalNetwork, file: Path) -> None:
    # The first byte of a safetensors file is its header's length modulo 256; pickles start with 0x80.
    for n_letters in range(0, 256, 8):
        save_checkpoint(file, network, replace(METADATA, card={"note": "x" * n_letters}))
        if file.read_bytes()[0] == 0x80:
            break
    assert file.read_bytes()[0] == 0x80
    load_network(file)


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_failed_save_leaves_the_old_file_and_nothing_else(
    step: str, network: UniversalNetwork, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = file.read_bytes()

    def fail(*_: object) -> None:
        raise OSError(28, "disk full")

    with monkeypatch.context() as patch:
        patch.setattr(os if step == "fsync" else Path, step, fail)
        with pytest.raises(OutputError, match="disk full"):
            save_checkpoint(file, network, METADATA, dtype=torch.float16)
    assert file.read_bytes() == before
    assert list(file.parent.iterdir()) == [file]


def test_saving_again_replaces(network: UniversalNetwork, file: Path) -> None:
    with torch.no_grad():
        network.head.controller.bias.fill_(3.0)
    save_checkpoint(file, network, METADATA)
    assert (load_checkpoint(file).network.head.controller.bias == 3.0).all()


@pytest.mark.parametrize("part", [0.0, 0.001, 0.5, 0.999])
def test_a_truncated_file_is_refused(part: float, file: Path) -> None:
    whole = file.read_bytes()
    file.write_bytes(whole[: int(part * len(whole))])
    for read in (load_checkpoint, read_metadata):
        with pytest.raises(CheckpointError, match=r"tiny\.safetensors: not a whole safetensors file"):
            read(file)


def test_what_is_no_checkpoint_is_refused(file: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no such file"):
        load_checkpoint(tmp_path / "absent.safetensors")
    with pytest.raises(CheckpointError, match="no such file"):
        load_checkpoint(tmp_path)
    file.write_text("weights")
    with pytest.raises(CheckpointError, match="not a whole safetensors file"):
        load_checkpoint(file)
    save_file({"a": torch.ones(2)}, file)
    with pytest.raises(CheckpointError, match="not a voxicon checkpoint"):
        load_checkpoint(file)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: {k: v for k, v in t.items() if k != "head.controller.bias"}, r"lack head\.controller\.bias"),
        (lambda t: {**t, "head.extra": torch.ones(1)}, r"have unknown head\.extra"),
        (lambda t: {**t, "text_vectors": torch.ones(2, 13)}, "wrong shape for text_vectors"),
        (lambda t: {**t, "head.controller.bias": torch.ones(152)}, r"wrong shape for head\.controller\.bias"),
        (lambda t: {"text_vectors": t["text_vectors"]}, r"lack .*, .*, .* and \d+ more"),
    ],
)
def test_tensors_must_fit_the_network(change: Callable[[dict[str, Any]], Any], words: str, file: Path) -> None:
    rewrite(file, tensors=change)
    with pytest.raises(CheckpointError, match=words):
        load_checkpoint(file)


def changed(**values: object) -> str:
    return json.dumps({**json.loads(METADATA.to_json()), **values})


@pytest.mark.parametrize(
    ("metadata", "words"),
    [
        (changed(format="voxicon-9"), "checkpoint format 'voxicon-9', this version reads 'voxicon-1'"),
        ("not json", "metadata is damaged"),
        ("[]", "metadata is damaged"),
        (changed(network={"backbone": "compact"}), "metadata is damaged"),
        (changed(network={**CONFIG.to_dict(), "color": 1}), "metadata is damaged"),
        (changed(network=3), "metadata is damaged"),
        (changed(trained=None), "metadata is damaged"),
        (changed(network={**CONFIG.to_dict(), "backbone": "vnet"}), "unknown backbone 'vnet'"),
        (
            changed(network={**CONFIG.to_dict(), "controller": "own"}),
            "unknown controller 'own'; known: shared, per_class",
        ),
        (changed(network={**CONFIG.to_dict(), "controller": None}), "unknown controller None"),
        (changed(network={**CONFIG.to_dict(), "controller": "per_class"}), r"lack head\.controller\.hidden_bias"),
        *(
            (changed(network={**CONFIG.to_dict(), "leak": leak}), "network leak .* is no slope; it is a number from 0")
            for leak in ("abc", None, -0.1, 1, math.nan, True, [0.1])
        ),
        (changed(network={**CONFIG.to_dict(), "options": {"depth": 3}}), "cannot build backbone 'compact'"),
        (changed(network={**CONFIG.to_dict(), "embedding_size": -1}), "cannot build backbone 'compact'"),
        (changed(network={**CONFIG.to_dict(), "embedding_size": "12"}), "cannot build backbone 'compact'"),
    ],
)
def test_metadata_must_be_ours(metadata: str, words: str, file: Path) -> None:
    rewrite(file, metadata=metadata)
    with pytest.raises(CheckpointError, match=words):
        load_checkpoint(file)


def test_a_file_from_before_there_was_a_choice_of_controller_is_shared(network: UniversalNetwork, file: Path) -> None:
    old = {key: value for key, value in CONFIG.to_dict().items() if key != "controller"}
    rewrite(file, metadata=changed(network=old))
    checkpoint = load_checkpoint(file)
    assert checkpoint.metadata == METADATA
    assert checkpoint.metadata.network.controller == "shared"
    image = torch.rand(1, 1, 8, 8, 8)
    with torch.inference_mode():
        torch.testing.assert_close(checkpoint.network(image), network.eval()(image), atol=0, rtol=0)


def test_controllers_per_class_come_back_bit_for_bit(tmp_path: Path) -> None:
    config = replace(CONFIG, controller="per_class")
    torch.manual_seed(0)
    network, path = build_network(config, torch.randn(2, 12)), tmp_path / "own.safetensors"
    network.recompute = True
    save_checkpoint(path, network, replace(METADATA, network=config))
    checkpoint = load_checkpoint(path)
    assert checkpoint.metadata.network == config
    found, expected = checkpoint.network.state_dict(), network.state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[key], expected[key]) for key in expected)
    # How it was trained is no property of the weights.
    assert not checkpoint.network.recompute
    assert "recompute" not in path.read_bytes().decode("latin-1")
