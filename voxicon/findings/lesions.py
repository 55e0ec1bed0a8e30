"""Measurements of lesions, one by one: size, density, where they lie, and how sure the network is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from voxicon.core.components import Box, components
from voxicon.core.concepts import Side, Vocabulary
from voxicon.core.masks import MaskSet
from voxicon.errors import InputError
from voxicon.findings.finding import Finding, Point
from voxicon.findings.organs import Hu, check, mean_and_sd, scanned_box, touches_border
from voxicon.findings.parts import Boxes, Lesion, lesions_of, organ_of
from voxicon.findings.place import Thirds, thirds_of
from voxicon.findings.shape import AxialDiameters, axial_diameters, bounds_mm, center_mm, cropped, longest_diameter_mm
from voxicon.findings.vessels import Vessel, VesselContact

Attenuation = Literal["hypo", "iso", "hyper"]
Range = tuple[int, int]

ISO_HU: Final = 10.0
"""A lesion is iso-attenuating while its mean is this near to its organ's. Own choice, after the habit of not calling
a change of less than 10 HU enhancement. The spread of the organ's voxels is no measure of it: they are noisy, the
means of thousands of them are not, and the rim of a mask holds fat."""

DECISION: Final = 0.5
"""Probability from which a voxel belongs to a mask, unless weights say otherwise; margins are counted from it."""

BESIDE_MM: Final = 20.0
"""A lesion that touches no organ is told by the nearest one up to here: masks of organs end too early at times, most of
all where a tumor begins. Own choice."""

WOBBLE: Final = 0.1
"""How far the threshold is moved down and up to see whether a lesion stays what it is. Own choice."""


@dataclass(frozen=True)
class Confidence(Finding):
    """What the network answered inside of a lesion, in [0, 1].

    Attributes:
        mean: Mean probability.
        highest: Largest probability.
        margin: `highest` minus the threshold of the mask: how far that could rise before nothing of the lesion were
            left. Negative where the mask did not come from these probabilities.
        stability: Volume with the threshold raised by `WOBBLE` (inside of the lesion), as a share of the volume with
            it lowered as much (the pieces that touch the lesion). Near 1 the border is sharp; near 0 the size is a
            matter of the threshold. Source: the stability score of Kirillov et al., Segment Anything, ICCV 2023,
            there on logits.
    """

    mean: float
    highest: float
    margin: float
    stability: float


@dataclass(frozen=True)
class LesionFinding(Finding):
    """Measurements of one lesion.

    Attributes:
        name: The class.
        number: From 1, largest first.
        organ: The parent organ it belongs to (`voxicon.findings.parts`); None where it touches none.
        beside: Where it touches none, the nearest parent organ up to `BESIDE_MM` away; else None.
        side: Of the class, or of the organ that it is in or beside; None where these have no side.
        third: Part of that organ its center of mass lies in, or at the level of which it lies
            (`voxicon.findings.place`); None without such an organ, or for organs that have no thirds.
        volume_ml: Volume. A lower bound, as all lengths, where `touches_border`.
        touches_border: A voxel lies in the outermost slice that was scanned, on any side (`scanned_box`).
        axial: Longest axial diameter and its longest perpendicular.
        longest_diameter_mm: In any direction.
        hu_mean: Mean over its voxels, rim included.
        hu_sd: Standard deviation of the same voxels.
        attenuation: Against the organ without any lesion: iso within `ISO_HU` of its mean, hypo below, hyper above;
            None without an organ or where nothing of it is left.
        hu_difference: Mean of the lesion minus mean of the organ; None as above.
        center_mm: Center of mass, RAS.
        box_voxels: First voxel and the one after the last, along X, Y and Z of the scan.
        box_mm: Smallest and largest R, A and S, to the outer corners of its voxels.
        confidence: None without probabilities.
        vessels: In the order asked for.
    """

    name: str
    number: int
    organ: str | None
    beside: str | None
    side: Side | None
    third: str | None
    volume_ml: float
    touches_border: bool
    axial: AxialDiameters
    longest_diameter_mm: float
    hu_mean: float
    hu_sd: float
    attenuation: Attenuation | None
    hu_difference: float | None
    center_mm: Point
    box_voxels: tuple[Range, Range, Range]
    box_mm: tuple[Point, Point]
    confidence: Confidence | None
    vessels: tuple[VesselContact, ...]


def measure_lesions(
    name: str,
    masks: MaskSet,
    hu: Hu,
    probabilities: NDArray[Any] | None = None,
    *,
    vocabulary: Vocabulary | None = None,
    vessels: Sequence[str] = (),
    decision: float = DECISION,
) -> tuple[LesionFinding, ...]:
    """Measure every 26-connected piece of a lesion class, largest first; an empty mask gives none.

    Args:
        name: Canonical name of a class of `masks`.
        masks: Masks of the scan; organs that are not among them are nobody's parents.
        hu: (X, Y, Z) Hounsfield units on the grid of `masks`.
        probabilities: (X, Y, Z) of the same class: uint8, 255 times the probability, or floating from 0 to 1.
        vocabulary: Knows the class and its parents; the package's own by default.
        vessels: Classes of `masks` to measure distance and contact to.
        decision: Probability from which a voxel belongs to the mask.

    Raises:
        UnknownClass: The class or a vessel is not in `masks`, or the class is not in the vocabulary.
        BadGeometry: HU, probabilities and masks differ in shape.
        InputError: A probability inside of a lesion is not from 0 to 1.
    """
    vocabulary = vocabulary or Vocabulary.default()
    check(name, masks, hu, vocabulary)
    if probabilities is not None:
        check(name, masks, probabilities, vocabulary)
    for vessel in vessels:
        check(vessel, masks, hu, vocabulary)
    boxes = masks.bounds()
    lesions = lesions_of(name, masks, vocabulary, boxes)
    beside = _beside(lesions, [name for name in vocabulary[name].parents if name in boxes], masks, boxes)
    owners = {owner for lesion, near in zip(lesions, beside, strict=True) if (owner := lesion.organ or near)}
    hosts = {owner: _host(owner, masks, hu, vocabulary, boxes) for owner in owners}
    near = [Vessel(vessel, masks, boxes.get(vessel)) for vessel in vessels] if lesions else []
    answered = None if probabilities is None or not lesions else _Answered(name, probabilities, decision)
    context = _Context(name, masks, hu, answered, vocabulary, hosts, near, scanned_box(hu))
    placed = zip(lesions, beside, strict=True)
    return tuple(_measure(context, number, lesion, near) for number, (lesion, near) in enumerate(placed, start=1))


@dataclass(frozen=True, eq=False)
class _Context:
    """What all lesions of a class are measured against."""

    name: str
    masks: MaskSet
    hu: Hu
    answered: _Answered | None
    vocabulary: Vocabulary
    hosts: dict[str, _Host]
    vessels: list[Vessel]
    scanned: Box


@dataclass(frozen=True, eq=False)
class _Host:
    """What is known of an organ once, however many lesions it has."""

    hu_mean: float | None
    thirds: Thirds | None


def _host(name: str, masks: MaskSet, hu: Hu, vocabulary: Vocabulary, boxes: Boxes) -> _Host:
    organ = organ_of(name, masks, vocabulary, boxes)
    if organ is None:
        return _Host(None, None)
    mean, _ = mean_and_sd(hu[organ.box][organ.spared])
    return _Host(mean, thirds_of(name, organ.whole, cropped(masks.geometry, organ.box)))


def _beside(lesions: Sequence[Lesion], parents: Sequence[str], masks: MaskSet, boxes: Boxes) -> list[str | None]:
    """For each lesion the nearest organ in reach, where it touches none."""
    around = [Vessel(name, masks, boxes[name]) for name in parents] if any(one.organ is None for one in lesions) else []
    found: list[str | None] = []
    for lesion in lesions:
        distances = {} if lesion.organ else {organ.name: organ.distance_mm(lesion.mask, lesion.box) for organ in around}
        nearest = min(distances, key=lambda name: distances[name], default=None)
        found.append(nearest if nearest is not None and distances[nearest] <= BESIDE_MM else None)
    return found


def _measure(context: _Context, number: int, lesion: Lesion, beside: str | None) -> LesionFinding:
    geometry = context.masks.geometry
    grid, mask = cropped(geometry, lesion.box), lesion.mask
    values = context.hu[lesion.box][mask]
    center = center_mm(mask, grid)
    hu_mean, hu_sd = float(values.mean(dtype=np.float64)), float(values.std(dtype=np.float64))
    near = lesion.organ or beside
    host = context.hosts[near] if near else _Host(None, None)
    difference = None if host.hu_mean is None or lesion.organ is None else hu_mean - host.hu_mean
    x, y, z = ((side.start, side.stop) for side in lesion.box)
    return LesionFinding(
        name=context.name,
        number=number,
        organ=lesion.organ,
        beside=beside,
        side=_side(context, near),
        third=host.thirds.at(center) if host.thirds else None,
        volume_ml=np.count_nonzero(mask) * grid.voxel_ml,
        touches_border=touches_border(lesion.box, context.scanned),
        axial=axial_diameters(mask, grid, lesion.box[geometry.axis_order[2][0]].start),
        longest_diameter_mm=longest_diameter_mm(mask, grid),
        hu_mean=hu_mean,
        hu_sd=hu_sd,
        attenuation=attenuation_of(difference),
        hu_difference=difference,
        center_mm=center,
        box_voxels=(x, y, z),
        box_mm=bounds_mm(mask, grid),
        confidence=context.answered.inside(lesion) if context.answered else None,
        vessels=tuple(vessel.against(mask, lesion.box) for vessel in context.vessels),
    )


def attenuation_of(difference_hu: float | None) -> Attenuation | None:
    """How a lesion looks whose mean differs that much from its organ's; None where that is unknown."""
    if difference_hu is None:
        return None
    if abs(difference_hu) <= ISO_HU:
        return "iso"
    return "hypo" if difference_hu < 0 else "hyper"


