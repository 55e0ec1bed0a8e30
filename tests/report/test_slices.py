"""Slices as radiologists look at them: sides, scale, outlines, boxes and lines on pixels worked by hand."""

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
from voxicon.report.canvas import Canvas, beside, to_png
from voxicon.report.palette import Palette
from voxicon.report.slices import Boxed, Crop, Shown, bar_mm, caption_of, draw_slice, frame_of
from voxicon.report.view import AXIS, Plane, View

VOCABULARY = Vocabulary.default()
PLANES: tuple[Plane, ...] = ("axial", "coronal", "sagittal")
BARE = Shown(outlines=(), marks=False)


def scene_of(volume: Volume, masks: dict[str, NDArray[np.bool_]] | None = None) -> View:
    return View.of(volume, MaskSet.from_masks(masks or {}, volume.geometry), Palette(VOCABULARY))


def block(
    spacing_mm: tuple[float, float, float] = (1.0, 1.0, 1.0), shape: tuple[int, int, int] = (20, 16, 12)
) -> Volume:
    """Black but for one white voxel at (3, 5, 7)."""
    hu = np.full(shape, -1000, dtype=np.float32)
    hu[3, 5, 7] = 1000
    return Volume(hu, Geometry(shape, np.diag([*spacing_mm, 1.0])))


def lit(pixels: NDArray[np.uint8], color: tuple[int, int, int] = (255, 255, 255)) -> list[tuple[int, int]]:
    return [(int(r), int(c)) for r, c in np.argwhere((pixels == color).all(axis=-1))]


# Rows and columns both run against the indices: 20 - 1 - 3 = 16, 16 - 1 - 5 = 10, 12 - 1 - 7 = 4.
@pytest.mark.parametrize(
    ("plane", "at", "shape", "spot"),
    [("axial", 7, (16, 20), (10, 16)), ("coronal", 5, (12, 20), (4, 16)), ("sagittal", 3, (12, 16), (4, 10))],
)
def test_right_is_left_front_is_up_head_is_up(
    plane: Plane, at: int, shape: tuple[int, int], spot: tuple[int, int]
) -> None:
    picture = draw_slice(scene_of(block()), plane, at, BARE, pixel_mm=1.0)
    assert picture.mm_per_pixel == 1.0
    assert picture.pixels.shape == (*shape, 3)
    assert picture.pixels.dtype == np.uint8
    assert lit(picture.pixels) == [spot]
    assert not lit(draw_slice(scene_of(block()), plane, at - 1, BARE, pixel_mm=1.0).pixels)


def test_pixels_are_square_in_mm() -> None:
    volume = block((1.0, 1.0, 3.0))
    pixels = draw_slice(scene_of(volume), "coronal", 5, BARE, pixel_mm=0.5).pixels
    assert pixels.shape == (72, 40, 3)
    # The voxel is 2 pixels wide, 6 high, its center (24 + 3, 32 + 1) pixels from the corner.
    rows, columns = np.nonzero(pixels[..., 0] > 127)
    assert (rows.mean() + 0.5, columns.mean() + 0.5) == (27, 33)


