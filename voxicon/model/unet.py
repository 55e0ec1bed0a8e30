"""The original's 3-D U-Net: Models-Genesis shape, 19 million weights, most of its work at full resolution.

Source: Zhou et al., Models Genesis, MedIA 2021; used by Liu et al., ICCV 2023, as the U-Net backbone.
"""

from __future__ import annotations

from functools import partial
from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from voxicon.model.recompute import run_block

LEVELS = 4
"""Resolutions; the deepest is an eighth of the image along each axis."""


class _ConvBlock(nn.Module):
    """Convolution, norm over one window, ReLU."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.conv = nn.Conv3d(channels_in, channels_out, 3, padding=1)
        self.norm = nn.InstanceNorm3d(channels_out, affine=True)

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(self.norm(self.conv(x)), inplace=True)


class GenesisUNet(nn.Module):
    """Two convolutions per level on the way down and on the way up, max pooling between.

    The original's batch norms are never put into evaluation mode: they always normalize by the
    statistics of what is in the batch, which at inference is one window. Their running averages are
    stored and never used. Instance norm with weights is the same arithmetic on one window; and unlike
    batch statistics it gives a window the same answer whatever else is in the batch.

    Args:
        width: Channels of the first convolution, a multiple of 8; each level doubles them.

    Attributes:
        bottleneck_channels: Channels of the deepest map.
        decoder_channels: Channels of the last decoder map.
        size_multiple: Inputs must be a multiple of this along each axis.
        floats_per_voxel: Numbers that live at one time, at most, per voxel of a window; about, counted by the tests.
        recompute: Keep less for the backward pass: one map per level and step, nothing of what is inside.
    """

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        channels = [width * 2 ** (level + 1) for level in range(LEVELS)]
        steps = list(pairwise(channels))
        # The first of a level's two convolutions keeps the channels, except at the image: 1 → width.
        self.down = nn.ModuleList([nn.Sequential(_ConvBlock(1, width), _ConvBlock(width, channels[0]))])
        self.down.extend(nn.Sequential(_ConvBlock(fine, fine), _ConvBlock(fine, coarse)) for fine, coarse in steps)
        self.lift = nn.ModuleList(nn.ConvTranspose3d(coarse, coarse, 2, stride=2) for _, coarse in reversed(steps))
        self.up = nn.ModuleList(
            nn.Sequential(_ConvBlock(coarse + fine, fine), _ConvBlock(fine, fine)) for fine, coarse in reversed(steps)
        )
        self.bottleneck_channels = channels[-1]
        self.decoder_channels = channels[0]
        self.floats_per_voxel = 15 * width
        self.inputs = 1
        self.size_multiple = 2 ** len(steps)
        self.recompute = False

    def forward(self, image_B1XYZ: Tensor) -> tuple[Tensor, Tensor]:
        """Deepest map (B, 512, X/8, Y/8, Z/8) and last decoder map (B, 64, X, Y, Z) at width 32."""
        skips = [run_block(self.down[0], image_B1XYZ, recompute=self.recompute)]
        for block in self.down[1:]:
            skips.append(run_block(partial(_sink, block), skips[-1], recompute=self.recompute))
        bottleneck = x = skips.pop()
        for lift, block in zip(self.lift, self.up, strict=True):
            x = run_block(partial(_rise, lift, block), x, skips.pop(), recompute=self.recompute)
        return bottleneck, x


def _sink(block: nn.Module, x: Tensor) -> Tensor:
    """One level down."""
    return cast(Tensor, block(functional.max_pool3d(x, 2)))


def _rise(lift: nn.Module, block: nn.Module, x: Tensor, skip: Tensor) -> Tensor:
    """One level up: enlarge, put beside the map kept on the way down, convolve."""
    return cast(Tensor, block(torch.cat([lift(x), skip], dim=1)))
