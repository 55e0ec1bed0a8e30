"""Dice and binary cross-entropy over what is known, and nothing else.

The loss sees tensors only, never a name: which classes count comes in as `known_BN`.
"""

from __future__ import annotations

import torch
from torch import Tensor
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
    logits_KV = (logits_BNV.flatten(0, 1) if everything else logits_BNV[known_BN]).flatten(1).float()
    target_KV = (target_BNV.flatten(0, 1) if everything else target_BNV[known_BN]).flatten(1).float()
    cross_entropy_KV = functional.binary_cross_entropy_with_logits(logits_KV, target_KV, reduction="none")
    cross_entropy_K = cross_entropy_KV.mean(1)
    probability_KV = logits_KV.sigmoid()
    overlap_K = (probability_KV * target_KV).sum(1)
    size_K = target_KV.sum(1)
    dice_K = 2 * overlap_K / (probability_KV.sum(1) + size_K + SMOOTH)
    free_N = logits_BNV.new_full(known_BN.shape[1:], torch.inf) if false_voxels_N is None else false_voxels_N
    free_K = free_N.expand_as(known_BN)[known_BN]
    sure_K = probability_KV.square().sum(1)
    absent_loss_K = sure_K / (sure_K + free_K)
    if balanced_N is not None:
        balanced_K = balanced_N.expand_as(known_BN)[known_BN]
        parts = (part[balanced_K] for part in (cross_entropy_KV, probability_KV.detach(), target_KV, free_K))
        cross_entropy_K = cross_entropy_K.index_put((balanced_K,), _balanced(*parts))
        absent_loss_K = absent_loss_K.masked_fill(balanced_K, 0)
    loss_K = cross_entropy_K + torch.where(size_K > 0, 1 - dice_K, absent_loss_K)
    return loss_K.sum() / (len(loss_K) if pairs is None else pairs)


def _balanced(cross_entropy_KV: Tensor, probability_KV: Tensor, target_KV: Tensor, free_K: Tensor) -> Tensor:
    """Cross-entropy, (K,): mean over the voxels of a class plus mean over others, weighted by how much they mislead.

    The weight is the square of the probability, so that a few voxels taken for a lesion are not lost among a million
    that are not; `free_K` voxels of probability one count half.
    """
    missed_K = (cross_entropy_KV * target_KV).sum(1) / target_KV.sum(1).clamp(min=1)
    misleading_KV = probability_KV.square() * (1 - target_KV)
    mistaken_K = (cross_entropy_KV * misleading_KV).sum(1) / (misleading_KV.sum(1) + free_K)
    return missed_K + mistaken_K
