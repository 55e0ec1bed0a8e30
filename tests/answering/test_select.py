"""Which pieces a request means: sizes, ranks, distances, places, sides, and what is left out."""

from __future__ import annotations

import numpy as np
import pytest

from tests.answering.phantom import (
    LIVER,
    LIVER_TUMORS,
    SHAPE,
    VOCABULARY,
    box,
    clauses,
    drawn,
    full,
    numbers,
    pieces,
    scene,
    stored,
)
from tests.phantoms import ORIENTATIONS, oriented, rotation
from voxicon.answering.select import is_narrowed, select
from voxicon.asking.request import Condition, Place, Target
from voxicon.core.volume import Volume
from voxicon.findings import lesions

TUMORS = Target("liver tumor", ("liver_tumor",))

# Liver tumors by number: 13.4, 10, 5.7 (2 x 2 voxels: sqrt(4² + 2²) = 4.47), 4.47 and 4 mm; 72, 5, 4, 4 and 2 voxels
# of 0.016 ml.
SIZES = {
    "larger than 10 mm": [1],
    "larger than 1 cm": [1],
    "larger than 9.99 mm": [1, 2],
    "at least 10 mm": [1, 2],
    "at least 10.01 mm": [1],
    "smaller than 10 mm": [3, 4, 5],
    "smaller than 10.01 mm": [2, 3, 4, 5],
    "at most 10 mm": [2, 3, 4, 5],
    "at most 9.99 mm": [3, 4, 5],
    "larger than 0.08 ml": [1],
    "at least 0.08 ml": [1, 2],
    "at least 0.081 ml": [1],
    "smaller than 0.08 ml": [3, 4, 5],
    "at most 0.08 ml": [2, 3, 4, 5],
    "at most 0.079 ml": [3, 4, 5],
    "larger than 1.151 ml": [1],
    "larger than 1.152 ml": [],
    "larger than 5 mm smaller than 12 mm": [2],
}


@pytest.mark.parametrize("turn", [None, rotation(25, 2), rotation(7, 0) @ rotation(13, 2)])
@pytest.mark.parametrize(("size", "expected"), SIZES.items())
def test_sizes_at_and_beside_the_boundary(size: str, expected: list[int], turn: np.ndarray | None) -> None:
    assert numbers(f"liver tumors {size}", scene(turn=turn)) == expected


def test_conditions_are_joined_by_and() -> None:
    both = (Condition("at_least", 4.2, "mm"), Condition("at_most", 0.064, "ml"))
    found = select(Target("liver tumor", ("liver_tumor",), conditions=both), (), scene())
    assert [piece.number for piece in found] == [3, 4]


RANKS = {
    "the largest liver tumor": [1],
    "the 2 largest liver tumors": [1, 2],
    "the 3 largest liver tumors": [1, 2, 3],  # 3 and 4 are equal: the lower number goes first
    "the smallest liver tumor": [5],
    "the 2 smallest liver tumors": [5, 3],
    "the 4 smallest liver tumors": [5, 3, 4, 2],
    "the 9 largest liver tumors": [1, 2, 3, 4, 5],
    # Ranks are taken among what the other conditions leave, whatever their order.
    "the largest liver tumor smaller than 1 cm": [3],
    "the largest liver tumor smaller than 1 cm in the lower third of the liver": [],
    "the smallest liver tumor in the middle third of the liver": [3],
    "the largest liver tumor within 21 mm of the portal vein": [1],
    "the largest liver tumor within 2 cm of the portal vein": [2],
}


@pytest.mark.parametrize(("text", "expected"), RANKS.items())
def test_ranks(text: str, expected: list[int]) -> None:
    assert numbers(text, scene()) == expected


def test_a_rank_is_over_all_classes_of_a_family() -> None:
    found = pieces("the 3 largest tumors", scene())
    assert [(piece.name, piece.number) for piece in found] == [
        ("liver_tumor", 1),
        ("kidney_tumor", 1),
        ("pancreas_tumor", 1),
    ]
    assert [piece.name for piece in pieces("the largest organ", scene())] == ["liver"]


# To the portal vein: 20.4, 14.4, 10, 20 mm, and tumor 5 is 2 * 8 mm off in y and 4 * 8 in z: 35.8 mm.
DISTANCES = {
    "near the portal vein": [3],
    "within 10 mm of the portal vein": [3],
    "within 9.99 mm of the portal vein": [],
    "within 20 mm of the portal vein": [2, 3, 4],
    "within 2.04 cm of the portal vein": [1, 2, 3, 4],
    "touching the portal vein": [],
    "touching the hepatic vessel": [4],
    "near the hepatic vessel": [3, 4],
    "touching the liver": [1, 2, 3, 4],
}


