"""What carries a body: skin, fat, muscles and bones. Heights and places are body mm, see `frame`."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from voxicon.synthesis.label_map import OUTSIDE
from voxicon.synthesis.phantom.frame import LEVELS_MM, Outline, Scene, spine_y, spine_y_at
from voxicon.synthesis.phantom.shapes import (
    EVERYWHERE_MM,
    Floats,
    Knots,
    Solid,
    boundless,
    cloud,
    ellipsoid,
    evaluated,
    join,
    meet,
    path,
    sheet,
    slab,
    smooth_max,
    smooth_noise,
    tube,
    wavy,
    without,
)

SIDES = (("right", 1.0), ("left", -1.0))

_FIRST_RIB = LEVELS_MM["T1"]
_RIB_DROP_MM = (38, 58, 74, 86, 96, 102, 104, 103, 98, 88, 66, 36)
_RIB_END = (2.45, 2.4, 2.42, 2.42, 2.4, 2.32, 2.2, 2.02, 1.85, 1.68, 1.35, 0.8)
"""Angle round the chest, 0 behind and pi in front, at which the bone of each rib ends."""

_STERNUM = Outline(np.array([(85, 3, 0, 0), (105, 9, 0, 0), (120, 17, 0, 0), (185, 14, 0, 0), (200, 24, 0, 0),
                             (232, 28, 0, 0)], dtype=np.float32))  # fmt: skip


def mirrored(rows: ArrayLike, side: float) -> NDArray[np.float64]:
    """Knots given for the right side, on either side."""
    knots = np.array(rows, dtype=np.float64)
    knots[:, 0] *= side
    return knots


def draw_wall(scene: Scene) -> None:
    """Fill the outlines: skin, fat under it, the muscles of the trunk, fat in its cavities."""
    canvas, plan, rng = scene.canvas, scene.plan, scene.rng
    x, y, z = canvas.where
    limbs = _limbs(scene)
    skin = evaluated(plan.skin.field, canvas.where)
    _part_legs(skin, x, z)
    core = evaluated(plan.core.field, canvas.where)
    limb = np.full_like(core, EVERYWHERE_MM)
    for solid, fat_mm in limbs:
        found = canvas.near(solid)
        if found is not None:
            box, where = found
            distance = evaluated(solid.field, where)
            skin[box] = -smooth_max(-skin[box], fat_mm - distance, 40.0)
            limb[box] = np.minimum(limb[box], distance)
    values, ids = canvas.values, canvas.ids
    thickness = max(1.8, 0.9 * canvas.spacing_mm)
    values[skin < 0] = ids["skin"]
    values[skin < -thickness] = ids["fat"]
    streaks = smooth_noise(rng, values.shape, canvas.spacing_mm, 22)
    cavity = evaluated(plan.wall, canvas.where)
    # Toward the pelvis the trunk is no ring of muscle: gluteal and thigh muscles are drawn into fat instead.
    # Elsewhere it is a layer on cavity and ribs, thickest in the shoulder girdle; fat beyond.
    thick = np.interp(z, (-60, 10, 120, 190, 230), (14, 18, 20, 34, 60)).astype(np.float32) * rng.uniform(0.85, 1.15)
    thick += 3 * streaks
    ring = np.interp(z, (-165, -115), (0, 1)) + np.where((y > 60) & (core > -9), 1, 0)
    muscle = (core < 0) & (ring > 0.5 + 0.12 * streaks) & (cavity < thick)
    muscle = (muscle | (limb < 0)) & (skin < -thickness - 1)
    values[muscle & (streaks < 1.6 - 0.6 * plan.obesity)] = ids["muscle"]
    values[(cavity < 0) & (core < -4)] = ids["fat"]
    if plan.female:
        _draw_breasts(scene)


def draw_skin(scene: Scene) -> None:
    """Close the skin where the warp has made it thinner than a voxel; not at the cuts of the view."""
    values, ids = scene.canvas.values, scene.canvas.ids
    patient = values != OUTSIDE
    values[patient & ~ndimage.binary_erosion(patient, border_value=1)] = ids["skin"]


def _part_legs(skin: Floats, x: Floats, z: Floats) -> None:
    gap = (-318 - z) * 0.35 - np.abs(x)
    np.maximum(skin, gap, out=skin, where=gap > -20)


def _limbs(scene: Scene) -> list[tuple[Solid, float]]:
    """Shoulders and, when they are down, arms; each with the thickness of its fat."""
    plan, fat = scene.plan, scene.plan.fat_mm[0]
    limbs = []
    for _, side in SIDES:
        up = 0 if plan.arms_down else 1
        rows: Knots = [(60, 5, 235, 30), (105, -2, 238, 42), (138 + 12 * (1 - up), 0, 245 + 12 * up, 46)]
        rows = [*rows, *([(150, 12, 330, 40)] if up else [(178, 0, 170, 42), (185, 0, 60, 38)])]
        limbs.append((tube(mirrored(rows, side)), 3 + 0.3 * fat))
        if not up:
            reach = plan.skin.width(-110) + 45
            rows = [(185, 0, 80, 38), (reach, -5, -40, 38), (reach + 8, 15, -180, 30), (reach + 4, 30, -300, 26)]
            limbs.append((tube(mirrored(rows, side)), 2 + 0.2 * fat))
    return limbs


def _draw_breasts(scene: Scene) -> None:
    canvas, plan, rng = scene.canvas, scene.plan, scene.rng
    size = rng.uniform(0.5, 1.2) + 0.5 * plan.obesity
    for _, side in SIDES:
        at = np.array((side * 70, plan.skin.front(115) - 22, 112))
        wide = 50 * size**0.5
        outer = ellipsoid(at, (wide, 30 + 16 * size, wide))
        canvas.paint("skin", outer, over=("skin",), outside=True)
        edge = max(2.0, 0.9 * canvas.spacing_mm)
        inner = ellipsoid(at, (wide - edge, 30 + 16 * size - edge, wide - edge))
        canvas.paint("fat", inner, over=("skin", "fat"))
        gland = wavy(ellipsoid(at + np.array([0, 16, 0]), (24 * size**0.5, 14, 24 * size**0.5)), rng, 5, 25)
        canvas.paint("soft_tissue", meet(gland, inner), over=("fat",))


def draw_muscles(scene: Scene) -> None:
    """The muscles that have a name, the diaphragm, and those of back and thigh that have none."""
    canvas, plan, rng = scene.canvas, scene.plan, scene.rng
    bulk = plan.bulk
    for name, side in SIDES:
        thigh = mirrored([(70, 8, -262, 22), (82, 2, -300, 58), (88, -4, -350, 68)], side)
        inside = boundless(lambda x, y, z: plan.core.field(x, y, z) + 4)
        canvas.paint("muscle", wavy(meet(tube(thigh, bulk), inside), rng, 5, 25), over=("fat",))
        obturator = [(70, 45, -285, 12), (45, 20, -290, 12), (62, -10, -275, 10)]
        canvas.paint("muscle", tube(mirrored(obturator, side)), over=("fat",))
        canvas.paint(f"autochthon_{name}", plan.back(side), over=("fat", "muscle"))
        square = [(60, -22, 10, 7), (66, -22, -40, 12), (74, -20, -95, 13)]
        canvas.paint("muscle", tube(mirrored(square, side), bulk), over=("fat",))
        psoas = [(24, 4, 8, 6), (30, 6, -33, 13), (38, 12, -75, 18), (50, 16, -120, 21), (64, 26, -170, 20),
                 (74, 40, -220, 18), (84, 40, -250, 17), (92, 15, -300, 14)]  # fmt: skip
        iliacus = sheet(
            mirrored([(62, -25, -135), (98, 0, -128), (108, 38, -165)], side),
            mirrored([(66, 14, -215), (76, 28, -225), (86, 44, -235)], side),
            9 * bulk,
        )
        hip_flexor = join(tube(mirrored(psoas, side), bulk * scene.scale(0.08)), iliacus)
        canvas.paint(f"iliopsoas_{name}", hip_flexor, over=("fat", "muscle"))
        _draw_glutei(scene, name, side, bulk)
    thickness = max(2.5, 0.7 * canvas.spacing_mm)
    leaf = meet(plan.below_diaphragm(0), plan.in_cavity(0))
    leaf = without(slab(-15, 150, leaf.field), plan.below_diaphragm(thickness))
    canvas.paint("muscle", leaf, over=("fat",))
    for side, end in ((1.0, -67.0), (-1.0, -33.0)):
        crus = [(side * 8, spine_y(z) + 18 + 10 * (z > 30), z, 5) for z in np.linspace(60, end, 5)]
        canvas.paint("muscle", tube(crus), over=("fat",))


def _draw_glutei(scene: Scene, name: str, side: float, bulk: float) -> None:
    canvas, skin = scene.canvas, ("fat", "muscle")
    largest = sheet(
        mirrored([(44, -70, -160), (26, -74, -200), (18, -66, -245), (28, -50, -262)], side),
        mirrored([(128, -25, -225), (142, -22, -262), (132, -22, -310), (112, -18, -345)], side),
        15 * bulk,
        bulge=(0, -22, 0),
    )
    middle = sheet(
        mirrored([(84, -40, -140), (122, -5, -118), (134, 32, -140), (128, 52, -170)], side),
        mirrored([(124, -28, -230), (138, -12, -245), (142, 5, -250), (134, 22, -245)], side),
        10 * bulk,
        bulge=(12 * side, -4, 0),
    )
    smallest = sheet(
        mirrored([(104, -12, -165), (118, 20, -172), (118, 42, -185)], side),
        mirrored([(118, -8, -235), (126, 8, -245), (120, 26, -242)], side),
        7 * bulk,
    )
    for muscle, solid in (("maximus", largest), ("medius", middle), ("minimus", smallest)):
        canvas.paint(f"gluteus_{muscle}_{name}", solid, over=skin)


def draw_bones(scene: Scene) -> None:
    """Spine, chest, pelvis and what of the limbs is in view."""
    _draw_hips(scene)
    _draw_sacrum(scene)
    _draw_chest(scene)
    _draw_spine(scene)
    _draw_shoulders(scene)


def _draw_spine(scene: Scene) -> None:
    canvas = scene.canvas
    names = list(LEVELS_MM)
    heights = np.array([LEVELS_MM[name] for name in names], dtype=np.float64)
    column = path([(0, spine_y(z), z, 0) for z in np.linspace(312, -160, 24)])
    radii = np.interp(column[:, 2], (-160, -60, 30, 140, 300), (16, 16, 14, 11.5, 8))
    canvas.paint("soft_tissue", cloud(column[:, :3], radii))
    for i, name in enumerate(names):
        above = heights[i - 1] if i else heights[0] + 16
        below = heights[i + 1] if i + 1 < len(names) else heights[i] - 28
        solid = _vertebra(scene, heights[i], above, below)
        canvas.paint(f"vertebrae_{name}", solid)
    canal = path([(0, spine_y(z) - _canal(z), z, 7.5) for z in np.linspace(340, -165, 24)])
    canvas.paint("spinal_cord", cloud(canal[:, :3], scene.rng.uniform(6, 7.5)))


def _canal(z: float) -> float:
    return float(np.interp(z, (-136, 0, 140, 300), (25, 24, 20, 16)))


def _vertebra(scene: Scene, z: float, above: float, below: float) -> Solid:
    rng = scene.rng
    size = float(np.interp(z, (-136, -33, 30, 140, 300), (26.5, 24.5, 21.5, 17, 14))) * scene.scale(0.04)
    y = spine_y(z)
    gap = np.interp(z, (-136, 30, 200), (5.0, 3.2, 2.5)) * rng.uniform(0.8, 1.2)
    top, bottom = (above - z) / 2 - gap, (z - below) / 2 - gap
    slope = np.float32((spine_y(z + 10) - spine_y(z - 10)) / 20)

    def body(x: Floats, yy: Floats, zz: Floats) -> Floats:
        dz = zz - z - slope * (yy - y) * -1
        dy = yy - y - slope * dz
        waist = np.float32(size) * (1 - 0.12 * np.cos(dz / ((top + bottom) / 3)))
        round_ = np.hypot(x, dy / 0.76) - waist
        value: Floats = np.maximum(round_, np.maximum(dz - top, -dz - bottom)).astype(np.float32)
        return value

    back = y - _canal(z)
    trunk = Solid((-size - 4, y - size - 4, z - bottom - 8), (size + 4, y + size + 4, z + top + 8), body)
    lumbar = z < 15
    wing = 40 if lumbar else float(np.interp(z, (15, 60, 260), (26, 32, 36)))
    lift = -2 if lumbar else 4
    parts = [trunk]
    for side in (1.0, -1.0):
        parts.append(
            tube([(side * 13, y - 12, z + 6, 6), (side * 14, back - 2, z + 4, 6), (side * 9, back - 12, z - 5, 5.5)])
        )
        tip = back - (4 if lumbar else 14)
        parts.append(tube([(side * 14, back - 3, z + 3, 6), (side * wing, tip, z + lift, 4)]))
        parts.append(tube([(side * 16, back - 9, z + 12, 6), (side * 15, back - 10, z - 12, 6)]))
        parts.append(tube([(side * 9, back - 12, z - 5, 4.5), (0, back - 17, z - 7, 4)]))
    length = 34 if lumbar else 30
    fall = -6 if lumbar else float(np.interp(z, (15, 60, 200, 262), (-8, -22, -26, -10)))
    spread = 9 if lumbar else 4
    rows = [(0, back - 14, z - 5, 3.5), (0, back - 14 - length * 0.8, z - 5 + fall, 3.5)]
    parts += [tube([(0, r[1], r[2] + dz, r[3]) for r in rows]) for dz in (-spread / 2, spread / 2)]
    return join(*parts)


def _draw_chest(scene: Scene) -> None:
    canvas, plan, rng = scene.canvas, scene.plan, scene.rng
    box = slab(-70, 285, lambda x, y, z: z)
    found = canvas.near(box)
    if found is None:
        return
    where = found[1]
    depth = evaluated(plan.wall, where)
    near = np.nonzero((depth > 0.5) & (depth < 12) & (where[2] < 280))
    x, y, z = (w[near] for w in where)
    depth = depth[near]
    target = canvas.values[found[0]]
    values = target[near]
    middle = np.interp(z, plan.cavity.rows[:, 0], plan.cavity.rows[:, 2:].sum(axis=1) / 2)
    scaled = (y - middle) / np.interp(z, (-60, 60, 200, 262), (0.93, 0.93, 0.8, 0.8))
    angle = np.arctan2(np.abs(x), -scaled)
    ripple = np.sin(3 * angle + rng.uniform(0, 6)) * 1.5
    slant = rng.normal(0, 6)
    for k in range(12):
        start, drop, end = _rib_start(k), _RIB_DROP_MM[k] + slant, _RIB_END[k] + rng.normal(0, 0.05)
        for name, side in SIDES:
            mine = x * side > 0
            height = start - drop * _rib_course(angle, k) + ripple
            tall = 5.5 if k else 4.5
            rib = mine & (np.abs(z - height) < tall) & (depth < 8) & (angle < end) & (np.abs(x) > 12)
            values[rib] = canvas.ids[f"rib_{name}_{k + 1}"]
            if k < 10:
                values[_cartilage(angle, z, end, start - drop * _rib_course(end, k), k) & mine & (depth < 9)] = (
                    canvas.ids["costal_cartilages"]
                )
    wide = np.interp(z, _STERNUM.rows[:, 0], _STERNUM.rows[:, 1], left=0, right=0)
    values[(np.abs(x) < wide) & (y > middle) & (depth > 0.5) & (depth < 11)] = canvas.ids["sternum"]
    target[near] = values


def _rib_start(k: int) -> float:
    return float(LEVELS_MM[f"T{k + 1}"]) + 8


def _rib_course(angle: Floats | float, k: int) -> Floats:
    """Share of a rib's drop reached at an angle: level behind, steep at the side, level again in front."""
    last = _RIB_END[k]
    u = np.clip(np.asarray(angle) / last, 0, 1)
    value: Floats = (0.25 * u + 0.75 * u * u * (3 - 2 * u)).astype(np.float32)
    return value


