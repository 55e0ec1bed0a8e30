"""Heart, airways and vessels. Heights and places are body mm, see `frame`."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from voxicon.synthesis.phantom.bones import SIDES, mirrored
from voxicon.synthesis.phantom.frame import FAT, Scene, spine_y, spine_y_at
from voxicon.synthesis.phantom.shapes import (
    Knots,
    Solid,
    boundless,
    ellipsoid,
    evaluated,
    grown,
    join,
    meet,
    smooth_noise,
    tube,
    wavy,
)

LOBES = (
    "lung_upper_lobe_right",
    "lung_middle_lobe_right",
    "lung_lower_lobe_right",
    "lung_upper_lobe_left",
    "lung_lower_lobe_left",
)


def turned(long: ArrayLike, across: ArrayLike) -> NDArray[np.float64]:
    """Directions of an ellipsoid's axes: the first along `long`, the second near `across`."""
    first = np.asarray(long, dtype=np.float64) / np.linalg.norm(np.asarray(long))
    second = np.asarray(across, dtype=np.float64) - first * (first @ np.asarray(across))
    second /= np.linalg.norm(second)
    return np.stack([first, second, np.cross(first, second)], axis=1)


def draw_lungs(scene: Scene) -> None:
    """Both lungs with their lobes: the chest above the diaphragm, but for the slab between them."""
    canvas, plan, rng = scene.canvas, scene.plan, scene.rng
    x, y, z = canvas.where
    chest = (evaluated(plan.wall, canvas.where) < -1) & (evaluated(plan.diaphragm, canvas.where) > 1) & (z < 268)
    # Between the lungs: narrow behind the breastbone, wide at the roots and round the spine.
    ahead = y - spine_y_at(z)
    width = np.interp(ahead, (-40, -10, 12, 40, 80, 110, 140), (24, 23, 20, 24, 16, 7, 5))
    width += np.interp(z, (60, 120, 150, 185, 215, 240, 262), (-4, 6, 10, 0, 4, 14, 26)) * (ahead > -25)
    chest &= np.abs(x + 2) > width
    noise = smooth_noise(rng, x.shape, canvas.spacing_mm, 90) * 5
    oblique = z - (rng.normal(196, 9) - (y + 70) * rng.uniform(0.85, 1.05)) + noise
    level = z - rng.normal(140, 8) - 0.15 * (y - 60) + noise
    right = x > 0
    for name, part in zip(
        LOBES,
        (
            right & (oblique > 0) & (level > 0),
            right & (oblique > 0) & (level <= 0),
            right & (oblique <= 0),
            ~right & (oblique > 0),
            ~right & (oblique <= 0),
        ),
        strict=True,
    ):
        canvas.values[chest & part] = canvas.ids[name]


def draw_heart(scene: Scene) -> None:
    """The heart in its fat, with the left appendage."""
    canvas, rng = scene.canvas, scene.rng
    size = scene.scale(0.06) * (0.95 if scene.plan.female else 1.0)
    center = np.array([-26.0, 50, 114 + 0.4 * (scene.plan.dome_mm[1] - 60)]) + scene.shift(4)
    axis = np.array([-0.72, 0.42, -0.5]) + rng.normal(0, 0.08, 3)
    turn = turned(axis, (0.5, 0.8, 0))
    ventricles = ellipsoid(center, np.array([66, 48, 47]) * size, turn)
    atria = ellipsoid(center + np.array([28, -14, 18]) * size, np.array([38, 36, 42]) * size)
    heart = wavy(join(ventricles, atria), rng, 3, 50)
    over = (*LOBES, *FAT, "muscle")
    above = boundless(lambda x, y, z: -scene.plan.diaphragm(x, y, z) + 3)
    inside = scene.plan.in_cavity(4)
    canvas.paint("fat", meet(grown(heart, rng.uniform(3, 8)), above, inside), over=over)
    cape = ellipsoid(center + np.array([-48, 20, -28]), (26, 22, 18))
    canvas.paint("fat", meet(cape, above), over=over)
    canvas.paint("heart", meet(heart, above, inside, round_mm=6), over=over)
    ear = ellipsoid(center + np.array([-16, -12, 38]), (19, 13, 10))
    canvas.paint("atrial_appendage_left", ear, over=over)


