"""Effects of machine and setup: each does what it says, alone, and nothing where it is off."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from scipy import ndimage

from voxicon.core.volume import AIR_HU
from voxicon.errors import BadGeometry, ConfigError
from voxicon.synthesis.painting.scanner import HIGHEST_HU, PRESETS, ScannerConfig, scan

SPACING = (4.0, 4.0, 4.0)
SHAPE = (60, 60, 24)
EFFECTS = ["couch", "clothes", "metal", "bias", "kernel", "thick_slices", "noise", "fov_circle", "fov_z"]


def only(effect: str, **strengths: object) -> ScannerConfig:
    return PRESETS["none"].model_copy(update={effect: 1.0, **strengths})


def patient(shape: tuple[int, int, int] = SHAPE) -> np.ndarray:
    """A cylinder of water 40 voxels wide and 30 deep with a rod of bone, in air."""
    x, y, _ = np.indices(shape)
    hu = np.full(shape, -1000, dtype=np.float32)
    hu[((x - 29.5) / 20) ** 2 + ((y - 29.5) / 15) ** 2 < 1] = 40
    hu[(x - 30) ** 2 + (y - 20) ** 2 < 9] = 500
    return hu


BODY = patient() > -300


def scanned(*args, **kwargs):
    """The HU of a scan; its view is told by `test_the_view_says_what_is_shown`."""
    return scan(*args, **kwargs)[0]


def through(effect: str, seed: int = 0, hu: np.ndarray | None = None, **strengths: object) -> np.ndarray:
    return scanned(patient() if hu is None else hu, SPACING, np.random.default_rng(seed), only(effect, **strengths))


def test_nothing_is_changed_where_all_is_off():
    hu = patient()
    out = scanned(hu, SPACING, np.random.default_rng(0), "none")
    assert (out == hu).all()
    assert out is not hu


@pytest.mark.parametrize("effect", EFFECTS)
def test_every_effect_changes_something_and_leaves_the_input(effect):
    hu = patient()
    out = scanned(hu, SPACING, np.random.default_rng(3), only(effect))
    assert (hu == patient()).all()
    assert out.shape == hu.shape
    assert out.dtype == np.float32
    assert (out != hu).any()
    assert out.min() >= AIR_HU
    assert out.max() <= HIGHEST_HU


@pytest.mark.parametrize("effect", EFFECTS)
def test_same_seed_same_scan(effect):
    assert (through(effect, 5) == through(effect, 5)).all()


def test_switching_one_effect_off_leaves_the_others_as_they_were():
    rng = np.random.default_rng
    cut = only("fov_z")
    both = scanned(patient(), SPACING, rng(1), cut.model_copy(update={"couch": 1.0}))
    alone = scanned(patient(), SPACING, rng(1), cut)
    assert ((both == AIR_HU).all(axis=(0, 1)) == (alone == AIR_HU).all(axis=(0, 1))).all()


@settings(max_examples=25)
@given(
    shape=st.tuples(*[st.integers(1, 9)] * 3),
    value=st.sampled_from([-2048.0, -1000.0, 40.0, 5000.0]),
    spacing=st.sampled_from([(0.7, 0.7, 5.0), SPACING]),
    seed=st.integers(0, 99),
)
def test_odd_volumes_stay_finite_and_in_range(shape, value, spacing, seed):
    everything = ScannerConfig(**dict.fromkeys(EFFECTS, 1.0))
    out = scanned(np.full(shape, value, np.float32), spacing, np.random.default_rng(seed), everything)
    assert np.isfinite(out).all()
    assert out.min() >= AIR_HU
    assert out.max() <= HIGHEST_HU


def test_the_couch_lies_behind_the_patient():
    for seed in range(4):
        new = through("couch", seed) - patient()
        assert (new[BODY] == 0).all()
        y = np.indices(SHAPE)[1]
        back = y[BODY].min()
        # Flat boards lie behind the back; bent ones come up beside it, by at most 45 mm.
        assert y[new > 20].min() < back
        assert np.median(y[new > 20]) <= back + 12
        assert (new > 20).any(axis=(0, 1)).all()


def test_a_couch_has_two_skins():
    lines = []
    for seed in range(10):
        column = through("couch", seed)[30, :15, 12]
        inner = column[1:-1]
        lines.append(int(((inner > column[:-2]) & (inner >= column[2:]) & (inner > -900)).sum()))
    # Boards of up to 60 mm; 60 mm lie between the back and the end of the volume, so most show both.
    assert lines.count(2) >= 4
    assert max(lines) == 2


def test_a_couch_that_is_there_is_not_drawn_again():
    hu = patient()
    hu[5:55, 8] = -100
    assert (through("couch", 0, hu) == hu).all()


def test_clothes_lie_in_front_of_the_patient_and_are_thin():
    new = through("clothes", 1) - patient()
    assert (new[BODY] == 0).all()
    y = np.indices(SHAPE)[1]
    front = np.where(BODY, y, 0).max(axis=1, keepdims=True)
    assert (y >= front)[new > 30].mean() > 0.95
    assert np.abs(new * ~BODY.any(axis=1, keepdims=True)).max() == 0
    assert 0.003 < (new > 30).mean() < 0.15
    assert new.max() < 900


def test_metal_is_only_where_it_is_asked_for():
    assert max(through(effect, 2).max() for effect in EFFECTS if effect != "metal") < 1500


def test_metal_is_denser_than_bone_lies_in_the_body_and_has_rays_in_its_slices():
    for seed in range(12):
        out = through("metal", seed)
        metal = out > 2500
        assert 0 < metal.sum() < 2000
        assert not (metal & ~ndimage.binary_dilation(BODY, iterations=2)).any()
        slices = metal.any(axis=(0, 1))
        change = np.abs(out - patient())
        if (~slices).any():
            assert change[:, :, ~slices].max() == 0
        assert ((change > 20) & ~metal & BODY).any()
        assert (change[(patient() == -1000) & ~metal] == 0).all()


def test_rods_run_through_bone():
    long = 0
    for seed in range(30):
        metal = through("metal", seed) > 2500
        pieces, _ = ndimage.label(metal, np.ones((3, 3, 3)))
        for number, box in enumerate(ndimage.find_objects(pieces), start=1):
            # Clips are at most 6 mm long and 4 mm wide.
            if max(part.stop - part.start for part in box) * 4 > 28:
                long += 1
                assert (ndimage.binary_dilation(pieces == number) & (patient() == 500)).any()
    assert long >= 5


def test_streaks_are_bright_and_dark():
    changes = np.concatenate([(through("metal", s) - patient())[BODY] for s in range(4)])
    assert (changes < -30).any()
    assert ((changes > 30) & (changes < 1000)).any()


def test_bias_is_small_and_smooth_and_leaves_air():
    for seed in range(5):
        change = through("bias", seed, bias_hu=10.0) - patient()
        # Clouds and cup at most 10, a shift of all of at most 5; bone counts 1.3 times.
        assert np.abs(change).max() <= 15 * 1.3 + 1e-3
        assert np.abs(change[~BODY]).max() == 0
        soft = patient() == 40
        step = np.diff(change, axis=0)[soft[1:] & soft[:-1]]
        assert np.abs(step).max() < 2


def test_kernels_blur_or_sharpen_but_keep_means():
    spreads = []
    noisy = patient() + 30 * np.random.default_rng(0).standard_normal(SHAPE).astype(np.float32)
    core = (slice(25, 35), slice(28, 38), slice(None))
    for seed in range(10):
        out = through("kernel", seed, noisy)
        assert out[core].mean() == pytest.approx(noisy[core].mean(), abs=2)
        spreads.append(out[core].std() / noisy[core].std())
    assert min(spreads) < 0.85
    assert max(spreads) > 1.15
    sharp = through("kernel", int(np.argmax(spreads)))
    assert sharp.max() > patient().max() + 10


def test_thick_slices_average_along_z_only():
    rng = np.random.default_rng(0)
    noisy = rng.normal(0, 100, SHAPE).astype(np.float32)
    out = through("thick_slices", 0, noisy, slice_mm=(12.0, 12.0))
    # Three slices of 4 mm in one: a third of the variance at its center, less in between.
    assert 0.12 < (out.var() / noisy.var()) < 0.37
    step = np.diff(out, axis=2).var() / np.diff(out, axis=0).var()
    assert step < 0.5
    constant_along_z = np.repeat(noisy[:, :, :1], SHAPE[2], axis=2)
    same = through("thick_slices", 0, constant_along_z, slice_mm=(12.0, 12.0))
    assert same == pytest.approx(constant_along_z, abs=0.01)


def test_thick_slices_do_not_move_the_patient():
    hu = np.zeros(SHAPE, np.float32)
    hu[:, :, 12] = 1000
    z = np.arange(SHAPE[2])
    found = []
    for seed in range(30):
        profile = through("thick_slices", seed, hu, slice_mm=(10.0, 10.0))[0, 0]
        found.append((profile @ z) / profile.sum())
    assert np.mean(found) == pytest.approx(12, abs=0.2)


def test_slices_that_are_thick_already_stay():
    hu = patient()
    out = scanned(hu, (1.0, 1.0, 6.0), np.random.default_rng(0), only("thick_slices", slice_mm=(4.0, 5.9)))
    assert (out == hu).all()


def test_noise_has_the_asked_deviation_in_the_body_and_no_mean():
    change = through("noise", 0, noise_hu=(20.0, 20.0)) - patient()
    middle = change[25:35, 25:35]
    assert middle.std() == pytest.approx(20, rel=0.25)
    assert abs(change[BODY].mean()) < 2


def test_noise_grows_with_the_path_through_the_patient():
    shape = (90, 60, 20)
    hu = np.full(shape, -1000, np.float32)
    hu[5:85, 15:45] = 40
    change = scanned(hu, SPACING, np.random.default_rng(0), only("noise", noise_hu=(10.0, 10.0))) - hu
    assert change[30:60, 20:40].std() > 1.3 * change[:, :8].std()


def test_wide_bodies_have_horizontal_streaks_and_narrow_ones_have_not():
    correlations = []
    for half in (16, 60):
        shape = (130, 40, 20)
        hu = np.full(shape, -1000, np.float32)
        hu[65 - half : 65 + half, 8:32] = 40
        change = scanned(hu, SPACING, np.random.default_rng(1), only("noise", noise_hu=(10.0, 10.0))) - hu
        inside = change[65 - half + 2 : 65 + half - 2, 10:30]
        correlations.append(np.corrcoef(inside[:-4].ravel(), inside[4:].ravel())[0, 1])
    assert abs(correlations[0]) < 0.1
    assert correlations[1] > 0.1


def test_a_round_field_of_view_is_air_outside_and_untouched_inside():
    for seed in range(5):
        out = through("fov_circle", seed)
        cut = out == AIR_HU
        assert cut[0, 0].all()
        assert cut[-1, -1].all()
        assert (out[~cut] == patient()[~cut]).all()
        assert not cut[28:32, 28:32].any()
        assert (cut == cut[:, :, :1]).all()


def test_a_cut_along_z_takes_whole_slices_from_one_end():
    ends = set()
    for seed in range(12):
        out = through("fov_z", seed)
        gone = (out == AIR_HU).all(axis=(0, 1))
        assert 1 <= gone.sum() <= 0.4 * SHAPE[2]
        assert gone[0] != gone[-1]
        assert np.abs(np.diff(gone.astype(int))).sum() == 1
        assert (out[:, :, ~gone] == patient()[:, :, ~gone]).all()
        ends.add(bool(gone[0]))
    assert ends == {True, False}


def test_the_view_says_what_is_shown():
    # Noise takes air to -1024 as well: only the view tells what was cut off.
    hu = patient() - 100
    both = only("fov_z").model_copy(update={"fov_circle": 1.0, "noise": 1.0})
    for seed in range(5):
        out, shown = scan(hu, SPACING, np.random.default_rng(seed), both)
        assert (out[~shown] == AIR_HU).all()
        assert (out[shown] == AIR_HU).any()
        assert not shown[0, 0].any()
        assert 1 <= (~shown).all(axis=(0, 1)).sum() <= 0.4 * SHAPE[2]
    assert scan(hu, SPACING, np.random.default_rng(0), "none")[1].all()


def test_chances_are_kept():
    half = PRESETS["none"].model_copy(update={"fov_z": 0.5})
    changed = [
        (scanned(patient((20, 20, 8)), SPACING, np.random.default_rng(s), half) == AIR_HU).any() for s in range(60)
    ]
    assert 18 <= sum(changed) <= 42


def test_an_unknown_preset_is_refused():
    with pytest.raises(ConfigError, match="'bad' is no preset; expected none, typical, hard"):
        scanned(patient(), SPACING, np.random.default_rng(0), "bad")


def test_a_slice_is_no_volume():
    with pytest.raises(BadGeometry, match="volume of 2 axes"):
        scanned(patient()[:, :, 0], SPACING, np.random.default_rng(0))


def test_chances_beyond_one_are_refused():
    with pytest.raises(ValidationError):
        ScannerConfig(metal=1.5)
