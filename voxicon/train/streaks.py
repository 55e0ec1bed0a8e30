"""Streaks: fans of dark and bright bands from something dense or moving beside an organ.

Contrast agent in the heart, a beating heart, ribs, gas that moves: each throws bands across the liver next to it that
are as dark as many tumors. Scans that have none teach a network that what is dark is a lesion.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

_AWAY_MM = (5.0, 60.0)
"""How far from a voxel of the patch the source lies."""

_BANDS = (1, 4)
_BAND_HU = (15.0, 60.0)
_BAND_RADIANS = (0.05, 0.3)
_FAN_RADIANS = 0.6
_DARK = 0.55
_NEAR_MM, _FAR_MM, _SLAB_MM = (5.0, 25.0), (25.0, 80.0), (3.0, 15.0)
"""Where bands have their full strength, how slowly they fade beyond, and how thick they are along z. Own choice, after
those beside the heart of a CT with contrast."""


def streaked(hu_XYZ: Floats, at: tuple[float, float, float], spacing_mm: float, rng: np.random.Generator) -> Floats:
    """A patch with one fan of bands across a voxel.

    Args:
        hu_XYZ: HU, the last axis along the body.
        at: Voxel that the fan points to.
        spacing_mm: Voxel size.
        rng: Source of chance.
    """
    angle = rng.uniform(0, 2 * math.pi)
    away = rng.uniform(*_AWAY_MM) / spacing_mm
    x, y, z = np.ogrid[tuple(slice(0, n) for n in hu_XYZ.shape)]
    dx = x - (at[0] + math.cos(angle) * away)
    dy = y - (at[1] + math.sin(angle) * away)
    distance_mm = np.sqrt(dx**2 + dy**2) * spacing_mm
    direction = np.arctan2(dy, dx)
    bands = np.zeros(distance_mm.shape)
    for _ in range(int(rng.integers(_BANDS[0], _BANDS[1] + 1))):
        middle, width = angle + math.pi + rng.normal(0, _FAN_RADIANS), rng.uniform(*_BAND_RADIANS)
        off = np.angle(np.exp(1j * (direction - middle)))
        sign = -1 if rng.random() < _DARK else 1
        bands += sign * rng.uniform(*_BAND_HU) * np.exp(-0.5 * (off / width) ** 2)
    near_mm, far_mm, slab_mm = (rng.uniform(*span) for span in (_NEAR_MM, _FAR_MM, _SLAB_MM))
    fade = np.clip(distance_mm / near_mm, 0, 1) * np.exp(-0.5 * (np.maximum(distance_mm - near_mm, 0) / far_mm) ** 2)
    slab = np.exp(-0.5 * ((z - at[2]) * spacing_mm / slab_mm) ** 2)
    found: Floats = (hu_XYZ + bands * fade * slab).astype(np.float32)
    return found
