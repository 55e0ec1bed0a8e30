"""Memory of a window, counted without computing."""

from __future__ import annotations

import torch

from voxicon.model.footprint import _Counting, window_bytes
from voxicon.model.network import NetworkConfig, UniversalNetwork, build_network


def network(channels: list[int]) -> UniversalNetwork:
    shape = NetworkConfig(
        backbone="compact", classes=("liver", "spleen"), embedding_size=4, options={"channels": channels}
    )
    return build_network(shape, torch.randn(2, 4)).eval()


def test_what_is_let_go_of_no_longer_counts() -> None:
    with _Counting() as counting:
        a = torch.zeros(1000, device="meta")  # 4 kB
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


def test_grows_with_the_window_and_with_channels() -> None:
    small = window_bytes(network([16, 16]), (16, 16, 16))
    # At full resolution at least two maps of 16 channels live at a time.
    assert small >= 2 * 16 * 4 * 16**3
    assert window_bytes(network([16, 16]), (32, 32, 32)) > 7 * small
    assert window_bytes(network([32, 32]), (16, 16, 16)) > 1.5 * small


def test_the_network_stays_as_it_is() -> None:
    net = network([16, 16])
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    window_bytes(net, (16, 16, 16))
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())
    with torch.inference_mode():
        window_bytes(net, (16, 16, 16))
        assert net.encode(torch.rand(1, 1, 16, 16, 16))[0].shape == (1, 8, 16, 16, 16)
