"""Scan by scan: bf16 where it bears the masks of fp32, fp32 and a reason where it does not."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tests.infer.test_predictor import grid, predictor_of, small_network, volume_of
from voxicon.infer.engine import Encode
from voxicon.infer.predictor import InferenceConfig, Predictor
from voxicon.model.head import Rows
from voxicon.model.network import UniversalNetwork


def shifted(network: UniversalNetwork, at: int, by: float) -> Encode:
    """What computes the network, but for the last bias of one of the classes asked for."""

    def encode(image_B1XYZ: Tensor, rows: Rows) -> tuple[Tensor, Tensor]:
        maps, parameters = network.encode(image_B1XYZ, rows)
        parameters = parameters.clone()
        parameters[:, at, -1] += by
        return maps, parameters

    return encode


def with_bf16(network: UniversalNetwork, bf16: Encode, **settings: object) -> Predictor:
    config = InferenceConfig(window=(24, 24, 24), padding="edge", **settings)  # type: ignore[arg-type]
    return Predictor(network, config, torch.device("cpu"), bf16=bf16)


def test_a_scan_that_bears_bf16_is_computed_in_it() -> None:
    network, image = small_network(3), volume_of((60, 24, 24))
    asked: list[int] = []

    def same(image_B1XYZ: Tensor, rows: Rows) -> tuple[Tensor, Tensor]:
        asked.append(len(image_B1XYZ))
        return network.encode(image_B1XYZ, rows)

    answer = with_bf16(network, same).predict(image, grid(image.shape), network.classes)
    plain = predictor_of(network, 24).predict(image, grid(image.shape), network.classes)
    assert asked == [1, 1, 1, 1]
    assert answer.precision.used == "bf16"
    assert answer.warnings == plain.warnings == ()
    assert plain.precision.to_dict() == {"used": "fp32", "reason": "", "checked_windows": 0, "lowest_dice": {}}
    assert (answer.masks.words == plain.masks.words).all()


def test_a_scan_that_does_not_bear_bf16_gets_the_masks_of_fp32_and_says_why() -> None:
    network, image = small_network(5), volume_of((60, 24, 24))
    asked = ("class_3", "class_1")
    answer = with_bf16(network, shifted(network, 1, -30.0)).predict(image, grid(image.shape), asked)
    plain = predictor_of(network, 24).predict(image, grid(image.shape), asked)
    assert answer.precision.refused
    assert tuple(answer.precision.lowest_dice) == ("class_1",)
    (warning,) = answer.warnings
    assert warning.startswith("precision: bf16 changes class_1: Dice 0.")
    assert (answer.masks.words == plain.masks.words).all()


def test_every_scan_is_asked_anew() -> None:
    network, image = small_network(3), volume_of((60, 24, 24))
    # What is shifted is the first of the classes asked for: one that shows it, or one of which no voxel is found.
    predictor = with_bf16(network, shifted(network, 0, -30.0), thresholds={"class_2": 1 - 1e-12})
    for names, used in ((("class_0", "class_1"), "fp32"), (("class_2", "class_1"), "bf16"), (("class_0",), "fp32")):
        assert predictor.predict(image, grid(image.shape), names).precision.used == used


def test_bf16_is_judged_at_the_threshold_of_each_class() -> None:
    network, image = small_network(3), volume_of((60, 24, 24))
    wrong = shifted(network, 0, -30.0)
    for threshold, used in ((0.5, "fp32"), (1 - 1e-12, "bf16")):  # no voxel reaches the second, shifted or not
        predictor = with_bf16(network, wrong, thresholds={"class_0": threshold})
        assert predictor.predict(image, grid(image.shape), network.classes).precision.used == used


def test_a_fitted_window_is_computed_in_fp32_and_says_so() -> None:
    network, image = small_network(3), volume_of((60, 24, 3))
    predictor = with_bf16(network, lambda *_: pytest.fail("computed in bf16"))
    told = predictor.predict(image, grid(image.shape), network.classes).precision
    assert (told.used, told.reason) == ("fp32", "a window fitted to a thin scan is computed in fp32")
    plain = predictor_of(network, 24, padding="edge").predict(image, grid(image.shape), network.classes)
    assert plain.precision.reason == ""
