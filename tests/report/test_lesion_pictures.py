"""Mosaics and key slices of lesions whose every place is known."""

from __future__ import annotations

import io

import numpy as np
import pytest
from matplotlib.image import imread
from numpy.typing import NDArray

from tests.phantoms import ORIENTATIONS, body, oriented, rotation
from voxicon.core.concepts import Vocabulary
from voxicon.core.geometry import Geometry
from voxicon.core.masks import MaskSet
from voxicon.core.volume import Volume
from voxicon.findings.lesions import measure_lesions
from voxicon.report import mosaic as mosaics
from voxicon.report.key_slices import key_slices
from voxicon.report.mosaic import lesion_mosaic

VOCABULARY = Vocabulary.default()
GREEN, RED = VOCABULARY["liver_tumor"].color, VOCABULARY["liver"].color
PANEL, GAP = 320, 6


def read(png: bytes) -> NDArray[np.int64]:
    return np.round(255 * imread(io.BytesIO(png), format="png")[..., :3]).astype(int)


def case(volume: Volume, *lesions: tuple[float, float, float, float]) -> tuple[Volume, MaskSet]:
    """Balls, RAS center and radius, in the phantom's liver."""
    x, y, z = np.moveaxis(volume.geometry.to_world(np.moveaxis(np.indices(volume.hu.shape), 0, -1)), -1, 0)
    tumor = np.zeros(volume.hu.shape, dtype=bool)
    for a, b, c, radius in lesions:
        tumor |= (x - a) ** 2 + (y - b) ** 2 + (z - c) ** 2 <= radius**2
    masks = {"liver": volume.hu == 150, "liver_tumor": tumor}
    return volume, MaskSet.from_masks(masks, volume.geometry)


def mosaic(volume: Volume, masks: MaskSet) -> NDArray[np.int64]:
    finding = measure_lesions("liver_tumor", masks, volume.hu)[0]
    return read(lesion_mosaic(volume, masks, VOCABULARY, finding))


def panels(image: NDArray[np.int64]) -> list[list[NDArray[np.int64]]]:
    starts = [i * (PANEL + GAP) for i in range(3)]
    return [[image[r : r + PANEL, c : c + PANEL] for c in starts] for r in starts[:2]]


def test_a_mosaic_shows_the_lesion_in_the_middle_and_the_bare_scan_below() -> None:
    image = mosaic(*case(body((2.0, 2.0, 2.0)), (35, 0, 10, 9)))
    assert image.shape == (2 * PANEL + GAP, 3 * PANEL + 2 * GAP, 3)
    above, below = panels(image)
    for panel in above:
        rows, columns = np.nonzero((panel == GREEN).all(axis=-1))
        assert ((rows.min() + rows.max()) / 2, (columns.min() + columns.max()) / 2) == pytest.approx((160, 160), abs=8)
        # 18 mm and a voxel in 60 mm: all planes in one scale.
        assert columns.max() - columns.min() == pytest.approx(320 * 18 / 60, abs=12)
    for panel in below:
        assert not (panel == GREEN).all(axis=-1).any()
    # The lines of the two diameters are drawn in the axial slice alone.
    white = [int((panel[100:220, 100:220] == 255).all(axis=-1).sum()) for panel in above]
    assert white[0] > 25
    assert white[1:] == [0, 0]


def test_a_mosaic_does_not_depend_on_how_the_scan_is_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("voxicon.report.slices.caption_of", lambda plane, at: "")
    volume = body((3.0, 4.0, 5.0))
    # One voxel row longer than any other, so that only one line is the longest.
    tumor = np.zeros(volume.hu.shape, dtype=bool)
    tumor[44:49, 20:22, 20:23] = True
    tumor[43, 20, 21] = True
    found = []
    for order, signs in ORIENTATIONS[::5]:
        turned = oriented(volume, order, signs)
        moved = oriented(Volume(tumor.astype(np.float32), volume.geometry), order, signs).hu > 0
        masks = MaskSet.from_masks({"liver": turned.hu == 150, "liver_tumor": moved}, turned.geometry)
        found.append(mosaic(turned, masks))
    assert max(np.mean(np.abs(found[0] - other) > 2) for other in found) < 0.01


@pytest.mark.parametrize("at", [(20, 12, 9), (0, 0, 0), (-1, -1, -1)])
def test_a_lesion_of_one_voxel_and_at_the_border(at: tuple[int, int, int]) -> None:
    for volume in (body((6.0, 5.0, 8.0)), body((6.0, 5.0, 8.0), rotation(25, 0))):
        tumor = np.zeros(volume.hu.shape, dtype=bool)
        tumor[at] = True
        masks = MaskSet.from_masks({"liver_tumor": tumor}, volume.geometry)
        for panel in panels(mosaic(volume, masks))[0]:
            assert (panel == GREEN).all(axis=-1).any()
        [(_, data)] = key_slices(volume, masks, VOCABULARY, measure_lesions("liver_tumor", masks, volume.hu))
        assert data.number == range(volume.hu.shape[2])[at[2]] + 1
        assert data.lesions == (("liver_tumor", 1),)


