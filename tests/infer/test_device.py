"""How many windows a device computes together."""

from __future__ import annotations

import pytest
import torch

from voxicon.infer.device import windows_at_once

GPU = torch.device("cuda:1")


def test_a_processor_computes_one_window_at_a_time() -> None:
    assert windows_at_once(torch.device("cpu"), 1) == 1


@pytest.mark.parametrize(
    ("free", "window", "windows"),
    [(10_000, 1_000, 5), (10_000, 2_600, 1), (10_000, 9_000, 1), (0, 1_000, 1), (10**9, 1_000, 8), (999, 0, 8)],
)
def test_a_gpu_computes_what_fits_into_half_of_its_free_memory(
    monkeypatch: pytest.MonkeyPatch, free: int, window: int, windows: int
) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", {GPU: (free, 2 * free)}.__getitem__)
    assert windows_at_once(GPU, window) == windows
