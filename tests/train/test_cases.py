"""Scans and labels on the model grid, with everything a patch needs to know."""

from __future__ import annotations

import numpy as np
import pytest

from tests.train.phantoms import CLASSES, GRID, PREPARATION, RAW, make_card, make_case, make_hu, make_labels
from voxicon.core.volume import Volume
from voxicon.data.annotation import Annotation
from voxicon.data.card import Sampling, Zoom
from voxicon.data.harmonise import harmonise
from voxicon.prep.pipeline import PreparationConfig
from voxicon.train.cases import MOST_CENTERS, build_case, paint_ranges

LABELS = make_labels()


def test_masks_and_hu_come_to_the_model_grid() -> None:
    case = make_case(make_card(classes=("liver", "liver_tumor")))
    assert case.hu_XYZ.shape == (24, 24, 24)
    assert (np.asarray(case.hu_XYZ) == make_hu(LABELS)).all(), "on its own grid a scan is not changed"
    words = np.asarray(case.words_WXYZ)
    assert ((words[0] & 1 > 0) == np.isin(LABELS, (1, 2))).all()
    assert ((words[0] & 2 > 0) == (LABELS == 2)).all()
    assert not (words[0] & 4).any(), "the spleen is drawn, but this dataset does not annotate it"
    assert case.known_N.tolist() == [True, True, False]
    # 14 x 8 x 12 voxels of liver, 5 x 5 x 5 of them lesion.
    assert case.count_N.tolist() == [1344, 125, 0]
    coarse = make_case(spacing_mm=6.0)
    assert coarse.hu_XYZ.shape == (13, 13, 13)
    assert coarse.count_N[0] * 8 == pytest.approx(1344, rel=0.3)


def test_places_to_center_on_are_voxels_of_the_class() -> None:
    case = make_case()
    assert set(case.centers) == {0, 1, 2}
    assert len(case.centers[0]) == min(MOST_CENTERS, 1344)
    for index, voxels in case.centers.items():
        assert voxels.dtype == np.int16
        words = np.asarray(case.words_WXYZ)[0]
        assert (words[tuple(voxels.T)] >> np.uint32(index) & 1).all()
        assert len(np.unique(voxels, axis=0)) == len(voxels)
    assert len(case.background) == MOST_CENTERS
    assert not np.asarray(case.words_WXYZ)[0][tuple(case.background.T)].any()
    assert (np.asarray(case.hu_XYZ)[tuple(case.background.T)] > -150).all(), "background is body, not the air around it"


def test_the_same_scan_is_prepared_the_same_way() -> None:
    one, two = make_case(), make_case()
    for index in one.centers:
        assert (one.centers[index] == two.centers[index]).all()
    assert (one.background == two.background).all()


def test_what_is_too_small_for_the_grid_is_unknown_and_not_absent() -> None:
    labels = np.where(LABELS == 2, 1, LABELS)
    labels[7, 9, 9] = 2
    annotation = Annotation(GRID, raw=labels)
    card = make_card()
    volume = Volume(make_hu(labels).astype(np.float32), GRID)
    for spacing_mm, known in ((3.0, True), (6.0, False)):
        preparation = PreparationConfig(spacing_mm=(spacing_mm,) * 3, window_hu=(0, 1))
        case = build_case(volume, annotation, card, harmonise(annotation, card, CLASSES), preparation, {})
        assert case.known_N.tolist() == [True, known, True]
        assert case.count_N[1] == known
    # Annotated and not there at all is another thing.
    empty = Annotation(GRID, raw=np.where(labels == 2, 1, labels))
    case = build_case(volume, empty, card, harmonise(empty, card, CLASSES), preparation, {})
    assert case.known_N.tolist() == [True, True, True]


def test_hu_is_resampled_as_at_inference() -> None:
    annotation, card = Annotation(GRID, raw=LABELS), make_card()
    hu = (np.indices(GRID.shape).sum(axis=0) % 2 * 100.0).astype(np.float32)
    spread = {}
    for antialias in (True, False):
        preparation = PreparationConfig(spacing_mm=(6.0,) * 3, window_hu=(0, 1), antialias=antialias)
        targets = harmonise(annotation, card, CLASSES)
        case = build_case(Volume(hu, GRID), annotation, card, targets, preparation, {})
        spread[antialias] = float(np.asarray(case.hu_XYZ)[1:-1, 1:-1, 1:-1].std())
    # A checkerboard sampled at every second voxel is flat at 0 or 100; averaged it is flat at 50.
    assert spread == {True: pytest.approx(0, abs=1), False: 0}
    assert np.asarray(case.hu_XYZ)[1:-1, 1:-1, 1:-1].mean() in (0, 100)


def test_repainting_ranges_by_the_start_of_a_name_the_cards_own_first() -> None:
    card = make_card(
        raw={1: "kidney_left", 2: "kidney_right", 3: "spleen"}, annotates={"spleen": {"union": ["spleen"]}}
    )
    assert paint_ranges(card, {"kidney_": (5, 230), "liver": (0, 1)}) == {1: (5, 230), 2: (5, 230)}
    own = card.model_copy(update={"repaint_hu": {"kidney_left": (1.0, 2.0)}})
    assert paint_ranges(own, {"kidney_": (5, 230)}) == {1: (1, 2), 2: (5, 230)}


def test_structures_to_repaint_know_their_mean() -> None:
    case = make_case(paint_hu={"liv": (0.0, 90.0), "spleen": (0.0, 50.0)})
    assert case.traits.paint_hu == {1: (0, 90), 3: (0, 50)}
    assert case.mean_hu[1] == pytest.approx(make_hu(LABELS)[LABELS == 1].mean())
    assert (np.asarray(case.structure_XYZ) == LABELS).all()
    # Nothing to repaint: no structures are kept, which spares a third of the disk.
    assert not np.asarray(make_case().structure_XYZ).any()


def test_a_structure_of_gas_alone_is_not_repainted() -> None:
    labels = LABELS.copy()
    hu = make_hu(labels).astype(np.float32)
    hu[labels == 3] = -900
    annotation, card = Annotation(GRID, raw=labels), make_card()
    targets = harmonise(annotation, card, CLASSES)
    case = build_case(Volume(hu, GRID), annotation, card, targets, PREPARATION, {"": (0.0, 1.0)})
    assert set(case.mean_hu) == set(case.traits.paint_hu or {}) == {1, 2}
    assert set(RAW) == {1, 2, 3}


def test_the_cards_policy_travels_with_the_scan() -> None:
    card = make_card(sampling={"background": 1, "organ": 1, "lesion": 5}, zoom={"chance": 0.3, "low": 1.3, "high": 1.5})
    traits = make_case(card).traits
    assert traits.sampling == Sampling(background=1, organ=1, lesion=5)
    assert traits.zoom == Zoom(chance=0.3, low=1.3, high=1.5)
