"""Reads weights that the authors of the Universal Model published, or that their code has saved.

Their files are pickles. They are read with nothing but tensors and plain values allowed, so a file can
run no code; a file that asks for more is refused. The format is found in the keys, not asked for:

====================  ===================================================  =================
Keys of the backbone  Where they come from                                 `Placement.layout`
====================  ===================================================  =================
module.swinViT…       Swin UNETR as published                              ``module.``
module.backbone.down… U-Net as published, or trained on several GPUs       ``module.backbone.``
module.backbone.swin… Swin UNETR trained on several GPUs                   ``module.backbone.``
backbone.…            either, trained on one GPU                           ``backbone.``
====================  ===================================================  =================

Tensors may lie under ``net`` or ``state_dict`` or at the top.
"""

from __future__ import annotations

import pickle
import re
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from voxicon.errors import CheckpointError
from voxicon.model.checkpoint import Metadata, file_sha256, fill_network, save_checkpoint
from voxicon.model.config import NetworkConfig
from voxicon.model.network import UniversalNetwork, build_network
from voxicon.model.text import ORIGINAL_ENCODER, ORIGINAL_TEMPLATE

N_CLASSES = 32
"""Classes of the published weights."""

LICENSE = "CC BY-NC-ND 4.0 as the authors publish; not redistributable"

_OPTIONS: dict[str, dict[str, Any]] = {"unet": {"width": 32}, "swin_unetr": {"feature_size": 48}}
"""The only sizes the original code builds."""

_MARKS = {"down_tr64.": "unet", "swinViT.": "swin_unetr"}
"""Start of a key, without prefixes → the backbone that has such keys."""

_PREFIXES = ("module.", "backbone.", "_orig_mod.")
"""Put before keys by DistributedDataParallel, by the authors' class, by torch.compile."""

_HEAD = {
    "GAP.0": "image_norm",
    "GAP.3": "image_projection",
    "text_to_vision": "text_projection",
    "controller": "controller",
    "precls_conv.0": "map_norm",
    "precls_conv.2": "map_projection",
}
_EMBEDDING = "organ_embedding"
_UNET_MODULE = re.compile(r"(?P<way>down|up)_tr(?P<size>\d+)\.(?:ops\.(?P<nth>[01])\.(?P<what>conv1|bn1)|up_conv)")
_UNET_LEVEL = {"down": {"64": 0, "128": 1, "256": 2, "512": 3}, "up": {"256": 0, "128": 1, "64": 2}}
_UNET_PART = {"conv1": "conv", "bn1": "norm"}
_SWIN_KEY = re.compile(r"(swinViT|encoder\d+|decoder\d+)\.")
_NOT_NEEDED = re.compile(r"\.(running_mean|running_var|num_batches_tracked|relative_position_index)$")
"""Averages that the original stores and never uses; indices that follow from the window size."""

_HARMLESS: list[Any] = [
    np._core.multiarray.scalar,  # type: ignore[attr-defined]
    (np._core.multiarray.scalar, "numpy.core.multiarray.scalar"),  # type: ignore[attr-defined]
    np.dtype,
    *(type(np.dtype(t)) for t in (np.float32, np.float64, np.int32, np.int64)),
]
"""NumPy numbers, which schedulers and epoch counters may be; `torch.load` knows tensors only."""


@dataclass(frozen=True)
class Placement:
    """Where each tensor of a foreign file went.

    Attributes:
        backbone: ``unet`` or ``swin_unetr``.
        layout: What stands before the backbone's keys, such as ``module.backbone.``.
        placed: Key in the file → name in our network.
        not_needed: Keys that are known and have no effect, or are computed again.
        ignored: Entries beside the weights: optimizer, scheduler, epoch.
    """

    backbone: str
    layout: str
    placed: Mapping[str, str]
    not_needed: tuple[str, ...]
    ignored: tuple[str, ...]

    def describe(self) -> str:
        """One line for people: what was read, what was placed, what was left out and why."""
        left = f"; beside the weights, not read: {', '.join(self.ignored)}" if self.ignored else ""
        return (
            f"{self.backbone}, keys start with {self.layout!r}: {len(self.placed)} tensors placed, "
            f"{len(self.not_needed)} known and without effect{left}"
        )


