"""What backbones say of their memory, against what is counted while a window passes."""

from __future__ import annotations

import math
import weakref
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from voxicon.model.config import NetworkConfig
from voxicon.model.head import EVERY_ROW
from voxicon.model.network import build_network


class Counting(TorchDispatchMode):
    """Bytes of the storages that operations make, as long as somebody holds them."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.most = 0
        self.known: weakref.WeakSet[Any] = weakref.WeakSet()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        answer = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(answer):
            if isinstance(tensor, Tensor) and (storage := tensor.untyped_storage()) not in self.known:
                self.known.add(storage)
                self.now += storage.nbytes()
                self.most = max(self.most, self.now)
                weakref.finalize(storage, self.gone, storage.nbytes())
        return answer

    def gone(self, n_bytes: int) -> None:
        self.now -= n_bytes


def test_what_is_let_go_of_no_longer_counts() -> None:
    with Counting() as counting:
        a = torch.zeros(1000)  # 4 kB
        b = a + 1  # 8
        assert counting.now == 8000
        del a
        assert counting.now == 4000
        c = b[:500]  # a view is nothing new
        assert counting.now == 4000
        del b
        assert counting.now == 4000
        del c
    assert (counting.now, counting.most) == (0, 8000)


CONTRAST = {"sides": [[1, 5], [3, 9]], "tissue": [0.485, 0.65], "full": 0.03}


@pytest.mark.parametrize(
    ("backbone", "options", "window"),
    [
        ("compact", {"channels": [16, 16]}, (32, 32, 32)),
        ("compact", {"channels": [16, 32, 64, 128]}, (32, 32, 32)),
        ("compact", {"channels": [32, 64]}, (32, 32, 16)),
        ("compact", {"channels": [48, 16, 16], "windows": [[0, 0.5], [0.4, 1]], "contrast": CONTRAST}, (32, 32, 32)),
        ("unet", {"width": 8}, (32, 32, 32)),
        ("unet", {"width": 16}, (32, 32, 16)),
        ("swin_unetr", {"feature_size": 48}, (64, 64, 64)),
    ],
)
def test_told_is_counted(backbone: str, options: dict[str, Any], window: tuple[int, int, int]) -> None:
    shape = NetworkConfig(backbone=backbone, classes=("liver", "spleen"), embedding_size=4, options=options)
    network = build_network(shape, torch.randn(2, 4)).eval()
    image = torch.zeros(1, 1, *window)
    with torch.inference_mode(), Counting() as counting:
        network.encode(image, EVERY_ROW)
    # A Swin UNETR's windows of attention do not divide this one: more is counted than for its usual window.
    assert network.window_bytes(window) == pytest.approx(counting.most, rel=0.2 if backbone == "swin_unetr" else 0.1)


def test_grows_with_the_window() -> None:
    network = build_network(
        NetworkConfig(backbone="compact", classes=("liver",), embedding_size=4, options={"channels": [16, 16]}),
        torch.randn(1, 4),
    )
    assert network.window_bytes((16, 16, 32)) == 2 * network.window_bytes((16, 16, 16))
    assert network.window_bytes((16, 16, 16)) == 4 * 104 * math.prod((16, 16, 16))
