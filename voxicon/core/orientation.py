"""Arrays turned so that their axes run toward the patient's right, front and head, and back again.

Views only: no value is copied or changed, so the two directions are exact inverses.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxicon.core.geometry import Geometry


def to_ras_order(values: NDArray[Any], geometry: Geometry) -> tuple[NDArray[Any], Geometry]:
    """A view with axes permuted and flipped so that they run toward R, A, S, and its geometry.

    No value is copied or changed; `from_ras_order` is the exact inverse.
    """
    order = [axis for axis, _ in geometry.axis_order]
    turned = values.transpose(order)
    affine = np.eye(4)
    affine[:3, :3] = geometry.affine[:3, order]
    start = np.zeros(3)
    flips: list[slice] = []
    for axis, backwards in geometry.axis_order:
        flips.append(slice(None, None, -1 if backwards else 1))
        start[axis] = geometry.shape[axis] - 1 if backwards else 0
    for world, (_, backwards) in enumerate(geometry.axis_order):
        if backwards:
            affine[:3, world] *= -1
    affine[:3, 3] = geometry.to_world(start)
    turned = turned[tuple(flips)]
    x, y, z = turned.shape
    return turned, Geometry((x, y, z), affine)


def from_ras_order(values: NDArray[Any], geometry: Geometry) -> NDArray[Any]:
    """Undo `to_ras_order`: a view in the voxel order of `geometry`."""
    flips = tuple(slice(None, None, -1 if backwards else 1) for _, backwards in geometry.axis_order)
    return values[flips].transpose(np.argsort([axis for axis, _ in geometry.axis_order]))
