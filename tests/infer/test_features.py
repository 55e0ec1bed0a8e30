"""Features are the network's own maps, stitched; embeddings are their means."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.infer.test_predictor import grid, small_network, volume_of
from voxicon.core.masks import MaskSet
from voxicon.errors import ConfigError
from voxicon.infer.features import embedding, features
from voxicon.infer.predictor import InferenceConfig, Predictor
from voxicon.infer.windows import Window, blend_weights

WINDOW = (16, 24, 16)
NETWORK = small_network(2)


def predictor(overlap: float = 0.5, padding: str = "air") -> Predictor:
    return Predictor(NETWORK, InferenceConfig(window=WINDOW, overlap=overlap, padding=padding), torch.device("cpu"))  # type: ignore[arg-type]


def own_maps(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pooled bottleneck (C',) and decoder map (C, X, Y, Z) of one window."""
    with torch.inference_mode():
        bottleneck, decoder = NETWORK.backbone(torch.from_numpy(image)[None, None])
    return bottleneck[0].mean((1, 2, 3)).numpy(), decoder[0].numpy()


def test_of_one_window_they_are_the_networks_own_maps() -> None:
    image = volume_of(WINDOW)
    found = features(predictor(), image, grid(WINDOW), "float32")
    vector, decoder = own_maps(image)
    np.testing.assert_allclose(found.decoder, decoder, atol=1e-5)
    np.testing.assert_allclose(found.bottleneck, vector[None], atol=1e-6)
    assert found.windows == (Window((0, 0, 0), WINDOW),)
    assert found.geometry == grid(WINDOW)
    half = features(predictor(), image, grid(WINDOW))
    assert half.decoder.dtype == np.float16
    np.testing.assert_allclose(half.decoder, decoder, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("shape", [(40, 24, 16), (16, 24, 33), (27, 30, 16), (30, 47, 35)])
def test_windows_are_blended_as_by_one_sum_over_the_whole_scan(shape: tuple[int, int, int]) -> None:
    image = volume_of(shape)
    one = predictor()
    found = features(one, image, grid(shape), "float32")
    weights, total, weight = blend_weights(WINDOW), 0.0, 0.0
    for at, window in enumerate(found.windows):
        vector, decoder = own_maps(image[window.to_slices()])
        np.testing.assert_allclose(found.bottleneck[at], vector, atol=1e-6)
        placed, of = np.zeros((16, *shape)), np.zeros(shape)
        placed[(slice(None), *window.to_slices())], of[window.to_slices()] = decoder * weights, weights
        total, weight = total + placed, weight + of
    assert len(found.windows) == one.lay(image)[2].n_windows > 1
    np.testing.assert_allclose(found.decoder, total / weight, atol=1e-4)


def test_a_scan_smaller_than_a_window_comes_back_in_its_own_shape() -> None:
    image = volume_of((10, 24, 13))
    found = features(predictor(), image, grid((10, 24, 13)), "float32")
    _, decoder = own_maps(np.pad(image, ((3, 3), (0, 0), (1, 2))))
    assert found.windows == (Window((-3, 0, -1), WINDOW),)
    np.testing.assert_allclose(found.decoder, decoder[:, 3:13, :, 1:14], atol=1e-5)


def test_air_has_neither_features_nor_a_window() -> None:
    image = np.concatenate([volume_of(WINDOW), np.zeros((32, 24, 16), np.float32)])
    found = features(predictor(overlap=0), image, grid((48, 24, 16)))
    assert found.windows == (Window((0, 0, 0), WINDOW),)
    assert not found.decoder[:, 16:].any()
    assert found.decoder[:, :16].any()
    nothing = np.zeros(WINDOW, np.float32)
    empty = features(predictor(), nothing, grid(WINDOW))
    assert (empty.windows, empty.bottleneck.shape) == ((), (0, 16))
    assert not empty.decoder.any()
    assert not embedding(predictor(), nothing, MaskSet.empty((), grid(WINDOW))).scan.any()


def test_an_embedding_does_not_depend_on_windows_of_air() -> None:
    image = volume_of((32, 24, 16))
    wider = np.concatenate([image, np.zeros((48, 24, 16), np.float32)])
    one = predictor(overlap=0)
    first, second = (embedding(one, each, MaskSet.empty((), grid(each.shape))) for each in (image, wider))
    assert first.scan.shape == (16,)
    assert first.classes == {}
    np.testing.assert_array_equal(first.scan, second.scan)
    expected = (own_maps(image[:16])[0] + own_maps(image[16:])[0]) / 2
    np.testing.assert_allclose(first.scan, expected, atol=1e-6)


def test_a_class_is_the_mean_of_the_decoder_map_inside_its_mask() -> None:
    shape = (40, 30, 16)
    image = volume_of(shape)
    some = np.random.default_rng(1).random(shape) < 0.2
    masks = MaskSet.from_masks({"some": some, "none": np.zeros(shape, bool)}, grid(shape))
    found = embedding(predictor(), image, masks)
    decoder = features(predictor(), image, grid(shape), "float32").decoder
    np.testing.assert_allclose(found.classes["some"], decoder[:, some].mean(axis=1), atol=1e-5)
    assert found.classes["some"].dtype == np.float32
    assert not found.classes["none"].any()


def test_a_type_that_is_none_is_refused() -> None:
    with pytest.raises(ConfigError, match="features of type 'int8': expected float16 or float32"):
        features(predictor(), volume_of(WINDOW), grid(WINDOW), "int8")  # type: ignore[arg-type]
