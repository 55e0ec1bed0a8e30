"""Pockets of fat in an organ: fissures, the fat around its hilum, and what lies between it and the wall of the trunk.

A network that finds an organ counts them in, and seen against the organ they are as dark as a tumor, or darker. A
tumor is hardly ever as dark as fat is; but where a thin fold shares its voxels with the organ, all between is seen.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial.transform import Rotation

from voxicon.core.components import Mask

Floats = NDArray[np.float32]

_FAT_HU = (-120.0, -70.0)
_POCKETS = (1, 4)
_THIN_MM, _WIDE_MM = (1.5, 7.0), (4.0, 20.0)
"""Half of a pocket's thickness, and of its two other extents. Own choice, after the fissures of two livers."""
_EDGE_MM = 1.0
"""How slowly a pocket ends: about a third of a voxel of 3 mm, as its voxels share fat and organ."""


def with_fat(hu_XYZ: Floats, organ_XYZ: Mask, lesion_XYZ: Mask, spacing_mm: float, rng: np.random.Generator) -> Floats:
    """A patch with one to four pockets of fat in some organs or at their border, noise as it was.

    Args:
        hu_XYZ: HU.
        organ_XYZ: Where pockets may have their middle; without any the patch stays.
        lesion_XYZ: What keeps its value, with the voxels it touches.
        spacing_mm: Voxel size.
        rng: Source of chance.
    """
    places = np.argwhere(organ_XYZ & ~lesion_XYZ)
    if not len(places):
        return hu_XYZ.copy()
    depth_mm = np.full(hu_XYZ.shape, -np.inf)
    for _ in range(int(rng.integers(_POCKETS[0], _POCKETS[1] + 1))):
        depth_mm = np.maximum(depth_mm, _pocket_mm(hu_XYZ.shape, places[rng.integers(len(places))], spacing_mm, rng))
    share = 1 / (1 + np.exp(-np.clip(depth_mm / _EDGE_MM, -30, 30)))
    share[ndimage.binary_dilation(lesion_XYZ, np.ones((3, 3, 3)))] = 0
    local = ndimage.uniform_filter(hu_XYZ, 3)
    found: Floats = (hu_XYZ + share * (rng.uniform(*_FAT_HU) - local)).astype(np.float32)
    return found


def _pocket_mm(
    shape: tuple[int, ...], center: NDArray[np.intp], spacing_mm: float, rng: np.random.Generator
) -> NDArray[np.float64]:
    """About how deep each voxel lies in an ellipsoid that is turned any way; negative outside."""
    half_mm = np.array([rng.uniform(*_THIN_MM), rng.uniform(*_WIDE_MM), rng.uniform(*_WIDE_MM)])
    offsets = np.stack(np.meshgrid(*(np.arange(n) for n in shape), indexing="ij"), -1) - center
    turned = offsets @ Rotation.random(random_state=int(rng.integers(1 << 31))).as_matrix() * spacing_mm
    # The distance to an ellipsoid, to first order: its implicit function over the length of that one's gradient.
    reach = np.linalg.norm(turned / half_mm, axis=-1)
    steep = np.linalg.norm(turned / half_mm**2, axis=-1)
    found: NDArray[np.float64] = (1 - reach) * np.divide(
        reach, steep, out=np.full(shape, half_mm.min()), where=steep > 0
    )
    return found
