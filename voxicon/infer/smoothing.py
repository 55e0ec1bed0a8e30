"""Logits smoothed before they are cut: a lesion is a blob, a speck of noise or of an organ's edge is not.

The voxels of a lesion agree with one another; a voxel taken for a lesion by chance, or a thin sheet of partial volume,
stands alone and is lowered by its neighbors. What that was worth in trials is in docs/results.md.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

MOST_SMOOTHING_MM = 20.0
"""More would wash away whatever a lesion is, and costs as many voxels around every slab."""

_REACH = 2.0
"""Standard deviations after which the kernel ends; 95 % of a Gaussian."""


def reach_of(sigma_mm: float, spacing_mm: Sequence[float]) -> tuple[int, int, int]:
    """How many voxels away along each axis a voxel still counts; 0 where nothing is smoothed."""
    x, y, z = (math.ceil(_REACH * sigma_mm / side) for side in spacing_mm)
    return x, y, z


def smooth(logits_XYZ: Tensor, sigma_mm: float, spacing_mm: Sequence[float]) -> Tensor:
    """Mean of the neighbors weighted by a Gaussian; beyond the border the outermost voxels go on.

    Args:
        logits_XYZ: (X, Y, Z) float.
        sigma_mm: Standard deviation, mm; 0 leaves everything as it is.
        spacing_mm: Of the grid.
    """
    found = logits_XYZ[None, None]
    for axis, reach in enumerate(reach_of(sigma_mm, spacing_mm)):
        if not reach:
            continue
        # In double precision: in single precision the smallest widths are zero, and the kernel 0 / 0.
        steps = torch.arange(-reach, reach + 1, dtype=torch.float64) * spacing_mm[axis] / sigma_mm
        taps = torch.exp(-0.5 * steps.square())
        weights = (taps / taps.sum()).to(found)
        kernel = [1, 1, 1, 1, 1]
        kernel[2 + axis] = -1
        # Pairs of (before, after), the last axis first.
        sides = [0] * 6
        sides[4 - 2 * axis] = sides[5 - 2 * axis] = reach
        padded = functional.pad(found, sides, mode="replicate")
        found = functional.conv3d(padded, weights.view(kernel))
    return found[0, 0]
