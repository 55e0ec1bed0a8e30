"""Logits smoothed before they are cut: by hand, as scipy does it, and within the streamed windows."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from monai.inferers import sliding_window_inference
from scipy import ndimage
from torch import Tensor

from tests.infer.test_predictor import assert_rounded, grid, predictor_of, small_network, volume_of
from voxicon.errors import CheckpointError
from voxicon.infer.smoothing import reach_of, smooth

SPACINGS = st.tuples(*[st.floats(0.5, 6)] * 3)


def test_one_voxel_spreads_by_hand() -> None:
    # One standard deviation is one voxel: weights 1, e^-1/2, e^-2 over their sum. Nothing happens along the other axes.
    image = torch.zeros(5, 1, 1)
    image[2] = 1
    found = smooth(image, 3.0, (3.0, 3.0, 3.0))[:, 0, 0].numpy()
    weights = np.exp([-2, -0.5, 0, -0.5, -2])
    np.testing.assert_allclose(found, weights / weights.sum(), rtol=1e-6)
    assert reach_of(3.0, (3.0, 6.0, 7.0)) == (2, 1, 1)


@given(sigma_mm=st.floats(0.1, 8), spacing_mm=SPACINGS, seed=st.integers(0, 9))
def test_as_scipy_smooths(sigma_mm: float, spacing_mm: tuple[float, float, float], seed: int) -> None:
    image = np.random.default_rng(seed).normal(size=(7, 6, 5)).astype(np.float32)
    reach = reach_of(sigma_mm, spacing_mm)
    expected = ndimage.gaussian_filter(
        image, [sigma_mm / side for side in spacing_mm], mode="nearest", radius=list(reach)
    )
    found = smooth(torch.from_numpy(image), sigma_mm, spacing_mm).numpy()
    np.testing.assert_allclose(found, expected, atol=1e-5)


@given(sigma_mm=st.floats(0, 8), spacing_mm=SPACINGS)
def test_a_constant_stays_and_zero_smooths_nothing(sigma_mm: float, spacing_mm: tuple[float, float, float]) -> None:
    flat = torch.full((4, 3, 2), -1.5)
    torch.testing.assert_close(smooth(flat, sigma_mm, spacing_mm), flat)
    image = torch.from_numpy(volume_of((4, 3, 2)))
    assert (smooth(image, 0.0, spacing_mm) == image).all()


@pytest.mark.parametrize("shape", [(40, 36, 52), (20, 48, 33), (16, 16, 16), (50, 10, 12)])
def test_windows_are_smoothed_before_they_are_blended(shape: tuple[int, int, int]) -> None:
    network, image = small_network(6), volume_of(shape)
    sigmas_mm = {"class_1": 3.0, "class_5": 4.5}

    def smoothed(windows: Tensor) -> Tensor:
        logits = network(windows)
        for number, sigma_mm in ((1, 3.0), (5, 4.5)):
            logits[0, number] = smooth(logits[0, number], sigma_mm, (3.0, 3.0, 3.0))
        return logits

    answer = predictor_of(network, 24, smoothing_mm=sigmas_mm).predict(
        image, grid(shape), network.classes, probabilities_of=network.classes
    )
    with torch.inference_mode():
        expected = sliding_window_inference(
            torch.from_numpy(image)[None, None], (24, 24, 24), 1, smoothed, overlap=0.5, mode="gaussian"
        )
    for i, name in enumerate(network.classes):
        assert_rounded(answer.probabilities[name], expected[0, i].sigmoid().numpy())
    plain = predictor_of(network, 24).predict(image, grid(shape), network.classes).masks
    for name in network.classes:
        assert (answer.masks[name] == plain[name]).all() == (name not in sigmas_mm)


@pytest.mark.parametrize("sigma_mm", [-1.0, 21.0, float("nan")])
def test_a_width_that_makes_no_sense_is_refused(sigma_mm: float) -> None:
    with pytest.raises(CheckpointError, match="make no sense"):
        predictor_of(small_network(2), smoothing_mm={"class_1": sigma_mm})
