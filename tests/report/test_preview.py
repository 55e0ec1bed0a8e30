"""The preview shows the right side on the left, masks where they are, and survives odd scans."""

from __future__ import annotations

import dataclasses
import io

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.image import imread

from tests.phantoms import ORIENTATIONS, body, oriented, rotation
from voxicon.core.concepts import Vocabulary
from voxicon.core.geometry import Geometry
from voxicon.core.masks import MaskSet
from voxicon.core.volume import Volume
from voxicon.report.palette import Palette
from voxicon.report.preview import render_preview

VOCABULARY = Vocabulary.default()


def picture(volume: Volume, masks: MaskSet) -> np.ndarray:
    png = render_preview(volume, masks, VOCABULARY, "a footer")
    assert png.startswith(b"\x89PNG")
    return imread(io.BytesIO(png), format="png")[..., :3]


def masks_of(volume: Volume) -> MaskSet:
    return MaskSet.from_masks(
        {"liver": volume.hu == 150, "spleen": volume.hu == 250, "aorta": volume.hu > 9999}, volume.geometry
    )


def place_of(image: np.ndarray, name: str) -> np.ndarray:
    """Rows and columns of the pixels drawn in a class's own color, in the left third of the upper row."""
    color = np.array(VOCABULARY[name].color) / 255
    height, width = image.shape[0] // 2, image.shape[1] // 3
    return np.argwhere(np.abs(image[:height, :width] - color).max(axis=-1) < 0.03)


def test_the_patients_right_is_on_the_left() -> None:
    volume = body((3.0, 3.0, 3.0))
    # The phantom's liver lies right, its spleen left; put both into one axial slice by moving the view.
    image = picture(volume, MaskSet.from_masks({"liver": volume.hu == 150}, volume.geometry))
    liver = place_of(image, "liver")
    assert len(liver) > 20
    assert liver[:, 1].mean() < image.shape[1] / 6
    spleen = place_of(picture(volume, MaskSet.from_masks({"spleen": volume.hu == 250}, volume.geometry)), "spleen")
    assert spleen[:, 1].mean() > image.shape[1] / 6
    # The spleen lies toward the back: below the middle of its picture.
    assert spleen[:, 0].mean() > liver[:, 0].mean()


