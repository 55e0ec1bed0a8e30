"""A copy is found whatever was done to its file; another patient is not taken for it."""

from __future__ import annotations

import json
from itertools import combinations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, zoom

from voxicon.core.geometry import Geometry
from voxicon.core.volume import Volume
from voxicon.data import fingerprint as module
from voxicon.data.fingerprint import Fingerprint, Match, compare, duplicate_groups, find_duplicates, fingerprint
from voxicon.errors import UnreadableFile
from voxicon.io.hounsfield import settle_hu
from voxicon.io.nifti import read_volume


def volume(hu, affine=None) -> Volume:
    return Volume(hu, Geometry(hu.shape, np.eye(4) if affine is None else affine))


def patient(seed: int, shape=(60, 54, 45)):
    """An oval body with lumps of its own and noise, in air; whole numbers, as a scanner gives them."""
    rng = np.random.default_rng(seed)
    x, y, z = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij")
    lumps = gaussian_filter(rng.normal(0, 1, shape), 6)
    hu = np.where(x**2 + (1.3 * y) ** 2 < 0.7 + 0.2 * z, 40 + 4000 * lumps, -1000)
    return np.rint(hu + rng.normal(0, 10, shape)).astype(np.float32)


HU = patient(0)
PRINT = fingerprint(volume(HU))


def padded(hu):
    return np.pad(hu, ((5, 9), (0, 4), (3, 0)), constant_values=-1024)


def air_moved(hu):
    return np.where(hu < -600, np.float32(-3024), hu)


SAME = {
    "flipped": lambda hu: hu[::-1, :, ::-1],
    "axes permuted, as (z, y, x) without a header": lambda hu: hu.transpose(2, 1, 0)[:, ::-1],
    "in another order in memory": np.asfortranarray,
    "int16": lambda hu: hu.astype(np.int16),
    "float64 with rounding": lambda hu: hu - 1e-4,
    "air set to padding": air_moved,
    "padded": padded,
    "clipped at 1000": lambda hu: np.minimum(hu, 1000),
    "cropped to 60 % of z": lambda hu: hu[:, :, 9:36],
    "cropped to 60 % of z, then permuted and flipped": lambda hu: hu[:, :, 9:36].transpose(1, 2, 0)[:, ::-1],
    "cropped to the right half": lambda hu: hu[30:],
}
SUSPECTED = {
    "resampled to 1.3 times the spacing": lambda hu: zoom(hu, 1 / 1.3, order=1),
    "resampled along z, permuted and flipped": lambda hu: zoom(hu, (1, 1, 0.62), order=1).transpose(2, 0, 1)[::-1],
    "noise of 1 HU": lambda hu: np.rint(hu + np.random.default_rng(1).normal(0, 1, hu.shape)),
    "noise of 1 HU, and padding far below air": lambda hu: np.pad(
        SUSPECTED["noise of 1 HU"](hu), 5, constant_values=-3024
    ),
    "in steps of 16 HU": lambda hu: np.rint(hu / 16) * 16,
    "24 HU higher": lambda hu: hu + 24,
    "1024 HU higher": lambda hu: hu + 1024,
}
MISSED = {
    "cropped to 60 % of z, with new noise": lambda hu: SUSPECTED["noise of 1 HU"](hu[:, :, 9:36]),
    "clipped to [-175, 250]": lambda hu: np.clip(hu, -175, 250),
}


@pytest.mark.parametrize("change", SAME.values(), ids=SAME)
def test_copies_with_the_same_values_are_the_same(change):
    match = compare(PRINT, fingerprint(volume(change(HU))))
    assert match is not None
    assert match.kind == "same"
    assert match.common_share == 1
    assert match == compare(fingerprint(volume(change(HU))), PRINT)


@pytest.mark.parametrize("change", SUSPECTED.values(), ids=SUSPECTED)
def test_copies_with_new_values_are_suspected(change):
    match = compare(PRINT, fingerprint(volume(change(HU))))
    assert match is not None
    assert (match.kind, match.common_slices, match.common_share) == ("suspected", 0, 0.0)
    assert match.correlation >= module.MIN_CORRELATION


@pytest.mark.parametrize("change", MISSED.values(), ids=MISSED)
def test_copies_that_are_not_found(change):
    """Told in the module's docstring; a better fingerprint may turn these around."""
    assert compare(PRINT, fingerprint(volume(change(HU)))) is None


def test_other_patients_do_not_match():
    prints = [PRINT, *(fingerprint(volume(patient(seed))) for seed in range(1, 8))]
    assert all(compare(a, b) is None for a, b in combinations(prints, 2))


