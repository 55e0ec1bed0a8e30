"""Where to compute."""

from __future__ import annotations

import torch

from voxicon.errors import ConfigError

MOST_WINDOWS = 8
"""Computed together on a GPU. Own choice, not measured: a row of windows of a torso is seldom longer."""

_SHARE = 0.5
"""Of a GPU's free memory that windows may take; the maps that wait to be blended lie there too."""


def pick_device(name: str) -> torch.device:
    """The device of a name; ``auto`` takes the fastest there is, ``gpu`` means ``cuda``.

    Raises:
        ConfigError: Unknown, or not available on this machine.
    """
    cuda, mps = torch.cuda.is_available(), torch.backends.mps.is_available()
    if name == "auto":
        return torch.device("cuda" if cuda else "mps" if mps else "cpu")
    try:
        device = torch.device(name.replace("gpu", "cuda"))
    except RuntimeError as error:
        raise ConfigError(f"device {name!r} is unknown; use auto, cpu, cuda, cuda:N or mps") from error
    there = {"cpu": True, "cuda": cuda and (device.index or 0) < torch.cuda.device_count(), "mps": mps}
    if not there.get(device.type, False):
        raise ConfigError(f"device {name!r} is not available here; use cpu, or auto to take what there is")
    return device


def windows_at_once(device: torch.device, window_bytes: int) -> int:
    """How many windows to compute together: on a GPU as many as fit into half of what is free there, else one.

    Where that is too many after all, the ladder steps down (`voxicon.infer.ladder`). A processor gains nothing by it.

    Args:
        device: Where windows are computed.
        window_bytes: What one of them takes on its way through the network.
    """
    if device.type != "cuda":
        return 1
    free, _ = torch.cuda.mem_get_info(device)
    return max(1, min(MOST_WINDOWS, int(_SHARE * free // max(1, window_bytes))))
