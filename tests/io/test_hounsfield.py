"""Value rows of the fault corpus: missing numbers, offsets, padding, other pictures."""

import numpy as np
import pytest

from tests.io.nifti_faults import nifti_bytes, phantom, refused, save
from voxicon.core import storage
from voxicon.errors import NotCt
from voxicon.io import hounsfield
from voxicon.io.nifti import ReadOptions, read_volume

SHAPE = (20, 18, 16)
N = 20 * 18 * 16


def noise(seed=0):
    return np.random.default_rng(seed).random(SHAPE)


def test_row_20_few_missing_numbers_become_air(tmp_path):
    hu = phantom().astype(np.float32)
    hu[9, 9, :3] = np.nan, np.inf, -np.inf
    volume = read_volume(save(tmp_path, nifti_bytes(hu)))
    assert (volume.hu[9, 9, :3] == -1024).all()
    rest = np.isfinite(hu)
    assert (volume.hu[rest] == hu[rest]).all()
    (warning,) = volume.source.warnings
    assert "3 voxels without a number" in warning


@pytest.mark.parametrize(("share", "fits"), [(0.049, True), (0.051, False)])
def test_row_20_many_missing_numbers_are_refused(tmp_path, share, fits):
    hu = phantom().astype(np.float32)
    hu.ravel()[: int(share * N)] = np.nan
    path = save(tmp_path, nifti_bytes(hu))
    if fits:
        assert np.isfinite(read_volume(path).hu).all()
    else:
        assert "5.1%" in refused(path, "E-NAN", NotCt)


def test_missing_numbers_do_not_hide_a_wrong_range(tmp_path):
    values = noise().astype(np.float32)
    values[0, 0, 0] = np.nan
    refused(save(tmp_path, nifti_bytes(values)), "E-HU", NotCt)


@pytest.mark.parametrize("padding", [-2000, -3024, -1025])
def test_row_22_padding_becomes_air(tmp_path, padding):
    hu = phantom()
    hu[0] = padding
    volume = read_volume(save(tmp_path, nifti_bytes(hu)))
    assert (volume.hu == np.maximum(hu, -1024)).all()
    (warning,) = volume.source.warnings
    assert f"{18 * 16:,} voxels lie below -1024" in warning
    assert f"lowest {padding}" in warning


@pytest.mark.parametrize("padded", [False, True])
def test_row_22_stored_offset_is_found_and_removed(tmp_path, padded):
    stored = phantom().astype(np.int16) + 1024
    if padded:
        stored[0] = -2000
    else:
        stored = stored.astype(np.uint16)
    path = save(tmp_path, nifti_bytes(stored))
    volume = read_volume(path)
    assert (volume.hu[1:] == phantom()[1:]).all()
    assert volume.hu.min() >= -1024
    assert "HU + 1024" in volume.source.warnings[0]
    assert "hu_offset=0" in volume.source.warnings[0]


def test_row_22_hu_offset_is_the_users_word(tmp_path):
    path = save(tmp_path, nifti_bytes((phantom() + 1024).astype(np.uint16)))
    as_stored = read_volume(path, ReadOptions(hu_offset=0))
    assert (as_stored.hu == phantom() + 1024.0).all()
    assert "neither air nor fat" in as_stored.source.warnings[0]
    moved = read_volume(path, ReadOptions(hu_offset=-1000))
    assert (moved.hu == phantom() + 24.0).all()
    assert moved.source.warnings == ()


def test_clamping_follows_the_users_offset(tmp_path):
    volume = read_volume(save(tmp_path, nifti_bytes()), ReadOptions(hu_offset=-100))
    assert (volume.hu == np.maximum(phantom() - 100.0, -1024)).all()
    assert "lowest -11" in volume.source.warnings[0]


@pytest.mark.parametrize(
    ("parts", "why"),
    [
        ((phantom() > -500, phantom() > 0, -1000, 60, 1050), "a CT in HU with much dense bone"),
        ((phantom() > -500, phantom() > 0, 900, 950, 1050), "no air near 0"),
    ],
)
def test_row_22_no_offset_is_invented(tmp_path, parts, why):
    body, core, outside, rim, inside = parts
    values = np.where(core, inside, np.where(body, rim, outside)) + np.rint(noise() * 200)
    assert (read_volume(save(tmp_path, nifti_bytes(values.astype(np.int16)))).hu == values).all(), why


