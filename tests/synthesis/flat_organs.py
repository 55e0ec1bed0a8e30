"""Organs of one gray to plant lesions into."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from voxicon.synthesis.lesions.plant import KINDS, LesionKind, Planted, plant

SIDE = 40
FLAT_HU = 100.0
LIVER = KINDS["liver_tumor"]
EVEN = replace(LIVER, rim=0, core=0, texture_hu=(0, 0))
"""A liver tumor of one gray."""

Spacing = tuple[float, float, float]


def flat(hu: float = FLAT_HU, side: int = SIDE) -> NDArray[np.float32]:
    return np.full((side,) * 3, hu, dtype=np.float32)


def everywhere(side: int = SIDE) -> NDArray[np.bool_]:
    return np.ones((side,) * 3, dtype=bool)


def middle(side: int = SIDE) -> NDArray[np.bool_]:
    """An organ of a few voxels in the middle of a volume, so that lesions in it lie inside of anything larger."""
    host = np.zeros((side,) * 3, dtype=bool)
    host[(slice(side // 2 - 2, side // 2 + 2),) * 3] = True
    return host


def ball_mm3(diameter_mm: float) -> float:
    return float(np.pi / 6 * diameter_mm**3)


def interior(
    kind: LesionKind, diameter_mm: float, spacing_mm: Spacing, seed: int, contrast_hu: float | None = None
) -> Planted:
    """A lesion amid a flat organ that fills the volume."""
    rng = np.random.default_rng(seed)
    # Places are drawn from a host; an outward kind may grow from a small one in the middle into all tissue around it.
    free = replace(kind, outward=0.0, at_wall=False)
    found = plant(flat(), middle(), spacing_mm, free, rng, diameter_mm=diameter_mm, contrast_hu=contrast_hu)
    assert found is not None
    return found


def painted(found: Planted, hu: NDArray[np.float32]) -> NDArray[np.float32]:
    after = hu.copy()
    after[found.box] = found.hu
    return after


def whole(found: Planted, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    mask = np.zeros(shape, dtype=bool)
    mask[found.box] = found.mask
    return mask