def _side(context: _Context, organ: str | None) -> Side | None:
    own = context.vocabulary[context.name].side
    return own or (context.vocabulary[organ].side if organ else None)


class _Answered:
    """What the network answered about one class, in and around its lesions.

    Args:
        name: The class.
        probabilities: As of `measure_lesions`.
        decision: Likewise.
    """

    def __init__(self, name: str, probabilities: NDArray[Any], decision: float) -> None:
        self.name, self.probabilities, self.decision = name, probabilities, decision
        self.unit = 255 if np.issubdtype(probabilities.dtype, np.integer) else 1
        self._wide = components(probabilities >= (decision - WOBBLE) * self.unit)

    def inside(self, lesion: Lesion) -> Confidence:
        """Of one lesion.

        Raises:
            InputError: A probability inside of it is not from 0 to 1.
        """
        values = self.probabilities[lesion.box][lesion.mask] / self.unit
        # Written so that not-a-number fails too.
        if not ((values >= 0) & (values <= 1)).all():
            raise InputError(f"probabilities of {self.name} are not all from 0 to 1; pass uint8 0-255 or floats 0-1")
        highest = float(values.max())
        touched = np.unique(self._wide.labels[lesion.box][lesion.mask])
        wide = int(self._wide.sizes[touched].sum())
        narrow = int(np.count_nonzero(values >= self.decision + WOBBLE))
        return Confidence(
            mean=float(values.mean(dtype=np.float64)),
            highest=highest,
            margin=highest - self.decision,
            stability=narrow / wide if wide else 0.0,
        )
