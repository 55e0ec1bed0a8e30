"""A few layers that see an image for new words alone: what the backbone was never asked to notice.

The backbone stays as it is. An adapter reads the image and the last decoder map at half and at a quarter of their
resolution and adds what it finds to that map, for one extension's head and no other. At first it adds nothing.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from voxicon.model.compact import ConvBlock, ResidualBlock


class Adapter(nn.Module):
    """Adds to a decoder map.

    Args:
        channels: Of the decoder map.
        width: Channels at half the resolution; twice as many at a quarter.

    Raises:
        ValueError: Fewer than one channel.
    """

    def __init__(self, channels: int, width: int = 32) -> None:
        super().__init__()
        if width < 1:
            raise ValueError(f"an adapter has one channel at least, got {width}")
        self.down = ResidualBlock(1 + channels, width, stride=2)
        self.deep = nn.Sequential(ResidualBlock(width, 2 * width, stride=2), ResidualBlock(2 * width, 2 * width))
        self.lift = nn.Conv3d(2 * width, width, 1, bias=False)
        self.join = ConvBlock(2 * width, width)
        self.added = nn.Conv3d(width, channels, 1)
        nn.init.zeros_(self.added.weight)
        nn.init.zeros_(self.added.bias)  # type: ignore[arg-type]

    def forward(self, image_B1XYZ: Tensor, decoder_BCXYZ: Tensor) -> Tensor:
        """The decoder map (B, C, X, Y, Z) and what was found. Axes of one voxel are not halved further than that."""
        half = self.down(torch.cat([image_B1XYZ, decoder_BCXYZ], 1))
        lifted = _enlarged(self.lift(self.deep(half)), half.shape[2:])
        found = self.added(self.join(torch.cat([half, lifted], 1)))
        return decoder_BCXYZ + _enlarged(found, decoder_BCXYZ.shape[2:])


def _enlarged(x: Tensor, size: torch.Size) -> Tensor:
    return functional.interpolate(x, size=size, mode="trilinear", align_corners=False)
