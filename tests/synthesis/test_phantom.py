"""Drawn bodies have the organs people have, in their places and sizes; the simple body has its exact volumes."""

from __future__ import annotations

from functools import cache

import cc3d
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import cKDTree

from voxicon.core.components import components
from voxicon.errors import ConfigError
from voxicon.synthesis.label_map import OUTSIDE, TISSUES, LabelMap
from voxicon.synthesis.phantom.body import ORGAN_VOLUME_ML, REGIONS, draw_body, known_phantom

SPACING_MM = 6.0
SEEDS = range(7)

BELLY = {"spleen", "kidney_right", "kidney_left", "liver", "stomach", "pancreas", "adrenal_gland_right",
         "adrenal_gland_left", "small_bowel", "duodenum", "colon", "aorta", "inferior_vena_cava",
         "portal_vein_and_splenic_vein", "hepatic_vessel", "spinal_cord", "autochthon_right", "autochthon_left",
         "iliopsoas_right", "iliopsoas_left", "vertebrae_L1", "vertebrae_L3"}  # fmt: skip
CHEST = {"lung_upper_lobe_right", "lung_middle_lobe_right", "lung_lower_lobe_right", "lung_upper_lobe_left",
         "lung_lower_lobe_left", "heart", "aorta", "esophagus", "trachea", "pulmonary_vein", "superior_vena_cava",
         "atrial_appendage_left", "brachiocephalic_trunk", "sternum", "costal_cartilages", "scapula_right",
         "scapula_left", "clavicula_right", "clavicula_left", "liver", "spleen", "vertebrae_T1", "vertebrae_T12",
         *(f"rib_{side}_{k}" for side in ("right", "left") for k in range(1, 13))}  # fmt: skip
PELVIS = {"urinary_bladder", "sacrum", "colon", "vertebrae_L5",
          *(f"{name}_{side}" for side in ("right", "left") for name in (
              "hip", "femur", "iliac_artery", "iliac_vena", "iliopsoas", "gluteus_maximus", "gluteus_medius",
              "gluteus_minimus"))}  # fmt: skip
COMPACT = ("spleen", "kidney_right", "kidney_left", "liver", "stomach", "pancreas", "duodenum", "heart", "aorta",
           "inferior_vena_cava", "urinary_bladder", "lung_lower_lobe_right", "lung_lower_lobe_left",
           "lung_upper_lobe_right", "lung_upper_lobe_left", "hip_right", "hip_left", "vertebrae_L3")  # fmt: skip
SPINE = [f"vertebrae_{level}" for level in (*(f"T{k}" for k in range(1, 13)), *(f"L{k}" for k in range(1, 6)))]


@cache
def body(seed: int, region: str = "torso", spacing_mm: float = SPACING_MM) -> LabelMap:
    return draw_body(np.random.default_rng(seed), spacing_mm, region)


@cache
def points_mm(seed: int, name: str) -> NDArray[np.float64]:
    """RAS mm of the voxels of one structure of a torso."""
    return body(seed).geometry.to_world(np.argwhere(body(seed).mask([name])))


def center(seed: int, name: str) -> NDArray[np.float64]:
    middle: NDArray[np.float64] = points_mm(seed, name).mean(axis=0)
    return middle


def gap_mm(seed: int, one: str, other: str) -> float:
    """Shortest distance between voxel centers of two structures."""
    return float(cKDTree(points_mm(seed, one)).query(points_mm(seed, other))[0].min())


def test_same_seed_gives_the_same_body_and_another_seed_another() -> None:
    again = draw_body(np.random.default_rng(3), SPACING_MM, "torso")
    assert (again.values == body(3).values).all()
    assert again.geometry == body(3).geometry
    assert body(3).values.shape != body(4).values.shape


@pytest.mark.parametrize(
    ("region", "expected", "absent"),
    [
        ("torso", BELLY | CHEST | PELVIS, set()),
        ("chest", CHEST, PELVIS - {"colon", "iliopsoas_right", "iliopsoas_left"}),
        ("abdomen", BELLY, {"femur_right", "urinary_bladder", "clavicula_left", "trachea"}),
        ("pelvis", PELVIS, {"heart", "lung_upper_lobe_left", "esophagus", "vertebrae_T10"}),
    ],
)
def test_a_region_shows_its_structures_and_no_others(region: str, expected: set[str], absent: set[str]) -> None:
    for seed in (0, 1):
        found = set(body(seed, region).volumes_ml())
        assert expected <= found
        assert not absent & found


