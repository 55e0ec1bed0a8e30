"""What a network saw, for other people's work: its decoder map over a whole scan, and what its bottleneck says of it.

The decoder map is stitched from windows with the weights that masks are blended with. The bottleneck sees a window as
a whole and differs from window to window, so it is pooled per window and comes with the window's place. Features are
those of the backbone: words, extensions and adapters change nothing of them.

Cost: `features` keeps a float16 (2 bytes) or float32 (4 bytes) per channel and voxel of the model grid: 32 bytes a
voxel for the 16 channels of the starter weights in float16. On the way lies one slab as thick as a window in float32.
An `embedding` of a scan alone needs no slab: nothing grows with the scan but a vector per window.

Shape letters: C channels, W windows, X Y Z voxels of the model grid.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, cast, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from voxicon.core.geometry import Geometry
from voxicon.core.masks import MaskSet
from voxicon.errors import ConfigError
from voxicon.infer.predictor import Predictor
from voxicon.infer.windows import Tiling, Window, blend_weights, unpadded
from voxicon.model.network import Backbone

FeatureType = Literal["float16", "float32"]


@dataclass(frozen=True)
class Features:
    """What a network saw in one scan.

    Attributes:
        decoder: (C, X, Y, Z) on `geometry`, float16 or float32, blended over windows; 0 where windows hold only air.
        geometry: The model grid: RAS, the weights' spacing, cut to the body.
        bottleneck: (W, C') float32: the deepest map of each window that is not air, averaged over the window.
        windows: W boxes of `geometry`, in the same order. Where a scan is smaller than a window they reach beyond it.
    """

    decoder: NDArray[np.float16] | NDArray[np.float32]
    geometry: Geometry
    bottleneck: NDArray[np.float32]
    windows: tuple[Window, ...]


@dataclass(frozen=True)
class Embedding:
    """One scan as vectors.

    Attributes:
        scan: (C',) float32: the mean of `Features.bottleneck` over windows; zeros where all of them are air.
        classes: By class, those asked for: (C,) float32, the mean of the decoder map inside the class's mask on the
            model grid; zeros where the mask is empty.
    """

    scan: NDArray[np.float32]
    classes: dict[str, NDArray[np.float32]]


_Slab = Callable[[tuple[slice, slice, slice], Tensor], None]
"""A box of the model grid and the blended decoder map (C, x, y, z) float32 in it."""


def features(
    predictor: Predictor, image: NDArray[np.float32], geometry: Geometry, dtype: FeatureType = "float16"
) -> Features:
    """Decoder map and pooled bottleneck of a prepared scan.

    Args:
        predictor: Its network is asked, by torch; its windows, overlap and padding are used.
        image: (X, Y, Z) float32 in [0, 1] on `geometry`.
        geometry: The model grid.
        dtype: Of the decoder map.

    Raises:
        ConfigError: No such type.
    """
    if dtype not in get_args(FeatureType):
        raise ConfigError(f"features of type {dtype!r}: expected {' or '.join(get_args(FeatureType))}")
    channels = cast(Backbone, predictor.network.backbone).decoder_channels
    decoder = np.zeros((channels, *geometry.shape), dtype)

    def keep(at: tuple[slice, slice, slice], slab: Tensor) -> None:
        decoder[(slice(None), *at)] = slab.numpy()

    windows, bottleneck = _walk(predictor, image, keep)
    return Features(decoder, geometry, bottleneck, windows)


def embedding(predictor: Predictor, image: NDArray[np.float32], masks: MaskSet) -> Embedding:
    """A prepared scan as a vector, and each class of `masks` as another; nothing whole is kept.

    Args:
        predictor: As of `features`.
        image: As of `features`.
        masks: On the model grid; of no class where only the scan is wanted, which is then quicker.
    """
    channels = cast(Backbone, predictor.network.backbone).decoder_channels
    sums = {name: np.zeros(channels) for name in masks.names}

    def add(at: tuple[slice, slice, slice], slab: Tensor) -> None:
        for name in masks.names:
            sums[name] += slab.numpy()[:, masks[name][at]].sum(axis=1, dtype=np.float64)

    _, bottleneck = _walk(predictor, image, add if sums else None)
    scan = bottleneck.mean(axis=0) if len(bottleneck) else np.zeros(bottleneck.shape[1], np.float32)
    classes = {name: (total / max(1, masks.count(name))).astype(np.float32) for name, total in sums.items()}
    return Embedding(scan, classes)


@torch.inference_mode()
def _walk(
    predictor: Predictor, image: NDArray[np.float32], told: _Slab | None
) -> tuple[tuple[Window, ...], NDArray[np.float32]]:
    """Every window that is not air and its pooled bottleneck; slabs of the decoder map are told as they get ready."""
    backbone = cast(Backbone, predictor.network.backbone)
    device = predictor.network.text_vectors.device
    padded, pads, tiling = predictor.lay(image)
    stitch = _Stitch(tiling, backbone.decoder_channels) if told is not None else None
    seen: list[Window] = []
    pooled = [torch.zeros(0, backbone.bottleneck_channels)]
    for row, windows in enumerate(tiling.rows):
        for window in windows:
            patch = padded[window.to_slices()]
            if not patch.max() > 0:
                continue
            bottleneck, decoded = backbone(patch[None, None].to(device))
            x, y, z = (start - before for start, (before, _) in zip(window.start, pads, strict=True))
            seen.append(Window((x, y, z), window.size))
            pooled.append(bottleneck.float().mean(dim=(2, 3, 4)).cpu())
            if stitch is not None:
                stitch.add(window, decoded[0].float().cpu())
        if told is not None and stitch is not None:
            low, high = tiling.finished(row)
            begin, shape = [0, 0, 0], list(tiling.shape)
            begin[tiling.axis], shape[tiling.axis] = low, high - low
            at, of = unpadded(begin, shape, pads, (image.shape[0], image.shape[1], image.shape[2]))
            told(at, stitch.finish(low, high)[(slice(None), *of)])
    return tuple(seen), torch.cat(pooled).numpy()


class _Stitch:
    """Blends windows into a slab as thick as a window, which moves along the tiling's axis."""

    def __init__(self, tiling: Tiling, channels: int) -> None:
        self.axis = tiling.axis
        self.weights = torch.from_numpy(blend_weights(tiling.window))
        shape = list(tiling.shape)
        shape[self.axis] = tiling.window[self.axis]
        # The last channel is the sum of the weights.
        self.sums = torch.zeros(channels + 1, *shape)

    def add(self, window: Window, decoded_CXYZ: Tensor) -> None:
        at = list(window.to_slices())
        at[self.axis] = slice(None)
        part = self.sums[(slice(None), *at)]
        part[:-1] += decoded_CXYZ * self.weights
        part[-1] += self.weights

    def finish(self, low: int, high: int) -> Tensor:
        """The blended map from `low` to `high` along the axis, and room for what follows."""
        n, whole = high - low, self.sums.shape[self.axis + 1]
        done = self.sums.narrow(self.axis + 1, 0, n)
        blended = (done[:-1] / done[-1]).nan_to_num_(0.0)  # no weight lies where windows hold only air
        rest = self.sums.narrow(self.axis + 1, n, whole - n).clone()
        self.sums.zero_()
        self.sums.narrow(self.axis + 1, 0, whole - n).copy_(rest)
        return blended
