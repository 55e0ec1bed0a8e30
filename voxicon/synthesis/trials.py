"""A scan made ready to be searched: slightly another patient, with lesions of known size far from each other."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from voxicon.core.ball import ball_diameter_mm, ball_mm3
from voxicon.core.components import Box, Mask, joint_box
from voxicon.core.geometry import Geometry
from voxicon.core.volume import AIR_HU, Volume
from voxicon.synthesis.lesions.kinds import LesionKind
from voxicon.synthesis.lesions.plant import plant
from voxicon.synthesis.texture import smooth_noise

APART_MM: Final = 15.0
"""Distance of two lesions, surface to surface. Own choice: five voxels of 3 mm, more than a finding's blurred rim."""

LARGEST_SHARE: Final = 1 / 3
"""Of a host that its lesions may be, all together: an organ that is mostly tumor is no longer found itself."""

_TRIES = 6
_ROOM_MM = 30.0
"""Kept around a host when a scan is cut to it: what grows out of the host must fit."""


@dataclass(frozen=True)
class Wanted:
    """One lesion to be planted.

    Attributes:
        kind: What.
        low_mm: Least diameter of the ball of its volume.
        high_mm: Diameter that it stays below.
    """

    kind: LesionKind
    low_mm: float
    high_mm: float


@dataclass(frozen=True, eq=False)
class Trial:
    """One lesion in its place.

    Attributes:
        wanted: What was asked for.
        host: Class of its organ.
        seed: Of its own source of chance.
        planned_mm: Diameter drawn.
        diameter_mm: Diameter of the ball of the volume that came about.
        volume_ml: Volume.
        contrast_hu: Difference to the host's median.
        box: Where in the scan `mask` belongs.
        mask: bool, with at least one voxel.
    """

    wanted: Wanted
    host: str
    seed: int
    planned_mm: float
    diameter_mm: float
    volume_ml: float
    contrast_hu: float
    box: Box
    mask: Mask

    @property
    def center_voxel(self) -> tuple[float, float, float]:
        """Mean index of its voxels in the scan."""
        x, y, z = (float(i.mean()) + side.start for i, side in zip(np.nonzero(self.mask), self.box, strict=True))
        return x, y, z


def vary(volume: Volume, rng: np.random.Generator) -> Volume:
    """Slightly another patient: stretched along each axis, moved, brighter or darker, and noisier.

    Voxels keep their places in the array, so masks of the scan fit the variation. Only the grid is stretched, not the
    values; an aligned grid stays aligned, which keeps everything that follows an order of magnitude faster than a
    rotation would.

    Source: own choice of ranges: 8 % of size and a voxel's shift, 10 HU of calibration, 15 HU of noise.
    """
    affine = np.array(volume.geometry.affine)
    affine[:3] = np.diag(rng.uniform(0.92, 1.08, 3)) @ affine[:3]
    affine[:3, 3] += rng.uniform(-2, 2, 3)
    geometry = Geometry(volume.geometry.shape, affine)
    hu = volume.hu * np.float32(rng.uniform(0.97, 1.03)) + np.float32(rng.uniform(-10, 10))
    hu += np.float32(rng.uniform(0, 15)) * smooth_noise(rng, hu.shape, float(rng.uniform(1, 3)), geometry.spacing_mm)
    return Volume(np.maximum(hu, AIR_HU).astype(np.float32, copy=False), geometry, volume.source)


def fill(
    volume: Volume,
    hosts: Mapping[str, Mask],
    wanted: Sequence[Wanted],
    rng: np.random.Generator,
    contrast_hu: float | None = None,
) -> tuple[Volume, list[Trial]]:
    """A scan with as many of the lesions asked for as there is room for, each `APART_MM` from all others.

    A lesion is left out where its host is not in view or too full already (`LARGEST_SHARE`), where no free place was
    found in a few tries, and where voxels are too large for one of its diameter. None planted gives an equal scan.

    Args:
        volume: HU.
        hosts: Class → mask on the scan's grid.
        wanted: Large ones first leave the most room for small ones.
        rng: Source of chance.
        contrast_hu: Difference to the host, for kinds whose look depends on their host; drawn when left out.
    """
    ground = _Ground(np.array(volume.hu, dtype=np.float32), volume.geometry.spacing_mm, contrast_hu)
    organs = {name: _organ(mask, ground.spacing_mm) for name, mask in hosts.items() if mask.any()}
    trials = []
    for one in wanted:
        fitting = [name for name in one.kind.hosts if name in organs]
        if fitting:
            host = fitting[int(rng.integers(len(fitting)))]
            trial = _try(ground, host, organs[host], one, rng)
            if trial is not None:
                organs[host].left_ml -= trial.volume_ml
                trials.append(trial)
    return Volume(ground.hu, volume.geometry, volume.source), trials


