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
from voxicon.core.masks import MaskSet
from voxicon.core.volume import Volume
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
    order: tuple[int, int, int], signs: tuple[int, int, int]
) -> None:
    volume = body((4.0, 4.0, 5.0))
    expected = picture(volume, masks_of(volume))
    turned = oriented(volume, order, signs)
    found = picture(turned, masks_of(turned))
    # The header line above the pictures names the stored shape, so it may differ.
    assert np.abs(found[60:] - expected[60:]).max() < 0.02


@pytest.mark.parametrize("names", [(), ("liver",), VOCABULARY.names])
def test_empty_masks_and_all_classes_are_drawn(names: tuple[str, ...]) -> None:
    volume = body((8.0, 8.0, 8.0))
    assert picture(volume, MaskSet.empty(names, volume.geometry)).shape == (840, 1320, 3)


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


def test_oblique_thin_and_airy_scans_are_drawn() -> None:
    oblique = body((6.0, 6.0, 6.0), rotation(25, 2))
    assert picture(oblique, masks_of(oblique)).shape == (840, 1320, 3)
    thin = body((4.0, 4.0, 90.0))
    assert picture(thin, masks_of(thin)).shape == (840, 1320, 3)
    air = Volume(np.full(thin.hu.shape, -1000, dtype=np.float32), thin.geometry)
    assert picture(air, masks_of(air)).shape == (840, 1320, 3)
