"""How far a lesion is from a vessel, and how much of the vessel's circumference it touches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import KDTree

from voxicon.core.components import Box, Mask, crop, joint_box
from voxicon.core.geometry import Geometry
from voxicon.core.masks import MaskSet
from voxicon.findings.finding import Finding
from voxicon.findings.parts import inside

_NOTHING_MM = 1e-6
"""Corners nearer than this are one corner: what rounding leaves of 0."""


@dataclass(frozen=True)
class VesselContact(Finding):
    """A lesion against one vessel.

    Attributes:
        name: The vessel's class.
        distance_mm: Between the nearest surfaces of voxels, 0 where they touch or overlap; None without the vessel.
        contact_deg: Share of 360° of the vessel's circumference that the lesion touches, in the axial slice where
            that is most; 0 where they only touch across slices or not at all; None without the vessel.
        slice_index: Of the scan, of that slice; None where no slice has contact.
    """

    name: str
    distance_mm: float | None
    contact_deg: float | None
    slice_index: int | None


class Vessel:
    """A vessel to which many lesions are compared.

    Args:
        name: Its class in `masks`.
        masks: Masks of the scan.
        box: Where its voxels are; None for a vessel that has none.
    """

    def __init__(self, name: str, masks: MaskSet, box: Box | None) -> None:
        self.name, self.box, self.geometry = name, box, masks.geometry
        if box is not None:
            self._mask = crop(masks, name, box)
            self._corners = KDTree(_corners_mm(self._mask, box, self.geometry))

    def distance_mm(self, lesion: Mask, box: Box) -> float:
        """Between the nearest surfaces of a lesion, given on its box, and this; 0 where they touch or overlap.

        Raises:
            ValueError: This has no voxel.
        """
        if self.box is None:
            raise ValueError(f"{self.name} has no voxel")
        shared = [slice(max(a.start, b.start), min(a.stop, b.stop)) for a, b in zip(box, self.box, strict=True)]
        if all(side.start < side.stop for side in shared):
            both = (shared[0], shared[1], shared[2])
            if (lesion[inside(box, both)] & self._mask[inside(self.box, both)]).any():
                return 0.0
        return float(self._corners.query(_corners_mm(lesion, box, self.geometry))[0].min())

    def against(self, lesion: Mask, box: Box) -> VesselContact:
        """Distance and contact of a lesion's mask, given on its box.

        Contact is counted on the borders between a vessel's voxel and another one, by length, per connected piece of
        the vessel's cross-section: those where a voxel of either side is the lesion's. For a round cross-section the
        share of this stepped line is that of the arc within 4° (an arc from 0 to θ < 45° is drawn by sin θ + 1 - cos θ
        of 8 radii: 1.9° too little at most, at either end). A vessel that
        runs within the slice is cut lengthwise, and its circumference is that of the cut.

        Source: contact by degrees of circumference: NCCN's criteria of resectability, pancreatic adenocarcinoma
            (180° divides abutment from encasement).
        """
        if self.box is None:
            return VesselContact(self.name, None, None, None)
        joint = joint_box([box, self.box], (0, 0, 0), self.geometry.shape)
        both = [np.zeros([side.stop - side.start for side in joint], dtype=bool) for _ in range(2)]
        both[0][inside(joint, box)], both[1][inside(joint, self.box)] = lesion, self._mask
        distance_mm = self.distance_mm(lesion, box)
        if distance_mm > _NOTHING_MM:
            return VesselContact(self.name, distance_mm, 0.0, None)
        axis = self.geometry.axis_order[2][0]
        spacing = [self.geometry.spacing_mm[a] for a in range(3) if a != axis]
        slices = [np.moveaxis(mask, axis, 0) for mask in both]
        shared = np.flatnonzero(slices[0].any(axis=(1, 2)) & slices[1].any(axis=(1, 2)))
        degrees = [_contact_deg(slices[0][n], slices[1][n], spacing) for n in shared]
        most = max(degrees, default=0.0)
        at = joint[axis].start + int(shared[degrees.index(most)]) if most else None
        return VesselContact(self.name, 0.0, most, at)


def _contact_deg(lesion: NDArray[np.bool_], vessel: NDArray[np.bool_], spacing_mm: list[float]) -> float:
    """Most contact of any piece of a vessel in one slice."""
    labels: NDArray[Any]
    labels, count = ndimage.label(np.pad(vessel, 1), structure=np.ones((3, 3)))
    lesion = np.pad(lesion, 1)
    shares = []
    for number in range(1, count + 1):
        piece = labels == number
        touched = whole = 0.0
        for axis, step in ((0, 1), (0, -1), (1, 1), (1, -1)):
            border = piece & ~np.roll(piece, step, axis)
            length_mm = spacing_mm[1 - axis]
            whole += length_mm * np.count_nonzero(border)
            touched += length_mm * np.count_nonzero(border & (lesion | np.roll(lesion, step, axis)))
        shares.append(360 * touched / whole)
    return max(shares)


def _corners_mm(mask: Mask, box: Box, geometry: Geometry) -> NDArray[np.float64]:
    """Voxel corners on a mask's surface, RAS mm: the nearest points of two masks are always among them.

    Two voxels are boxes of one lattice, so that along each axis they are apart by whole voxels, touch, or coincide.
    On a sheared grid the nearest points may lie within a face; the distance is then a little too large.
    """
    padded = np.pad(mask, 1).astype(np.uint8)
    for axis in range(3):
        lines = np.moveaxis(padded, axis, 0)
        padded = np.moveaxis(lines[1:] + lines[:-1], 0, axis)
    corners = np.argwhere((padded > 0) & (padded < 8)) + [side.start for side in box]
    return geometry.to_world(corners - 0.5)
