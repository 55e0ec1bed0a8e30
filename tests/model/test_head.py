"""The head gives what a repeated map and grouped convolutions would, in constant memory."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from tests.model.original import naive_decode, naive_head
from voxicon.model import head as head_module
from voxicon.model.head import FEATURE, N_PARAMETERS, ClassControllers, TextDrivenHead

CLOSE = {"atol": 1e-4, "rtol": 1e-4}


@pytest.fixture(scope="module")
def head() -> TextDrivenHead:
    torch.manual_seed(0)
    return TextDrivenHead(bottleneck_channels=32, decoder_channels=16, embedding_size=12).eval()


def features(batch: int = 1, shape: tuple[int, int, int] = (6, 4, 2)) -> tuple[Tensor, Tensor]:
    return torch.randn(batch, 32, 2, 1, 3), torch.randn(batch, 16, *shape)


class LargestScratch(TorchDispatchMode):
    """Size in bytes of the largest storage created that is still not one of the results."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: dict[int, int] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, (tuple, list)) else (result,):
            if isinstance(tensor, Tensor):
                storage = tensor.untyped_storage()
                self.sizes[storage.data_ptr()] = max(storage.nbytes(), self.sizes.get(storage.data_ptr(), 0))
        return result

    def without(self, *tensors: Tensor) -> int:
        results = {tensor.untyped_storage().data_ptr() for tensor in tensors}
        return max(size for pointer, size in self.sizes.items() if pointer not in results)


