"""Windows cover, blending blends, and the streamed answer is MONAI's answer."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.inferers import sliding_window_inference
from torch import Tensor, nn

from voxicon.core.geometry import Geometry
from voxicon.errors import CheckpointError, UnknownClass
from voxicon.infer.predictor import InferenceConfig, Predictor
from voxicon.infer.windows import blend_weights, padding, starts, tile
from voxicon.model.config import NetworkConfig
from voxicon.model.head import Rows, TextDrivenHead
from voxicon.model.network import UniversalNetwork, build_network

SIZES = st.integers(1, 40)


def small_network(n_classes: int, seed: int = 0) -> UniversalNetwork:
    torch.manual_seed(seed)
    names = tuple(f"class_{i}" for i in range(n_classes))
    config = NetworkConfig(backbone="compact", classes=names, embedding_size=12, options={"channels": [16, 16]})
    network = build_network(config, torch.randn(n_classes, 12)).eval()
    # Fresh controllers hardly separate classes; stronger ones put half the voxels on each side.
    with torch.no_grad():
        network.head.controller.weight.mul_(6)
        network.head.controller.bias[-1] = 0  # even odds
    return network


def volume_of(shape: tuple[int, int, int], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random(shape, dtype=np.float32)


def grid(shape: tuple[int, int, int]) -> Geometry:
    return Geometry(shape, np.diag([3.0, 3.0, 3.0, 1.0]))


@given(length=SIZES, window=st.integers(1, 16), overlap=st.floats(0, 0.9))
def test_windows_cover_an_axis_and_end_where_it_ends(length: int, window: int, overlap: float) -> None:
    found = starts(length, window, overlap)
    covered = {at + i for at in found for i in range(window)}
    assert covered >= set(range(length))
    assert found == sorted(set(found))
    assert max(found) + window == max(length, window)


@given(shape=st.tuples(SIZES, SIZES, SIZES), overlap=st.sampled_from([0.0, 0.25, 0.5, 0.75]))
def test_rows_cover_every_voxel_and_finished_slabs_partition_the_axis(
    shape: tuple[int, int, int], overlap: float
) -> None:
    window = (8, 8, 8)
    big = tuple(max(n, 8) for n in shape)
    tiling = tile((big[0], big[1], big[2]), window, overlap)
    hits = np.zeros(big, dtype=int)
    for row in tiling.rows:
        for w in row:
            hits[w.to_slices()] += 1
    assert hits.min() >= 1
    stretches = [tiling.finished(i) for i in range(len(tiling.rows))]
    assert [s[0] for s in stretches[1:]] == [s[1] for s in stretches[:-1]]
    assert stretches[0][0] == 0
    assert stretches[-1][1] == big[tiling.axis]
    # No later row reaches back into a finished slab.
    for i, (_, high) in enumerate(stretches):
        assert all(w.start[tiling.axis] >= high for row in tiling.rows[i + 1 :] for w in row)


def test_blend_weights_peak_in_the_middle_and_never_vanish() -> None:
    weights = blend_weights((9, 7, 5))
    assert weights.argmax() == np.ravel_multi_index((4, 3, 2), (9, 7, 5))
    assert weights[4, 3, 2] == 1
    # Worked by hand: two voxels off the middle along x, sigma = 9/8, exp(-4 / (2 * 81/64)) = 0.2058.
    assert weights[6, 3, 2] == pytest.approx(np.exp(-4 / (2 * 81 / 64)), rel=1e-6)
    assert weights.min() == pytest.approx(1e-3)


def test_padding_is_even_with_the_odd_voxel_after() -> None:
    assert padding((5, 8, 20), (8, 8, 8)) == ((1, 2), (0, 0), (0, 0))


class _Constant(nn.Module):
    """A backbone and a head whose logits are one constant everywhere."""

    size_multiple = 1
    floats_per_voxel = 1.0


class _ConstantNetwork(UniversalNetwork):
    def __init__(self, logit: float) -> None:
        super().__init__(_Constant(), TextDrivenHead(16, 16, 4), torch.zeros(1, 4), ("only",))
        self.logit = logit

    def encode(self, image_B1XYZ: Tensor, text_NE: Tensor) -> tuple[Tensor, Tensor]:
        parameters = torch.zeros(image_B1XYZ.shape[0], 1, 153)
        parameters[..., -1] = self.logit
        return torch.zeros(image_B1XYZ.shape[0], 8, *image_B1XYZ.shape[2:]), parameters


@settings(max_examples=10)
@given(shape=st.tuples(SIZES, SIZES, SIZES), threshold=st.sampled_from([0.3, 0.5, 0.8]), above=st.booleans())
def test_blending_a_constant_gives_that_constant(shape: tuple[int, int, int], threshold: float, above: bool) -> None:
    logit = float(np.log(threshold / (1 - threshold))) + (0.01 if above else -0.01)
    config = InferenceConfig(window=(8, 8, 8), overlap=0.5, threshold=threshold)
    predictor = Predictor(_ConstantNetwork(logit), config, torch.device("cpu"))
    masks = predictor.predict(np.full(shape, 0.5, dtype=np.float32), grid(shape), ("only",)).masks
    assert masks["only"].all() == above
    assert masks["only"].any() == above


def test_the_network_is_computed_by_what_was_given_for_it() -> None:
    network, image, shape = small_network(2), volume_of((20, 16, 16)), (20, 16, 16)
    asked = []

    def encode(image_B1XYZ: Tensor, rows: Rows) -> tuple[Tensor, Tensor]:
        asked.append(tuple(image_B1XYZ.shape[2:]))
        return network.encode(image_B1XYZ, rows)

    config = InferenceConfig(window=(16, 16, 16), overlap=0)
    given = Predictor(network, config, torch.device("cpu"), encode).predict(image, grid(shape), network.classes)
    assert asked == [(16, 16, 16)] * 2
    plain = Predictor(network, config, torch.device("cpu")).predict(image, grid(shape), network.classes)
    assert (given.masks.words == plain.masks.words).all()


@pytest.mark.parametrize("shape", [(40, 36, 52), (20, 48, 33), (16, 16, 16), (50, 10, 12)])
@pytest.mark.parametrize("overlap", [0.5, 0.25])
def test_same_masks_as_monai(shape: tuple[int, int, int], overlap: float) -> None:
    network, image = small_network(5), volume_of(shape)
    predictor = Predictor(network, InferenceConfig(window=(24, 24, 24), overlap=overlap, batch=2), torch.device("cpu"))
    masks = predictor.predict(image, grid(shape), network.classes).masks
    with torch.inference_mode():
        logits = sliding_window_inference(
            torch.from_numpy(image)[None, None], (24, 24, 24), 1, network, overlap=overlap, mode="gaussian"
        )
    expected = logits[0].sigmoid().numpy() > 0.5
    assert 0.05 < expected.mean() < 0.95, "a network that says one thing everywhere would prove nothing"
    for i, name in enumerate(network.classes):
        # The two sum in another order, so a voxel whose probability is 0.5 to float precision may differ.
        differs = masks[name] != expected[i]
        assert differs.sum() <= 1
        assert np.abs(logits[0, i].numpy()[differs]).max(initial=0) < 1e-4


def test_a_class_does_not_depend_on_which_others_are_asked_for() -> None:
    network, image = small_network(9), volume_of((30, 26, 28))
    predictor = Predictor(network, InferenceConfig(window=(16, 16, 16)), torch.device("cpu"))
    every = predictor.predict(image, grid(image.shape), network.classes).masks
    some = predictor.predict(image, grid(image.shape), ("class_7", "class_2")).masks
    assert some.names == ("class_7", "class_2")
    for name in some:
        assert (some[name] == every[name]).all()


def test_more_classes_than_a_word_has_bits() -> None:
    network, image = small_network(40), volume_of((16, 16, 16))
    predictor = Predictor(network, InferenceConfig(window=(16, 16, 16)), torch.device("cpu"))
    masks = predictor.predict(image, grid(image.shape), network.classes).masks
    alone = predictor.predict(image, grid(image.shape), ("class_37",)).masks
    assert masks.words.shape[0] == 2
    assert (masks["class_37"] == alone["class_37"]).all()
    assert masks.words[1].any()


def test_windows_of_pure_air_are_not_computed_and_stay_empty() -> None:
    network = small_network(2)
    image = volume_of((48, 16, 16))
    image[16:] = 0
    seen: list[int] = []
    encode = network.encode
    network.encode = lambda batch, text: (seen.append(len(batch)), encode(batch, text))[1]
    predictor = Predictor(network, InferenceConfig(window=(16, 16, 16), overlap=0.0), torch.device("cpu"))
    masks = predictor.predict(image, grid(image.shape), network.classes).masks
    assert sum(seen) == 1
    assert not masks.words[:, 16:].any()
    assert masks.words[:, :16].any()


def test_padding_with_edges_repeats_the_outermost_voxels() -> None:
    network, image = small_network(3), volume_of((16, 16, 1))
    by_hand = np.repeat(image, 4, axis=2)  # as many as a window has at least: twice the network's multiple of 2
    edge, air = (
        Predictor(network, InferenceConfig(window=(16, 16, 16), padding=p), torch.device("cpu"))
        for p in ("edge", "air")
    )
    thick = edge.predict(by_hand, grid(by_hand.shape), network.classes).masks
    thin = edge.predict(image, grid(image.shape), network.classes).masks
    # Three voxels are missing: one goes before and two after, so the slice lands at index 1.
    assert all((thin[name][..., 0] == thick[name][..., 1]).all() for name in network.classes)
    other = air.predict(image, grid(image.shape), network.classes).masks
    assert any((other[name] != thin[name]).any() for name in network.classes)


def test_asking_for_nothing_gives_nothing() -> None:
    network = small_network(2)
    predictor = Predictor(network, InferenceConfig(window=(16, 16, 16)), torch.device("cpu"))
    answer = predictor.predict(volume_of((16, 16, 16)), grid((16, 16, 16)), ())
    assert len(answer.masks) == 0
    assert answer.probabilities == {}


def predictor_of(network: UniversalNetwork, window: int = 16, **settings: object) -> Predictor:
    config = InferenceConfig(window=(window, window, window), **settings)  # type: ignore[arg-type]
    return Predictor(network, config, torch.device("cpu"))


def assert_rounded(levels: np.ndarray, probability: np.ndarray) -> None:
    """Levels are 255 times the probability, rounded; either way where it is half a level to float precision."""
    assert levels.dtype == np.uint8
    assert levels.shape == probability.shape
    assert np.abs(levels - 255 * probability.astype(np.float64)).max() < 0.5 + 1e-3


def test_probabilities_of_one_window_are_the_networks_own() -> None:
    network, image = small_network(6), volume_of((16, 16, 16))
    answer = predictor_of(network).predict(image, grid(image.shape), network.classes, probabilities_of=network.classes)
    assert tuple(answer.probabilities) == network.classes
    with torch.inference_mode():
        expected = network(torch.from_numpy(image)[None, None])[0].sigmoid().numpy()
    assert np.ptp(expected) > 0.5, "a flat answer would prove nothing"
    for i, name in enumerate(network.classes):
        assert_rounded(answer.probabilities[name], expected[i])


# A long axis each, windows that fit evenly and not, and scans smaller than a window.
@pytest.mark.parametrize("shape", [(40, 36, 52), (20, 48, 33), (50, 10, 12), (9, 24, 5)])
def test_same_probabilities_as_monai(shape: tuple[int, int, int]) -> None:
    network, image = small_network(5), volume_of(shape)
    predictor = predictor_of(network, 24, batch=2)
    answer = predictor.predict(image, grid(shape), network.classes, probabilities_of=network.classes)
    with torch.inference_mode():
        logits = sliding_window_inference(
            torch.from_numpy(image)[None, None], (24, 24, 24), 1, network, overlap=0.5, mode="gaussian"
        )
    for i, name in enumerate(network.classes):
        assert_rounded(answer.probabilities[name], logits[0, i].sigmoid().numpy())


@settings(max_examples=10)
@given(shape=st.tuples(SIZES, SIZES, SIZES))
def test_a_constant_probability_by_hand(shape: tuple[int, int, int]) -> None:
    # sigmoid(ln 3) = 3/4, and 3/4 of 255 is 191.25; sigmoid(ln 1/9) = 1/10: 25.5 rounds to 25 or 26.
    image = np.full(shape, 0.5, dtype=np.float32)
    for odds, levels in ((3, {191}), (1 / 9, {25, 26})):
        predictor = predictor_of(_ConstantNetwork(float(np.log(odds))), 8)
        found = predictor.predict(image, grid(shape), ("only",), probabilities_of=("only",)).probabilities["only"]
        assert found.shape == shape
        assert set(np.unique(found).tolist()) <= levels


@pytest.mark.parametrize("threshold", [0.5, 0.3, 0.8])
def test_probabilities_cut_at_the_threshold_are_the_masks(threshold: float) -> None:
    network, image = small_network(7), volume_of((30, 20, 12))
    predictor = predictor_of(network, threshold=threshold)
    answer = predictor.predict(image, grid(image.shape), network.classes, probabilities_of=network.classes)
    assert sum(0.05 < mask.mean() < 0.95 for mask in answer.masks.values()) >= 2
    for name in network.classes:
        levels, mask = answer.probabilities[name].astype(float), answer.masks[name]
        # Rounding moves a level by one half at most, and a little for float sums in another order.
        assert levels[mask].min(initial=255) >= 255 * threshold - 0.501
        assert levels[~mask].max(initial=0) <= 255 * threshold + 0.501
        if threshold == 0.5:
            # The cut, 127.5, lies on the border of two levels: nothing is lost but float precision.
            assert ((levels > 127.5) != mask).sum() <= 1


def test_a_class_may_have_a_threshold_of_its_own() -> None:
    network, image = small_network(6), volume_of((30, 20, 12))
    own = {"class_1": 0.8, "class_5": 0.2}
    found = predictor_of(network, thresholds=own).predict(image, grid(image.shape), network.classes).masks
    for threshold in (0.5, 0.8, 0.2):
        plain = predictor_of(network, threshold=threshold).predict(image, grid(image.shape), network.classes).masks
        for name in network.classes:
            if own.get(name, 0.5) == threshold:
                assert (found[name] == plain[name]).all()
    # Asked for alone, a class keeps its threshold.
    alone = predictor_of(network, thresholds=own).predict(image, grid(image.shape), ("class_5",)).masks
    assert (alone["class_5"] == found["class_5"]).mean() > 0.999


def test_masks_do_not_depend_on_probabilities_and_none_are_kept_unasked() -> None:
    network, image = small_network(9), volume_of((30, 26, 28))
    predictor = predictor_of(network)
    without = predictor.predict(image, grid(image.shape), network.classes)
    assert without.probabilities == {}
    some = predictor.predict(image, grid(image.shape), network.classes, probabilities_of=("class_6", "class_1"))
    assert tuple(some.probabilities) == ("class_6", "class_1")
    assert (some.masks.words == without.masks.words).all()
    alone = predictor.predict(image, grid(image.shape), ("class_6",), probabilities_of=("class_6",))
    assert np.abs(alone.probabilities["class_6"].astype(int) - some.probabilities["class_6"]).max() <= 1


def test_probability_is_zero_where_windows_hold_only_air() -> None:
    network, image = small_network(2), volume_of((48, 16, 16))
    image[16:] = 0
    answer = predictor_of(network, overlap=0.0).predict(
        image, grid(image.shape), network.classes, probabilities_of=network.classes
    )
    for levels in answer.probabilities.values():
        assert not levels[16:].any()
        assert levels[:16].any()


def test_progress_reaches_the_total() -> None:
    network, told = small_network(1), []
    predictor = Predictor(network, InferenceConfig(window=(16, 16, 16), batch=3), torch.device("cpu"))
    predictor.predict(volume_of((30, 16, 16)), grid((30, 16, 16)), network.classes, lambda *p: told.append(p))
    assert told[-1] == (3, 3)


def test_refusals() -> None:
    network = small_network(1)
    with pytest.raises(CheckpointError, match="multiple of 2"):
        Predictor(network, InferenceConfig(window=(15, 16, 16)), torch.device("cpu"))
    with pytest.raises(CheckpointError, match="make no sense"):
        InferenceConfig(window=(16, 16, 16), overlap=1.0)
    with pytest.raises(CheckpointError, match="make no sense"):
        InferenceConfig(window=(16, 16, 16), padding="mirror")
    predictor = Predictor(network, InferenceConfig(window=(16, 16, 16)), torch.device("cpu"))
    with pytest.raises(CheckpointError, match="no word for spleen"):
        predictor.predict(volume_of((16, 16, 16)), grid((16, 16, 16)), ("spleen",))
    for classes in (("class_0",), ()):
        with pytest.raises(UnknownClass, match=r"probabilities of liver: not among .*; add them there too"):
            predictor.predict(volume_of((16, 16, 16)), grid((16, 16, 16)), classes, probabilities_of=("liver",))