def _cartilage(angle: Floats, z: Floats, end: float, height: object, k: int) -> NDArray[np.bool_]:
    """From the end of a rib to the breastbone, the lower ones up along the arch."""
    attach = (228, 208, 186, 166, 146, 128, 112, 100, 80, 52)[k]
    front = (2.9, 2.95, 2.98, 3.0, 3.0, 3.02, 3.04, 2.95, 2.65, 2.25)[k]
    at = float(np.asarray(height))
    u = np.clip((angle - end) / (front - end), 0, 1)
    course = at + (attach - at) * u**1.6 - 8 * np.sin(np.pi * u) * (k > 4)
    inside: NDArray[np.bool_] = (angle >= end) & (angle <= front) & (np.abs(z - course) < 6)
    return inside


def _draw_shoulders(scene: Scene) -> None:
    canvas, plan = scene.canvas, scene.plan
    over = ("fat", "muscle")
    up = not plan.arms_down
    for name, side in SIDES:
        spread = 12 if up else 0
        blade = sheet(
            mirrored([(68 + spread, -76, 232), (70 + spread, -98, 180), (84 + spread, -106, 120)], side),
            mirrored([(118, -28, 238), (118, -52, 190), (92 + spread, -100, 122)], side),
            4.2,
            step_mm=3,
        )
        spine = tube(scene.knots(mirrored([(72, -86, 222, 4), (105, -60, 236, 5), (132, -25, 258, 6)], side), 1))
        socket = ellipsoid((side * 120, -20, 240), (8, 14, 17))
        canvas.paint(f"scapula_{name}", join(blade, spine, socket), over=over)
        collar = [(14, 74, 238, 8), (45, 80, 246, 6), (80, 55, 254, 6), (112, 10, 260, 6), (126, -8, 262, 6)]
        canvas.paint(f"clavicula_{name}", tube(scene.knots(mirrored(collar, side), 1.5)), over=over)
        reach = plan.skin.width(-110) + 45
        rows: Knots = [(146, -8, 248, 14), (150, 8, 300, 11), (150, 12, 345, 11)] if up else [
            (152, -12, 242, 14), (176, -2, 180, 11), (187, 0, 60, 10), (reach, -5, -40, 13)]  # fmt: skip
        head = ellipsoid((side * rows[0][0] - side * 4, rows[0][1], rows[0][2] + 4), (24, 23, 24))
        canvas.paint(f"humerus_{name}", join(head, tube(mirrored(rows, side))), over=over)
        if not up:
            for dy in (-9, 9):
                rows = [(reach, -5 + dy, -48, 8), (reach + 8, 15 + dy, -180, 6), (reach + 4, 30 + dy, -300, 8)]
                canvas.paint("bone", tube(mirrored(rows, side)), over=over)