@pytest.mark.parametrize("region", list(REGIONS))
def test_the_view_differs_from_body_to_body(region: str) -> None:
    ends = [body(seed, region).geometry.corners_mm()[[0, -1], 2] for seed in (0, 1)]
    assert (np.abs(ends[0] - ends[1]) > 0.1).all()


def test_the_region_of_a_spacing_has_its_grid() -> None:
    small = body(5, "pelvis", 8.0)
    assert small.values.dtype == np.int16
    assert small.geometry.spacing_mm == (8.0, 8.0, 8.0)
    assert small.geometry.orientation == "RAS"


@pytest.mark.parametrize("seed", SEEDS)
def test_volumes_are_those_of_adults(seed: int) -> None:
    volumes = body(seed).volumes_ml()
    wrong = {
        name: volumes[name]
        for name, (low, high) in ORGAN_VOLUME_ML.items()
        if name in volumes and not low <= volumes[name] <= high
    }
    assert not wrong


def test_bodies_differ_and_are_normal_on_average() -> None:
    livers, spleens, kidneys, fats = np.array([
        [body(seed).volumes_ml()[name] for seed in SEEDS] for name in ("liver", "spleen", "kidney_right", "fat")
    ])  # fmt: skip
    # Normal: liver 1500, spleen 200, kidney 160 ml (Geraghty 2004); seven bodies may be a third off.
    assert 1000 < livers.mean() < 2000
    assert 130 < spleens.mean() < 270
    assert 107 < kidneys.mean() < 213
    assert fats.max() > 2 * fats.min()


@pytest.mark.parametrize("seed", SEEDS)
def test_compact_organs_are_in_one_piece(seed: int) -> None:
    for name in COMPACT:
        pieces = components(body(seed).mask([name]))
        assert pieces.sizes.max() >= 0.9 * pieces.sizes.sum(), name


@pytest.mark.parametrize("seed", SEEDS)
def test_right_is_where_x_grows(seed: int) -> None:
    found = body(seed).volumes_ml()
    pairs = [(name, name.replace("right", "left")) for name in found if "right" in name]
    pairs = [(right, left) for right, left in pairs if left in found]
    assert len(pairs) > 25
    for right, left in [*pairs, ("liver", "spleen"), ("inferior_vena_cava", "heart"), ("duodenum", "stomach")]:
        assert center(seed, right)[0] > center(seed, left)[0] + 5, (right, left)


@pytest.mark.parametrize("seed", SEEDS)
def test_head_is_where_z_grows(seed: int) -> None:
    heights = [center(seed, name)[2] for name in SPINE]
    assert (np.diff(heights) < -8).all()
    order = ("thyroid_gland", "lung_upper_lobe_left", "heart", "spleen", "pancreas", "small_bowel", "urinary_bladder")
    assert (np.diff([center(seed, name)[2] for name in order]) < 0).all()
    assert center(seed, "lung_upper_lobe_right")[2] > center(seed, "lung_lower_lobe_right")[2] + 30
    for side in ("right", "left"):
        assert center(seed, f"adrenal_gland_{side}")[2] > center(seed, f"kidney_{side}")[2]
        assert center(seed, f"rib_{side}_1")[2] > center(seed, f"rib_{side}_10")[2] + 100


@pytest.mark.parametrize("seed", SEEDS)
def test_front_is_where_y_grows(seed: int) -> None:
    for one, other in (
        ("sternum", "heart"), ("heart", "vertebrae_T8"), ("trachea", "vertebrae_T3"), ("stomach", "spleen"),
        ("pancreas", "aorta"), ("aorta", "autochthon_left"), ("liver", "kidney_right"), ("urinary_bladder", "sacrum"),
        ("costal_cartilages", "scapula_left"), ("vertebrae_L3", "autochthon_right"),
    ):  # fmt: skip
        assert center(seed, one)[1] > center(seed, other)[1], (one, other)


