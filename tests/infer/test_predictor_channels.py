"""A network that reads a scan and an organ in it is walked over a volume as one that reads a scan."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.infer.test_predictor import grid
from voxicon.infer.predictor import InferenceConfig, Prediction, Predictor
from voxicon.model.config import NetworkConfig
from voxicon.model.network import UniversalNetwork, build_network

NAMES = ("a", "b")


def network() -> UniversalNetwork:
    torch.manual_seed(0)
    config = NetworkConfig(
        backbone="compact", classes=NAMES, embedding_size=12, options={"channels": [16, 16], "host": {}}
    )
    found = build_network(config, torch.randn(2, 12)).eval()
    with torch.no_grad():
        found.head.controller.weight.mul_(6)
        found.head.controller.bias[-1] = 0  # even odds
    return found


def seen(shape: tuple[int, int, int], seed: int = 0) -> np.ndarray:
    generator = np.random.default_rng(seed)
    relative = generator.normal(0, 0.4, shape)
    return np.stack([relative, generator.random(shape)]).astype(np.float32)


def predicted(image: np.ndarray, **settings: object) -> Prediction:
    config = InferenceConfig(window=(16, 16, 16), overlap=0, **settings)  # type: ignore[arg-type]
    return Predictor(network(), config, torch.device("cpu")).predict(
        image, grid(image.shape[1:]), NAMES, probabilities_of=NAMES
    )


def test_one_window_is_the_networks_own_answer() -> None:
    image = seen((16, 16, 16))
    with torch.inference_mode():
        expected = network()(torch.from_numpy(image)[None])[0].sigmoid().numpy()
    assert np.ptp(expected) > 0.5, "a flat answer would prove nothing"
    for name, probability in zip(NAMES, expected, strict=True):
        assert np.abs(predicted(image).probabilities[name] - 255 * probability).max() < 0.51


def test_each_window_of_several_reads_both_channels() -> None:
    image = seen((32, 16, 16))
    whole = predicted(image)
    for part in (slice(0, 16), slice(16, 32)):
        alone = predicted(np.ascontiguousarray(image[:, part]))
        assert all((whole.masks[name][part] == alone.masks[name]).all() for name in NAMES)


@pytest.mark.parametrize(("padding", "mode"), [("air", "constant"), ("edge", "edge")])
def test_padding_is_along_space_alone(padding: str, mode: str) -> None:
    image = seen((16, 16, 3))
    # What is fitted to a thin scan has four slices; what pads with air sixteen, six before and seven after.
    before, after = (0, 1) if padding == "edge" else (6, 7)
    by_hand = np.pad(image, ((0, 0), (0, 0), (0, 0), (before, after)), mode=mode)
    thin, thick = (predicted(one, padding=padding).probabilities for one in (image, by_hand))
    for name in NAMES:
        assert thin[name].shape == (16, 16, 3)
        assert (thin[name] == thick[name][..., before : before + 3]).all()
        assert np.ptp(thin[name]) > 0, "a flat answer would prove nothing"


def test_windows_without_the_organ_are_not_computed() -> None:
    image = seen((32, 16, 16))
    image[1, 16:] = 0
    found = predicted(image)
    for name in NAMES:
        assert not found.probabilities[name][16:].any()
        assert found.probabilities[name][:16].any()
    # It is the organ that counts, not how bright what is read is.
    image[0] = -np.abs(image[0])
    assert all(predicted(image).probabilities[name][:16].any() for name in NAMES)