def test_row_22_a_broad_histogram_is_no_stored_offset(tmp_path):
    values = np.where(phantom() < -500, 10, 200) + np.rint(noise() * 1100) * (phantom() > -500)
    volume = read_volume(save(tmp_path, nifti_bytes(values.astype(np.int16))))
    assert (volume.hu == values).all()
    assert "neither air nor fat" in volume.source.warnings[0]


@pytest.mark.parametrize("values", [noise(), noise() * 2 - 1, np.rint(noise() * 255), noise() * 6 - 3, noise() * 255])
def test_row_23_normalized_values(tmp_path, values):
    refused(save(tmp_path, nifti_bytes(values.astype(np.float32))), "E-HU", NotCt)


def test_row_23_eight_bit_picture(tmp_path):
    values = np.rint(noise() * 255).astype(np.uint8)
    assert "0 to 255" in refused(save(tmp_path, nifti_bytes(values)), "E-HU", NotCt)


@pytest.mark.parametrize("value", [0, -1000, 7])
def test_row_24_constant_image(tmp_path, value):
    refused(save(tmp_path, nifti_bytes(np.full(SHAPE, value, np.int16))), "E-EMPTY", NotCt)


def test_row_25_mr_like_values_are_warned_about(tmp_path):
    values = np.rint(noise() * 900 + 10).astype(np.int16)
    volume = read_volume(save(tmp_path, nifti_bytes(values)))
    (warning,) = volume.source.warnings
    assert "neither air nor fat" in warning
    assert (volume.hu == values).all()


@pytest.mark.parametrize("labels", [2, 118, 150])
def test_row_26_a_label_map_is_no_ct(tmp_path, labels):
    values = np.random.default_rng(0).integers(0, labels, SHAPE).astype(np.int16) * 5
    assert "label map" in refused(save(tmp_path, nifti_bytes(values)), "E-INTENT", NotCt)
    refused(save(tmp_path, nifti_bytes(values.astype(np.float32))), "E-INTENT", NotCt)


def test_missing_numbers_do_not_hide_a_label_map(tmp_path):
    values = np.random.default_rng(0).integers(0, 9, SHAPE).astype(np.float32) * 100
    values[0, 0, 0] = np.nan
    refused(save(tmp_path, nifti_bytes(values)), "E-INTENT", NotCt)


def test_few_values_with_air_below_zero_are_a_phantom(tmp_path):
    values = np.where(phantom() > -500, 40, -1000).astype(np.int16)
    assert read_volume(save(tmp_path, nifti_bytes(values))).source.warnings == ()


def test_soft_tissue_crop_with_fat_is_not_warned_about(tmp_path):
    values = np.where(phantom() > 0, 50, -100).astype(np.int16)
    assert read_volume(save(tmp_path, nifti_bytes(values))).source.warnings == ()


def test_slab_by_slab_gives_the_same(tmp_path, monkeypatch):
    hu = phantom().astype(np.float32)
    hu[0] = -3024
    hu[1, 1, ::5] = np.nan
    path = save(tmp_path, nifti_bytes(hu, scl_slope=1, scl_inter=0))
    whole = read_volume(path)
    monkeypatch.setattr(storage, "_PIECE_BYTES", 1)
    parts = read_volume(path)
    assert (whole.hu == parts.hu).all()
    assert whole.source.warnings == parts.source.warnings


def test_a_large_volume_is_judged_by_a_sample(tmp_path, monkeypatch):
    monkeypatch.setattr(hounsfield, "_SAMPLE_VOXELS", 10_000)
    hu = phantom((60, 50, 40))
    assert hounsfield._sample(hu.astype(np.float32)).size == 20 * 17 * 14
    volume = read_volume(save(tmp_path, nifti_bytes((hu + 1024).astype(np.uint16))))
    assert (volume.hu == hu).all()
