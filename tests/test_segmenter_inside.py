"""Lesions that a second network finds in organs come out of a segmenter as all other classes do."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.infer.dark_lesions import GRID, ball, checkpoint, cube, scan
from tests.infer.test_inside import grown
from tests.phantoms import body, oriented
from tests.weights_on_disk import CLASSES, write_small_lesions, write_small_weights
from voxicon.core.geometry import Geometry
from voxicon.core.masks import MaskSet
from voxicon.core.volume import Volume
from voxicon.errors import BadGeometry, CheckpointError, UnknownClass
from voxicon.infer.cleanup import Mode
from voxicon.joining import join
from voxicon.segmenter import Segmenter, load

CPU = torch.device("cpu")
CUBE, BALL = cube(13, 27), ball()


def patient(brighter: float = 0.0) -> Volume:
    """Water in air, an organ with a darker ball in the middle; the grid is the model's own."""
    hu = scan(CUBE, BALL, brighter)
    hu[~cube(4, 36)] = -1000
    return Volume(hu, GRID)


def segmenter(organs: tuple[str, ...] = ("liver", "spleen"), **settings: object) -> Segmenter:
    return Segmenter(checkpoint(organs), CPU, **settings)  # type: ignore[arg-type]


@pytest.fixture
def joined(tmp_path: Path) -> Path:
    organs = write_small_weights(tmp_path / "organs.safetensors")
    lesions = write_small_lesions(tmp_path / "lesions.safetensors", ("liver_tumor", "kidney_tumor"))
    join(organs, lesions, tmp_path / "joined.safetensors")
    return tmp_path / "joined.safetensors"


def test_classes_are_those_of_both_in_the_order_of_the_vocabulary(joined: Path) -> None:
    both = load(joined, device="cpu", engine="torch")
    assert both.classes == ("spleen", "kidney_right", "liver", "pancreas", "kidney_tumor", "liver_tumor")
    assert both.first_classes == ("spleen", "kidney_right", "liver", "pancreas")
    alone = load(joined.with_name("organs.safetensors"), device="cpu", engine="torch")
    assert alone.classes == alone.first_classes == CLASSES


@pytest.mark.parametrize("brighter", [0.0, 15.0])
@pytest.mark.parametrize(("order", "signs"), [((0, 1, 2), (1, 1, 1)), ((2, 0, 1), (-1, 1, -1))])
def test_a_planted_ball_is_found_on_the_scans_own_grid(
    order: tuple[int, int, int], signs: tuple[int, int, int], brighter: float
) -> None:
    volume = oriented(patient(brighter), order, signs)
    truth, organ, around = (
        oriented(Volume(mask.astype(np.float32), GRID), order, signs).hu > 0 for mask in (BALL, CUBE, grown(CUBE))
    )
    found = segmenter().segment(volume, ["liver tumour"], probabilities=["liver tumour"])
    assert found.masks.names == ("liver_tumor",)
    assert found.masks.geometry is volume.geometry
    mask, levels = found.masks["liver_tumor"], found.probabilities["liver_tumor"]
    assert (mask & organ == truth).all()
    assert not (mask & ~around).any()
    assert ((levels > 127) == mask).all()
    assert tuple(found.seconds) == ("read", "prepare", "network", "second look", "cleanup", "restore")


def test_all_classes_at_once_are_the_same_as_one_by_one(joined: Path) -> None:
    both, volume = load(joined, device="cpu", engine="torch"), body((8.0, 8.0, 8.0))
    every = both.segment(volume, probabilities=["kidney_tumor"])
    assert every.masks.names == both.classes
    for name in both.classes:
        assert (both.segment(volume, [name]).masks[name] == every.masks[name]).all()
    assert every.masks.count("liver_tumor")
    # The organs are those of the first network alone.
    alone = load(joined.with_name("organs.safetensors"), device="cpu", engine="torch").segment(volume)
    assert all((alone.masks[name] == every.masks[name]).all() for name in both.first_classes)
    assert (alone.masks["liver_tumor"] != every.masks["liver_tumor"]).any()


def test_without_the_organ_there_is_nothing_and_no_complaint() -> None:
    volume = patient()
    found = segmenter().segment(Volume(np.minimum(volume.hu, 0), GRID), ["liver_tumor", "liver"])
    assert not found.masks.words.any()
    assert found.warnings == ()


def test_organs_alone_take_no_second_look() -> None:
    both = segmenter()
    found = both.segment(patient(), ["liver"])
    assert both.inside is not None
    assert both.inside.predictor.network.seen == []
    assert "second look" not in found.seconds
    # The ball is no organ, and is left to who looks for it.
    assert (found.masks["liver"] == CUBE & ~BALL).all()


@pytest.mark.parametrize("cleanup", ["none", "default"])
def test_what_turns_out_to_be_no_organ_is_not_looked_into(cleanup: Mode) -> None:
    volume = patient()
    volume.hu[6:9, 6:9, 6:9] = 110  # a crumb as bright as the organ, in water, which is darker
    found = segmenter().segment(volume, ["liver_tumor"], cleanup=cleanup)
    assert not found.masks["liver_tumor"][:10, :10, :10].any()
    assert found.masks["liver_tumor"][BALL].all()
    assert found.masks.names == ("liver_tumor",)


def test_find_and_embed_see_them_too() -> None:
    both, volume = segmenter(), patient()
    found = both.find(volume, ("liver_tumor",))
    assert found.names == ("liver_tumor",)
    assert found.count("liver_tumor") >= BALL.sum()


