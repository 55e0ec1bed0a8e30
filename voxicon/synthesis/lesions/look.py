"""How a lesion looks on CT: contrast, texture, rim and core, and what it does to the tissue around it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from voxicon.synthesis.lesions.kinds import LesionKind
from voxicon.synthesis.lesions.shape import Floats, Mask, Triple
from voxicon.synthesis.texture import smooth_noise

_LARGE_MM = 6.0
"""Radius from which a lesion may have a rim or a core that shows."""

_GROUND_GLASS_HU = -200.0
"""Below this a lesion of the lung lets vessels shine through."""

_BRIGHTEST_HU = 200.0
"""Of tumors; the cortex of the kidney may be brighter in the arterial phase."""

_FEWEST = 30
"""Voxels of host around a lesion that its contrast can be measured against."""

_MOST_NOISE_HU = 40.0
_MOST_GRAIN = 2.0
"""Noise, in standard deviations; what differs more is an edge."""

_TISSUE_HU = -950.0
"""Above this a scan has noise; air outside of it is often a constant."""

_MOST_UNEVEN_HU = 60.0
_VEIL = 0.2
"""Share of what is uneven in the host that still shows in a lesion grown there."""


@dataclass(frozen=True, eq=False)
class Site:
    """The box a lesion is painted in. All arrays are (X, Y, Z).

    Attributes:
        hu: float32.
        host: bool, the organ.
        ground: bool, where the lesion may be.
        spacing_mm: Voxel size.
    """

    hu: Floats
    host: Mask
    ground: Mask
    spacing_mm: Triple


@dataclass(frozen=True)
class Look:
    """What was drawn, in HU.

    Attributes:
        host_hu: Median of the host next to the lesion.
        contrast_hu: Mean of the lesion, weighted by share, less that.
        texture_hu: Standard deviation of its texture.
        rim_hu: How much its border differs from it; 0 for none.
        core_hu: How much its middle does; 0 for none.
        own: Whether its value is its own and the host's unevenness gone.
    """

    host_hu: float
    contrast_hu: float
    texture_hu: float
    rim_hu: float
    core_hu: float
    own: bool


def draw_look(
    kind: LesionKind, host_hu: float, contrast_hu: float | None, radius_mm: float, rng: np.random.Generator
) -> Look:
    """A look of a kind beside a host of that value; `contrast_hu` is kept where it is given.

    In an organ that is full of contrast itself nothing is drawn that would be brighter still.
    """
    ranges = kind.own_hu or kind.contrast_hu
    drawn = rng.uniform(*ranges[int(rng.integers(len(ranges)))]) - (host_hu if kind.own_hu else 0.0)
    if not kind.own_hu and drawn > 0 and host_hu + drawn > _BRIGHTEST_HU:
        drawn = -drawn
    texture = rng.uniform(*kind.texture_hu)
    rim = rng.choice([-1, 1]) * rng.uniform(10, 40) if rng.random() < kind.rim else 0.0
    core = -rng.uniform(10, 40) if rng.random() < kind.core else 0.0
    large = radius_mm > _LARGE_MM
    return Look(
        host_hu=host_hu,
        contrast_hu=float(drawn if contrast_hu is None else contrast_hu),
        texture_hu=float(texture),
        rim_hu=float(rim) if large else 0.0,
        core_hu=float(core) if large else 0.0,
        own=bool(kind.own_hu),
    )


def level_of_host(site: Site, share: Floats, fallback: float) -> float:
    """Median HU of the host beside a lesion; that of the whole host where too little of it is in sight."""
    beside = site.hu[site.host & (share <= 0)]
    return float(np.median(beside[:: max(1, len(beside) // 4096)])) if len(beside) >= _FEWEST else fallback


def paint(site: Site, share: Floats, depth: Floats, look: Look, radius_mm: float, rng: np.random.Generator) -> Floats:
    """The box with the lesion in it; voxels without a share of it keep their value.

    The noise of the scan stays. What else is uneven in the host, such as vessels, is mostly gone inside, but not in the
    outermost layer of the ground: there, voxels hold a part of what lies beyond.

    Args:
        site: Where.
        share: (X, Y, Z) float32, how much of each voxel is lesion.
        depth: (X, Y, Z) float32, how deep in it each voxel lies, in mm.
        look: What was drawn.
        radius_mm: Of the ball of its volume.
        rng: Source of chance.
    """
    hu = site.hu
    inside = _inside(share, depth, look, radius_mm, site.spacing_mm, rng)
    noise = _grain(hu, site.spacing_mm, rng)
    if look.own:
        base = look.host_hu + noise
    else:
        deep = ndimage.binary_erosion(site.ground, border_value=1)
        uneven = np.where(site.host, np.clip(hu - noise - look.host_hu, -_MOST_UNEVEN_HU, _MOST_UNEVEN_HU), 0)
        base = np.where(deep, look.host_hu + np.float32(_VEIL) * uneven + noise, hu)
    painted = base + inside
    if look.own and look.host_hu + look.contrast_hu < _GROUND_GLASS_HU:
        painted = np.maximum(painted, hu)
    changed: Floats = (hu + share * (painted - hu)).astype(np.float32)
    return changed


def _inside(
    share: Floats, depth: Floats, look: Look, radius_mm: float, spacing_mm: Triple, rng: np.random.Generator
) -> Floats:
    """Difference to the host: uneven, and on average what was planned."""
    size = min(8.0, 0.6 * radius_mm)
    uneven = np.float32(look.texture_hu) * smooth_noise(rng, share.shape, size, spacing_mm)
    if look.rim_hu:
        width = max(1.5, float(np.mean(spacing_mm)))
        uneven += np.float32(look.rim_hu) * np.exp(-((depth / width) ** 2))
    if look.core_hu:
        wavy = depth + np.float32(0.12 * radius_mm) * smooth_noise(rng, share.shape, size, spacing_mm)
        uneven += np.float32(look.core_hu) * np.clip((wavy - 0.4 * radius_mm) / (0.2 * radius_mm), 0, 1)
    total = float(share.sum())
    mean = float((share * uneven).sum()) / total if total > 0 else 0.0
    found: Floats = uneven + np.float32(look.contrast_hu - mean)
    return found


def pushed(
    hu: Floats,
    center: Triple,
    spacing_mm: Triple,
    radius_mm: float,
    reach_mm: float,
    push_mm: float,
    rng: np.random.Generator,
) -> Floats:
    """A box whose tissue has moved away from a point: by `push_mm` at `radius_mm`, fading to nothing at `reach_mm`.

    Nothing folds: from new to old distance, ``old = new - push * fade(new)``, the slope is 1 or more beyond the radius,
    and constant and positive within. The noise of the scan does not move.

    Args:
        hu: (X, Y, Z) float32, the box.
        center: The point, in voxels of the box.
        spacing_mm: Voxel size.
        radius_mm: Of what grows; more than `push_mm`.
        reach_mm: Where tissue rests; more than `radius_mm`.
        push_mm: How far.
        rng: Source of chance, for noise.
    """
    steps = [(np.arange(n) - c) * step for n, c, step in zip(hu.shape, center, spacing_mm, strict=True)]
    away = np.stack(np.meshgrid(*steps, indexing="ij"))
    new = np.linalg.norm(away, axis=0)
    fade = np.cos(np.pi / 2 * np.clip((new - radius_mm) / (reach_mm - radius_mm), 0, 1)) ** 2
    old = np.where(new < radius_mm, new * (1 - push_mm / radius_mm), new - push_mm * fade)
    shrunk = np.where(new > 0, old / np.maximum(new, 1e-6), 1 - push_mm / radius_mm)
    place = [axis * shrunk / step + c for axis, step, c in zip(away, spacing_mm, center, strict=True)]
    noise = _grain(hu, spacing_mm, rng)
    moved = ndimage.map_coordinates(hu - noise, place, order=1, mode="nearest") + noise
    found: Floats = np.where(new < reach_mm, moved, hu).astype(np.float32)
    return found


def _grain(hu: Floats, spacing_mm: Triple, rng: np.random.Generator) -> Floats:
    """The noise of a scan: what a voxel differs from those around it; drawn anew where an edge or a vessel hides it."""
    noise = hu - ndimage.uniform_filter(hu, 3)
    deviation = _deviation(noise, hu > _TISSUE_HU)
    drawn = smooth_noise(rng, hu.shape, max(1.0, 1.2 * min(spacing_mm)), spacing_mm)
    new = np.float32(deviation) * np.clip(drawn, -_MOST_GRAIN, _MOST_GRAIN)
    found: Floats = np.where(np.abs(noise) > _MOST_GRAIN * deviation, new, noise).astype(np.float32)
    return found


def _deviation(noise: Floats, tissue: Mask) -> float:
    """Standard deviation where tissue is calm: stool and vessels are no noise, and a box may hold little else.

    Source: of windows of 27 voxels of normal noise, a tenth deviate by less than 1 - 1.28 / sqrt(2 * 27) = 0.83 of it.
    """
    local = ndimage.uniform_filter(noise * noise, 3)[tissue]
    if not len(local):
        return 0.0
    calm = float(np.quantile(local[:: max(1, len(local) // 4096)], 0.1))
    return min(math.sqrt(max(calm, 0.0)) / 0.83, _MOST_NOISE_HU)
