"""Measurements of one organ: how much, how dense, how large, where, and whether that is plausible."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from voxicon.core.components import Box, components
from voxicon.core.concepts import Vocabulary
from voxicon.core.masks import MaskSet
from voxicon.errors import BadGeometry, UnknownClass
from voxicon.findings.finding import Finding, Point
from voxicon.findings.parts import organ_of
from voxicon.findings.shape import bounds_mm, center_mm, cropped

Hu = NDArray[np.floating[Any] | np.integer[Any]]


@dataclass(frozen=True)
class NormalVolume(Finding):
    """Volumes of adults in which most healthy organs lie, from a published mean ± 2 SD.

    Attributes:
        low_ml: Lower end.
        high_ml: Upper end.
        source: Where mean and SD are from.
    """

    low_ml: float
    high_ml: float
    source: str


_HENDERSON = "Henderson et al., Radiology 1981;141:525-527 (CT, 11 healthy adults): {}; as in its abstract"
_SHIP = (
    "Age- and Sex-Specific Reference Values for Renal Volume, J Clin Med 2024;13:769 (MRI, 1,815 adults without kidney "
    "disease): median (quartiles) of women {}, of men {} ml; as in its tables"
)

NORMAL_VOLUMES: Final = {
    "liver": NormalVolume(1033, 1953, _HENDERSON.format("1493 ± 230 ml")),
    "spleen": NormalVolume(67, 371, _HENDERSON.format("219 ± 76 ml")),
    "kidney_right": NormalVolume(86, 238, _SHIP.format("138 (121 to 156)", "174 (154 to 197)")),
    "kidney_left": NormalVolume(85, 244, _SHIP.format("144 (125 to 165)", "180 (160 to 203)")),
}
"""Of adults. Kidneys: from the women's median - 2 SD to the men's median + 2 SD, with SD = distance of the quartiles /
1.349 as of a normal distribution, since the patient's sex is not known here; the kidney as a whole, sinus left out.
Source: in each entry. Organs that are not listed get no flag for their volume."""

PIECE_SHARE: Final = 0.01
"""Share of an organ's volume below which a second piece is a crumb and nothing to tell of. Own choice."""

AT_BORDER, IN_PIECES = "at_border", "in_pieces"
BELOW_NORMAL, ABOVE_NORMAL = "volume_below_normal", "volume_above_normal"


@dataclass(frozen=True)
class OrganFinding(Finding):
    """Measurements of one organ. Where it has no voxel, volumes and counts are 0, the rest is None or empty.

    Attributes:
        name: The class.
        volume_ml: With its lesions (`voxicon.findings.parts`). A lower bound where `touches_border`.
        volume_without_lesions_ml: Voxels of the organ's mask that are no lesion.
        hu_mean: Mean over the organ without lesions, rim included; None where nothing is left.
        hu_sd: Standard deviation of the same voxels (their own, not an estimate of a larger population's).
        extent_mm: Along R-L, A-P and S-I, with lesions, from outer corner to outer corner of its voxels.
        center_mm: Center of mass with lesions, RAS.
        touches_border: A voxel lies in the outermost slice that was scanned, on any side (`scanned_box`).
        components: Number of 26-connected pieces with at least `PIECE_SHARE` of its voxels, lesions included.
        normal_volume: What the volume was compared with; None where no range is known here.
        flags: Of ``at_border``, ``in_pieces``, ``volume_below_normal`` and ``volume_above_normal``, those that hold.
            The first two hold for any organ; a volume that is a lower bound is never called too small.
    """

    name: str
    volume_ml: float
    volume_without_lesions_ml: float
    hu_mean: float | None
    hu_sd: float | None
    extent_mm: Point | None
    center_mm: Point | None
    touches_border: bool
    components: int
    normal_volume: NormalVolume | None
    flags: tuple[str, ...]


