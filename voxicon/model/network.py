"""The universal network: a backbone, a text-driven head, and the bank of words it answers to.

Input is an image (B, 1, X, Y, Z) in [0, 1]; output is one logit map per word, (B, N, X, Y, Z).
This module knows no file, no organ and no dataset: words are vectors.

A finished network learns new words by extensions: each is a head of its own, with its own words, on the same backbone.
Nothing that the earlier heads are made of is read or written differently, so what the network knew it still knows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from itertools import accumulate
from typing import Any, Protocol, cast, get_args

import torch
from torch import Tensor, nn

from voxicon.errors import CheckpointError
from voxicon.model.adapter import Adapter
from voxicon.model.config import Controller, HeadConfig, NetworkConfig
from voxicon.model.head import EVERY_ROW, HIDDEN, Rows, TextDrivenHead
from voxicon.model.recompute import run_block


class Backbone(Protocol):
    """What the head needs from an image network."""

    inputs: int
    """Channels of what it reads: 1 for a scan, `voxicon.model.host.INPUTS` for a scan and an organ in it."""
    bottleneck_channels: int
    """Channels of the deepest map, a multiple of 16."""
    decoder_channels: int
    """Channels of the last decoder map, a multiple of 16."""
    size_multiple: int
    """Inputs must be a multiple of this along each axis."""
    floats_per_voxel: float
    """Numbers that live at one time, at most, per voxel of a window; about, and without weights."""
    recompute: bool
    """Compute blocks again in the backward pass instead of keeping what is inside them. False at first."""

    def __call__(self, image_B1XYZ: Tensor) -> tuple[Tensor, Tensor]:
        """Deepest map (B, C, x, y, z) and last decoder map (B, C, X, Y, Z)."""
        ...


EVERYWHERE = (slice(None), slice(None), slice(None))
"""All voxels, as a slice per axis."""


class Extension(nn.Module):
    """Words that were added to a finished network, with a head of their own.

    Args:
        head: Built for the backbone's channels.
        text_vectors: (N, E) float, one per class, kept as a buffer and never trained.
        classes: N names in the order of the vectors.
        adapter: Changes the last decoder map for this head alone; None where it reads what all read.
    """

    text_vectors: Tensor

    def __init__(
        self, head: TextDrivenHead, text_vectors: Tensor, classes: tuple[str, ...], adapter: Adapter | None = None
    ) -> None:
        super().__init__()
        self.head, self.adapter, self.classes = head, adapter, classes
        self.register_buffer("text_vectors", text_vectors)


class UniversalNetwork(nn.Module):
    """Backbone and text-driven head; calling it gives logits for all of its words.

    Args:
        backbone: Gives features at the deepest and at the finest level and reports their channels.
        head: Built for those channels.
        text_vectors: (N, E) float, one per class, kept as a buffer and never trained.
        classes: N names in the order of the vectors.
        extensions: What was added later.

    Attributes:
        classes: Names of all words, those of the extensions last.
    """

    text_vectors: Tensor
    config: NetworkConfig | None = None
    """What it was built from, options that no tensor shows included; None for one that was put together by hand."""

    def __init__(
        self,
        backbone: nn.Module,
        head: TextDrivenHead,
        text_vectors: Tensor,
        classes: tuple[str, ...],
        extensions: tuple[Extension, ...] = (),
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head
        self.register_buffer("text_vectors", text_vectors)
        self.extensions = nn.ModuleList(extensions)
        of_heads = [classes, *(each.classes for each in extensions)]
        self.classes = tuple(name for names in of_heads for name in names)
        self._head_of = tuple(number for number, names in enumerate(of_heads) for _ in names)
        self._first_of = (0, *accumulate(len(names) for names in of_heads))

    @property
    def inputs(self) -> int:
        """Channels of what `encode` reads: the scan, and with two of them an organ in it (`voxicon.model.host`)."""
        return cast(Backbone, self.backbone).inputs

    @property
    def size_multiple(self) -> int:
        """Images must be a multiple of this along each axis."""
        return cast(Backbone, self.backbone).size_multiple

    def window_bytes(self, window: tuple[int, int, int]) -> int:
        """Memory that the numbers between two layers take at most while a window is encoded; about, without weights.

        What a library needs for itself on the way is not in it: measured, a window of the starter network, of a Swin
        UNETR and of a U-Net of the official sizes took 0.45, 1.50 and 1.97 GB where 0.26, 1.36 and 1.70 GB are told.
        """
        return round(4 * cast(Backbone, self.backbone).floats_per_voxel * math.prod(window))

    @property
    def recompute(self) -> bool:
        """Whether training steps spend one more forward pass to keep a fraction of the maps; see `run_block`.

        Set it at any time. Gradients and weights stay the same, so no checkpoint says anything about it.
        """
        return cast(Backbone, self.backbone).recompute

    @recompute.setter
    def recompute(self, value: bool) -> None:
        cast(Backbone, self.backbone).recompute = value

    def rows_of(self, classes: tuple[str, ...] | None) -> Rows:
        """Where some classes stand among all, in the order asked; what `encode` takes. None means all.

        Raises:
            CheckpointError: A class this network has no vector for.
        """
        if classes is None or classes == self.classes:
            return EVERY_ROW
        missing = [name for name in classes if name not in self.classes]
        if missing:
            raise CheckpointError(
                f"these weights have no word for {', '.join(missing)}; they know: {', '.join(self.classes)}"
            )
        rows = [self.classes.index(name) for name in classes]
        return torch.tensor(rows, dtype=torch.int64, device=self.text_vectors.device)

    def heads_of(self, rows: Rows) -> tuple[int, ...]:
        """Which head answers for each of the classes at `rows`: 0 for the first, then the extensions."""
        if isinstance(rows, slice):
            return self._head_of[rows]
        return tuple(self._head_of[row] for row in rows.tolist()) if self.extensions else (0,) * len(rows)

    def encode(self, image_B1XYZ: Tensor, rows: Rows = EVERY_ROW) -> tuple[Tensor, Tensor]:
        """The shared maps (B, M, X, Y, Z) and parameters (B, N, 153) of the classes at `rows`.

        There are eight map channels for each head that answers for one of the classes, and for the first one where
        there is no class. All that is expensive happens here, once for all classes; `decode` makes logits of it.
        """
        axes, multiple = tuple(image_B1XYZ.shape[2:]), self.size_multiple
        assert all(n % multiple == 0 for n in axes), f"an image of {axes} voxels; axes must be multiples of {multiple}"
        bottleneck, decoded = self.backbone(image_B1XYZ)
        heads = self.heads_of(rows)
        if not any(heads):
            shared_map = run_block(self.head.shared_map, decoded, recompute=self.recompute)
            return shared_map, self.head.class_parameters(bottleneck, self.text_vectors[rows], rows)
        maps, parameters = [], []
        for number in sorted(set(heads)):
            own = self._own_rows(rows, heads, number)
            part = self if number == 0 else cast(Extension, self.extensions[number - 1])
            adapter = part.adapter if isinstance(part, Extension) else None
            read = decoded if adapter is None else adapter(image_B1XYZ, decoded)
            maps.append(run_block(part.head.shared_map, read, recompute=self.recompute))
            parameters.append(part.head.class_parameters(bottleneck, part.text_vectors[own], own))
        return torch.cat(maps, 1), _in_order(torch.cat(parameters, 1), heads)

    def _own_rows(self, rows: Rows, heads: tuple[int, ...], number: int) -> Rows:
        """Those of `rows` that a head answers for, counted from the head's first."""
        if isinstance(rows, slice) and rows == EVERY_ROW:
            return EVERY_ROW
        every = torch.arange(len(self.classes), device=self.text_vectors.device)[rows]
        return every[[at for at, head in enumerate(heads) if head == number]] - self._first_of[number]

    def map_channels(self, rows: Rows) -> Rows:
        """Where, among the maps of all classes, those lie that the classes at `rows` have."""
        every, used = sorted(set(self._head_of)), set(self.heads_of(rows))
        places = [place for place, number in enumerate(every) if number in used] or [0]
        if len(places) == len(every):
            return EVERY_ROW
        return torch.arange(HIDDEN * len(every)).reshape(len(every), HIDDEN)[places].flatten()

    def decode(self, maps_BMXYZ: Tensor, parameters_BNP: Tensor, maps_of: tuple[int, ...] = ()) -> Tensor:
        """Logits (B, N, X, Y, Z) of what `encode` gave, in the dtype of the maps.

        Args:
            maps_BMXYZ: Any part of the space of encoded maps.
            parameters_BNP: Of the classes asked for; of some of them, if `maps_of` is of the same.
            maps_of: Of each class, which of the maps it reads, see `maps_of`; the first where left out.
        """
        if len(set(maps_of)) <= 1:
            first = HIDDEN * (maps_of[0] if maps_of else 0)
            return self.head.decode(maps_BMXYZ[:, first : first + HIDDEN], parameters_BNP)
        parts = []
        for number in sorted(set(maps_of)):
            reading = [at for at, of in enumerate(maps_of) if of == number]
            own_map = maps_BMXYZ[:, HIDDEN * number : HIDDEN * (number + 1)]
            parts.append(self.head.decode(own_map, parameters_BNP[:, reading]))
        return _in_order(torch.cat(parts, 1), maps_of)

    def maps_of(self, rows: Rows) -> tuple[int, ...]:
        """Of each of the classes at `rows`, which of the maps that `encode` gives for them it reads."""
        heads = self.heads_of(rows)
        place = {number: at for at, number in enumerate(sorted(set(heads)))}
        return tuple(place[number] for number in heads)

    def forward(
        self, image_B1XYZ: Tensor, classes: tuple[str, ...] | None = None, at: tuple[slice, slice, slice] = EVERYWHERE
    ) -> Tensor:
        """Logits (B, N, X, Y, Z) for the classes asked for, all of them by default.

        Args:
            image_B1XYZ: Windows of prepared scans.
            classes: In the order wanted.
            at: Voxels whose logits are wanted, a slice per axis; of others nothing is decoded.
        """
        rows = self.rows_of(classes)
        maps_BMXYZ, parameters_BNP = self.encode(image_B1XYZ, rows)
        return self.decode(maps_BMXYZ[(..., *at)], parameters_BNP, self.maps_of(rows))