@pytest.mark.parametrize("turn", [None, rotation(25, 2)])
@pytest.mark.parametrize(("where", "expected"), DISTANCES.items())
def test_distances(where: str, expected: list[int], turn: np.ndarray | None) -> None:
    assert numbers(f"liver tumors {where}", scene(turn=turn)) == expected


def test_near_any_class_of_a_family_is_near() -> None:
    # The tumor in the tail is 3 columns of 2 mm from the portal vein; that in the head lies 12 rows before the aorta.
    assert numbers("pancreas tumors within 24 mm of the vessels", scene()) == [1, 2]
    assert numbers("pancreas tumors within 23 mm of the vessels", scene()) == [1]
    # Left tumor: box x 6-9, y 2-4; aorta x 22-25, y 6-9: 13 and 2 voxels of 2 mm.
    # The right one is 9 columns off.
    assert numbers("kidney tumors within 26.3 mm of the aorta", scene()) == [2]
    assert numbers("kidney tumors within 26.4 mm of the aorta", scene()) == [1, 2]
    # A class that nobody looked for, or that has no voxel, is near to nothing.
    empty = (Condition("within", 30, "mm", "kidney cyst", ("kidney_cyst", "kidney_cyst_left")),)
    assert select(Target("liver tumor", ("liver_tumor",), conditions=empty), (), scene()) == ()
    near = (Condition("near", None, "", "vessels", ("celiac_trunk", "portal_vein_and_splenic_vein")),)
    assert [p.number for p in select(Target("liver tumor", ("liver_tumor",), conditions=near), (), scene())] == [3]


def test_a_lesion_in_no_organ_belongs_to_the_nearest_in_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    # Number 5 is a voxel off the liver, at the level of its upper third.
    assert numbers("liver tumors in the upper third of the liver", scene()) == [1, 5]
    monkeypatch.setattr(lesions, "BESIDE_MM", 1.9)
    assert numbers("liver tumors in the upper third of the liver", scene()) == [1]


def test_lesions_belong_to_the_part_that_holds_their_center() -> None:
    belly = scene()
    thirds = [numbers(f"liver tumors in the {part} third of the liver", belly) for part in ("upper", "middle", "lower")]
    assert thirds == [[1, 5], [3, 4], [2]]
    liver = Target("liver tumor", ("liver_tumor",), place=Place("liver", ("liver",)))
    assert [piece.number for piece in select(liver, (), belly)] == [1, 2, 3, 4, 5]
    assert numbers("liver tumors", belly) == [1, 2, 3, 4, 5]
    assert numbers("liver tumors in the liver", belly) == [1, 2, 3, 4, 5]
    assert numbers("pancreas tumors in the tail of the pancreas", belly) == [1]
    assert numbers("pancreas tumors in the head of the pancreas", belly) == [2]
    assert numbers("pancreas tumors in the body of the pancreas", belly) == []


def test_lesions_of_several_hosts() -> None:
    belly = scene()
    assert numbers("kidney tumors in the left kidney", belly) == [1]
    assert numbers("kidney tumors in the right kidney", belly) == [2]
    assert numbers("left kidney tumors", belly) == [1]
    assert numbers("right kidney tumors", belly) == [2]
    assert numbers("kidney tumors in the kidneys", belly) == [1, 2]
    assert numbers("kidney tumors in the upper half of the left kidney", belly) == [1]
    assert numbers("kidney tumors in the lower half of the left kidney", belly) == []
    # Where no mask of a host is there, no lesion lies in it.
    kidneys = Place("kidneys", ("kidney_left", "kidney_right"))
    target = Target("kidney tumor", ("kidney_tumor",), place=kidneys)
    assert [piece.number for piece in select(target, (), scene("kidney_left"))] == [2]
    assert numbers("left kidney tumors", scene("kidney_left")) == []


def test_a_family_of_organs_as_a_place() -> None:
    found = pieces("tumors in the abdomen", scene())
    assert {(piece.name, piece.number) for piece in found} == {
        *(("liver_tumor", n) for n in (1, 2, 3, 4, 5)),
        *(("kidney_tumor", n) for n in (1, 2)),
        *(("pancreas_tumor", n) for n in (1, 2)),
    }


