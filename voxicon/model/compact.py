"""A small, fast 3-D U-Net for laptops: few channels where voxels are many.

Most of a full-resolution U-Net's time goes into its finest level. Here that level has 16 channels and
one convolution on the way in and one on the way out; depth is spent where it is cheap.
Convolutions downsample by stride, upsampling is trilinear followed by a convolution.

One gray scale from lung to bone leaves soft organs a few hundredths apart, which a network learns slowly and
bf16 rounds away. So the image may be read through several fixed windows at once, as a radiologist does, and as its
contrast with the tissue nearby (`voxicon.model.contrast`); or relative to one organ (`voxicon.model.host`).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from itertools import pairwise
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from voxicon.model.contrast import LocalContrast
from voxicon.model.host import INPUTS, HostView
from voxicon.model.recompute import run_block

_SLOPE = 0.01


class ConvBlock(nn.Module):
    """Convolution, instance norm, leaky ReLU."""

    def __init__(self, channels_in: int, channels_out: int, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv3d(channels_in, channels_out, 3, stride=stride, padding=1, bias=False)
        self.norm = nn.InstanceNorm3d(channels_out, affine=True)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C_in, X, Y, Z) to (B, C_out, X, Y, Z), each axis divided by the stride."""
        return functional.leaky_relu(self.norm(self.conv(x)), _SLOPE)


class ResidualBlock(nn.Module):
    """Two convolutions around a shortcut; the first may downsample."""

    def __init__(self, channels_in: int, channels_out: int, stride: int = 1) -> None:
        super().__init__()
        self.first = ConvBlock(channels_in, channels_out, stride)
        self.conv = nn.Conv3d(channels_out, channels_out, 3, padding=1, bias=False)
        self.norm = nn.InstanceNorm3d(channels_out, affine=True)
        self.shortcut = nn.Conv3d(channels_in, channels_out, 1, bias=False)
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        """(B, C_in, X, Y, Z) to (B, C_out, X, Y, Z), each axis divided by the stride."""
        # Pooling before a 1×1×1 convolution costs an eighth of the reverse and sees every voxel.
        skipped = functional.avg_pool3d(x, self.stride) if self.stride > 1 else x
        return functional.leaky_relu(self.norm(self.conv(self.first(x))) + self.shortcut(skipped), _SLOPE)


class CompactUNet(nn.Module):
    """Encoder with one residual block per level, decoder with one convolution block per level.

    Args:
        channels: Channels per level, finest first, each a multiple of 16. Inputs must be multiples of
            2 ** (levels - 1) along each axis.
        windows: Parts of the image's range [0, 1], each read as a channel of its own: ``low`` becomes 0 and ``high`` 1,
            values beyond are clipped. None: the image is read as it is.
        contrast: Arguments of `LocalContrast`, whose channels are read beside the windows; none by default.
        host: Arguments of `HostView`, whose channels are read in place of all others: the network then looks into an
            organ that is given, and its input is what `against_host` makes. None by default.

    Raises:
        ValueError: A window whose high end does not lie above its low end, what `LocalContrast` or `HostView` cannot
            take, or a host beside windows or contrast.

    Attributes:
        inputs: Channels of what it reads: 1, and 2 with a host.
        bottleneck_channels: Channels of the deepest map.
        decoder_channels: Channels of the last decoder map.
        size_multiple: Inputs must be a multiple of this along each axis.
        floats_per_voxel: Numbers that live at one time, at most, per voxel of a window; about, counted by the tests.
        recompute: Keep less for the backward pass: one map per level and step, nothing of what is inside.
    """

    def __init__(
        self,
        channels: tuple[int, ...] = (16, 32, 64, 128, 192),
        windows: tuple[tuple[float, float], ...] = (),
        contrast: Mapping[str, Any] | None = None,
        host: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        if any(high <= low for low, high in windows):
            raise ValueError(f"windows are pairs of a low and a higher number, got {windows}")
        self.windows = tuple((float(low), float(high)) for low, high in windows)
        self.contrast = LocalContrast(**contrast) if contrast is not None else None
        self.host = HostView(**host) if host is not None else None
        if self.host is not None and (windows or self.contrast is not None):
            raise ValueError("with a host everything is read relative to it: leave windows and contrast out")
        self.inputs = 1 if self.host is None else INPUTS
        n_seen = max(1, len(windows)) + (len(self.contrast.sides) if self.contrast is not None else 0)
        if self.host is not None:
            n_seen = self.host.channels
        self.stem = ConvBlock(n_seen, channels[0])
        levels = list(pairwise(channels))
        self.down = nn.ModuleList(ResidualBlock(fine, coarse, stride=2) for fine, coarse in levels)
        self.lift = nn.ModuleList(nn.Conv3d(coarse, fine, 1, bias=False) for fine, coarse in reversed(levels))
        self.up = nn.ModuleList(ConvBlock(2 * fine, fine) for fine, _ in reversed(levels))
        self.bottleneck_channels = channels[-1]
        self.decoder_channels = channels[0]
        # In the last block: skip, lifted map, the two side by side, a convolution, its norm; and what the stem saw.
        self.floats_per_voxel = 6 * channels[0] + 8
        self.size_multiple = 2 ** len(levels)
        self.recompute = False

    def forward(self, image_BIXYZ: Tensor) -> tuple[Tensor, Tensor]:
        """Deepest map (B, C, x, y, z) and last decoder map (B, C, X, Y, Z)."""
        skips = [run_block(self.stem, self._seen(image_BIXYZ), recompute=self.recompute)]
        for block in self.down:
            skips.append(run_block(block, skips[-1], recompute=self.recompute))
        bottleneck = x = skips.pop()
        for lift, block in zip(self.lift, self.up, strict=True):
            x = run_block(partial(_rise, lift, block), x, skips.pop(), recompute=self.recompute)
        return bottleneck, x

    def _seen(self, image_BIXYZ: Tensor) -> Tensor:
        """The image as the first convolution reads it."""
        if self.host is not None:
            return cast(Tensor, self.host(image_BIXYZ))
        seen = [((image_BIXYZ - low) / (high - low)).clamp(0, 1) for low, high in self.windows] or [image_BIXYZ]
        if self.contrast is not None:
            seen.append(self.contrast(image_BIXYZ))
        return torch.cat(seen, dim=1)


def _rise(lift: nn.Module, block: nn.Module, x: Tensor, skip: Tensor) -> Tensor:
    """One level up: enlarge, put beside the map kept on the way down, convolve."""
    lifted = functional.interpolate(lift(x), size=skip.shape[2:], mode="trilinear", align_corners=False)
    return cast(Tensor, block(torch.cat([skip, lifted], dim=1)))
