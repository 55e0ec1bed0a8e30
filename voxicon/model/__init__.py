"""Networks: tensors in, logits out. Knows no file but checkpoints, no organ, no dataset."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn


def load_network(path: str | Path) -> nn.Module:
    """A trained network in evaluation mode, from our ``.safetensors`` or the authors' ``.pth``.

    Called with an image (B, 1, X, Y, Z) in [0, 1] on the model's grid, it gives logits (B, N, X, Y, Z);
    every axis must be a multiple of its ``size_multiple``. Its ``classes`` names the N channels; for a
    ``.pth``, which holds no names, they are ``class_01``, ``class_02``, … by the original's ids.

    Args:
        path: The file. Which of the two it is follows from its content, whatever its name.

    Raises:
        CheckpointError: Missing, damaged, or neither of the two.
    """
    # PyTorch takes a second to import; whoever only lists this package should not wait for it.
    from voxicon.model.checkpoint import load_checkpoint
    from voxicon.model.official import N_CLASSES, read_official

    path = Path(path)
    if path.is_file() and _is_pickle(path):
        names = [f"class_{number:02d}" for number in range(1, N_CLASSES + 1)]
        return read_official(path, names, names)[0]
    return load_checkpoint(path).network


def _is_pickle(path: Path) -> bool:
    """True for the two containers of PyTorch: a zip, or (before 1.6) a bare pickle."""
    with path.open("rb") as file:
        start = file.read(9)
    # A safetensors file starts with the length of its header, whose first byte can be anything.
    return not start.endswith(b"{") and start.startswith((b"PK\x03\x04", b"\x80"))
