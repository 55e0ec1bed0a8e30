"""Small weights in a file, for tests of everything around the network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from voxicon.model.checkpoint import Metadata, save_checkpoint
from voxicon.model.config import NetworkConfig
from voxicon.model.network import build_network

CLASSES = ("spleen", "kidney_right", "liver", "pancreas", "liver_tumor")


def write_small_weights(path: Path, classes: tuple[str, ...] = CLASSES, **changes: object) -> Path:
    """An untrained network with a real checkpoint around it; its masks are noise, but always the same noise."""
    return _write(path, classes, {"channels": [16, 16]}, {"title": "noise", "license": "Apache-2.0"}, changes)


def write_small_lesions(path: Path, classes: tuple[str, ...] = ("liver_tumor",), **changes: object) -> Path:
    """The same of weights that look into organs."""
    return _write(path, classes, {"channels": [16, 16], "host": {}}, {"title": "noise in organs"}, changes)


def _write(
    path: Path, classes: tuple[str, ...], options: dict[str, Any], card: dict[str, Any], changes: dict[str, object]
) -> Path:
    torch.manual_seed(0)
    shape = NetworkConfig(backbone="compact", classes=classes, embedding_size=8, options=options)
    network = build_network(shape, torch.randn(len(classes), 8))
    with torch.no_grad():
        network.head.controller.weight.mul_(6)
        network.head.controller.bias[-1] = 0  # even odds
    fields = {
        "network": shape,
        "preparation": {"spacing_mm": [6, 6, 6], "window_hu": [-250, 350]},
        "inference": {"window": [16, 16, 16], "overlap": 0.25},
        "text_bank": {"encoder": "random"},
        "trained": classes,
        "card": card,
        **changes,
    }
    save_checkpoint(path, network, Metadata(**fields))  # type: ignore[arg-type]
    return path
