"""What a painter works on: one patient, one volume, and the pieces of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from voxicon.core.volume import AIR_HU
from voxicon.synthesis.label_map import OUTSIDE, LabelMap
from voxicon.synthesis.painting.tissues import PHASES, find_tissue, tissue_table
from voxicon.synthesis.texture import smooth_noise

Floats = NDArray[np.float32]
AnyFloats = float | np.floating[Any] | NDArray[np.floating[Any]]
Box = tuple[slice, slice, slice]

_SHARED = 0.9
"""Share of a structure's deviation from the table that its whole group has; the rest makes unit variance."""

_FARTHEST = 2.0
"""No structure of a patient lies more SDs than this from the table."""

_DEPTH_STEP_MM = 10.0
"""Grid on which the depth below the skin is computed; it is only used to tell the belly from its wall."""


@dataclass
class Patient:
    """Everything about a patient that several structures share.

    Attributes:
        rng: Source of all that is drawn.
        weights: How far the scan is plain, arterial, venous; they add up to 1.
        variety: Factor on the deviations between patients.
        groups: Deviation of each group of tissues, in SDs.
        marbling: Fat in muscle and pancreas, 0 to 1.
        plaque: Chalk in arteries, 0 to 1.
        oral_hu: HU of swallowed contrast; 0 for none.
    """

    rng: np.random.Generator
    weights: tuple[float, float, float]
    variety: float
    groups: dict[str, float]
    marbling: float
    plaque: float
    oral_hu: float
    _means: dict[str, float] = field(default_factory=dict)

    @classmethod
    def draw(cls, rng: np.random.Generator, weights: Sequence[float], variety: float) -> Patient:
        """A new patient."""
        names = sorted({tissue.group for tissue in tissue_table().values()})
        groups = dict(zip(names, rng.standard_normal(len(names)).tolist(), strict=True))
        plain, arterial, venous = (float(w) for w in weights)
        return cls(
            rng=rng,
            weights=(plain, arterial, venous),
            variety=variety,
            groups=groups,
            marbling=float(rng.beta(1.2, 2.5)),
            plaque=float(rng.uniform() * (rng.uniform() < 0.4)),
            oral_hu=float(rng.uniform(110, 420) * (rng.uniform() < 0.25)),
        )

    def mean_hu(self, name: str) -> float:
        """Mean of a structure in this patient; the same at every call."""
        if name not in self._means:
            tissue = find_tissue(name)
            pairs = [getattr(tissue, phase) for phase in PHASES]
            mean, sd = (sum(w * pair[i] for w, pair in zip(self.weights, pairs, strict=True)) for i in (0, 1))
            # Contrast never makes anything darker than it is without.
            floor = tissue.plain[0] - _FARTHEST * self.variety * tissue.plain[1] if mean > tissue.plain[0] else AIR_HU
            self._means[name] = max(mean + sd * self._deviation(tissue.group), floor, AIR_HU)
        return self._means[name]

    def cortex_hu(self, name: str) -> float:
        """The shell of a bone in this patient."""
        tissue = find_tissue(name)
        return tissue.cortex[0] + tissue.cortex[1] * self._deviation(tissue.group)

    def _deviation(self, group: str) -> float:
        own = float(self.rng.standard_normal())
        deviation = _SHARED * self.groups[group] + (1 - _SHARED**2) ** 0.5 * own
        return self.variety * float(np.clip(deviation, -_FARTHEST, _FARTHEST))


@dataclass(frozen=True, eq=False)
class Region:
    """One structure, or several painted together, inside the smallest box that holds them.

    Attributes:
        name: Of the structure; of any one of them where there are several.
        box: Where in the volume.
        mask: Voxels in the box.
    """

    name: str
    box: Box
    mask: NDArray[np.bool_]