@settings(max_examples=25, deadline=None)
@given(
    batch=st.integers(1, 3),
    n_classes=st.integers(0, 40),
    shape=st.tuples(st.integers(1, 6), st.integers(1, 5), st.integers(1, 4)),
    block=st.sampled_from([7, 64, 1 << 14]),
    leak=st.sampled_from([0.0, 0.1]),
)
def test_decoding_equals_grouped_convolutions(
    batch: int, n_classes: int, shape: tuple[int, int, int], block: int, leak: float
) -> None:
    torch.manual_seed(batch + n_classes)
    head, shared = TextDrivenHead(16, 16, 4, leak=leak), torch.randn(batch, 8, *shape)
    parameters = torch.randn(batch, n_classes, N_PARAMETERS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(head_module, "VOXEL_BLOCK", block)
        logits = head.decode(shared, parameters)
    assert logits.shape == (batch, n_classes, *shape)
    if n_classes:
        expected = torch.stack([naive_decode(m, p, leak) for m, p in zip(shared, parameters, strict=True)])
        torch.testing.assert_close(logits, expected, **CLOSE)


def test_whole_head_equals_the_original_wording(head: TextDrivenHead) -> None:
    words = torch.randn(5, 12)
    bottleneck, decoded = features(batch=2)
    state = {name: tensor.detach() for name, tensor in head.state_dict().items()}
    theirs = {
        "organ_embedding": words,
        "text_to_vision.weight": state["text_projection.weight"],
        "text_to_vision.bias": state["text_projection.bias"],
        "GAP.0.weight": state["image_norm.weight"],
        "GAP.0.bias": state["image_norm.bias"],
        "GAP.3.weight": state["image_projection.weight"][..., None, None, None],
        "GAP.3.bias": state["image_projection.bias"],
        "controller.weight": state["controller.weight"][..., None, None, None],
        "controller.bias": state["controller.bias"],
        "precls_conv.0.weight": state["map_norm.weight"],
        "precls_conv.0.bias": state["map_norm.bias"],
        "precls_conv.2.weight": state["map_projection.weight"],
        "precls_conv.2.bias": state["map_projection.bias"],
    }
    torch.testing.assert_close(head(bottleneck, decoded, words), naive_head(theirs, bottleneck, decoded), **CLOSE)


def test_no_words_give_no_logits_and_no_gradient(head: TextDrivenHead) -> None:
    bottleneck, decoded = features(batch=2)
    decoded.requires_grad_()
    logits = head(bottleneck, decoded, torch.empty(0, 12))
    assert logits.shape == (2, 0, 6, 4, 2)
    logits.sum().backward()
    assert decoded.grad is not None
    assert not decoded.grad.any()


def test_asking_for_some_words_changes_nothing_about_them(head: TextDrivenHead) -> None:
    words, maps = torch.randn(40, 12), features()
    chosen = [37, 3, 11]
    torch.testing.assert_close(head(*maps, words[chosen]), head(*maps, words)[:, chosen], atol=1e-6, rtol=1e-5)


def test_order_of_words_is_order_of_logits(head: TextDrivenHead) -> None:
    words, maps, order = torch.randn(35, 12), features(), torch.randperm(35)
    torch.testing.assert_close(head(*maps, words[order]), head(*maps, words)[:, order], atol=1e-6, rtol=1e-5)


def test_batched_equals_single(head: TextDrivenHead) -> None:
    words, (bottleneck, decoded) = torch.randn(4, 12), features(batch=3)
    together = head(bottleneck, decoded, words)
    for number in range(3):
        alone = head(bottleneck[number : number + 1], decoded[number : number + 1], words)
        torch.testing.assert_close(together[number], alone[0], atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("leak", [0.0, 0.1])
def test_gradients_equal_those_of_the_plain_formulation(monkeypatch: pytest.MonkeyPatch, leak: float) -> None:
    monkeypatch.setattr(head_module, "VOXEL_BLOCK", 50)
    monkeypatch.setattr(head_module, "CLASS_CHUNK_CPU", 3)
    torch.manual_seed(1)
    shared = torch.randn(2, 8, 5, 4, 7, dtype=torch.float64, requires_grad=True)
    parameters = torch.randn(2, 7, N_PARAMETERS, dtype=torch.float64, requires_grad=True)
    weights = torch.randn(2, 7, 5, 4, 7, dtype=torch.float64)
    logits = TextDrivenHead(16, 16, 4, leak=leak).decode(shared, parameters)
    found = torch.autograd.grad((weights * logits).sum(), (shared, parameters))
    plain = torch.stack([naive_decode(m, p, leak) for m, p in zip(shared, parameters, strict=True)])
    expected = torch.autograd.grad((weights * plain).sum(), (shared, parameters))
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize("n_controllers", [None, 5])
def test_before_training_every_class_is_improbable(n_controllers: int | None) -> None:
    torch.manual_seed(0)
    fresh = TextDrivenHead(32, 16, embedding_size=12, n_controllers=n_controllers)
    probability = fresh(*features(2), torch.randn(5, 12)).detach().sigmoid()
    assert 0.005 < float(probability.median()) < 0.02, "about 1 in 100, whatever the image and the word"


def test_a_leak_lets_gradients_through_where_every_unit_is_off() -> None:
    parameters = torch.full((1, 1, N_PARAMETERS), -1.0)
    for leak, through in ((0.0, False), (0.1, True)):
        shared = torch.rand(1, 8, 2, 2, 2, requires_grad=True)
        TextDrivenHead(16, 16, 4, leak=leak).decode(shared, parameters).sum().backward()
        assert bool(shared.grad.abs().min() > 0) == through


def test_second_derivatives_are_refused_instead_of_zero() -> None:
    shared = torch.randn(1, 8, 2, 2, 2, requires_grad=True)
    logits = TextDrivenHead(16, 16, 4).decode(shared, torch.randn(1, 2, N_PARAMETERS))
    (gradient,) = torch.autograd.grad(logits.square().sum(), shared, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()


def test_every_parameter_of_the_head_learns(head: TextDrivenHead) -> None:
    head(*features(), torch.randn(3, 12)).square().sum().backward()
    assert [name for name, p in head.named_parameters() if p.grad is None or not p.grad.any()] == []
    head.zero_grad()


@pytest.mark.parametrize("n_classes", [32, 320])
@pytest.mark.parametrize("side", [8, 16])
def test_scratch_memory_grows_neither_with_words_nor_with_voxels(
    n_classes: int, side: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    block = 256
    monkeypatch.setattr(head_module, "VOXEL_BLOCK", block)
    shared = torch.randn(1, 8, side, side, side, requires_grad=True)
    parameters = torch.randn(1, n_classes, N_PARAMETERS, requires_grad=True)
    decode = TextDrivenHead(16, 16, 4).decode
    with LargestScratch() as forward:
        logits = decode(shared, parameters)
    one_chunk = head_module.CLASS_CHUNK_CPU * head_module.HIDDEN * block * 4
    assert forward.without(logits, shared, parameters) == one_chunk
    slope = torch.ones_like(logits)
    with LargestScratch() as backward:
        gradients = torch.autograd.grad(logits, (shared, parameters), slope)
    # torch may hand a gradient on as a copy: as large as an input, never as large as the logits.
    assert backward.without(*gradients, slope) <= max(2 * one_chunk, shared.nbytes, parameters.nbytes)


def test_nothing_but_its_inputs_waits_for_the_backward_pass() -> None:
    kept: list[int] = []
    shared = torch.randn(1, 8, 16, 16, 16, requires_grad=True)
    parameters = torch.randn(1, 64, N_PARAMETERS)

    def note(tensor: Tensor) -> Tensor:
        kept.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        TextDrivenHead(16, 16, 4).decode(shared, parameters)
    assert sorted(kept) == sorted([shared.numel(), parameters.numel()])


def test_logits_keep_the_dtype_of_the_map_under_autocast(head: TextDrivenHead) -> None:
    words, maps = torch.randn(3, 12), features()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        low = head(*maps, words)
    assert low.dtype == torch.bfloat16
    torch.testing.assert_close(low.float(), head(*maps, words), atol=0.05, rtol=0.05)


N_OWN = 5
"""Classes of the head below, each with a controller of its own."""


@pytest.fixture
def own() -> TextDrivenHead:
    torch.manual_seed(0)
    return TextDrivenHead(bottleneck_channels=32, decoder_channels=16, embedding_size=12, n_controllers=N_OWN)


def test_class_controllers_are_one_small_network_each() -> None:
    torch.manual_seed(0)
    controllers, conditions = ClassControllers(4, 7), torch.randn(3, 4, 7)
    found = controllers(conditions)
    assert found.shape == (3, 4, N_PARAMETERS)
    for number in range(4):
        hidden = conditions[:, number] @ controllers.hidden_weight[number].T + controllers.hidden_bias[number]
        expected = hidden.clamp(min=0) @ controllers.weight[number].T + controllers.bias[number]
        torch.testing.assert_close(found[:, number], expected)


def test_class_controllers_start_like_separate_linear_layers() -> None:
    torch.manual_seed(0)
    controllers = ClassControllers(9, 100)
    # 1 / sqrt(100 inputs) for the first layer, 1 / sqrt(512) for the second.
    for bound, parameters in (
        (0.1, (controllers.hidden_weight, controllers.hidden_bias)),
        (512**-0.5, (controllers.weight, controllers.bias)),
    ):
        for parameter in map(torch.Tensor.detach, parameters):
            assert 0.98 * bound < parameter.abs().max() <= bound
            assert parameter.std() == pytest.approx(bound / 3**0.5, rel=0.05)


def test_a_class_of_the_2024_variant_has_the_published_number_of_weights() -> None:
    # Image 256 and text 512 to 512 hidden units, those to 153: 768·512 + 512 + 512·153 + 153.
    assert sum(p.numel() for p in ClassControllers(1, FEATURE + 512).parameters()) == 472_217
    assert TextDrivenHead(16, 16, 512, n_controllers=3).text_projection is None


def test_own_controllers_start_out_about_as_large_as_a_shared_one() -> None:
    torch.manual_seed(0)
    own, shared = TextDrivenHead(32, 16, 384, n_controllers=N_OWN), TextDrivenHead(32, 16, 384)
    words, (bottleneck, _) = 9 * functional.normalize(torch.randn(N_OWN, 384)), features(batch=4)
    with torch.no_grad():
        ratio = own.class_parameters(bottleneck, words).std() / shared.class_parameters(bottleneck, words).std()
    assert 0.5 < ratio < 2
    # Each class draws its own numbers; equal rows would get equal gradients.
    assert not torch.equal(own.controller.weight[0], own.controller.weight[1])


@pytest.mark.parametrize("rows", [[3, 0, 4], [2], [1, 1], [4, 3, 2, 1, 0], []])
def test_asking_for_some_classes_runs_their_controllers(own: TextDrivenHead, rows: list[int]) -> None:
    words, maps = torch.randn(N_OWN, 12), features(batch=2)
    some = own(*maps, words[rows], torch.tensor(rows, dtype=torch.int64))
    torch.testing.assert_close(some, own(*maps, words)[:, rows], atol=1e-6, rtol=1e-5)


def test_rows_may_be_a_slice(own: TextDrivenHead) -> None:
    words, maps = torch.randn(N_OWN, 12), features()
    some = own(*maps, words[1:3], slice(1, 3))
    torch.testing.assert_close(some, own(*maps, words)[:, 1:3], atol=1e-6, rtol=1e-5)


def test_the_same_word_means_another_mask_to_another_controller(own: TextDrivenHead) -> None:
    word, maps = torch.randn(1, 12).expand(N_OWN, -1), features()
    logits = own(*maps, word)
    assert not torch.allclose(logits[:, 0], logits[:, 1], atol=1e-3)


def test_vectors_and_controllers_must_be_as_many(own: TextDrivenHead) -> None:
    with pytest.raises(RuntimeError):
        own(*features(), torch.randn(3, 12))


def test_batched_equals_single_with_own_controllers(own: TextDrivenHead) -> None:
    words, (bottleneck, decoded) = torch.randn(N_OWN, 12), features(batch=3)
    together = own(bottleneck, decoded, words)
    for number in range(3):
        alone = own(bottleneck[number : number + 1], decoded[number : number + 1], words)
        torch.testing.assert_close(together[number], alone[0], atol=1e-6, rtol=1e-5)


def test_gradients_reach_the_controllers_asked_for_and_no_other(own: TextDrivenHead) -> None:
    rows = torch.tensor([4, 1])
    own(*features(), torch.randn(2, 12), rows).square().sum().backward()
    assert [name for name, p in own.named_parameters() if p.grad is None or not p.grad.any()] == []
    for parameter in own.controller.parameters():
        assert parameter.grad is not None
        assert parameter.grad.flatten(1).any(dim=1).tolist() == [False, True, False, False, True]


def test_a_class_added_as_a_row_changes_no_other(own: TextDrivenHead) -> None:
    words, maps = torch.randn(N_OWN + 1, 12), features()
    more = TextDrivenHead(32, 16, 12, n_controllers=N_OWN + 1)
    fresh = ClassControllers(1, FEATURE + 12)
    rows = {f"controller.{name}": p for name, p in fresh.named_parameters()}
    state = own.state_dict()
    more.load_state_dict({key: torch.cat([t, rows[key]]) if key in rows else t for key, t in state.items()})
    torch.testing.assert_close(more(*maps, words)[:, :N_OWN], own(*maps, words[:N_OWN]), atol=1e-6, rtol=1e-5)


def test_a_shared_controller_can_be_written_as_controllers_per_class(head: TextDrivenHead, own: TextDrivenHead) -> None:
    # Units x and -x behind a ReLU give back x = relu(x) - relu(-x); a class's text is a constant, hence a bias.
    words, maps = torch.randn(N_OWN, 12), features(batch=2)
    own.load_state_dict(
        {k: t for k, t in head.state_dict().items() if not k.startswith(("text", "contr"))}, strict=False
    )
    with torch.no_grad():
        of_image, of_text = head.controller.weight.split(FEATURE, dim=1)
        both = torch.cat([torch.eye(FEATURE), -torch.eye(FEATURE)])
        own.controller.hidden_weight.copy_(functional.pad(both, (0, 12)).expand(N_OWN, -1, -1))
        own.controller.hidden_bias.zero_()
        own.controller.weight.copy_(torch.cat([of_image, -of_image], dim=1).expand(N_OWN, -1, -1))
        own.controller.bias.copy_(functional.relu(head.text_projection(words)) @ of_text.T + head.controller.bias)
    torch.testing.assert_close(own(*maps, words), head(*maps, words), atol=1e-5, rtol=1e-5)


def test_own_controllers_run_under_autocast(own: TextDrivenHead) -> None:
    words, maps = torch.randn(N_OWN, 12), features()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        low = own(*maps, words)
    assert low.dtype == torch.bfloat16
    torch.testing.assert_close(low.float(), own(*maps, words), atol=0.05, rtol=0.05)
