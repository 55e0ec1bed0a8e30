"""The original's networks as files and as ours, made once for all tests of this folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.model import original
from voxicon.model.network import UniversalNetwork
from voxicon.model.official import read_official

NAMES = tuple(f"word_{number}" for number in range(1, 33))
WORDINGS = tuple(f"Word {number}" for number in range(1, 33))


def save_like_authors(path: Path, net: object) -> Path:
    """What their training script writes: the network beside what resuming needs."""
    optimizer = {"state": {0: {"step": torch.tensor(3.0), "exp_avg": torch.ones(5)}}, "param_groups": [{"lr": 1e-4}]}
    scheduler = {"base_lrs": [1e-4], "last_epoch": 1, "_last_lr": [np.float64(1e-4)]}
    torch.save({"net": net, "optimizer": optimizer, "scheduler": scheduler, "epoch": 1}, path)
    return path


@pytest.fixture(scope="session")
def unet_weights() -> original.Weights:
    return original.weights(original.unet_shapes())


@pytest.fixture(scope="session")
def swin_weights() -> original.Weights:
    return original.weights(original.swin_shapes())


@pytest.fixture(scope="session")
def unet_file(unet_weights: original.Weights, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """U-Net as published: ``module.`` before every key."""
    net = {f"module.{key}": tensor for key, tensor in unet_weights.items()}
    path = save_like_authors(tmp_path_factory.mktemp("unet") / "unet.pth", net)
    yield path
    path.unlink()


@pytest.fixture(scope="session")
def swin_file(swin_weights: original.Weights, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Swin UNETR as published: ``module.`` instead of ``backbone.``."""
    net = {f"module.{key.removeprefix('backbone.')}": tensor for key, tensor in swin_weights.items()}
    path = save_like_authors(tmp_path_factory.mktemp("swin") / "swin.pth", net)
    yield path
    path.unlink()  # 250 MB, which pytest would keep for three runs


@pytest.fixture(scope="session")
def unet_network(unet_file: Path) -> UniversalNetwork:
    return read_official(unet_file, NAMES, WORDINGS)[0]


@pytest.fixture(scope="session")
def swin_network(swin_file: Path) -> UniversalNetwork:
    return read_official(swin_file, NAMES, WORDINGS)[0]