def test_the_header_is_not_looked_at():
    affine = np.diag([-3.0, 0.7, 5.0, 1.0])[[1, 0, 2, 3]]
    assert fingerprint(volume(HU, affine)) == PRINT


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("slab_voxels", [1, 7 * 54 * 45, 10**9])
def test_neither_slabs_nor_the_order_in_memory_show(monkeypatch, order, slab_voxels):
    hu = HU.copy()
    hu[-8:] = np.abs(hu[-8:])  # the last slab has no air, the first has
    hu[:, :, -8:] = np.abs(hu[:, :, -8:])
    one = fingerprint(volume(hu))
    monkeypatch.setattr(module, "_SLAB_VOXELS", slab_voxels)
    other = fingerprint(volume(np.asarray(hu, order=order)))
    assert one.slices == other.slices
    # The thumbnail is a sum in float32, which the order of adding moves by a rounding.
    a, b = (np.frombuffer(one.thumbnail, dtype=np.int8).astype(int) for one in (one, other))
    assert np.abs(a - b).max() <= 1


def test_share_by_hand():
    """Slices 0-19 against 10-44 along z: 10 of 20 in common; along x and y every slice is cut, so none is."""
    match = compare(fingerprint(volume(HU[:, :, :20])), fingerprint(volume(HU[:, :, 10:])))
    assert match is not None
    assert (match.kind, match.common_slices, match.common_share) == ("same", 10, 0.5)


def test_three_slices_in_common_prove_it():
    match = compare(fingerprint(volume(HU[:, :, :13])), fingerprint(volume(HU[:, :, 10:])))
    assert match is not None
    assert (match.kind, match.common_slices, match.common_share) == ("same", 3, 0.2308)  # 3 / 13


def test_two_slices_in_common_prove_something_only_for_a_scan_that_has_no_more():
    front, back, two = (fingerprint(volume(HU[:, :, cut])) for cut in (np.s_[:12], np.s_[10:], np.s_[10:12]))
    assert compare(front, back) is None
    match = compare(two, back)
    assert match is not None
    assert (match.kind, match.common_slices, match.common_share) == ("same", 2, 1.0)


def test_slices_without_noise_prove_nothing():
    air = np.full((20, 20, 20), -1000, dtype=np.float32)
    water = np.zeros_like(air)
    levels = air.copy()
    levels[5:15, 5:15] = 30
    levels[8:12, 8:12] = 200
    for hu in (air, water, levels):
        assert fingerprint(volume(hu)).slices == (b"", b"", b"")
    # Nothing to see and nothing in common: two such scans are not a pair.
    assert compare(fingerprint(volume(air)), fingerprint(volume(air))) is None
    assert compare(fingerprint(volume(air)), PRINT) is None
    assert find_duplicates({"a": fingerprint(volume(air)), "b": fingerprint(volume(water))}) == {}


@pytest.mark.parametrize(
    ("values", "counts"),
    [
        (range(31), 0),
        (range(32), 1),
        ([*range(16), *range(32, 48)], 1),
        ([*range(16), *range(64, 80)], 0),  # 16 and 16 that are the same modulo 64: told apart no more than 16
    ],
)
def test_a_slice_counts_from_32_values_on(values, counts):
    hu = np.full((1, 8, 8), -1000, dtype=np.float32)
    hu.ravel()[: len(values)] = values
    assert len(fingerprint(volume(hu)).digests(0)) == counts


@pytest.mark.parametrize(("hu", "counts"), [(-501, False), (-500, True), (999, True), (1000, False)])
def test_the_window_of_tissue(hu, counts):
    slice_ = np.arange(64, dtype=np.float32).reshape(1, 8, 8)
    plain, more = (np.concatenate([slice_, np.full((1, 1, 8), v, np.float32)], axis=1) for v in (-1000, hu))
    assert (fingerprint(volume(plain)).slices[0] != fingerprint(volume(more)).slices[0]) == counts


def test_through_json_and_back():
    assert Fingerprint.from_dict(json.loads(json.dumps(PRINT.to_dict()))) == PRINT


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": 0}, "version 0, expected 1; compute it again"),
        ({"slices": ["", ""]}, "expected three multiples of 8 and 4096"),
        ({"slices": ["AAAA", "", ""]}, r"digests of \[3, 0, 0\] bytes"),
        ({"slices": None}, "damaged"),
        ({"slices": ["AAAA?AAAAAAA=", "", ""]}, "damaged"),
        ({"thumbnail": "AAAA"}, "a thumbnail of 3"),
        ({"thumbnail": "not base 64"}, "damaged"),
    ],
)
def test_stored_fingerprints_that_cannot_be_used(change, message):
    with pytest.raises(UnreadableFile, match=message):
        Fingerprint.from_dict({**PRINT.to_dict(), **change})


