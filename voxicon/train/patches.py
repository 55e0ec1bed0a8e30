"""Patches cut from prepared scans: which scan, which place, then warped, repainted and degraded.

Patch *i* of step *n* depends on the seed, *n* and *i* alone. So a resumed run sees what an uninterrupted
one sees, and two processes that share a step between them see what one process would see.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from voxicon.core.components import Mask
from voxicon.core.masks import BITS_PER_WORD
from voxicon.core.volume import AIR_HU
from voxicon.errors import ConfigError
from voxicon.train.augment import (
    AugmentConfig,
    Warp,
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
from voxicon.train.cases import Sliceable, TrainingCase
from voxicon.train.fat import with_fat
from voxicon.train.hosts import Hosts
from voxicon.train.planting import Planter
from voxicon.train.streaks import streaked

_MARGIN = 0.4
"""A patch's middle keeps this share of the patch away from the border of the scan, so most of it is scan."""


class SamplingConfig(BaseModel):
    """How scans and places are chosen.

    - ``datasets``: ``proportional`` draws every scan equally often; ``uniform`` every dataset equally often, or by its
      weight, as the original does; ``balanced`` draws a class evenly among all that occur, then a dataset and a scan
      that have it, so that the long tail of rare classes is seen as often as the liver.
    - ``centers``: ``card`` draws background, foreground, organ or lesion in the shares of the dataset's card;
      ``classes`` draws evenly among the classes present. ``balanced`` centers on the class it drew.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    datasets: Literal["proportional", "uniform", "balanced"] = "proportional"
    centers: Literal["card", "classes"] = "card"
    class_share: float = Field(0.7, ge=0, le=1)
    """Share of patches centered on a class under ``classes`` and ``balanced``; the others fall anywhere."""
    jitter: float = Field(0.3, ge=0, le=0.5)
    """How far, as a share of the patch, the middle may lie from the voxel drawn."""
    absent: float = Field(1.0, ge=0, le=1)
    """Share of the classes known to be absent from a patch that count in its loss. Most classes are absent from most
    patches; with fewer of them a step costs less and present classes weigh more."""


@dataclass(frozen=True)
class PatchBatch:
    """What one training step reads: image in HU, targets, and which of them count.

    `host_B1XYZ` is the organ that is looked into, as a probability, for networks that read one.
    """

    hu_B1XYZ: Tensor
    target_BNXYZ: Tensor
    known_BN: Tensor
    host_B1XYZ: Tensor | None = None


@dataclass(frozen=True)
class Pool:
    """What patches are cut from.

    Attributes:
        cases: At least one, all with the same classes.
        datasets: For every case a number that says which dataset it is from.
        weights: Dataset → how often it is drawn under ``uniform``, compared with the others; 1 where left out.
        lesion_N: Which classes are lesions, for the shares of a card; none by default.

    Raises:
        ConfigError: No case.
    """

    cases: Sequence[TrainingCase]
    datasets: Sequence[int]
    weights: Mapping[int, float] = field(default_factory=dict)
    lesion_N: NDArray[np.bool_] | None = None

    def __post_init__(self) -> None:
        if not self.cases:
            raise ConfigError("no scan to train on; check the splits and what the datasets annotate")


class PatchSampler:
    """Cuts augmented patches.

    Args:
        pool: What from.
        size_XYZ: Voxels of a patch.
        spacing_mm: Voxel size.
        augment: How far patches may stray.
        sampling: How scans and places are chosen.
        seed: Of the whole run.
        planter: Plants lesions into the patches; none by default.
        hosts: Chooses the organ that a patch is looked into, of whose lesions alone the patch then tells; none by
            default.
    """

    def __init__(
        self,
        pool: Pool,
        size_XYZ: tuple[int, int, int],
        spacing_mm: float,
        augment: AugmentConfig,
        sampling: SamplingConfig,
        seed: int,
        planter: Planter | None = None,
        hosts: Hosts | None = None,
    ) -> None:
        cases, datasets = pool.cases, pool.datasets
        self.cases, self.size_XYZ, self.spacing_mm = cases, size_XYZ, spacing_mm
        self.augment, self.sampling, self.seed = augment, sampling, seed
        self.planter, self.hosts = planter, hosts
        n_classes = len(cases[0].known_N)
        self.lesion_N = np.zeros(n_classes, dtype=bool) if pool.lesion_N is None else pool.lesion_N
        groups = sorted(set(datasets))
        self._by_dataset = [[i for i, d in enumerate(datasets) if d == group] for group in groups]
        self._weights = [pool.weights.get(group, 1.0) for group in groups]
        self._dataset_of = list(datasets)
        self._holders = {n: [i for i, case in enumerate(cases) if n in case.centers] for n in range(n_classes)}
        self._holders = {n: holders for n, holders in self._holders.items() if holders}

    def batch(self, step: int, numbers: Iterable[int]) -> PatchBatch:
        """Some of the patches of a step, counted from 0."""
        patches = [self._patch(self._generator(step, number)) for number in numbers]
        hu, target, known, host = (torch.stack(parts) for parts in zip(*patches, strict=True))
        return PatchBatch(hu[:, None], target, known, None if self.hosts is None else host[:, None])

    def _generator(self, step: int, number: int) -> torch.Generator:
        # Neighbouring seeds of one generator are not independent; a hash of them is.
        digest = hashlib.sha256(f"{self.seed} {step} {number}".encode()).digest()
        return torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))

    def _patch(self, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        case, drawn = self._case(generator)
        zoom = case.traits.zoom
        enlarged = draw_uniform(generator, zoom.low, zoom.high) if zoom and draw_chance(generator, zoom.chance) else 1.0
        center = self._center(case, drawn, enlarged, generator)
        warp = draw_warp(self.augment, generator, center, self.size_XYZ, self.spacing_mm, enlarged)
        box, local = _near(warp, case.hu_XYZ.shape)
        hu = warp_values(_tensor(case.hu_XYZ, box).float(), local)
        words = warp_labels(_tensor(case.words_WXYZ, (slice(None), *box)).to(torch.int64), local)
        if case.traits.paint_hu and draw_chance(generator, self.augment.repaint):
            structure = warp_labels(_tensor(case.structure_XYZ, box), local)
            n_values = max(case.traits.paint_hu) + 1
            paint = draw_paint(generator, case.mean_hu, case.traits.paint_hu, n_values, self.augment.flatten)
            hu = apply_paint(hu, torch.where(structure < n_values, structure, 0), paint)
        # Class by class to bool: all of them as integers are a hundred megabytes.
        target = torch.empty((len(case.known_N), *self.size_XYZ), dtype=torch.bool)
        for i, target_XYZ in enumerate(target):
            torch.ne(words[i // BITS_PER_WORD] & (1 << i % BITS_PER_WORD), 0, out=target_XYZ)
        if self.planter is not None:
            chance = _chance(generator)
            self.planter.plant(hu.numpy(), target.numpy(), case.known_N, self.spacing_mm, chance)
        if self.augment.fat and draw_chance(generator, self.augment.fat):
            hu = self._fatty(hu, target.numpy(), _chance(generator))
        if self.augment.streaks and draw_chance(generator, self.augment.streaks):
            hu = self._streaked(hu, target, _chance(generator))
        hu = degrade(hu, self.augment, generator)
        cut = draw_cut(self.augment, generator, self.size_XYZ)
        if cut is not None:
            hu[cut] = AIR_HU
            target[(slice(None), *cut)] = False
        if self.hosts is None:
            return hu, target, self._counted(torch.from_numpy(case.known_N), target, generator), hu
        chance = _chance(generator)
        host, known_N = self.hosts.choose(hu.numpy(), target.numpy(), case.known_N, self.spacing_mm, chance)
        return hu, target, torch.from_numpy(known_N), torch.from_numpy(host)

    def _fatty(self, hu: Tensor, target_NXYZ: Mask, rng: np.random.Generator) -> Tensor:
        """Pockets of fat in what is of any class, lesions spared."""
        organ_XYZ: Mask = np.logical_or.reduce(target_NXYZ)
        lesion_XYZ: Mask = np.logical_or.reduce(target_NXYZ[self.lesion_N])
        return torch.from_numpy(with_fat(hu.numpy(), organ_XYZ, lesion_XYZ, self.spacing_mm, rng))

    def _streaked(self, hu: Tensor, target_NXYZ: Tensor, rng: np.random.Generator) -> Tensor:
        """Bands across a voxel of any class, or across the middle."""
        there = np.argwhere(target_NXYZ.numpy().any(axis=0))
        x, y, z = there[rng.integers(len(there))].tolist() if len(there) else [n / 2 for n in hu.shape]
        return torch.from_numpy(streaked(hu.numpy(), (x, y, z), self.spacing_mm, rng))

    def _counted(self, known_N: Tensor, target_NXYZ: Tensor, generator: torch.Generator) -> Tensor:
        """Which classes of a patch count: all known ones that are there, and a share of those that are not."""
        if self.sampling.absent >= 1:
            return known_N
        drawn_N = torch.rand(len(known_N), generator=generator) < self.sampling.absent
        return known_N & (target_NXYZ.flatten(1).any(1) | drawn_N)

    def _case(self, generator: torch.Generator) -> tuple[TrainingCase, int | None]:
        """A scan, and the class it was drawn for if there is one."""
        if self.sampling.datasets == "balanced" and self._holders and draw_chance(generator, self.sampling.class_share):
            drawn = _pick(sorted(self._holders), generator)
            holders = self._holders[drawn]
            dataset = _pick(sorted({self._dataset_of[i] for i in holders}), generator)
            return self.cases[_pick([i for i in holders if self._dataset_of[i] == dataset], generator)], drawn
        if self.sampling.datasets == "proportional":
            return self.cases[_pick(range(len(self.cases)), generator)], None
        members = self._by_dataset[_weighted(self._weights, generator)]
        return self.cases[_pick(members, generator)], None

    def _center(
        self, case: TrainingCase, drawn: int | None, zoom: float, generator: torch.Generator
    ) -> tuple[float, float, float]:
        """The middle of the patch in voxels, moved so that little of the patch leaves the scan."""
        if drawn is not None:
            at = _pick(case.centers[drawn], generator).tolist()
        elif self.sampling.datasets == "balanced":
            at = _anywhere(case, generator)
        elif self.sampling.centers == "card":
            at = self._by_card(case, generator)
        elif case.centers and draw_chance(generator, self.sampling.class_share):
            at = _pick(case.centers[_pick(sorted(case.centers), generator)], generator).tolist()
        else:
            at = _anywhere(case, generator)
        center = []
        for place, size, n in zip(at, self.size_XYZ, case.hu_XYZ.shape, strict=True):
            # An enlarged patch shows less of the scan: what it is centered on must stay inside.
            shown = size / zoom
            shifted = place + draw_uniform(generator, -1, 1) * self.sampling.jitter * shown
            margin = _MARGIN * shown
            kept = min(max(shifted, margin), n - margin) if n > 2 * margin else n / 2
            # On the voxel grid, so that a patch that is not warped is not blurred either.
            center.append(round(kept - (size - 1) / 2) + (size - 1) / 2)
        return center[0], center[1], center[2]

    def _by_card(self, case: TrainingCase, generator: torch.Generator) -> list[float]:
        """A voxel of the background, the foreground, an organ or a lesion, in the shares of the card."""
        shares = case.traits.sampling
        inside = {
            "foreground": list(case.centers),
            "organ": [n for n in case.centers if not self.lesion_N[n]],
            "lesion": [n for n in case.centers if self.lesion_N[n]],
        }
        weights = {kind: getattr(shares, kind) for kind, classes in inside.items() if classes}
        if len(case.background):
            weights["background"] = shares.background
        if sum(weights.values()) <= 0:
            return _anywhere(case, generator)
        kind = list(weights)[_weighted(list(weights.values()), generator)]
        if kind == "background":
            return [float(v) for v in _pick(case.background, generator)]
        classes = inside[kind]
        drawn = classes[_weighted([float(case.count_N[n]) for n in classes], generator)]
        return [float(v) for v in _pick(case.centers[drawn], generator)]


def _chance(generator: torch.Generator) -> np.random.Generator:
    """A source of chance for NumPy that depends on the patch's own."""
    return np.random.default_rng(int(torch.randint(0, 1 << 31, (), generator=generator)))


