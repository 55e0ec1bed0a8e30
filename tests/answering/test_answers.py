"""Answers, clause by clause: every action, the files that hold the voxels, and comparisons."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tests.answering.phantom import SHAPE, VOCABULARY, VOXEL_ML, box, clauses, drawn, geometry, scene
from voxicon.answering.answers import ANSWERS, Answerer, Comparison, RequestAnswer, TargetAnswer, _compare
from voxicon.answering.scene import Scene
from voxicon.asking import Request, parse
from voxicon.asking.request import Clause, Condition, Target
from voxicon.core.masks import MaskSet


def answered(text: str, where: Scene) -> tuple[RequestAnswer, Answerer]:
    answerer = Answerer(where, "segmentations")
    return answerer.answer(text, parse(text, VOCABULARY)), answerer


def in_file(path: str, answerer: Answerer) -> np.ndarray:
    """What a reader of the result folder finds in a mask's file."""
    folder, _, name = path.partition("/")
    if folder == "segmentations":
        return np.asarray(answerer.scene.masks[name.removesuffix(".nii.gz")])
    (cutting,) = (one for one in answerer.cuttings if one.path == path)
    mask = np.zeros(SHAPE, dtype=bool)
    mask[cutting.box] = cutting.mask
    return mask


def voxels(target: TargetAnswer, answerer: Answerer) -> int:
    union = np.zeros(SHAPE, dtype=bool)
    for path in target.masks:
        union |= in_file(path, answerer)
    return int(union.sum())


ACTIONS = {
    "segment the liver": "segment",
    "mark the liver": "mark",
    "measure the liver": "measure",
    "count the liver": "count",
    "compare the liver with the pancreas": "compare",
    "report on the liver": "report",
}


@pytest.mark.parametrize(("text", "action"), ACTIONS.items())
def test_every_action_finds_the_same_thing(text: str, action: str) -> None:
    answer, answerer = answered(text, scene())
    (clause,) = answer.clauses
    assert clause.action == action
    target = clause.targets[0]
    assert (target.said, target.looked_for, target.not_looked_for) == ("liver", ("liver",), ())
    assert target.masks == ("segmentations/liver.nii.gz",)
    assert answerer.cuttings == []
    (one,) = target.found
    assert (one.name, one.number) == ("liver", None)
    assert one.volume_ml == pytest.approx(drawn("liver").sum() * VOXEL_ML)
    assert bool(clause.comparisons) == (action == "compare")


def test_a_report_on_the_whole_scan_has_no_targets() -> None:
    answer, answerer = answered("generate a report", scene())
    assert [(clause.action, clause.targets) for clause in answer.clauses] == [("report", ())]
    assert answerer.cuttings == []


def test_a_request_comes_back_as_it_was_written_and_as_it_was_understood() -> None:
    text = "Please measure the volume of the livr tumour, if any"
    answer, _ = answered(text.replace("livr", "panceas"), scene())
    assert answer.text == text.replace("livr", "panceas")
    assert answer.understood == "measure volume: pancreas tumor, if any"
    assert answer.ignored == ("please",)
    assert answer.corrected == (("panceas", "pancreas"),)
    (clause,) = answer.clauses
    assert (clause.understood, clause.quantities, clause.if_any) == (answer.understood, ("volume",), True)


def test_what_is_told_of_a_lesion() -> None:
    (clause,) = clauses("measure the liver tumors", scene())
    first, *rest = clause.targets[0].found
    assert [one.number for one in rest] == [2, 3, 4, 5]
    assert first.volume_ml == pytest.approx(72 * VOXEL_ML)
    assert first.longest_mm == pytest.approx(math.hypot(12, 6))
    assert first.center_mm == pytest.approx(geometry().to_world((36.5, 9.5, 21)))
    assert first.box_voxels == ((34, 40), (8, 12), (20, 23))
    assert first.hu_mean == pytest.approx(60)


NARROWED = {
    "segment the liver tumors larger than 9 mm": 72 + 5,
    "segment the largest liver tumor": 72,
    "segment the liver tumors in the middle third of the liver": 4 + 4,
    "segment the upper third of the liver": 18 * 22 * 6,
    "segment the liver without the hepatic vessels": 18 * 22 * 18 - 18 * 2 * 2,
    "segment the left kidney tumors": 12,
    "segment the portal vein in the liver": 4 * 2 * 2,
    "segment the 3 largest tumors": 72 + 12 + 8,
    "segment the liver tumors larger than 5 cm": 0,
    "segment the upper half of the kidneys": 2 * 10 * 4 * 5,
}


