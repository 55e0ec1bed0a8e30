"""Scans ready for training, and the patches cut from them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from voxicon.core.geometry import Geometry
from voxicon.core.volume import AIR_HU, Volume
from voxicon.data.card import DatasetCard
from voxicon.data.harmonise import Targets
from voxicon.errors import ConfigError
from voxicon.prep.labels import averaged_masks, nearest_labels
from voxicon.prep.pipeline import model_grid
from voxicon.prep.resample import resample_values
from voxicon.train.augment import (
    GAS_HU,
    AugmentConfig,
    apply_paint,
    degrade,
    draw_chance,
    draw_cut,
    draw_paint,
    draw_uniform,
    draw_warp,
    warp_labels,
    warp_values,
)

MOST_CLASSES = 64
"""Bits of the integer that holds a voxel's classes while a patch is warped."""


@dataclass(frozen=True, eq=False)
class TrainingCase:
    """One scan on the model grid, in HU, with what is known about it.

    Attributes:
        name: For the log.
        hu_XYZ: float32 HU.
        words_XYZ: int64 mask bits; class i is bit i.
        structure_XYZ: int16 raw label values, for repainting.
        known_N: bool, one per class.
        present: For every known class that has voxels: its index and its voxel coordinates (K, 3).
        mean_hu: Raw value → mean HU of that structure, gas left out.
        paint_hu: Raw value → range of mean HU it may be repainted to.
    """

    name: str
    hu_XYZ: Tensor
    words_XYZ: Tensor
    structure_XYZ: Tensor
    known_N: Tensor
    present: Mapping[int, Tensor]
    mean_hu: Mapping[int, float]
    paint_hu: Mapping[int, tuple[float, float]]


@dataclass(frozen=True)
class PatchBatch:
    """What one training step reads: image in HU, targets, and which of them count."""

    hu_B1XYZ: Tensor
    target_BNXYZ: Tensor
    known_BN: Tensor


def build_case(
    volume: Volume,
    labels: tuple[np.ndarray, Geometry],
    card: DatasetCard,
    targets: Targets,
    spacing_mm: float,
    paint_hu: Mapping[str, tuple[float, float]],
) -> TrainingCase:
    """Bring a scan and its labels to the model grid.

    Args:
        volume: The scan.
        labels: Raw label map and its grid, which must be the scan's.
        card: What the raw values mean.
        targets: The label map in our classes, on the scan's grid.
        spacing_mm: Voxel size of the model grid.
        paint_hu: Raw structure name, or the start of one, → range of HU for repainting.

    Raises:
        ConfigError: Scan and label map are on different grids, or there are more than `MOST_CLASSES` classes.
    """
    raw, grid = labels
    if not grid.same_grid(volume.geometry):
        raise ConfigError(
            f"{card.id}: the label map's grid {grid.shape} at {grid.spacing_mm} mm is not the scan's "
            f"{volume.geometry.shape} at {volume.geometry.spacing_mm} mm"
        )
    model = model_grid(volume.geometry, (spacing_mm,) * 3)
    hu = resample_values(volume.hu, grid, model, antialias=True, outside=AIR_HU)
    names = targets.masks.names
    if len(names) > MOST_CLASSES:
        raise ConfigError(
            f"{card.id}: {len(names)} classes asked for, training holds at most {MOST_CLASSES}; ask for fewer"
        )
    coarse = averaged_masks(targets.masks, model)
    # Nearest look-up is good enough for structures that only say where to repaint.
    structure = nearest_labels(raw, grid, model)
    ranges = {
        value: tuple(span)
        for value, structure_name in card.raw.items()
        for prefix, span in paint_hu.items()
        if structure_name.startswith(prefix)
    }
    solid = hu > GAS_HU
    means = {v: float(hu[(structure == v) & solid].mean()) for v in ranges if ((structure == v) & solid).any()}
    present = {i: np.argwhere(coarse[name]) for i, name in enumerate(names) if name in targets.known}
    words = coarse.words.astype(np.int64)
    return TrainingCase(
        name=card.id,
        hu_XYZ=torch.from_numpy(np.ascontiguousarray(hu)),
        words_XYZ=torch.from_numpy(sum(words[w] << (32 * w) for w in range(1, len(words))) + words[0]),
        structure_XYZ=torch.from_numpy(structure),
        known_N=torch.tensor([name in targets.known for name in names]),
        present={i: torch.from_numpy(found) for i, found in present.items() if len(found)},
        mean_hu=means,
        paint_hu={v: (span[0], span[1]) for v, span in ranges.items() if v in means},
    )


