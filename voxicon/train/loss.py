"""Dice and binary cross-entropy over what is known, and nothing else.

The loss sees tensors only, never a name: which classes count comes in as `known_BN`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from voxicon.core.components import components

SMOOTH = 1.0
"""Added to the Dice denominator, in voxels. Source: the original's per-volume binary Dice loss."""


def partial_label_loss(
    logits_BNV: Tensor,
    target_BNV: Tensor,
    known_BN: Tensor,
    pairs: float | None = None,
    false_voxels_N: Tensor | None = None,
    balanced_N: Tensor | None = None,
    each_N: Tensor | None = None,
    cross_entropy: float = 1.0,
) -> Tensor:
    """Mean over known (scan, class) pairs of binary cross-entropy plus one minus Dice.

    - Unknown pairs never enter the computation: the gradient at their logits is exactly zero.
    - Known and empty is negative: cross-entropy pushes the logits down. The Dice term of an empty target is constant,
      so it is left out, or replaced, see `false_voxels_N`.
    - Nothing known at all gives a loss of zero with zero gradients.

    Args:
        logits_BNV: (B, N, ...) any float type; computed in float32.
        target_BNV: Same shape, 0 or 1 (bool or float). Ignored at unknown pairs.
        known_BN: (B, N) bool.
        pairs: Divide by this instead of by the known pairs of this batch. A step that is made of several batches,
            or shared by several processes, passes the number of pairs of the whole step: the gradients then
            add up to those of one large batch, however unevenly the labels are spread.
        false_voxels_N: (N,) float. Where a class is known to be absent, P voxels predicted cost P / (P + this), at most
            one, as a Dice of zero does. Cross-entropy alone, a mean over all voxels of a patch, hardly notices a false
            lesion: a voxel of a lesion of a hundred voxels that is there weighs thousands of times more in its Dice.
            P sums squares of probabilities: a million voxels at one in a thousand are no finding. Infinite, or None for
            all, leaves it at cross-entropy.
        balanced_N: (N,) bool. Classes whose cross-entropy is a mean over what is there and one over what is mistaken
            for it (`_balanced`), in place of one over the patch and of what `false_voxels_N` adds. For lesions: they
            are so small a share of a patch that never finding one costs a network next to nothing.
        each_N: (N,) float. Weight of one more term, where a class is there: the cross-entropy inside its connected
            pieces, a mean over pieces of means over voxels, so that small ones are not lost beside a large one. The
            masks are then (X, Y, Z). Zero, or None for all, adds nothing.
        cross_entropy: Weight of the cross-entropy over a patch beside Dice; not of the terms above.

    Returns:
        A float32 scalar.
    """
    if not known_BN.any():
        return (logits_BNV * 0).float().sum()
    # Indexing copies; when everything is known a view will do.
    everything = bool(known_BN.all())
    logits_KV = (logits_BNV.flatten(0, 1) if everything else logits_BNV[known_BN]).flatten(1)
    target_KV = (target_BNV.flatten(0, 1) if everything else target_BNV[known_BN]).flatten(1)
    shape = known_BN.shape[1:]
    free_N = torch.full(shape, torch.inf) if false_voxels_N is None else false_voxels_N
    balanced_N = torch.zeros(shape, dtype=torch.bool) if balanced_N is None else balanced_N
    each_N = torch.zeros(shape) if each_N is None else each_N
    free_K, balanced_K, each_K = (
        terms_N.to(known_BN.device).expand_as(known_BN)[known_BN].tolist() for terms_N in (free_N, balanced_N, each_N)
    )
    terms_K = [
        _Terms(free=free, balanced=balanced, each=each, cross_entropy=cross_entropy, shape=tuple(target_BNV.shape[2:]))
        for free, balanced, each in zip(free_K, balanced_K, each_K, strict=True)
    ]
    total: Tensor = _SumOfPairs.apply(logits_KV, target_KV, terms_K)  # type: ignore[no-untyped-call]
    return total / (len(logits_KV) if pairs is None else pairs)


@dataclass(frozen=True, kw_only=True)
class _Terms:
    """What one pair's loss is made of: its part of the arguments of `partial_label_loss`, and the shape of its mask."""

    free: float
    balanced: bool
    each: float
    cross_entropy: float
    shape: tuple[int, ...]


class _SumOfPairs(torch.autograd.Function):
    """Sum of `_pair_loss`, pair after pair, each with its gradient at once.

    What one pair needs stays in the processor's cache, which is faster than all pairs together, and no float32 copies
    of all logits wait for the backward pass.
    """

    @staticmethod
    def forward(ctx: Any, logits_KV: Tensor, target_KV: Tensor, terms_K: list[_Terms]) -> Tensor:
        learns = ctx.needs_input_grad[0]
        gradient_KV = torch.empty_like(logits_KV) if learns else None
        total = logits_KV.new_zeros((), dtype=torch.float32)
        for k, terms in enumerate(terms_K):
            with torch.set_grad_enabled(learns):
                logits_V = logits_KV[k].detach().float().requires_grad_(learns)
                loss = _pair_loss(logits_V, target_KV[k].float(), terms)
            if gradient_KV is not None:
                (gradient_KV[k],) = torch.autograd.grad(loss, logits_V)
            total += loss.detach()
        ctx.save_for_backward(gradient_KV)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None, None]:
        (gradient_KV,) = ctx.saved_tensors
        return gradient_KV * upstream.item(), None, None


def _pair_loss(logits_V: Tensor, target_V: Tensor, terms: _Terms) -> Tensor:
    """Loss of one class in one scan."""
    cross_entropy_V = functional.binary_cross_entropy_with_logits(logits_V, target_V, reduction="none")
    probability_V = logits_V.sigmoid()
    size = target_V.sum()
    if terms.balanced:
        loss = _balanced(cross_entropy_V, probability_V.detach(), target_V, size, terms.free)
    else:
        loss = terms.cross_entropy * cross_entropy_V.mean()
    if size > 0:
        if terms.each:
            loss = loss + terms.each * (cross_entropy_V * _alike(target_V, terms.shape)).sum()
        return loss + 1 - 2 * (probability_V * target_V).sum() / (probability_V.sum() + size + SMOOTH)
    if terms.balanced:
        return loss
    sure = probability_V.square().sum()
    return loss + sure / (sure + terms.free)


def _alike(target_V: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Weights of the voxels that are there: the same sum for every connected piece, one in all."""
    pieces = components(target_V.reshape(shape).cpu().numpy() > 0)
    weights = np.zeros(len(pieces.sizes), dtype=np.float32)
    weights[1:] = 1 / (pieces.sizes[1:] * (len(pieces.sizes) - 1))
    return torch.from_numpy(weights[pieces.labels].ravel()).to(target_V.device)


def _balanced(cross_entropy_V: Tensor, probability_V: Tensor, target_V: Tensor, size: Tensor, free: float) -> Tensor:
    """Cross-entropy: mean over the voxels of a class plus mean over others, weighted by how much they mislead.

    The weight is the square of the probability, so that a few voxels taken for a lesion are not lost among a million
    that are not; `free` voxels of probability one count half.
    """
    missed = (cross_entropy_V * target_V).sum() / size.clamp(min=1)
    misleading_V = probability_V.square() * (1 - target_V)
    return missed + (cross_entropy_V * misleading_V).sum() / (misleading_V.sum() + free)