def _in_order(grouped_BN: Tensor, heads: tuple[int, ...]) -> Tensor:
    """What was computed head by head, (B, N, ...), in the order of the classes, whose heads are given."""
    if list(heads) == sorted(heads):
        return grouped_BN
    by_head = sorted(range(len(heads)), key=lambda at: heads[at])  # stable: as within each head
    places = torch.empty(len(heads), dtype=torch.int64)
    places[by_head] = torch.arange(len(heads))
    return grouped_BN[:, places.to(grouped_BN.device)]


def _compact(options: Mapping[str, Any]) -> nn.Module:
    from voxicon.model.compact import CompactUNet

    return CompactUNet(**options)


def _unet(options: Mapping[str, Any]) -> nn.Module:
    from voxicon.model.unet import GenesisUNet

    return GenesisUNet(**options)


def _swin_unetr(options: Mapping[str, Any]) -> nn.Module:
    from voxicon.model.swin import SwinUNETRFeatures

    return SwinUNETRFeatures(**options)


BACKBONES: dict[str, Callable[[Mapping[str, Any]], nn.Module]] = {
    "compact": _compact,
    "unet": _unet,
    "swin_unetr": _swin_unetr,
}
"""Name → builder. Imports wait until a backbone is asked for: MONAI alone takes seconds to import."""