class PatchSampler:
    """Cuts augmented patches; the same (seed, step) gives the same patch, on any run.

    Args:
        cases: At least one.
        size_XYZ: Voxels of a patch.
        spacing_mm: Voxel size.
        augment: How far patches may stray.
        seed: Of the whole run.
        class_share: Share of patches centered on a class drawn evenly among those present, so that
            small organs are seen as often as large ones; the others fall anywhere.
    """

    def __init__(
        self,
        cases: list[TrainingCase],
        size_XYZ: tuple[int, int, int],
        spacing_mm: float,
        augment: AugmentConfig,
        seed: int,
        class_share: float = 0.7,
    ) -> None:
        self.cases = cases
        self.size_XYZ = size_XYZ
        self.spacing_mm = spacing_mm
        self.augment = augment
        self.seed = seed
        self.class_share = class_share

    def batch(self, step: int, n: int) -> PatchBatch:
        """The `n` patches of a step."""
        generator = torch.Generator().manual_seed((self.seed << 32) + step)
        patches = [self._patch(generator) for _ in range(n)]
        hu, target, known = (torch.stack(parts) for parts in zip(*patches, strict=True))
        return PatchBatch(hu[:, None], target, known)

    def _patch(self, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        case = self.cases[int(torch.randint(0, len(self.cases), (), generator=generator))]
        warp = draw_warp(self.augment, generator, self._center(case, generator), self.size_XYZ, self.spacing_mm)
        hu = warp_values(case.hu_XYZ, warp)
        words = warp_labels(case.words_XYZ, warp)
        if draw_chance(generator, self.augment.repaint):
            n_values = int(case.structure_XYZ.max()) + 1
            paintable = {v: span for v, span in case.paint_hu.items() if v < n_values}
            offsets = draw_paint(generator, case.mean_hu, paintable, n_values)
            hu = apply_paint(hu, warp_labels(case.structure_XYZ, warp), offsets)
        hu = degrade(hu, self.augment, generator)
        cut = draw_cut(self.augment, generator, self.size_XYZ)
        if cut is not None:
            hu[cut] = AIR_HU
            words[cut] = 0
        target = torch.stack([(words >> i) & 1 for i in range(len(case.known_N))]).bool()
        return hu, target, case.known_N

    def _center(self, case: TrainingCase, generator: torch.Generator) -> tuple[float, float, float]:
        """Near a voxel of a class, or anywhere; moved so that little of the patch leaves the scan."""
        if case.present and draw_chance(generator, self.class_share):
            classes = sorted(case.present)
            voxels = case.present[classes[int(torch.randint(0, len(classes), (), generator=generator))]]
            at = voxels[int(torch.randint(0, len(voxels), (), generator=generator))].tolist()
        else:
            at = [draw_uniform(generator, 0, n) for n in case.hu_XYZ.shape]
        center = []
        for place, size, n in zip(at, self.size_XYZ, case.hu_XYZ.shape, strict=True):
            shifted = place + draw_uniform(generator, -0.3, 0.3) * size
            margin = 0.4 * size
            center.append(min(max(shifted, margin), n - margin) if n > 2 * margin else n / 2)
        return center[0], center[1], center[2]
