"""Variants of the network: which classes are asked for, where gradients go, and one process of many."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, distributed
from torch.nn.parallel import DistributedDataParallel

from voxicon.errors import CheckpointError
from voxicon.model.config import NetworkConfig
from voxicon.model.network import UniversalNetwork, build_network
from voxicon.train.loss import partial_label_loss

CLASSES = ("liver", "spleen", "aorta", "colon")
CONTROLLERS = ("shared", "per_class")


def network(controller: str, embedding_size: int = 12, seed: int = 0) -> UniversalNetwork:
    torch.manual_seed(seed)
    config = NetworkConfig(
        backbone="compact", classes=CLASSES, embedding_size=embedding_size, options={"channels": [16, 32]},
        controller=controller,
    )  # fmt: skip
    vectors = torch.randn(len(CLASSES), embedding_size)
    return build_network(config, 9 * torch.nn.functional.normalize(vectors))


def batch(known: bool = True) -> tuple[Tensor, Tensor, Tensor]:
    target = torch.rand(2, len(CLASSES), 8, 8, 8) > 0.8
    return torch.rand(2, 1, 8, 8, 8), target, torch.full((2, len(CLASSES)), known)


def test_a_network_is_shared_unless_told_otherwise() -> None:
    config = NetworkConfig(backbone="compact", classes=("a",), embedding_size=4)
    assert config.controller == "shared"
    assert config.to_dict()["controller"] == "shared"


def test_an_unknown_controller_is_refused() -> None:
    config: Any = {"backbone": "compact", "classes": ("a",), "embedding_size": 4, "controller": "own"}
    with pytest.raises(CheckpointError, match="unknown controller 'own'; known: shared, per_class"):
        build_network(NetworkConfig(**config))


@pytest.mark.parametrize("controller", CONTROLLERS)
@pytest.mark.parametrize("embedding_size", [1, 4, 384])
def test_logits_have_the_shape_asked_for(controller: str, embedding_size: int) -> None:
    with torch.inference_mode():
        whole = network(controller, embedding_size)
        assert whole(torch.rand(2, 1, 8, 4, 6)).shape == (2, 4, 8, 4, 6)
        assert whole(torch.rand(1, 1, 8, 4, 6), ()).shape == (1, 0, 8, 4, 6)


@pytest.mark.parametrize("controller", CONTROLLERS)
@pytest.mark.parametrize("asked", [("colon", "liver"), ("spleen",), CLASSES, CLASSES[::-1], None])
def test_some_classes_are_a_part_of_all(controller: str, asked: tuple[str, ...] | None) -> None:
    whole, image = network(controller), torch.rand(2, 1, 8, 8, 8)
    places = [CLASSES.index(name) for name in asked or CLASSES]
    with torch.inference_mode():
        every, some = whole(image), whole(image, asked)
        by_parts = whole.head.decode(*whole.encode(image, whole.rows_of(asked)))
    assert not torch.allclose(every[:, 0], every[:, 1], atol=1e-3), "classes that look alike would prove nothing"
    torch.testing.assert_close(some, every[:, places], atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(by_parts, some, atol=0, rtol=0)


def test_asking_for_all_in_order_copies_no_controller() -> None:
    whole = network("per_class")
    for rows in (whole.rows_of(None), whole.rows_of(CLASSES)):
        assert whole.head.controller.weight[rows].data_ptr() == whole.head.controller.weight.data_ptr()


@pytest.mark.parametrize("controller", CONTROLLERS)
def test_a_class_without_a_word_is_named(controller: str) -> None:
    with pytest.raises(CheckpointError, match="no word for heart; they know: liver, spleen, aorta, colon"):
        network(controller).rows_of(("liver", "heart"))


def test_both_controllers_start_with_about_the_same_loss() -> None:
    image, target, known = batch()
    first = {}
    for controller in CONTROLLERS:
        with torch.no_grad():
            losses = [partial_label_loss(network(controller, 384, seed)(image), target, known) for seed in range(5)]
        first[controller] = float(sum(losses)) / 5
    assert first["per_class"] == pytest.approx(first["shared"], rel=0.05)


@pytest.fixture
def alone() -> Iterator[None]:
    """A process group of one: the reducer checks what it would with many."""
    distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
    yield
    distributed.destroy_process_group()


@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize("controller", CONTROLLERS)
@pytest.mark.parametrize("recompute", [False, True])
def test_every_parameter_takes_part_in_every_distributed_step(controller: str, recompute: bool) -> None:
    whole = network(controller)
    whole.recompute = recompute
    # Unused parameters are not looked for: were there any, the step after would be refused.
    parallel = DistributedDataParallel(whole)
    for known in (True, False, True):
        image, target, mask = batch(known)
        parallel.zero_grad(set_to_none=True)
        partial_label_loss(parallel(image), target, mask).backward()
        gradients = {name: p.grad for name, p in whole.named_parameters()}
        assert [name for name, gradient in gradients.items() if gradient is None] == []
        assert all(g is not None and bool(g.any()) == known for g in gradients.values())


def test_the_leak_of_a_configuration_is_that_of_the_head() -> None:
    config = NetworkConfig(
        backbone="compact", classes=("a",), embedding_size=4, options={"channels": [16, 32]}, leak=0.1
    )
    assert build_network(config).head.leak == 0.1
    assert NetworkConfig(backbone="compact", classes=("a",), embedding_size=4).leak == 0.0, "the original's ReLU"
