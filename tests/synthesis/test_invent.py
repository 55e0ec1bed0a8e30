"""A body around given organs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from voxicon.core.geometry import Geometry
from voxicon.data.card import load_card
from voxicon.io.nifti import read_labels
from voxicon.synthesis.anatomy import invent
from voxicon.synthesis.anatomy.complete import complete, resampled
from voxicon.synthesis.label_map import OUTSIDE, TISSUES, LabelMap
from voxicon.synthesis.phantom.body import draw_body

NAMES = {1: "spleen", 2: "right kidney", 3: "left kidney", 4: "gall bladder", 6: "liver", 8: "arota"}
ORGANS = {6: ((60, 20, 60), (60, 55, 55)), 1: ((-75, -20, 70), (28, 35, 40)), 2: ((55, -30, -5), (22, 25, 45)),
          3: ((-55, -30, 5), (22, 25, 45)), 8: ((-10, 15, 20), (9, 9, 300))}  # fmt: skip


def some_organs(spacing_mm: float = 6.0) -> LabelMap:
    n = np.round(np.array([420, 330, 300]) / spacing_mm).astype(int)
    axes = [(np.arange(k) - (k - 1) / 2) * spacing_mm for k in n]
    x, y, z = np.meshgrid(*axes, indexing="ij")
    values = np.zeros(x.shape, dtype=np.int16)
    for value, (middle, half) in ORGANS.items():
        values[sum(((c - m) / h) ** 2 for c, m, h in zip((x, y, z), middle, half, strict=True)) < 1] = value
    affine = np.diag([spacing_mm] * 3 + [1.0])
    affine[:3, 3] = [a[0] + shift for a, shift in zip(axes, (500, -200, 30), strict=True)]
    return LabelMap(values, NAMES, Geometry(values.shape, affine))


@pytest.fixture(scope="module")
def whole() -> tuple[LabelMap, LabelMap]:
    source = some_organs()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(invent, "DRAWN_MM", 6.0)
        return source, complete(source, None, np.random.default_rng(4))


def middle(label_map: LabelMap, *names: str) -> np.ndarray:
    place: np.ndarray = np.argwhere(label_map.mask(names)).mean(axis=0)
    return place


def test_given_labels_stay_and_the_rest_is_a_body_around_them(whole: tuple[LabelMap, LabelMap]) -> None:
    source, new = whole
    given = source.values != OUTSIDE
    assert (new.values[given] == source.values[given]).all()
    assert (new.values[~given & np.isin(new.values, list(NAMES))]).size == 0
    assert {NAMES[v] for v in NAMES} <= set(new.names.values())
    patient = new.values != OUTSIDE
    assert not (ndimage.binary_dilation(given, iterations=2) & ~patient).any()
    for name in ("fat", "muscle", "skin", "colon", "small_bowel", "vertebrae_L3", "lung_lower_lobe_right"):
        assert new.volumes_ml()[name] > 5, name
    assert len(set(new.names.values())) == len(new.names)
    assert all(TISSUES.get(value, name) == name for value, name in new.names.items())


def test_lungs_lie_above_spine_behind_and_nothing_on_the_other_side(whole: tuple[LabelMap, LabelMap]) -> None:
    _, new = whole
    right, left = middle(new, "lung_lower_lobe_right"), middle(new, "lung_lower_lobe_left")
    assert right[2] > middle(new, "liver")[2]
    assert right[0] > left[0]
    assert middle(new, "hip_right")[0] > middle(new, "hip_left")[0]
    assert middle(new, "vertebrae_L2", "vertebrae_L3")[1] < middle(new, "arota")[1]
    assert middle(new, "vertebrae_L3")[2] > middle(new, "vertebrae_L5")[2]


def test_what_the_map_could_tell_is_not_invented(whole: tuple[LabelMap, LabelMap]) -> None:
    _, new = whole
    # The map has a name for the gallbladder and no voxel of it: this patient has none.
    for name in ("gallbladder", "gall bladder", "kidney_left", "aorta", "hepatic_vessel"):
        assert not new.mask([name]).any(), name


def test_the_same_seed_invents_the_same_body(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(invent, "DRAWN_MM", 10.0)
    source = some_organs(10.0)
    first, same, other = (complete(source, None, np.random.default_rng(s)) for s in (1, 1, 2))
    assert (first.values == same.values).all()
    assert (first.values != other.values).any()
    assert (complete(source).values == complete(source).values).all()


def test_a_body_fits_its_own_organs_wherever_they_are() -> None:
    body = draw_body(np.random.default_rng(0), 8.0, "abdomen")
    kept = np.isin(body.values, [v for v, n in body.names.items() if n in ("liver", "spleen", "kidney_left", "aorta")])
    affine = body.geometry.affine.copy()
    affine[:3, 3] += (100, -50, 25)
    moved = LabelMap(np.where(kept, body.values, 0).astype(np.int16), body.names, Geometry(body.values.shape, affine))
    fit = invent.fitted(moved, body)
    points = moved.geometry.to_world(np.argwhere(kept))
    # The way back is (-100, 50, -25); what is left is that the body may be made a little roomier.
    assert np.abs(fit(points) - (points - (100, -50, 25))).mean(axis=0).max() < 8
    assert (fit.slopes > 0).all()


def test_one_unknown_structure_lands_in_the_middle_of_a_body(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(invent, "DRAWN_MM", 10.0)
    values = np.zeros((30, 24, 20), dtype=np.int16)
    values[13:17, 10:14, 8:12] = 7
    source = LabelMap(values, {7: "device"}, Geometry((30, 24, 20), np.diag([10.0, 10.0, 10.0, 1.0])))
    new = complete(source, None, np.random.default_rng(0))
    assert (new.values[values == 7] == 7).all()
    assert (new.values != OUTSIDE).mean() > 0.2
    # 7 is the pancreas in a drawn body; it moves aside.
    assert new.names.get(207) in ("pancreas", None)
    assert (new.values == 7).sum() == 64


def test_a_real_label_map_without_ct(real_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(invent, "DRAWN_MM", 6.0)
    raw, grid = read_labels(real_data / "label_maps" / "amos_0013.nii.gz")
    source = resampled(LabelMap(raw.astype(np.int16), dict(load_card("amos22_ct").raw), grid), 6.0)
    new = complete(source, None, np.random.default_rng(1))
    given = source.values != OUTSIDE
    assert (new.values[given] == source.values[given]).all()
    assert not (ndimage.binary_dilation(given) & (new.values == OUTSIDE)).any()
    lungs = middle(new, *(n for n in new.names.values() if n.startswith("lung")))
    assert lungs[2] > middle(new, "liver")[2] + 5
    assert middle(new, *(n for n in new.names.values() if n.startswith("vertebrae")))[1] < middle(new, "arota")[1] - 3
    assert middle(new, "hip_left", "hip_right")[2] < middle(new, "right kidney")[2]
    # Ribs and spine give way to organs only at their edges.
    assert new.volumes_ml()["vertebrae_L3"] > 20
