"""Which lesions of a case were found, how big they are, and which findings are none.

A lesion is a piece of the mask connected over faces, edges or corners. There is no one-to-one assignment: a true
lesion is hit when enough of it is covered, by however many predictions; a prediction that covers two lesions hits
both; a prediction is a false positive when it touches no lesion that is hit. So splitting and merging cost Dice and
not detection, and no count depends on the order of lesions.

Source: lesions as connected components and hits by any overlap: WMH challenge (Kuijf et al., IEEE TMI 2019), autoPET
    (Gatidis et al., 2022, "components that do not overlap"). LiTS (Bilic et al., MedIA 2023) also merges and splits but
    asks for an intersection over union of one half; a stricter rule here is `min_fraction`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import cc3d
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import ConvexHull
from scipy.spatial.distance import pdist

from voxicon.core.ball import ball_diameter_mm
from voxicon.errors import BadGeometry, ConfigError, InputError
from voxicon.evaluate.pair import Box, Mask, check_pair, check_spacing, joint_box

CONNECTIVITY: Final = 26
"""Faces, edges and corners join voxels. Source: as in the cleanup of masks, so that pieces are the same there."""

SIZE_STRATA_MM: Final = {
    "0-5 mm": (0.0, 5.0),
    "5-10 mm": (5.0, 10.0),
    "10-20 mm": (10.0, 20.0),
    "20+ mm": (20.0, math.inf),
}
"""Diameters a stratum holds: from its lower bound up to, not including, its upper bound."""

Spacing = tuple[float, float, float]


@dataclass(frozen=True)
class TrueLesion:
    """A lesion that is there.

    Attributes:
        number: From 1, in the order of first voxels.
        volume_ml: Volume.
        diameter_mm: Diameter of the ball of the same volume. Strata go by it: it changes little with one voxel more,
            with the direction of the slices or with their thickness, all of which move the longest extent.
        extent_mm: Longest straight line from voxel corner to voxel corner, in any direction: what a caliper would
            read in three dimensions, never below the voxel's own diagonal.
        stratum: Key of `SIZE_STRATA_MM`.
        hit: Enough of it is covered.
        covered: Share of its voxels that are predicted, in [0, 1].
        dice: With the union of all predictions that touch it, wherever else these reach; 0.0 when nothing does.
        score: The highest threshold on predictions' scores at which it is still hit; None when it is not hit, or
            when predictions have no scores.
        matches: Numbers of the predictions that touch it.
    """

    number: int
    volume_ml: float
    diameter_mm: float
    extent_mm: float
    stratum: str
    hit: bool
    covered: float
    dice: float
    score: float | None
    matches: tuple[int, ...]


@dataclass(frozen=True)
class PredictedLesion:
    """A finding.

    Attributes:
        number: From 1, in the order of first voxels.
        volume_ml: Volume.
        diameter_mm: Diameter of the ball of the same volume.
        score: Largest probability inside; None when no probabilities were given.
        hits: Numbers of the true lesions it touches that are hit.
        false_positive: It has no hits.
    """

    number: int
    volume_ml: float
    diameter_mm: float
    score: float | None
    hits: tuple[int, ...]
    false_positive: bool


@dataclass(frozen=True)
class LesionMatch:
    """The lesions of one scan; both may be empty."""

    true_lesions: tuple[TrueLesion, ...]
    predicted_lesions: tuple[PredictedLesion, ...]


@dataclass(frozen=True, eq=False)
class _Parts:
    """Components of a mask; arrays by number, entry 0 unused."""

    labels: NDArray[np.unsignedinteger[Any]]
    sizes: NDArray[np.int64]

    @property
    def numbers(self) -> range:
        return range(1, len(self.sizes))


def match_lesions(
    truth: Mask,
    predicted: Mask,
    spacing_mm: Spacing,
    probability: NDArray[np.floating[Any]] | None = None,
    min_fraction: float = 0.0,
) -> LesionMatch:
    """Match the lesions of one scan.

    Args:
        truth: (X, Y, Z) bool.
        predicted: (X, Y, Z) bool on the same grid.
        spacing_mm: Voxel size along X, Y, Z.
        probability: (X, Y, Z), what predictions are scored by; the same as the prediction was cut from.
        min_fraction: Share of a true lesion that predictions must cover for a hit; one voxel always must be.

    Raises:
        BadGeometry: Shapes differ, or the spacing is not three sizes.
        InputError: A mask is not boolean, or a probability inside the prediction is not a number.
        ConfigError: The fraction is not in [0, 1].
    """
    check_pair(truth, predicted)
    check_spacing(spacing_mm)
    if probability is not None and probability.shape != truth.shape:
        raise BadGeometry(
            f"probability of shape {probability.shape} for masks of shape {truth.shape}; expected the same"
        )
    if not 0 <= min_fraction <= 1:
        raise ConfigError(f"min_fraction {min_fraction}: expected a share from 0 (one voxel is enough) to 1")
    box = joint_box(truth, predicted)
    if box is None:
        return LesionMatch((), ())
    true_parts, found_parts = _parts(truth[box]), _parts(predicted[box])
    scores = None if probability is None else _scores(found_parts, probability[box])
    shared = _shared(true_parts, found_parts)
    true_lesions = _true_lesions(true_parts, found_parts, shared, spacing_mm, scores, min_fraction)
    hit = {lesion.number for lesion in true_lesions if lesion.hit}
    return LesionMatch(true_lesions, _predicted_lesions(found_parts, shared, spacing_mm, scores, hit))


def stratum_of(diameter_mm: float) -> str:
    """Key of `SIZE_STRATA_MM` for a diameter of 0 mm or more."""
    return next(name for name, (low, high) in SIZE_STRATA_MM.items() if low <= diameter_mm < high)


def longest_extent_mm(mask: Mask, spacing_mm: Spacing) -> float:
    """Longest straight line between two voxel corners of a mask that is not empty."""
    columns = np.argwhere(mask.any(axis=2))
    filled = mask[columns[:, 0], columns[:, 1]]
    # Nothing between the two ends of a column can be the end of a longest line.
    ends = filled.argmax(axis=1), filled.shape[1] - filled[:, ::-1].argmax(axis=1)
    corners = [
        np.column_stack((columns[:, 0] + i, columns[:, 1] + j, end)) for i in (0, 1) for j in (0, 1) for end in ends
    ]
    points_mm = np.unique(np.concatenate(corners), axis=0) * np.asarray(spacing_mm)
    return float(pdist(points_mm[ConvexHull(points_mm).vertices]).max())


def _parts(mask: Mask) -> _Parts:
    # As bytes: on booleans, version 4.1.1 raises "maximum length exception" for some masks one voxel thin.
    as_bytes = np.ascontiguousarray(mask).view(np.uint8)
    labels = cc3d.connected_components(as_bytes, connectivity=CONNECTIVITY, return_N=False)
    return _Parts(labels, np.bincount(labels.ravel()))


def _scores(parts: _Parts, probability: NDArray[np.floating[Any]]) -> list[float]:
    inside = parts.labels != 0
    best = np.full(len(parts.sizes), -np.inf)
    np.maximum.at(best, parts.labels[inside], probability[inside])
    if np.isnan(best).any():
        raise InputError("probability inside a predicted lesion is not a number; expected values from 0 to 1")
    return [float(score) for score in best]


def _shared(true_parts: _Parts, found_parts: _Parts) -> dict[tuple[int, int], int]:
    """Voxels shared by a true lesion and a prediction, for the pairs that share any."""
    both = (true_parts.labels != 0) & (found_parts.labels != 0)
    pairs = np.stack((true_parts.labels[both], found_parts.labels[both]), axis=1)
    unique, counts = np.unique(pairs, axis=0, return_counts=True)
    return {(int(t), int(p)): int(n) for (t, p), n in zip(unique, counts, strict=True)}


def _true_lesions(
    parts: _Parts,
    found: _Parts,
    shared: dict[tuple[int, int], int],
    spacing_mm: Spacing,
    scores: Sequence[float] | None,
    min_fraction: float,
) -> tuple[TrueLesion, ...]:
    boxes: list[Box] = ndimage.find_objects(parts.labels.astype(np.int32, copy=False))
    touching: dict[int, dict[int, int]] = {number: {} for number in parts.numbers}
    for (number, prediction), voxels in shared.items():
        touching[number][prediction] = voxels
    lesions = []
    for number, box in zip(parts.numbers, boxes, strict=True):
        size, by_prediction = int(parts.sizes[number]), touching[number]
        covered = sum(by_prediction.values())
        hit = covered > 0 and covered >= min_fraction * size
        predicted_size = sum(int(found.sizes[prediction]) for prediction in by_prediction)
        diameter_mm = ball_diameter_mm(1000 * _volume_ml(size, spacing_mm))
        lesions.append(
            TrueLesion(
                number=number,
                volume_ml=_volume_ml(size, spacing_mm),
                diameter_mm=diameter_mm,
                extent_mm=longest_extent_mm(parts.labels[box] == number, spacing_mm),
                stratum=stratum_of(diameter_mm),
                hit=hit,
                covered=covered / size,
                dice=2 * covered / (size + predicted_size),
                score=_hit_score(by_prediction, scores, min_fraction * size) if hit and scores is not None else None,
                matches=tuple(sorted(by_prediction)),
            )
        )
    return tuple(lesions)


def _hit_score(by_prediction: dict[int, int], scores: Sequence[float], needed_voxels: float) -> float:
    """Score of the prediction with which, going down from the best, enough is covered."""
    covered = 0
    ranked = sorted(by_prediction, key=lambda prediction: -scores[prediction])
    for prediction in ranked:
        covered += by_prediction[prediction]
        if covered >= needed_voxels:
            return scores[prediction]
    return scores[ranked[-1]]


def _predicted_lesions(
    parts: _Parts,
    shared: dict[tuple[int, int], int],
    spacing_mm: Spacing,
    scores: Sequence[float] | None,
    hit: set[int],
) -> tuple[PredictedLesion, ...]:
    hits: dict[int, list[int]] = {number: [] for number in parts.numbers}
    for number, prediction in sorted(shared):
        if number in hit:
            hits[prediction].append(number)
    return tuple(
        PredictedLesion(
            number=number,
            volume_ml=(volume_ml := _volume_ml(int(parts.sizes[number]), spacing_mm)),
            diameter_mm=ball_diameter_mm(1000 * volume_ml),
            score=None if scores is None else scores[number],
            hits=tuple(hits[number]),
            false_positive=not hits[number],
        )
        for number in parts.numbers
    )


def _volume_ml(voxels: int, spacing_mm: Spacing) -> float:
    return voxels * math.prod(spacing_mm) / 1000
