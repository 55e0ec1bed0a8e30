"""Painted maps: as bright as the phase says, soft at the edges, the same for the same seed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.synthesis.blocks import cube, grid, in_fat
from voxicon.errors import ConfigError, UsageError
from voxicon.synthesis.label_map import LabelMap
from voxicon.synthesis.painting.paint import OUTSIDE_HU, _phase_weights, paint
from voxicon.synthesis.painting.tissues import PHASES

INNER = cube(9, 15)
SEEDS = range(6)


def inner_mean(structure: str, phase: str | None, seed: int, variety: float = 1.0) -> float:
    body = in_fat({structure: cube(6, 18)})
    return float(paint(body, np.random.default_rng(seed), phase, variety)[INNER].mean())


@pytest.mark.parametrize(
    ("structure", "phase", "low", "high"),
    [
        ("liver", "plain", 30, 75),
        ("liver", "arterial", 45, 105),
        ("liver", "venous", 75, 150),
        ("spleen", "plain", 30, 62),
        ("spleen", "venous", 85, 152),
        ("aorta", "plain", 30, 55),
        ("aorta", "arterial", 170, 450),
        ("aorta", "venous", 105, 200),
        ("portal_vein_and_splenic_vein", "venous", 130, 210),
        ("inferior_vena_cava", "arterial", 30, 130),
        ("adrenal_gland_left", "plain", -10, 46),
        ("muscle", "plain", 15, 65),
        ("urinary_bladder", "plain", -8, 20),
        ("gallbladder", "venous", -8, 30),
        ("vertebrae_L3", "plain", 60, 260),
        ("lung_lower_lobe_left", "plain", -935, -740),
        ("trachea", "plain", -1015, -955),
        ("metal", "plain", 2700, 3200),
        ("fat", "venous", -120, -70),
    ],
)
def test_structures_are_as_bright_as_in_patients(structure, phase, low, high):
    found = [inner_mean(structure, phase, seed) for seed in SEEDS]
    assert low < min(found)
    assert max(found) < high


def test_an_average_patient_is_the_table():
    # What is left is texture: 2 to 3 HU over 18 mm with a correlation length of 6 mm, about 1 HU in the mean.
    assert inner_mean("kidney_cyst_left", "venous", 0, variety=0) == pytest.approx(6, abs=3)
    assert inner_mean("spleen", "venous", 0, variety=0) == pytest.approx(118, abs=3)
    assert inner_mean("spleen", "plain", 5, variety=0) == pytest.approx(46, abs=3)


@pytest.mark.parametrize("seed", SEEDS)
def test_blood_is_brightest_in_the_arterial_phase(seed):
    plain, arterial, venous = (inner_mean("aorta", phase, seed) for phase in PHASES)
    assert arterial > venous > plain


def test_variety_widens_what_patients_differ_by():
    alike, patients, wild = (np.std([inner_mean("liver", "venous", s, v) for s in range(8)]) for v in (0, 1, 3))
    assert alike < 0.5 * patients < 0.25 * wild


def test_both_kidneys_of_a_patient_are_alike():
    body = in_fat({"spleen": (slice(3, 9), slice(6, 18), slice(6, 18)), "prostate": cube(14, 20)})
    pair = in_fat({"adrenal_gland_left": cube(3, 10), "adrenal_gland_right": cube(13, 20)})
    near, far = [], []
    for seed in range(12):
        hu = paint(pair, np.random.default_rng(seed), "venous", 2)
        near.append(hu[cube(5, 8)].mean() - hu[cube(15, 18)].mean())
        hu = paint(body, np.random.default_rng(seed), "venous", 2)
        far.append((hu[5:7, 9:15, 9:15].mean() - 118) - (hu[cube(16, 18)].mean() - 75))
    assert np.std(near) < 0.7 * np.std(far)


def test_same_seed_same_patient():
    body = in_fat({"colon": cube(4, 20), "liver": cube(4, 10), "femur_left": cube(12, 18)})
    first, second, other = (paint(body, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert (first == second).all()
    assert (first != other).any()


def test_a_phase_is_drawn_where_none_is_named():
    found = [inner_mean("aorta", None, seed) for seed in range(14)]
    assert min(found) < 60
    assert max(found) > 220
    assert any(100 < mean < 205 for mean in found)


def test_some_scans_lie_between_two_phases():
    drawn = np.array([_phase_weights(np.random.default_rng(seed), None) for seed in range(300)])
    assert drawn.sum(axis=1) == pytest.approx(1)
    # Three in ten draw a second phase, which is another in 1 - (0.3² + 0.25² + 0.45²) = 64 % of them: 19 %.
    assert ((drawn > 0).sum(axis=1) == 2).mean() == pytest.approx(0.19, abs=0.07)
    assert drawn.mean(axis=0) == pytest.approx([0.3, 0.25, 0.45], abs=0.08)
    assert _phase_weights(np.random.default_rng(0), "arterial") == [0, 1, 0]


def test_an_empty_map_is_air():
    empty = LabelMap(np.zeros((5, 6, 7), dtype=np.int16), {1: "liver"}, grid((5, 6, 7)))
    for phase in (None, *PHASES):
        assert (paint(empty, np.random.default_rng(0), phase) == OUTSIDE_HU).all()


def test_air_around_the_body_is_air():
    hu = paint(in_fat({"liver": cube(6, 18)}, margin=5), np.random.default_rng(0))
    assert hu[:2].max() == hu[-2:].max() == OUTSIDE_HU


@pytest.mark.parametrize("names", [{1: "no such thing"}, {}])
def test_what_the_table_does_not_know_is_soft_tissue(names):
    values = np.ones((12, 12, 12), dtype=np.int16)
    hu = paint(LabelMap(values, names, grid(values.shape)), np.random.default_rng(0), "plain")
    assert 15 < hu.mean() < 60


def test_edges_are_soft():
    body = in_fat({"metal": cube(6, 18)})
    profile = paint(body, np.random.default_rng(0), "plain")[12, 12, :]
    step = profile[12] - profile[3]
    # Unblurred, the whole step lies between two voxels. A Gaussian of 0.45 to 0.75 voxels moves 13 to 25 % of it to
    # the nearest voxel outside, Φ(-0.5 / 0.45) and Φ(-0.5 / 0.75); sampled Gaussians a little less.
    outside = (profile[5] - profile[3]) / step
    assert 0.06 < outside < 0.27
    assert (np.diff(profile[3:8]) > 0).all()


@settings(max_examples=15)
@given(
    name=st.sampled_from(["stomach", "colon", "kidney_left", "heart", "lung_left", "hip_left", "femur_left", "liver"]),
    shape=st.tuples(*[st.integers(1, 6)] * 3),
    spacing=st.sampled_from([0.8, 3.0, 6.0]),
    seed=st.integers(0, 99),
)
def test_tiny_volumes_full_of_one_organ_are_painted(name, shape, spacing, seed):
    values = np.full(shape, 7, dtype=np.int16)
    hu = paint(LabelMap(values, {7: name}, grid(shape, spacing)), np.random.default_rng(seed), variety=2)
    assert hu.shape == shape
    assert hu.dtype == np.float32
    assert np.isfinite(hu).all()
    assert hu.min() >= -1400
    assert hu.max() <= 3300


def test_an_unknown_phase_is_refused():
    with pytest.raises(ConfigError, match="'late' is no phase; expected plain, arterial, venous"):
        paint(in_fat({}), np.random.default_rng(0), "late")


@pytest.mark.parametrize("variety", [-0.1, float("nan"), float("inf")])
def test_an_impossible_variety_is_refused(variety):
    with pytest.raises(UsageError, match="is no factor"):
        paint(in_fat({}), np.random.default_rng(0), None, variety)
