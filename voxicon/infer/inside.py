"""A second look: lesions, found by a network that looks into the organs that the first network found.

A lesion that differs from its organ by a few HU is next to nothing on the scale of a whole scan. So a second network
reads each organ by itself, cut out of the prepared scan: how much every voxel differs from the organ's median, and how
likely it is of that organ (`voxicon.model.host`). Which organs those are, its hosts, the vocabulary says: the parents
of the lesion. Classes with the same hosts are looked for together, and several hosts, as both kidneys, are one.

What lies outside of the hosts is dropped, but for a rim: an organ's border is where the first network errs, and a
lesion there may well be left out of it. How deep a finding must reach to count, the weights say (`depth_mm`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from voxicon.core.components import Box, Mask, crop, largest, put
from voxicon.core.concepts import Vocabulary
from voxicon.core.geometry import Geometry
from voxicon.core.masks import MaskSet, word_count
from voxicon.errors import CheckpointError
from voxicon.infer.cleanup import INSIDE_MARGIN_MM, without_holes
from voxicon.infer.depth import deep_in, levels_reaching, reaching
from voxicon.infer.device import windows_at_once
from voxicon.infer.memory import waiting_bytes
from voxicon.infer.predictor import LEVELS, Prediction, Predictor, Progress
from voxicon.infer.settings import hosts_inside, inference_config
from voxicon.infer.windows import Size, tile
from voxicon.model.checkpoint import Checkpoint
from voxicon.model.head import HIDDEN
from voxicon.model.host import against_host
from voxicon.prep.pipeline import PreparationConfig
from voxicon.prep.restore import crop_geometry

AROUND_MM = 30.0
"""What is read around a host. Own choice, as `voxicon.infer.locate.MARGIN_MM`: ten voxels of the starter weights."""

LEAST_HOST = 0.2
"""Probability of the host from which on a voxel may hold a lesion. Own choice: well below one half, as a lesion makes
its organ less likely."""

DEPTH_BYTES = 32
"""Per voxel of a host's box, to tell depth: three int32 and a float64 of the distance transform, labels, and masks."""

Levels = Mapping[str, NDArray[np.uint8]]


@dataclass(frozen=True)
class _View:
    """Some hosts, taken as one, in the box that is read of a scan; and the classes to be looked for in them."""

    classes: tuple[str, ...]
    box: Box
    host: NDArray[np.uint8]
    """Levels of probability in the box."""