def _pick(items: Any, generator: torch.Generator) -> Any:
    return items[int(torch.randint(0, len(items), (), generator=generator))]


def _weighted(weights: list[float], generator: torch.Generator) -> int:
    return int(torch.multinomial(torch.tensor(weights, dtype=torch.float64), 1, generator=generator))


def _anywhere(case: TrainingCase, generator: torch.Generator) -> list[float]:
    return [draw_uniform(generator, 0, n) for n in case.hu_XYZ.shape]


def _near(warp: Warp, shape: tuple[int, ...]) -> tuple[tuple[slice, slice, slice], Warp]:
    """The box of the scan that a warp looks at, and the warp in voxels of that box.

    Two voxels more than asked for, so that the box's own border is never taken for the scan's.
    """
    low = (warp.index_XYZ3.amin(dim=(0, 1, 2)).floor() - 2).long()
    high = (warp.index_XYZ3.amax(dim=(0, 1, 2)).ceil() + 3).long()
    start = [min(max(0, int(a)), n - 1) for a, n in zip(low, shape, strict=True)]
    stop = [max(min(n, int(b)), s + 1) for b, n, s in zip(high, shape, start, strict=True)]
    x, y, z = (slice(a, b) for a, b in zip(start, stop, strict=True))
    return (x, y, z), Warp(warp.index_XYZ3 - torch.tensor(start, dtype=torch.float32))


def _tensor(array: Sliceable, box: tuple[slice, ...]) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array[box]))
