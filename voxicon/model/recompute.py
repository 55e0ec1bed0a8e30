"""Memory for time: what happened inside a block is computed again when its gradient is due.

A block run this way keeps its inputs alone for the backward pass. The graph of gradients is the same, so
gradients are equal to the last bit. A block must give the same output when run again: no dropout (random
numbers are not replayed) and no running averages (they would be updated twice). Our backbones have neither;
their norms take the statistics of one window.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

from torch import Tensor
from torch.utils.checkpoint import checkpoint


def run_block(block: Callable[..., Tensor], *inputs: Tensor, recompute: bool) -> Tensor:
    """``block(*inputs)``; with `recompute`, its inner maps live only while its own gradient is computed.

    Without gradients there is nothing to keep, and `recompute` changes nothing.
    """
    if not recompute:
        return block(*inputs)
    return cast(Tensor, checkpoint(block, *inputs, use_reentrant=False, preserve_rng_state=False))
