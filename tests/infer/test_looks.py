"""Each class is found by the network that knows it, and nothing is computed that nobody asked for."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.infer.dark_lesions import GRID, ball, checkpoint, cube, image, scan
from voxicon.core.clock import Clock
from voxicon.core.concepts import Vocabulary
from voxicon.infer.inside import SecondLook
from voxicon.infer.looks import Looks
from voxicon.infer.memory import waiting_bytes
from voxicon.infer.predictor import InferenceConfig, Predictor

CPU = torch.device("cpu")
CONFIG = InferenceConfig(window=(32, 32, 32), overlap=0.25)


def looks(organs: tuple[str, ...] = ("liver", "spleen"), lesions: tuple[str, ...] = ("liver_tumor",)) -> Looks:
    whole = checkpoint(organs, lesions)
    return Looks(Predictor(whole.network, CONFIG, CPU), SecondLook(whole, Vocabulary.default(), CPU))


def test_who_is_asked_for_what() -> None:
    both = looks(("liver", "spleen", "liver_tumor"))
    alone = both.shares(("liver_tumor",))
    assert (alone.first, alone.hosts, alone.second) == (("liver",), ("liver",), ("liver_tumor",))
    all_of_them = both.shares(("spleen", "liver_tumor", "liver"))
    assert all_of_them.first == ("spleen", "liver")
    organs = both.shares(("liver", "spleen"))
    assert (organs.first, organs.hosts, organs.second) == (("liver", "spleen"), (), ())
    single = Looks(both.first).shares(("liver_tumor", "liver"))
    assert (single.first, single.hosts, single.second) == (("liver_tumor", "liver"), (), ())


def test_masks_and_probabilities_come_in_the_order_asked_for() -> None:
    both, clock, told = looks(), Clock(), []
    hu = scan(cube(), ball())
    asked = ("liver_tumor", "spleen")
    found = both.predict(image(hu), GRID, asked, lambda *step: told.append(step), ("liver_tumor",), clock=clock)
    assert found.masks.names == asked
    assert tuple(found.probabilities) == ("liver_tumor",)
    assert tuple(clock.seconds) == ("network", "second look")
    organ = both.first.predict(image(hu), GRID, ("spleen",)).masks["spleen"]
    assert (found.masks["spleen"] == organ).all()
    assert organ.sum() == cube().sum() - ball().sum()
    # Too dark to be organ, and enclosed by it.
    assert (found.masks["liver_tumor"] & cube() == ball()).all()
    # One walk after the other: the second's windows are known once the organ is.
    assert told[-1][0] == told[-1][1] > told[0][1]
    assert [done for done, _ in told] == list(range(1, len(told) + 1))


@pytest.mark.parametrize("known", [False, True])
def test_strays_of_an_organ_that_was_found_are_not_looked_into_and_pieces_of_one_that_is_known_are(known: bool) -> None:
    stray = cube(34, 39)
    hu = scan(cube() | stray, ball() | ball((36, 36, 36), 1))
    organs = {"liver": np.where(cube() | stray, 255, 0).astype(np.uint8)} if known else None
    found = looks().predict(image(hu), GRID, ("liver", "liver_tumor"), known=organs, probabilities_of=("liver",))
    assert found.masks["liver_tumor"][20, 20, 20]
    assert found.masks["liver_tumor"][36, 36, 36] == known
    assert found.probabilities["liver"][35, 35, 35] > 127, "what the network said is told as it was"


def test_the_second_network_finds_what_both_know() -> None:
    both = looks(("liver", "liver_tumor"))
    found = both.predict(image(scan(cube(), ball())), GRID, ("liver_tumor",), probabilities_of=("liver_tumor",))
    assert found.masks["liver_tumor"][20, 20, 20]  # the first calls lesion what is bright
    assert found.probabilities["liver_tumor"][20, 20, 20] > 240


def test_nothing_is_computed_that_nobody_asked_for() -> None:
    both, clock = looks(), Clock()
    found = both.predict(image(scan(cube(), ball())), GRID, ("liver",), clock=clock)
    assert both.second is not None
    assert both.second.predictor.network.seen == []
    assert tuple(clock.seconds) == ("network",)
    assert found.probabilities == {}
    both.predict(image(np.zeros(GRID.shape, np.float32)), GRID, ("liver_tumor",), clock=clock)
    assert both.second.predictor.network.seen == []
    assert tuple(clock.seconds) == ("network", "second look")


def test_memory_is_that_of_the_look_that_takes_more() -> None:
    both, shape = looks(), (32, 32, 32)
    assert both.second is not None
    first = 4 * 32**3 + waiting_bytes(shape, shape, 0.25)
    assert both.memory_bytes(shape, ("liver",), 1) == first
    # And a byte a voxel for the levels of the liver.
    assert both.memory_bytes(shape, ("liver", "liver_tumor"), 1) == both.second.memory_bytes(shape, 1, 1) + 32**3