def read_official(
    path: Path, class_names: Sequence[str], wordings: Sequence[str], *, text_vectors: Tensor | None = None
) -> tuple[UniversalNetwork, Metadata, Placement]:
    """The authors' network, ready to run (evaluation mode), from their ``.pth``.

    Args:
        path: The file, of any of the four layouts.
        class_names: Our name of each class, in the order of the file's text vectors (ids 1, 2, …).
        wordings: What stood in the prompt for each class, misspellings included.
        text_vectors: (N, 512), for a file without its own. Stored vectors are kept as they are.

    Raises:
        CheckpointError: Missing, damaged, asks to run code, or not a network that we can build exactly.
    """
    weights, ignored = _weights_of(_read_pickle(path), path.name)
    bare = {key: _bare(key) for key in weights}
    _check_kind(bare, path.name)
    backbone, layout = _backbone_of(bare, path.name)
    vectors = _text_vectors(weights, bare, text_vectors, path.name)
    _check_names(vectors, class_names, wordings, path.name)
    placed, not_needed = _place(bare, backbone, path.name)
    config = NetworkConfig(
        backbone=backbone,
        classes=tuple(class_names),
        embedding_size=vectors.shape[1],
        options=_OPTIONS[backbone],
    )
    network = build_network(config, vectors)
    _fill(network, {ours: weights[theirs] for theirs, ours in placed.items()}, path.name)
    metadata = _metadata(config, wordings, path)
    return network.eval(), metadata, Placement(backbone, layout, placed, not_needed, ignored)


def convert_official(
    path: Path,
    out: Path,
    class_names: Sequence[str],
    wordings: Sequence[str],
    *,
    dtype: torch.dtype = torch.float32,
    text_vectors: Tensor | None = None,
) -> Placement:
    """Write the authors' ``.pth`` as one of our checkpoints; arguments as for `read_official`.

    Args:
        path: The authors' file.
        out: Ends in ``.safetensors``.
        class_names: See `read_official`.
        wordings: See `read_official`.
        dtype: Storage type; float16 halves the file.
        text_vectors: See `read_official`.

    Raises:
        CheckpointError: As `read_official`; nothing is written then.
    """
    network, metadata, placement = read_official(path, class_names, wordings, text_vectors=text_vectors)
    save_checkpoint(out, network, metadata, dtype=dtype)
    return placement


def _read_pickle(path: Path) -> Any:
    """Tensors and plain values of a file; nothing else is built and nothing is called."""
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file; give the .pth that the authors publish")
    try:
        with path.open("rb") as file:
            zipped = file.read(4) == b"PK\x03\x04"
        damaged = _damaged_record(path) if zipped else None
        if damaged is None:
            with torch.serialization.safe_globals(_HARMLESS):
                # Mapped, an optimizer's state (twice the weights) is never read into memory.
                return torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)
    # Whatever a damaged file provokes in the unpickler (KeyError, struct.error, …) means one thing.
    except Exception as error:
        asked = re.search(r"GLOBAL (\S+)", str(error)) if isinstance(error, pickle.UnpicklingError) else None
        if asked:
            raise CheckpointError(
                f"{path.name}: asks for {asked[1]}, more than tensors and plain values; nothing was run. "
                "If you trust the file, save its 'net' entry alone and convert that",
                code="E-PICKLE",
            ) from error
        raise CheckpointError(
            f"{path.name}: damaged, or not a PyTorch checkpoint ({type(error).__name__}); fetch it again"
        ) from error
    raise CheckpointError(f"{path.name}: damaged at {damaged}; fetch it again")


def _damaged_record(path: Path) -> str | None:
    """First record whose checksum is wrong. PyTorch does not look at checksums; a flipped bit would pass."""
    with zipfile.ZipFile(path) as archive:
        return archive.testzip()