def draw_chest_vessels(scene: Scene) -> None:
    """Windpipe, gullet, thyroid, great vessels of the chest, and the fat round them."""
    canvas, rng = scene.canvas, scene.rng
    over = (*LOBES, *FAT, "muscle", "heart", "soft_tissue")
    arch = scene.knots(_arch_knots(), 2.5)
    # The ascending part measures 26 to 40 mm across, the more the older; the descending part follows half way.
    wide = rng.uniform(0.88, 1.3)
    arch[:, 3] *= np.where(arch[:, 1] > 40, wide, (1 + wide) / 2)
    solids: list[tuple[str, Solid]] = [
        *_lung_arteries(scene),
        ("pulmonary_vein", tube(scene.knots([(0, 18, 132, 8), (-34, 8, 138, 7), (-50, 2, 146, 5)], 1.5))),
        ("pulmonary_vein", tube(scene.knots([(8, 16, 130, 8), (36, 8, 132, 7), (52, 12, 126, 5)], 1.5))),
        ("superior_vena_cava", tube(scene.knots([(26, 52, 200, 9), (26, 46, 170, 10), (22, 42, 134, 11)], 1.5))),
        ("brachiocephalic_vein_right", tube(scene.knots([(38, 58, 244, 7), (26, 52, 200, 8)], 1.5))),
        ("brachiocephalic_vein_left", tube(scene.knots([(-32, 58, 240, 7), (0, 66, 218, 7), (26, 52, 202, 8)], 1.5))),
        ("aorta", tube(arch)),
        ("brachiocephalic_trunk", tube(scene.knots([(6, 48, 206, 6.5), (14, 46, 228, 6), (24, 40, 242, 5.5)], 1.5))),
        (
            "common_carotid_artery_left",
            tube(scene.knots([(-6, 38, 208, 4.5), (-16, 40, 245, 4), (-24, 42, 345, 4)], 1.5)),
        ),
        ("common_carotid_artery_right", tube(scene.knots([(24, 40, 242, 4.5), (26, 42, 345, 4)], 1.5))),
        (
            "subclavian_artery_left",
            tube(scene.knots([(-12, 24, 208, 5.5), (-24, 28, 245, 5), (-70, 45, 256, 4.5)], 1.5)),
        ),
        ("subclavian_artery_right", tube(scene.knots([(24, 40, 242, 5), (50, 42, 254, 5), (80, 40, 254, 4.5)], 1.5))),
    ]
    for side in (1.0, -1.0):
        solids.append(("vessel", tube([(side * 38, 58, 244, 6), (side * 40, 52, 345, 6)])))
        solids.append(("vessel", tube([(side * 38, 58, 242, 6), (side * 80, 52, 250, 6), (side * 125, 10, 238, 5)])))
    for _, solid in solids:
        canvas.paint("fat", grown(solid, rng.uniform(2, 4.5)), over=LOBES)
    for name, solid in solids:
        canvas.paint(name, solid, over=over)
    _draw_airways(scene, over)


def _lung_arteries(scene: Scene) -> list[tuple[str, Solid]]:
    """The trunk, its two arms, and their first branches into the lungs: as bright as the aorta, and as wide."""
    wide = scene.scale(0.1)
    arms: list[Knots] = [
        [(-14, 66, 138, 13), (-18, 52, 160, 13.5), (-20, 36, 172, 12)],
        [(-18, 42, 168, 12), (-44, 12, 166, 10.5), (-60, 0, 152, 7.5)],
        [(-18, 42, 166, 12), (14, 26, 162, 10.5), (44, 18, 156, 9), (62, 8, 142, 6.5)],
    ]
    for side, root in ((-1.0, (-58, 2, 156, 6)), (1.0, (56, 12, 150, 6))):
        for away in ((18, 22, 42), (30, 34, 6), (34, 0, -22), (16, -34, -48), (14, -34, 24)):
            direction = np.array([side * away[0], away[1], away[2]]) * scene.scale(0.2)
            middle, end = np.add(root[:3], 0.45 * direction), np.add(root[:3], direction) + scene.shift(5)
            arms.append([root, (*middle, 4), (*end, 2)])
    return [("pulmonary_artery", tube(scene.knots(arm), wide)) for arm in arms]


def _arch_knots() -> Knots:
    rows: Knots = [(-4, 54, 128, 15), (8, 62, 150, 15.5), (15, 60, 176, 15), (6, 50, 198, 14), (-13, 28, 204, 13),
            (-22, 2, 192, 12.5)]  # fmt: skip
    down = [(-22 + 14 * (170 - z) / 180, spine_y(z) + (24 if z > 60 else 26), z, 12) for z in (165, 130, 95, 60)]
    return [*rows, *down]


