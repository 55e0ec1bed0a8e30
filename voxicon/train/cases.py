"""Scans ready for training: on the model grid, small, and cut from disk patch by patch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from voxicon.core.masks import MaskSet
from voxicon.core.volume import AIR_HU, Volume
from voxicon.data.annotation import Annotation
from voxicon.data.card import FOREGROUND, DatasetCard, Sampling, Zoom
from voxicon.data.harmonise import Targets
from voxicon.prep.labels import averaged_masks, nearest_labels
from voxicon.prep.pipeline import PreparationConfig, model_grid
from voxicon.prep.resample import resample_values
from voxicon.train.augment import GAS_HU

MOST_CENTERS = 2048
"""Voxels remembered per class as places to center a patch on; drawn evenly from all of the class."""

_HIGHEST_HU = 32767


class Sliceable(Protocol):
    """An array in memory or on disk: slicing gives a NumPy array of that part only."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Voxels per axis."""
        ...

    def __getitem__(self, box: Any) -> NDArray[Any]:
        """The voxels of a box."""
        ...


@dataclass(frozen=True)
class Traits:
    """What a card says about training on its scans; never a name.

    Attributes:
        sampling: Where patches are centered.
        zoom: How patches are enlarged, if at all.
        paint_hu: Raw value → range of mean HU it may be repainted to.
    """

    sampling: Sampling = FOREGROUND
    zoom: Zoom | None = None
    paint_hu: Mapping[int, tuple[float, float]] | None = None


@dataclass(frozen=True, eq=False)
class TrainingCase:
    """One scan on the model grid with what is known about it.

    Attributes:
        name: For the log.
        hu_XYZ: int16 HU.
        words_WXYZ: uint32 mask bits; class i is bit ``i % 32`` of word ``i // 32``.
        structure_XYZ: int16 raw label values, for repainting.
        known_N: bool, one per class.
        count_N: int64 voxels of every class; 0 where absent or unknown.
        centers: Class index → (K, 3) int16 voxels of it, K at most `MOST_CENTERS`; absent classes are left out.
        background: (K, 3) int16 voxels of the body outside all annotated classes; may be empty.
        mean_hu: Raw value → mean HU of that structure, gas left out.
        traits: How to cut patches from it.
    """

    name: str
    hu_XYZ: Sliceable
    words_WXYZ: Sliceable
    structure_XYZ: Sliceable
    known_N: NDArray[np.bool_]
    count_N: NDArray[np.int64]
    centers: Mapping[int, NDArray[np.int16]]
    background: NDArray[np.int16]
    mean_hu: Mapping[int, float]
    traits: Traits = Traits()


def focused(case: TrainingCase, learned_N: NDArray[np.bool_]) -> TrainingCase:
    """A case in which only some classes count: the others are unknown, and no patch is centered on them."""
    centers = {index: voxels for index, voxels in case.centers.items() if learned_N[index]}
    return replace(case, known_N=case.known_N & learned_N, centers=centers)


def paint_ranges(card: DatasetCard, paint_hu: Mapping[str, tuple[float, float]]) -> dict[int, tuple[float, float]]:
    """Raw value → range of HU, from ranges given by structure name or the start of one; the card's own come first."""
    return {
        value: (span[0], span[1])
        for value, name in card.raw.items()
        for prefix, span in {**paint_hu, **card.repaint_hu}.items()
        if name.startswith(prefix)
    }


def build_case(
    volume: Volume,
    annotation: Annotation,
    card: DatasetCard,
    targets: Targets,
    preparation: PreparationConfig,
    paint_hu: Mapping[str, tuple[float, float]],
) -> TrainingCase:
    """Bring a scan and its labels to the model grid.

    A class that has voxels in the scan and none on the coarser grid becomes unknown: it is too small to be shown, and
    calling it absent would be wrong.

    Args:
        volume: The scan.
        annotation: Its raw labels, on the scan's grid.
        card: What the raw values mean, and how patches are cut.
        targets: The labels in our classes, on the scan's grid.
        preparation: Spacing (the same along all axes) and way of resampling, as at inference.
        paint_hu: Raw structure name, or the start of one, → range of HU for repainting.
    """
    model = model_grid(volume.geometry, preparation.spacing_mm)
    hu = resample_values(volume.hu, volume.geometry, model, antialias=preparation.antialias, outside=AIR_HU)
    coarse = averaged_masks(targets.masks, model)
    counts = {name: coarse.count(name) for name in coarse}
    known = {name for name in targets.known if counts[name] or not targets.masks.count(name)}
    ranges = paint_ranges(card, paint_hu)
    structure = np.zeros(model.shape, dtype=np.int16)
    if ranges:
        # Nearest look-up is good enough for structures that only say where to repaint.
        structure = nearest_labels(annotation.values(card), volume.geometry, model)
    solid = hu > GAS_HU
    means = {v: float(hu[(structure == v) & solid].mean()) for v in ranges if ((structure == v) & solid).any()}
    return TrainingCase(
        name=volume.source.name,
        hu_XYZ=np.rint(hu).clip(AIR_HU, _HIGHEST_HU).astype(np.int16),
        words_WXYZ=coarse.words,
        structure_XYZ=structure,
        known_N=np.array([name in known for name in coarse.names], dtype=bool),
        count_N=np.array([counts[name] for name in coarse.names], dtype=np.int64),
        centers=_centers(coarse),
        background=_some(np.argwhere(solid & ~(coarse.words != 0).any(axis=0))),
        mean_hu=means,
        traits=Traits(card.sampling, card.zoom, {v: span for v, span in ranges.items() if v in means}),
    )


def _centers(masks: MaskSet) -> dict[int, NDArray[np.int16]]:
    found = {index: _some(np.argwhere(masks[name])) for index, name in enumerate(masks.names)}
    return {index: voxels for index, voxels in found.items() if len(voxels)}


def _some(voxels: NDArray[np.int64]) -> NDArray[np.int16]:
    """At most `MOST_CENTERS` voxels, chosen by a fixed draw so that every run sees the same."""
    if len(voxels) > MOST_CENTERS:
        chosen = np.random.default_rng(0).choice(len(voxels), MOST_CENTERS, replace=False)
        voxels = voxels[np.sort(chosen)]
    return voxels.astype(np.int16)
