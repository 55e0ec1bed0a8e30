"""Other patients: nothing folds, nothing breaks, nothing changes sides."""

from __future__ import annotations

from typing import Any

import cc3d
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from voxicon.core.geometry import Geometry
from voxicon.errors import BadGeometry
from voxicon.synthesis.anatomy.deform import AIR_HU, deform, draw_warp
from voxicon.synthesis.label_map import OUTSIDE, TISSUES, LabelMap

NAMES = {**TISSUES, 1: "spleen", 2: "right kidney", 3: "kidney_left", 5: "liver", 21: "urinary_bladder"}
ORGANS = {5: ((45, 10, 40), (50, 45, 40)), 1: ((-60, -20, 50), (28, 30, 32)), 2: ((48, -40, -20), (18, 20, 34)),
          3: ((-48, -40, -15), (18, 20, 34)), 21: ((0, 20, -85), (30, 25, 22))}  # fmt: skip
HU = {OUTSIDE: -1024, 1000: -100, 1001: 50, 1002: 0, 1007: 300, 1: 120, 2: 180, 3: 180, 5: 110, 21: 10}


def body(spacing_mm: float = 5.0) -> LabelMap:
    """A patient cut at head and feet, with air at the sides, lying on a table."""
    n = np.round(np.array([340, 260, 240]) / spacing_mm).astype(int)
    x, y, z = np.meshgrid(*((np.arange(k) - (k - 1) / 2) * spacing_mm for k in n), indexing="ij")
    values = np.zeros(x.shape, dtype=np.int16)
    for value, (a, b) in {1002: (140, 95), 1000: (134, 89), 1001: (115, 72)}.items():
        values[(x / a) ** 2 + (y / b) ** 2 < 1] = value
    for value, (middle, half) in ORGANS.items():
        values[sum(((c - m) / h) ** 2 for c, m, h in zip((x, y, z), middle, half, strict=True)) < 1] = value
    values[(np.abs(y + 112) < 6) & (np.abs(x) < 130)] = 1007
    affine = np.diag([spacing_mm] * 3 + [1.0])
    affine[:3, 3] = (-30, 12, 400)
    return LabelMap(values, NAMES, Geometry(values.shape, affine))


def painted(label_map: LabelMap) -> np.ndarray:
    hu = np.zeros(label_map.values.shape, dtype=np.float32)
    for value, number in HU.items():
        hu[label_map.values == value] = number
    return hu


class Fixed:
    """A source of randomness that always draws the same: `normal` in standard deviations, `uniform` 0 low to 1 high."""

    def __init__(self, normal: float = 0.0, uniform: float = 0.5) -> None:
        self._normal, self._uniform = normal, uniform

    def normal(self, mean: float = 0.0, sd: float = 1.0, size: Any = None) -> Any:
        value = mean + self._normal * sd
        return value if size is None else np.full(size, value)

    def uniform(self, low: float = 0.0, high: float = 1.0) -> float:
        return low + self._uniform * (high - low)

    def standard_normal(self, shape: Any, dtype: Any = np.float64) -> np.ndarray:
        return np.zeros(shape, dtype=dtype)


FATTER = 0.5 + 0.5
LEANER = 0.0
AS_FAT = 0.6 / 1.8
"""Fat is drawn between -0.6 and 1.2: a third of the way is no change."""


@settings(max_examples=8)
@given(seed=st.integers(0, 10_000), strength=st.floats(0.1, 3))
def test_nothing_folds_nothing_breaks_nothing_changes_sides(seed: int, strength: float) -> None:
    source = body()
    warp = draw_warp(source, np.random.default_rng(seed), strength)
    assert warp.volume_ratios().min() > 0
    new, none = deform(source, None, np.random.default_rng(seed), strength)
    assert none is None
    assert new.geometry == warp.geometry
    middles = {}
    for value in ORGANS:
        mask = new.values == value
        assert cc3d.connected_components(mask.astype(np.uint8), connectivity=26).max() == 1
        middles[value] = np.argwhere(mask).mean(axis=0)
    assert middles[5][0] > middles[1][0]
    assert middles[2][0] > middles[3][0]
    assert middles[5][2] > middles[21][2]
    assert set(np.unique(new.values)) <= set(np.unique(source.values))


