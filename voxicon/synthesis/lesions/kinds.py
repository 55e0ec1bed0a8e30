"""What kinds of lesions look like: where they grow, how large, how dense, how sharp."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from voxicon.errors import ConfigError


@dataclass(frozen=True)
class LesionKind:
    """What a kind of lesion looks like. Lengths in mm, values in HU.

    Attributes:
        name: Its class.
        hosts: Classes of the organs it grows in; each lesion in one of them.
        diameter_mm: Smallest and largest.
        contrast_hu: Ranges of the difference to the host, each as likely as the others, or
        own_hu: ranges of the lesion's own value, where the host's does not matter (cysts, nodules in the lung).
        edge_mm: How soft its edge is.
        roughness: Unevenness of the surface as a share of the radius.
        texture_hu: Standard deviation inside.
        rim: Share that has a rim (capsule, or enhancement).
        core: Share of larger ones that have a dead core.
        outward: How far, in radii, the middle may lie beyond the host's surface; None for lesions that stay inside.
        at_wall: Grows along the host's surface, not anywhere in it.
        mass_effect: Share that pushes the tissue around it away, where that is asked for.
        also: Classes it belongs to as well.
    """

    name: str
    hosts: tuple[str, ...]
    diameter_mm: tuple[float, float]
    contrast_hu: tuple[tuple[float, float], ...] = ()
    own_hu: tuple[tuple[float, float], ...] = ()
    edge_mm: tuple[float, float] = (0.5, 3.0)
    roughness: float = 0.2
    texture_hu: tuple[float, float] = (2.0, 12.0)
    rim: float = 0.3
    core: float = 0.3
    outward: float | None = None
    at_wall: bool = False
    mass_effect: float = 0.0
    also: tuple[str, ...] = ()


KINDS: Mapping[str, LesionKind] = {
    kind.name: kind
    for kind in (
        # Metastases and HCC in the venous phase are darker, in the arterial phase often brighter.
        LesionKind(
            "liver_tumor",
            ("liver",),
            (4, 80),
            contrast_hu=((-90, -15), (-60, -20), (15, 70)),
            mass_effect=0.5,
        ),
        LesionKind(
            "hepatic_vessel_tumor",
            ("liver",),
            (8, 80),
            contrast_hu=((-90, -15), (-60, -20), (15, 70)),
            mass_effect=0.5,
            also=("liver_tumor",),
        ),
        # Ductal carcinoma is darker than the gland, endocrine tumors are brighter; both leave its outline.
        LesionKind(
            "pancreas_tumor", ("pancreas",), (5, 50), contrast_hu=((-70, -15), (-50, -20), (20, 80)), outward=0.3
        ),
        LesionKind(
            "kidney_tumor",
            ("kidney_right", "kidney_left"),
            (6, 80),
            contrast_hu=((-110, -20), (-60, -15), (15, 70)),
            texture_hu=(4, 20),
            core=0.5,
            outward=0.6,
            mass_effect=0.5,
        ),
        LesionKind(
            "kidney_cyst",
            ("kidney_right", "kidney_left"),
            (5, 70),
            own_hu=((-8, 20),),
            edge_mm=(0.3, 1.0),
            roughness=0.06,
            texture_hu=(0, 3),
            rim=0.1,
            core=0.0,
            outward=0.7,
            mass_effect=0.7,
        ),
        LesionKind(
            "lung_tumor",
            ("lung_right", "lung_left"),
            (4, 70),
            own_hu=((-30, 90), (0, 60), (-650, -250)),
            roughness=0.25,
            texture_hu=(3, 20),
            core=0.15,
        ),
        LesionKind(
            "colon_tumor",
            ("colon",),
            (10, 70),
            # Walls with contrast. Without it a tumor is as gray as what the bowel holds, and nobody could tell.
            own_hu=((45, 120),),
            roughness=0.3,
            texture_hu=(3, 15),
            rim=0.1,
            core=0.1,
            outward=0.2,
            at_wall=True,
        ),
    )
}
"""Source: ranges from radiology textbooks (contrast of common lesions against their organ); sizes from the smallest
that matter to the largest of LiTS, KiTS and MSD."""


def kind_of(name: str) -> LesionKind:
    """The kind of a class.

    Raises:
        ConfigError: No lesion of that class can be made; names those that can.
    """
    if name not in KINDS:
        raise ConfigError(f"{name!r} cannot be planted; known lesions: {', '.join(KINDS)}")
    return KINDS[name]
