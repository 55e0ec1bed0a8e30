"""The universal network: a backbone, a text-driven head, and the bank of words it answers to.

Input is an image (B, 1, X, Y, Z) in [0, 1]; output is one logit map per word, (B, N, X, Y, Z).
This module knows no file, no organ and no dataset: words are vectors.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, Protocol, cast, get_args

import torch
from torch import Tensor, nn

from voxicon.errors import CheckpointError
from voxicon.model.head import EVERY_ROW, Rows, TextDrivenHead
from voxicon.model.recompute import run_block

Controller = Literal["shared", "per_class"]
"""How words become parameters: one controller for all (ICCV 2023) or one for each (MedIA 2024)."""


class Backbone(Protocol):
    """What the head needs from an image network."""

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


@dataclass(frozen=True, kw_only=True)
class NetworkConfig:
    """All that is needed to build a network of the right shape, before any weight is known."""

    backbone: str
    """One of `BACKBONES`."""
    classes: tuple[str, ...]
    """Names of the words, in the order of the text vectors."""
    embedding_size: int
    """Length of a text vector."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Arguments of the backbone's constructor."""
    controller: Controller = "shared"
    """Checkpoints from before there was a choice have no such field and are shared."""
    leak: float = 0.0
    """Slope below zero inside the class networks; 0, the original's ReLU, where a checkpoint says nothing."""

    def to_dict(self) -> dict[str, Any]:
        """Plain data for a checkpoint's metadata."""
        return {**asdict(self), "classes": list(self.classes), "options": dict(self.options)}


class UniversalNetwork(nn.Module):
    """Backbone and text-driven head; calling it gives logits for all of its words.

    Args:
        backbone: Gives features at the deepest and at the finest level and reports their channels.
        head: Built for those channels.
        text_vectors: (N, E) float, one per class, kept as a buffer and never trained.
        classes: N names in the order of the vectors.
    """

    text_vectors: Tensor
    config: NetworkConfig | None = None
    """What it was built from, options that no tensor shows included; None for one that was put together by hand."""

    def __init__(
        self, backbone: nn.Module, head: TextDrivenHead, text_vectors: Tensor, classes: tuple[str, ...]
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head
        self.register_buffer("text_vectors", text_vectors)
        self.classes = classes

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

    def encode(self, image_B1XYZ: Tensor, rows: Rows = EVERY_ROW) -> tuple[Tensor, Tensor]:
        """The shared 8-channel map (B, 8, X, Y, Z) and parameters (B, N, 153) of the classes at `rows`.

        All that is expensive happens here, once for all classes; `head.decode` turns the two into logits.
        """
        axes, multiple = tuple(image_B1XYZ.shape[2:]), self.size_multiple
        assert all(n % multiple == 0 for n in axes), f"an image of {axes} voxels; axes must be multiples of {multiple}"
        bottleneck, decoded = self.backbone(image_B1XYZ)
        shared_map = run_block(self.head.shared_map, decoded, recompute=self.recompute)
        return shared_map, self.head.class_parameters(bottleneck, self.text_vectors[rows], rows)

    def forward(self, image_B1XYZ: Tensor, classes: tuple[str, ...] | None = None) -> Tensor:
        """Logits (B, N, X, Y, Z) for the classes asked for, all of them by default."""
        return self.head.decode(*self.encode(image_B1XYZ, self.rows_of(classes)))


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
    if config.controller not in get_args(Controller):
        known = ", ".join(get_args(Controller))
        raise CheckpointError(f"unknown controller {config.controller!r}; known: {known}")
    if isinstance(config.leak, bool) or not isinstance(config.leak, int | float) or not 0 <= config.leak < 1:
        raise CheckpointError(f"network leak {config.leak!r} is no slope; it is a number from 0 up to, but not, 1")
    shape = (len(config.classes), config.embedding_size)
    n_controllers = len(config.classes) if config.controller == "per_class" else None
    try:
        vectors = torch.zeros(shape) if text_vectors is None else text_vectors.detach().clone().float()
        backbone = BACKBONES[config.backbone](config.options)
        features = cast(Backbone, backbone)
        head = TextDrivenHead(
            features.bottleneck_channels, features.decoder_channels, config.embedding_size, n_controllers, config.leak
        )
    except (TypeError, ValueError, RuntimeError, IndexError) as error:
        raise CheckpointError(
            f"cannot build backbone {config.backbone!r} with options {dict(config.options)} ({error}); "
            "the configuration is damaged or of another version"
        ) from error
    if tuple(vectors.shape) != shape:
        raise CheckpointError(f"text vectors have shape {tuple(vectors.shape)}, the configuration says {shape}")
    network = UniversalNetwork(backbone, head, vectors, config.classes)
    network.config = config
    return network