def test_a_side_of_a_family_of_organs() -> None:
    assert [piece.name for piece in pieces("left kidney", scene())] == ["kidney_left"]
    target = Target("kidneys", ("kidney_left", "kidney_right", "liver"), side="right")
    assert [piece.name for piece in select(target, (), scene())] == ["kidney_right"]


# The liver's slices 8 to 25: 18 centers over 17 steps of 4 mm, so that a third is 6 slices.
PARTS = {
    "upper third": box(LIVER[0], LIVER[1], (20, 26)),
    "middle third": box(LIVER[0], LIVER[1], (14, 20)),
    "lower third": box(LIVER[0], LIVER[1], (8, 14)),
    "upper half": box(LIVER[0], LIVER[1], (17, 26)),
    "lower half": box(LIVER[0], LIVER[1], (8, 17)),
    "right half": box((37, 46), LIVER[1], LIVER[2]),
    "left half": box((28, 37), LIVER[1], LIVER[2]),
    "front half": box(LIVER[0], (17, 28), LIVER[2]),
    "back half": box(LIVER[0], (6, 17), LIVER[2]),
}


@pytest.mark.parametrize(("part", "expected"), PARTS.items())
def test_organs_are_cut(part: str, expected: np.ndarray) -> None:
    belly = scene()
    (piece,) = pieces(f"the {part} of the liver", belly)
    assert (full(piece, belly) == expected).all()
    assert piece.box == tuple(slice(int(e.min()), int(e.max()) + 1) for e in np.nonzero(expected))


def test_a_part_is_a_share_of_the_organ_with_its_lesions() -> None:
    # A tumor that juts out above the liver makes it 24 slices high: the upper third begins at slice 24.
    high = box((34, 40), (8, 12), (23, 32 - 2))
    belly = scene(liver_tumor=high)
    (piece,) = pieces("the upper third of the liver", belly)
    # 29 - z <= 21 / 3 = 7
    assert (full(piece, belly) == box(LIVER[0], LIVER[1], (23, 26))).all()


def test_parts_of_the_pancreas_fill_it_and_share_nothing() -> None:
    belly = scene()
    parts = [full(pieces(f"the {part} of the pancreas", belly)[0], belly) for part in ("head", "body", "tail")]
    assert (sum(part.astype(int) for part in parts) == drawn("pancreas")).all()
    # It lies point-symmetric, so that head and tail are alike.
    assert parts[0].sum() == parts[2].sum()
    assert parts[0][25:27, 20:23, 6:8].all()
    assert parts[2][9:11, 20:23, 14:16].all()
    assert parts[1][17:19, 20:23, 10:12].all()


def test_vessels_in_an_organ_are_cut_to_it() -> None:
    belly = scene()
    (portal,) = pieces("portal vein in the liver", belly)
    assert (full(portal, belly) == box((28, 32), (18, 20), (14, 16))).all()
    (hepatic,) = pieces("hepatic vessels in the right half of the liver", belly)
    assert (full(hepatic, belly) == box((37, 46), (16, 18), (16, 18))).all()
    assert pieces("portal vein in the left kidney", belly) == ()


def test_a_vessel_through_a_tumor_that_was_cut_out_of_the_liver_is_still_in_it() -> None:
    tumor = box((30, 34), (17, 21), (13, 17))
    belly = scene(liver=drawn("liver") & ~tumor, liver_tumor=tumor)
    (portal,) = pieces("portal vein in the liver", belly)
    assert (full(portal, belly) == box((28, 32), (18, 20), (14, 16))).all()


def test_what_is_left_out_is_subtracted() -> None:
    belly = scene()
    (liver,) = pieces("liver without the hepatic vessels", belly)
    assert (full(liver, belly) == (drawn("liver") & ~drawn("hepatic_vessel"))).all()
    (liver,) = pieces("liver without the tumors", belly)
    assert (full(liver, belly) == (drawn("liver") & ~drawn("liver_tumor"))).all()
    (liver,) = pieces("the upper third of the liver without the liver tumors", belly)
    assert (full(liver, belly) == (PARTS["upper third"] & ~drawn("liver_tumor"))).all()
    # An organ's lesions go with it, also where they were cut out of its mask.
    cut = scene(
        liver=drawn("liver") & ~box((28, 32), (18, 20), (14, 15)), liver_tumor=box((28, 32), (18, 20), (14, 15))
    )
    (vessel,) = select(Target("portal vein", ("portal_vein_and_splenic_vein",)), ["liver"], cut)
    assert (full(vessel, cut) == box((14, 28), (18, 20), (14, 16))).all()
    assert select(Target("hepatic vessel", ("hepatic_vessel",)), ["liver"], belly) == ()


