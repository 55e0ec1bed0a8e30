"""Checkpoints: safetensors for the numbers, JSON for everything one must know to use them.

A checkpoint holds the network's shape, its words, how a scan must be prepared, and a training card.
Loading runs no code from the file. Preparation settings are read from here, never from flags.

It may hold a second network, which looks into organs that the first one finds (`voxicon.model.host`), with metadata of
its own inside of the first one's. Versions that know nothing of it refuse such a file for its unknown tensors.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from voxicon.errors import CheckpointError, OutputError
from voxicon.model.config import NetworkConfig
from voxicon.model.host import INPUTS
from voxicon.model.network import UniversalNetwork, build_network

FORMAT = "voxicon-1"
_KEY = "voxicon"

_INSIDE = "inside."
"""What names of the second network's tensors begin with."""

_PREPARED_BY = {"spacing_mm": None, "window_hu": None, "antialias": True}
"""What makes of two preparations the same scan, and what each is where it is not named."""


@dataclass(frozen=True, kw_only=True)
class Metadata:
    """What travels with the weights; plain data only.

    Attributes:
        network: Shape of the network.
        preparation: Settings of `voxicon.prep.PreparationConfig`.
        inference: Settings of `voxicon.infer.InferenceConfig`: window, overlap, threshold, padding.
        text_bank: Prompts, encoder and names behind the text vectors.
        trained: Classes with a training signal; the others have a word but no experience.
        card: What the weights saw, what they score, where they fail, license.
        inside: Of the network that looks into organs; None where there is none, and then the JSON has no word of it.
    """

    network: NetworkConfig
    preparation: Mapping[str, Any]
    inference: Mapping[str, Any]
    text_bank: Mapping[str, Any]
    trained: tuple[str, ...]
    card: Mapping[str, Any] = field(default_factory=dict)
    inside: Metadata | None = None

    @property
    def cards(self) -> tuple[Mapping[str, Any], ...]:
        """The training cards of all networks in the file, the first one's first: all that any of them saw."""
        return (self.card,) if self.inside is None else (self.card, *self.inside.cards)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        values = {
            "format": FORMAT,
            "network": self.network.to_dict(),
            "preparation": dict(self.preparation),
            "inference": dict(self.inference),
            "text_bank": dict(self.text_bank),
            "trained": list(self.trained),
            "card": dict(self.card),
        }
        return values if self.inside is None else {**values, "inside": self.inside.to_dict()}

    def to_json(self) -> str:
        """One JSON object."""
        return json.dumps(self.to_dict())

    @classmethod
    def from_json(cls, text: str, path: str) -> Metadata:
        """Read back what `to_json` wrote.

        Raises:
            CheckpointError: Another format, a field is missing, or a second network does not fit the first.
        """
        try:
            metadata = cls._from_dict(json.loads(text), path)
            _refuse_misfit(metadata, path)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise CheckpointError(f"{path}: metadata is damaged ({error!r}); fetch the file again") from error
        return metadata

    @classmethod
    def _from_dict(cls, values: Mapping[str, Any], path: str) -> Metadata:
        if values["format"] != FORMAT:
            raise CheckpointError(
                f"{path}: checkpoint format {values['format']!r}, this version reads {FORMAT!r}; "
                "upgrade voxicon or fetch matching weights"
            )
        return cls(
            network=NetworkConfig.from_dict(values["network"]),
            preparation=values["preparation"],
            inference=values["inference"],
            text_bank=values["text_bank"],
            trained=tuple(values["trained"]),
            card=values["card"],
            inside=None if values.get("inside") is None else cls._from_dict(values["inside"], path),
        )


def _refuse_misfit(metadata: Metadata, name: str) -> None:
    """Refuse a second network that has one inside of its own, or reads a scan that is prepared otherwise."""
    inside = metadata.inside
    if inside is None:
        return
    if inside.inside is not None:
        raise CheckpointError(f"{name}: the network inside has another one inside; expected two at most, join others")
    first, second = (
        {key: each.preparation.get(key, usual) for key, usual in _PREPARED_BY.items()} for each in (metadata, inside)
    )
    different = [key for key in _PREPARED_BY if _plain(first[key]) != _plain(second[key])]
    if different:
        shown = "; ".join(f"{key} {second[key]}, the first one's is {first[key]}" for key in different)
        raise CheckpointError(
            f"{name}: the network inside reads a scan prepared otherwise: {shown}; both must read the same scan: "
            "train it with the preparation of the weights it goes into"
        )


def _plain(value: Any) -> Any:
    """As JSON gives it back: what is saved must compare as what is loaded."""
    return list(value) if isinstance(value, tuple) else value


@dataclass(frozen=True)
class Checkpoint:
    """A network ready to run (evaluation mode) with its metadata and the hash of its file.

    Attributes:
        network: The first one.
        metadata: Of it, and in that of `inside`.
        sha256: Of the file.
        inside: The network that looks into organs, likewise ready to run; None where there is none.
    """

    network: UniversalNetwork
    metadata: Metadata
    sha256: str
    inside: UniversalNetwork | None = None


