"""Raw labels become classes; what a card does not say stays unknown."""

from __future__ import annotations

import numpy as np
import pytest

from tests.data.test_card import GOOD
from voxicon.core.geometry import Geometry
from voxicon.data.card import parse_card
from voxicon.data.harmonise import harmonise
from voxicon.errors import CardError

GRID = Geometry((2, 2, 2), np.eye(4))
LABELS = np.array([[[0, 1], [2, 9]], [[1, 1], [0, 2]]], dtype=np.int16)


def test_union_by_hand_and_unknown_classes_stay_unknown() -> None:
    targets = harmonise(LABELS, GRID, parse_card(GOOD, "c"), ("spleen", "liver", "liver_tumor"))
    assert targets.known == {"liver", "liver_tumor"}
    # Raw 1 and 2 are liver, 2 is tumor; 9 is not in the card and is background.
    assert targets.masks["liver"].astype(int).tolist() == [[[0, 1], [1, 0]], [[1, 1], [0, 1]]]
    assert targets.masks["liver_tumor"].astype(int).tolist() == [[[0, 0], [1, 0]], [[0, 0], [0, 1]]]
    assert not targets.masks["spleen"].any()


def test_minus() -> None:
    card = parse_card(GOOD.replace("{union: [liver, lesion]}", "{union: [liver, lesion], minus: [lesion]}"), "c")
    targets = harmonise(LABELS, GRID, card, ("liver",))
    assert (targets.masks["liver"] == (LABELS == 1)).all()


def test_children_lie_inside_parents() -> None:
    targets = harmonise(LABELS, GRID, parse_card(GOOD, "c"), ("liver", "liver_tumor"))
    assert not (targets.masks["liver_tumor"] & ~targets.masks["liver"]).any()


def test_known_and_absent_is_known() -> None:
    targets = harmonise(np.ones((2, 2, 2), dtype=np.int16), GRID, parse_card(GOOD, "c"), ("liver_tumor",))
    assert targets.known == {"liver_tumor"}
    assert not targets.masks["liver_tumor"].any()


def test_a_label_map_of_another_dataset_is_refused() -> None:
    with pytest.raises(CardError, match="values 7, 8, of which the card lists none"):
        harmonise(np.array([[[7, 8], [0, 0]]] * 2), GRID, parse_card(GOOD, "c"), ("liver",))
