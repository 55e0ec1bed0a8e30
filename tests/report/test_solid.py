"""Bodies of glass: sides, sizes, and lesions that shine through their organs."""

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
from voxicon.report.fields import fields_of
from voxicon.report.solid import solid_picture

VOCABULARY = Vocabulary.default()


def picture(masks: MaskSet) -> NDArray[np.float64]:
    return imread(io.BytesIO(solid_picture(masks, VOCABULARY)), format="png")[..., :3].astype(float)


def masks_of(volume: Volume) -> MaskSet:
    return MaskSet.from_masks({"liver": volume.hu == 150, "spleen": volume.hu == 250}, volume.geometry)


def place(image: NDArray[np.float64], name: str) -> NDArray[np.int64]:
    """Rows and columns whose hue is that of a class, marks left out."""
    color = np.array(VOCABULARY[name].color, dtype=float)
    bright = image.max(axis=-1) > 0.2
    unit = image / np.linalg.norm(image, axis=-1, keepdims=True)
    return np.argwhere(bright & (unit @ (color / np.linalg.norm(color)) > 0.98))


def test_right_is_left_from_the_front_and_front_is_left_from_the_left() -> None:
    image = picture(masks_of(body((2.0, 2.0, 2.0))))
    assert image.shape[0] == 600
    # From the front 110 mm are to be seen, from the left 50.
    front, left = image[:, : image.shape[1] * 2 // 3], image[:, image.shape[1] * 2 // 3 :]
    liver, spleen = (place(front, name) for name in ("liver", "spleen"))
    assert min(len(liver), len(spleen)) > 500
    assert liver[:, 1].max() < spleen[:, 1].min(), "the liver lies right"
    assert liver[:, 0].mean() < spleen[:, 0].mean(), "and higher"
    liver, spleen = (place(left, name) for name in ("liver", "spleen"))
    assert liver[:, 1].mean() < spleen[:, 1].mean(), "and more to the front"


# From the front what lies at high y is near, from the left what lies at low x.
@pytest.mark.parametrize(("axis", "near_end", "share"), [(1, True, 0.25), (0, False, 0.75)])
@pytest.mark.parametrize("pair", [("liver", "spleen"), ("liver_tumor", "soft_tissue_sarcoma"), ("spleen", "liver")])
def test_what_is_nearer_covers_what_is_behind(axis: int, near_end: bool, share: float, pair: tuple[str, str]) -> None:
    grid = Geometry((40, 40, 40), np.diag([2.0, 2.0, 2.0, 1.0]))
    low, high = np.zeros((2, 40, 40, 40), dtype=bool)
    low[4:36, 4:36, 4:36], high[4:36, 4:36, 4:36] = True, True
    keep = np.arange(40).reshape([-1 if a == axis else 1 for a in range(3)])
    low, high = low & (keep < 14), high & (keep > 25)
    near, far = (high, low) if near_end else (low, high)
    first, second = (np.array(VOCABULARY[name].color) / np.linalg.norm(VOCABULARY[name].color) for name in pair)
    image = picture(MaskSet.from_masks({pair[0]: near, pair[1]: far}, grid))
    turned = picture(MaskSet.from_masks({pair[0]: far, pair[1]: near}, grid))
    spot = 300, round(image.shape[1] * share)
    there, other = (one[spot] / np.linalg.norm(one[spot]) for one in (image, turned))
    assert there @ first > other @ first
    assert there @ second < other @ second


@pytest.mark.parametrize("colors", ["liver_tumor", "kidney_cyst"])
def test_a_lesion_shines_through_its_organ(colors: str) -> None:
    volume = body((2.0, 2.0, 2.0))
    x, y, z = np.moveaxis(volume.geometry.to_world(np.moveaxis(np.indices(volume.hu.shape), 0, -1)), -1, 0)
    tumor = (x - 35) ** 2 + y**2 + (z - 10) ** 2 < 6**2
    without = picture(MaskSet.from_masks({"liver": volume.hu == 150}, volume.geometry))
    found = picture(MaskSet.from_masks({"liver": volume.hu == 150, colors: tumor}, volume.geometry))
    assert found.shape == without.shape
    # The ball of 50 mm and its margins fill both views; their middles are a quarter and three quarters across.
    color = np.array(VOCABULARY[colors].color) / np.linalg.norm(VOCABULARY[colors].color)
    for column in (found.shape[1] // 4, found.shape[1] * 3 // 4):
        there, before = found[300, column], without[300, column]
        assert there / np.linalg.norm(there) @ color > 0.95 > before / np.linalg.norm(before) @ color
        assert there.sum() > before.sum()


@pytest.mark.parametrize(("order", "signs"), ORIENTATIONS[::9])
def test_the_picture_does_not_depend_on_how_the_scan_is_stored(
    order: tuple[int, int, int], signs: tuple[int, int, int]
) -> None:
    volume = body((3.0, 4.0, 5.0))
    found, expected = picture(masks_of(oriented(volume, order, signs))), picture(masks_of(volume))
    assert found.shape == expected.shape
    assert np.mean(np.abs(found - expected) > 0.05) < 0.01


def test_nothing_a_voxel_and_odd_grids_are_drawn() -> None:
    grid = Geometry((40, 30, 20), np.diag([0.5, 0.5, 6.0, 1.0]))
    nothing = picture(MaskSet.empty(("liver",), grid))
    assert nothing.shape[0] == 600
    assert picture(MaskSet.empty((), grid)).shape == nothing.shape
    for at in ((0, 0, 0), (20, 15, 10), (39, 29, 19)):
        tumor = np.zeros((40, 30, 20), dtype=bool)
        tumor[at] = True
        image = picture(MaskSet.from_masks({"liver_tumor": tumor}, grid))
        assert len(place(image, "liver_tumor")) > 100
    oblique = body((4.0, 5.0, 6.0), rotation(30, 1))
    assert len(place(picture(masks_of(oblique)), "liver")) > 500


def test_fields_keep_volumes_and_places() -> None:
    volume = body((1.0, 1.0, 3.0))
    masks = masks_of(volume)
    fields = {field.name: field for field in fields_of(masks)}
    assert list(fields) == ["liver", "spleen"]
    for name, field in fields.items():
        # A cube has a class where any of its voxels has: about half a voxel more on every side.
        assert 1 < field.volume_ml / masks.volume_ml(name) < 1.2
        inside = np.count_nonzero(field.values > 0.5) * 1.5**3 / 1000
        assert inside == pytest.approx(field.volume_ml, rel=0.05)
        center = [np.mean(hits) for hits in np.nonzero(field.values > 0.5)]
        world = (np.add(center, field.first) + 0.5) * 1.5 + np.array([-100, -80, -90])
        assert world == pytest.approx({"liver": (35, 0, 10), "spleen": (-40, -10, -15)}[name], abs=1)
