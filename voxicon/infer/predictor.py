"""Masks for any number of classes in memory that does not depend on how many.

The usual way keeps one float map per class for the whole volume: 20 GB for 32 classes on a long scan.
Here the volume is walked in rows of windows. Of each window only the shared 8-channel map (and one for each extension
asked for) and the class parameters are kept. As soon as no later row can touch a slab, each class's logits are blended
there, compared with the threshold, and kept as one bit per voxel; then the row's maps are dropped.
Probabilities cost a byte per voxel more, and only of the classes for which they are asked for.

The head depends on each window's own features, so blending happens after it, class by class.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from voxicon.core.components import Box
from voxicon.core.geometry import Geometry
from voxicon.core.masks import BITS_PER_WORD, MaskSet
from voxicon.errors import CheckpointError, UnknownClass
from voxicon.infer.depth import MOST_DEPTH_MM
from voxicon.infer.engine import Encode
from voxicon.infer.ladder import Ladder, MakeRoom, copied_to_cpu
from voxicon.infer.locate import touches
from voxicon.infer.precision import PrecisionGate, PrecisionUsed
from voxicon.infer.smoothing import MOST_SMOOTHING_MM, reach_of, smooth
from voxicon.infer.windows import Pads, Size, Tiling, Window, blend_weights, fitted, padding, tile, unpadded
from voxicon.model.head import Rows
from voxicon.model.network import UniversalNetwork

CLASS_CHUNK = 4
"""Classes blended together; one slab of float32 for each is all that scales with it."""

LEVELS = 255
"""Steps of a probability map: a uint8 holds a probability to half a step, 0.2 percentage points."""

Progress = Callable[[int, int], None]
"""Called with windows done and windows in all."""


_PAD_MODE: dict[str, Literal["constant", "edge"]] = {"air": "constant", "edge": "edge"}


@dataclass(frozen=True, kw_only=True)
class InferenceConfig:
    """How windows are laid and cut; the defaults come from the checkpoint."""

    window: Size
    overlap: float = 0.5
    threshold: float = 0.5
    thresholds: Mapping[str, float] = field(default_factory=dict)
    """By class, where it is not `threshold`: a class that was trained to be as likely where it is as where it is
    mistaken for something needs more than one half to be reported."""
    smoothing_mm: Mapping[str, float] = field(default_factory=dict)
    """By class: standard deviation of a Gaussian over its logits; none where it is not named. See
    `voxicon.infer.smoothing`."""
    depth_mm: Mapping[str, float] = field(default_factory=dict)
    """By class that is looked for inside of organs: how deep in its organ a finding must reach to count; none where it
    is not named. See `voxicon.infer.depth`."""
    peaks: Mapping[str, float] = field(default_factory=dict)
    """By class that is looked for inside of organs: which probability a finding must reach somewhere to count, deep
    enough if there is a depth; none where it is not named, and below its threshold it says nothing. So what is surely
    there is still cut where it ends."""
    padding: Literal["air", "edge"] = "air"
    """What lies beyond a scan smaller than a window: ``air``, as the original has it, or its outermost voxels
    again (``edge``), which is nearer to the truth for a slab of a few slices; the window is then fitted to the slab."""
    batch: int = 1
    """Windows computed together."""

    def __post_init__(self) -> None:
        cuts = [self.threshold, *self.thresholds.values()]
        sound = min(self.window) >= 1 and 0 <= self.overlap < 1 and all(0 < t < 1 for t in cuts) and self.batch >= 1
        gentle = all(0 <= sigma <= MOST_SMOOTHING_MM for sigma in self.smoothing_mm.values())
        shallow = all(0 <= depth <= MOST_DEPTH_MM for depth in self.depth_mm.values())
        steep = all(0 < peak < 1 for peak in self.peaks.values())
        if not (sound and gentle and shallow and steep) or self.padding not in _PAD_MODE:
            raise CheckpointError(f"inference settings make no sense: {self}")

    def to_dict(self) -> dict[str, object]:
        """Plain data for ``case.json``; how many windows are computed together changes no answer and is not in it."""
        return {
            "window": list(self.window),
            "overlap": self.overlap,
            "threshold": self.threshold,
            "thresholds": dict(self.thresholds),
            "smoothing_mm": dict(self.smoothing_mm),
            "depth_mm": dict(self.depth_mm),
            "peaks": dict(self.peaks),
            "padding": self.padding,
        }

    def threshold_of(self, name: str) -> float:
        """The probability above which a voxel is of a class."""
        return self.thresholds.get(name, self.threshold)

    def cut_of(self, name: str) -> float:
        """The logit above which a voxel is of a class."""
        threshold = self.threshold_of(name)
        return math.log(threshold / (1 - threshold))


@dataclass(frozen=True)
class Prediction:
    """What a network says of one volume.

    Attributes:
        masks: Where the blended probability exceeds the threshold, on the model grid.
        probabilities: By class, only those for which they were asked for: (X, Y, Z) uint8 on the grid of `masks`,
            ``round(255 * sigmoid(blended logits))``; 0 where windows hold only air. Up to that rounding
            ``level > 255 * threshold`` is the mask.
        precision: What the windows were computed in.
        warnings: One line each: what did not go as asked.
    """

    masks: MaskSet
    probabilities: dict[str, NDArray[np.uint8]]
    precision: PrecisionUsed = field(default_factory=PrecisionUsed)
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Encoded:
    """A window's shared maps (M, X, Y, Z), the parameters of the classes asked for (N, P), and the map each reads."""

    window: Window
    maps_MXYZ: Tensor
    parameters_NP: Tensor
    maps_of: tuple[int, ...]

    def to(self, device: torch.device) -> _Encoded:
        return replace(self, maps_MXYZ=self.maps_MXYZ.to(device), parameters_NP=self.parameters_NP.to(device))