@dataclass(frozen=True, eq=False)
class _Ground:
    """A scan being planted, in place."""

    hu: NDArray[np.float32]
    spacing_mm: tuple[float, float, float]
    contrast_hu: float | None
    taken: Mask = field(init=False)
    """Lesions and what is closer to them than `APART_MM`."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "taken", np.zeros(self.hu.shape, dtype=bool))

    def put(self, box: Box, hu: NDArray[np.float32], mask: Mask) -> None:
        """Paint a lesion, and keep its surroundings free."""
        self.hu[box] = hu
        wide = joint_box([box], [math.ceil(APART_MM / step) for step in self.spacing_mm], self.hu.shape)
        apart = np.ones([side.stop - side.start for side in wide], dtype=bool)
        apart[_within(box, wide)] = ~mask
        self.taken[wide] |= ndimage.distance_transform_edt(apart, sampling=self.spacing_mm) <= APART_MM


@dataclass(eq=False)
class _Organ:
    """A host cut to its surroundings."""

    box: Box
    mask: Mask
    left_ml: float
    """Volume that more lesions may have."""


def _organ(host: Mask, spacing_mm: tuple[float, float, float]) -> _Organ:
    x, y, z = ndimage.find_objects(host.view(np.uint8))[0]
    box = joint_box([(x, y, z)], [math.ceil(_ROOM_MM / step) for step in spacing_mm], host.shape)
    return _Organ(box, host[box], LARGEST_SHARE * _ml(host[box], spacing_mm))


def _try(ground: _Ground, host: str, organ: _Organ, one: Wanted, rng: np.random.Generator) -> Trial | None:
    """Plant one lesion at the first of a few places that is free."""
    # What has a value of its own in any host would become something else by a contrast.
    contrast_hu = ground.contrast_hu if one.kind.contrast_hu else None
    for _ in range(_TRIES):
        seed = int(rng.integers(2**31))
        own = np.random.default_rng(seed)
        planned_mm = float(np.exp(own.uniform(np.log(one.low_mm), np.log(one.high_mm))))
        if ball_mm3(planned_mm) > 1000 * organ.left_ml:
            continue
        found = plant(
            ground.hu[organ.box], organ.mask, ground.spacing_mm, one.kind, own,
            diameter_mm=planned_mm, contrast_hu=contrast_hu, avoid_XYZ=ground.taken[organ.box], host=host,
        )  # fmt: skip
        if found is None:
            continue
        volume_ml = _ml(found.mask, ground.spacing_mm)
        diameter_mm = ball_diameter_mm(1000 * volume_ml)
        box = _placed(found.box, organ.box)
        if one.low_mm <= diameter_mm < one.high_mm:
            ground.put(box, found.hu, found.mask)
            contrast = float(found.facts["contrast_hu"])
            return Trial(one, host, seed, planned_mm, diameter_mm, volume_ml, contrast, box, found.mask)
    return None


def _ml(mask: Mask, spacing_mm: tuple[float, float, float]) -> float:
    return float(np.count_nonzero(mask)) * math.prod(spacing_mm) / 1000


def _placed(inner: Box, outer: Box) -> Box:
    """A box within a box, as a box of the scan."""
    x, y, z = (slice(i.start + o.start, i.stop + o.start) for i, o in zip(inner, outer, strict=True))
    return x, y, z


def _within(inner: Box, outer: Box) -> Box:
    """A box of the scan as a box within another."""
    x, y, z = (slice(i.start - o.start, i.stop - o.start) for i, o in zip(inner, outer, strict=True))
    return x, y, z