def build_network(config: NetworkConfig, text_vectors: Tensor | None = None) -> UniversalNetwork:
    """A network of the configured shape with fresh weights.

    Args:
        config: Shape.
        text_vectors: (N, E) for the config's classes; zeros when left out (a checkpoint fills them).

    Raises:
        CheckpointError: Unknown backbone or controller, a leak that is no slope, options it does not have or cannot
            take, or vectors that do not fit the config.
    """
    if config.backbone not in BACKBONES:
        raise CheckpointError(f"unknown backbone {config.backbone!r}; known: {', '.join(BACKBONES)}")
    for each in (config, *config.extensions):
        if each.controller not in get_args(Controller):
            known = ", ".join(get_args(Controller))
            raise CheckpointError(f"unknown controller {each.controller!r}; known: {known}")
    if isinstance(config.leak, bool) or not isinstance(config.leak, int | float) or not 0 <= config.leak < 1:
        raise CheckpointError(f"network leak {config.leak!r} is no slope; it is a number from 0 up to, but not, 1")
    _refuse_twice(config)
    try:
        backbone = BACKBONES[config.backbone](config.options)
        channels = cast(Backbone, backbone)
        head, vectors = _build_head(config, channels, config.leak), _zeros(config)
        extensions = tuple(
            Extension(
                _build_head(each, channels, config.leak),
                _zeros(each),
                each.classes,
                None if each.adapter is None else Adapter(channels.decoder_channels, **each.adapter),
            )
            for each in config.extensions
        )
    except (TypeError, ValueError, RuntimeError, IndexError) as error:
        raise CheckpointError(
            f"cannot build backbone {config.backbone!r} with options {dict(config.options)} ({error}); "
            "the configuration is damaged or of another version"
        ) from error
    if text_vectors is not None:
        if text_vectors.shape != vectors.shape:
            raise CheckpointError(
                f"text vectors have shape {tuple(text_vectors.shape)}, the configuration says {tuple(vectors.shape)}"
            )
        vectors = text_vectors.detach().clone().float()
    network = UniversalNetwork(backbone, head, vectors, config.classes, extensions)
    network.config = config
    return network


def _zeros(config: HeadConfig) -> Tensor:
    return torch.zeros(len(config.classes), config.embedding_size)


def _build_head(config: HeadConfig, features: Backbone, leak: float) -> TextDrivenHead:
    n_controllers = len(config.classes) if config.controller == "per_class" else None
    return TextDrivenHead(
        features.bottleneck_channels, features.decoder_channels, config.embedding_size, n_controllers, leak
    )


def _refuse_twice(config: NetworkConfig) -> None:
    twice = sorted({name for name in config.all_classes if config.all_classes.count(name) > 1})
    if twice and config.extensions:
        raise CheckpointError(f"two heads answer for {', '.join(twice)}; the configuration is damaged")
