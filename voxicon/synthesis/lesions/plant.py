"""Tumors and cysts that were never there: planned from textbook ranges, painted into a host organ.

A lesion is a few merged ellipsoids with an uneven surface, grown to the volume planned. Its edge is soft by as much as
tissue and voxels make it, so a lesion smaller than a voxel darkens that voxel by its share, as in a scanner. What was
planted is known exactly, which is what makes it good for training and for measuring how small a lesion a model still
finds.

Source: Hu et al., Label-Free Liver Tumor Segmentation, CVPR 2023 (sizes of 4 to 32 mm radius, uneven ellipsoids,
texture, blurred edge); here for more organs, with contrast of either sign, rims, dead cores and vessels left free.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from voxicon.core.ball import ball_diameter_mm, ball_mm3
from voxicon.synthesis.lesions.kinds import KINDS, LesionKind, kind_of
from voxicon.synthesis.lesions.look import Look, Site, draw_look, level_of_host, paint, pushed
from voxicon.synthesis.lesions.place import BONE_HU, GAS_HU, ball_in, draw_center
from voxicon.synthesis.lesions.shape import (
    Box,
    Floats,
    Mask,
    Shape,
    Triple,
    box_around,
    draw_shape,
    fill,
    mask_of,
)

__all__ = ["KINDS", "LesionKind", "Planted", "draw_diameter", "kind_of", "largest_diameter_mm", "plant"]

_SHARE_INSIDE, _SHARE_OUTWARD = 1 / 3, 2 / 3
"""Largest share of its host that a lesion has the volume of."""

_PUSH = (0.1, 0.35)
"""How far a growing lesion moves the tissue at its border, in radii."""

_CALM = 1.8
"""Distance in radii at which tissue does not move any more."""


_SEAM_MM, _SEAM_HU = 1.5, -200.0
"""Voxels this near to a host of gas and of less HU are still part gas."""


@dataclass(frozen=True, eq=False)
class Planted:
    """One lesion in its place.

    Attributes:
        kind: Its class.
        host: Class of the organ it was planted in.
        box: Where in the volume the arrays below belong.
        hu: (X, Y, Z) float32, the box with the lesion in it.
        mask: (X, Y, Z) bool: the voxels that are lesion, of at least half, on coarse grids of at least a third. One
            connected piece, never empty.
        facts: What was drawn, for the record: ``center_voxel``, ``diameter_mm`` (planned), ``volume_ml`` (of the mask),
            ``edge_mm``, ``push_mm`` (how far tissue at its border was moved), ``host_hu`` (beside it), ``contrast_hu``,
            ``texture_hu``, ``rim_hu``, ``core_hu`` and ``own`` (its value is its own, not one relative to the host).
    """

    kind: str
    host: str
    box: Box
    hu: Floats
    mask: Mask
    facts: Mapping[str, Any] = field(default_factory=dict)


def largest_diameter_mm(kind: LesionKind, host_mm3: float) -> float:
    """Diameter of the ball that is as much of a host of that volume as a lesion may be."""
    share = _SHARE_INSIDE if kind.outward is None else _SHARE_OUTWARD
    return ball_diameter_mm(share * host_mm3)


def draw_diameter(kind: LesionKind, host_mm3: float, rng: np.random.Generator, *, room_mm3: float = math.inf) -> float:
    """Evenly on a log scale: from the least of its kind to the largest that host and room allow, or that least."""
    low, high = kind.diameter_mm
    most = max(low, min(high, largest_diameter_mm(kind, host_mm3), ball_diameter_mm(room_mm3)))
    return float(np.exp(rng.uniform(np.log(low), np.log(most))))


def plant(  # noqa: PLR0913  what is drawn when left out
    hu_XYZ: Floats,  # noqa: N803
    host_XYZ: Mask,  # noqa: N803
    spacing_mm: Triple,
    kind: LesionKind,
    rng: np.random.Generator,
    *,
    diameter_mm: float | None = None,
    contrast_hu: float | None = None,
    avoid_XYZ: Mask | None = None,  # noqa: N803
    host: str = "",
    still_XYZ: Mask | None = None,  # noqa: N803
) -> Planted | None:
    """Plan a lesion and paint it; the volume itself is left as it is.

    Args:
        hu_XYZ: The scan.
        host_XYZ: The organ, on the same grid.
        spacing_mm: Voxel size.
        kind: What to plant.
        rng: Source of chance.
        diameter_mm: Of the ball of the planned volume; drawn evenly on a log scale when left out, and never so large
            that the lesion would be most of its host. The mask has that volume as far as there is room.
        contrast_hu: Difference to the host beside the lesion, on average; drawn when left out.
        avoid_XYZ: What it never covers, and keeps away from if there is any other place: vessels, lesions that are
            there already.
        host: Name of the organ, for the record.
        still_XYZ: Given, some lesions push the tissue around them away: where all that moves is host, so that its
            outline stays, and nothing of this, such as lesions that are there already.

    Returns:
        The lesion; None where the host has no voxel, or a lesion of that size leaves no voxel that is a third lesion.
    """
    places = np.flatnonzero(host_XYZ)
    if not len(places):
        return None
    voxel_mm3 = float(np.prod(spacing_mm))
    size = diameter_mm if diameter_mm is not None else draw_diameter(kind, len(places) * voxel_mm3, rng)
    shape = draw_shape(kind, size / 2, rng)
    center = draw_center(places, hu_XYZ, host_XYZ, avoid_XYZ, spacing_mm, kind, shape, rng)
    push = 0.0 if still_XYZ is None else _draw_push(kind, host_XYZ, still_XYZ, center, spacing_mm, shape, rng)
    reach = shape.reach_mm if push == 0 else (max(_CALM * shape.radius_mm, *shape.reach_mm),) * 3
    box = box_around(center, reach, spacing_mm, hu_XYZ.shape)
    site = _site(hu_XYZ, host_XYZ, avoid_XYZ, box, spacing_mm, kind)
    if push > 0:
        at = tuple(c - side.start for c, side in zip(center, box, strict=True))
        moved = pushed(site.hu, at, spacing_mm, shape.radius_mm, _CALM * shape.radius_mm, push, rng)
        site = replace(site, hu=moved)
    wall = _wall_mm(site.host, spacing_mm, shape.radius_mm, rng) if kind.at_wall else None
    share, depth = fill(shape, box, center, spacing_mm, site.ground, wall, rng)
    mask = mask_of(share, ball_mm3(size) / voxel_mm3)
    if not mask.any():
        return None
    host_hu = level_of_host(site, share, _median(hu_XYZ, host_XYZ, places))
    look = draw_look(kind, host_hu, contrast_hu, shape.radius_mm, rng)
    painted = paint(site, share, depth, look, shape.radius_mm, rng)
    facts = _facts(center, float(size), float(mask.sum()) * voxel_mm3 / 1000, shape, push, look)
    return Planted(kind.name, host, box, painted, mask, facts)


def _facts(
    center: Triple, diameter_mm: float, volume_ml: float, shape: Shape, push_mm: float, look: Look
) -> dict[str, Any]:
    return {
        "center_voxel": [round(c, 2) for c in center],
        "diameter_mm": round(diameter_mm, 2),
        "volume_ml": volume_ml,
        "edge_mm": round(shape.edge_mm, 2),
        "push_mm": round(push_mm, 2),
        **{name: value if isinstance(value, bool) else round(value, 1) for name, value in asdict(look).items()},
    }


def _site(hu: Floats, host: Mask, avoid: Mask | None, box: Box, spacing_mm: Triple, kind: LesionKind) -> Site:
    inside, hosted = np.ascontiguousarray(hu[box], dtype=np.float32), host[box]
    ground = _ground(inside, hosted, kind, spacing_mm)
    return Site(inside, hosted, ground if avoid is None else ground & ~avoid[box], spacing_mm)


def _draw_push(
    kind: LesionKind,
    host: Mask,
    still: Mask,
    center: Triple,
    spacing_mm: Triple,
    shape: Shape,
    rng: np.random.Generator,
) -> float:
    """How far tissue moves, in mm; 0 where chance or the surroundings say no."""
    push_mm = float(rng.uniform(*_PUSH)) * shape.radius_mm
    reach_mm = _CALM * shape.radius_mm
    if rng.random() >= kind.mass_effect or not ball_in(host, center, reach_mm, spacing_mm):
        return 0.0
    return 0.0 if still[box_around(center, (reach_mm,) * 3, spacing_mm, host.shape)].any() else push_mm


def _ground(hu: Floats, host: Mask, kind: LesionKind, spacing_mm: Triple) -> Mask:
    """Where the lesion may be: the host, and for those that grow out of it the soft tissue next to it."""
    near = max(1, round(_SEAM_MM / min(spacing_mm)))
    if kind.outward is None:
        if not kind.own_hu:
            return host.copy()
        # Voxels at the pleura are part lung and part wall, and in no mask; left alone they would be a dark seam.
        seam: Mask = ndimage.binary_dilation(host, iterations=near) & (hu < _SEAM_HU)
        return host | seam
    smooth = ndimage.uniform_filter(hu, 3)
    beyond = ~host & ((smooth < GAS_HU) | (smooth > BONE_HU) | (hu < GAS_HU))
    # Specks of gas and contrast that the host's mask left out are no obstacle.
    obstacle: Mask = ndimage.binary_opening(beyond, iterations=near) if near > 1 else beyond
    return ~obstacle


def _wall_mm(host: Mask, spacing_mm: Triple, radius_mm: float, rng: np.random.Generator) -> Floats:
    """Depth within a band along the host's surface: a mass that thickens the wall, inward more than outward."""
    inner = max(rng.uniform(0.7, 1.6) * radius_mm, 4.0)
    outer = min(rng.uniform(1.5, 5.0), 0.4 * radius_mm)
    if not host.any() or host.all():
        return np.full(host.shape, inner if host.any() else -outer, dtype=np.float32)
    into = ndimage.distance_transform_edt(host, spacing_mm) - ndimage.distance_transform_edt(~host, spacing_mm)
    # Distances from a mask of voxels have steps; the wall has none.
    into = ndimage.gaussian_filter(into, [min(1.5, 0.15 * radius_mm) / step for step in spacing_mm])
    found: Floats = np.minimum(inner - into, into + outer).astype(np.float32)
    return found


def _median(hu: Floats, host: Mask, places: NDArray[np.intp]) -> float:
    """Of the host, from at most a few thousand of its voxels."""
    some = places[:: max(1, len(places) // 4096)]
    return float(np.median(hu[np.unravel_index(some, host.shape)]))
