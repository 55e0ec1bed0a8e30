"""One scan as answers see it: masks, values, probabilities; each organ and lesion is measured once, when asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from voxicon.core.components import Box, Mask, crop
from voxicon.core.concepts import Vocabulary
from voxicon.core.geometry import Geometry
from voxicon.core.masks import MaskSet
from voxicon.findings.lesions import DECISION, LesionFinding, measure_lesions
from voxicon.findings.organs import Hu, OrganFinding, mean_and_sd, measure_organ, scanned_box, touches_border
from voxicon.findings.parts import Organ, inside, lesions_of, organ_of
from voxicon.findings.shape import axial_diameters, bounds_mm, center_mm, cropped
from voxicon.findings.vessels import Vessel

VESSELS_OF: Final[Mapping[str, tuple[str, ...]]] = {
    "pancreas": ("celiac_trunk", "portal_vein_and_splenic_vein", "aorta", "inferior_vena_cava"),
    "liver": ("portal_vein_and_splenic_vein", "hepatic_vessel", "inferior_vena_cava"),
    "kidney_right": ("aorta", "inferior_vena_cava"),
    "kidney_left": ("aorta", "inferior_vena_cava"),
    "lung_right": ("aorta", "superior_vena_cava"),
    "lung_left": ("aorta",),
    "colon": (),
}
"""Vessels that a lesion of an organ is measured against, as far as masks of them are there. Own choice; for the
pancreas those of NCCN's criteria of resectability that the vocabulary has."""


@dataclass(frozen=True, eq=False)
class Piece:
    """One thing that an answer can be about: a lesion, an organ, or a part of one.

    Attributes:
        name: Its class.
        number: Of a lesion, as in `voxicon.findings.lesions.LesionFinding`; None for others.
        box: In voxels of the scan, tight around `mask`.
        mask: Of the box's shape, at least one voxel.
        lesion: What was measured of it, where it is a whole lesion.
    """

    name: str
    number: int | None
    box: Box
    mask: Mask
    lesion: LesionFinding | None = None


