"""Organs that are known: masks that count as they are, in place of what a network would find."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

from voxicon.core.geometry import Geometry
from voxicon.core.masks import MaskSet
from voxicon.errors import BadGeometry
from voxicon.infer.predictor import LEVELS, Prediction
from voxicon.prep.resample import resample_values

Levels = Mapping[str, NDArray[np.uint8]]


def known_levels(organs: MaskSet | None, wanted: Iterable[str], scan: Geometry, model: Geometry) -> Levels:
    """Masks as a network would tell them: of each voxel the share that is organ, in steps of `LEVELS`.

    Args:
        organs: On the grid of the scan; None for none.
        wanted: Which of them are of use; others are left out.
        scan: The grid of the scan.
        model: The grid to bring them to.

    Returns:
        Class → (X, Y, Z) uint8 on `model`.

    Raises:
        BadGeometry: They lie on another grid than the scan.
    """
    if organs is None:
        return {}
    if not organs.geometry.same_grid(scan):
        raise BadGeometry(
            f"masks of organs have {organs.geometry.shape} voxels on a grid of their own, the scan has {scan.shape}; "
            "give masks on the grid of the scan"
        )
    found = {}
    for name in wanted:
        if name in organs:
            share = resample_values(organs[name], scan, model, antialias=True, outside=0.0)
            found[name] = np.rint(share.clip(0, 1) * LEVELS).astype(np.uint8)
    return found


def as_prediction(levels: Levels, geometry: Geometry) -> Prediction:
    """Known organs as if a network had found them; none of them gives an empty prediction."""
    masks = MaskSet.empty(tuple(levels), geometry)
    for name, of in levels.items():
        masks.set(name, of > LEVELS / 2)
    return Prediction(masks, dict(levels))