_EncodeWindows = Callable[[tuple[Window, ...], MakeRoom], list[_Encoded]]
"""Windows to what is kept of those that are not air."""

_CutSlab = Callable[[list[_Encoded], int, int], None]
"""What is kept, and from where to where along the tiling's axis."""


class Predictor:
    """Runs a network over whole volumes.

    Args:
        network: In evaluation mode, on `device`.
        config: Window, overlap, threshold.
        device: Where the network is.
        encode: What computes the network's windows; the network itself when left out.
        bf16: The same in bf16, for scans that bear it (`voxicon.infer.precision`); none of them when left out.

    Attributes:
        ladder: How much is done at once and where, as far as the device's memory has allowed so far.

    Raises:
        CheckpointError: The window is not a multiple of what the backbone needs.
    """

    def __init__(
        self,
        network: UniversalNetwork,
        config: InferenceConfig,
        device: torch.device,
        encode: Encode | None = None,
        bf16: Encode | None = None,
    ) -> None:
        multiple = network.size_multiple
        if any(n % multiple for n in config.window):
            raise CheckpointError(f"window {config.window} is not a multiple of {multiple} along each axis")
        self.network, self.config = network, config
        self.ladder = Ladder(device, config.batch, partial(copied_to_cpu, network))
        self._encode_windows = network.encode if encode is None else encode
        self._bf16 = bf16

    @torch.inference_mode()
    def predict(
        self,
        image: NDArray[np.float32],
        geometry: Geometry,
        classes: tuple[str, ...],
        progress: Progress = lambda done, total: None,
        probabilities_of: tuple[str, ...] = (),
        within: tuple[Box, ...] | None = None,
    ) -> Prediction:
        """One mask per class where the blended probability exceeds the threshold, and some of the probabilities.

        Args:
            image: (X, Y, Z) float32 in [0, 1] on `geometry`, or (C, X, Y, Z) for a network of C inputs, as
                `voxicon.model.host.against_host` gives it. May be smaller than a window: it is then padded and the
                masks are cut back.
            geometry: The model grid.
            classes: Which classes, in order; none gives an empty mask set.
            progress: Told of every finished window. Windows that hold only air, or with an organ nothing of it, are
                counted but not computed.
            probabilities_of: Those of `classes` whose probabilities are kept, one byte per voxel each. The
                masks do not depend on it.
            within: Boxes of `geometry`: windows that touch none of them are not computed, as if they held only air.
                Inside of the boxes the answer does not depend on it.

        Raises:
            CheckpointError: The network has no word for a class.
            UnknownClass: Probabilities of a class that is not among `classes`.
        """
        strays = [name for name in probabilities_of if name not in classes]
        if strays:
            raise UnknownClass(
                f"probabilities of {', '.join(strays)}: not among the classes to predict "
                f"({', '.join(classes) or 'none'}); add them there too"
            )
        maps = {name: np.zeros(geometry.shape, dtype=np.uint8) for name in probabilities_of}
        answer = Prediction(MaskSet.empty(classes, geometry), maps)
        if not classes:
            return answer
        rows = self.network.rows_of(classes)
        padded, pads, tiling = self.lay(image)
        gate = self._gate(classes, rows, tiling.window)
        wanted = None if within is None else [_moved(box, pads) for box in within]
        encode = partial(self._encode, padded, wanted, rows, gate.encode)
        self._walk(tiling, encode, partial(self._cut, tiling, pads, answer), progress)
        told = gate.told()
        return replace(answer, precision=told, warnings=(*told.warnings, *self.ladder.warnings))

    def lay(self, image: NDArray[np.float32]) -> tuple[Tensor, Pads, Tiling]:
        """An image (..., X, Y, Z), padded where a window is larger; by how many voxels; and windows that cover it."""
        shape = (image.shape[-3], image.shape[-2], image.shape[-1])
        window = self.window_for(shape)
        pads = padding(shape, window)
        if any(map(any, pads)):
            image = np.pad(image, [(0, 0)] * (image.ndim - 3) + [*pads], mode=_PAD_MODE[self.config.padding])
        x, y, z = image.shape[-3:]
        return torch.from_numpy(image), pads, tile((x, y, z), window, self.config.overlap)

    def window_for(self, shape: Size) -> Size:
        """The window for a volume of a shape: the usual one, or one fitted to it (`voxicon.infer.windows.fitted`)."""
        # What pads with air, as the original does, must answer as the original does.
        if self.config.padding == "air":
            return self.config.window
        return fitted(self.config.window, shape, self.network.size_multiple)

    def _gate(self, classes: tuple[str, ...], rows: Rows, window: Size) -> PrecisionGate:
        """What computes the windows of one scan."""
        cuts = {name: self.config.cut_of(name) for name in classes}
        decode = partial(self.network.decode, maps_of=self.network.maps_of(rows))
        # Another engine was made, and proven, for the usual window.
        if window == self.config.window:
            return PrecisionGate(self._encode_windows, self._bf16, decode, cuts)
        without = "" if self._bf16 is None else "a window fitted to a thin scan is computed in fp32"
        return PrecisionGate(self.network.encode, None, decode, cuts, without)

    def _walk(self, tiling: Tiling, encode: _EncodeWindows, cut: _CutSlab, progress: Progress) -> None:
        """Row by row: encode its windows, cut the slab that no later row touches, let go of what none needs."""
        kept: list[_Encoded] = []

        def make_room() -> None:
            kept[:] = [encoded.to(self.ladder.stitching) for encoded in kept]

        done = 0
        for row, windows in enumerate(tiling.rows):
            for first in range(0, len(windows), self.config.batch):
                batch = windows[first : first + self.config.batch]
                kept.extend(encode(batch, make_room))
                done += len(batch)
                progress(done, tiling.n_windows)
            low, high = tiling.finished(row)
            self.ladder.stitch(partial(cut, kept, low, high), make_room)
            kept[:] = [e for e in kept if e.window.start[tiling.axis] + e.window.size[tiling.axis] > high]

    def _encode(
        self,
        image: Tensor,
        wanted: list[Box] | None,
        rows: Rows,
        encode: Encode,
        windows: tuple[Window, ...],
        make_room: MakeRoom,
    ) -> list[_Encoded]:
        looked_at = [w for w in windows if wanted is None or touches(w.start, w.size, wanted)]
        channels = image if image.ndim == 4 else image[None]
        patches = [(w, channels[(slice(None), *w.to_slices())]) for w in looked_at]
        # The last channel: the scan, which is 0 in air, or the organ, without which there is nothing to look into.
        patches = [(w, patch) for w, patch in patches if patch[-1].max() > 0]
        if not patches:
            return []
        stacked = torch.stack([patch for _, patch in patches])
        maps, parameters = self.ladder.encode(encode, stacked, rows, make_room)
        maps_of = self.network.maps_of(rows)
        return [_Encoded(w, maps[i], parameters[i], maps_of) for i, (w, _) in enumerate(patches)]

    def _cut(
        self,
        tiling: Tiling,
        pads: Pads,
        answer: Prediction,
        kept: list[_Encoded],
        low: int,
        high: int,
    ) -> None:
        """Blend, threshold and store the slab [low, high) along the tiling's axis; twice does no harm."""
        device = self.ladder.stitching
        begin, shape = [0, 0, 0], list(tiling.shape)
        begin[tiling.axis], shape[tiling.axis] = low, high - low
        pieces = [_overlap(e.window, begin, shape) for e in kept]
        weights = torch.from_numpy(blend_weights(tiling.window)).to(device)
        total = torch.zeros(shape, device=device)
        for inner, outer in pieces:
            total[outer] += weights[inner]
        names = answer.masks.names
        at, of = unpadded(begin, shape, pads, answer.masks.geometry.shape)
        for first in range(0, len(names), CLASS_CHUNK):
            chunk = slice(first, min(first + CLASS_CHUNK, len(names)))
            blended = torch.zeros((chunk.stop - chunk.start, *shape), device=device)
            for encoded, (inner, outer) in zip(kept, pieces, strict=True):
                logits = self._logits(encoded, inner, chunk, answer.masks)
                blended[(slice(None), *outer)] += logits * weights[inner]
            for offset, name in enumerate(names[chunk]):
                # Comparing weighted sums spares the division by the weights.
                found = blended[offset] > self.config.cut_of(name) * total
                _set_bit(found.cpu().numpy()[of], first + offset, at, answer.masks)
                if name in answer.probabilities:
                    answer.probabilities[name][at] = _levels(blended[offset], total)[of]

    def _logits(self, encoded: _Encoded, inner: Box, chunk: slice, masks: MaskSet) -> Tensor:
        """(n, x, y, z) float32 of some classes in a part of a window, smoothed as far as the window has neighbors."""
        spacing_mm = masks.geometry.spacing_mm
        sigmas_mm = [self.config.smoothing_mm.get(name, 0.0) for name in masks.names[chunk]]
        wider, back = _widened(inner, reach_of(max(sigmas_mm), spacing_mm), encoded.window.size)
        part = encoded.maps_MXYZ[(slice(None), *wider)][None]
        logits = self.network.decode(part, encoded.parameters_NP[None, chunk], encoded.maps_of[chunk])[0].float()
        for each, sigma_mm in zip(logits, sigmas_mm, strict=True):
            if sigma_mm:
                each.copy_(smooth(each, sigma_mm, spacing_mm))
        return logits[(slice(None), *back)]