def test_a_class_left_out_of_itself_has_no_piece() -> None:
    assert select(TUMORS, ["liver_tumor"], scene()) == ()
    # Of a class that has no voxel nothing is subtracted.
    assert len(select(TUMORS, ["kidney_cyst", "spleen"], scene())) == 5


def test_sizes_are_of_what_is_left() -> None:
    cut = box((34, 40), (8, 12), (20, 22))
    belly = scene(hepatic_vessel=cut)
    # 6 x 4 voxels of 0.016 ml are left of the largest tumor.
    for size, left in ((0.38, [1]), (0.39, [])):
        target = Target("liver tumor", ("liver_tumor",), conditions=(Condition("larger", size, "ml"),))
        assert [piece.number for piece in select(target, ["hepatic_vessel"], belly)] == left


def test_classes_that_were_not_looked_for_have_no_piece() -> None:
    assert pieces("segment the spleen", scene()) == ()
    assert pieces("kidney cysts", scene()) == ()
    place = Place("spleen", ("spleen",), "upper third")
    assert select(Target("aorta", ("aorta",), place=place), (), scene()) == ()
    assert select(Target("aorta", ("aorta",), place=place), (), scene(spleen=np.zeros(SHAPE, bool))) == ()


def test_an_organ_one_slice_high_has_no_upper_third() -> None:
    belly = scene(gallbladder=box((2, 6), (2, 6), (20, 21)))
    assert pieces("the upper third of the gallbladder", belly) == ()


def test_what_narrows_a_target() -> None:
    belly = scene()
    assert not is_narrowed(TUMORS, (), belly)
    assert not is_narrowed(TUMORS, ["kidney_cyst", "spleen"], belly)
    assert is_narrowed(TUMORS, ["aorta"], belly)
    assert is_narrowed(Target("kidneys", ("kidney_left",), side="left"), (), belly)
    assert is_narrowed(Target("x", ("liver",), place=Place("liver", ("liver",))), (), belly)
    assert is_narrowed(Target("x", ("liver",), conditions=(Condition("largest", 1),)), (), belly)


QUESTIONS = (
    "measure the 2 largest liver tumors",
    "measure liver tumors at least 10 mm",
    "measure liver tumors within 10 mm of the portal vein",
    "measure liver tumors touching the hepatic vessel",
    "measure the tail of the pancreas",
    "measure pancreas tumors in the tail of the pancreas",
    "measure the upper third of the liver without the tumors",
    "measure the left half of the liver",
    "measure the left kidney tumors",
    "measure the portal vein in the liver",
)


def _told(belly: object) -> list[object]:
    return [
        list(clause.targets[0].found)
        for text in QUESTIONS
        for clause in clauses(text, belly)  # type: ignore[arg-type]
    ]


@pytest.fixture(scope="module")
def plain() -> list[object]:
    return _told(scene())


@pytest.mark.parametrize(("order", "signs"), ORIENTATIONS)
def test_stored_any_way_answers_are_the_same(order, signs, plain) -> None:
    belly = stored(order, signs)
    for text, before, after in zip(QUESTIONS, plain, _told(belly), strict=True):
        # Not the numbers: those of tumors of one size go by their first voxel, which is another when stored otherwise.
        assert [one.name for one in after] == [one.name for one in before], text
        for old, new in zip(before, after, strict=True):
            for field in ("volume_ml", "longest_mm", "perpendicular_mm", "extent_mm", "hu_mean", "hu_sd", "center_mm"):
                assert getattr(new, field) == pytest.approx(getattr(old, field)), (text, field)
            assert np.array(new.box_mm) == pytest.approx(np.array(old.box_mm))
            assert new.touches_border == old.touches_border
    (part,) = pieces("the upper third of the liver", belly)
    expected = oriented(Volume(PARTS["upper third"], scene().geometry), order, signs).hu
    assert (full(part, belly) == expected).all()


def test_the_tumors_are_of_known_sizes() -> None:
    belly = scene()
    lengths = [belly.measure(piece).longest_mm for piece in belly.pieces("liver_tumor")]
    assert lengths == pytest.approx([np.hypot(12, 6), 10, np.hypot(4, 2), np.hypot(4, 2), 4])
    assert all(VOCABULARY[name].kind == "lesion" for name in TUMORS.classes)
    assert len(LIVER_TUMORS) == len(lengths)
