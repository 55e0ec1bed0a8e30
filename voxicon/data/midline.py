"""Where the middle of a body lies in a CT that shows it off center, on a table, or cut off at one side."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from voxicon.core.components import Mask, sizable
from voxicon.core.volume import Volume
from voxicon.errors import NotCt

_TISSUE_HU = -300.0
"""Above it lies body or table, below it air and lung. Own choice: half way between air and fat, rounded up."""

_BONE_HU = 200.0
"""Above it lies mostly bone. Own choice; contrast medium and calcium count too and matter little."""

_BONE_WEIGHT = 3.0
"""Bone is the most symmetric thing in the body, so it weighs more than soft tissue. Chosen on three scans."""

_BODY_CELL_MM = 4.0
_TABLE_CELLS = 2
"""Plates thinner than about twice as many cells are table, not body."""

_SEEN_BOTH_SIDES = 0.6
"""Least share of the body whose mirror image lies in view, for a plane to be judged at all."""

_OUTSIDE_HU = -30000.0


def body_midline_mm(volume: Volume) -> float:
    """RAS x of the plane about which the body is most symmetric.

    Body and, with more weight, bone are compared with their own mirror image wherever both lie in view. Table
    and cables, arms, a patient off center and a body cut on one side (up to about a third) move the result by
    some millimeters only. On the labeled scans of the tests it lies within 5 mm of the mean of the vertebrae.

    What it cannot know: the plane is one x for the whole scan, so of a turned, leaning or scoliotic patient
    it is a mean; a scan of one limb, or of less than about two thirds of the body's width, yields the middle of
    what is in view; which way the patient faces is taken from the header.

    Args:
        volume: A CT, any orientation.

    Raises:
        NotCt: There is no tissue in the scan.
    """
    hu, start_mm = _coarse(volume)
    tissue = hu > _TISSUE_HU
    if not tissue.any():
        raise NotCt(
            f"{volume.source.name}: no voxel above {_TISSUE_HU:g} HU, so there is no body whose middle could be "
            "found; check that the values are Hounsfield units",
            code="E-EMPTY",
        )
    body = _without_table(tissue)
    weight = np.where(body, np.where(hu > _BONE_HU, _BONE_WEIGHT, 1.0), 0.0)
    return start_mm + _BODY_CELL_MM * _mirror_index(weight, hu > _OUTSIDE_HU)


def _coarse(volume: Volume) -> tuple[NDArray[np.float32], float]:
    """HU in cubes that run along RAS, `_OUTSIDE_HU` where the scan does not reach, and RAS x of the first cube."""
    corners_mm = volume.geometry.corners_mm()
    start_mm = corners_mm.min(axis=0)
    shape = np.floor((corners_mm.max(axis=0) - start_mm) / _BODY_CELL_MM).astype(int) + 1
    to_index = np.linalg.inv(volume.geometry.affine[:3, :3])
    hu: NDArray[np.float32] = ndimage.affine_transform(
        volume.hu,
        to_index * _BODY_CELL_MM,
        volume.geometry.to_index(start_mm),
        output_shape=tuple(shape),
        output=np.float32,
        order=0,
        cval=_OUTSIDE_HU,
    )
    return hu, float(start_mm[0])


def _without_table(tissue: Mask) -> Mask:
    """The large thick pieces of tissue, both legs but no arm; all of it where nothing is thick."""
    cross = ndimage.generate_binary_structure(3, 1)
    # Edges are repeated outward, so that a body cut off by the scan is not taken for thin there.
    padded = np.pad(tissue, _TABLE_CELLS, mode="edge")
    thick = ndimage.binary_opening(padded, cross, iterations=_TABLE_CELLS)[(slice(_TABLE_CELLS, -_TABLE_CELLS),) * 3]
    return sizable(thick) if thick.any() else tissue


def _mirror_index(weight: NDArray[np.float64], in_view: Mask) -> float:
    """Index along the first axis, to half a cell, about which weights are most like their mirror image.

    Likeness is the sum of products of mirrored cells over the sum of squares of those whose mirror image lies
    in view: 1 for perfect symmetry. All planes are tried at once by convolution along x.
    """
    length = 2 * weight.shape[0]
    value, square, view = (np.fft.rfft(a, length, axis=0) for a in (weight, weight**2, in_view.astype(np.float64)))
    products = np.fft.irfft((value * value).sum(axis=(1, 2)), length)
    squares = np.fft.irfft((square * view).sum(axis=(1, 2)), length)
    is_judged = squares >= _SEEN_BOTH_SIDES * (weight**2).sum()
    likeness = np.divide(products, squares, out=np.zeros(length), where=is_judged)
    return float(np.argmax(likeness)) / 2
