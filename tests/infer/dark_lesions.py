"""Networks whose answers can be worked out by hand: one finds bright organs, one what is darker than its organ."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from voxicon.core.geometry import Geometry
from voxicon.model.checkpoint import Checkpoint, Metadata
from voxicon.model.config import NetworkConfig
from voxicon.model.head import EVERY_ROW, Rows, TextDrivenHead
from voxicon.model.network import UniversalNetwork

WINDOW_HU = (-250.0, 350.0)
SHAPE = (40, 40, 40)
GRID = Geometry(SHAPE, np.diag([3.0, 3.0, 3.0, 1.0]))
ORGAN_HU, LESION_HU = 110.0, 60.0


class _Backbone(nn.Module):
    size_multiple = 1
    floats_per_voxel = 1.0

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.inputs = inputs


class _ByHand(UniversalNetwork):
    """Each class has the one logit map that `answer` makes of what is read."""

    def __init__(self, inputs: int, classes: tuple[str, ...]) -> None:
        super().__init__(_Backbone(inputs), TextDrivenHead(16, 16, 4), torch.zeros(len(classes), 4), classes)
        self.seen: list[tuple[int, ...]] = []

    def answer(self, image_BCXYZ: Tensor) -> Tensor:
        raise NotImplementedError

    def encode(self, image_B1XYZ: Tensor, rows: Rows = EVERY_ROW) -> tuple[Tensor, Tensor]:
        self.seen.append(tuple(image_B1XYZ.shape))
        n = len(self.classes) if isinstance(rows, slice) else len(rows)
        return self.answer(image_B1XYZ).expand(-1, 8, -1, -1, -1), torch.zeros(len(image_B1XYZ), n, 153)

    def decode(self, maps_BMXYZ: Tensor, parameters_BNP: Tensor, maps_of: tuple[int, ...] = ()) -> Tensor:
        return maps_BMXYZ[:, :1].expand(-1, parameters_BNP.shape[1], -1, -1, -1)


class Bright(_ByHand):
    """Organs are above 85 HU, whatever they are called."""

    def answer(self, image_BCXYZ: Tensor) -> Tensor:
        return 200 * (image_BCXYZ - (85 - WINDOW_HU[0]) / (WINDOW_HU[1] - WINDOW_HU[0]))


class Dark(_ByHand):
    """A lesion is what is more than 30 HU below its organ, in it or beside it."""

    def answer(self, image_BCXYZ: Tensor) -> Tensor:
        return 20 * (-image_BCXYZ[:, :1] - 0.3)


def checkpoint(
    organs: tuple[str, ...] = ("liver",), lesions: tuple[str, ...] = ("liver_tumor",), **inference: object
) -> Checkpoint:
    """One of `Bright` with `Dark` inside."""
    return Checkpoint(
        Bright(1, organs), _metadata(organs, _metadata(lesions, None, **inference)), "0" * 64, Dark(2, lesions)
    )


def _metadata(classes: tuple[str, ...], inside: Metadata | None, **inference: object) -> Metadata:
    return Metadata(
        network=NetworkConfig(backbone="compact", classes=classes, embedding_size=4, options={}),
        preparation={"spacing_mm": [3, 3, 3], "window_hu": list(WINDOW_HU)},
        inference={"window": [32, 32, 32], "overlap": 0.25, **inference},
        text_bank={"encoder": "by hand"},
        trained=classes,
        inside=inside,
    )


def cube(low: int = 10, high: int = 30) -> NDArray[np.bool_]:
    mask = np.zeros(SHAPE, dtype=bool)
    mask[low:high, low:high, low:high] = True
    return mask


def ball(center: tuple[int, int, int] = (20, 20, 20), radius: float = 3) -> NDArray[np.bool_]:
    found: NDArray[np.bool_] = sum(
        (np.arange(40) - c).reshape(s) ** 2 for c, s in zip(center, _SIDES, strict=True)
    ) <= (radius**2)
    return found


_SIDES = ((-1, 1, 1), (1, -1, 1), (1, 1, -1))


def scan(organ: NDArray[np.bool_], lesion: NDArray[np.bool_], brighter: float = 0.0) -> NDArray[np.float32]:
    """HU on `GRID`: water, an organ and a lesion, wherever that lies."""
    hu = np.zeros(SHAPE, dtype=np.float32)
    hu[organ] = ORGAN_HU
    hu[lesion] = LESION_HU
    return hu + np.float32(brighter)


def image(hu: NDArray[np.float32]) -> NDArray[np.float32]:
    """As a network reads it."""
    low, high = WINDOW_HU
    return ((hu - low) / (high - low)).astype(np.float32)
