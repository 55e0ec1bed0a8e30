"""The authors' files are read in every layout; whatever else is refused without running any of it."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.model.conftest import NAMES, WORDINGS, save_like_authors
from tests.model.original import Weights
from voxicon.errors import CheckpointError
from voxicon.model import load_network
from voxicon.model.checkpoint import file_sha256, load_checkpoint
from voxicon.model.network import UniversalNetwork
from voxicon.model.official import convert_official, read_official


def under(prefix: str, weights: Weights) -> Weights:
    return {prefix + key: tensor for key, tensor in weights.items()}


def assert_same_network(found: UniversalNetwork, expected: UniversalNetwork) -> None:
    ours, theirs = found.state_dict(), expected.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)


def small(**changes: Any) -> dict[str, Tensor]:
    """Just enough of a U-Net's keys to be taken for one; None takes a key away."""
    keys = {
        "backbone.down_tr64.ops.0.conv1.weight": torch.zeros(1),
        "controller.weight": torch.zeros(1),
        "text_to_vision.weight": torch.zeros(1),
        "organ_embedding": torch.zeros(32, 512),
    }
    return {key: tensor for key, tensor in {**keys, **changes}.items() if tensor is not None}


def refusal(path: Path, **arguments: Any) -> str:
    with pytest.raises(CheckpointError) as caught:
        read_official(path, **{"class_names": NAMES, "wordings": WORDINGS, **arguments})
    return str(caught.value)