@pytest.mark.parametrize(("text", "expected"), NARROWED.items())
def test_less_than_whole_classes_has_a_file_of_its_own(text: str, expected: int) -> None:
    answer, answerer = answered(text, scene())
    (target,) = answer.clauses[0].targets
    (path,) = target.masks
    assert path.startswith(f"{ANSWERS}/1_")
    assert path.endswith(".nii.gz")
    assert [cutting.path for cutting in answerer.cuttings] == [path]
    assert voxels(target, answerer) == expected
    assert sum(one.volume_ml for one in target.found) == pytest.approx(expected * VOXEL_ML)


WHOLE = ("liver", "kidneys", "liver tumors", "kidney cysts", "the vessels", "tumors", "spleen and liver")


@pytest.mark.parametrize("what", WHOLE)
def test_whole_classes_are_in_their_own_files(what: str) -> None:
    answer, answerer = answered(f"segment {what}", scene())
    for target in answer.clauses[0].targets:
        assert target.masks == tuple(f"segmentations/{name}.nii.gz" for name in target.looked_for)
        in_pieces = np.zeros(SHAPE, dtype=bool)
        for one in target.found:
            sides = tuple(slice(*side) for side in one.box_voxels)
            in_pieces[sides] |= answerer.scene.masks[one.name][sides]
        assert voxels(target, answerer) == in_pieces.sum()
    assert answerer.cuttings == []


def test_the_voxels_in_the_file_are_those_that_are_meant() -> None:
    answer, answerer = answered("segment the liver tumors in the middle third of the liver", scene())
    (path,) = answer.clauses[0].targets[0].masks
    expected = box((29, 31), (23, 25), (18, 19)) | box((42, 44), (18, 20), (16, 17))
    assert (in_file(path, answerer) == expected).all()


def test_pieces_that_overlap_are_joined_in_the_file() -> None:
    # The spleen, in two parts in front of each other, leaves gaps in its box, which the liver fills.
    spleen = box((26, 30), (8, 12), (10, 12)) | box((34, 38), (14, 16), (14, 20))
    target = Target("both", ("liver", "spleen"), conditions=(Condition("at_least", 1, "ml"),))
    answerer = Answerer(scene(spleen=spleen), "segmentations")
    answer = answerer.answer("both", Request((Clause("segment", (target,)),)))
    (path,) = answer.clauses[0].targets[0].masks
    assert (in_file(path, answerer) == (drawn("liver") | spleen)).all()


def test_the_same_has_the_same_file() -> None:
    answer, answerer = answered("segment the largest liver tumor, then measure it. Mark it.", scene())
    assert [clause.action for clause in answer.clauses] == ["segment", "measure", "mark"]
    assert len({clause.targets for clause in answer.clauses}) == 1
    assert len(answerer.cuttings) == 1


def test_the_same_in_another_request_has_the_same_file_and_another_thing_its_own() -> None:
    answerer = Answerer(scene(), "segmentations")
    texts = ("segment the largest liver tumor", "measure the largest liver tumor", "measure the largest kidney tumor")
    paths = [answerer.answer(t, parse(t, VOCABULARY)).clauses[0].targets[0].masks for t in texts]
    assert paths == [
        ("answers/1_largest_liver_tumor.nii.gz",),
        ("answers/1_largest_liver_tumor.nii.gz",),
        ("answers/2_largest_kidney_tumor.nii.gz",),
    ]


def test_the_same_words_without_something_are_another_thing() -> None:
    answerer = Answerer(scene(), "segmentations")
    texts = ("segment the liver without the hepatic vessels", "segment the liver without the liver tumors")
    paths = [answerer.answer(t, parse(t, VOCABULARY)).clauses[0].targets[0].masks[0] for t in texts]
    assert paths == ["answers/1_liver.nii.gz", "answers/2_liver.nii.gz"]
    assert [int(cutting.mask.sum()) for cutting in answerer.cuttings] == [7128 - 72, 7128 - 72 - 5 - 4 - 4]


def test_long_names_are_cut_where_files_are_named() -> None:
    text = "the 2 largest liver tumors in the upper third of the liver, larger than 1 mm, within 20 cm of the aorta"
    answer, _ = answered(f"segment {text}", scene())
    (path,) = answer.clauses[0].targets[0].masks
    name = path.removeprefix("answers/1_").removesuffix(".nii.gz")
    assert name == "2_largest_liver_tumor_in_the_upper_third_of_the_liver_larger"
    assert len(name) <= 60


def test_a_file_of_nothing_is_a_file() -> None:
    answer, answerer = answered("segment the liver tumors larger than 5 cm", scene())
    assert answer.clauses[0].targets[0].found == ()
    assert answerer.cuttings[0].mask.shape == (0, 0, 0)


def test_of_a_family_what_was_not_looked_for_is_told() -> None:
    answer, _ = answered("count the tumors", scene())
    (target,) = answer.clauses[0].targets
    assert set(target.looked_for) == {"liver_tumor", "kidney_tumor", "pancreas_tumor"}
    assert "lung_tumor" in target.not_looked_for
    assert len(target.found) == 9