def _weights_of(content: Any, name: str) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Tensors by key, and what else lies beside them."""
    entries = content if isinstance(content, Mapping) else {}
    wrapper = next((key for key in ("net", "state_dict") if isinstance(entries.get(key), Mapping)), None)
    within = entries[wrapper] if wrapper else entries
    weights = {key: value for key, value in within.items() if isinstance(key, str) and isinstance(value, Tensor)}
    if not weights:
        raise CheckpointError(f"{name}: no weights found at the top, under 'net' or under 'state_dict'")
    beside = [*(entries.keys() - {wrapper} if wrapper else ()), *(within.keys() - weights.keys())]
    return weights, tuple(sorted(map(str, beside)))


def _bare(key: str) -> str:
    """A key without what wrappers put before it."""
    while key.startswith(_PREFIXES):
        key = key.split(".", 1)[1]
    return key


def _check_kind(bare: Mapping[str, str], name: str) -> None:
    """Refuse relatives of the universal model that share some of its keys."""
    known = set(bare.values())
    if len(known) < len(bare):
        raise CheckpointError(f"{name}: holds the same weights under two prefixes; save one network per file")
    if "controller.weight" in known:
        if "text_to_vision.weight" not in known:
            raise CheckpointError(
                f"{name}: no text projection; networks trained with random embeddings are not supported, "
                "only those trained with text vectors"
            )
        return
    if any(key.startswith("controller") for key in known):
        raise CheckpointError(f"{name}: has a controller per class (the 2024 variant); only one shared is supported")
    if any(key.startswith((*_MARKS, "patch_embed.")) for key in known):
        raise CheckpointError(
            f"{name}: a pre-training file: an image network without the text-driven head; "
            "give the trained network, such as clip_driven_universal_swin_unetr.pth"
        )
    raise CheckpointError(f"{name}: not a universal model; its keys are such as {min(bare)!r}")


def _backbone_of(bare: Mapping[str, str], name: str) -> tuple[str, str]:
    """Name of the backbone, and what stands before its keys."""
    for key, short in bare.items():
        for mark, backbone in _MARKS.items():
            if short.startswith(mark):
                return backbone, key.removesuffix(short)
    raise CheckpointError(f"{name}: unknown backbone; U-Net and Swin UNETR can be read")


def _text_vectors(weights: Mapping[str, Tensor], bare: Mapping[str, str], given: Tensor | None, name: str) -> Tensor:
    """The (N, E) vectors of the file, or those given for a file without."""
    stored = next((weights[key] for key, short in bare.items() if short == _EMBEDDING), None)
    if stored is not None and given is not None:
        raise CheckpointError(f"{name}: has its own text vectors; its head was trained for them, so give none")
    vectors = given if stored is None else stored
    if vectors is None:
        raise CheckpointError(
            f"{name}: no text vectors ({_EMBEDDING!r}); pass the (N, 512) vectors it was trained with as text_vectors"
        )
    if vectors.ndim != 2:
        raise CheckpointError(f"{name}: text vectors have shape {tuple(vectors.shape)}, expected (classes, length)")
    return vectors


def _check_names(vectors: Tensor, class_names: Sequence[str], wordings: Sequence[str], name: str) -> None:
    if not len(vectors) == len(class_names) == len(wordings):
        raise CheckpointError(
            f"{name}: text vectors of {len(vectors)} classes (published weights: {N_CLASSES}), but "
            f"{len(class_names)} names and {len(wordings)} wordings; pass one of each per class, in the vectors' order"
        )


def _place(bare: Mapping[str, str], backbone: str, name: str) -> tuple[dict[str, str], tuple[str, ...]]:
    """Our name of every key that has one, and the keys that need none."""
    ours = {key: _our_name(short, backbone) for key, short in bare.items()}
    placed = {key: name for key, name in ours.items() if name is not None}
    not_needed = tuple(key for key in bare if _NOT_NEEDED.search(key))
    unknown = [key for key in bare if key not in placed and key not in not_needed]
    if unknown:
        shown = ", ".join(unknown[:3]) + (f" and {len(unknown) - 3} more" if len(unknown) > 3 else "")
        raise CheckpointError(f"{name}: no place for {shown} in a {backbone} network; a changed architecture?")
    return placed, not_needed


def _our_name(short: str, backbone: str) -> str | None:
    """Name in our network of a key without prefixes; None where there is none."""
    if _NOT_NEEDED.search(short):
        return None
    if short == _EMBEDDING:
        return "text_vectors"
    module, _, leaf = short.rpartition(".")
    if module in _HEAD:
        return f"head.{_HEAD[module]}.{leaf}"
    if backbone == "unet":
        return _our_unet_name(module, leaf)
    return f"backbone.host.{short}" if _SWIN_KEY.match(short) else None


def _our_unet_name(module: str, leaf: str) -> str | None:
    found = _UNET_MODULE.fullmatch(module)
    level = _UNET_LEVEL[found["way"]].get(found["size"]) if found else None
    if found is None or level is None:
        return None
    if found["what"] is None:
        return f"backbone.lift.{level}.{leaf}"
    return f"backbone.{found['way']}.{level}.{found['nth']}.{_UNET_PART[found['what']]}.{leaf}"


def _fill(network: UniversalNetwork, placed: Mapping[str, Tensor], name: str) -> None:
    """Copy the tensors; what the original wrote as 1×1×1 convolutions are linear layers here."""
    expected = network.state_dict()
    tensors = {"text_vectors": network.text_vectors}
    for key, tensor in placed.items():
        pointwise = key in expected and tensor.shape == (*expected[key].shape, 1, 1, 1)
        tensors[key] = tensor.reshape(expected[key].shape) if pointwise else tensor
        if not tensor.isfinite().all():
            raise CheckpointError(f"{name}: {key} holds values that are not numbers; its training had diverged")
    fill_network(network, tensors, name)


def _metadata(config: NetworkConfig, wordings: Sequence[str], path: Path) -> Metadata:
    """What the original code, not the file, says about using the weights."""
    return Metadata(
        network=config,
        preparation={
            "spacing_mm": [1.5, 1.5, 1.5],
            "window_hu": [-175, 250],
            "antialias": False,
            "crop": "foreground",
        },
        inference={"window": [96, 96, 96], "threshold": 0.5, "overlap": 0.5},
        text_bank={
            "names": list(config.classes),
            "prompts": [ORIGINAL_TEMPLATE.replace("{}", wording) for wording in wordings],
            "encoder": ORIGINAL_ENCODER,
            "centered": False,
        },
        trained=config.classes,
        card={"license": LICENSE, "source_file": path.name, "sha256": file_sha256(path)},
    )