class Evil:
    """Runs a command when unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, (f"echo harm > '{self.target}'",)


# Layouts


def test_published_swin_is_placed_completely(swin_file: Path, swin_weights: Weights) -> None:
    network, _, placement = read_official(swin_file, NAMES, WORDINGS)
    assert (placement.backbone, placement.layout) == ("swin_unetr", "module.")
    assert placement.ignored == ("epoch", "optimizer", "scheduler")
    assert len(placement.placed) == len(network.state_dict()) == 162
    assert len(placement.not_needed) == 8
    assert len(placement.placed) + len(placement.not_needed) == len(swin_weights) == 170
    for theirs, ours in placement.placed.items():
        key = theirs.removeprefix("module.")
        expected = swin_weights[key if key in swin_weights else f"backbone.{key}"]
        assert torch.equal(network.state_dict()[ours].reshape(expected.shape), expected)


def test_published_unet_is_placed_completely(unet_file: Path, unet_weights: Weights) -> None:
    network, _, placement = read_official(unet_file, NAMES, WORDINGS)
    assert (placement.backbone, placement.layout) == ("unet", "module.backbone.")
    assert len(placement.placed) == len(network.state_dict())
    assert len(placement.placed) + len(placement.not_needed) == len(unet_weights) == 117
    assert all("bn1" in key for key in placement.not_needed)
    for theirs, ours in placement.placed.items():
        expected = unet_weights[theirs.removeprefix("module.")]
        assert torch.equal(network.state_dict()[ours].reshape(expected.shape), expected)


@pytest.mark.parametrize(
    ("prefix", "layout"),
    [("module.", "module.backbone."), ("", "backbone."), ("module.backbone.", "module.backbone.backbone.")],
)
def test_self_trained_swin_gives_the_same_network(
    prefix: str, layout: str, swin_weights: Weights, swin_network: UniversalNetwork, tmp_path: Path
) -> None:
    path = save_like_authors(tmp_path / "swin.pth", under(prefix, swin_weights))
    network, _, placement = read_official(path, NAMES, WORDINGS)
    path.unlink()  # 250 MB
    assert placement.layout == layout
    assert_same_network(network, swin_network)


def wrapped_as(weights: Weights, wrapper: str) -> Any:
    return {"net": {"net": weights}, "state_dict": {"state_dict": weights, "epoch": 3}, "": weights}[wrapper]


@pytest.mark.parametrize(("wrapper", "zipped"), [("net", False), ("state_dict", True), ("", True)])
def test_unet_of_one_gpu_is_read_with_any_wrapper_and_container(
    wrapper: str, zipped: bool, unet_weights: Weights, unet_network: UniversalNetwork, tmp_path: Path
) -> None:
    path = tmp_path / "unet.pth"
    torch.save(wrapped_as(unet_weights, wrapper), path, _use_new_zipfile_serialization=zipped)
    network, _, placement = read_official(path, NAMES, WORDINGS)
    assert placement.layout == "backbone."
    assert placement.ignored == (("epoch",) if wrapper == "state_dict" else ())
    assert_same_network(network, unet_network)


# What comes with the weights


def test_metadata_says_what_the_original_code_does(unet_file: Path) -> None:
    _, metadata, _ = read_official(unet_file, NAMES, WORDINGS)
    assert metadata.network.classes == metadata.trained == NAMES
    assert metadata.preparation == {
        "spacing_mm": [1.5, 1.5, 1.5],
        "window_hu": [-175, 250],
        "antialias": False,
        "crop": "foreground",
    }
    assert metadata.inference == {"window": [96, 96, 96], "threshold": 0.5, "overlap": 0.5}
    assert metadata.text_bank["encoder"] == "clip ViT-B/32 (stored)"
    assert metadata.text_bank["names"] == list(NAMES)
    assert metadata.text_bank["prompts"][7] == "A computerized tomography of a Word 8"
    assert metadata.card["source_file"] == "unet.pth"
    assert metadata.card["sha256"] == file_sha256(unet_file)
    assert metadata.card["license"].startswith("CC BY-NC-ND 4.0")


def test_conversion_writes_the_same_network(unet_file: Path, unet_network: UniversalNetwork, tmp_path: Path) -> None:
    out = tmp_path / "unet.safetensors"
    placement = convert_official(unet_file, out, NAMES, WORDINGS)
    assert placement.backbone == "unet"
    assert_same_network(load_checkpoint(out).network, unet_network)
    assert load_checkpoint(out).metadata == read_official(unet_file, NAMES, WORDINGS)[1]
    half = tmp_path / "half.safetensors"
    convert_official(unet_file, half, NAMES, WORDINGS, dtype=torch.float16)
    assert half.stat().st_size < 0.51 * out.stat().st_size


def test_both_formats_load_by_content_whatever_the_name(
    unet_file: Path, unet_network: UniversalNetwork, tmp_path: Path
) -> None:
    convert_official(unet_file, tmp_path / "ours.pth", NAMES, WORDINGS)
    ours, theirs = load_network(tmp_path / "ours.pth"), load_network(str(unet_file))
    assert isinstance(ours, UniversalNetwork)
    assert isinstance(theirs, UniversalNetwork)
    assert ours.classes == NAMES
    assert theirs.classes[0] == "class_01"
    assert theirs.classes[-1] == "class_32"
    assert_same_network(ours, theirs)
    assert not theirs.training
    with torch.inference_mode():
        assert theirs(torch.rand(1, 1, 16, 16, 16)).shape == (1, 32, 16, 16, 16)
    (tmp_path / "text.pth").write_text("text")
    with pytest.raises(CheckpointError, match="not a whole safetensors file"):
        load_network(tmp_path / "text.pth")


def test_importing_the_package_imports_no_torch() -> None:
    code = "import sys, voxicon.model; sys.exit('torch' in sys.modules or 'monai' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# Classes and words


def test_other_numbers_of_classes_need_their_names(unet_weights: Weights, tmp_path: Path) -> None:
    path = save_like_authors(tmp_path / "31.pth", {**unet_weights, "organ_embedding": torch.rand(31, 512)})
    message = refusal(path)
    assert "vectors of 31 classes (published weights: 32), but 32 names" in message
    assert "31 names and 32 wordings" in refusal(path, class_names=NAMES[:31])
    network, metadata, _ = read_official(path, NAMES[:31], WORDINGS[:31])
    assert network.text_vectors.shape == (31, 512)
    assert metadata.trained == NAMES[:31]


def test_a_file_without_vectors_takes_those_given(
    unet_weights: Weights, unet_network: UniversalNetwork, tmp_path: Path
) -> None:
    bare = {key: tensor for key, tensor in unet_weights.items() if key != "organ_embedding"}
    path = save_like_authors(tmp_path / "bare.pth", bare)
    assert "pass the (N, 512) vectors it was trained with as text_vectors" in refusal(path)
    vectors = unet_weights["organ_embedding"]
    network, _, _ = read_official(path, NAMES, WORDINGS, text_vectors=vectors)
    assert_same_network(network, unet_network)
    assert "wrong shape for head.text_projection.weight" in refusal(path, text_vectors=torch.zeros(32, 384))


def test_stored_vectors_are_not_replaced(unet_file: Path) -> None:
    assert "has its own text vectors" in refusal(unet_file, text_vectors=torch.zeros(32, 512))


def test_half_precision_vectors_are_read_exactly(unet_weights: Weights, tmp_path: Path) -> None:
    stored = unet_weights["organ_embedding"].half()
    path = save_like_authors(tmp_path / "half.pth", {**unet_weights, "organ_embedding": stored})
    assert torch.equal(read_official(path, NAMES, WORDINGS)[0].text_vectors, stored.float())


# Refusals


@pytest.mark.parametrize(
    ("net", "words"),
    [
        (small(**{"controller.weight": None}), "pre-training file"),
        ({"module.patch_embed.proj.weight": torch.zeros(1)}, "pre-training file"),
        (small(**{"controller.weight": None, "controllers.0.weight": torch.zeros(1)}), "controller per class"),
        (small(**{"text_to_vision.weight": None}), "random embeddings are not supported"),
        (small(**{"backbone.down_tr64.ops.0.conv1.weight": None}), "unknown backbone"),
        (small(organ_embedding=torch.zeros(512)), r"shape \(512,\)"),
        (
            {"encoder.layer.weight": torch.zeros(1)},
            "not a universal model; its keys are such as 'encoder.layer.weight'",
        ),
        (small(**{"backbone.cells.0.weight": torch.zeros(1)}), r"no place for backbone\.cells\.0\.weight in a unet"),
        (small(**{"backbone.down_tr32.ops.0.conv1.weight": torch.zeros(1)}), r"no place for backbone\.down_tr32"),
        (small(**{"backbone.swinViT.norm.weight": torch.zeros(1)}), r"no place for backbone\.swinViT"),
        (small(**{"module.controller.weight": torch.zeros(1)}), "under two prefixes"),
        (small(), r"lack backbone\..* and \d+ more"),
        ({"epoch": 1}, "no weights found"),
        ({}, "no weights found"),
    ],
)
def test_relatives_and_strangers_are_refused(net: dict[str, Any], words: str, tmp_path: Path) -> None:
    path = save_like_authors(tmp_path / "net.pth", net)
    with pytest.raises(CheckpointError, match=words):
        read_official(path, NAMES, WORDINGS)


@pytest.mark.parametrize("content", [[1, 2], 3, None, torch.zeros(3), "net", {"net": None}, {1: torch.zeros(1)}])
def test_other_content_is_refused(content: object, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "net.pth")
    assert "no weights found" in refusal(tmp_path / "net.pth")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda w: {"controller.weight": w["controller.weight"][:152]}, r"wrong shape for head\.controller\.weight"),
        (lambda w: {"GAP.3.weight": w["GAP.3.weight"].repeat(1, 1, 1, 1, 2)}, r"shape for head\.image_projection"),
        (lambda w: {"precls_conv.2.bias": w["precls_conv.2.bias"] / 0}, r"head\.map_projection\.bias holds values"),
    ],
)
def test_weights_must_fit_and_be_numbers(
    change: Callable[[Weights], Weights], words: str, unet_weights: Weights, tmp_path: Path
) -> None:
    path = save_like_authors(tmp_path / "net.pth", {**unet_weights, **change(unet_weights)})
    with pytest.raises(CheckpointError, match=words):
        read_official(path, NAMES, WORDINGS)


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("place", ["net", "scheduler", "top"])
def test_a_file_that_runs_code_is_refused_and_nothing_runs(place: str, zipped: bool, tmp_path: Path) -> None:
    evil, path = Evil(tmp_path / "harm"), tmp_path / "evil.pth"
    content = {"net": {"net": {**small(), "x": evil}}, "scheduler": {"net": small(), "scheduler": evil}, "top": evil}
    torch.save(content[place], path, _use_new_zipfile_serialization=zipped)
    message = refusal(path)
    assert f"asks for {os.system.__module__}.system" in message
    assert "nothing was run" in message
    with pytest.raises(CheckpointError):
        load_network(path)
    assert not evil.target.exists()


def test_a_bare_evil_pickle_is_refused_and_the_trap_is_real(tmp_path: Path) -> None:
    evil, path = Evil(tmp_path / "harm"), tmp_path / "evil.pth"
    path.write_bytes(pickle.dumps(evil))
    with pytest.raises(CheckpointError):
        load_network(path)
    assert "evil.pth" in refusal(path)
    assert not evil.target.exists()
    pickle.loads(path.read_bytes())
    assert evil.target.exists()


def test_numpy_arrays_of_objects_stay_out(tmp_path: Path) -> None:
    torch.save({"net": small(), "extra": np.array([{"a": 1}], dtype=object)}, tmp_path / "net.pth")
    assert "asks for numpy" in refusal(tmp_path / "net.pth")


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("part", [0.0, 0.001, 0.3, 0.7, 0.99])
def test_a_truncated_file_is_refused(part: float, zipped: bool, tmp_path: Path) -> None:
    path = tmp_path / "net.pth"
    torch.save({"net": small()}, path, _use_new_zipfile_serialization=zipped)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(part * len(whole))])
    assert "net.pth: damaged, or not a PyTorch checkpoint" in refusal(path)


def test_one_flipped_bit_is_noticed(tmp_path: Path) -> None:
    path = save_like_authors(tmp_path / "net.pth", small())
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    assert "net.pth: damaged at net/data/" in refusal(path)


def test_what_is_no_file_or_no_pickle_is_refused(tmp_path: Path) -> None:
    assert "no such file" in refusal(tmp_path / "absent.pth")
    assert "no such file" in refusal(tmp_path)
    with pytest.raises(CheckpointError, match="no such file"):
        load_network(tmp_path / "absent.pth")
    (tmp_path / "net.pth").write_text("These are not the weights you are looking for.")
    assert "damaged, or not a PyTorch checkpoint" in refusal(tmp_path / "net.pth")