def _draw_airways(scene: Scene, over: tuple[str, ...]) -> None:
    canvas = scene.canvas
    windpipe = scene.knots([(0, 46, 345, 8.5), (0, 40, 285, 9), (2, 30, 245, 9), (5, 15, 205, 9), (4, 8, 184, 9)], 1.5)
    end = windpipe[-1]
    right = [end, (22, 4, 166, 7.5), (40, 2, 152, 6)]
    left = [end, (-22, 4, 164, 6.5), (-42, -4, 150, 5.5)]
    behind = [(-2 - (245 - z) / 80, spine_y(z) + 20 + (245 - z) / 45, z, 7.5) for z in (245, 200, 165, 130)]
    gullet = [
        (-2, 28, 345, 6),
        (-3, 26, 285, 6),
        *behind,
        (-4, spine_y(100) + 40, 100, 8),
        (-12, 28, 72, 8),
        (-18, 36, 58, 9),
    ]
    canvas.paint("esophagus", wavy(tube(scene.knots(gullet, 1.5)), scene.rng, 1.5, 25), over=over)
    for rows in (right, left):
        canvas.paint("soft_tissue", tube(np.array(rows) + np.array([0, 0, 0, 2])), over=(*LOBES, *FAT))
    airway = join(tube(windpipe), tube(np.array(right)), tube(np.array(left)))
    canvas.paint("trachea", airway, over=(*over, "esophagus", "vessel"))
    for _, side in SIDES:
        lobe = ellipsoid((side * 19, 42, 266), np.array([8, 10, 20]) * scene.scale(0.12))
        canvas.paint("thyroid_gland", lobe, over=(*FAT, "muscle"))
    canvas.paint("thyroid_gland", ellipsoid((0, 52, 258), (16, 5, 8)), over=(*FAT, "muscle"))


def draw_belly_vessels(scene: Scene) -> None:
    """Aorta below the diaphragm, lower vena cava, portal system, and what branches off to kidneys, bowel and legs."""
    canvas = scene.canvas
    wide = scene.scale(0.12)
    bow = scene.rng.normal(0, 4)
    aorta = [(-15 + 8 * (60 - z) / 165 - bow * np.sin((60 - z) / 53), spine_y(z) + 26, z, 10.5 - (60 - z) / 80)
             for z in (62, 30, 0, -35, -70, -104)]  # fmt: skip
    lower = [(19, spine_y(z) + 27, z, 10.5) for z in (0, -35, -70, -112)]
    cava = [(20, 40, 128, 12), (22, 36, 95, 12), (24, 30, 70, 12), (24, 27, 40, 11), *lower]
    abdomen = (*FAT, "muscle", "soft_tissue")
    canvas.paint("inferior_vena_cava", tube(scene.knots(cava, 2), scene.scale(0.12)), over=(*abdomen, "heart", *LOBES))
    trunk = scene.knots(aorta, 1.5)
    trunk[:, 3] *= wide
    canvas.paint("aorta", tube(trunk), over=(*abdomen, *LOBES))
    for name, side in SIDES:
        artery = [trunk[-1], (side * 28, 36, -138, 6), (side * 44, 22, -168, 5.5), (side * 50, 24, -195, 5),
                  (side * 62, 42, -235, 5), (side * 76, 56, -268, 5)]  # fmt: skip
        inner = [
            (side * 44, 24, -166, 5),
            (side * 47, 14, -178, 4.5),
            (side * 52, -8, -200, 4),
            (side * 56, -22, -225, 3.5),
        ]
        vein = [(19, spine_y(-112) + 26, -112, 9), (side * 30 + 6, 22, -140, 8), (side * 42, 10, -172, 7),
                (side * 48, 14, -200, 6.5), (side * 58, 34, -240, 6.5), (side * 66, 50, -270, 6.5)]  # fmt: skip
        canvas.paint(f"iliac_vena_{name}", tube(scene.knots(vein, 1)), over=(*abdomen, f"iliopsoas_{name}"))
        arteries = join(tube(scene.knots(artery, 1)), tube(inner))
        canvas.paint(f"iliac_artery_{name}", arteries, over=(*abdomen, f"iliopsoas_{name}"))
        for place in ((78, 58, -266, 5), (67, 52, -268, 6)):
            leg = [place, (place[0] + 2, 58, -345, place[3])]
            canvas.paint("vessel", tube(mirrored(leg, side)), over=abdomen)
    _draw_portal(scene, abdomen)


def _draw_portal(scene: Scene, over: tuple[str, ...]) -> None:
    canvas = scene.canvas
    meeting = np.array([10, 46, -8, 8]) + np.r_[scene.shift(2), 0]
    portal = [meeting, (16, 46, 4, 8), (26, 44, 18, 7.5), (36, 42, 24, 6.5)]
    splenic = [meeting, (-12, 46, 0, 5.5), (-40, 32, 8, 5.5), (-66, 12, 14, 5), (-82, -2, 22, 4.5)]
    mesenteric = [meeting, (11, 48, -25, 7)]
    solid = join(*(tube(rows) for rows in (portal, splenic, mesenteric)))
    canvas.paint("portal_vein_and_splenic_vein", solid, over=over)
    canvas.paint("vessel", tube([(11, 50, -25, 6), (11, 62, -50, 5.5), (13, 77, -80, 5), (20, 79, -106, 4)]), over=over)
    canvas.paint(
        "vessel",
        tube([(-8, spine_y(-8) + 30, -6, 4), (-8, 46, -20, 4), (-7, 60, -48, 4), (-6, 77, -80, 3.5), (4, 79, -106, 3)]),
        over=over,
    )
    canvas.paint("vessel", tube([(-9, spine_y(12) + 30, 10, 4), (-8, 44, 10, 3.5), (12, 50, 12, 3)]), over=over)