def test_embedding_looks_into_what_the_second_network_found(joined: Path) -> None:
    both = load(joined, device="cpu", engine="torch")
    vector = both.embed(body((8.0, 8.0, 8.0)), ["liver_tumor"]).classes["liver_tumor"]
    assert vector.shape == (16,)
    assert vector.any()


def test_progress_goes_on_into_the_second_look() -> None:
    told: list[tuple[int, int]] = []
    segmenter().segment(patient(), ["liver_tumor"], progress=lambda *step: told.append(step))
    assert [done for done, _ in told] == list(range(1, len(told) + 1))
    assert told[-1] == (len(told), len(told))
    assert told[-1][1] > told[0][1]


def test_the_plan_has_room_for_the_second_look() -> None:
    both, volume = segmenter(), patient()
    one, two = (both.plan(volume, classes).demand for classes in (["liver"], ["liver", "liver_tumor"]))
    assert two.window > one.window
    assert two.model_grid == one.model_grid
    with_map = both.plan(volume, ["liver_tumor"], probabilities=["liver_tumor"]).demand
    assert with_map.window > two.window


def test_the_host_is_located_and_not_the_lesion() -> None:
    plain = segmenter()
    near = segmenter(locator=plain, name="near")
    found = near.segment(patient(), ["liver_tumor"])
    assert found.warnings == ()
    assert (found.masks["liver_tumor"] == plain.segment(patient(), ["liver_tumor"]).masks["liver_tumor"]).all()


def test_settings_tell_of_the_second_look() -> None:
    told = segmenter(overlap=0.5).segment(patient(), ["liver"]).settings["inside"]
    assert told == {
        "classes": ["liver_tumor"],
        "window": [32, 32, 32],
        "overlap": 0.5,
        "threshold": 0.5,
        "thresholds": {},
        "smoothing_mm": {},
        "depth_mm": {},
        "peaks": {},
        "padding": "air",
    }
    whole = checkpoint()
    alone = Segmenter(replace(whole, metadata=replace(whole.metadata, inside=None), inside=None), CPU)
    assert alone.segment(patient(), ["liver"]).settings["inside"] is None


def test_what_has_no_organ_here_is_no_class(tmp_path: Path) -> None:
    organs = write_small_weights(tmp_path / "organs.safetensors", ("liver", "spleen"))
    lesions = write_small_lesions(tmp_path / "lesions.safetensors", ("liver_tumor", "kidney_tumor"))
    join(organs, lesions, tmp_path / "joined.safetensors")
    both = load(tmp_path / "joined.safetensors", device="cpu", engine="torch")
    assert both.classes == ("spleen", "liver", "liver_tumor")
    with pytest.raises(UnknownClass, match="not trained for kidney_tumor; they find: spleen, liver, liver_tumor"):
        both.segment(body((8.0, 8.0, 8.0)), ["kidney_tumor"])


def test_weights_that_look_into_organs_are_of_no_use_alone(tmp_path: Path) -> None:
    lesions = write_small_lesions(tmp_path / "lesions.safetensors")
    with pytest.raises(CheckpointError, match=r"^lesions: looks into organs that other weights find; join them with"):
        load(lesions, device="cpu", engine="torch")


# --- organs that are known ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("order", "signs"), [((0, 1, 2), (1, 1, 1)), ((2, 0, 1), (-1, 1, -1))])
def test_lesions_are_looked_for_in_organs_that_are_known(
    order: tuple[int, int, int], signs: tuple[int, int, int]
) -> None:
    # Too dim for the first network, which calls organ what is above 85 HU.
    volume = oriented(patient(-40.0), order, signs)
    truth, organ = (oriented(Volume(mask.astype(np.float32), GRID), order, signs).hu > 0 for mask in (BALL, CUBE))
    who = segmenter()
    assert not who.segment(volume, ["liver_tumor"]).masks.count("liver_tumor")
    reads = len(who.checkpoint.network.seen)  # type: ignore[arg-type]
    given = MaskSet.from_masks({"liver": organ}, volume.geometry)
    found = who.segment(volume, ["liver_tumor", "liver"], organs=given)
    assert len(who.checkpoint.network.seen) == reads, "what is known is not searched for"  # type: ignore[arg-type]
    assert found.masks.names == ("liver_tumor", "liver")
    assert (found.masks["liver"] == organ).all()
    assert (found.masks["liver_tumor"] & organ == truth).all()


def test_known_organs_count_as_they_are_and_others_are_found() -> None:
    volume, odd = patient(), CUBE.copy()
    odd[:, :, 22:24] = False  # in two pieces, of which cleanup would keep one
    given = MaskSet.from_masks({"liver": odd, "aorta": CUBE}, GRID)
    found = segmenter().segment(volume, ["spleen", "liver"], probabilities=["spleen"], organs=given)
    plain = segmenter().segment(volume, ["spleen", "liver"], probabilities=["spleen"])
    assert (found.masks["liver"] == odd).all()
    assert (found.masks["spleen"] == plain.masks["spleen"]).all()
    assert (found.probabilities["spleen"] == plain.probabilities["spleen"]).all()
    assert found.masks.names == ("spleen", "liver"), "the aorta was not asked for"


def test_known_organs_of_another_grid_are_refused() -> None:
    elsewhere = Geometry(GRID.shape, np.diag([3.0, 3.0, 2.0, 1.0]))
    given = MaskSet.from_masks({"liver": CUBE}, elsewhere)
    with pytest.raises(BadGeometry, match="give masks on the grid of the scan"):
        segmenter().segment(patient(), ["liver_tumor"], organs=given)
