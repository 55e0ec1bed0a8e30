"""The organs of belly and pelvis. Heights and places are body mm, see `frame`.

The first to be drawn keeps its place: an organ is only painted where there is fat, so small and firm ones
come before large and soft ones, and the small bowel takes what is left.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from voxicon.synthesis.phantom.bones import SIDES, mirrored
from voxicon.synthesis.phantom.frame import FAT, Scene, spine_y
from voxicon.synthesis.phantom.shapes import (
    Floats,
    Solid,
    boundless,
    cloud,
    ellipsoid,
    grown,
    join,
    meet,
    path,
    tube,
    volume_ml,
    wavy,
    without,
)
from voxicon.synthesis.phantom.vessels import turned

Surface = Callable[[Floats, Floats], Floats]
"""z at x and y."""

_WITHOUT_GALLBLADDER = 0.06
"""Share of patients whose gallbladder was taken out. Own choice: fewer than in a hospital, so that it is learned."""

_KEPT = "metal"
"""Stands for fat that no organ may fill, while the body is drawn; a body has no metal of its own."""


def draw_organs(scene: Scene) -> None:
    """All organs below the diaphragm."""
    push = 20 * (scene.plan.obesity - 0.3)
    kidneys = _draw_kidneys(scene)
    _draw_adrenals(scene)
    _draw_pelvis(scene)
    liver, floor = _liver(scene, kidneys[0])
    if scene.rng.random() > _WITHOUT_GALLBLADDER:
        _draw_gallbladder(scene, floor)
    _draw_pancreas(scene)
    _draw_liver_part(scene, liver)
    _draw_spleen(scene, kidneys)
    _draw_colon(scene, push)
    _draw_stomach(scene)
    _draw_liver(scene, liver)
    _draw_small_bowel(scene, push)
    values, ids = scene.canvas.values, scene.canvas.ids
    values[values == ids[_KEPT]] = ids["fat"]


def _draw_kidneys(scene: Scene) -> list[Solid]:
    canvas, rng, plan = scene.canvas, scene.rng, scene.plan
    kidneys = []
    size = scene.scale(0.05)
    for name, side in SIDES:
        low = -34.0 if side > 0 else -24.0
        center = np.array([side * (66 + 10 * plan.obesity), 0 + 6 * plan.obesity, low]) + scene.shift(5)
        # Upper poles lean to the spine and back; the hilum looks inward and forward.
        turn = turned((-0.25 * side, -0.3, 1.0), (-side, 0.6, 0))
        own = size * scene.scale(0.03)
        body = ellipsoid(center, np.array([54, 29, 26]) * own, turn)
        hilum = center + turn[:, 1] * 17 * own
        sinus = ellipsoid(hilum, np.array([24, 15, 9]) * own * rng.uniform(0.8, 1.2), turn)
        kidney = wavy(without(body, sinus), rng, 1.5, 30)
        canvas.paint(_KEPT, meet(grown(body, 3 + 14 * plan.obesity * rng.random()), plan.in_cavity(1)), over=FAT)
        canvas.paint(f"kidney_{name}", kidney, over=(*FAT, _KEPT, "muscle"))
        pelvis = ellipsoid(hilum, np.array([10, 9, 5]) * rng.uniform(0.6, 1.2), turn)
        canvas.paint("soft_tissue", pelvis, over=(_KEPT,))
        start = (19, spine_y(low) + 28) if side > 0 else (-6, spine_y(low) + 38)
        vein = [(*start, low + 6, 5), (side * 32, 24, low + 4, 4.5), (*hilum, 3.5)]
        canvas.paint("vessel", tube(vein), over=(*FAT, _KEPT))
        kidneys.append(body)
    return kidneys


def _draw_adrenals(scene: Scene) -> None:
    for name, side in SIDES:
        x, y, z = np.array([36.0, 18, 19] if side > 0 else [-37.0, 22, 18]) + scene.shift(1.5)
        thick = 3.3 * scene.scale(0.12)
        ridge = ellipsoid((x, y + 4, z), (thick + 0.8, 8, 13))
        inner = ellipsoid(
            (x - side * 3, y - 7, z - 1), (thick, 12, 13), turned((1, -0.35 * side, 0), (0.35 * side, 1, 0))
        )
        outer = ellipsoid(
            (x + side * 5, y - 6, z - 4), (thick, 12, 11), turned((1, 0.45 * side, 0), (-0.45 * side, 1, 0))
        )
        scene.canvas.paint(f"adrenal_gland_{name}", join(ridge, inner, outer), over=(*FAT, _KEPT, "muscle", "vessel"))
        scene.canvas.paint(_KEPT, grown(join(ridge, inner, outer), 3), over=FAT)


def _draw_pelvis(scene: Scene) -> None:
    canvas, rng, plan = scene.canvas, scene.rng, scene.plan
    full = rng.uniform(0.75, 1.3)
    tall = 34 * full
    floor = -288.0 if plan.female else -280.0
    bladder = ellipsoid((rng.normal(0, 4), 34 + 6 * full, floor + tall), (40 * full, 33 * full, tall))
    over = (*FAT, "muscle")
    rectum = [
        (-6, -14, -186, 14),
        (4, -30, -200, 15),
        (4, -38, -222, 17),
        (0, -38, -248, 18),
        (0, -28, -278, 13),
        (0, -26, -305, 11),
    ]
    way = scene.knots(rectum, 2)
    if plan.female:
        lean = rng.normal(0, 10)
        womb = wavy(ellipsoid((lean, 2 - 6 * full, -236), np.array([24, 19, 32]) * scene.scale(0.12),
                              turned((1, 0, 0), (0, 1, rng.uniform(-0.6, 0.4)))), rng, 2, 30)  # fmt: skip
        neck = tube([(lean, -4, -262, 13), (0, -2, -285, 11), (0, 6, -315, 10)])
        canvas.paint("urinary_bladder", without(wavy(bladder, rng, 2, 50), womb), over=over)
        canvas.paint("soft_tissue", join(womb, neck), over=over)
        for side in (1.0, -1.0):
            canvas.paint("soft_tissue", ellipsoid((side * 42 + lean, 8, -226), (14, 10, 9)), over=over)
    else:
        size = scene.scale(0.12)
        gland = ellipsoid((0, 20, floor - 10 * size), np.array([25, 17, 18]) * size)
        canvas.paint("prostate", wavy(gland, rng, 1, 20), over=over)
        for side in (1.0, -1.0):
            canvas.paint("soft_tissue", ellipsoid((side * 20, 2, floor + 8), (18, 6, 8)), over=over)
        canvas.paint("soft_tissue", tube([(0, 30, -312, 10), (0, 10, -322, 10), (0, -5, -312, 8)]), over=over)
        canvas.paint("urinary_bladder", wavy(bladder, rng, 2, 50), over=over)
    canvas.paint("colon", wavy(tube(way, scene.scale(0.15)), rng, 2, 30), over=over)
    for side in (1.0, -1.0):
        canvas.paint("muscle", _levator(side), over=FAT)


def _levator(side: float) -> Solid:
    rows = [(62, 10, -272, 4), (40, 0, -288, 4), (16, -12, -304, 5)]
    back = [(50, -30, -262, 4), (30, -38, -282, 4), (14, -32, -302, 5)]
    return join(tube(mirrored(rows, side)), tube(mirrored(back, side)))


def _draw_floor(rng: np.random.Generator) -> Surface:
    """The lower surface of a liver: z at x, y."""
    tip = -62 + 17 * np.clip(rng.normal(), -2, 1.6)
    tongue = np.clip(rng.normal(), -2, 2) * 10

    def floor(x: Floats, y: Floats) -> Floats:
        z = np.interp(x, (-110, -70, -30, 0, 22, 60, 95, 125), (84, 58, 30, 10, 2, 0.4 * tip - 6, 0.8 * tip, tip))
        # The lower edge is in front; behind, the kidney and the stomach push the surface up.
        front = np.interp(y, (-40, 30, 70, 110), (0, 16, 4, -22)) * np.interp(x, (-60, 0, 60, 110), (1, 1, 0.8, 0.2))
        value: Floats = (z + front + tongue * np.interp(x, (60, 120), (0, 0.6))).astype(np.float32)
        return value

    return floor


def _liver(scene: Scene, kidney: Solid) -> tuple[Solid, Surface]:
    """A liver that fills the right dome, and its lower surface, raised until the liver has a drawn volume."""
    rng, plan = scene.rng, scene.plan
    floor = _draw_floor(rng)
    left = -rng.uniform(45, 105)
    gap = 2 + 12 * plan.obesity * rng.random()
    wanted_ml = 1800 * scene.scale(0.16)
    kidney = grown(kidney, 6)

    def behind(x: Floats, y: Floats, z: Floats) -> Floats:
        limit = np.interp(x, (-90, -40, -5, 10, 22, 34, 48), (64, 54, 42, 34, 18, -14, -90))
        value: Floats = ((limit - y) * 0.7).astype(np.float32)
        return value

    def beside(x: Floats, y: Floats, z: Floats) -> Floats:
        value: Floats = ((left + np.abs(z - 55) * 0.2 - x) * 0.8).astype(np.float32)
        return value

    def ahead(x: Floats, y: Floats, z: Floats) -> Floats:
        # In the obese the front wall moves away from the liver, which does not grow with the belly.
        value: Floats = (y - np.interp(z, (-60, 40, 90), (112, 118, 112))).astype(np.float32)
        return value

    def lifted(by_mm: float) -> Surface:
        return lambda x, y: floor(x, y) + np.float32(by_mm)

    def above(surface: Surface) -> Solid:
        box = Solid((left - 15, -95, -130), (145, 125, 130), lambda x, y, z: (surface(x, y) - z) * np.float32(0.75))
        rest = meet(box, boundless(behind), boundless(beside), boundless(ahead), round_mm=10)
        shell = meet(plan.below_diaphragm(2.5), plan.in_cavity(gap), round_mm=3)
        return meet(shell, rest, round_mm=7)

    low, high = -38.0, 50.0
    for _ in range(6):
        middle = (low + high) / 2
        low, high = (middle, high) if volume_ml(without(above(lifted(middle)), kidney)) > wanted_ml else (low, middle)
    surface = lifted((low + high) / 2)
    notch = ellipsoid((8, 108, -2), (4, 28, 34))
    porta = ellipsoid((24, 44, 14), (15, 12, 9))
    return without(wavy(above(surface), rng, 1.5, 60), notch, porta), surface


def _draw_liver_part(scene: Scene, liver: Solid) -> None:
    # The right half of the liver comes before the stomach, the left half takes what the stomach leaves.
    canvas = scene.canvas
    right = meet(liver, boundless(lambda x, y, z: (12 - x + 0.3 * (60 - y)).astype(np.float32)))
    canvas.paint("liver", right, over=FAT)


def _draw_liver(scene: Scene, liver: Solid) -> None:
    canvas = scene.canvas
    canvas.paint("liver", liver, over=FAT)
    top = np.array([24, 32, 74]) + scene.shift(2)
    gate = np.array([32, 44, 22])
    tree = [
        [(*top, 6), (58, 28, 66, 5), (92, 22, 45, 3.5), (112, 14, 20, 2)],
        [(*top, 6), (40, 55, 66, 5), (58, 78, 45, 3.5), (66, 92, 20, 2)],
        [(*top, 6), (0, 55, 70, 4.5), (-26, 72, 60, 3), (-48, 82, 52, 2)],
        [(*gate, 6), (56, 40, 26, 5.5), (84, 30, 30, 4), (108, 20, 40, 2)],
        [(56, 40, 26, 5), (78, 62, 30, 3.5), (98, 78, 36, 2)],
        [(56, 40, 26, 5), (78, 28, 8, 3.5), (98, 18, -14, 2)],
        [(78, 62, 30, 3), (84, 76, 10, 2.5), (88, 84, -8, 1.8)],
        [(*gate, 5), (10, 58, 38, 5), (-4, 80, 40, 4), (-6, 100, 36, 2.5)],
        [(-4, 80, 40, 3.5), (-26, 84, 46, 2.5), (-46, 88, 54, 1.8)],
    ]
    for rows in tree:
        canvas.paint("hepatic_vessel", tube(scene.knots(rows, 2.5)), over=("liver",))


def _draw_gallbladder(scene: Scene, floor: Surface) -> None:
    rng = scene.rng
    x, y = 54 + rng.normal(0, 6), 66 + rng.normal(0, 5)
    z = float(floor(np.array([x]), np.array([y]))[0])
    size = rng.uniform(0.75, 1.2)
    rows = [(x - 14, y - 22, z + 12, 5 * size), (x - 4, y - 4, z + 3, 12 * size), (x + 4, y + 16, z - 10, 14.5 * size),
            (x + 6, y + 24, z - 16, 11 * size)]  # fmt: skip
    scene.canvas.paint("gallbladder", tube(rows), over=FAT)


def _draw_pancreas(scene: Scene) -> None:
    rng = scene.rng
    size = scene.scale(0.1) * 1.05
    move = scene.shift(3)
    head = np.array([(30, 50, -44, 12), (30, 54, -28, 16), (20, 58, -14, 12), (4, 60, -6, 9.5), (-18, 58, 2, 10.5),
                     (-42, 44, 8, 11.5), (-64, 24, 12, 11), (-80, 8, 18, 9)])  # fmt: skip
    head[:, :3] += move
    head[4:, 2] += rng.normal(0, 6)
    bulb = rng.normal(0, 3)
    gut = np.array([(24, 82, 2, 12), (40, 72, 4 + bulb, 14), (52, 58, -12, 13), (55, 48, -38, 13),
                    (51, 46, -64, 13), (34, 52, -80, 13), (8, 60, -80, 11), (-18, 61, -70, 11),
                    (-32, 58, -52, 12), (-36, 66, -42, 12)])  # fmt: skip
    gut[:, :3] += move
    gland = wavy(tube(head, size), rng, 2, 13)
    duodenum = wavy(tube(scene.knots(gut, 1.5), scene.scale(0.1)), rng, 1.5, 20)
    scene.canvas.paint("pancreas", gland, over=(*FAT, _KEPT))
    scene.canvas.paint("duodenum", duodenum, over=(*FAT, _KEPT))
    scene.canvas.paint(_KEPT, grown(join(gland, duodenum), 1.5), over=FAT)


def _draw_spleen(scene: Scene, kidneys: list[Solid]) -> None:
    plan = scene.plan
    wanted_ml = 220 * scene.scale(0.25)
    center = np.array([-98.0, -21, 30 + 0.5 * (plan.dome_mm[0] - 68)]) + scene.shift(4)
    turn = turned((-0.2, 0.68, -0.6), (-0.9, -0.5, 0))
    room = meet(plan.in_cavity(3), plan.below_diaphragm(3), round_mm=6)
    kidney = grown(kidneys[1], 4)

    def sized(size: float) -> Solid:
        body = ellipsoid(center, np.array([70, 46, 42]) * size, turn)
        hollow = ellipsoid(center + np.array([46, 22, 0]) * size, np.array([42, 40, 50]))
        return meet(without(body, hollow, kidney), room, round_mm=6)

    low, high = 0.75, 1.6
    for _ in range(5):
        middle = (low + high) / 2
        low, high = (low, middle) if volume_ml(sized(middle)) > wanted_ml else (middle, high)
    scene.canvas.paint("spleen", wavy(sized((low + high) / 2), scene.rng, 2, 40), over=(*FAT, _KEPT))


def _draw_stomach(scene: Scene) -> None:
    plan, rng = scene.plan, scene.rng
    full = rng.uniform(0.72, 1.1)
    sag = rng.normal(0, 8)
    rows = np.array([(-52, 8, 62, 30), (-54, 26, 48, 36), (-54, 52, 28, 36), (-46, 76, 4 + sag, 30),
                     (-22, 90, -20 + sag, 25), (4, 92, -18 + sag / 2, 19), (22, 84, -4, 12)])  # fmt: skip
    rows[:, 3] *= full * np.array([1, 1, scene.scale(0.1), scene.scale(0.12), scene.scale(0.12), 1, 1])
    rows[:, :3] += scene.shift(3)
    gullet = tube([(-17, 36, 60, 9), (-28, 32, 52, 10), (-40, 30, 48, 14)])
    fundus = ellipsoid((-54, 14, plan.dome_mm[0] - 44), np.array([40, 46, 44]) * min(full * 1.05, 1.05))
    solid = meet(join(tube(rows), fundus, gullet), plan.below_diaphragm(3), plan.in_cavity(5), round_mm=6)
    scene.canvas.paint("stomach", wavy(solid, rng, 2.5, 45), over=(*FAT, _KEPT))


def _draw_colon(scene: Scene, push: float) -> None:
    plan, rng = scene.plan, scene.rng
    sag = rng.uniform(0, 1) ** 1.5 * 70
    front = plan.cavity.front(-60) - 26
    wide = plan.cavity.width(-60)
    (y1, y2), (z1, z2) = rng.normal((54, 36), 8), rng.normal((-180, -176), 15)
    rows = [(72, 58 + push, -174, 18), (86, 50 + push / 2, -158, 26), (92, 30, -130, 26), (94, 16, -95, 24),
            (96, 14, -66, 23), (90, 36, -52, 22), (72, front - 20, -58 - sag / 4, 22), (36, front - 4, -66 - sag, 21),
            (0, front, -64 - sag * 1.1, 20), (-40, front - 4, -56 - sag, 20), (-72, front - 22, -36 - sag / 3, 20),
            (-90, 58, -4, 20), (-104, 46, -6, 19), (-112, 22, -26, 16), (-108, 7, -50, 15), (-106, 16, -90, 15),
            (-101, 40, -128, 15), (-90, 58, -162, 15), (-66, 66, -188, 16), (-34, y1, z1, 16), (2, y2, z2, 16),
            (24, 16, -194, 16), (8, -6, -196, 15), (-6, -14, -186, 14)]  # fmt: skip
    knots = scene.knots(rows, 4)
    knots[:, 0] *= np.interp(knots[:, 2], (-180, -60), (1, wide / 129))
    way = path(knots)
    along = np.arange(len(way)) * 2.0
    haustra = 1 + 0.13 * np.sin(2 * np.pi * along / rng.uniform(26, 40))
    bulk = scene.scale(0.12) * np.exp(0.15 * np.sin(along / 90 + rng.uniform(0, 6)))
    solid = meet(cloud(way[:, :3], way[:, 3] * haustra * bulk), plan.in_cavity(2), plan.below_diaphragm(4), round_mm=4)
    scene.canvas.paint("colon", wavy(solid, rng, 2, 28), over=(*FAT, _KEPT, "spleen", "liver"))


def _draw_small_bowel(scene: Scene, push: float) -> None:
    plan, rng = scene.plan, scene.rng
    front = plan.cavity.front(-100) - 16
    step = rng.uniform(25, 31)
    axes = [np.arange(low, high, step) for low, high in ((-88.0, 84.0), (36 + push / 2, front), (-228.0, -48.0))]
    seats = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
    seats += rng.normal(0, 5, seats.shape)
    # Loops hang round the root of the mesentery, which runs obliquely before the spine and stays free.
    root = np.hypot(seats[:, 0] + 0.3 * (seats[:, 2] + 100), (seats[:, 1] - 48) / 0.8)
    low = np.interp(seats[:, 2], (-230, -170, -110), (40, 70, 120))
    keep = (root > 26) & (np.abs(seats[:, 0]) < low) & (rng.random(len(seats)) < rng.uniform(0.55, 0.95))
    way = path(_tour(seats[keep], rng), 3)
    along = np.arange(len(way)) * 3.0
    radius = rng.uniform(9.5, 12.5) * np.exp(0.22 * np.sin(along / 70 + rng.uniform(0, 6)) + 0.1 * np.sin(along / 17))
    solid = meet(cloud(way, radius), plan.in_cavity(4), plan.below_diaphragm(8), round_mm=3)
    scene.canvas.paint("small_bowel", wavy(solid, rng, 1.5, 20), over=FAT)


def _tour(seats: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    """All seats in an order whose steps are short: always on to the nearest one left, from the upper left."""
    left = list(range(len(seats)))
    order = [left.pop(int(np.argmin(np.linalg.norm(seats - (-40, 60, -50), axis=1))))]
    while left:
        distance = np.linalg.norm((seats[left] - seats[order[-1]]) * (1, 1, 1.3), axis=1)
        order.append(left.pop(int(np.argmin(distance * rng.uniform(0.9, 1.2, len(left))))))
    return seats[order]