@dataclass(eq=False)
class Canvas:
    """A volume under the brush.

    Attributes:
        hu: (X, Y, Z) float32, changed in place.
        label_map: What is where.
        patient: Who it is.
    """

    hu: Floats
    label_map: LabelMap
    patient: Patient

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Voxel size."""
        return self.label_map.geometry.spacing_mm

    @property
    def rng(self) -> np.random.Generator:
        """The patient's source of randomness."""
        return self.patient.rng

    @cached_property
    def _boxes(self) -> dict[int, Box]:
        found = ndimage.find_objects(self.label_map.values)
        return {value: box for value, box in enumerate(found, start=1) if box is not None}

    def has(self, structure: str) -> bool:
        """Whether the map has voxels of a structure."""
        return any(self.label_map.names.get(value) == structure for value in self._boxes)

    def regions(self, pattern: str, together: bool) -> list[Region]:
        """The structures of a pattern that have voxels: one region each, or one of all."""
        names, values = self.label_map.names, self.label_map.values
        boxes = {v: box for v, box in self._boxes.items() if find_tissue(names.get(v, "")).pattern == pattern}
        if not boxes or not together:
            return [Region(names.get(value, ""), box, values[box] == value) for value, box in boxes.items()]
        x, y, z = (
            slice(min(b[axis].start for b in boxes.values()), max(b[axis].stop for b in boxes.values()))
            for axis in range(3)
        )
        wanted = np.zeros(int(values.max()) + 1, dtype=bool)
        wanted[list(boxes)] = True
        return [Region(names.get(min(boxes), ""), (x, y, z), wanted[values[x, y, z]])]

    @cached_property
    def edge(self) -> NDArray[np.bool_]:
        """(X, Y, Z): voxels with another structure across one of their faces."""
        values = self.label_map.values
        edge = np.zeros(values.shape, dtype=bool)
        for axis in range(3):
            low, high = _shifted(axis)
            other = values[low] != values[high]
            edge[low] |= other
            edge[high] |= other
        return edge

    @cached_property
    def depth_mm(self) -> Floats:
        """(X, Y, Z): roughly how far below the surface of the body, 0 outside."""
        body = self.label_map.values != OUTSIDE
        steps = [max(1, round(_DEPTH_STEP_MM / s)) for s in self.spacing_mm]
        coarse = body[tuple(slice(None, None, step) for step in steps)]
        # The ends of the field of view are no skin, so the body goes on beyond the first and last slice.
        padded = np.pad(np.pad(coarse, ((0, 0), (0, 0), (1, 1)), mode="edge"), ((1, 1), (1, 1), (0, 0)))
        sampling = [step * s for step, s in zip(steps, self.spacing_mm, strict=True)]
        depth = ndimage.distance_transform_edt(padded, sampling=sampling)[1:-1, 1:-1, 1:-1].astype(np.float32)
        for axis, (step, n) in enumerate(zip(steps, body.shape, strict=True)):
            depth = np.take(depth, np.minimum(np.arange(n) // step, depth.shape[axis] - 1), axis=axis)
        smooth: Floats = ndimage.uniform_filter(depth, steps)
        return smooth

    def noise(self, region: Region, correlation_mm: float) -> Floats:
        """`smooth_noise` over the box of a region."""
        return smooth_noise(self.rng, region.mask.shape, correlation_mm, self.spacing_mm)

    def inside_mm(self, region: Region) -> Floats:
        """Distance of each voxel of a region to its surface, over its box; the ends of the volume are no surface."""
        grown, inner = zip(*(_grow(part, n) for part, n in zip(region.box, self.hu.shape, strict=True)), strict=True)
        padded = np.pad(region.mask, grown)
        distance = ndimage.distance_transform_edt(padded, sampling=self.spacing_mm)[inner].astype(np.float32)
        # Distances run between centers: the outermost centers lie half a voxel under the surface.
        surface: Floats = np.maximum(distance - 0.5 * min(self.spacing_mm), 0)
        return surface

    def coordinates_mm(self, region: Region) -> tuple[Floats, Floats, Floats]:
        """x, y, z from the middle of a region's voxels, ready to broadcast over its box."""
        axes: list[Any] = []
        for axis, (n, spacing) in enumerate(zip(region.mask.shape, self.spacing_mm, strict=True)):
            counts = region.mask.sum(axis=tuple(a for a in range(3) if a != axis))
            place = np.arange(n) - float(counts @ np.arange(n)) / max(int(counts.sum()), 1)
            shape = [1, 1, 1]
            shape[axis] = n
            axes.append((place * spacing).astype(np.float32).reshape(shape))
        return axes[0], axes[1], axes[2]

    def pull(self, region: Region, share: AnyFloats, target: AnyFloats) -> None:
        """Move the voxels of a region toward a value: 0 leaves them, 1 makes them that value."""
        part = self.hu[region.box]
        part += np.where(region.mask, share * (target - part), 0)

    def add(self, region: Region, change: AnyFloats) -> None:
        """Add to the voxels of a region."""
        self.hu[region.box] += np.where(region.mask, change, 0)


def _shifted(axis: int) -> tuple[Any, Any]:
    low, high = [slice(None)] * 3, [slice(None)] * 3
    low[axis], high[axis] = slice(None, -1), slice(1, None)
    return tuple(low), tuple(high)


def _grow(part: slice, voxels: int) -> tuple[tuple[int, int], slice]:
    """Padding that is needed around a box inside a volume, and where the box lies in the padded one."""
    before, after = int(part.start > 0), int(part.stop < voxels)
    return (before, after), slice(before, before + part.stop - part.start)