@pytest.mark.parametrize("plane", PLANES)
def test_every_stored_orientation_gives_the_same_picture(plane: Plane, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("voxicon.report.slices.caption_of", lambda plane, at: "")
    volume = body((5.0, 6.0, 7.0))
    found = []
    for order, signs in ORIENTATIONS:
        turned = oriented(volume, order, signs)
        view = scene_of(turned, {"liver": turned.hu == 150, "spleen": turned.hu == 250})
        at = view.stored_index(plane, view.nearest(plane, (20.0, -3.0, -1.0)))
        lesion = [np.flatnonzero((turned.hu == 150).any(axis=others)) for others in ((1, 2), (0, 2), (0, 1))]
        box = tuple((int(hits[0]), int(hits[-1]) + 1) for hits in lesion)
        shown = Shown(boxes=(Boxed(box, "liver_tumor", "1"),), lines=(((10.0, 0.0, 0.0), (40.0, 9.0, 3.0)),))
        found.append(draw_slice(view, plane, at, shown, pixel_mm=1.3).pixels)
    assert len(found) == 48
    # On the edge of a pixel, the last bits of a float may tip it to either side.
    assert max(np.mean(found[0] != other) for other in found) < 0.002
    columns = np.argwhere((found[0] == VOCABULARY["liver"].color).all(axis=-1))[:, 1]
    if plane != "sagittal":
        assert columns.max() < found[0].shape[1] / 2, "the liver is right, so left in the picture"


@pytest.mark.parametrize(("signs", "number"), [((1, 1, 1), 8), ((1, 1, -1), 5)])
def test_slices_are_counted_as_the_scan_is_stored(signs: tuple[int, int, int], number: int) -> None:
    view = scene_of(oriented(block(), (0, 1, 2), signs))
    at = view.stored_index("axial", view.nearest("axial", (3.0, 5.0, 7.0)))
    assert caption_of("axial", at) == f"axial {number}"
    assert lit(draw_slice(view, "axial", at, BARE, pixel_mm=1.0).pixels) == [(10, 16)]


def test_a_crop_is_centered_and_padded_with_black() -> None:
    volume = Volume(np.full((20, 16, 12), 300, dtype=np.float32), block().geometry)
    crop = Crop((0.0, 15.0, 7.0), 10.0, 6.0)
    pixels = draw_slice(scene_of(volume), "axial", 7, BARE, crop=crop, pixel_mm=1.0).pixels
    white = lit(pixels)
    # In front of y = 15.5 and left of x = -0.5 there is no scan: rows 0 to 2 and columns 5 to 9 (halves round away).
    assert pixels.shape == (6, 10, 3)
    assert {r for r, _ in white} == {3, 4, 5} | ({2} if (2, 0) in white else set())
    assert {c for _, c in white} <= set(range(6))
    assert (
        lit(draw_slice(scene_of(volume), "axial", 7, BARE, crop=Crop((500.0, 0, 0), 10, 6), pixel_mm=1.0).pixels) == []
    )


def test_outlines_fills_and_windows() -> None:
    mask = np.zeros((20, 16, 12), dtype=bool)
    mask[5:11, 4:12, 7] = True
    view = scene_of(Volume(np.zeros(mask.shape, dtype=np.float32), block().geometry), {"liver": mask, "spleen": ~mask})
    shown = Shown(window_hu=(-100, 100), outlines=("liver",), fill=0.5, marks=False)
    pixels = draw_slice(view, "axial", 7, shown, pixel_mm=1.0).pixels
    color = VOCABULARY["liver"].color
    rim = {(r, c) for r in range(4, 12) for c in range(9, 15) if r in (4, 11) or c in (9, 14)}
    assert set(lit(pixels, color)) == rim
    assert tuple(pixels[6, 12]) == tuple(round((128 + value) / 2) for value in color)
    assert tuple(pixels[0, 0]) == (128, 128, 128), "the spleen was not asked for"
    thin = draw_slice(
        view, "axial", 7, Shown(window_hu=(-100, 100), outlines=(), thin=("liver",), marks=False), pixel_mm=1.0
    )
    assert tuple(thin.pixels[6, 12]) == (128, 128, 128)
    assert set(lit(thin.pixels, color)) == rim
    wide = draw_slice(view, "axial", 7, Shown(outlines=("liver",), outline_px=2, marks=False), pixel_mm=1.0).pixels
    assert len(lit(wide, color)) == 48 - 8


def test_a_dashed_outline_has_gaps() -> None:
    mask = np.zeros((60, 60, 3), dtype=bool)
    mask[5:55, 5:55, 1] = True
    volume = Volume(np.zeros(mask.shape, dtype=np.float32), Geometry(mask.shape, np.eye(4)))
    drawn = []
    for name in ("kidney_tumor", "kidney_cyst"):
        palette = Palette(VOCABULARY, "safe")
        view = View.of(volume, MaskSet.from_masks({name: mask}, volume.geometry), palette)
        pixels = draw_slice(view, "axial", 1, Shown(marks=False, fill=0), pixel_mm=1.0).pixels
        drawn.append(len(lit(pixels, palette[name].color)))
    assert drawn[0] == 196
    assert 70 < drawn[1] < 130


@pytest.mark.parametrize("pixel_mm", [0.3, 1.0, 4.0])
def test_one_voxel_is_never_lost(pixel_mm: float) -> None:
    for at in ((3, 5, 7), (0, 0, 0), (19, 15, 11)):
        mask = np.zeros((20, 16, 12), dtype=bool)
        mask[at] = True
        view = scene_of(block(), {"liver_tumor": mask})
        for plane in PLANES:
            pixels = draw_slice(view, plane, at[AXIS[plane]], Shown(marks=False), pixel_mm=pixel_mm).pixels
            assert lit(pixels, VOCABULARY["liver_tumor"].color)


def test_boxes_and_their_labels_stay_in_the_picture() -> None:
    view = scene_of(Volume(np.full((40, 40, 12), -1000, dtype=np.float32), Geometry((40, 40, 12), np.eye(4))))
    shown = Shown(boxes=(Boxed(((10, 14), (20, 26), (7, 8)), "liver_tumor"),), marks=False)
    color = VOCABULARY["liver_tumor"].color
    spots = lit(draw_slice(view, "axial", 7, shown, pixel_mm=1.0).pixels, color)
    # Columns 40 - 14 = 26 to 30, rows 40 - 26 = 14 to 20 as edges, half a pixel and the gap of 3 further out.
    assert min(c for _, c in spots) == 26 - 3
    assert (min(r for r, _ in spots), max(r for r, _ in spots)) in {(10, 22), (11, 22), (11, 23), (10, 23)}
    assert 10 < len(spots) < 44, "dashed"
    assert not lit(draw_slice(view, "axial", 6, shown, pixel_mm=1.0).pixels, color), "not in this slice"
    for box in (((0, 2), (38, 40), (7, 8)), ((38, 40), (0, 2), (7, 8))):
        with_label = Shown(boxes=(Boxed(box, "liver_tumor", "12"),), marks=False)
        without = Shown(boxes=(Boxed(box, "liver_tumor"),), marks=False)
        pixels, plain = (draw_slice(view, "axial", 7, one, pixel_mm=1.0).pixels for one in (with_label, without))
        rows, columns = np.nonzero((pixels != plain).any(axis=-1))
        assert 0 < rows.min() <= rows.max() < 39
        assert 0 < columns.min() <= columns.max() < 39


def test_measurements_have_ticks_at_their_ends() -> None:
    view = scene_of(Volume(np.full((40, 40, 3), -1000, dtype=np.float32), Geometry((40, 40, 3), np.eye(4))))
    shown = Shown(lines=(((9.0, 19.0, 1.0), (29.0, 19.0, 1.0)),), marks=False)
    white = draw_slice(view, "axial", 1, shown, pixel_mm=1.0).pixels.min(axis=-1) > 128
    # y = 19 is row 20; x = 9 and 29 are columns 30 and 10.
    assert np.flatnonzero(white[20]).tolist() == list(range(10, 31))
    for column in (10, 30):
        assert np.flatnonzero(white[:, column]).tolist() == list(range(16, 25))
    assert not white[:, 20].sum() > 1


def test_guides_lie_where_other_slices_cut() -> None:
    view = scene_of(Volume(np.full((20, 16, 12), -1000, dtype=np.float32), block().geometry))
    shown = Shown(guides=(("sagittal", 3), ("coronal", 5), ("axial", 2)), marks=False)
    bright = draw_slice(view, "axial", 7, shown, pixel_mm=1.0).pixels.max(axis=-1) > 0
    assert np.flatnonzero(bright.all(axis=0)).tolist() == [16]
    assert np.flatnonzero(bright.all(axis=1)).tolist() == [10]


@pytest.mark.parametrize(
    ("width_mm", "pixel_mm", "bar"), [(200, 1.0, 50), (400, 0.8, 100), (60, 0.2, 10), (30, 0.1, 5)]
)
def test_the_scale_bar_is_as_long_as_it_says(width_mm: float, pixel_mm: float, bar: int) -> None:
    assert bar_mm(width_mm) == bar
    volume = Volume(np.full((500, 500, 3), -1000, dtype=np.float32), Geometry((500, 500, 3), np.eye(4)))
    crop = Crop((250.0, 250.0, 1.0), width_mm, 100 * pixel_mm)
    pixels = draw_slice(scene_of(volume), "axial", 1, crop=crop, pixel_mm=pixel_mm).pixels
    runs = [np.flatnonzero((row == 255).all(axis=-1)) for row in pixels[-12:]]
    longest = max(runs, key=len)
    assert len(longest) == round(bar / pixel_mm)
    assert len(longest) == longest[-1] - longest[0] + 1


def test_marks_stand_on_all_four_sides() -> None:
    view = scene_of(Volume(np.full((200, 200, 3), -1000, dtype=np.float32), Geometry((200, 200, 3), np.eye(4))))
    pixels = draw_slice(view, "axial", 1, pixel_mm=1.0).pixels.max(axis=-1) > 100
    for part in (
        pixels[90:110, :20],
        pixels[90:110, -20:],
        pixels[:20, 90:110],
        pixels[-20:, 90:110],
        pixels[:20, :40],
    ):
        assert part.any()
    assert not pixels[30:85, 30:].any()


def test_oblique_scans_are_shown_on_their_own_grid() -> None:
    volume = body((4.0, 4.0, 5.0), rotation(20, 2))
    view = scene_of(volume, {"liver": volume.hu == 150})
    center = (35.0, 0.0, 10.0)
    at = view.nearest("axial", center)
    frame = frame_of(view, "axial", Crop(center, 80, 80), 1.0)
    assert frame.spot(view.index(center)) == pytest.approx((39.5, 39.5))
    pixels = draw_slice(view, "axial", at, Shown(marks=False), crop=Crop(center, 80, 80), pixel_mm=1.0).pixels
    rim = np.array(lit(pixels, VOCABULARY["liver"].color))
    assert rim.mean(axis=0) == pytest.approx((39.5, 39.5), abs=2)


def test_canvas_and_files() -> None:
    pixels = np.zeros((10, 12, 3), dtype=np.uint8)
    canvas = Canvas(pixels)
    canvas.line((-50, -50), (-20, -20), (255, 255, 255))
    canvas.text((-40, 80), "out", (255, 255, 255))
    assert not pixels.any()
    canvas.line((5, 2), (5, 8), (255, 0, 0), 1.0)
    assert lit(pixels, (255, 0, 0)) == [(5, c) for c in range(2, 9)]
    canvas.cover(np.ones((4, 4)), (9, 9, 9), -2, -3)
    assert lit(pixels, (9, 9, 9)) == [(0, 0), (1, 0)]
    assert (np.round(255 * imread(io.BytesIO(to_png(pixels)), format="png")[..., :3]) == pixels).all()
    assert beside([pixels, pixels[:4, :3]], gap=2).shape == (10, 17, 3)
    assert beside([pixels, pixels[:4, :3]], gap=2, axis=0).shape == (16, 12, 3)


@pytest.mark.parametrize(
    ("plane", "marks"),
    [("axial", ["R", "L", "A", "P"]), ("coronal", ["R", "L", "S", "I"]), ("sagittal", ["A", "P", "S", "I"])],
)
def test_sides_are_named_left_right_up_down(plane: Plane, marks: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[tuple[float, float, str]] = []
    monkeypatch.setattr(Canvas, "text", lambda self, spot, text, *rest: written.append((*spot, text)))
    draw_slice(scene_of(block()), plane, 2, pixel_mm=0.1)
    sides = [one for one in written if len(one[2]) == 1]
    by_column, by_row = (sorted(sides, key=lambda one: one[axis]) for axis in (1, 0))
    assert [by_column[0][2], by_column[-1][2], by_row[0][2], by_row[-1][2]] == marks


def test_what_is_inside_is_drawn_last() -> None:
    whole = np.zeros((20, 16, 12), dtype=bool)
    whole[4:16, 4:12, 7] = True
    # In the order of the masks the lesion comes first, and it reaches the edge of its organ.
    view = scene_of(block(), {"liver_tumor": whole, "hepatic_vessel": whole, "liver": whole})
    pixels = draw_slice(view, "axial", 7, Shown(marks=False), pixel_mm=1.0).pixels
    assert lit(pixels, VOCABULARY["liver_tumor"].color)
    assert not lit(pixels, VOCABULARY["liver"].color)
    assert list(view.slice_masks("axial", 7)) == ["liver", "hepatic_vessel", "liver_tumor"]
