"""Local contrast: how much brighter or darker a voxel is than the soft tissue around it.

A lesion is seen against its organ, whose own brightness changes from scan to scan with contrast agent, phase and fat. A
small network has to find that difference out by itself, in noise, before it can learn anything of lesions; what giving
it changes is in docs/results.md. Fat, air, bone and bright vessels do not count as surroundings, so that the edge of an
organ is no lesion.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

_NOTHING = 1e-3
"""Share of a box below which there is hardly any tissue in it to compare with."""


class LocalContrast(nn.Module):
    """Fixed channels, nothing to learn: means of boxes around each voxel, one less another.

    Args:
        sides: Pairs of box sides in voxels, odd, the smaller first: the mean of the small box less that of the large.
        tissue: What counts as soft tissue, as a part of the image's range [0, 1]. Elsewhere the contrast is zero.
        full: The difference that becomes 1, in units of the image; beyond it is clipped.

    Raises:
        ValueError: Sides that are not odd or do not grow, a range without content, or a `full` that is not positive.
    """

    def __init__(
        self, sides: Iterable[Sequence[int]], tissue: Sequence[float] = (0.485, 0.65), full: float = 0.03
    ) -> None:
        super().__init__()
        self.sides = tuple((int(small), int(large)) for small, large in sides)
        self.tissue = (float(tissue[0]), float(tissue[1]))
        self.full = float(full)
        if any(small < 1 or large <= small or small % 2 == 0 or large % 2 == 0 for small, large in self.sides):
            raise ValueError(f"sides are pairs of odd numbers, the smaller first, got {self.sides}")
        if not (self.tissue[0] < self.tissue[1] and self.full > 0):
            raise ValueError(f"tissue must be a range and full positive, got {self.tissue} and {self.full}")

    def forward(self, image_B1XYZ: Tensor) -> Tensor:
        """(B, C, X, Y, Z) in [-1, 1], one channel per pair of sides."""
        low, high = self.tissue
        tissue = ((image_B1XYZ > low) & (image_B1XYZ < high)).to(image_B1XYZ.dtype)
        both = torch.cat([tissue, tissue * image_B1XYZ], dim=1)
        means = {1: image_B1XYZ}
        for side in {side for pair in self.sides for side in pair if side > 1}:
            mean = box_mean(both, side)
            means[side] = mean[:, 1:] / mean[:, :1].clamp_min(_NOTHING)
        found = [((means[small] - means[large]) * tissue / self.full).clamp(-1, 1) for small, large in self.sides]
        return torch.cat(found, dim=1)


def box_mean(values_BCXYZ: Tensor, side: int) -> Tensor:
    """Mean (B, C, X, Y, Z) over a cube of an odd side around each voxel; beyond the border everything is zero."""
    half = side // 2
    for axis in (2, 3, 4):
        # Differences of running sums cost the same for every side; a pooling over 17 voxels takes four times as long.
        lines = functional.pad(values_BCXYZ.movedim(axis, -1), (half + 1, half)).cumsum(-1)
        values_BCXYZ = (lines[..., side:] - lines[..., :-side]).movedim(-1, axis) / side
    return values_BCXYZ
