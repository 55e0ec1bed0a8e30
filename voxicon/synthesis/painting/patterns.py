"""How organs look inside: vessels, shells, septa. One function per pattern of `tissues.yaml`."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from voxicon.synthesis.painting.canvas import Canvas, Floats, Region
from voxicon.synthesis.painting.tissues import find_tissue
from voxicon.synthesis.texture import bump, sheets, smooth_noise, tubes

_CORTEX_MM = 1.9
"""Thickness of the bright shell of most bones."""

_FAT_HU = -100.0

_HILUM_MM = 35.0
"""How far to the side of the midline of both lungs their vessels enter."""

_RADIAL = 0.6
"""How strongly vessels run along the radius: 0 winds any way, 1 is straight out."""


def paint_bone(canvas: Canvas, region: Region) -> None:
    """A shell brighter than what is inside; it covers its share of the outermost voxels."""
    names, values = canvas.label_map.names, canvas.label_map.values[region.box]
    rise = np.zeros(int(values.max()) + 1, dtype=np.float32)
    for value in np.unique(values[region.mask]).tolist():
        name = names.get(value, "")
        rise[value] = canvas.patient.cortex_hu(name) - canvas.patient.mean_hu(name)
    share = min(1.0, _CORTEX_MM / min(canvas.spacing_mm))
    uneven = np.clip(1 + 0.3 * canvas.noise(region, 9), 0.2, 1.7)
    canvas.add(region, canvas.edge[region.box] * rise[values] * share * uneven)


def paint_long_bone(canvas: Canvas, region: Region) -> None:
    """A shaft is a thick pipe of cortex around fatty marrow; ends are like other bones."""
    area = region.mask.sum(axis=(0, 1)) * canvas.spacing_mm[0] * canvas.spacing_mm[1]
    # A head of 45 mm has 1600 mm², a shaft of 28 mm has 600.
    shaft = np.clip((1100 - area) / 400, 0, 1).astype(np.float32)
    inside = canvas.inside_mm(region)
    cortex = canvas.patient.cortex_hu(region.name)
    marrow = float(canvas.rng.uniform(-60, 60))
    canvas.pull(region, np.broadcast_to(0.8 * shaft, region.mask.shape), marrow)
    thickness = _CORTEX_MM + 3.5 * shaft
    wall = np.clip((thickness - inside) / min(canvas.spacing_mm) + 0.5, 0, 1) * (0.65 + 0.35 * shaft)
    canvas.pull(region, wall, cortex * (1 + 0.5 * shaft))


def paint_cartilage(canvas: Canvas, region: Region) -> None:
    """Chalk along the rim, in some patients."""
    chalk = canvas.rng.beta(1, 2)
    spots = np.clip(canvas.noise(region, 7) - 1.6 + 1.3 * chalk, 0, 1) * canvas.edge[region.box]
    canvas.add(region, spots * np.float32(350 * chalk))


def paint_lung(canvas: Canvas, region: Region) -> None:
    """Vessels that spread from the hila, and more blood toward the back."""
    rng = canvas.rng
    x, y, z = canvas.coordinates_mm(region)
    behind = -y / max(float(np.ptp(y)), 1.0)
    canvas.add(region, np.float32(rng.uniform(20, 130)) * (behind + 0 * x + 0 * z))
    canvas.add(region, np.float32(rng.uniform(5, 25)) * canvas.noise(region, 25))
    if canvas.has("lung_vessel"):
        return
    blood = canvas.patient.mean_hu("lung_vessel")
    for side in (-1, 1):
        half = Region(region.name, region.box, region.mask & (side * x > 0))
        if half.mask.any():
            away = _points(half, x, y, z) - np.array([side * _HILUM_MM, 0, 0], dtype=np.float32)
            for mesh, widest, reach in ((24, 3.2, 75), (13, 1.6, 110), (9, 0.85, 150)):
                _branch(canvas, half, away, (mesh, widest, reach), blood)


def paint_liver(canvas: Canvas, region: Region) -> None:
    """Veins that spread from the middle, unless the map brings them along."""
    if canvas.has("hepatic_vessel"):
        return
    blood, own = canvas.patient.mean_hu("hepatic_vessel"), canvas.patient.mean_hu(region.name)
    shown = own + (blood - own) * float(canvas.rng.uniform(0.6, 1.1))
    away = _points(region, *canvas.coordinates_mm(region)) + canvas.rng.normal(0, 10, 3).astype(np.float32)
    for mesh, widest, reach in ((34, 3.9, 120), (20, 2.1, 140)):
        _branch(canvas, region, away, (mesh, widest, reach), shown)


def _points(region: Region, x: Floats, y: Floats, z: Floats) -> Floats:
    """(voxels of the region, 3) coordinates."""
    return np.stack([np.broadcast_to(axis, region.mask.shape)[region.mask] for axis in (x, y, z)], axis=-1)


def _branch(canvas: Canvas, region: Region, away: Floats, tree: tuple[float, float, float], blood: float) -> None:
    """Paint tubes that run away from where `away` is zero, closer together and wider near it.

    The fields of `tubes` are looked up at places drawn together along the radius: what varies slowly there is
    long here.

    Args:
        canvas: The volume.
        region: The organ.
        away: (voxels of the region, 3) mm from where the vessels come.
        tree: Gap between vessels in mm, widest radius in mm, distance in mm over which they become thin.
        blood: HU of a vessel wider than a voxel.
    """
    mesh, widest, reach = tree
    distance = np.maximum(np.linalg.norm(away, axis=1), 8).astype(np.float32)
    # Points at this distance stay where they are; nearer ones are spread out, farther ones drawn in.
    still = 0.6 * reach
    factor = (still / distance) ** np.float32(_RADIAL)
    place = away * factor[:, None]
    step = mesh / 4
    low = place.min(axis=0)
    shape = [int(n) + 3 for n in (place.max(axis=0) - low) / step]
    index = ((place - low) / step).T
    squared = sum(
        ndimage.map_coordinates(smooth_noise(canvas.rng, shape, mesh, (step,) * 3), index, order=1, mode="nearest") ** 2
        for _ in range(2)
    )
    radius = np.clip(widest * (1.2 - distance / reach), 0.3 * widest, widest)
    share = bump(squared, radius * factor, mesh) * np.minimum(0.9, 2.8 * radius / min(canvas.spacing_mm))
    part = canvas.hu[region.box]
    part[region.mask] += share * (blood - part[region.mask])


def paint_spleen(canvas: Canvas, region: Region) -> None:
    """Winding stripes in the first pass of contrast."""
    strength = canvas.patient.weights[1] * float(canvas.rng.uniform(5, 45))
    if strength > 0:
        canvas.add(region, np.float32(strength) * np.sin(2.5 * canvas.noise(region, 15)))


def paint_kidney(canvas: Canvas, region: Region) -> None:
    """Cortex with columns around darker pyramids, and a sinus of fat and urine."""
    rng, (_, arterial, venous) = canvas.rng, canvas.patient.weights
    mean = canvas.patient.mean_hu(region.name)
    inside = canvas.inside_mm(region)
    cortex_mm = rng.uniform(5, 8) + 2.5 * canvas.noise(region, 9)
    inner = np.clip((inside - cortex_mm) / 3 + 0.5, 0, 1)
    drop = arterial * rng.uniform(0.4, 0.7) + venous * rng.uniform(-0.1, 0.15)
    canvas.add(region, -inner * np.float32(drop * max(mean - 30, 0)))
    sinus = np.clip((inside - rng.uniform(12, 16)) / 3, 0, 1) * np.clip(0.6 + canvas.noise(region, 8), 0, 1)
    late = venous * rng.uniform() > 0.88
    filling = rng.uniform(200, 900) if late else rng.uniform(-70, 15)
    canvas.pull(region, 0.8 * sinus, float(filling))


def paint_lobulated(canvas: Canvas, region: Region) -> None:
    """Clefts of fat, more in the old and the heavy."""
    cleft = sheets(canvas.rng, region.mask.shape, 9, 0.5, canvas.spacing_mm)
    canvas.pull(region, cleft * np.float32(0.15 + 0.6 * canvas.patient.marbling), _FAT_HU)


def paint_heart(canvas: Canvas, region: Region) -> None:
    """Chambers of blood in a wall of muscle, with fat in the grooves."""
    inside = canvas.inside_mm(region)
    wall_mm = canvas.rng.uniform(5, 10) + 4 * canvas.noise(region, 30)
    septum = sheets(canvas.rng, region.mask.shape, 70, 2.8, canvas.spacing_mm)
    wall = np.maximum(np.clip((wall_mm - inside) / 4 + 0.5, 0, 1), septum)
    canvas.pull(region, wall, canvas.patient.mean_hu("heart_myocardium"))
    groove = np.clip(canvas.noise(region, 14) - 0.8, 0, 1) * np.clip((6 - inside) / 4, 0, 1)
    canvas.pull(region, groove, _FAT_HU)


def paint_artery(canvas: Canvas, region: Region) -> None:
    """Plaques in the wall of patients that have them."""
    if canvas.patient.plaque > 0:
        spots = np.clip(2 * (canvas.noise(region, 6) - 2.2 + 1.1 * canvas.patient.plaque), 0, 1)
        canvas.pull(region, spots * canvas.edge[region.box], float(canvas.rng.uniform(350, 900)))


def paint_muscle(canvas: Canvas, region: Region) -> None:
    """Streaks of fat along the body, and thinner fibers where it is fatty."""
    marbling = canvas.patient.marbling
    sx, sy, sz = canvas.spacing_mm
    # Muscles of the trunk run up and down: the texture is stretched along z.
    for mesh, radius, strength in ((20, 0.6, 0.5 + 0.4 * marbling), (9, 0.45, 0.1 + 0.5 * marbling)):
        streak = sheets(canvas.rng, region.mask.shape, mesh, radius, (sx, sy, sz / 3))
        canvas.pull(region, np.float32(strength) * streak, _FAT_HU)
    canvas.add(region, np.float32(-12 * marbling) * np.abs(canvas.noise(region, 30)))


def paint_fat(canvas: Canvas, region: Region) -> None:
    """Septa everywhere; vessels and folds in the belly, where fat is never empty."""
    rng = canvas.rng
    deep = np.clip((canvas.depth_mm[region.box] - 18) / 20, 0, 1)
    septa = sheets(rng, region.mask.shape, 24, 0.35, canvas.spacing_mm)
    canvas.add(region, septa * (12 + 25 * deep))
    canvas.add(region, deep * np.clip(6 + 8 * canvas.noise(region, 18), -6, 26))
    blood = canvas.patient.mean_hu("vessel")
    for mesh, radius in ((18, 1.9), (10, 0.9)):
        branch = tubes(rng, region.mask.shape, mesh, radius, canvas.spacing_mm)
        canvas.pull(region, np.float32(rng.uniform(0.5, 1)) * branch * (0.06 + deep), blood)


def paint_texture(canvas: Canvas) -> None:
    """Add the clouds of every tissue over the whole volume: one field for each correlation length in use."""
    label_map = canvas.label_map
    counts = np.bincount(label_map.values.ravel(), minlength=1)
    fields: dict[float, Floats] = {}
    for value in np.flatnonzero(counts).tolist():
        if value:
            amplitude, correlation_mm = find_tissue(label_map.names.get(value, "")).texture
            table = fields.setdefault(correlation_mm, np.zeros(len(counts), dtype=np.float32))
            table[value] = amplitude * canvas.rng.lognormal(0, 0.25 * min(canvas.patient.variety, 2))
    for correlation_mm, table in sorted(fields.items()):
        canvas.hu += table[label_map.values] * smooth_noise(
            canvas.rng, label_map.values.shape, correlation_mm, canvas.spacing_mm
        )
