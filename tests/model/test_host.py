"""An organ seen against itself."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from voxicon.errors import CheckpointError
from voxicon.model.config import NetworkConfig
from voxicon.model.host import HostView, against_host
from voxicon.model.network import build_network


def organ(size: int = 24) -> tuple[torch.Tensor, torch.Tensor]:
    """A cube of 100 HU in fat, and where it is."""
    hu, host = torch.full((size,) * 3, -100.0), torch.zeros((size,) * 3)
    hu[4:-4, 4:-4, 4:-4], host[4:-4, 4:-4, 4:-4] = 100.0, 1.0
    return hu, host


def test_relative_to_the_median_of_the_host() -> None:
    hu, host = organ()
    hu[12, 12, 12] = 60.0
    seen = against_host(hu, host)
    assert seen.shape == (2, 24, 24, 24)
    assert seen[0, 8, 8, 8] == 0
    assert seen[0, 12, 12, 12] == pytest.approx(-0.4)
    assert seen[0, 0, 0, 0] == pytest.approx(-2)
    assert torch.equal(seen[1], host)


def test_without_a_host_the_median_is_that_of_all() -> None:
    seen = against_host(torch.full((4, 4, 4), 7.0), torch.full((4, 4, 4), 0.5))
    assert torch.equal(seen[0], torch.zeros(4, 4, 4))


@pytest.mark.parametrize("shift", [-60.0, 45.0])
def test_a_brighter_organ_looks_the_same(shift: float) -> None:
    hu, host = organ()
    view = HostView()
    assert torch.allclose(view(against_host(hu, host)[None]), view(against_host(hu + shift, host)[None]), atol=1e-5)


def test_the_border_of_an_even_organ_is_no_contrast_and_a_lesion_is_one() -> None:
    hu, host = organ()
    view = HostView(sides=((3, 9),))
    assert view.channels == 4
    even = view(against_host(hu, host)[None])[0, 3]
    assert even.abs().max() < 1e-4  # fat beside the organ is not averaged in
    hu[11:14, 11:14, 11:14] = 70.0
    # 27 voxels at -30 HU in a box of 729: -30 less a 27th of it, over the 30 HU that are one.
    assert view(against_host(hu, host)[None])[0, 3, 12, 12, 12] == pytest.approx(-(1 - 27 / 729), abs=1e-4)


def test_what_is_far_from_the_host_in_brightness_is_none_of_its_tissue() -> None:
    hu, host = organ()
    view = HostView(sides=((3, 9),))
    hu[10:12, 10:12, 10:12] = -90.0  # fat in a fissure
    seen = view(against_host(hu, host)[None])[0, 3]
    assert seen[13, 13, 13].abs() < 1e-4


def test_all_channels_are_bounded() -> None:
    generator = torch.Generator().manual_seed(0)
    seen = torch.stack([30 * torch.randn(9, 9, 9, generator=generator), torch.rand(9, 9, 9, generator=generator)])
    assert HostView()(seen[None]).abs().max() <= 2


@pytest.mark.parametrize(
    ("options", "word"),
    [({"sides": [[3, 3]]}, "sides"), ({"sides": [[2, 5]]}, "sides"), ({"near_hu": 0}, "positive")],
)
def test_refusals(options: dict[str, object], word: str) -> None:
    with pytest.raises(ValueError, match=word):
        HostView(**options)  # type: ignore[arg-type]


def config(**options: object) -> NetworkConfig:
    return NetworkConfig(backbone="compact", classes=("liver_tumor",), embedding_size=4, options=options)


def test_a_network_with_a_host_reads_two_channels() -> None:
    network = build_network(config(channels=(16, 16), host={})).eval()
    assert network.inputs == 2
    assert build_network(config(channels=(16, 16))).inputs == 1
    seen = against_host(*(torch.from_numpy(np.random.default_rng(0).random((8, 8, 8))) for _ in range(2)))
    assert network(seen[None]).shape == (1, 1, 8, 8, 8)


def test_a_host_beside_windows_is_refused() -> None:
    with pytest.raises(CheckpointError, match="leave windows and contrast out"):
        build_network(config(channels=(16, 16), host={}, windows=[[0, 1]]))