def measure_organ(name: str, masks: MaskSet, hu: Hu, vocabulary: Vocabulary) -> OrganFinding:
    """Measure one organ or vessel.

    Args:
        name: Canonical name of a class of `masks`.
        masks: Masks of the scan.
        hu: (X, Y, Z) Hounsfield units on the grid of `masks`.
        vocabulary: Knows the class and its lesions.

    Raises:
        UnknownClass: The class is not in `masks`, or not in the vocabulary.
        BadGeometry: HU and masks differ in shape.
    """
    check(name, masks, hu, vocabulary)
    normal = NORMAL_VOLUMES.get(name)
    organ = organ_of(name, masks, vocabulary, masks.bounds())
    if organ is None:
        return OrganFinding(name, 0.0, 0.0, None, None, None, None, False, 0, normal, ())
    grid = cropped(masks.geometry, organ.box)
    low, high = bounds_mm(organ.whole, grid)
    volume_ml = np.count_nonzero(organ.whole) * grid.voxel_ml
    touches = touches_border(organ.box, scanned_box(hu))
    sizes = components(organ.whole).sizes[1:]
    pieces = int(np.count_nonzero(sizes >= PIECE_SHARE * sizes.sum()))
    mean, sd = mean_and_sd(hu[organ.box][organ.spared])
    return OrganFinding(
        name=name,
        volume_ml=volume_ml,
        volume_without_lesions_ml=np.count_nonzero(organ.spared) * grid.voxel_ml,
        hu_mean=mean,
        hu_sd=sd,
        extent_mm=(high[0] - low[0], high[1] - low[1], high[2] - low[2]),
        center_mm=center_mm(organ.whole, grid),
        touches_border=touches,
        components=pieces,
        normal_volume=normal,
        flags=_flags(volume_ml, touches, pieces, normal),
    )


def scanned_box(hu: Hu) -> Box:
    """The box of slices that were scanned: outer slices that hold one value throughout are padding.

    No slice through a patient is constant, while padding is, whatever its value; slices of clipped air are peeled
    off as well, which moves no border into the body. A scan that is constant as a whole has no padding. Not seen:
    padding that follows an oblique or round field of view, as its slices are constant only in part.
    """
    sides = []
    for axis in range(3):
        slices = np.moveaxis(hu, axis, 0)
        start, stop = 0, len(slices)
        while start < stop and _constant(slices[start]):
            start += 1
        while stop > start and _constant(slices[stop - 1]):
            stop -= 1
        sides.append(slice(start, stop))
    x, y, z = sides
    if any(side.start == side.stop for side in sides):
        x, y, z = (slice(0, n) for n in hu.shape)
    return x, y, z


def mean_and_sd(values: Hu) -> tuple[float | None, float | None]:
    """Mean and standard deviation in float64; None and None of no values."""
    return (float(values.mean(dtype=np.float64)), float(values.std(dtype=np.float64))) if values.size else (None, None)


def check(name: str, masks: MaskSet, values: NDArray[Any], vocabulary: Vocabulary) -> None:
    """Refuse what cannot be measured.

    Raises:
        UnknownClass: The class is not in `masks`, or not in the vocabulary.
        BadGeometry: Values and masks differ in shape.
    """
    if name not in masks:
        raise UnknownClass(f"no mask named {name!r} here; there are: {', '.join(masks.names) or 'none'}")
    _ = vocabulary[name]
    if values.shape != masks.geometry.shape:
        raise BadGeometry(
            f"values of shape {values.shape} for masks of shape {masks.geometry.shape}; expected the scan of the masks"
        )


def _constant(plane: Hu) -> bool:
    return bool((plane == plane.flat[0]).all())


def touches_border(box: Box, scanned: Box) -> bool:
    """Whether a box holds a voxel of the outermost slices of another, or lies beyond them."""
    return any(b.start <= s.start or b.stop >= s.stop for b, s in zip(box, scanned, strict=True))


def _flags(volume_ml: float, touches_border: bool, pieces: int, normal: NormalVolume | None) -> tuple[str, ...]:
    holds = {
        AT_BORDER: touches_border,
        IN_PIECES: pieces > 1,
        BELOW_NORMAL: normal is not None and volume_ml < normal.low_ml and not touches_border,
        ABOVE_NORMAL: normal is not None and volume_ml > normal.high_ml,
    }
    return tuple(flag for flag, held in holds.items() if held)
