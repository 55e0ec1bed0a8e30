"""Fat in and around an organ: pockets of it, folds and strands, as fissures and the hilum have; and dark vessels.

A network that finds an organ counts them in, and seen against the organ they are as dark as a tumor, or darker. A
tumor is hardly ever as dark as fat is; but a thin fold shares its voxels with the organ, and then all between is seen,
the darkness of any tumor too. What tells it from one is that it is thin: it must have been seen dark and thin.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial.transform import Rotation

from voxicon.core.components import Mask

Floats = NDArray[np.float32]
Range = tuple[float, float]


@dataclass(frozen=True)
class Shape:
    """What is painted, an ellipsoid: half of its extents in mm, and how much of its middle is fat, from and to."""

    half_mm: tuple[Range, Range, Range]
    fat: Range

    def draw(self, rng: np.random.Generator) -> tuple[NDArray[np.float64], float]:
        """Half of the three extents in mm, and the share of fat."""
        half_mm = np.array([rng.uniform(*extent) for extent in self.half_mm])
        return half_mm, 1.0 if self.fat == (1, 1) else float(rng.uniform(*self.fat))


_POCKET = Shape(((1.5, 7), (4, 20), (4, 20)), (1, 1))
_FOLD = Shape(((1, 3.5), (10, 30), (10, 30)), (0.15, 1))
_STRAND = Shape(((1, 3.5), (1, 3.5), (10, 30)), (0.15, 1))
# Not fat, but as little darker than the liver as its vessels are on a plain scan.
_VESSEL = Shape(((3, 8), (3, 8), (15, 40)), (0.07, 0.25))
_CHANCES = ((0.3, _POCKET), (0.6, _FOLD), (0.75, _STRAND), (1.0, _VESSEL))
"""Up to which number of [0, 1) which is drawn. Own choice, after the fissures and vessels of two livers."""

_FAT_HU = (-120.0, -70.0)
_AT_ONCE = (1, 4)
_EDGE_MM = 1.0
"""How slowly fat ends: about a third of a voxel of 3 mm, as its voxels share fat and organ."""


def with_fat(hu_XYZ: Floats, organ_XYZ: Mask, lesion_XYZ: Mask, spacing_mm: float, rng: np.random.Generator) -> Floats:
    """A patch with one to four pockets, folds or strands of fat, or dark vessels, in some organs or at their border.

    Noise stays as it was.

    Args:
        hu_XYZ: HU.
        organ_XYZ: Where they may have their middle; without any the patch stays.
        lesion_XYZ: What keeps its value, with the voxels it touches.
        spacing_mm: Voxel size.
        rng: Source of chance.
    """
    places = np.argwhere(organ_XYZ & ~lesion_XYZ)
    if not len(places):
        return hu_XYZ.copy()
    share = np.zeros(hu_XYZ.shape)
    for _ in range(int(rng.integers(_AT_ONCE[0], _AT_ONCE[1] + 1))):
        center, number = places[rng.integers(len(places))], rng.random()
        half_mm, fat = next(shape for below, shape in _CHANCES if number < below).draw(rng)
        depth_mm = _depth_mm(hu_XYZ.shape, center, half_mm, spacing_mm, rng)
        share = np.maximum(share, fat / (1 + np.exp(-np.clip(depth_mm / _EDGE_MM, -30, 30))))
    share[ndimage.binary_dilation(lesion_XYZ, np.ones((3, 3, 3)))] = 0
    local = ndimage.uniform_filter(hu_XYZ, 3)
    found: Floats = (hu_XYZ + share * (rng.uniform(*_FAT_HU) - local)).astype(np.float32)
    return found


def _depth_mm(
    shape: tuple[int, ...],
    center: NDArray[np.intp],
    half_mm: NDArray[np.float64],
    spacing_mm: float,
    rng: np.random.Generator,
) -> NDArray[np.float64]:
    """About how deep each voxel lies in an ellipsoid that is turned any way; negative outside."""
    offsets = np.stack(np.meshgrid(*(np.arange(n) for n in shape), indexing="ij"), -1) - center
    turned = offsets @ Rotation.random(random_state=int(rng.integers(1 << 31))).as_matrix() * spacing_mm
    # The distance to an ellipsoid, to first order: its implicit function over the length of that one's gradient.
    reach = np.linalg.norm(turned / half_mm, axis=-1)
    steep = np.linalg.norm(turned / half_mm**2, axis=-1)
    found: NDArray[np.float64] = (1 - reach) * np.divide(
        reach, steep, out=np.full(shape, half_mm.min()), where=steep > 0
    )
    return found
