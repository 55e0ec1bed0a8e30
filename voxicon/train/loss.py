"""Dice and binary cross-entropy over what is known, and nothing else.

The loss sees tensors only, never a name: which classes count comes in as `known_BN`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

SMOOTH = 1.0
"""Added to the Dice denominator, in voxels. Source: the original's per-volume binary Dice loss."""


def partial_label_loss(
    logits_BNV: Tensor,
    target_BNV: Tensor,
    known_BN: Tensor,
    pairs: float | None = None,
    false_voxels_N: Tensor | None = None,
    balanced_N: Tensor | None = None,
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
    free_K, balanced_K = (each.to(known_BN.device).expand_as(known_BN)[known_BN] for each in (free_N, balanced_N))
    total: Tensor = _SumOfPairs.apply(logits_KV, target_KV, free_K.tolist(), balanced_K.tolist())  # type: ignore[no-untyped-call]
    return total / (len(logits_KV) if pairs is None else pairs)


class _SumOfPairs(torch.autograd.Function):
    """Sum of `_pair_loss`, pair after pair, each with its gradient at once.

    What one pair needs stays in the processor's cache, which is faster than all pairs together, and no float32 copies
    of all logits wait for the backward pass.
    """

    @staticmethod
    def forward(ctx: Any, logits_KV: Tensor, target_KV: Tensor, free_K: list[float], balanced_K: list[bool]) -> Tensor:
        learns = ctx.needs_input_grad[0]
        gradient_KV = torch.empty_like(logits_KV) if learns else None
        total = logits_KV.new_zeros((), dtype=torch.float32)
        for k, (free, balanced) in enumerate(zip(free_K, balanced_K, strict=True)):
            with torch.set_grad_enabled(learns):
                logits_V = logits_KV[k].detach().float().requires_grad_(learns)
                loss = _pair_loss(logits_V, target_KV[k].float(), free, balanced=balanced)
            if gradient_KV is not None:
                (gradient_KV[k],) = torch.autograd.grad(loss, logits_V)
            total += loss.detach()
        ctx.save_for_backward(gradient_KV)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None, None, None]:
        (gradient_KV,) = ctx.saved_tensors
        return gradient_KV * upstream.item(), None, None, None


def _pair_loss(logits_V: Tensor, target_V: Tensor, free: float, *, balanced: bool) -> Tensor:
    """Loss of one class in one scan; the arguments are one pair's part of those of `partial_label_loss`."""
    cross_entropy_V = functional.binary_cross_entropy_with_logits(logits_V, target_V, reduction="none")
    probability_V = logits_V.sigmoid()
    size = target_V.sum()
    if balanced:
        cross_entropy = _balanced(cross_entropy_V, probability_V.detach(), target_V, size, free)
    else:
        cross_entropy = cross_entropy_V.mean()
    if size > 0:
        return cross_entropy + 1 - 2 * (probability_V * target_V).sum() / (probability_V.sum() + size + SMOOTH)
    if balanced:
        return cross_entropy
    sure = probability_V.square().sum()
    return cross_entropy + sure / (sure + free)


def _balanced(cross_entropy_V: Tensor, probability_V: Tensor, target_V: Tensor, size: Tensor, free: float) -> Tensor:
    """Cross-entropy: mean over the voxels of a class plus mean over others, weighted by how much they mislead.

    The weight is the square of the probability, so that a few voxels taken for a lesion are not lost among a million
    that are not; `free` voxels of probability one count half.
    """
    missed = (cross_entropy_V * target_V).sum() / size.clamp(min=1)
    misleading_V = probability_V.square() * (1 - target_V)
    return missed + (cross_entropy_V * misleading_V).sum() / (misleading_V.sum() + free)
