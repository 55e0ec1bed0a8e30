"""The original's Swin UNETR: MONAI's modules, run without their output layer.

MONAI is imported when a network is built, not with this module: its import takes seconds.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from voxicon.model.recompute import run_block

_MERGED_CORNERS = ((0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 0, 1), (0, 1, 0), (0, 0, 1), (1, 1, 1))
"""Corners of a 2×2×2 cell in the order the original stacks them: two occur twice and two never.
Source: MONAI 0.9, on which the original was trained. MONAI 1.5.2 and later stack all eight under the same name,
"merging", and the weights of one order mean nothing in the other."""


class _Merging(nn.Module):
    """Halves the resolution by stacking corners of 2×2×2 cells, as MONAI 0.9 did.

    Args:
        dim: Channels of the input; the output has twice as many.
        norm_layer: Makes the norm over the stacked channels.
        spatial_dims: 3; MONAI passes it.
    """

    def __init__(self, dim: int, norm_layer: type[nn.LayerNorm] = nn.LayerNorm, spatial_dims: int = 3) -> None:
        super().__init__()
        assert spatial_dims == 3
        self.norm = norm_layer(8 * dim)
        self.reduction = nn.Linear(8 * dim, 2 * dim, bias=False)

    def forward(self, x_BXYZC: Tensor) -> Tensor:
        stacked = torch.cat([x_BXYZC[:, i::2, j::2, k::2] for i, j, k in _MERGED_CORNERS], dim=-1)
        merged: Tensor = self.reduction(self.norm(stacked))
        return merged


class SwinUNETRFeatures(nn.Module):
    """Shifted-window transformer on the way down, residual convolutions on the way up.

    Args:
        feature_size: Channels of the finest level, a multiple of 12 (of 48 under the text-driven head).

    Attributes:
        bottleneck_channels: Channels of the deepest map.
        decoder_channels: Channels of the last decoder map.
        size_multiple: Inputs must be a multiple of this along each axis, and longer than it along one.
        floats_per_voxel: Numbers that live at one time, at most, per voxel of a window; about, counted by the tests.
        recompute: Keep less for the backward pass: one map per level and step, and the inputs of attention.
    """

    def __init__(self, feature_size: int = 48) -> None:
        super().__init__()
        from monai.networks.nets.swin_unetr import SwinUNETR

        merging: Any = _Merging  # MONAI wants the class and annotates an instance.
        self.host = SwinUNETR(in_channels=1, out_channels=1, feature_size=feature_size, downsample=merging)
        del self.host.out
        for module in self.host.modules():
            # These follow from the window size; stored, they would add 7.5 MB to every checkpoint.
            for name, index in module.named_buffers(recurse=False):
                module.register_buffer(name, index, persistent=False)
        self.bottleneck_channels = 16 * feature_size
        self.decoder_channels = feature_size
        self.floats_per_voxel = 8 * feature_size
        self.inputs = 1
        self.size_multiple = 32
        self.recompute = False

    @property
    def recompute(self) -> bool:
        """Whether attention and convolutions are computed again in the backward pass; MONAI does it for attention."""
        return self._recompute

    @recompute.setter
    def recompute(self, value: bool) -> None:
        self._recompute = value
        transformer: Any = self.host.swinViT
        for module in transformer.modules():
            if hasattr(module, "use_checkpoint"):
                module.use_checkpoint = value

    def forward(self, image_B1XYZ: Tensor) -> tuple[Tensor, Tensor]:
        """Deepest map (B, 768, X/32, Y/32, Z/32) and last decoder map (B, 48, X, Y, Z) at feature size 48."""
        host, recompute = self.host, self.recompute
        hidden = list(host.swinViT(image_B1XYZ, host.normalize))
        bottleneck = run_block(host.encoder10, hidden.pop(), recompute=recompute)
        x = run_block(host.decoder5, bottleneck, hidden.pop(), recompute=recompute)
        # Each skip is made when its level is reached and dropped with it. Made all at once, as MONAI
        # does, the full-resolution one (170 MB for 96³) would wait through the whole decoder.
        for lift, skip in (
            (host.decoder4, host.encoder4),
            (host.decoder3, host.encoder3),
            (host.decoder2, host.encoder2),
        ):
            x = run_block(lift, x, run_block(skip, hidden.pop(), recompute=recompute), recompute=recompute)
        skip_of_image = run_block(host.encoder1, image_B1XYZ, recompute=recompute)
        return bottleneck, run_block(host.decoder1, x, skip_of_image, recompute=recompute)
