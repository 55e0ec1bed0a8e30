"""Contrast with the tissue nearby: worked by hand, against scipy, and blind to what is no tissue."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import uniform_filter

from voxicon.errors import CheckpointError
from voxicon.model.compact import CompactUNet
from voxicon.model.config import NetworkConfig
from voxicon.model.contrast import LocalContrast
from voxicon.model.network import build_network


def test_by_hand() -> None:
    # Tissue of 0.5 with one voxel of 0.53 in the middle: 27 voxels have a mean of 0.5 + 0.03 / 27.
    image = torch.full((1, 1, 5, 5, 5), 0.5)
    image[0, 0, 2, 2, 2] = 0.53
    found = LocalContrast([(1, 3)], full=0.06)(image)[0, 0]
    assert found[2, 2, 2].item() == pytest.approx((0.03 - 0.03 / 27) / 0.06, abs=1e-5)
    assert found[2, 2, 3].item() == pytest.approx(-0.03 / 27 / 0.06, abs=1e-5)
    assert found[0, 0, 0].item() == pytest.approx(0, abs=1e-5), "the bright voxel is out of reach"


@settings(max_examples=20)
@given(
    shape=st.tuples(*[st.integers(1, 12)] * 3),
    pair=st.sampled_from([(1, 3), (1, 9), (3, 5), (3, 17)]),
    seed=st.integers(0, 9),
)
def test_as_a_masked_mean_of_scipy(shape: tuple[int, int, int], pair: tuple[int, int], seed: int) -> None:
    image = np.random.default_rng(seed).uniform(0.4, 0.7, shape)
    tissue = ((image > 0.485) & (image < 0.65)).astype(float)

    def mean(side: int) -> np.ndarray:
        share = uniform_filter(tissue, side, mode="constant")
        return uniform_filter(tissue * image, side, mode="constant") / np.maximum(share, 1e-3)

    small = image if pair[0] == 1 else mean(pair[0])
    expected = np.clip((small - mean(pair[1])) * tissue / 0.1, -1, 1)
    found = LocalContrast([pair], full=0.1)(torch.from_numpy(image).float()[None, None])[0, 0]
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-4)


@pytest.mark.parametrize("other", [0.0, 0.45, 0.9])
def test_what_is_no_tissue_changes_nothing_and_gets_nothing(other: float) -> None:
    image = torch.full((1, 1, 12, 12, 12), 0.55)
    image[..., :6] = other
    found = LocalContrast([(1, 5), (3, 9)])(image)
    assert float(found.abs().max()) < 1e-4


@given(brightness=st.floats(-0.03, 0.03), seed=st.integers(0, 9))
@settings(max_examples=10)
def test_the_brightness_of_the_organ_does_not_matter(brightness: float, seed: int) -> None:
    image = 0.56 + 0.01 * torch.rand(1, 1, 10, 10, 10, generator=torch.Generator().manual_seed(seed))
    contrast = LocalContrast([(1, 5), (3, 9)])
    torch.testing.assert_close(contrast(image), contrast(image + brightness), atol=1e-3, rtol=0)


def test_a_large_difference_is_clipped() -> None:
    image = torch.full((1, 1, 9, 9, 9), 0.6)
    image[0, 0, 4, 4, 4] = 0.49
    assert LocalContrast([(1, 5)], full=0.03)(image)[0, 0, 4, 4, 4] == -1


@pytest.mark.parametrize(
    "contrast",
    [
        {"sides": [[2, 9]]},
        {"sides": [[1, 8]]},
        {"sides": [[9, 3]]},
        {"sides": [[3, 3]]},
        {"sides": [[-1, 3]]},
        {"sides": [[1]]},
        {"sides": 3},
        {"sides": [[1, 3]], "tissue": [0.6, 0.5]},
        {"sides": [[1, 3]], "full": 0},
        {"sides": [[1, 3]], "blur": 2},
        {},
        [1, 3],
    ],
)
def test_what_makes_no_sense_is_refused(contrast: object) -> None:
    config = NetworkConfig(
        backbone="compact", classes=("a",), embedding_size=4, options={"channels": [16, 32], "contrast": contrast}
    )
    with pytest.raises(CheckpointError, match="cannot build backbone 'compact' with options"):
        build_network(config)


def test_a_network_reads_it_beside_its_windows() -> None:
    torch.manual_seed(0)
    windows = ((0.0, 0.4), (0.5, 0.6))
    unet = CompactUNet((16, 32), windows, {"sides": [(1, 3), (1, 5), (3, 5)]})
    assert unet.stem.conv.in_channels == 5
    assert CompactUNet((16, 32), (), {"sides": [(1, 3)]}).stem.conv.in_channels == 2
    # Brighter by as much everywhere, and no window that shows it: only the contrast is seen, and it is the same.
    with torch.no_grad():
        unet.stem.conv.weight[:, :2] = 0
    image = 0.55 + 0.02 * torch.rand(1, 1, 8, 8, 8)
    torch.testing.assert_close(unet(image)[1], unet(image + 0.02)[1], atol=1e-2, rtol=0)
    assert not torch.allclose(unet(image)[1], unet(image.flip(2))[1], atol=1e-2)