@pytest.mark.parametrize("seed", SEEDS)
def test_neighbors_touch_or_nearly_do(seed: int) -> None:
    near = [("pancreas", "duodenum"), ("stomach", "duodenum"), ("esophagus", "stomach"), ("pancreas", "spleen"),
            ("liver", "lung_lower_lobe_right"), ("aorta", "heart"), ("inferior_vena_cava", "liver"),
            ("iliac_artery_left", "aorta"), ("vertebrae_L5", "sacrum"), ("portal_vein_and_splenic_vein", "pancreas"),
            ("superior_vena_cava", "heart"), ("femur_right", "hip_right"), ("adrenal_gland_left", "kidney_left"),
            ("rib_right_6", "vertebrae_T6"), ("small_bowel", "colon")]  # fmt: skip
    for other in ("gallbladder", "prostate"):
        if other in body(seed).volumes_ml():
            near.append((other, {"gallbladder": "liver", "prostate": "urinary_bladder"}[other]))
    for one, other in near:
        assert gap_mm(seed, one, other) <= 5 * SPACING_MM, (one, other)


def test_only_men_have_a_prostate() -> None:
    men = [seed for seed in SEEDS if "prostate" in body(seed).volumes_ml()]
    assert 0 < len(men) < len(SEEDS)
    for seed in men:
        assert center(seed, "prostate")[2] < center(seed, "urinary_bladder")[2] - 20


def test_arms_are_up_in_some_and_down_in_some() -> None:
    lowest = {seed: points_mm(seed, "humerus_left")[:, 2].min() for seed in SEEDS}
    down = {seed for seed, z in lowest.items() if z < 100}
    assert 0 < len(down) < len(SEEDS)
    # Only lower arms are bones without a name of their own.
    assert down == {seed for seed in SEEDS if "bone" in body(seed).volumes_ml()}


@pytest.mark.parametrize("seed", SEEDS)
def test_skin_lies_between_the_body_and_the_air(seed: int) -> None:
    values = body(seed).values
    names = {name: value for value, name in body(seed).names.items()}
    patient = (values != OUTSIDE) & (values != names["table"])
    # The ends of the view cut through the patient; there is no skin on a cut.
    inner = ndimage.binary_erosion(patient, border_value=1)
    rim = patient & ~inner
    assert (values[rim] == names["skin"]).mean() == 1


@pytest.mark.parametrize("seed", SEEDS)
def test_nothing_is_left_for_the_painter_to_stumble_on(seed: int) -> None:
    found = set(body(seed).volumes_ml())
    assert not found & {"metal", "gas", "bowel_content", "lung_vessel"}
    assert set(np.unique(body(seed).values)) <= {OUTSIDE, *body(seed).names}
    assert set(TISSUES) <= set(body(seed).names)


@pytest.mark.parametrize("seed", SEEDS)
def test_vessels_of_the_liver_run_inside_it(seed: int) -> None:
    liver, vessels = body(seed).mask(["liver"]), body(seed).mask(["hepatic_vessel"])
    around = ndimage.binary_dilation(vessels, np.ones((3, 3, 3))) & ~vessels
    assert liver[around].mean() > 0.8
    assert 0.005 < vessels.sum() / liver.sum() < 0.06


