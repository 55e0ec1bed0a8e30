"""The ball that stands for a lesion of any shape: of the same volume."""

from __future__ import annotations

import math


def ball_diameter_mm(volume_mm3: float) -> float:
    """Diameter of the ball with a volume, the cube root of 6 V / π; 0 for none."""
    return math.cbrt(6 * volume_mm3 / math.pi)


def ball_mm3(diameter_mm: float) -> float:
    """Volume of a ball, π d³ / 6."""
    return math.pi / 6 * diameter_mm**3