def test_strength_0_gives_the_source_back() -> None:
    source = body()
    hu = painted(source)
    new, same = deform(source, hu, np.random.default_rng(0), 0.0)
    assert (new.values == source.values).all()
    assert new.geometry == source.geometry
    assert same is hu


def test_nothing_drawn_is_nothing_changed() -> None:
    source = body()
    new, hu = deform(source, painted(source), Fixed(uniform=AS_FAT))  # type: ignore[arg-type]
    first = np.rint(source.geometry.to_index(new.geometry.affine[:3, 3])).astype(int)
    # The margin of 55 mm is 11 voxels of 5 mm, so old and new voxels coincide.
    box = tuple(slice(max(-f, 0), max(-f, 0) + n) for f, n in zip(first, source.values.shape, strict=True))
    seen = new.values[box]
    start = np.maximum(first, 0)
    old = source.values[tuple(slice(s, s + n) for s, n in zip(start, seen.shape, strict=True))]
    # The skin of the source is 6 mm thick, which is more than skin may be.
    assert (np.where(seen == 1002, 1000, seen) == np.where(old == 1002, 1000, old)).all()
    assert hu is not None
    assert np.abs(hu[new.values == 5] - 110).max() < 30


def test_the_same_seed_makes_the_same_patient_and_another_one_another() -> None:
    source = body()
    hu = painted(source)
    (first, a), (same, b), (other, _) = (deform(source, hu, np.random.default_rng(s)) for s in (3, 3, 4))
    assert (first.values == same.values).all()
    assert a is not None
    assert b is not None
    assert (a == b).all()
    assert first.values.shape != other.values.shape or (first.values != other.values).any()


def test_patients_differ_and_none_is_a_monster() -> None:
    source = body()
    before = source.volumes_ml()
    ratios = []
    for seed in range(8):
        after = deform(source, None, np.random.default_rng(seed))[0].volumes_ml()
        ratios.append([after[name] / before[name] for name in ("liver", "spleen", "right kidney", "urinary_bladder")])
    spread = np.log(ratios)
    assert np.exp(np.abs(spread)).max() < 5
    assert (spread.std(axis=0) > 0.1).all()


def test_hu_go_where_the_labels_go() -> None:
    source = body()
    new, hu = deform(source, painted(source), np.random.default_rng(5))
    assert hu is not None
    assert hu.dtype == np.float32
    for value in (1, 2, 5):
        deep = ndimage.binary_erosion(new.values == value)
        assert np.abs(hu[deep] - HU[value]).max() < 25


def test_beyond_the_source_there_is_air() -> None:
    source = body()
    hu = painted(source)
    hu[source.values == OUTSIDE] = -900
    warp = draw_warp(source, np.random.default_rng(5))
    _, new = deform(source, hu, np.random.default_rng(5))
    assert new is not None
    limits = np.array(source.values.shape).reshape(3, 1, 1, 1)
    beyond = ((warp.source_index < -0.51) | (warp.source_index > limits - 0.49)).any(axis=0)
    assert beyond.any()
    assert (new[beyond] == AIR_HU).all()
    within = ((warp.source_index > -0.49) & (warp.source_index < limits - 0.51)).all(axis=0)
    assert (new[within] >= -900.1).all()