def test_a_table_lies_under_some_patients() -> None:
    with_table = [seed for seed in SEEDS if "table" in body(seed).volumes_ml()]
    assert 0 < len(with_table) < len(SEEDS)
    for seed in with_table:
        table, patient = body(seed).mask(["table"]), body(seed).mask(["skin"])
        middle = slice(table.shape[0] // 2 - 3, table.shape[0] // 2 + 3)
        assert table[middle].any()
        assert np.argwhere(table[middle])[:, 1].max() <= np.argwhere(patient)[:, 1].min() + 1
        # It is a groove: higher at the sides than in the middle, in every slice the same.
        tops = [np.flatnonzero(row.any(axis=1)).max() for row in table if row.any()]
        assert tops[1] > tops[len(tops) // 2] + 1
        assert tops[-2] > tops[len(tops) // 2] + 1


def test_lung_arteries_leave_the_heart_for_both_lungs() -> None:
    # Blood in them is as bright as in the aorta: without them any bright vessel beside the heart would be aorta.
    for seed in SEEDS:
        artery = body(seed).mask(["pulmonary_artery"])
        pieces = cc3d.connected_components(artery, connectivity=26)
        largest = np.argwhere(pieces == np.bincount(pieces[pieces > 0]).argmax())
        assert len(largest) > 0.9 * artery.sum()
        assert np.ptp(largest[:, 0]) * SPACING_MM > 110
        assert 50 < body(seed).volumes_ml()["pulmonary_artery"] < 260


def test_the_origin_is_near_the_first_lumbar_vertebra() -> None:
    for seed in SEEDS:
        assert np.abs(center(seed, "vertebrae_L1")).max() < 45


@pytest.mark.parametrize(
    ("spacing_mm", "region", "message"),
    [
        (3.0, "head", "region: found 'head', expected one of torso, chest, abdomen, pelvis"),
        (0.9, "torso", "spacing_mm: found 0.9, expected 1 to 10"),
        (10.5, "torso", "spacing_mm: found 10.5, expected 1 to 10"),
        (float("nan"), "torso", "spacing_mm: found nan"),
    ],
)
def test_unknown_regions_and_spacings_are_refused(spacing_mm: float, region: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        draw_body(np.random.default_rng(0), spacing_mm, region)


@settings(max_examples=12, deadline=None)
@given(
    spacing_mm=st.tuples(*[st.floats(2.5, 5.0)] * 3),
    offset_mm=st.tuples(*[st.floats(-10, 10)] * 3),
)
def test_the_simple_body_has_its_volumes_on_any_grid(
    spacing_mm: tuple[float, float, float], offset_mm: tuple[float, float, float]
) -> None:
    label_map, exact_ml = known_phantom(spacing_mm, offset_mm)
    measured_ml = label_map.volumes_ml()
    assert measured_ml.keys() == exact_ml.keys()
    for name, volume_ml in exact_ml.items():
        assert measured_ml[name] == pytest.approx(volume_ml, rel=0.03), name


def test_the_simple_body_in_numbers() -> None:
    label_map, exact_ml = known_phantom()
    # 4/3 pi 28^3 = 91 952 mm^3; 4/3 pi 65*60*50 = 816 814 mm^3
    assert exact_ml["kidney_right"] == pytest.approx(91.952, abs=0.001)
    assert exact_ml["liver"] == pytest.approx(816.814, abs=0.001)
    # The cylinder pi 165*110*380 is 21 667.6 ml, organs and all.
    assert sum(exact_ml.values()) == pytest.approx(21667.6, abs=0.1)
    assert label_map.geometry.spacing_mm == (3.0, 3.0, 3.0)
    assert not label_map.values[0].any()
    assert not label_map.values[:, :, -1].any()


def test_the_simple_body_lies_where_it_says() -> None:
    offset_mm = np.array([4.0, -6.0, 9.0])
    label_map, _ = known_phantom((3.0, 4.0, 5.0), (4.0, -6.0, 9.0))
    liver = label_map.geometry.to_world(np.argwhere(label_map.mask(["liver"])))
    assert liver.mean(axis=0) == pytest.approx(offset_mm + np.array([75, 15, -20]), abs=0.3)
    spleen = label_map.geometry.to_world(np.argwhere(label_map.mask(["spleen"])))
    assert spleen[:, 0].max() < liver[:, 0].min()


@pytest.mark.parametrize(
    ("spacing_mm", "offset_mm", "message"),
    [
        ((0.0, 3.0, 3.0), (0.0, 0.0, 0.0), "spacing_mm: found"),
        ((3.0, 3.0, 21.0), (0.0, 0.0, 0.0), "spacing_mm: found"),
        ((3.0, 3.0, 3.0), (0.0, 11.0, 0.0), "offset_mm: found"),
        ((3.0, 3.0, 3.0), (float("nan"), 0.0, 0.0), "offset_mm: found"),
    ],
)
def test_the_simple_body_refuses_grids_that_do_not_hold_it(
    spacing_mm: tuple[float, float, float], offset_mm: tuple[float, float, float], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        known_phantom(spacing_mm, offset_mm)
