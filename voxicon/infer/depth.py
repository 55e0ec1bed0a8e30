"""Findings that reach into an organ, and those that only touch its surface.

Where an organ that was found goes wrong is its surface: a fold of fat counted in, a piece of the wall beside it. Seen
against the organ that is a lesion. A lesion of the organ reaches deeper, sooner or later in its growth. So a finding
counts if a part of it lies so deep, and then all of it does.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from voxicon.core.components import Mask, components

MOST_DEPTH_MM = 20.0
"""Deeper than this lies little of any organ but the liver and the lungs."""

_NEIGHBORS = np.ones((3, 3, 3), dtype=bool)


def deep_in(organ: Mask, depth_mm: float, spacing_mm: tuple[float, float, float]) -> Mask:
    """Voxels of a mask (X, Y, Z) whose centers lie more than a depth from those of the nearest voxels outside of it.

    What lies beyond the array is not outside: an organ that a scan cuts off has no surface there. A depth of 0 gives
    the mask, and one without any outside all of it.
    """
    if organ.all():
        return organ.copy()
    deep: Mask = ndimage.distance_transform_edt(organ, sampling=spacing_mm) > depth_mm
    return deep


def reaching(found: Mask, deep: Mask) -> Mask:
    """The connected pieces of a mask that have a voxel in `deep`, whole; none gives an empty mask."""
    parts = components(found)
    numbers = np.unique(parts.labels[deep & found])
    return parts.pick(int(number) for number in numbers)


def levels_reaching(levels_XYZ: NDArray[np.uint8], deep: Mask) -> NDArray[np.uint8]:
    """Levels of probability lowered as far as needed for `reaching` to hold wherever they are cut.

    Each voxel gets the highest level at which a path leads from it to a deep voxel: whatever number the result is cut
    above, it has exactly the pieces that `reaching` keeps of the levels cut above it.

    Source: Vincent, Morphological Grayscale Reconstruction in Image Analysis, IEEE TIP 1993.
    """
    reached = np.where(deep, levels_XYZ, 0).astype(np.uint8)
    while True:
        further = np.minimum(ndimage.grey_dilation(reached, footprint=_NEIGHBORS, mode="constant"), levels_XYZ)
        if np.array_equal(further, reached):
            return reached
        reached = further
