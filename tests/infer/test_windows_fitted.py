"""Windows that fit scans thinner than they are."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.infer.test_predictor import grid, predictor_of, small_network, volume_of
from voxicon.infer.windows import fitted

SIDES = st.integers(1, 12).map(lambda n: 16 * n)


def test_a_slab_by_hand() -> None:
    # Two multiples of 16 are enough for 3 slices; 96 * 80 * 80 voxels allow 144 * 128 * 32 of 130 * 120 * 3.
    assert fitted((96, 80, 80), (130, 120, 3), 16) == (144, 128, 32)
    assert fitted((96, 80, 80), (96, 80, 80), 16) == fitted((96, 80, 80), (500, 90, 81), 16) == (96, 80, 80)
    # Most goes where most is missing: 128 * 64 * 32 voxels are as many as 64 * 64 * 64.
    assert fitted((64, 64, 64), (200, 80, 3), 16) == (128, 64, 32)
    # Where the scan is thin everywhere there is nothing to grow into.
    assert fitted((96, 80, 80), (10, 40, 3), 16) == (32, 48, 32)
    assert fitted((16, 16, 16), (3, 300, 300), 16) == (16, 16, 16)


@given(
    window=st.tuples(SIDES, SIDES, SIDES),
    shape=st.tuples(*[st.integers(1, 400)] * 3),
    multiple=st.sampled_from([8, 16]),
)
def test_never_more_voxels_and_never_wider_than_the_scan(
    window: tuple[int, int, int], shape: tuple[int, int, int], multiple: int
) -> None:
    found = fitted(window, shape, multiple)
    assert math.prod(found) <= math.prod(window)
    for side, usual, n in zip(found, window, shape, strict=True):
        assert side % multiple == 0
        assert side >= min(usual, 2 * multiple)
        assert side < n + multiple or side <= 2 * multiple
        assert side >= min(usual, n)


@pytest.mark.parametrize("padding", ["edge", "air"])
def test_a_thin_scan_is_seen_through_a_flat_window(padding: str) -> None:
    network = small_network(3)
    shape = (40, 30, 2)
    image = volume_of(shape)
    seen: list[tuple[int, ...]] = []

    def encode(patches: torch.Tensor, rows: object = slice(None)) -> tuple[torch.Tensor, torch.Tensor]:
        seen.append(tuple(patches.shape[2:]))
        return usual(patches, rows)  # type: ignore[arg-type]

    usual, network.encode = network.encode, encode  # type: ignore[method-assign]
    predictor = predictor_of(network, 24, padding=padding)
    found = predictor.predict(image, grid(shape), network.classes).masks
    assert set(seen) == {(40, 30, 4) if padding == "edge" else (24, 24, 24)}
    assert any(found[name].any() for name in found)


def test_another_engine_is_asked_for_the_usual_window_alone() -> None:
    network = small_network(3)
    asked: list[tuple[int, ...]] = []

    def encode(patches: torch.Tensor, rows: object) -> tuple[torch.Tensor, torch.Tensor]:
        asked.append(tuple(patches.shape[2:]))
        return network.encode(patches, rows)  # type: ignore[arg-type]

    predictor = predictor_of(network, 24, padding="edge")
    predictor._encode_windows = encode
    for shape in ((40, 30, 2), (40, 30, 26)):
        plain = predictor_of(network, 24, padding="edge").predict(volume_of(shape), grid(shape), network.classes)
        found = predictor.predict(volume_of(shape), grid(shape), network.classes)
        np.testing.assert_array_equal(found.masks.words, plain.masks.words)
    assert set(asked) == {(24, 24, 24)}