class SecondLook:
    """Finds lesions in organs that were found before.

    Args:
        checkpoint: One with a network inside.
        vocabulary: Names the hosts.
        device: Where to compute; torch does, in fp32.
        overlap: Of windows; what the weights say when left out.

    Attributes:
        classes: Canonical names of what it finds, in id order: those it was trained for that have a host among the
            classes of the first network. Others are left out.
        inference: How its windows are laid and cut.
        predictor: Runs it over what was cut out.

    Raises:
        CheckpointError: There is no network inside, or what it says of inference or preparation makes no sense.
    """

    def __init__(
        self, checkpoint: Checkpoint, vocabulary: Vocabulary, device: torch.device, overlap: float | None = None
    ) -> None:
        metadata = checkpoint.metadata.inside
        if checkpoint.inside is None or metadata is None:
            raise CheckpointError("these weights hold one network alone; 'voxicon weights join' puts another inside")
        self._hosts, self._vocabulary = hosts_inside(checkpoint.metadata, vocabulary), vocabulary
        self.classes = tuple(self._hosts)
        self._window_hu = PreparationConfig.from_dict(metadata.preparation).window_hu
        network = checkpoint.inside.to(device).eval()
        inference = inference_config(metadata.inference)
        if "batch" not in metadata.inference:
            inference = replace(inference, batch=windows_at_once(device, network.window_bytes(inference.window)))
        self.inference = inference if overlap is None else replace(inference, overlap=overlap)
        self.predictor = Predictor(network, self.inference, device)

    def hosts_of(self, classes: Iterable[str]) -> tuple[str, ...]:
        """The organs that must have been found to look for some of `classes`, each once."""
        return tuple(dict.fromkeys(host for name in classes for host in self._hosts[name]))

    def without_strays(self, host: str, levels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Levels of a host that was found, without what is elsewhere mistaken for it if cleanup leaves it one piece.

        Strays would be looked into, and their gray count in the median.
        """
        likely = levels > LEVELS / 2
        if self._vocabulary[host].cleanup.rule != "largest" or not likely.any():
            return levels
        return np.where(likely & ~largest(likely), 0, levels).astype(np.uint8)

    def look(
        self,
        image: NDArray[np.float32],
        geometry: Geometry,
        host_levels: Levels,
        classes: Sequence[str],
        probabilities_of: Sequence[str] = (),
        progress: Progress = lambda done, total: None,
    ) -> Prediction:
        """Masks of some classes, and some of the probabilities, in the whole of a prepared scan.

        Args:
            image: (X, Y, Z) float32 in [0, 1], as the first network read it.
            geometry: Its grid.
            host_levels: Of each of `hosts_of` the classes: (X, Y, Z) uint8, 255 times the probability.
            classes: Some of `classes`, in the order wanted.
            probabilities_of: Some of those.
            progress: Called with windows done and windows in all. Never, if no host is there.

        Returns:
            What lies in a host: where its probability is `LEAST_HOST` or more, within `INSIDE_MARGIN_MM` of where it is
            likelier than not, or enclosed by those. Elsewhere, and where there is no such host, masks are empty and
            probabilities 0. Of a class with a `depth_mm`, only findings that reach so deep, with a `peaks` only those
            that are so likely somewhere, there if there is a depth; and probabilities as
            `voxicon.infer.depth.levels_reaching` lowers them.
        """
        masks = MaskSet.empty(classes, geometry)
        maps = {name: np.zeros(geometry.shape, dtype=np.uint8) for name in probabilities_of}
        views = list(self._views(geometry, host_levels, classes))
        done, total = 0, sum(self._n_windows(view.host.shape) for view in views)
        for view in views:
            found = self._looked_into(view, image, geometry, probabilities_of, _further(progress, done, total))
            allowed = _allowed(view.host, geometry)
            x, y, z = view.host.shape
            for name in view.classes:
                levels = found.probabilities.get(name)
                core = self._core(name, view.host, levels, geometry)
                mask = crop(found.masks, name, (slice(0, x), slice(0, y), slice(0, z))) & allowed
                put(masks, name, view.box, mask if core is None else reaching(mask, core))
                if name in maps and levels is not None:
                    maps[name][view.box] = levels * allowed if core is None else levels_reaching(levels * allowed, core)
            done += self._n_windows(view.host.shape)
        return Prediction(masks, maps, warnings=self.predictor.ladder.warnings)

    def memory_bytes(self, shape: Size, n_classes: int, n_maps: int) -> int:
        """What a look takes at most on a model grid of some shape, beside the scan and what was found before.

        Hosts are taken to fill the grid. There are two channels to read, once more as they are made or padded; masks
        and levels, once in the box and once for the whole; levels to tell peaks by; the host, and what is allowed.
        Depth is told when the windows are through.
        """
        voxels = math.prod(shape)
        window = self.predictor.window_for(shape)
        computing = self.predictor.network.window_bytes(window)
        computing += waiting_bytes(shape, window, self.inference.overlap, HIDDEN * self._heads())
        depth = voxels * DEPTH_BYTES if self.inference.depth_mm else 0
        maps = 2 * n_maps + len(self.inference.peaks)
        return max(computing, depth) + voxels * (2 * 2 * 4 + 2 * 4 * word_count(n_classes) + maps + 2)

    def settings(self) -> dict[str, Any]:
        """Plain data for ``case.json``."""
        return {"classes": list(self.classes), **self.inference.to_dict()}

    def _heads(self) -> int:
        network = self.predictor.network
        return len(set(network.heads_of(network.rows_of(self.classes))))

    def _views(self, geometry: Geometry, host_levels: Levels, classes: Sequence[str]) -> Iterable[_View]:
        """One for all classes of the same hosts, and none where these are nowhere likelier than not."""
        together: dict[tuple[str, ...], list[str]] = {}
        for name in classes:
            together.setdefault(self._hosts[name], []).append(name)
        for hosts, names in together.items():
            host = np.maximum.reduce([host_levels[name] for name in hosts])
            box = _box_of(host > LEVELS / 2, geometry)
            if box is not None:
                yield _View(tuple(names), box, host[box])

    def _core(
        self, name: str, host: NDArray[np.uint8], levels: NDArray[np.uint8] | None, geometry: Geometry
    ) -> Mask | None:
        """Where a finding of a class must have a part; None if anywhere will do.

        What a host encloses is of it: a large lesion may be missing from its organ.
        """
        depth_mm, peak = self.inference.depth_mm.get(name, 0.0), self.inference.peaks.get(name)
        core = deep_in(without_holes(host > LEVELS / 2), depth_mm, geometry.spacing_mm) if depth_mm > 0 else None
        if peak is None or levels is None:
            return core
        sure: Mask = levels >= peak * LEVELS
        return sure if core is None else core & sure

    def _n_windows(self, shape: tuple[int, ...]) -> int:
        size = (shape[0], shape[1], shape[2])
        window = self.predictor.window_for(size)
        x, y, z = (max(n, w) for n, w in zip(size, window, strict=True))
        return tile((x, y, z), window, self.inference.overlap).n_windows

    def _looked_into(
        self,
        view: _View,
        image: NDArray[np.float32],
        geometry: Geometry,
        probabilities_of: Sequence[str],
        progress: Progress,
    ) -> Prediction:
        low, high = self._window_hu
        hu = torch.from_numpy(image[view.box] * np.float32(high - low) + np.float32(low))
        # The median is that of the whole organ, not of the part that a window happens to hold.
        seen = against_host(hu, torch.from_numpy(view.host.astype(np.float32) / LEVELS)).numpy()
        maps = tuple(name for name in view.classes if name in probabilities_of or name in self.inference.peaks)
        return self.predictor.predict(seen, crop_geometry(geometry, view.box), view.classes, progress, maps)


def _box_of(mask: Mask, geometry: Geometry) -> Box | None:
    """The box around a mask, `AROUND_MM` larger on each side and cut at the grid's edge; None for an empty mask."""
    sides = []
    for axis, step in enumerate(geometry.spacing_mm):
        hits = np.flatnonzero(mask.any(axis=tuple(other for other in range(3) if other != axis)))
        if not len(hits):
            return None
        margin = math.ceil(AROUND_MM / step)
        sides.append(slice(max(0, int(hits[0]) - margin), min(mask.shape[axis], int(hits[-1]) + 1 + margin)))
    return sides[0], sides[1], sides[2]


def _allowed(host: NDArray[np.uint8], geometry: Geometry) -> Mask:
    """Where a lesion of a host may lie, by the host's levels; see `SecondLook.look`."""
    margin = [max(1, round(INSIDE_MARGIN_MM / step)) for step in geometry.spacing_mm]
    likely = (host > LEVELS / 2).view(np.uint8)
    near = ndimage.maximum_filter(likely, size=[2 * voxels + 1 for voxels in margin], mode="constant").view(bool)
    # A large lesion may be missing from its organ altogether, and is then a hole in it.
    return without_holes(near | (host >= round(LEAST_HOST * LEVELS)))


def _further(progress: Progress, before: int, total: int) -> Callable[[int, int], None]:
    """Progress of a part of the windows, told as that of all."""
    return lambda done, _: progress(before + done, total)