def compared(text: str, where: Scene | None = None) -> tuple[Comparison, ...]:
    return clauses(text, where or scene())[0].comparisons


def test_two_things_are_compared_with_the_first() -> None:
    volume, diameter, density = compared("compare the liver with the pancreas")
    assert [(one.quantity, one.unit) for one in (volume, diameter, density)] == [
        ("volume", "ml"), ("diameter", "mm"), ("density", "HU"),
    ]  # fmt: skip
    assert volume.names == ("liver", "pancreas")
    liver, pancreas = 7128 * VOXEL_ML, 108 * VOXEL_ML
    assert volume.values == pytest.approx((liver, pancreas))
    assert volume.differences == pytest.approx((0, pancreas - liver))
    assert volume.ratios == pytest.approx((1, 108 / 7128))
    assert density.ratios == (None, None)
    assert density.differences[1] == pytest.approx(density.values[1] - density.values[0])


def test_a_family_is_compared_class_by_class() -> None:
    (volume,) = compared("compare the volume of the kidneys")
    assert volume.names == ("left kidney", "right kidney")
    assert volume.values == pytest.approx((400 * VOXEL_ML, 400 * VOXEL_ML))
    assert volume.ratios == pytest.approx((1, 1))


def test_several_lesions_are_compared_together() -> None:
    volume, diameter, density = compared("compare the liver tumors with the kidney tumors")
    assert volume.values == pytest.approx((87 * VOXEL_ML, 16 * VOXEL_ML))
    assert diameter.values == pytest.approx((math.hypot(12, 6), math.hypot(6, 2)))
    # Mean over all voxels: those of one HU, whatever the flicker of 1 HU leaves of odd tumors.
    assert density.values == pytest.approx((60, 145), abs=0.05)


def test_the_mean_of_several_lesions_is_that_of_their_voxels() -> None:
    belly = scene()
    belly.hu = belly.hu.copy()
    belly.hu[drawn("liver_tumor")] = 0
    belly.hu[box((34, 40), (8, 12), (20, 23))] = 87
    (density,) = compared("compare the density of the liver tumors with the pancreas", belly)
    assert density.values[0] == pytest.approx(72)


def test_what_is_missing_is_none_and_nothing_is_compared_with_it() -> None:
    belly = scene(spleen=np.zeros(SHAPE, bool))
    volume, _, density = compared("compare the liver with the spleen and the pancreas", belly)
    assert volume.values[1] is None
    assert (volume.differences[1], volume.ratios[1]) == (None, None)
    assert volume.ratios[2] is not None
    first = compared("compare the spleen with the liver", belly)[0]
    assert (first.values[0], first.differences, first.ratios) == (None, (None, None), (None, None))
    assert density.values[1] is None
    (family,) = compared("compare the volume of the kidneys", scene(kidney_left=np.zeros(SHAPE, bool)))
    assert (family.names, family.values[0]) == (("left kidney", "right kidney"), None)
    # What nobody looked for is not compared: None says that it was looked for and is not there.
    (family,) = compared("compare the volume of the kidneys", scene("kidney_right"))
    assert family.names == ("left kidney",)


def test_a_first_value_of_0_has_no_ratios() -> None:
    (clause,) = clauses("measure the liver tumors", scene())
    some = clause.targets[0].found
    nothing = [type(some[0])(**{**vars(some[0]), "volume_ml": 0.0})]
    found = _compare("volume", [("a", nothing), ("b", some)])
    assert found.values[0] == 0
    assert found.ratios == (None, None)
    assert found.differences == pytest.approx((0, 87 * VOXEL_ML))


@pytest.mark.parametrize(
    ("asked", "quantities"),
    [
        ("compare the size of the kidneys", ["volume", "diameter"]),
        ("compare the volume of the kidneys", ["volume"]),
        ("compare the diameter of the kidneys", ["diameter"]),
        ("compare the density of the kidneys", ["density"]),
        ("compare the density and volume of the kidneys", ["density", "volume"]),
        ("compare the volume and size of the kidneys", ["volume", "diameter"]),
        ("compare the kidneys", ["volume", "diameter", "density"]),
    ],
)
def test_quantities_are_compared_once_each(asked: str, quantities: list[str]) -> None:
    assert [one.quantity for one in compared(asked)] == quantities


def test_a_touched_border_is_told_of_the_piece_alone() -> None:
    (clause,) = clauses("measure the aorta and the liver", scene())
    assert [target.found[0].touches_border for target in clause.targets] == [True, False]


def test_masks_of_a_scan_without_anything() -> None:
    nothing = Scene(MaskSet.from_masks({"liver": np.zeros(SHAPE, bool)}, geometry()), scene().hu, VOCABULARY)
    answer, answerer = answered("measure the liver", nothing)
    assert answer.clauses[0].targets[0].found == ()
    assert voxels(answer.clauses[0].targets[0], answerer) == 0
