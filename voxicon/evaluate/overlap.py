"""How much of two masks is the same: Dice, sensitivity, precision, and what is off in volume."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from voxicon.errors import BadGeometry
from voxicon.evaluate.pair import Mask, State, check_pair, state_of


@dataclass(frozen=True)
class Overlap:
    """Counts of shared voxels as ratios and volumes.

    Attributes:
        state: Which of the masks have voxels; see `voxicon.evaluate.pair.State`.
        dice: 2·|T∩P| / (|T| + |P|), in [0, 1]. None when absent (correct, but nothing to score); 0.0 when missed
            or a false alarm.
        sensitivity: |T∩P| / |T|; None without truth.
        precision: |T∩P| / |P|; None without prediction.
        truth_ml: Volume of the truth.
        predicted_ml: Volume of the prediction.
        volume_error_ml: Predicted minus true volume; positive is too much.
        volume_error_percent: The same in percent of the true volume; None without truth.

    Source: Dice, Ecology 26 (1945); what to do when empty: Maier-Hein et al., Metrics Reloaded, Nature Methods 2024,
        which keeps "correctly absent" out of means.
    """

    state: State
    dice: float | None
    sensitivity: float | None
    precision: float | None
    truth_ml: float
    predicted_ml: float
    volume_error_ml: float
    volume_error_percent: float | None


def overlap(truth: Mask, predicted: Mask, voxel_ml: float) -> Overlap:
    """Compare two masks voxel by voxel.

    Args:
        truth: (X, Y, Z) bool.
        predicted: (X, Y, Z) bool on the same grid.
        voxel_ml: Volume of one voxel.

    Raises:
        BadGeometry: The shapes differ, or the voxel has no volume.
        InputError: A mask is not boolean.
    """
    check_pair(truth, predicted)
    if not (math.isfinite(voxel_ml) and voxel_ml > 0):
        raise BadGeometry(f"voxel_ml {voxel_ml}: expected a positive volume; pass geometry.voxel_ml")
    n_truth, n_predicted = int(np.count_nonzero(truth)), int(np.count_nonzero(predicted))
    n_both = int(np.count_nonzero(truth & predicted))
    surplus = n_predicted - n_truth
    return Overlap(
        state=state_of(n_truth, n_predicted),
        dice=_ratio(2 * n_both, n_truth + n_predicted),
        sensitivity=_ratio(n_both, n_truth),
        precision=_ratio(n_both, n_predicted),
        truth_ml=n_truth * voxel_ml,
        predicted_ml=n_predicted * voxel_ml,
        volume_error_ml=surplus * voxel_ml,
        volume_error_percent=_ratio(100 * surplus, n_truth),
    )


def _ratio(part: int, whole: int) -> float | None:
    return part / whole if whole else None
