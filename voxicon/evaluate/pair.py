"""Two masks of one class on one grid: what is true and what was predicted, either of which may be empty.

Whether a class is there at all is a question of its own, so every measure of a pair says which of four
states it was measured in, and no empty case hides in a mean as 0, 1 or not-a-number.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from voxicon.errors import BadGeometry, InputError

Mask = NDArray[np.bool_]
Box = tuple[slice, slice, slice]

State = Literal["scored", "absent", "missed", "false_alarm"]
"""`scored`: both masks have voxels. `absent`: neither has, which is right and says nothing about shape.
`missed`: only the truth has voxels. `false_alarm`: only the prediction has."""


def state_of(truth_voxels: int, predicted_voxels: int) -> State:
    """The state of a pair of masks with that many voxels."""
    if truth_voxels:
        return "scored" if predicted_voxels else "missed"
    return "false_alarm" if predicted_voxels else "absent"


def check_pair(truth: NDArray[Any], predicted: NDArray[Any]) -> None:
    """Refuse arrays that are not two boolean (X, Y, Z) masks of one shape.

    Raises:
        BadGeometry: The shapes differ or are not three-dimensional.
        InputError: An array is not boolean; a label map would be counted wrong.
    """
    if truth.shape != predicted.shape or truth.ndim != 3:
        raise BadGeometry(
            f"true mask of shape {truth.shape} and predicted mask of shape {predicted.shape}: "
            "expected two (X, Y, Z) arrays of one shape; resample the prediction to the grid of the truth"
        )
    for what, mask in (("true", truth), ("predicted", predicted)):
        if mask.dtype != np.bool_:
            raise InputError(
                f"{what} mask has type {mask.dtype}, expected bool; compare the label map with one id first"
            )


def check_spacing(spacing_mm: Sequence[float]) -> None:
    """Refuse anything but three positive finite voxel sizes.

    Raises:
        BadGeometry: Another number of values, or one that is no size.
    """
    if len(spacing_mm) != 3 or not all(np.isfinite(size) and size > 0 for size in spacing_mm):
        raise BadGeometry(
            f"spacing_mm {tuple(spacing_mm)}: expected three positive voxel sizes in mm; pass the grid's own spacing"
        )


def joint_box(truth: Mask, predicted: Mask) -> Box | None:
    """The smallest box with every voxel of both masks; None when both are empty."""
    union = truth | predicted
    ends = [np.flatnonzero(union.any(axis=others)) for others in ((1, 2), (0, 2), (0, 1))]
    if not len(ends[0]):
        return None
    x, y, z = (slice(int(end[0]), int(end[-1]) + 1) for end in ends)
    return x, y, z
