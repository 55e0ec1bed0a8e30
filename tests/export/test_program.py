"""A program gives the logits of the network it was made of, for the words asked for, in the order asked for."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.infer.test_predictor import small_network
from voxicon.export.program import to_program
from voxicon.model.config import NetworkConfig
from voxicon.model.extend import extended
from voxicon.model.network import UniversalNetwork, build_network

WINDOW = (16, 24, 16)


def grown(adapter: dict[str, Any] | None) -> UniversalNetwork:
    """Five words in the first head, two in a second, one in a third."""
    torch.manual_seed(1)
    network = extended(small_network(5), {"new_a": torch.randn(12), "new_b": torch.randn(12)}, adapter)
    network = extended(network, {"newest": torch.randn(7)})
    with torch.no_grad():
        for parameter in network.extensions.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return network.eval()


def same(network: UniversalNetwork, classes: tuple[str, ...], window: tuple[int, int, int] = WINDOW) -> None:
    module = to_program(network, classes, window).module()
    windows = torch.rand(3, 1, *window)
    for batch in (windows, windows[:1]):
        with torch.no_grad():
            found, expected = module(batch), network(batch, classes)
        assert found.shape == (len(batch), len(classes), *window)
        torch.testing.assert_close(found, expected, atol=2e-5, rtol=1e-4)


def test_all_words_and_some_in_another_order() -> None:
    network = small_network(9)
    same(network, network.classes)
    same(network, ("class_7", "class_0", "class_3"))


@pytest.mark.parametrize("adapter", [None, {"width": 4}])
@pytest.mark.parametrize(
    "classes", [None, ("new_b", "class_2", "newest"), ("newest",), ("new_b", "new_a"), ("class_4", "class_1")]
)
def test_words_of_extensions(adapter: dict[str, Any] | None, classes: tuple[str, ...] | None) -> None:
    network = grown(adapter)
    same(network, classes or network.classes)


@pytest.mark.parametrize(
    ("backbone", "options", "controller", "leak", "window"),
    [
        ("unet", {"width": 16}, "per_class", 0.1, (16, 8, 16)),
        ("swin_unetr", {"feature_size": 48}, "shared", 0.0, (64, 32, 32)),
        ("compact", {"channels": [16, 32], "windows": [[0, 0.4], [0.5, 1]]}, "per_class", 0.1, (8, 8, 8)),
    ],
)
def test_every_backbone_and_controller(
    backbone: str, options: dict[str, Any], controller: Any, leak: float, window: tuple[int, int, int]
) -> None:
    torch.manual_seed(0)
    config = NetworkConfig(
        backbone=backbone, classes=("a", "b", "c"), embedding_size=4, options=options, controller=controller, leak=leak
    )
    network = build_network(config, torch.randn(3, 4)).eval()
    same(network, ("c", "a"), window)


def test_the_network_stays_as_it_was_and_the_program_wants_no_gradient() -> None:
    network = small_network(3)
    before = {key: tensor.clone() for key, tensor in network.state_dict().items()}
    program = to_program(network, network.classes, WINDOW)
    assert all(torch.equal(before[key], tensor) for key, tensor in network.state_dict().items())
    assert all(parameter.requires_grad for parameter in network.parameters())
    assert not program.module()(torch.rand(1, 1, *WINDOW)).requires_grad
    assert program.example_inputs is None