def _moved(box: Box, pads: Pads) -> Box:
    """A box of a volume, in voxels of the padded volume."""
    x, y, z = (slice(side.start + before, side.stop + before) for side, (before, _) in zip(box, pads, strict=True))
    return x, y, z


def _widened(inner: Box, reach: Size, window: Size) -> tuple[Box, Box]:
    """A part of a window with its neighbors, and where the part lies in that."""
    low = [max(0, cut.start - by) for cut, by in zip(inner, reach, strict=True)]
    high = [min(n, cut.stop + by) for cut, by, n in zip(inner, reach, window, strict=True)]
    wider = [slice(a, b) for a, b in zip(low, high, strict=True)]
    back = [slice(cut.start - a, cut.stop - a) for cut, a in zip(inner, low, strict=True)]
    return (wider[0], wider[1], wider[2]), (back[0], back[1], back[2])


def _overlap(window: Window, begin: list[int], shape: list[int]) -> tuple[Box, Box]:
    """Where a window and a slab meet, in window voxels and in slab voxels."""
    inner, outer = [], []
    for axis in range(3):
        low = max(window.start[axis], begin[axis])
        high = min(window.start[axis] + window.size[axis], begin[axis] + shape[axis])
        inner.append(slice(low - window.start[axis], high - window.start[axis]))
        outer.append(slice(low - begin[axis], high - begin[axis]))
    return (inner[0], inner[1], inner[2]), (outer[0], outer[1], outer[2])


def _set_bit(found: NDArray[np.bool_], index: int, at: Box, masks: MaskSet) -> None:
    """Set the bit of a class in a box."""
    word, bit = divmod(index, BITS_PER_WORD)
    target = masks.words[word][at]
    np.bitwise_or(target, np.uint32(1 << bit), out=target, where=found)


def _levels(blended: Tensor, total: Tensor) -> NDArray[np.uint8]:
    """Weighted sums of logits to levels of probability; `blended` is used up, which spares a second float map."""
    blended.div_(total).sigmoid_().mul_(LEVELS).round_()
    # Where no weight lies, only windows of air do; NaN from 0 / 0 becomes some integer or other, by processor.
    levels: NDArray[np.uint8] = blended.masked_fill_(total == 0, 0).to(torch.uint8).cpu().numpy()
    return levels
