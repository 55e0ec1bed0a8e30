"""A scan and its masks, turned so that pictures of every stored orientation come out alike."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from voxicon.core.geometry import Geometry
from voxicon.core.masks import BITS_PER_WORD, MaskSet
from voxicon.core.orientation import to_ras_order
from voxicon.core.storage import pieces, plane, release
from voxicon.core.volume import Volume
from voxicon.report.palette import Palette

Plane = Literal["sagittal", "coronal", "axial"]

AXIS: dict[Plane, int] = {"sagittal": 0, "coronal": 1, "axial": 2}
"""The RAS axis that a plane is cut across."""

Range = tuple[int, int]

_SKIN_HU = -300.0
_FRAME_MM = 8.0
_KINDS = ("organ", "vessel", "lesion")


@dataclass(frozen=True, eq=False)
class View:
    """What pictures are drawn from. Arrays are views, in RAS order; nothing is copied.

    Attributes:
        hu: (X, Y, Z) of the scan.
        words: (X, Y, Z) bits of the masks, thirty-two classes each.
        names: Classes in bit order.
        geometry: Of these arrays.
        stored: The scan's own grid.
        palette: Gives styles.
    """

    hu: NDArray[Any]
    words: tuple[NDArray[np.uint32], ...]
    names: tuple[str, ...]
    geometry: Geometry
    stored: Geometry
    palette: Palette

    @classmethod
    def of(cls, volume: Volume, masks: MaskSet, palette: Palette) -> View:
        """The view of a scan and masks on its grid."""
        hu, geometry = to_ras_order(volume.hu, volume.geometry)
        words = tuple(to_ras_order(word, volume.geometry)[0] for word in masks.words)
        return cls(hu, words, masks.names, geometry, volume.geometry, palette)

    def stored_index(self, plane_name: Plane, at: int) -> int:
        """Index of a slice in the scan as stored, from its index here; the same function leads back."""
        axis, backwards = self.stored.axis_order[AXIS[plane_name]]
        return self.stored.shape[axis] - 1 - at if backwards else at

    def box(self, box_voxels: tuple[Range, Range, Range]) -> tuple[Range, Range, Range]:
        """First voxel and the one after the last, here, of a box of the scan as stored."""
        found = []
        for axis, backwards in self.stored.axis_order:
            (low, high), n = box_voxels[axis], self.stored.shape[axis]
            found.append((n - high, n - low) if backwards else (low, high))
        return found[0], found[1], found[2]

    def index(self, points_mm: ArrayLike) -> NDArray[np.float64]:
        """Fractional indices here, (..., 3), of RAS points in mm."""
        return self.geometry.to_index(points_mm)

    def nearest(self, plane_name: Plane, point_mm: ArrayLike) -> int:
        """Index here of the slice nearest to a RAS point; the outermost one for points outside of the scan."""
        axis = AXIS[plane_name]
        return int(np.clip(round(float(self.index(point_mm)[axis])), 0, self.geometry.shape[axis] - 1))

    def slice_hu(self, plane_name: Plane, at: int) -> NDArray[Any]:
        """A copy of one slice of the scan, (X, Y, Z) without the axis it is cut across."""
        return plane(self.hu, AXIS[plane_name], at)

    def slice_masks(self, plane_name: Plane, at: int) -> dict[str, NDArray[np.bool_]]:
        """Every class that has a voxel in a slice, in the order they are drawn: what is inside of others last."""
        found = {}
        for number, word in enumerate(self.words):
            flat = plane(word, AXIS[plane_name], at)
            there = int(np.bitwise_or.reduce(flat, axis=None))
            for bit, name in enumerate(self.names[number * BITS_PER_WORD : (number + 1) * BITS_PER_WORD]):
                if there >> bit & 1:
                    found[name] = (flat & np.uint32(1 << bit)) != 0
        return {name: found[name] for name in sorted(found, key=self.rank)}

    def rank(self, name: str) -> tuple[int, bool]:
        """Sorts classes so that what is inside of another comes after it."""
        concept = self.palette.vocabulary[name]
        return _KINDS.index(concept.kind), bool(concept.parents)

    def lesion_bits(self) -> NDArray[np.uint32]:
        """Bits (words,) of the classes that are lesions."""
        bits = np.zeros(len(self.words), dtype=np.uint32)
        for index, name in enumerate(self.names):
            if self.palette.vocabulary[name].kind == "lesion":
                bits[index // BITS_PER_WORD] |= np.uint32(1 << index % BITS_PER_WORD)
        return bits

    def body(self) -> tuple[Range, Range, Range]:
        """First voxel and the one after the last of the patient and a margin, left-right and front-back; all slices."""
        shadow = (self.hu[..., :: max(1, self.hu.shape[2] // 32)] > _SKIN_HU).sum(axis=2)
        release(self.hu)
        found: list[Range] = []
        for axis in range(2):
            # A line of couch or a wire crosses few voxels; the body crosses many.
            across = (shadow > 0).sum(axis=1 - axis)
            hits = np.flatnonzero(across > 0.15 * across.max())
            margin = round(_FRAME_MM / self.geometry.spacing_mm[axis])
            n = self.hu.shape[axis]
            found.append((max(0, int(hits[0]) - margin), min(n, int(hits[-1]) + 1 + margin)) if len(hits) else (0, n))
        return found[0], found[1], (0, int(self.hu.shape[2]))

    def classes_by_slice(self, plane_name: Plane) -> tuple[NDArray[np.uint32], NDArray[np.int64]]:
        """Bits (words, slices) of the classes in every slice along an axis, and how many voxels (slices,) they have."""
        axis = AXIS[plane_name]
        others = tuple(a for a in range(3) if a != axis)
        bits = np.zeros((len(self.words), self.hu.shape[axis]), dtype=np.uint32)
        voxels = np.zeros(self.hu.shape[axis], dtype=np.int64)
        for folded, word in zip(bits, self.words, strict=True):
            for piece in pieces(word):
                folded[piece[axis]] |= np.bitwise_or.reduce(word[piece], axis=others)
                voxels[piece[axis]] += np.count_nonzero(word[piece], axis=others)
        return bits, voxels
