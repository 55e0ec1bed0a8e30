"""The three rules that make partial labels safe, and a worked number."""

from __future__ import annotations

import math
from inspect import signature
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from voxicon.train import loss as loss_module
from voxicon.train.loss import partial_label_loss


def random_batch(seed: int, n_batch: int, n_classes: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(seed)
    logits = torch.randn(n_batch, n_classes, 3, 4, 5, generator=g)
    target = torch.rand(logits.shape, generator=g) < 0.3
    return logits, target, torch.rand(n_batch, n_classes, generator=g) < 0.5


def terms(free: float, balanced: bool) -> loss_module._Terms:
    return loss_module._Terms(free=free, balanced=balanced, each=0.0, cross_entropy=1.0, shape=(3, 4, 5))


def test_worked_value() -> None:
    # One class, four voxels, logits 0: every probability is 1/2, cross-entropy is ln 2.
    # Dice = 2 * 0.5 / (2 + 1 + 1) = 0.25 with one voxel present.
    logits, target = torch.zeros(1, 1, 4), torch.tensor([[[1, 0, 0, 0]]])
    loss = partial_label_loss(logits, target, torch.tensor([[True]]))
    assert float(loss) == pytest.approx(math.log(2) + 0.75)


def test_dice_is_per_volume_not_per_slice() -> None:
    # A perfect prediction of something present on one slice of three must not be punished.
    target = torch.zeros(1, 1, 3, 8, 8)
    target[:, :, 0] = 1
    loss = partial_label_loss((target * 2 - 1) * 50, target, torch.tensor([[True]]))
    assert float(loss) == pytest.approx(1 - 2 * 64 / (128 + 1), abs=1e-6)


@settings(max_examples=30)
@given(st.integers(0, 10_000), st.sampled_from([torch.float32, torch.bfloat16]))
def test_gradients_are_those_of_the_formula(seed: int, dtype: torch.dtype) -> None:
    logits, target, known = random_batch(seed, 2, 4)
    target[0] = False
    free, balanced = torch.tensor([5.0, math.inf, 5.0, math.inf]), torch.tensor([True, True, False, False])
    logits = logits.to(dtype)
    ours = logits.clone().requires_grad_()
    loss = partial_label_loss(ours, target, known, 3.0, free, balanced)
    (5 * loss).backward()
    plain = logits.float().requires_grad_()
    parts = [
        loss_module._pair_loss(
            plain[b, n].flatten(), target[b, n].flatten().float(), terms(float(free[n]), bool(balanced[n]))
        )
        for b, n in known.nonzero().tolist()
    ]
    if not parts:
        assert float(loss.detach()) == 0
        return
    expected = torch.stack(parts).sum() / 3
    (5 * expected).backward()
    assert float(loss.detach()) == pytest.approx(float(expected.detach()), rel=1e-5)
    assert ours.grad is not None
    torch.testing.assert_close(ours.grad.float(), plain.grad, atol=1e-6, rtol=1e-5 if dtype == torch.float32 else 1e-2)
    with torch.no_grad():
        assert partial_label_loss(ours, target, known, 3.0, free, balanced) == loss.detach()


@settings(max_examples=30)
@given(st.integers(0, 10_000), st.integers(1, 3), st.integers(1, 5))
def test_unknown_is_not_negative(seed: int, n_batch: int, n_classes: int) -> None:
    logits, target, known = random_batch(seed, n_batch, n_classes)
    logits.requires_grad_()
    partial_label_loss(logits, target, known).backward()
    assert logits.grad is not None
    assert (logits.grad[~known] == 0).all()
    assert all((logits.grad[b, n] != 0).any() for b, n in known.nonzero().tolist())


@settings(max_examples=20)
@given(st.integers(0, 10_000))
def test_what_is_unknown_cannot_change_the_loss(seed: int) -> None:
    logits, target, known = random_batch(seed, 2, 4)
    loss = partial_label_loss(logits, target, known)
    logits[~known], target[~known] = 1e3, True
    assert partial_label_loss(logits, target, known) == loss


def test_the_loss_never_sees_a_name() -> None:
    names = {"name", "names", "classes", "dataset", "card", "path"}
    parameters = signature(partial_label_loss).parameters
    assert not names & set(parameters)
    assert {p.annotation for p in parameters.values()} == {"Tensor", "float | None", "Tensor | None", "float"}, (
        "tensors and numbers"
    )
    # Neither does the module know what could tell it one.
    source = Path(loss_module.__file__).read_text()
    assert [line for line in source.splitlines() if line.startswith(("import", "from"))] == [
        "from __future__ import annotations", "from dataclasses import dataclass", "from typing import Any",
        "import numpy as np", "import torch", "from torch import Tensor",
        "from torch.autograd.function import once_differentiable", "from torch.nn import functional",
        "from voxicon.core.components import components",
    ]  # fmt: skip


@settings(max_examples=20)
@given(st.integers(0, 10_000), st.integers(1, 3))
def test_a_step_split_unevenly_adds_up_to_one_batch(seed: int, first: int) -> None:
    logits, target, known = random_batch(seed, 4, 3)
    known[0] = True
    logits.requires_grad_()
    whole = partial_label_loss(logits, target, known)
    whole.backward()
    assert logits.grad is not None
    expected, logits.grad = logits.grad, None
    total = float(known.sum())
    parts = [
        partial_label_loss(logits[part], target[part], known[part], total)
        for part in (slice(0, first), slice(first, 4))
    ]
    for part in parts:
        part.backward()
    assert sum(float(part.detach()) for part in parts) == pytest.approx(float(whole.detach()), rel=1e-6)
    assert torch.allclose(logits.grad, expected, atol=1e-7)


def test_halves_with_other_known_classes_do_not_average_to_the_whole() -> None:
    # Why `pairs` exists: four known pairs in one scan, one in the other.
    logits, target, known = random_batch(3, 2, 4)
    known[0], known[1] = True, torch.tensor([True, False, False, False])
    whole = float(partial_label_loss(logits, target, known))
    halves = [float(partial_label_loss(logits[i : i + 1], target[i : i + 1], known[i : i + 1])) for i in range(2)]
    assert sum(halves) / 2 != pytest.approx(whole, rel=1e-3)
    assert (4 * halves[0] + halves[1]) / 5 == pytest.approx(whole, rel=1e-5)


def test_known_and_empty_is_negative() -> None:
    logits = torch.zeros(1, 1, 10, requires_grad=True)
    loss = partial_label_loss(logits, torch.zeros(1, 1, 10), torch.tensor([[True]]))
    loss.backward()
    # Cross-entropy alone, pushing every logit down.
    assert float(loss.detach()) == pytest.approx(math.log(2))
    assert logits.grad is not None
    assert (logits.grad > 0).all()


def test_what_is_found_of_an_absent_class_can_cost_more() -> None:
    # Ten voxels at one half count as two and a half: ln 2 of cross-entropy, and 2.5 / (2.5 + 7.5) on top.
    logits, nothing, known = torch.zeros(1, 1, 10), torch.zeros(1, 1, 10), torch.tensor([[True]])
    price, low_price = torch.tensor([7.5]), torch.tensor([1e-3])
    assert float(partial_label_loss(logits, nothing, known, 1.0, price)) == pytest.approx(math.log(2) + 0.25)
    # Never more than an organ missed, and nothing where nothing is found or the class is there or unknown.
    assert float(partial_label_loss(logits + 99, nothing, known, 1.0, low_price)) == pytest.approx(99 + 1, rel=1e-3)
    assert float(partial_label_loss(logits - 99, nothing, known, 1.0, price)) == pytest.approx(0, abs=1e-6)
    # A haze over everything is no finding.
    haze, clear, price_N = torch.full((1, 1, 10**5), -7.0), torch.zeros(1, 1, 10**5), torch.tensor([100.0])
    more = partial_label_loss(haze, clear, known, 1.0, price_N) - partial_label_loss(haze, clear, known)
    assert float(more) == pytest.approx(0.083 / 100.083, rel=0.01)
    there = torch.tensor([[[1] * 3 + [0] * 7]])
    for target, known_ in ((there, known), (nothing, ~known)):
        plain = partial_label_loss(logits, target, known_)
        assert float(partial_label_loss(logits, target, known_, None, price)) == float(plain)


@settings(max_examples=20)
@given(st.integers(0, 10_000))
def test_every_class_has_its_own_price(seed: int) -> None:
    logits, target, known = random_batch(seed, 3, 4)
    target[:, :2] = False
    prices = torch.tensor([5.0, math.inf, 7.0, 1.0])
    total = float(partial_label_loss(logits, target, known, 1.0, prices))
    alone = [float(partial_label_loss(logits[b:b + 1, n:n + 1], target[b:b + 1, n:n + 1], known[b:b + 1, n:n + 1], 1.0,
                                      prices[n:n + 1])) for b in range(3) for n in range(4)]  # fmt: skip
    assert total == pytest.approx(sum(alone), rel=1e-5)


def test_a_small_false_finding_is_noticed() -> None:
    # A speck of ten voxels in a patch of 64³: in the mean of cross-entropy it is lost.
    logits = torch.full((1, 1, 64**3), -9.0)
    logits[..., :10] = 1
    nothing, known = torch.zeros_like(logits), torch.tensor([[True]])
    gradients = []
    for false_voxels_N in (None, torch.tensor([100.0])):
        leaf = logits.clone().requires_grad_()
        partial_label_loss(leaf, nothing, known, false_voxels_N=false_voxels_N).backward()
        assert leaf.grad is not None
        gradients.append(float(leaf.grad[0, 0, 0]))
    assert gradients[1] > 100 * gradients[0] > 0


def test_balanced_by_hand() -> None:
    # Probabilities 1/2 (there), and 1/2, 3/4, 1/4 (not there): weights 1/4, 9/16, 1/16.
    logits = torch.tensor([[[0, 0, math.log(3), -math.log(3)]]])
    target, known = torch.tensor([[[1, 0, 0, 0]]]), torch.tensor([[True]])
    missed = math.log(2)
    mistaken = (math.log(2) / 4 + math.log(4) * 9 / 16 + math.log(4 / 3) / 16) / (14 / 16 + 3)
    free, balanced = torch.tensor([3.0]), torch.tensor([True])
    loss = partial_label_loss(logits, target, known, None, free, balanced)
    assert float(loss) == pytest.approx(missed + mistaken + 1 - 2 * 0.5 / (2 + 1 + 1))
    leaf = logits[..., 1:].clone().requires_grad_()
    alone = partial_label_loss(leaf, target[..., 1:], known, None, free, balanced)
    assert float(alone.detach()) == pytest.approx(mistaken), "where it is absent only what is mistaken for it costs"
    alone.backward()
    assert leaf.grad is not None
    # Cross-entropy's gradient is the probability; the weights are prices, not something to be lowered.
    by_hand = torch.tensor([1 / 4 * 1 / 2, 9 / 16 * 3 / 4, 1 / 16 * 1 / 4]) / (14 / 16 + 3)
    torch.testing.assert_close(leaf.grad.flatten(), by_hand)


def test_balance_holds_however_small_a_share_of_a_patch_a_class_is() -> None:
    known, free, balanced = torch.tensor([[True]]), torch.tensor([32.0]), torch.tensor([True])
    pulls = []
    for n_others in (10, 100_000):
        logits = torch.full((1, 1, 1 + n_others), -9.0)
        logits[..., 0] = 0
        leaf = logits.requires_grad_()
        target = torch.zeros_like(logits)
        target[..., 0] = 1
        partial_label_loss(leaf, target, known, None, free, balanced).backward()
        assert leaf.grad is not None
        pulls.append(float(leaf.grad[0, 0, 0]))
    assert pulls[0] < -0.5
    assert pulls[1] == pytest.approx(pulls[0], rel=0.5)


def test_classes_that_are_not_balanced_do_not_feel_those_that_are() -> None:
    logits, target, known = random_batch(2, 3, 4)
    known[:] = True
    free = torch.full((logits.shape[1],), 50.0)
    leaf, plain = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    balanced = torch.zeros(logits.shape[1], dtype=torch.bool)
    balanced[1] = True
    partial_label_loss(leaf, target, known, None, free, balanced).backward()
    partial_label_loss(plain, target, known, None, free).backward()
    assert leaf.grad is not None
    assert plain.grad is not None
    others = ~balanced
    torch.testing.assert_close(leaf.grad[:, others], plain.grad[:, others], rtol=0, atol=0)
    assert not torch.allclose(leaf.grad[:, balanced], plain.grad[:, balanced])


def test_nothing_known_gives_nothing() -> None:
    logits = torch.randn(2, 3, 7, requires_grad=True)
    loss = partial_label_loss(logits, torch.ones(2, 3, 7), torch.zeros(2, 3, dtype=torch.bool))
    loss.backward()
    assert float(loss.detach()) == 0
    assert logits.grad is not None
    assert (logits.grad == 0).all()


def test_order_of_scans_and_classes_does_not_matter() -> None:
    logits, target, known = random_batch(5, 3, 4)
    rows, columns = torch.tensor([2, 0, 1]), torch.tensor([3, 1, 0, 2])
    shuffled = [t[rows][:, columns] for t in (logits, target, known)]
    assert float(partial_label_loss(*shuffled)) == pytest.approx(float(partial_label_loss(logits, target, known)))


def test_half_precision_logits_are_summed_in_full() -> None:
    logits, target, known = random_batch(1, 1, 2)
    known[:] = True
    low = partial_label_loss(logits.bfloat16(), target, known)
    assert low.dtype == torch.float32
    assert float(low) == pytest.approx(float(partial_label_loss(logits.bfloat16().float(), target, known)))


# --- every lesion alike ------------------------------------------------------------------------------------------


def two_lesions() -> torch.Tensor:
    """One of 8 voxels and one of a single voxel, in 6³."""
    target = torch.zeros(1, 1, 6, 6, 6)
    target[0, 0, 0:2, 0:2, 0:2] = 1
    target[0, 0, 5, 5, 5] = 1
    return target


def test_a_small_lesion_weighs_as_much_as_a_large_one() -> None:
    target, known, each = two_lesions(), torch.tensor([[True]]), torch.tensor([2.0])
    found = {}
    for name, voxels in (("large", (slice(0, 2),) * 3), ("small", (slice(5, 6),) * 3)):
        logits = torch.zeros(1, 1, 6, 6, 6)
        logits[(0, 0, *voxels)] = 3.0
        with_each = partial_label_loss(logits, target, known, each_N=each)
        found[name] = float(with_each - partial_label_loss(logits, target, known))
    # Half of the weight of 2 on each: softplus(-3) where it is found, ln 2 where logits are zero.
    expected = math.log1p(math.exp(-3)) + math.log(2)
    assert found == {"large": pytest.approx(expected, rel=1e-5), "small": pytest.approx(expected, rel=1e-5)}


def test_where_nothing_is_there_each_lesion_adds_nothing() -> None:
    logits, known = torch.zeros(1, 1, 4, 4, 4), torch.tensor([[True]])
    plain = partial_label_loss(logits, torch.zeros_like(logits), known)
    assert partial_label_loss(logits, torch.zeros_like(logits), known, each_N=torch.tensor([5.0])) == plain


def test_the_weight_of_cross_entropy() -> None:
    target = torch.tensor([[[1, 0, 0, 0]]])
    loss = partial_label_loss(torch.zeros(1, 1, 4), target, torch.tensor([[True]]), cross_entropy=20.0)
    assert float(loss) == pytest.approx(20 * math.log(2) + 0.75)
