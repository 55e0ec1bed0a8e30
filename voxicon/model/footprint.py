"""How much memory a network takes for a window, found without computing anything.

The network runs on tensors that have a shape and no numbers, and every tensor that comes and goes is counted. What a
library needs for itself on the way (a convolution's own workspace) is not in it: measured, a window of the starter
network, of a Swin UNETR and of a U-Net of the official sizes took 0.45, 1.50 and 1.97 GB where 0.27, 1.36 and 1.65 GB
were counted.
"""

from __future__ import annotations

import weakref
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from voxicon.model.head import EVERY_ROW
from voxicon.model.network import UniversalNetwork


def window_bytes(network: UniversalNetwork, window: tuple[int, int, int]) -> int:
    """The most bytes that tensors take at one time while one window is encoded for all classes, weights not counted.

    Args:
        network: Not changed; may be on any device.
        window: Voxels, multiples of what the network needs.
    """
    named = [*network.named_parameters(), *network.named_buffers()]
    hollow = {f"network.{name}": torch.empty_like(tensor, device="meta") for name, tensor in named}
    with torch.inference_mode(mode=False), torch.no_grad(), _Counting() as counting:
        functional_call(_Encoding(network), hollow, (torch.empty(1, 1, *window, device="meta"),))
    most: int = counting.most
    return most


class _Encoding(nn.Module):
    def __init__(self, network: UniversalNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, image_B1XYZ: Tensor) -> tuple[Tensor, Tensor]:
        return self.network.encode(image_B1XYZ, EVERY_ROW)


class _Counting(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Bytes of the storages that operations make, as long as somebody holds them."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now = self.most = 0
        self._known: weakref.WeakSet[Any] = weakref.WeakSet()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        answer = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(answer):
            if isinstance(tensor, Tensor) and (storage := tensor.untyped_storage()) not in self._known:
                self._known.add(storage)
                self.now += storage.nbytes()
                self.most = max(self.most, self.now)
                weakref.finalize(storage, self._gone, storage.nbytes())
        return answer

    def _gone(self, n_bytes: int) -> None:
        self.now -= n_bytes
