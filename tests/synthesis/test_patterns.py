"""What is inside organs: shells, vessels, streaks."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from tests.synthesis.blocks import FAT, cube, grid, in_fat
from voxicon.synthesis.label_map import LabelMap
from voxicon.synthesis.painting import patterns
from voxicon.synthesis.painting.canvas import Canvas, Patient

PLAIN, ARTERIAL, VENOUS = (1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)


def canvas_of(body: LabelMap, weights=VENOUS, seed: int = 0, **changes: float) -> Canvas:
    patient = Patient.draw(np.random.default_rng(seed), weights, 0.0)
    return Canvas(np.zeros(body.values.shape, np.float32), body, dataclasses.replace(patient, **changes))


def ball(name: str, radius_mm: float = 30, spacing_mm: float = 3.0) -> LabelMap:
    n = int(2 * radius_mm / spacing_mm) + 7
    away = np.linalg.norm(np.indices((n, n, n)) - (n - 1) / 2, axis=0) * spacing_mm
    values = np.where(away < radius_mm, 1, FAT).astype(np.int16)
    return LabelMap(values, {1: name, FAT: "fat"}, grid(values.shape, spacing_mm))


def painted(canvas: Canvas, painter, pattern: str, together: bool = False) -> np.ndarray:
    for region in canvas.regions(pattern, together):
        painter(canvas, region)
    return canvas.hu


def radius_of(canvas: Canvas) -> np.ndarray:
    shape = canvas.hu.shape
    middle = np.array([(n - 1) / 2 for n in shape]).reshape(3, 1, 1, 1)
    return np.linalg.norm((np.indices(shape) - middle) * canvas.spacing_mm[0], axis=0)


def test_edges_are_voxels_beside_another_structure():
    body = in_fat({"liver": cube(6, 18)}, margin=0)
    edge = canvas_of(body).edge
    inside = body.values == 1
    # A cube of 12 voxels has 12³ - 10³ = 728 outer ones, and 6 · 144 = 864 voxels touch its faces.
    assert int((edge & inside).sum()) == 728
    assert int((edge & ~inside).sum()) == 864


def test_distance_to_the_surface_is_in_millimeters_and_ends_of_the_volume_are_no_surface():
    values = np.zeros((9, 9, 9), dtype=np.int16)
    values[:, 4:, :] = 1
    canvas = canvas_of(LabelMap(values, {1: "stomach"}, grid(values.shape, 2.0)))
    (region,) = canvas.regions("hollow", together=False)
    # Layers of 2 mm below the only surface: centers at 1, 3, 5, ... mm.
    assert canvas.inside_mm(region)[4, :, 4].tolist() == [1, 3, 5, 7, 9]


def test_depth_counts_from_the_skin_and_not_from_the_end_of_the_scan():
    values = np.zeros((60, 60, 20), dtype=np.int16)
    values[5:55, 5:55] = FAT
    depth = canvas_of(LabelMap(values, {FAT: "fat"}, grid(values.shape, 4.0))).depth_mm
    assert depth[30, 30, 0] == pytest.approx(depth[30, 30, 10], abs=1)
    # The middle lies 25 voxels of 4 mm below the skin; the grid it is computed on has 8 mm (2 voxels).
    assert depth[30, 30, 10] == pytest.approx(100, abs=12)
    assert depth[8, 30, 10] < 25
    assert depth[0].max() < 6


def test_regions_alone_and_together():
    body = in_fat({"rib_left_1": cube(4, 6), "rib_left_2": cube(10, 13), "liver": cube(16, 18)})
    canvas = canvas_of(body)
    alone = canvas.regions("bone", together=False)
    assert [(region.name, int(region.mask.sum())) for region in alone] == [("rib_left_1", 8), ("rib_left_2", 27)]
    (both,) = canvas.regions("bone", together=True)
    assert both.box == cube(4, 13)
    assert int(both.mask.sum()) == 35
    assert canvas.regions("heart", together=True) == []
    assert canvas.has("liver")
    assert not canvas.has("spleen")


def test_a_patient_keeps_means_and_shares_them_in_a_group():
    patient = Patient.draw(np.random.default_rng(0), VENOUS, 1.0)
    assert patient.mean_hu("aorta") == patient.mean_hu("aorta")
    pairs = []
    for seed in range(60):
        someone = Patient.draw(np.random.default_rng(seed), VENOUS, 1.0)
        pairs.append((someone.mean_hu("kidney_left"), someone.mean_hu("kidney_right"), someone.mean_hu("liver")))
    together = np.corrcoef(np.array(pairs).T)
    # 0.9² = 0.81 of the variance is shared by both kidneys, nothing with the liver.
    assert together[0, 1] == pytest.approx(0.81, abs=0.12)
    assert abs(together[0, 2]) < 0.3


def test_contrast_never_darkens():
    for seed in range(40):
        patient = Patient.draw(np.random.default_rng(seed), ARTERIAL, 1.0)
        # Plain blood 42 ± 5, so 32 at two SDs, although arterial 420 ± 260 reaches below 0.
        assert patient.mean_hu("superior_vena_cava") >= 32


def test_bone_has_a_bright_shell():
    canvas = canvas_of(ball("vertebrae_L3"), PLAIN)
    hu = painted(canvas, patterns.paint_bone, "bone", together=True)
    shell = canvas.edge & (canvas.label_map.values == 1)
    # 480 - 160 = 320 HU in 1.9 of 3 mm: 203.
    assert hu[shell].mean() == pytest.approx(203, rel=0.1)
    assert (hu[~shell] == 0).all()


def test_a_shaft_has_thick_walls_around_marrow_and_a_head_has_not():
    values = np.full((22, 22, 24), FAT, dtype=np.int16)
    x, y, z = np.indices(values.shape)
    away = np.hypot(x - 10.5, y - 10.5) * 3
    values[away < np.where(z < 12, 14, 26)] = 1
    canvas = canvas_of(LabelMap(values, {1: "femur_left", FAT: "fat"}, grid(values.shape)), PLAIN)
    canvas.hu += 180
    hu = painted(canvas, patterns.paint_long_bone, "long_bone")
    assert hu[10, 10, 4] < 120
    assert hu[(values == 1) & (away > 10) & (z < 11)].min() > 850
    assert hu[10, 10, 18] == pytest.approx(180, abs=1)


def test_kidneys_have_cortex_and_medulla_in_the_arterial_phase_only():
    drops = {}
    for name, weights in (("plain", PLAIN), ("arterial", ARTERIAL)):
        canvas = canvas_of(ball("kidney_left"), weights)
        hu, away = painted(canvas, patterns.paint_kidney, "kidney"), radius_of(canvas)
        drops[name] = hu[(away > 26) & (away < 30)].mean() - hu[(away > 18) & (away < 20)].mean()
    # 40 to 70 % of the enhancement of 175 - 30 HU.
    assert 40 < drops["arterial"] < 105
    assert abs(drops["plain"]) < 20


def test_the_spleen_is_striped_in_the_arterial_phase_only():
    stripes = [painted(canvas_of(ball("spleen"), w), patterns.paint_spleen, "spleen").std() for w in (PLAIN, ARTERIAL)]
    assert stripes[0] == 0
    assert stripes[1] > 1.5


def test_vessels_of_the_liver_are_brighter_after_contrast_and_darker_before():
    for weights, sign in ((VENOUS, 1), (PLAIN, -1)):
        canvas = canvas_of(ball("liver", 60), weights)
        canvas.hu += canvas.patient.mean_hu("liver")
        before = float(canvas.hu[20, 20, 20])
        change = painted(canvas, patterns.paint_liver, "liver") - before
        assert (sign * change).min() > -1e-3
        assert (sign * change).max() > 0.5 * abs(canvas.patient.mean_hu("hepatic_vessel") - before)
        assert 0.005 < (np.abs(change) > 0.5 * np.abs(change).max()).mean() < 0.2


@pytest.mark.parametrize(("organ", "vessel"), [("liver", "hepatic_vessel"), ("lung_left", "lung_vessel")])
def test_vessels_that_the_map_brings_along_are_not_painted_again(organ, vessel):
    painter, pattern = {"liver": (patterns.paint_liver, "liver"), "lung_left": (patterns.paint_lung, "lung")}[organ]
    without = in_fat({organ: cube(4, 20)})
    with_vessel = in_fat({organ: cube(4, 20), vessel: cube(11, 13)})
    for body, drawn in ((without, True), (with_vessel, False)):
        canvas = canvas_of(body)
        canvas.hu -= 850
        assert (painted(canvas, painter, pattern, together=True).max() > -500) == drawn


def test_lungs_are_denser_at_the_back_and_have_more_vessels_at_the_hilum():
    values = np.zeros((80, 50, 50), dtype=np.int16)
    values[2:36, 2:-2, 2:-2], values[44:78, 2:-2, 2:-2] = 1, 2
    body = LabelMap(values, {1: "lung_left", 2: "lung_right"}, grid(values.shape, 4.0))
    canvas = canvas_of(body)
    canvas.hu[:] = -850
    hu = painted(canvas, patterns.paint_lung, "lung", together=True)
    lung = values > 0
    assert np.median(hu[:, 5:15][lung[:, 5:15]]) > np.median(hu[:, 35:45][lung[:, 35:45]]) + 10
    x, y, z = np.indices(values.shape)
    near = np.sqrt((np.abs(x - 39.5) * 4 - 35) ** 2 + ((y - 24.5) * 4) ** 2 + ((z - 24.5) * 4) ** 2)
    bright = hu > -600
    assert bright[lung & (near < 50)].mean() > 2 * bright[lung & (near > 80)].mean()
    assert hu[values == 1].std() > 20
    assert hu[values == 2].std() > 20


def test_the_heart_has_walls_of_muscle_around_blood():
    canvas = canvas_of(ball("heart", 42), ARTERIAL)
    canvas.hu += 300
    hu, away = painted(canvas, patterns.paint_heart, "heart"), radius_of(canvas)
    # Myocardium 110, blood 300.
    assert hu[(away > 38) & (away < 42)].mean() < 200
    assert np.median(hu[away < 25]) > 270


def test_only_patients_with_plaque_have_chalk_in_their_arteries():
    body = in_fat({"aorta": cube(5, 19)})
    clean, old = (
        painted(canvas_of(body, plaque=p), patterns.paint_artery, "artery", together=True) for p in (0.0, 1.0)
    )
    assert clean.max() == 0
    assert old.max() > 250
    assert old[cube(6, 18)].max() == 0


def test_marbling_is_fat_in_muscle():
    body = in_fat({"muscle": cube(4, 20)})
    lean, fatty = (
        painted(canvas_of(body, marbling=m), patterns.paint_muscle, "muscle", together=True)[cube(4, 20)].mean()
        for m in (0.0, 1.0)
    )
    assert fatty < 2 * lean < 0


def test_clefts_of_the_pancreas_are_fat():
    hu = painted(canvas_of(in_fat({"pancreas": cube(4, 20)}), marbling=1.0), patterns.paint_lobulated, "lobulated")
    assert -100 <= hu.min() < -40
    assert hu.max() <= 0


def test_fat_of_the_belly_holds_vessels_and_fat_under_the_skin_little():
    values = np.full((60, 60, 30), FAT, dtype=np.int16)
    values[:2], values[-2:], values[:, :2], values[:, -2:] = 0, 0, 0, 0
    canvas = canvas_of(LabelMap(values, {FAT: "fat"}, grid(values.shape, 3.0)))
    hu = painted(canvas, patterns.paint_fat, "fat", together=True)
    assert hu[20:40, 20:40].std() > 2 * hu[3:6, 10:50].std()
    assert hu[20:40, 20:40].max() > 60
    assert hu[3:5, 10:50].max() < 40


def test_chalk_lies_on_the_rim_of_cartilage():
    found = [
        painted(canvas_of(in_fat({"costal_cartilages": cube(4, 20)}), seed=s), patterns.paint_cartilage, "cartilage")
        for s in range(6)
    ]
    assert max(hu.max() for hu in found) > 50
    assert all(hu[cube(6, 18)].max() == 0 for hu in found)


def test_texture_has_the_amplitude_of_the_table():
    body = in_fat({"vertebrae_L1": (slice(0, 24), slice(0, 24), slice(0, 12)), "kidney_cyst_left": cube(12, 24)})
    canvas = canvas_of(body)
    patterns.paint_texture(canvas)
    values = body.values
    # 35 and 2 HU; at variety 0 patients do not differ.
    assert canvas.hu[values == 1].std() == pytest.approx(35, rel=0.15)
    assert canvas.hu[values == 2].std() == pytest.approx(2, rel=0.3)
    assert (canvas.hu[values == 0] == 0).all()