def save_checkpoint(
    path: Path,
    network: UniversalNetwork,
    metadata: Metadata,
    *,
    dtype: torch.dtype = torch.float32,
    inside: UniversalNetwork | None = None,
) -> None:
    """Write a checkpoint atomically: the old file stays until the new one is whole.

    Args:
        path: Ends in ``.safetensors``.
        network: Its weights and text vectors are stored.
        metadata: Stored beside them.
        dtype: Storage type of floating point tensors; float16 halves the file.
        inside: What `metadata.inside` tells of, stored as `storage_dtype` says, so that it answers as it did.

    Raises:
        CheckpointError: There is a network inside without metadata or the other way round, it looks into no organ, or
            does not fit the first one.
        OutputError: The folder is missing or full, or may not be written.
    """
    if (inside is None) != (metadata.inside is None):
        raise CheckpointError(f"{path.name}: a network inside and metadata of it go together; give both or neither")
    _refuse_misfit(metadata, path.name)
    tensors = _tensors(network, dtype)
    if inside is not None:
        _refuse_hostless(inside, path.name)
        tensors |= {f"{_INSIDE}{name}": t for name, t in _tensors(inside, storage_dtype(inside)).items()}
    _write(path, tensors, metadata)


def _tensors(network: UniversalNetwork, dtype: torch.dtype) -> dict[str, Tensor]:
    """Those of a network, as they are stored."""
    return {
        name: (t.to(dtype) if t.is_floating_point() else t).contiguous().cpu()
        for name, t in network.state_dict().items()
    }


def _refuse_hostless(inside: UniversalNetwork, name: str) -> None:
    if inside.inputs != INPUTS:
        raise CheckpointError(
            f"{name}: the network inside reads {inside.inputs} channel, expected {INPUTS}, the scan and an organ; "
            "train it with the network option host"
        )


def save_with_card(weights: Path, path: Path, card: Mapping[str, Any]) -> None:
    """Write a checkpoint again with another card; tensors stay as they are stored, and so does all other metadata.

    Args:
        weights: The checkpoint; may be `path` itself.
        path: Ends in ``.safetensors``.
        card: In place of the one that is there.

    Raises:
        CheckpointError: Missing, damaged or of another format.
        OutputError: The folder is missing or full, or may not be written.
    """
    metadata, tensors = _open(weights, with_tensors=True)
    _write(path, tensors, replace(metadata, card=card))


def _write(path: Path, tensors: dict[str, Tensor], metadata: Metadata) -> None:
    payload = save(tensors, metadata={_KEY: metadata.to_json()})
    scratch = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with scratch.open("wb") as file:
            file.write(payload)
            file.flush()
            os.fsync(file.fileno())
        scratch.replace(path)
    except OSError as error:
        raise OutputError(
            f"{path}: cannot be written ({error.strerror}); choose another folder or make room", code="E-DISK"
        ) from error
    finally:
        with contextlib.suppress(OSError):
            scratch.unlink(missing_ok=True)


def storage_dtype(network: UniversalNetwork) -> torch.dtype:
    """Half precision where it holds every number of a network as it is, else single."""
    tensors = [tensor for tensor in network.state_dict().values() if tensor.is_floating_point()]
    exact = all(torch.equal(tensor.half().to(tensor.dtype), tensor) for tensor in tensors)
    return torch.float16 if exact else torch.float32


def read_metadata(path: Path) -> Metadata:
    """The metadata alone, without reading the weights.

    Raises:
        CheckpointError: Not a whole safetensors file, or not one of ours.
    """
    return _open(path)[0]


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint written by `save_checkpoint`; weights come back as float32.

    Raises:
        CheckpointError: Missing, damaged, of another format, its tensors do not fit its configuration, or its networks
            not each other.
    """
    metadata, tensors = _open(path, with_tensors=True)
    network, inside = build_network(metadata.network), None
    if metadata.inside is not None:
        own = {name: tensors.pop(name) for name in list(tensors) if name.startswith(_INSIDE)}
        inside = build_network(metadata.inside.network).eval()
        _refuse_hostless(inside, path.name)
        fill_network(inside, {name.removeprefix(_INSIDE): t for name, t in own.items()}, f"{path.name}, inside")
    fill_network(network, tensors, str(path.name))
    return Checkpoint(network.eval(), metadata, file_sha256(path), inside)


def fill_network(network: UniversalNetwork, tensors: Mapping[str, Tensor], name: str) -> None:
    """Copy tensors into a network, every one of them and nothing else.

    Raises:
        CheckpointError: A tensor is missing, left over, or of the wrong shape.
    """
    expected = network.state_dict()
    missing, unknown = expected.keys() - tensors.keys(), tensors.keys() - expected.keys()
    wrong = [k for k in expected.keys() & tensors.keys() if expected[k].shape != tensors[k].shape]
    for what, keys in (("lack", missing), ("have unknown", unknown), ("have the wrong shape for", wrong)):
        if keys:
            shown = ", ".join(sorted(keys)[:3]) + (f" and {len(keys) - 3} more" if len(keys) > 3 else "")
            raise CheckpointError(f"{name}: the weights {what} {shown}; they belong to another network")
    network.load_state_dict({k: t.to(expected[k].dtype) for k, t in tensors.items()})


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _open(path: Path, *, with_tensors: bool = False) -> tuple[Metadata, dict[str, Tensor]]:
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file; 'voxicon weights info' lists what is installed")
    try:
        with safe_open(path, framework="pt") as file:
            text = (file.metadata() or {}).get(_KEY)
            tensors = {k: file.get_tensor(k) for k in file.keys()} if with_tensors and text else {}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"{path.name}: not a whole safetensors file ({error}); fetch it again, or convert a .pth "
            "with 'voxicon weights convert'"
        ) from error
    if text is None:
        raise CheckpointError(
            f"{path.name}: a safetensors file, but not a voxicon checkpoint (no {_KEY!r} metadata); "
            "convert the original weights with 'voxicon weights convert'"
        )
    return Metadata.from_json(text, path.name), tensors
