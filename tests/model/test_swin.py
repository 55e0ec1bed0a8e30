"""Swin UNETR gives the numbers of the original, whatever MONAI is installed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from tests.model import original
from voxicon.model.network import UniversalNetwork
from voxicon.model.swin import SwinUNETRFeatures


def test_reports_its_channels_and_sizes() -> None:
    swin = SwinUNETRFeatures(feature_size=12).eval()
    assert (swin.bottleneck_channels, swin.decoder_channels, swin.size_multiple) == (192, 12, 32)
    with torch.inference_mode():
        bottleneck, decoded = swin(torch.rand(1, 1, 32, 64, 32))
    assert bottleneck.shape == (1, 192, 1, 2, 1)
    assert decoded.shape == (1, 12, 32, 64, 32)


def test_published_size_has_the_published_number_of_weights(swin_network: UniversalNetwork) -> None:
    # As printed for the original's backbone.
    assert sum(p.numel() for p in swin_network.backbone.parameters()) == 62_186_610


def test_keeps_no_output_layer_and_stores_no_index_tables() -> None:
    keys = SwinUNETRFeatures(feature_size=12).state_dict().keys()
    assert not [key for key in keys if "relative_position_index" in key or key.startswith("host.out")]


def test_a_window_does_not_see_its_neighbors_in_the_batch() -> None:
    torch.manual_seed(0)
    swin = SwinUNETRFeatures(feature_size=12).eval()
    windows = torch.stack([torch.rand(1, 32, 32, 64), 5 + 3 * torch.rand(1, 32, 32, 64)])
    with torch.inference_mode():
        together = swin(windows)
        for number in range(2):
            for batched, alone in zip(together, swin(windows[number : number + 1]), strict=True):
                torch.testing.assert_close(batched[number], alone[0], atol=1e-4, rtol=1e-4)


def test_gradients_reach_every_weight() -> None:
    torch.manual_seed(0)
    swin = SwinUNETRFeatures(feature_size=12)
    bottleneck, decoded = swin(torch.rand(1, 1, 32, 32, 64))
    (bottleneck.sum() + decoded.square().sum()).backward()
    assert [name for name, p in swin.named_parameters() if p.grad is None] == []


def test_equals_the_original_on_a_full_window(swin_network: UniversalNetwork, reference_data: Path) -> None:
    expected = np.load(reference_data / "swin_unetr_logits_salt0.npz")["logits"]
    with torch.inference_mode():
        found = swin_network(original.image())[:, :, ::8, ::8, ::8].numpy()
    np.testing.assert_allclose(found, expected, atol=1e-3, rtol=0)


def test_equals_the_plain_formulation_on_other_windows(
    swin_network: UniversalNetwork, swin_weights: original.Weights
) -> None:
    # Padded windows, windows cut to the map, and levels where one axis shifts and another does not.
    window = original.image((32, 32, 64))
    with torch.inference_mode():
        expected = original.naive_head(swin_weights, *original.naive_swin(swin_weights, window))
        torch.testing.assert_close(swin_network(window), expected, atol=1e-4, rtol=1e-4)
