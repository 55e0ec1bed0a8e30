"""Bodies out of nothing: patients drawn from a plan of human anatomy, and a simple one of exactly known volumes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np

from voxicon.core.geometry import Geometry
from voxicon.errors import ConfigError
from voxicon.synthesis.label_map import OUTSIDE, LabelMap
from voxicon.synthesis.phantom import bones, organs, vessels
from voxicon.synthesis.phantom.frame import REGIONS, Scene, draw_plan, lay_grid, structure_names

__all__ = ["ORGAN_VOLUME_ML", "REGIONS", "draw_body", "known_phantom"]

ORGAN_VOLUME_ML: Final[Mapping[str, tuple[float, float]]] = {
    "spleen": (60, 500),
    "kidney_right": (65, 360),
    "kidney_left": (65, 360),
    "gallbladder": (5, 90),
    "liver": (650, 2900),
    "stomach": (120, 1100),
    "pancreas": (28, 170),
    "adrenal_gland_right": (1, 15),
    "adrenal_gland_left": (1, 15),
    "esophagus": (15, 85),
    "trachea": (14, 90),
    "thyroid_gland": (2, 40),
    "duodenum": (35, 260),
    "small_bowel": (120, 1900),
    "colon": (300, 2400),
    "urinary_bladder": (35, 650),
    "prostate": (9, 90),
    "heart": (240, 1300),
    "aorta": (95, 550),
    "inferior_vena_cava": (35, 260),
    "portal_vein_and_splenic_vein": (8, 60),
}
"""Structure → smallest and largest volume of an adult's, ml.