def _draw_hips(scene: Scene) -> None:
    canvas, rng = scene.canvas, scene.rng
    female = scene.plan.female
    for name, side in SIDES:
        socket = np.array([side * (90 if female else 87), 12, -257]) + scene.shift(1.5)
        x, y, z = socket
        edge = [(42, -62, -168), (60, -52, -136), (95, -25, -113), (124, 12, -112), (132, 45, -138), (126, 62, -168)]
        crest = mirrored(edge, side)
        roof = [(-20, -24, 12), (-14, -16, 24), (-4, -4, 28), (4, 6, 26), (4, 14, 20), (0, 18, 14)]
        rim = socket + mirrored(roof, side)
        wing = sheet(crest, rim, 5.6, step_mm=3)
        ring = path(crest, 3)
        seat = [(x - side * 20, y - 22, z + 8, 16), (x - side * 24, y - 34, z - 30, 13), (side * 14, 48, z - 40, 8)]
        seat[2:2] = [(x - side * 30, y - 32, z - 58, 15), (x - side * 46, y - 5, z - 62, 7)]
        pubis = [(x - side * 14, y + 16, z, 12), (side * 45, 52, z - 8, 8), (side * 14, 64, z - 22, 10)]
        pubis.append((side * 11, 58, z - 36, 8))
        cup = ellipsoid(socket - (side * 6, 0, -2), (33, 31, 33))
        bone = join(wing, cloud(ring, 7), tube(seat, 1.1), tube(pubis, 1.1), cup)
        canvas.paint(f"hip_{name}", bone)
        canvas.paint("soft_tissue", ellipsoid(socket, (26.5, 26.5, 26.5)))
        neck = rng.uniform(-4, 4)
        open_ = [(x + side * 14, y - 3, z - 6, 28), (x + side * 32, y - 8, z - 14, 27)]
        canvas.paint("muscle", without(tube(open_), cloud(socket[None], 25)), over=(f"hip_{name}",))
        head = ellipsoid(socket, (23.5, 23.5, 23.5))
        shaft = [(x, y, z, 17), (x + side * 26, y - 8, z - 16 + neck, 15), (x + side * 42, y - 14, z - 34, 18),
                 (x + side * 36, y - 8, z - 70, 15), (x + side * 32, y - 4, z - 110, 14)]  # fmt: skip
        top = tube([(x + side * 44, y - 18, z - 36, 13), (x + side * 47, y - 22, z - 12, 10)])
        canvas.paint(f"femur_{name}", join(head, tube(shaft), top))


def _draw_sacrum(scene: Scene) -> None:
    rows = np.array([(-282, 6, 5), (-262, 9, 6), (-250, 20, 8), (-225, 32, 11), (-195, 42, 16), (-170, 52, 20),
                     (-145, 50, 17), (-138, 30, 11)])  # fmt: skip

    def field(x: Floats, y: Floats, z: Floats) -> Floats:
        width, depth = (np.interp(z, rows[:, 0], rows[:, i]) for i in (1, 2))
        # Hollow in front; the wings lie further back than the body, and the crest behind.
        v = (y - spine_y_at(z) + 10 * np.interp(z, (-250, -190), (0, 1)) + 10 * (x / 50) ** 2) / depth
        value: Floats = ((np.hypot(np.abs(x / width) ** 1.5, np.abs(v) ** 1.2) - 1) * 8).astype(np.float32)
        return value

    scene.canvas.paint("sacrum", wavy(slab(-280, -140, field), scene.rng, 2, 25))