@dataclass(eq=False)
class Scene:
    """Masks of a scan with its values.

    Attributes:
        masks: On the scan's grid.
        hu: (X, Y, Z) Hounsfield units on the same grid.
        vocabulary: Knows every class of `masks`.
        probabilities: By lesion class, as `voxicon.findings.lesions.measure_lesions` takes them.
        decisions: Probability from which a voxel belongs to a mask, where it is not 0.5.
    """

    masks: MaskSet
    hu: Hu
    vocabulary: Vocabulary
    probabilities: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    decisions: Mapping[str, float] = field(default_factory=dict)
    _lesions: dict[str, tuple[LesionFinding, ...]] = field(default_factory=dict, repr=False)
    _organs: dict[str, OrganFinding] = field(default_factory=dict, repr=False)
    _wholes: dict[str, Organ | None] = field(default_factory=dict, repr=False)
    _vessels: dict[str, Vessel] = field(default_factory=dict, repr=False)

    @property
    def geometry(self) -> Geometry:
        """Of the scan."""
        return self.masks.geometry

    @cached_property
    def boxes(self) -> dict[str, Box]:
        """Of every class that has a voxel."""
        return self.masks.bounds()

    @cached_property
    def scanned(self) -> Box:
        """What of the grid was scanned."""
        return scanned_box(self.hu)

    def is_lesion(self, name: str) -> bool:
        """Whether a class is a kind of lesion."""
        return self.vocabulary[name].kind == "lesion"

    def lesions(self, name: str) -> tuple[LesionFinding, ...]:
        """All lesions of a class, largest first."""
        if name not in self._lesions:
            around = [v for organ in self.vocabulary[name].parents for v in VESSELS_OF.get(organ, ())]
            vessels = [vessel for vessel in dict.fromkeys(around) if vessel in self.masks]
            self._lesions[name] = measure_lesions(
                name, self.masks, self.hu, self.probabilities.get(name), vocabulary=self.vocabulary,
                vessels=vessels, decision=self.decisions.get(name, DECISION),
            )  # fmt: skip
        return self._lesions[name]

    def organ(self, name: str) -> OrganFinding:
        """What is measured of an organ or vessel."""
        if name not in self._organs:
            self._organs[name] = measure_organ(name, self.masks, self.hu, self.vocabulary)
        return self._organs[name]

    def whole(self, name: str) -> Organ | None:
        """The mask of an organ or vessel, with and without its lesions; None where it has no voxel."""
        if name not in self._wholes:
            self._wholes[name] = organ_of(name, self.masks, self.vocabulary, self.boxes)
        return self._wholes[name]

    def pieces(self, name: str) -> tuple[Piece, ...]:
        """The lesions of a class, largest first, or its organ as one piece; none where it has no voxel."""
        if name not in self.boxes:
            return ()
        if not self.is_lesion(name):
            box = self.boxes[name]
            return (Piece(name, None, box, crop(self.masks, name, box)),)
        found = zip(lesions_of(name, self.masks, self.vocabulary, self.boxes), self.lesions(name), strict=True)
        return tuple(Piece(name, finding.number, one.box, one.mask, finding) for one, finding in found)

    def distance_mm(self, piece: Piece, name: str) -> float | None:
        """Between the nearest surfaces of a piece and a class, 0 where they touch; None where that has no voxel."""
        if name not in self._vessels:
            self._vessels[name] = Vessel(name, self.masks, self.boxes.get(name))
        return self._vessels[name].against(piece.mask, piece.box).distance_mm

    def trimmed(self, piece: Piece, kept: Mask) -> Piece | None:
        """What of a piece is in a mask of its box's shape: the piece itself where that is all, None for nothing."""
        mask = piece.mask & kept
        if not mask.any():
            return None
        if mask.sum() == piece.mask.sum():
            return piece
        ends = [np.flatnonzero(mask.any(axis=others)) for others in ((1, 2), (0, 2), (0, 1))]
        x, y, z = (slice(int(e[0]), int(e[-1]) + 1) for e in ends)
        box = tuple(slice(b.start + s.start, b.start + s.stop) for b, s in zip(piece.box, (x, y, z), strict=True))
        return Piece(piece.name, piece.number, (box[0], box[1], box[2]), mask[x, y, z])

    def within(self, box: Box, name: str) -> Mask:
        """The mask of a class inside a box, its lesions included where it is an organ."""
        mask = np.zeros([side.stop - side.start for side in box], dtype=bool)
        whole = None if self.is_lesion(name) else self.whole(name)
        if whole is None:
            return crop(self.masks, name, box)
        cut = [
            slice(max(a.start, b.start), max(min(a.stop, b.stop), a.start, b.start))
            for a, b in zip(box, whole.box, strict=True)
        ]
        shared = (cut[0], cut[1], cut[2])
        mask[inside(box, shared)] = whole.whole[inside(whole.box, shared)]
        return mask

    def values(self, piece: Piece) -> tuple[float | None, float | None]:
        """Mean and SD of HU."""
        return mean_and_sd(self.hu[piece.box][piece.mask])

    def measure(self, piece: Piece) -> Measured:
        """Size, density and box of a piece."""
        grid = cropped(self.geometry, piece.box)
        low, high = bounds_mm(piece.mask, grid)
        axial = piece.lesion.axial if piece.lesion else axial_diameters(piece.mask, grid)
        mean, sd = self.values(piece)
        x, y, z = ((side.start, side.stop) for side in piece.box)
        return Measured(
            volume_ml=float(np.count_nonzero(piece.mask) * grid.voxel_ml),
            longest_mm=axial.longest_mm,
            perpendicular_mm=axial.perpendicular_mm,
            extent_mm=(high[0] - low[0], high[1] - low[1], high[2] - low[2]),
            hu_mean=mean,
            hu_sd=sd,
            center_mm=center_mm(piece.mask, grid),
            box_voxels=(x, y, z),
            box_mm=(low, high),
            touches_border=touches_border(piece.box, self.scanned),
        )


@dataclass(frozen=True)
class Measured:
    """What can be said of any piece; see `voxicon.answering.answers.Found`."""

    volume_ml: float
    longest_mm: float
    perpendicular_mm: float
    extent_mm: tuple[float, float, float]
    hu_mean: float | None
    hu_sd: float | None
    center_mm: tuple[float, float, float]
    box_voxels: tuple[tuple[int, int], tuple[int, int], tuple[int, int]]
    box_mm: tuple[tuple[float, float, float], tuple[float, float, float]]
    touches_border: bool
