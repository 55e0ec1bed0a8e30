"""Words come, go and change their names, and what was there stays as it was, bit by bit."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from voxicon.errors import CheckpointError, UnknownClass
from voxicon.model.config import ExtensionConfig, NetworkConfig
from voxicon.model.extend import extended, renamed, with_own_controllers, without
from voxicon.model.head import EVERY_ROW, HIDDEN
from voxicon.model.network import UniversalNetwork, build_network

OLD = ("liver", "spleen", "aorta")
CONTROLLERS = ("shared", "per_class")
IMAGE = torch.rand(2, 1, 8, 8, 4, generator=torch.Generator().manual_seed(1))


def old_network(controller: Any = "shared", seed: int = 0) -> UniversalNetwork:
    torch.manual_seed(seed)
    config = NetworkConfig(
        backbone="compact", classes=OLD, embedding_size=6, options={"channels": [16, 32]}, controller=controller
    )
    return build_network(config, torch.randn(3, 6)).eval()


def words(*names: str, size: int = 6) -> dict[str, Tensor]:
    return {name: torch.randn(size, generator=torch.Generator().manual_seed(len(name))) for name in names}


@torch.inference_mode()
def logits(network: UniversalNetwork, classes: tuple[str, ...] | None = None) -> Tensor:
    return network(IMAGE, classes)


def stirred(network: UniversalNetwork) -> UniversalNetwork:
    """The same with other numbers in its last extension, as after training."""
    with torch.no_grad():
        for parameter in network.extensions[-1].parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return network


@pytest.mark.parametrize("controller", CONTROLLERS)
@pytest.mark.parametrize("adapter", [None, {"width": 8}])
def test_old_words_answer_as_before_bit_by_bit(controller: str, adapter: dict[str, int] | None) -> None:
    old = old_network(controller)
    before = logits(old)
    new = stirred(extended(old, words("hip", "femur"), adapter))
    assert new.classes == (*OLD, "hip", "femur")
    assert torch.equal(logits(new, OLD), before)
    assert torch.equal(logits(new)[:, :3], before), "also where new words are asked for in the same breath"
    twice = stirred(extended(new, words("rib"), adapter))
    assert torch.equal(logits(twice, OLD), before)
    assert torch.equal(logits(twice, ("hip", "femur")), logits(new, ("hip", "femur")))
    assert torch.equal(logits(old), before), "the network that was extended stays as it is"


@pytest.mark.parametrize("controller", CONTROLLERS)
@settings(max_examples=25, deadline=None)
@given(asked=st.permutations((*OLD, "hip", "femur", "rib")).flatmap(lambda p: st.integers(0, 6).map(lambda n: p[:n])))
def test_any_words_in_any_order_are_a_part_of_all(controller: str, asked: list[str]) -> None:
    network = stirred(
        extended(extended(old_network(controller), words("hip", "femur"), {"width": 8}), words("rib", size=3))
    )
    every = logits(network)
    some = logits(network, tuple(asked))
    assert some.shape[1] == len(asked)
    for at, name in enumerate(asked):
        torch.testing.assert_close(some[:, at], every[:, network.classes.index(name)], rtol=1e-5, atol=1e-5)


def test_maps_are_made_only_of_the_heads_asked_for() -> None:
    network = stirred(extended(extended(old_network(), words("hip")), words("rib")))
    with torch.inference_mode():
        every, _ = network.encode(IMAGE)
        for asked, heads in [
            (OLD, [0]),
            (("rib",), [2]),
            (("rib", "liver"), [0, 2]),
            (network.classes, [0, 1, 2]),
            ((), [0]),
        ]:
            rows = network.rows_of(asked)
            maps, parameters = network.encode(IMAGE, rows)
            assert maps.shape[1] == HIDDEN * len(heads)
            assert parameters.shape[1] == len(asked)
            assert torch.equal(maps, every[:, network.map_channels(rows)])
    assert network.maps_of(network.rows_of(("rib", "liver", "rib"))) == (1, 0, 1)
    assert network.maps_of(EVERY_ROW) == (0, 0, 0, 1, 2)


def test_a_first_head_without_words_makes_no_map() -> None:
    network = without(stirred(extended(extended(old_network(), words("hip")), words("rib"))), OLD)
    assert network.classes == ("hip", "rib")
    with torch.inference_mode():
        every, _ = network.encode(IMAGE)
        assert every.shape[1] == 2 * HIDDEN
        for asked in (("hip",), ("rib",), ("rib", "hip")):
            rows = network.rows_of(asked)
            maps, parameters = network.encode(IMAGE, rows)
            assert torch.equal(maps, every[:, network.map_channels(rows)])
            assert torch.equal(network.decode(maps, parameters, network.maps_of(rows)), logits(network, asked))


def test_a_new_head_reads_images_as_the_first_one_does() -> None:
    old = old_network()
    twin = extended(old, {"twin": old.text_vectors[1]})
    assert torch.equal(logits(twin, ("twin",)), logits(old, ("spleen",)))
    adapted = extended(old, {"twin": old.text_vectors[1]}, {"width": 8})
    assert torch.equal(logits(adapted, ("twin",)), logits(old, ("spleen",))), "an adapter adds nothing at first"


def test_only_what_is_new_can_be_trained_alone() -> None:
    network = extended(old_network(), words("hip"), {"width": 8})
    network.requires_grad_(False)
    network.extensions[-1].requires_grad_(True)
    network(IMAGE, ("hip",)).square().mean().backward()
    learning = {name for name, p in network.named_parameters() if p.grad is not None and bool(p.grad.abs().sum() > 0)}
    assert learning
    assert all(name.startswith("extensions.0.") for name in learning)
    assert "extensions.0.adapter.added.weight" in learning


@pytest.mark.parametrize("names", [("liver",), ()])
def test_words_that_are_there_are_not_added(names: tuple[str, ...]) -> None:
    with pytest.raises(UnknownClass, match="expected words that these weights have not yet"):
        extended(old_network(), words(*names))


@pytest.mark.parametrize("controller", CONTROLLERS)
def test_what_is_not_taken_away_answers_as_before(controller: str) -> None:
    network = stirred(extended(extended(old_network(controller), words("hip", "femur")), words("rib")))
    for lost in [("spleen",), ("hip",), ("hip", "femur"), ("liver", "rib"), OLD]:
        smaller = without(network, lost)
        left = tuple(name for name in network.classes if name not in lost)
        assert smaller.classes == left
        assert torch.equal(logits(smaller), logits(network, left))
    assert len(without(network, ("hip", "femur")).extensions) == 1, "a head without words is gone"


def test_taking_away_what_is_not_there_or_everything_is_refused() -> None:
    with pytest.raises(UnknownClass, match="have no word heart; they have: liver, spleen, aorta"):
        without(old_network(), ("heart",))
    with pytest.raises(UnknownClass, match="no word would be left"):
        without(old_network(), OLD)


def test_a_word_by_another_name_finds_the_same() -> None:
    network = stirred(extended(old_network(), words("hip")))
    same = renamed(network, {"hip": "pelvis", "liver": "spleen", "spleen": "liver"})
    assert same.classes == ("spleen", "liver", "aorta", "pelvis")
    assert torch.equal(logits(same), logits(network))
    with pytest.raises(UnknownClass, match="spleen: two words would have this name"):
        renamed(network, {"hip": "spleen"})
    with pytest.raises(UnknownClass, match="have no word heart"):
        renamed(network, {"heart": "hip"})


def test_a_controller_per_class_can_be_written_from_a_shared_one() -> None:
    network = stirred(extended(old_network(), words("hip", size=9)))
    own = with_own_controllers(network)
    assert own.config is not None
    assert own.config.controller == own.config.extensions[0].controller == "per_class"
    torch.testing.assert_close(logits(own), logits(network), rtol=1e-4, atol=1e-4)
    assert torch.equal(logits(own, ("hip", "liver")), logits(own)[:, [3, 0]])
    again = with_own_controllers(own)
    assert torch.equal(logits(again), logits(own))


def test_own_controllers_no_longer_learn_from_each_other() -> None:
    own = with_own_controllers(old_network())
    own(IMAGE, ("liver",)).square().mean().backward()
    gradient = own.head.controller.weight.grad
    assert bool(gradient[0].abs().sum() > 0)
    assert bool((gradient[1:] == 0).all())


def test_a_shape_survives_being_written_down() -> None:
    network = extended(extended(old_network("per_class"), words("hip"), {"width": 8}), words("rib", size=3))
    assert network.config is not None
    text = json.dumps(network.config.to_dict())
    back = NetworkConfig.from_dict(json.loads(text))
    assert back.all_classes == network.classes
    assert back.extensions[0] == ExtensionConfig(
        classes=("hip",), embedding_size=6, controller="per_class", adapter={"width": 8}
    )
    build_network(back).load_state_dict(network.state_dict())
    assert "extensions" not in old_network().config.to_dict()  # type: ignore[union-attr]


def test_damaged_shapes_are_refused() -> None:
    good = extended(old_network(), words("hip")).config
    assert good is not None
    twice = {**good.to_dict(), "extensions": [{"classes": ["liver"], "embedding_size": 6}]}
    with pytest.raises(CheckpointError, match="two heads answer for liver"):
        build_network(NetworkConfig.from_dict(twice))
    for adapter in ({"width": 0}, {"depth": 3}):
        wrong = {**good.to_dict(), "extensions": [{"classes": ["hip"], "embedding_size": 6, "adapter": adapter}]}
        with pytest.raises(CheckpointError, match="cannot build backbone"):
            build_network(NetworkConfig.from_dict(wrong))
    unknown = {**good.to_dict(), "extensions": [{"classes": ["hip"], "embedding_size": 6, "controller": "own"}]}
    with pytest.raises(CheckpointError, match="unknown controller 'own'"):
        build_network(NetworkConfig.from_dict(unknown))
    by_hand = UniversalNetwork(old_network().backbone, old_network().head, torch.zeros(3, 6), OLD)
    with pytest.raises(CheckpointError, match="put together by hand"):
        extended(by_hand, words("hip"))
