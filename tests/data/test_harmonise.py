"""Raw labels become classes, what a card does not say stays unknown; and classes become raw labels again."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.data.test_card import GOOD
from voxicon.core.geometry import Geometry
from voxicon.core.masks import MaskSet
from voxicon.data.annotation import Annotation
from voxicon.data.card import DatasetCard, card_ids, load_card, parse_card
from voxicon.data.harmonise import Targets, harmonise, to_raw
from voxicon.errors import CardError

GRID = Geometry((2, 2, 2), np.eye(4))
LABELS = np.array([[[0, 1], [2, 9]], [[1, 1], [0, 2]]], dtype=np.int16)
CARD = parse_card(GOOD, "c")


def targets_of(labels: NDArray[Any], card: DatasetCard, classes: tuple[str, ...]) -> Targets:
    x, y, z = labels.shape
    return harmonise(Annotation(Geometry((x, y, z), np.eye(4)), raw=labels), card, classes)


def test_union_by_hand_and_unknown_classes_stay_unknown() -> None:
    targets = targets_of(LABELS, CARD, ("spleen", "liver", "liver_tumor"))
    assert targets.known == {"liver", "liver_tumor"}
    # Raw 1 and 2 are liver, 2 is tumor; 9 is not in the card and is background.
    assert targets.masks["liver"].astype(int).tolist() == [[[0, 1], [1, 0]], [[1, 1], [0, 1]]]
    assert targets.masks["liver_tumor"].astype(int).tolist() == [[[0, 0], [1, 0]], [[0, 0], [0, 1]]]
    assert not targets.masks["spleen"].any()


def test_minus() -> None:
    card = parse_card(GOOD.replace("{union: [liver, lesion]}", "{union: [liver, lesion], minus: [lesion]}"), "c")
    assert (targets_of(LABELS, card, ("liver",)).masks["liver"] == (LABELS == 1)).all()


def test_children_lie_inside_parents() -> None:
    masks = targets_of(LABELS, CARD, ("liver", "liver_tumor")).masks
    assert not (masks["liver_tumor"] & ~masks["liver"]).any()


def test_known_and_absent_is_known() -> None:
    targets = targets_of(np.ones((2, 2, 2), dtype=np.int16), CARD, ("liver_tumor",))
    assert targets.known == {"liver_tumor"}
    assert not targets.masks["liver_tumor"].any()


def test_a_case_may_be_annotated_for_less_than_its_dataset() -> None:
    annotation = Annotation(GRID, raw=LABELS)
    targets = harmonise(annotation, CARD, ("liver", "liver_tumor"), annotates={"liver"})
    assert targets.known == {"liver"}
    assert targets.masks["liver"].any()
    assert not targets.masks["liver_tumor"].any(), "labels of a class that is not annotated must not leak in"


def test_files_per_structure_may_overlap() -> None:
    liver, lesion = LABELS > 0, LABELS == 2
    targets = harmonise(Annotation(GRID, masks={"liver": lambda: liver, "lesion": lambda: lesion}), CARD, ("liver",))
    assert (targets.masks["liver"] == liver).all()


def test_sides_are_the_patients() -> None:
    text = GOOD.replace("liver: {union: [liver, lesion]}", "kidney_right: {union: [liver], side: right}")
    card = parse_card(text.replace("liver_tumor: {union: [lesion]}", "kidney_left: {union: [liver], side: left}"), "c")
    labels = np.zeros((12, 4, 4), dtype=np.int16)
    labels[1:4], labels[8:11] = 1, 1
    masks = targets_of(labels, card, ("kidney_left", "kidney_right")).masks
    # Voxels run toward the patient's right, so the second box is the right kidney.
    assert masks["kidney_right"][8:11].all()
    assert masks["kidney_left"][1:4].all()
    assert masks.count("kidney_right") + masks.count("kidney_left") == (labels > 0).sum()


def test_a_label_map_of_another_dataset_is_refused() -> None:
    with pytest.raises(CardError, match="values 7, 8, of which the card lists none"):
        targets_of(np.array([[[7, 8], [0, 0]]] * 2), CARD, ("liver",))


def test_back_to_raw_by_hand() -> None:
    masks = targets_of(LABELS, CARD, ("liver", "liver_tumor")).masks
    assert to_raw(masks, CARD).tolist() == [[[0, 1], [2, 0]], [[1, 1], [0, 2]]]
    assert to_raw(masks, CARD).dtype == np.int16
    # The tumor alone is 2. Without it the liver holds both structures, and the first stands for both.
    tumor = MaskSet.from_masks({"liver_tumor": masks["liver_tumor"]}, GRID)
    assert to_raw(tumor, CARD).tolist() == [[[0, 0], [2, 0]], [[0, 0], [0, 2]]]
    liver = MaskSet.from_masks({"liver": masks["liver"], "spleen": ~masks["liver"]}, GRID)
    assert to_raw(liver, CARD).tolist() == [[[0, 1], [1, 0]], [[1, 1], [0, 1]]]
    assert not to_raw(MaskSet.empty((), GRID), CARD).any()


def comes_back_as(card: DatasetCard) -> dict[int, int]:
    """Raw value → what it must come back as, from what the card says and nothing else.

    Structures in the same classes cannot be told apart: the lowest value stands for them. Those in no class are lost.
    """
    member = {
        s: frozenset(c for c, k in card.annotates.items() if s in card.structures_of(k)) for s in card.raw.values()
    }
    first: dict[frozenset[str], int] = {}
    for value in sorted(card.raw):
        first.setdefault(member[card.raw[value]], value)
    return {value: first[member[name]] if member[name] else 0 for value, name in card.raw.items()}


@pytest.mark.parametrize("name", card_ids())
@settings(max_examples=4)
@given(seed=st.integers(0, 10_000))
def test_round_trip_of_every_shipped_card(name: str, seed: int) -> None:
    card = load_card(name)
    random = np.random.default_rng(seed)
    expected = {0: 0, **comes_back_as(card)}
    raw = random.choice(list(expected), size=(6, 6, 5)).astype(np.int16)
    raw[0, 0, 0] = next(iter(card.raw))
    annotation = Annotation(Geometry((6, 6, 5), np.diag([-30.0, 30, 30, 1])), raw=raw)
    masks = harmonise(annotation, card, tuple(card.annotates), midline_mm=-75.0).masks
    assert (to_raw(masks, card) == np.vectorize(expected.__getitem__)(raw)).all()


def test_the_values_of_downloaded_datasets_come_back_as_they_are() -> None:
    # Guards the round trip above against losing everything and calling it expected.
    changed = {name: {v: w for v, w in comes_back_as(load_card(name)).items() if v != w} for name in card_ids()}
    # Of TotalSegmentator's labels and 3D-IRCADb's structures only some are classes; the template merges its regions.
    assert {name for name in changed if changed[name]} == {
        "abdomen_pelvis", "chest_abdomen", "ircadb", "jhh_template", "liver_slab",
    }  # fmt: skip
    assert changed["jhh_template"] == {2: 1, 4: 3, 5: 3}
    assert changed["liver_slab"] == {2: 0}


def test_an_empty_union_is_known_and_has_nothing() -> None:
    card = load_card("abdomen_pelvis")
    raw = np.full((2, 2, 2), 5, dtype=np.int16)
    annotation = Annotation(Geometry((2, 2, 2), np.eye(4)), raw=raw)
    targets = harmonise(annotation, card, ("liver", "liver_tumor", "esophagus"))
    assert targets.known == {"liver", "liver_tumor"}, "the card says nothing about the esophagus"
    assert targets.masks["liver"].all()
    assert not targets.masks["liver_tumor"].any()
    targets.masks.set("liver_tumor", np.ones((2, 2, 2), dtype=bool))
    assert (to_raw(targets.masks, card) == 5).all(), "a class without a value is not written"
