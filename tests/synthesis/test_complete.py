"""Label maps made whole: by HU where there is a CT, around the organs where there is none."""

from __future__ import annotations

import numpy as np
import pytest

from tests.phantoms import ORIENTATIONS
from voxicon.core.geometry import Geometry
from voxicon.core.orientation import to_ras_order
from voxicon.errors import BadGeometry, ConfigError
from voxicon.synthesis.anatomy.complete import complete, resampled
from voxicon.synthesis.label_map import OUTSIDE, TISSUES, LabelMap

CODE = {name: value for value, name in TISSUES.items()}
NAMES = {5: "liver", 29: "vertebrae_L3", 52: "aorta"}
S = 3.0


def grid(*n: int, spacing_mm: float = S) -> Geometry:
    x, y, z = n
    return Geometry((x, y, z), np.diag([spacing_mm] * 3 + [1.0]))


def coordinates(n: tuple[int, int, int]) -> tuple[np.ndarray, ...]:
    x, y, z = np.meshgrid(*((np.arange(k) - (k - 1) / 2) * S for k in n), indexing="ij")
    return x, y, z


def slab() -> tuple[LabelMap, np.ndarray, dict[str, np.ndarray]]:
    """A body on a table, some of it labeled; the CT, and where each unlabeled tissue is."""
    n = (90, 74, 30)
    x, y, z = coordinates(n)
    hu = np.full(n, -1000.0, dtype=np.float32)
    body = (x / 115) ** 2 + (y / 80) ** 2 < 1
    hu[body] = -100
    hu[(x / 98) ** 2 + (y / 64) ** 2 < 1] = 55
    hu[(x / 86) ** 2 + (y / 52) ** 2 < 1] = -95
    values = np.zeros(n, dtype=np.int16)

    def ball(a: float, b: float, c: float, r: float) -> np.ndarray:
        inside: np.ndarray = (x - a) ** 2 + (y - b) ** 2 + (z - c) ** 2 < r**2
        return inside

    for value, number, mask in (
        (5, 110, ball(40, 10, 0, 30)),
        (29, 400, ball(0, -30, 0, 16)),
        (52, 250, ball(-12, -6, 0, 9)),
    ):
        hu[mask] = number
        values[mask] = value
    places = {
        "gas": ball(-40, 10, 0, 15),
        "bone": ball(0, -52, 0, 8),
        "vessel": ball(-12, 12, 0, 7),
        "soft_tissue": ball(3, 2, 0, 5),
        "table": (np.abs(y + 96) < 5) & (np.abs(x) < 100),
    }
    for name, number in (("gas", -950), ("bone", 600), ("vessel", 220), ("soft_tissue", 50), ("table", 200)):
        hu[places[name]] = number
    places["muscle"] = ((x / 95) ** 2 + (y / 61) ** 2 < 1) & ((x / 89) ** 2 + (y / 55) ** 2 > 1) & (y > 0)
    places["fat"] = ((x / 109) ** 2 + (y / 75) ** 2 < 1) & ((x / 102) ** 2 + (y / 68) ** 2 > 1)
    return LabelMap(values, NAMES, grid(*n)), hu, places


def test_with_ct_every_tissue_is_found_and_labels_stay() -> None:
    source, hu, places = slab()
    whole = complete(source, hu)
    given = source.values != OUTSIDE
    assert (whole.values[given] == source.values[given]).all()
    body = (np.asarray(hu) > -300) | places["gas"]
    body &= ~places["table"]
    assert (whole.values[body] != OUTSIDE).all()
    for name, place in places.items():
        share = (whole.values[place & ~given] == CODE[name]).mean()
        assert share > (0.6 if name in ("vessel", "soft_tissue", "bone") else 0.9), name
    assert not (whole.values[~body] == CODE["fat"]).any()
    assert set(np.unique(whole.values)) <= set(whole.names) | {OUTSIDE}


def test_skin_is_the_outermost_layer_all_around_but_not_at_the_ends_of_the_scan() -> None:
    source, hu, _ = slab()
    skin = complete(source, hu).values == CODE["skin"]
    middle = skin.shape[1] // 2
    for z in (0, 15, 29):
        row = np.flatnonzero(skin[:, middle, z])
        assert row.tolist() == [row[0], row[-1]]
    assert skin[:, :, 0].sum() == skin[:, :, 15].sum()


def test_only_what_lies_behind_the_patient_is_table() -> None:
    source, hu, _ = slab()
    hu[30:60, -2:, :] = 200
    assert not (complete(source, hu).values[:, 60:] == CODE["table"]).any()


def test_a_body_that_fills_the_scan_has_no_skin() -> None:
    hu = np.full((10, 10, 10), 50, dtype=np.float32)
    whole = complete(LabelMap(np.zeros(hu.shape, dtype=np.int16), {}, grid(10, 10, 10)), hu)
    assert (whole.values == CODE["muscle"]).all()


def test_dense_metal_is_metal() -> None:
    source, hu, _ = slab()
    hu[20:23, 40:43, 5:8] = 3000
    assert (complete(source, hu).values[20:23, 40:43, 5:8] == CODE["metal"]).all()