def test_a_large_lesion_gets_a_larger_crop() -> None:
    above, _ = panels(mosaic(*case(body((2.0, 2.0, 2.0)), (35, 0, 10, 20))))
    columns = np.nonzero((above[0] == GREEN).all(axis=-1))[1]
    assert columns.max() - columns.min() == pytest.approx(320 / 2.5, abs=8)


def test_key_slices_begin_with_the_lesions() -> None:
    volume, masks = case(body((2.0, 2.0, 2.0)), (40, 0, 20, 3), (25, 5, 5, 7), (35, -15, 6, 4))
    findings = measure_lesions("liver_tumor", masks, volume.hu)
    found = key_slices(volume, masks, VOCABULARY, findings)
    data = [one for _, one in found]
    assert [f.number for f in findings] == [1, 2, 3]
    # The second is cut at 2 mm from its own largest slice: it needs none.
    firsts = [findings[0].axial.slice_index + 1, findings[2].axial.slice_index + 1]
    assert findings[1].axial.slice_index + 1 not in firsts
    assert [one.number for one in data[: len(firsts)]] == firsts
    assert data[0].lesions == (("liver_tumor", 1), ("liver_tumor", 2))
    assert data[0].classes == ("liver", "liver_tumor")
    assert len({one.number for one in data}) == len(data) <= 6
    for png, one in found:
        z_mm = volume.geometry.to_world([0, 0, one.number - 1])[2]
        assert one.z_mm == pytest.approx(z_mm, abs=0.06)
        assert ((read(png) == RED).all(axis=-1)).any() == ("liver" in one.classes)
    rest = [one.number for one in data[len(firsts) :]]
    assert rest == sorted(rest, reverse=True)
    assert len(key_slices(volume, masks, VOCABULARY, findings, most=1)) == 1


def test_lesions_of_one_slice_share_it() -> None:
    volume, masks = case(body((2.0, 2.0, 2.0)), (45, 0, 9, 5), (25, 0, 9, 5))
    found = key_slices(volume, masks, VOCABULARY, measure_lesions("liver_tumor", masks, volume.hu), most=2)
    assert len(found[0][1].lesions) == 2
    assert found[1][1].lesions == ()


def test_key_slices_without_lesions_are_spread_over_the_height() -> None:
    volume = Volume(np.zeros((20, 20, 60), dtype=np.float32), Geometry((20, 20, 60), np.eye(4)))
    liver, spleen = np.zeros((2, 20, 20, 60), dtype=bool)
    liver[5:15, 5:15, 5:55] = True
    spleen[2:4, 2:4, 30] = True
    masks = MaskSet.from_masks({"liver": liver, "spleen": spleen}, volume.geometry)
    data = [one for _, one in key_slices(volume, masks, VOCABULARY, (), most=4)]
    assert [one.number for one in data if "spleen" in one.classes] == [31]
    numbers = [one.number for one in data]
    assert len(numbers) == 4
    assert min(-np.diff(numbers)) >= 10
    assert set(range(6, 56)) >= set(numbers)
    assert key_slices(volume, MaskSet.empty(("liver",), volume.geometry), VOCABULARY, ()) == []
    assert key_slices(volume, MaskSet.empty((), volume.geometry), VOCABULARY, ()) == []


def test_the_axial_slice_of_a_mosaic_is_that_of_the_longest_diameter(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[tuple[str, int]] = []
    draw = mosaics.draw_slice
    monkeypatch.setattr(
        mosaics, "draw_slice", lambda s, plane, at, *a, **k: (drawn.append((plane, at)), draw(s, plane, at, *a, **k))[1]
    )
    volume = body((2.0, 2.0, 2.0))
    tumor = np.zeros(volume.hu.shape, dtype=bool)
    # A ball's worth of voxels below, a line of ten above: the center of mass lies far below the longest diameter.
    tumor[60:66, 40:46, 40:46] = True
    tumor[58:68, 42, 46] = True
    masks = MaskSet.from_masks({"liver_tumor": tumor}, volume.geometry)
    mosaic(volume, masks)
    assert [at for plane, at in drawn if plane == "axial"] == [46, 46]
    assert {at for plane, at in drawn if plane == "sagittal"} <= {62, 63}


@pytest.mark.parametrize(("around_hu", "gray"), [(-850, round(255 * 500 / 1500)), (40, round(255 * 200 / 400))])
def test_a_lesion_in_air_gets_a_lung_window(around_hu: float, gray: int) -> None:
    hu = np.full((60, 60, 20), around_hu, dtype=np.float32)
    tumor = np.zeros(hu.shape, dtype=bool)
    tumor[25:35, 25:35, 5:15] = True
    hu[tumor] = around_hu if around_hu > 0 else 20
    masks = MaskSet.from_masks({"lung_tumor": tumor}, Geometry(hu.shape, np.eye(4)))
    volume = Volume(hu, masks.geometry)
    finding = measure_lesions("lung_tumor", masks, hu)[0]
    _, below = panels(read(lesion_mosaic(volume, masks, VOCABULARY, finding)))
    assert below[0][60, 60].tolist() == [gray] * 3
