"""The U-Net gives the numbers of the original, in a batch as alone."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.model import original
from voxicon.model.network import UniversalNetwork
from voxicon.model.unet import GenesisUNet


def test_reports_its_channels_and_sizes() -> None:
    unet = GenesisUNet(width=8)
    bottleneck, decoded = unet(torch.rand(2, 1, 16, 24, 32))
    assert (unet.bottleneck_channels, unet.decoder_channels, unet.size_multiple) == (128, 16, 8)
    assert bottleneck.shape == (2, 128, 2, 3, 4)
    assert decoded.shape == (2, 16, 16, 24, 32)


def test_published_size_has_the_published_number_of_weights() -> None:
    unet = GenesisUNet()
    # 19,073,600 are the original's backbone parameters; its running averages are buffers.
    assert sum(p.numel() for p in unet.parameters()) == 19_073_600
    assert (unet.bottleneck_channels, unet.decoder_channels) == (512, 64)


@pytest.mark.parametrize("training", [True, False])
def test_a_window_does_not_see_its_neighbors_in_the_batch(training: bool) -> None:
    torch.manual_seed(0)
    unet = GenesisUNet(width=8).train(training)
    windows = torch.stack([torch.rand(1, 16, 16, 16), 5 + 3 * torch.rand(1, 16, 16, 16)])
    together = unet(windows)
    for number in range(2):
        for batched, alone in zip(together, unet(windows[number : number + 1]), strict=True):
            torch.testing.assert_close(batched[number], alone[0], atol=1e-5, rtol=1e-4)


def test_shapes_of_the_plain_formulation_are_those_of_the_original(reference_data: Path) -> None:
    listed = json.loads((reference_data / "state_dict_shapes.json").read_text())
    for backbone, shapes in (("unet", original.unet_shapes()), ("swin_unetr", original.swin_shapes())):
        assert shapes == {name: tuple(shape) for name, (shape, _) in listed[backbone].items()}


def test_equals_the_original_on_a_full_window(unet_network: UniversalNetwork, reference_data: Path) -> None:
    expected = np.load(reference_data / "unet_logits_salt0.npz")["logits"]
    with torch.inference_mode():
        found = unet_network(original.image())[:, :, ::8, ::8, ::8].numpy()
    np.testing.assert_allclose(found, expected, atol=1e-3, rtol=0)


def test_equals_the_plain_formulation_on_other_windows(
    unet_network: UniversalNetwork, unet_weights: original.Weights
) -> None:
    window = original.image((40, 32, 16))
    with torch.inference_mode():
        expected = original.naive_head(unet_weights, *original.naive_unet(unet_weights, window))
        torch.testing.assert_close(unet_network(window), expected, atol=1e-4, rtol=1e-4)
