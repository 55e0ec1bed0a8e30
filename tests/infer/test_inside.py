"""Lesions are found in the organs that were found before, and nowhere else."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import ndimage

from tests.infer.dark_lesions import GRID, ORGAN_HU, SHAPE, Dark, ball, checkpoint, cube, image, scan
from voxicon.core.concepts import Vocabulary
from voxicon.errors import CheckpointError
from voxicon.infer.inside import DEPTH_BYTES, SecondLook
from voxicon.infer.memory import waiting_bytes
from voxicon.infer.predictor import Prediction

CPU = torch.device("cpu")
KIDNEYS = ("kidney_right", "kidney_left")


def second_look(*arguments: tuple[str, ...], **inference: object) -> SecondLook:
    return SecondLook(checkpoint(*arguments, **inference), Vocabulary.default(), CPU)


def levels(mask: NDArray[np.bool_], level: int = 255) -> NDArray[np.uint8]:
    return np.where(mask, level, 0).astype(np.uint8)


def grown(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """By one voxel on every side, corners too: 3 mm."""
    return ndimage.binary_dilation(mask, np.ones((3, 3, 3)))


def looked(
    hu: NDArray[np.float32], host: NDArray[np.uint8], look: SecondLook | None = None, **more: object
) -> Prediction:
    return (look or second_look()).look(image(hu), GRID, {"liver": host}, ("liver_tumor",), ("liver_tumor",), **more)  # type: ignore[arg-type]


@pytest.mark.parametrize("brighter", [0.0, -40.0, 35.0])
def test_a_dark_ball_is_found_in_its_organ_however_bright_that_is(brighter: float) -> None:
    found = looked(scan(cube(), ball(), brighter), levels(cube()))
    # The network says lesion to all water around, of which a rim of a voxel is kept: no more, and no less.
    assert (found.masks["liver_tumor"] == ball() | (grown(cube()) & ~cube())).all()
    assert found.masks.geometry is GRID
    assert ((found.probabilities["liver_tumor"] > 127) == found.masks["liver_tumor"]).all()
    # 50 HU darker than the organ is a logit of 20 * (0.5 - 0.3); the organ itself is one of -6.
    assert found.probabilities["liver_tumor"][20, 20, 20] == round(255 / (1 + math.exp(-4)))
    assert found.probabilities["liver_tumor"][12, 12, 12] == round(255 / (1 + math.exp(6)))


def test_nothing_is_looked_for_without_the_organ() -> None:
    look, told = second_look(), []
    found = looked(scan(cube(), ball()), levels(cube(), 127), look, progress=lambda *step: told.append(step))
    assert not found.masks.words.any()
    assert not found.probabilities["liver_tumor"].any()
    assert (told, look.predictor.network.seen) == ([], [])
    assert looked(scan(cube(), ball()), levels(cube(), 128), look).masks.words.any()


def test_what_is_unlikely_to_be_organ_counts_from_a_fifth_on() -> None:
    beside = ball((20, 20, 35), 2)
    for level, there in ((50, False), (51, True)):
        host = np.maximum(levels(cube()), levels(beside, level))
        assert looked(scan(cube(), beside), host).masks["liver_tumor"][20, 20, 35] == there


def test_a_lesion_that_is_missing_from_its_organ_is_found_where_the_organ_encloses_it() -> None:
    found = looked(scan(cube(), ball(radius=6)), levels(cube() & ~ball(radius=6)))
    assert (found.masks["liver_tumor"] & cube() == ball(radius=6)).all()


def test_what_is_read_is_the_organ_and_ten_voxels_around_relative_to_the_median_of_all_of_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    look, seen = second_look(), []
    predict = look.predictor.predict
    monkeypatch.setattr(look.predictor, "predict", lambda *args: (seen.append(args[:2]), predict(*args))[1])
    host = np.zeros(SHAPE, dtype=bool)
    host[3:30, 15:20, 18:20] = True
    looked(scan(host, ball((5, 17, 19), 1)), levels(host), look)
    ((read, grid),) = seen
    assert read.shape == (2, 40, 25, 22)  # from 3 - 10 there is nothing before 0
    assert grid.shape == (40, 25, 22)
    assert (grid.to_world([0, 0, 0]) == GRID.to_world([0, 5, 8])).all()
    assert read[0, 10, 10, 10] == pytest.approx(0, abs=1e-5)
    assert read[0, 5, 12, 11] == pytest.approx(-0.5, abs=1e-5)
    assert (read[1] == host[0:40, 5:30, 8:30]).all()


def test_both_kidneys_are_one_organ_to_look_into_and_classes_are_looked_for_together() -> None:
    look = second_look((*KIDNEYS, "liver"), ("liver_tumor", "kidney_tumor", "kidney_cyst"))
    assert look.classes == ("kidney_tumor", "liver_tumor", "kidney_cyst")
    assert look.hosts_of(("kidney_cyst", "kidney_tumor")) == KIDNEYS
    assert look.hosts_of(look.classes) == (*KIDNEYS, "liver")
    organs = {name: np.zeros(SHAPE, dtype=bool) for name in (*KIDNEYS, "liver")}
    organs["kidney_right"][2:10, 2:10, 2:10] = organs["kidney_left"][2:10, 28:36, 2:10] = True
    organs["liver"][20:38, 20:38, 20:38] = True
    lesions = [ball((6, 6, 6), 1), ball((6, 32, 6), 1), ball((30, 30, 30), 2)]
    hu, told = scan(np.any([*organs.values()], axis=0), np.any(lesions, axis=0)), []
    found = look.look(
        image(hu), GRID, {name: levels(mask) for name, mask in organs.items()},
        ("liver_tumor", "kidney_cyst", "kidney_tumor"), ("kidney_tumor",), lambda *step: told.append(step),
    )  # fmt: skip
    assert found.masks.names == ("liver_tumor", "kidney_cyst", "kidney_tumor")
    assert tuple(found.probabilities) == ("kidney_tumor",)
    kidneys = organs["kidney_right"] | organs["kidney_left"]
    assert (found.masks["kidney_tumor"] & kidneys == lesions[0] | lesions[1]).all()
    assert (found.masks["kidney_cyst"] == found.masks["kidney_tumor"]).all()
    assert (found.masks["liver_tumor"] & organs["liver"] == lesions[2]).all()
    assert not (found.masks["liver_tumor"] & kidneys).any()
    # Two organs, each with windows of its own, told as one walk.
    assert [done for done, _ in told] == list(range(1, told[-1][1] + 1))
    assert len({total for _, total in told}) == 1


def test_a_class_is_looked_for_in_those_of_its_hosts_that_are_known_and_dropped_without_any() -> None:
    look = second_look(("kidney_left",), ("liver_tumor", "kidney_tumor", "liver"))
    assert look.classes == ("kidney_tumor",)
    assert look.hosts_of(("kidney_tumor",)) == ("kidney_left",)
    assert second_look(("spleen",), ("liver_tumor",)).classes == ()


def test_settings_are_its_own() -> None:
    hu, host = scan(cube(), ball()), levels(cube())
    own = second_look(thresholds={"liver_tumor": 0.99}, padding="edge", batch=3)
    assert not looked(hu, host, own).masks["liver_tumor"][20, 20, 20]
    told = own.settings()
    assert told["classes"] == ["liver_tumor"]
    assert (told["thresholds"], told["padding"], told["overlap"]) == ({"liver_tumor": 0.99}, "edge", 0.25)
    assert own.predictor.config.batch == 3
    assert "batch" not in told
    assert SecondLook(checkpoint(), Vocabulary.default(), CPU, overlap=0.5).inference.overlap == 0.5


def test_what_does_not_reach_deep_into_its_organ_is_dropped_and_what_does_is_kept_whole() -> None:
    # The innermost voxel of the ball at the surface lies 15 mm from the nearest that is no organ.
    at_the_surface, within = ball((12, 20, 20), 2), ball((20, 20, 20), 2)
    hu = scan(cube(), at_the_surface | within)
    for depth_mm, there in ((0.0, True), (12.0, True), (15.0, False)):
        found = looked(hu, levels(cube()), second_look(depth_mm={"liver_tumor": depth_mm}))
        mask, level = found.masks["liver_tumor"] & cube(), found.probabilities["liver_tumor"]
        assert (mask[12, 20, 20], mask[20, 20, 20]) == (there, True)
        assert (mask & within == within).all()
        assert (level[12, 20, 20] > 127) == there
        assert (mask & at_the_surface == (at_the_surface if there else False)).all()
        assert level[20, 20, 20] > 127
    other = looked(hu, levels(cube()), second_look(depth_mm={"kidney_tumor": 15.0}))
    assert other.masks["liver_tumor"][12, 20, 20]


def test_what_is_nowhere_likely_enough_is_dropped_and_what_is_somewhere_is_cut_where_it_ends() -> None:
    # 40 HU darker than the organ is a logit of 20 * (0.4 - 0.3), a level of 225; 50 HU one of 4, a level of 250.
    pale, dark = ball((20, 14, 20), 2), ball((20, 25, 20), 2)
    both = pale | ball((20, 25, 20), 3)
    hu = scan(cube(), both)
    hu[both & ~dark] = ORGAN_HU - 40
    for peak, there in ((0.88, both), (0.89, both & ~pale), (0.98, both & ~pale), (0.99, both & False)):
        found = looked(hu, levels(cube()), second_look(peaks={"liver_tumor": peak}))
        mask, level = found.masks["liver_tumor"], found.probabilities["liver_tumor"]
        assert (mask & cube() == there).all()
        # What is dropped is no likelier than the organ around it.
        assert (level[both] == np.where(there, np.where(dark, 250, 225), 1)[both]).all()
    other = looked(hu, levels(cube()), second_look(peaks={"kidney_tumor": 0.99}))
    assert (other.masks["liver_tumor"] & cube() == both).all()


def test_it_must_be_that_likely_where_it_is_that_deep() -> None:
    column = np.zeros(SHAPE, dtype=bool)
    column[10:19, 20, 20] = True
    hu = scan(cube(), column)
    hu[12:19, 20, 20] = ORGAN_HU - 40  # the darker end is the one at the surface
    for peak, depth_mm, there in ((0.95, 0.0, True), (0.85, 9.0, True), (0.95, 9.0, False)):
        look = second_look(peaks={"liver_tumor": peak}, depth_mm={"liver_tumor": depth_mm})
        assert (looked(hu, levels(cube()), look).masks["liver_tumor"] & cube() == (column & there)).all()


def test_peaks_are_told_without_asking_for_probabilities() -> None:
    look = second_look(peaks={"liver_tumor": 0.99})
    found = look.look(image(scan(cube(), ball())), GRID, {"liver": levels(cube())}, ("liver_tumor",))
    assert not (found.masks["liver_tumor"] & cube()).any()
    assert found.probabilities == {}


def test_depth_is_that_in_the_organ_with_what_it_encloses() -> None:
    large = ball(radius=6)
    found = looked(scan(cube(), large), levels(cube() & ~large), second_look(depth_mm={"liver_tumor": 18.0}))
    assert (found.masks["liver_tumor"] & cube() == large).all()


def test_what_is_elsewhere_mistaken_for_an_organ_of_one_piece_is_taken_out_of_it() -> None:
    stray = cube(34, 39)
    found = np.maximum(levels(cube() | stray, 200), levels(ball((5, 35, 5), 1), 100))
    look = second_look()
    assert (look.without_strays("liver", found) == np.where(stray, 0, found)).all()
    assert (look.without_strays("spleen", found) == np.where(stray, 0, found)).all()
    # Bowel comes in several pieces.
    assert look.without_strays("colon", found) is found
    assert not look.without_strays("liver", levels(cube(), 127) * np.uint8(0)).any()


def test_what_it_takes_of_memory() -> None:
    look = second_look()
    window, waiting = 4 * 32**3, waiting_bytes((32, 32, 32), (32, 32, 32), 0.25)
    # Two channels twice; a word and a map, in the box and for the whole; the host, and what is allowed.
    assert look.memory_bytes((32, 32, 32), 1, 1) == window + waiting + 32**3 * (16 + 2 * 5 + 2)
    assert look.memory_bytes((32, 32, 32), 33, 0) == window + waiting + 32**3 * (16 + 2 * 8 + 2)
    # Depth is told after the windows: what takes more counts.
    deep, rest = second_look(depth_mm={"liver_tumor": 3.0}), 16 + 2 * 5 + 2
    large = (32, 32, 160)
    assert window + waiting_bytes(large, (32, 32, 32), 0.25) < 5 * 32**3 * DEPTH_BYTES
    assert deep.memory_bytes(large, 1, 1) == 5 * 32**3 * (DEPTH_BYTES + rest)
    assert deep.memory_bytes((32, 32, 32), 1, 1) == look.memory_bytes((32, 32, 32), 1, 1)
    peaking = second_look(peaks={"liver_tumor": 0.9})
    assert peaking.memory_bytes((32, 32, 32), 1, 0) == look.memory_bytes((32, 32, 32), 1, 0) + 32**3


def test_refusals() -> None:
    whole = checkpoint()
    with pytest.raises(CheckpointError, match="hold one network alone; 'voxicon weights join' puts another inside"):
        SecondLook(replace(whole, inside=None), Vocabulary.default(), CPU)
    with pytest.raises(CheckpointError, match="inference settings"):
        second_look(color="red")
    assert isinstance(second_look().predictor.network, Dark)
