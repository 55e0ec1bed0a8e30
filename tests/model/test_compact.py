"""The compact U-Net keeps sizes, tells its channels and treats windows one by one."""

from __future__ import annotations

import pytest
import torch

from voxicon.errors import CheckpointError
from voxicon.model.compact import CompactUNet
from voxicon.model.config import NetworkConfig
from voxicon.model.network import build_network


@pytest.mark.parametrize(("channels", "multiple"), [((16, 32), 2), ((16, 32, 48), 4), ((16, 32, 64, 128, 192), 16)])
def test_reports_its_channels_and_sizes(channels: tuple[int, ...], multiple: int) -> None:
    unet = CompactUNet(channels)
    assert (unet.bottleneck_channels, unet.decoder_channels, unet.size_multiple) == (channels[-1], 16, multiple)
    bottleneck, decoded = unet(torch.rand(2, 1, multiple, 2 * multiple, 3 * multiple))
    assert bottleneck.shape == (2, channels[-1], 1, 2, 3)
    assert decoded.shape == (2, 16, multiple, 2 * multiple, 3 * multiple)


def test_an_image_of_another_size_is_named_not_mangled() -> None:
    config = NetworkConfig(backbone="compact", classes=("a",), embedding_size=4, options={"channels": [16, 32, 48]})
    network = build_network(config)
    with pytest.raises(AssertionError, match=r"\(8, 10, 8\).*multiples of 4"):
        network(torch.rand(1, 1, 8, 10, 8))


@pytest.mark.parametrize("training", [True, False])
def test_a_window_does_not_see_its_neighbors_in_the_batch(training: bool) -> None:
    torch.manual_seed(0)
    unet = CompactUNet((16, 32, 48)).train(training)
    windows = torch.stack([torch.rand(1, 8, 12, 16), 5 + 3 * torch.rand(1, 8, 12, 16)])
    together = unet(windows)
    for number in range(2):
        for batched, alone in zip(together, unet(windows[number : number + 1]), strict=True):
            torch.testing.assert_close(batched[number], alone[0], atol=1e-5, rtol=1e-4)


def test_gradients_reach_every_weight() -> None:
    unet = CompactUNet((16, 32, 48))
    bottleneck, decoded = unet(torch.rand(1, 1, 8, 8, 8))
    (bottleneck.square().sum() + decoded.square().sum()).backward()
    assert [name for name, p in unet.named_parameters() if p.grad is None] == []


@pytest.mark.parametrize(
    ("backbone", "options"),
    [
        ("compact", {"width": 3}),
        ("compact", {"channels": [10, 20]}),
        ("compact", {"channels": []}),
        ("compact", {"channels": [16, -32]}),
        ("compact", {"windows": [[0.5, 0.5]]}),
        ("compact", {"windows": [[0.5]]}),
        ("unet", {"width": "wide"}),
        ("swin_unetr", {"feature_size": 50}),
        ("transformer", {}),
    ],
)
def test_a_shape_that_cannot_be_built_is_refused(backbone: str, options: dict[str, object]) -> None:
    config = NetworkConfig(backbone=backbone, classes=("a",), embedding_size=4, options=options)
    with pytest.raises(CheckpointError, match="backbone"):
        build_network(config)


def test_vectors_must_fit_the_classes() -> None:
    config = NetworkConfig(backbone="compact", classes=("a", "b"), embedding_size=4, options={"channels": [16, 32]})
    with pytest.raises(CheckpointError, match=r"\(3, 4\).*\(2, 4\)"):
        build_network(config, torch.zeros(3, 4))


def test_words_are_found_by_name_and_in_the_order_asked() -> None:
    config = NetworkConfig(backbone="compact", classes=("a", "b"), embedding_size=4, options={"channels": [16, 32]})
    network = build_network(config, torch.tensor([[1.0, 0, 0, 0], [0, 2.0, 0, 0]])).eval()
    image = torch.rand(1, 1, 4, 4, 4)
    with torch.inference_mode():
        both, swapped, none = network(image), network(image, ("b", "a")), network(image, ())
    torch.testing.assert_close(swapped, both.flip(1))
    assert none.shape == (1, 0, 4, 4, 4)
    with pytest.raises(CheckpointError, match="no word for liver; they know: a, b"):
        network(image, ("liver",))


def test_windows_see_what_lies_within_them_and_nothing_else() -> None:
    torch.manual_seed(0)
    unet = CompactUNet((16, 32), windows=((0.4, 0.6),)).eval()
    image = 0.4 + 0.2 * torch.rand(1, 1, 8, 8, 8)
    image[..., 0], image[..., 1] = 0.4, 0.6
    beyond = image.clone()
    beyond[..., 0], beyond[..., 1] = 0.1, 0.9
    within = image.clone()
    within[..., 4] = 0.5
    _, seen = unet(image)
    torch.testing.assert_close(unet(beyond)[1], seen)
    assert not torch.allclose(unet(within)[1], seen)


def test_every_window_is_a_channel_of_the_stem() -> None:
    torch.manual_seed(0)
    unet = CompactUNet((16, 32), windows=((0.0, 0.5), (0.25, 0.75)))
    plain = CompactUNet((16, 32))
    assert (unet.stem.conv.in_channels, plain.stem.conv.in_channels) == (2, 1)
    image = torch.rand(1, 1, 4, 4, 4)
    # Worked by hand: 0.5 lies at the top of the first window and in the middle of the second.
    seen = unet.stem.conv(torch.stack([(image[0] / 0.5).clamp(0, 1), ((image[0] - 0.25) / 0.5).clamp(0, 1)], 1))
    handed = []
    unet.stem.conv.register_forward_hook(lambda module, given, out: handed.append(out))
    unet(image)
    torch.testing.assert_close(handed[0], seen)