def test_pinned():
    """Stored fingerprints stay comparable: when this fails, raise VERSION and write the new number here."""
    hu = np.arange(64, dtype=np.float32).reshape(1, 8, 8)
    assert [hex(n) for n in fingerprint(volume(hu)).digests(0)] == ["0x5de20ba1aaf8c922"]
    assert module.VERSION == 1


def prints_of_many() -> dict[str, Fingerprint]:
    """Twelve patients and, of five of them, copies of every kind."""
    scans = {f"p{seed:02}": patient(seed) for seed in range(12)}
    changes = [*SAME.values(), *SUSPECTED.values(), *MISSED.values()]
    copies = {f"p{k % 5:02}/copy{k}": change(scans[f"p{k % 5:02}"]) for k, change in enumerate(changes)}
    return {name: fingerprint(volume(hu)) for name, hu in {**copies, **scans}.items()}


def test_finding_many_is_comparing_all_pairs():
    prints = prints_of_many()
    expected = {(a, b): m for a, b in combinations(sorted(prints), 2) if (m := compare(prints[a], prints[b]))}
    found = find_duplicates(prints)
    assert found == expected
    assert list(found) == sorted(expected)
    assert {match.kind for match in found.values()} == {"same", "suspected"}
    assert all(a[:3] == b[:3] for a, b in found)


def test_look_alikes_are_not_lost_near_the_threshold():
    """Thumbnails at every distance, turned at random: the short cut finds exactly what all pairs give."""
    rng = np.random.default_rng(5)
    base = gaussian_filter(rng.normal(0, 1, (16, 16, 16)), 2)
    prints = {}
    for k in range(60):
        noise = rng.normal(0, 1, base.shape)
        if k % 2:  # a difference that no turn changes is all that the short cut sees, and it must allow for it
            noise = noise.ravel()[module._turns()].mean(axis=0).reshape(base.shape)
        cells = base / base.std() + (k % 12) * 0.03 * noise / noise.std()
        cells = np.flip(cells.transpose(rng.permutation(3)), rng.permutation(3)[: k % 4])
        cells = cells - cells.mean()
        scaled = np.rint(cells * (127 / np.abs(cells).max()))
        prints[f"{k:02}"] = Fingerprint((b"", b"", b""), scaled.astype(np.int8).tobytes())
    expected = {pair for pair in combinations(prints, 2) if compare(prints[pair[0]], prints[pair[1]])}
    assert 0 < len(expected) < 60 * 59 / 2
    assert set(find_duplicates(prints)) == expected


def test_none_and_one():
    assert find_duplicates({}) == {}
    assert find_duplicates({"a": PRINT}) == {}
    assert duplicate_groups({}) == []


def test_groups_by_hand():
    same, suspected = Match("same", 9, 1.0, 1.0), Match("suspected", 0, 0.0, 0.99)
    matches = {("a", "b"): same, ("b", "c"): suspected, ("d", "e"): same}
    assert duplicate_groups(matches) == [{"a", "b", "c"}, {"d", "e"}]
    assert duplicate_groups(matches, include_suspected=False) == [{"a", "b"}, {"d", "e"}]


def test_real_patients_are_told_apart_and_their_copies_found(real_data):
    scans = {str(path.relative_to(real_data)): read_volume(path) for path in sorted(real_data.glob("*/*ct.nii.gz"))}
    prints = {name: fingerprint(scan) for name, scan in scans.items()}
    assert len(prints) >= 24
    assert find_duplicates(prints) == {}
    units = {name: module._unit(one.thumbnail) for name, one in prints.items()}
    assert max((module._turned(units[a]) @ units[b]).max() for a, b in combinations(units, 2)) < 0.95

    for name in [name for name in scans if "STS_02" in name or "STS_04" in name]:
        hu = np.asarray(scans[name].hu)
        stored = hu + np.float32(1024)
        assert any("HU + 1024" in warning for warning in settle_hu(stored, name, None))
        n = hu.shape[2]
        for copy in (padded(hu), hu[:, :, n // 5 : n - n // 5].transpose(1, 2, 0), stored):
            match = compare(prints[name], fingerprint(volume(copy)))
            assert match is not None
            assert (match.kind, match.common_share) == ("same", 1.0)
        to_1_5_mm = [spacing / 1.5 for spacing in scans[name].geometry.spacing_mm]
        match = compare(prints[name], fingerprint(volume(zoom(hu, to_1_5_mm, order=1))))
        assert match is not None
        assert match.kind == "suspected"
        assert match.correlation >= 0.997