def test_a_map_of_nothing_stays_empty_without_ct_and_is_told_by_hu_with_it() -> None:
    source, hu, _ = slab()
    empty = LabelMap(np.zeros_like(source.values), {}, source.geometry)
    assert not complete(empty).values.any()
    whole = complete(empty, hu)
    assert (whole.values == CODE["muscle"]).sum() > 1000
    air = np.full(hu.shape, -1000, dtype=np.float32)
    assert not complete(empty, air).values.any()


def test_refusals() -> None:
    source, hu, _ = slab()
    with pytest.raises(BadGeometry, match="pass both on one grid"):
        complete(source, hu[:-1])
    flipped = Geometry(source.geometry.shape, np.diag([-S, -S, S, 1.0]))
    with pytest.raises(BadGeometry, match="bring it there with resampled"):
        complete(LabelMap(source.values, NAMES, flipped), hu)
    with pytest.raises(ConfigError, match="stands for 'fat'; give it another value"):
        complete(LabelMap(source.values, {**NAMES, 1000: "lung"}, source.geometry), hu)
    with pytest.raises(ConfigError, match="expected a number above 0"):
        resampled(source, 0)


def organs(spacing_mm: tuple[float, float, float] = (1.0, 1.0, 2.5)) -> LabelMap:
    """A ball of 5 cm, a plate of 2 mm and a thread of 3 mm, finely drawn."""
    n = np.round(np.array([90, 80, 75]) / spacing_mm).astype(int)
    x, y, z = np.meshgrid(*(np.arange(k) * s for k, s in zip(n, spacing_mm, strict=True)), indexing="ij")
    values = np.zeros(x.shape, dtype=np.int16)
    values[(x - 50) ** 2 + (y - 40) ** 2 + (z - 40) ** 2 < 25**2] = 5
    values[(np.abs(x - 12) < 1.1) & (y > 20) & (y < 60) & (z > 20) & (z < 60)] = 8
    # Askew, so that voxels differ in their shares.
    values[((x - 50 - 0.31 * (z - 37)) ** 2 + (y - 72 - 0.13 * (z - 37)) ** 2 < 1.6**2) & (z > 10) & (z < 65)] = 52
    affine = np.diag([*spacing_mm, 1.0])
    affine[:3, 3] = (-40, 20, 100)
    return LabelMap(values, {5: "liver", 8: "adrenal_gland_right", 52: "aorta"}, Geometry(values.shape, affine))


@pytest.mark.parametrize("spacing_mm", [1.5, 3.0, 4.0])
def test_a_new_grid_keeps_volumes_and_places_of_thick_and_thin(spacing_mm: float) -> None:
    source = organs()
    new = resampled(source, spacing_mm)
    assert new.geometry.spacing_mm == (spacing_mm,) * 3
    assert new.geometry.orientation == "RAS"
    before, after = source.volumes_ml(), new.volumes_ml()
    assert after["liver"] == pytest.approx(before["liver"], rel=0.04)
    for name in ("adrenal_gland_right", "aorta"):
        assert after[name] == pytest.approx(before[name], rel=0.25)
        middles = [m.geometry.to_world(np.argwhere(m.mask([name]))).mean(axis=0) for m in (source, new)]
        assert np.abs(middles[0] - middles[1]).max() < 2 * spacing_mm


@pytest.mark.parametrize(("order", "signs"), ORIENTATIONS[::7])
def test_the_way_a_map_is_stored_does_not_matter(order: tuple[int, int, int], signs: tuple[int, int, int]) -> None:
    source = organs((2.0, 2.0, 3.0))
    affine = source.geometry.affine[:, [*order, 3]].copy()
    start = [0 if s > 0 else n - 1 for s, n in zip(signs, np.array(source.values.shape)[list(order)], strict=True)]
    affine[:3, 3] += affine[:3, :3] @ start
    affine[:3, :3] *= signs
    values = source.values.transpose(order)[tuple(slice(None, None, s) for s in signs)]
    stored = LabelMap(np.ascontiguousarray(values), source.names, Geometry(values.shape, affine))
    assert (to_ras_order(stored.values, stored.geometry)[0] == source.values).all()
    new, plain = resampled(stored, 3.0), resampled(source, 3.0)
    assert new.geometry.same_grid(plain.geometry)
    assert (new.values == plain.values).mean() > 0.9999


def test_an_oblique_map_is_turned() -> None:
    source = organs((2.0, 2.0, 2.0))
    c, s = np.cos(0.3), np.sin(0.3)
    affine = source.geometry.affine.copy()
    affine[:3, :3] = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]) * 2.0
    turned = LabelMap(source.values, source.names, Geometry(source.values.shape, affine))
    new = resampled(turned, 2.0)
    assert new.geometry.is_aligned
    assert new.volumes_ml()["liver"] == pytest.approx(source.volumes_ml()["liver"], rel=0.03)
    middles = [m.geometry.to_world(np.argwhere(m.mask(["liver"]))).mean(axis=0) for m in (turned, new)]
    assert np.abs(middles[0] - middles[1]).max() < 0.5


def test_a_map_on_that_grid_already_is_not_touched() -> None:
    source = organs((3.0, 3.0, 3.0))
    assert resampled(source, 3.0) is source
    assert not resampled(LabelMap(np.zeros((4, 4, 4), dtype=np.int16), {}, grid(4, 4, 4)), 6.0).values.any()
