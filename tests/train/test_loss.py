"""The three rules that make partial labels safe, and a worked number."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from voxicon.train.loss import partial_label_loss


def random_batch(seed: int, n_batch: int, n_classes: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(seed)
    logits = torch.randn(n_batch, n_classes, 3, 4, 5, generator=g)
    target = torch.rand(logits.shape, generator=g) < 0.3
    return logits, target, torch.rand(n_batch, n_classes, generator=g) < 0.5


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
@given(st.integers(0, 10_000), st.integers(1, 3), st.integers(1, 5))
def test_gradient_at_unknown_classes_is_exactly_zero(seed: int, n_batch: int, n_classes: int) -> None:
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


def test_known_and_empty_is_negative() -> None:
    logits = torch.zeros(1, 1, 10, requires_grad=True)
    loss = partial_label_loss(logits, torch.zeros(1, 1, 10), torch.tensor([[True]]))
    loss.backward()
    # The Dice term of an empty target is left out: cross-entropy alone, pushing every logit down.
    assert float(loss.detach()) == pytest.approx(math.log(2))
    assert logits.grad is not None
    assert (logits.grad > 0).all()


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