def test_where_the_scan_cuts_the_body_it_still_does_from_edge_to_edge() -> None:
    new, _ = deform(body(), None, np.random.default_rng(2), 1.5)
    patient = np.isin(new.values, [OUTSIDE, 1007], invert=True)
    filled = patient.sum(axis=(0, 1))
    assert filled.min() > 0.5 * filled.max()
    middle = np.argwhere(patient).mean(axis=0).round().astype(int)
    assert patient[middle[0], middle[1]].all()
    # At the sides there is air to grow into, and some of it is kept.
    for axis in (0, 1):
        ends = np.moveaxis(patient, axis, 0)
        assert not ends[0].any()
        assert not ends[-1].any()


def test_fat_comes_and_goes_under_the_skin_while_organs_stay() -> None:
    source = body()
    volumes = [
        deform(source, None, Fixed(uniform=u))[0].volumes_ml()  # type: ignore[arg-type]
        for u in (LEANER, AS_FAT, FATTER)
    ]
    lean, same, fat = (v["fat"] + v["skin"] for v in volumes)
    assert lean < 0.85 * same
    assert fat > 1.3 * same
    assert volumes[2]["liver"] == pytest.approx(volumes[1]["liver"], rel=0.1)


def test_growth_makes_organs_a_larger_part_of_the_body() -> None:
    source = body()
    less, more = (deform(source, None, Fixed(n, AS_FAT))[0] for n in (-0.7, 0.7))  # type: ignore[arg-type]
    shares = [
        {name: ml / sum(m.volumes_ml().values()) for name, ml in m.volumes_ml().items()} for m in (less, source, more)
    ]
    for name in ("liver", "spleen", "kidney_left", "right kidney", "urinary_bladder"):
        assert 1.05 * shares[0][name] < shares[1][name] < shares[2][name] / 1.05
    assert sum(less.volumes_ml().values()) < sum(source.volumes_ml().values()) < sum(more.volumes_ml().values())


def test_crumbs_go_to_what_lies_around_them_and_halves_stay() -> None:
    source = body()
    thread = LabelMap(source.values.copy(), {**NAMES, 52: "aorta"}, source.geometry)
    middle = np.array(source.values.shape) // 2
    for k in range(-20, 21):
        thread.values[middle[0] + k // 2, middle[1] - 4, middle[2] + k] = 52
    for seed in range(6):
        new, _ = deform(thread, None, np.random.default_rng(seed), 1.5)
        mask = (new.values == 52).astype(np.uint8)
        sizes = np.bincount(cc3d.connected_components(mask, connectivity=26).ravel())[1:]
        assert sizes.min() >= 0.1 * sizes.max()
        assert mask.sum() > 10


def test_skin_stays_thin() -> None:
    new, _ = deform(body(3.0), None, Fixed(uniform=FATTER))  # type: ignore[arg-type]
    patient = np.isin(new.values, [OUTSIDE, 1007], invert=True)
    cross = ndimage.generate_binary_structure(2, 1)[:, :, None]
    deep = ndimage.binary_erosion(patient, cross, border_value=1)
    assert not (deep & (new.values == 1002)).any()
    assert (new.values == 1002).any()


def test_an_empty_map_and_one_without_fat_pass() -> None:
    geometry = Geometry((8, 9, 10), np.diag([4.0, 4.0, 4.0, 1.0]))
    empty, _ = deform(LabelMap(np.zeros((8, 9, 10), dtype=np.int16), {}, geometry), None, np.random.default_rng(0))
    assert not empty.values.any()
    full, _ = deform(
        LabelMap(np.full((8, 9, 10), 5, dtype=np.int16), {5: "liver"}, geometry), None, np.random.default_rng(0)
    )
    assert (full.values == 5).all()


def test_refusals() -> None:
    source = body()
    with pytest.raises(BadGeometry, match="pass both on one grid"):
        deform(source, np.zeros((2, 2, 2), dtype=np.float32), np.random.default_rng(0))
    flipped = Geometry(source.geometry.shape, np.diag([-5.0, -5.0, 5.0, 1.0]))
    with pytest.raises(BadGeometry, match="expected a grid along RAS"):
        deform(LabelMap(source.values, NAMES, flipped), None, np.random.default_rng(0))