Source: Geraghty et al., Normal organ volume assessment from abdominal CT, Abdominal Imaging 29, 2004 (liver, spleen,
pancreas, kidneys: mean and spread), widened at both ends for the small and the obese; the rest own choice from what
the two labeled torso CTs of the tests measure.
"""

_FINEST_MM, _COARSEST_MM = 1.0, 10.0
_WITH_TABLE = 0.6
"""Share of bodies on a table. Own choice; it is a small part of what a network has to learn to ignore."""


def draw_body(rng: np.random.Generator, spacing_mm: float = 3.0, region: str = "torso") -> LabelMap:
    """A patient who never lived: organs, bones, vessels, muscles, fat, skin and sometimes a table.

    Sex, size, fat, breath, posture and place of the arms are drawn first, then every organ in its neighborhood; one
    smooth warp bends all of it together. No two voxels claim one place: hollow organs are filled with their own label
    (gas and content are for the painter), vessels in the liver are ``hepatic_vessel``, those in the lungs are left
    out. A woman has no ``prostate`` but a womb of ``soft_tissue``; a few people have no ``gallbladder``.

    Args:
        rng: Source of everything random; the same state gives the same body.
        spacing_mm: Edge of the voxels, 1 to 10. A torso takes
            about 1 s of one core at 6 mm, 4 s at 3 mm, 40 s and 2.6 GB at 1.5 mm.
        region: ``torso`` from the base of the neck to the thighs, ``chest``, ``abdomen`` or ``pelvis``; each is cut
            at heights that vary from body to body.

    Returns:
        A map on a grid along R, A and S whose origin is near the first lumbar vertebra. `names` lists every
        structure that exists, in view or not.

    Raises:
        ConfigError: There is no such region, or the spacing lies outside its range.
    """
    if region not in REGIONS:
        raise ConfigError(f"region: found {region!r}, expected one of {', '.join(REGIONS)}; choose one of these")
    if not _FINEST_MM <= spacing_mm <= _COARSEST_MM:
        raise ConfigError(
            f"spacing_mm: found {spacing_mm:g}, expected {_FINEST_MM:g} to {_COARSEST_MM:g}; choose a value in between"
        )
    plan = draw_plan(rng, region)
    canvas, affine = lay_grid(rng, plan, spacing_mm)
    scene = Scene(rng, plan, canvas)
    bones.draw_wall(scene)
    bones.draw_muscles(scene)
    vessels.draw_lungs(scene)
    bones.draw_bones(scene)
    vessels.draw_heart(scene)
    vessels.draw_chest_vessels(scene)
    vessels.draw_belly_vessels(scene)
    organs.draw_organs(scene)
    bones.draw_skin(scene)
    if rng.random() < _WITH_TABLE:
        _draw_table(scene)
    nx, ny, nz = canvas.values.shape
    return LabelMap(canvas.values, structure_names(), Geometry((nx, ny, nz), affine))


def _draw_table(scene: Scene) -> None:
    """A couch of two curved plates below the lowest voxel of the back, as wide as the view allows."""
    values, ids, rng = scene.canvas.values, scene.canvas.ids, scene.rng
    spacing = scene.canvas.spacing_mm
    nx, ny, _ = values.shape
    back = np.flatnonzero((values != OUTSIDE).any(axis=(0, 2)))[0]
    x = (np.arange(nx) - nx / 2 + 0.5)[:, None] * spacing
    height = (np.arange(ny) - back)[None] * spacing + rng.uniform(2, 8) - x**2 / rng.uniform(900, 2500)
    thick, half = rng.uniform(18, 40), rng.uniform(190, 230)
    wall = max(2.5, 0.75 * spacing)
    plates = (np.abs(height) < wall) | (np.abs(height + thick - x**2 / 6000) < wall)
    plates &= np.abs(x) < half
    values[(values == OUTSIDE) & plates[:, :, None]] = ids["table"]


_KNOWN_BODY = (165.0, 110.0, 190.0)
"""Half axes of the elliptic cylinder and half its height, mm."""

_KNOWN_ORGANS: Final = {
    "liver": ((75.0, 15.0, -20.0), (65.0, 60.0, 50.0)),
    "spleen": ((-95.0, -25.0, -15.0), (25.0, 35.0, 40.0)),
    "kidney_right": ((60.0, -60.0, -105.0), (28.0, 28.0, 28.0)),
    "kidney_left": ((-60.0, -60.0, -105.0), (24.0, 24.0, 45.0)),
    "lung_lower_lobe_right": ((75.0, 0.0, 110.0), (55.0, 75.0, 70.0)),
    "lung_lower_lobe_left": ((-75.0, 0.0, 110.0), (50.0, 75.0, 70.0)),
    "urinary_bladder": ((0.0, 40.0, -145.0), (30.0, 30.0, 30.0)),
}
"""Structure → center and half axes, mm; no two touch, and all lie inside the body."""


def known_phantom(
    spacing_mm: tuple[float, float, float] = (3.0, 3.0, 3.0), offset_mm: tuple[float, float, float] = (0.0, 0.0, 0.0)
) -> tuple[LabelMap, dict[str, float]]:
    """A body of simple solids for tests of whatever measures: ellipsoids in an elliptic cylinder of ``soft_tissue``.

    Each lung is one ellipsoid that bears the name of its lower lobe.

    Args:
        spacing_mm: Distance of the voxels along R, A and S.
        offset_mm: Moves the body on its grid, for what must not depend on where voxels happen to lie.

    Returns:
        The map, air all round, and the exact volume of every structure in ml; ``soft_tissue`` is what the organs leave
        of the cylinder. A voxel belongs to the structure in which its center lies.

    Raises:
        ConfigError: A spacing is not above 0 or above 20 mm, or the offset would push the body off the grid.
    """
    if not all(0 < spacing <= 20 for spacing in spacing_mm):
        raise ConfigError(f"spacing_mm: found {spacing_mm}, expected three numbers above 0 and up to 20; correct them")
    if not all(abs(offset) <= 10 for offset in offset_mm):
        raise ConfigError(f"offset_mm: found {offset_mm}, expected three numbers from -10 to 10; correct them")
    step, half = np.array(spacing_mm), np.array(_KNOWN_BODY)
    shape = np.ceil(2 * (half + 20) / step).astype(int)
    affine = np.diag([*spacing_mm, 1.0])
    affine[:3, 3] = -step * (shape - 1) / 2
    geometry = Geometry((int(shape[0]), int(shape[1]), int(shape[2])), affine)
    x, y, z = (
        (affine[i, 3] + step[i] * np.arange(n) - offset_mm[i]).reshape([-1 if j == i else 1 for j in range(3)])
        for i, n in enumerate(shape)
    )
    names = structure_names()
    ids = {name: value for value, name in names.items()}
    values = np.zeros(geometry.shape, dtype=np.int16)
    values[((x / half[0]) ** 2 + (y / half[1]) ** 2 < 1) & (np.abs(z) < half[2])] = ids["soft_tissue"]
    volumes = {"soft_tissue": np.pi * half[0] * half[1] * 2 * half[2] / 1000}
    for name, (center, axes) in _KNOWN_ORGANS.items():
        squares = (((w - c) / a) ** 2 for w, c, a in zip((x, y, z), center, axes, strict=True))
        values[sum(squares) < 1] = ids[name]
        volumes[name] = 4 / 3 * np.pi * float(np.prod(axes)) / 1000
        volumes["soft_tissue"] -= volumes[name]
    return LabelMap(values, names, geometry), volumes
