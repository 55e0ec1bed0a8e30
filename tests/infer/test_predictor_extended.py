"""Words of several heads in one scan: each is blended from the maps that its own head made."""

from __future__ import annotations

import pytest
import torch

from tests.infer.test_predictor import grid, predictor_of, small_network, volume_of
from voxicon.model.extend import extended
from voxicon.model.network import UniversalNetwork


def several_heads() -> UniversalNetwork:
    """Five words of a first head, two of a second that reads through an adapter."""
    torch.manual_seed(3)
    network = extended(small_network(5), {"new_0": torch.randn(12), "new_1": torch.randn(12)}, {"width": 8})
    with torch.no_grad():
        for parameter in network.extensions.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return network


@pytest.mark.parametrize(
    "asked", [("new_1", "class_0", "new_0", "class_4", "class_2", "class_1"), ("new_0",), ("class_3",)]
)
def test_probabilities_of_one_window_are_the_networks_own(asked: tuple[str, ...]) -> None:
    network, image = several_heads(), volume_of((24, 24, 24))
    answer = predictor_of(network, 24).predict(image, grid(image.shape), asked, probabilities_of=asked)
    with torch.inference_mode():
        logits = network(torch.from_numpy(image)[None, None], asked)[0]
    assert bool((logits[0] > 0).any())
    for index, name in enumerate(asked):
        assert (answer.masks[name] == (logits[index] > 0).numpy()).mean() > 0.9999
        torch.testing.assert_close(
            torch.from_numpy(answer.probabilities[name]) / 255, logits[index].sigmoid(), atol=0.51 / 255, rtol=0
        )


def test_old_words_are_found_as_before() -> None:
    old, image = small_network(5), volume_of((40, 24, 24))
    new = several_heads()
    before = predictor_of(old, 24).predict(image, grid(image.shape), old.classes)
    after = predictor_of(new, 24).predict(image, grid(image.shape), old.classes)
    assert (before.masks.words == after.masks.words).all()
    both = predictor_of(new, 24).predict(image, grid(image.shape), new.classes)
    for name in old.classes:
        assert (both.masks[name] == before.masks[name]).all()