@pytest.mark.parametrize(("order", "signs"), ORIENTATIONS[::7])
def test_the_picture_does_not_depend_on_how_the_scan_is_stored(
    order: tuple[int, int, int], signs: tuple[int, int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("voxicon.report.slices.caption_of", lambda plane, at: "")
    volume = body((4.0, 4.0, 5.0))
    expected = picture(volume, masks_of(volume))
    turned = oriented(volume, order, signs)
    found = picture(turned, masks_of(turned))
    # The header line above the pictures names the stored shape, so it may differ.
    assert np.abs(found[60:] - expected[60:]).max() < 0.02


@pytest.mark.parametrize("names", [(), ("liver",), VOCABULARY.names])
def test_empty_masks_and_all_classes_are_drawn(names: tuple[str, ...]) -> None:
    volume = body((8.0, 8.0, 8.0))
    # 200 × 160 × 184 mm, the body framed: a panel of 424 pixels shows 176 mm.
    assert picture(volume, MaskSet.empty(names, volume.geometry)).shape == (859, 1320, 3)


@pytest.mark.parametrize(("number", "points"), [(48, 6), (len(VOCABULARY), 4), (300, 2)])
def test_names_and_volumes_of_a_legend_do_not_overlap(
    number: int, points: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    volume = body((8.0, 8.0, 8.0))
    more = (
        dataclasses.replace(VOCABULARY["liver"], id=1000 + i, name=f"part_{i}", original="", aliases=())
        for i in range(max(0, number - len(VOCABULARY)))
    )
    vocabulary = VOCABULARY.extended(more)
    # The longest names, each with a volume of some digits, are the worst case for the width.
    names = sorted(vocabulary.names, key=lambda name: -len(vocabulary[name].display_name))[:number]
    masks = MaskSet.from_masks(dict.fromkeys(names, np.ones(volume.hu.shape, dtype=bool)), volume.geometry)
    drawn: list[Figure] = []
    save = Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda self, *a, **k: (drawn.append(self), save(self, *a, **k)))
    render_preview(volume, masks, vocabulary)
    [figure] = drawn
    legend = figure.axes[-1]
    assert min(text.get_fontsize() for text in legend.texts) > points
    boxes = np.array([text.get_window_extent().extents for text in legend.texts])
    assert len(boxes) == 2 * number
    # The box of a text is higher than its letters: most of it, round the middle, must be free.
    middle, reach = (boxes[:, 1] + boxes[:, 3]) / 2, 0.35 * (boxes[:, 3] - boxes[:, 1])
    low, high = np.c_[boxes[:, 0], middle - reach], np.c_[boxes[:, 2], middle + reach]
    shared = np.minimum(high[:, None], high[None]) - np.maximum(low[:, None], low[None])
    overlaps = (shared > 0).all(axis=-1) & ~np.eye(len(boxes), dtype=bool)
    assert [(legend.texts[i].get_text(), legend.texts[j].get_text()) for i, j in np.argwhere(overlaps)] == []


def test_oblique_thin_tall_and_airy_scans_are_drawn() -> None:
    oblique = body((6.0, 6.0, 6.0), rotation(25, 2))
    assert picture(oblique, masks_of(oblique)).shape[1:] == (1320, 3)
    thin = body((4.0, 4.0, 90.0))
    assert picture(thin, masks_of(thin)).shape[1:] == (1320, 3)
    air = Volume(np.full(thin.hu.shape, -1000, dtype=np.float32), thin.geometry)
    assert picture(air, masks_of(air)).shape[1:] == (1320, 3)
    tall = Volume(np.zeros((20, 20, 200), dtype=np.float32), Geometry((20, 20, 200), np.diag([9.0, 9.0, 9.0, 1.0])))
    assert picture(tall, masks_of(tall)).shape == (48 + 424 + 12 + 900 + 32, 1320, 3)


def test_planes_are_aligned_and_in_one_scale() -> None:
    volume = body((2.0, 2.0, 5.0))
    image = picture(volume, MaskSet.from_masks({"liver": volume.hu == 150}, volume.geometry))
    color = np.array(VOCABULARY["liver"].color) / 255
    drawn = np.abs(image - color).max(axis=-1) < 0.02
    upper = np.flatnonzero(drawn[:, :1000].any(axis=1))
    first_gap = int(upper[np.flatnonzero(np.diff(upper) > 20)[0]]) + 1
    middle_axial, coronal, sagittal = drawn[:first_gap, 448:872], drawn[first_gap:, 12:436], drawn[first_gap:, 448:872]
    ends = [np.flatnonzero(part.any(axis=axis))[[0, -1]] for part in (coronal, sagittal) for axis in (1, 0)]
    assert ends[0].tolist() == ends[2].tolist(), "coronal and sagittal show the same heights side by side"
    assert np.flatnonzero(middle_axial.any(axis=0))[[0, -1]] == pytest.approx(ends[1], abs=2), "and one width"
    # 50 mm across in every plane; 424 pixels show the body's 160 mm and two margins of 8.
    for low, high in (*ends, np.flatnonzero(middle_axial.any(axis=1))[[0, -1]]):
        assert high - low == pytest.approx(50 * 424 / 176, rel=0.06)


def test_safe_colors_are_used_everywhere() -> None:
    volume = body((4.0, 4.0, 5.0))
    png = render_preview(volume, masks_of(volume), VOCABULARY, colors="safe")
    image = np.round(255 * imread(io.BytesIO(png), format="png")[..., :3]).astype(int)
    for name in ("liver", "spleen"):
        safe, own = Palette(VOCABULARY, "safe")[name].color, VOCABULARY[name].color
        places = np.argwhere((image == safe).all(axis=-1))
        assert (places[:, 1] > 884).any(), "in the legend"
        assert (places[:, 1] < 884).any(), "and in slices"
        assert not (image == own).all(axis=-1).any()


def test_a_lesion_is_shown_in_every_plane() -> None:
    volume = body((4.0, 4.0, 5.0))
    tumor = np.zeros(volume.hu.shape, dtype=bool)
    # High up in the liver, where none of the usual slices cut.
    tumor[34, 22, 24] = True
    # Most classes lie elsewhere.
    other = np.zeros(volume.hu.shape, dtype=bool)
    other[10:12, 10:12, 10:12] = True
    masks = dict.fromkeys(("spleen", "stomach", "pancreas", "colon"), other) | {"liver_tumor": tumor}
    image = picture(volume, MaskSet.from_masks({"liver": volume.hu == 150, **masks}, volume.geometry))
    shown = np.abs(image - np.array(VOCABULARY["liver_tumor"].color) / 255).max(axis=-1) < 0.02
    upper, lower = shown[:440, :872], shown[440:, :872]
    assert upper.any()
    assert lower[:, :436].any()
    assert lower[:, 448:].any()
