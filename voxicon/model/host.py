"""An organ seen against itself: how much brighter or darker a voxel is than the organ it lies in.

What makes a lesion is its difference to the organ around it. How bright that organ is changes with contrast agent,
phase and fat; how bright its lesions are, seen against it, much less. So a network that looks for lesions is told which
voxels are their host, as an earlier network found it, and reads the scan relative to the host's median. Means are taken
over the host's own tissue alone: fat beside it, gas and bright vessels neither hide a lesion nor look like one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from voxicon.model.contrast import box_mean

INPUTS = 2
"""What such a network reads: the scan relative to the host, and the host."""

UNIT_HU = 100.0
"""One unit of the relative scan."""

_NOTHING = 1e-2
"""Share of a box below which there is hardly any of the host in it to compare with."""


def against_host(hu_XYZ: Tensor, host_XYZ: Tensor) -> Tensor:
    """What a network with a `HostView` reads of a scan.

    Args:
        hu_XYZ: HU.
        host_XYZ: Probability of the host, 0 to 1, on the same grid.

    Returns:
        (2, X, Y, Z) float32: the difference to the median HU where the host is likelier than not, in units of
        `UNIT_HU`, and the probability. Without any such voxel the difference is to the median of all.
    """
    hu, host = hu_XYZ.float(), host_XYZ.float()
    inside = hu[host > 0.5]
    level = (inside if inside.numel() else hu.flatten()).median()
    return torch.stack([(hu - level) / UNIT_HU, host])


class HostView(nn.Module):
    """Fixed channels, nothing to learn: the scan relative to its host in two windows, the host, and local contrasts.

    Args:
        sides: Pairs of box sides in voxels, odd, the smaller first: the mean of the small box less that of the large,
            both over the host's tissue.
        tissue_hu: What differs more from the host's median is none of its tissue.
        near_hu: The difference that becomes 1 in the narrow window, as in the contrasts half of it does.
        wide_hu: The difference that becomes 1 in the wide window.

    Raises:
        ValueError: Sides that are not odd or do not grow, or a difference that is not positive.

    Attributes:
        channels: How many channels come out.
    """

    def __init__(
        self,
        sides: Iterable[Sequence[int]] = ((3, 9), (3, 15), (5, 25), (7, 15)),
        tissue_hu: float = 120.0,
        near_hu: float = 60.0,
        wide_hu: float = 250.0,
    ) -> None:
        super().__init__()
        self.sides = tuple((int(small), int(large)) for small, large in sides)
        if any(small < 1 or large <= small or small % 2 == 0 or large % 2 == 0 for small, large in self.sides):
            raise ValueError(f"sides are pairs of odd numbers, the smaller first, got {self.sides}")
        self.tissue, self.near, self.wide = (float(hu) / UNIT_HU for hu in (tissue_hu, near_hu, wide_hu))
        if min(self.tissue, self.near, self.wide) <= 0:
            raise ValueError("tissue_hu, near_hu and wide_hu must be positive")
        self.channels = 3 + len(self.sides)

    def forward(self, seen_B2XYZ: Tensor) -> Tensor:
        """(B, C, X, Y, Z), each channel in [-2, 2], from what `against_host` gives."""
        relative, host = seen_B2XYZ[:, :1].float(), seen_B2XYZ[:, 1:].float()
        tissue = host * (relative.abs() < self.tissue)
        both = torch.cat([tissue, tissue * relative], dim=1)
        means = {1: relative}
        for side in {side for pair in self.sides for side in pair if side > 1}:
            mean = box_mean(both, side)
            means[side] = mean[:, 1:] / mean[:, :1].clamp_min(_NOTHING)
        full = self.near / 2
        contrasts = [((means[small] - means[large]) * host / full).clamp(-2, 2) for small, large in self.sides]
        windows = [(relative / self.near).clamp(-2, 2), (relative / self.wide).clamp(-2, 2)]
        return torch.cat([*windows, host, *contrasts], dim=1)
