"""Where to compute."""

from __future__ import annotations

import torch

from voxicon.errors import ConfigError


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
