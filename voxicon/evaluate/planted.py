"""Sensitivity by diameter from lesions that were planted: their truth needs no reader, since it was made.

A planted lesion counts as found when the mask as delivered covers at least one of its voxels, and a finding is false
when it touches no planted lesion: the rule of `voxicon.evaluate.lesions`, judged lesion by lesion. How well that
separates is told by *untouched* scans, the same patients without any planted lesion: any voxel found there is a false
alarm. A lesion's score is the largest probability inside it, an untouched scan's the largest anywhere; raising the
threshold on both trades one for the other.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from statistics import fmean
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from voxicon.core.components import components
from voxicon.evaluate.pair import Box, Mask, joint_box
from voxicon.evaluate.statistics import cluster_bootstrap, wilson
from voxicon.evaluate.tumors import plain

BINS_MM: Final = ((3.0, 5.0), (5.0, 10.0), (10.0, 20.0), (20.0, 40.0))
"""Diameters that a lesion is drawn from: at least the first, below the second."""

CONTRAST_STRATA_HU: Final = {
    "under 20 HU": (0.0, 20.0),
    "20-40 HU": (20.0, 40.0),
    "40-60 HU": (40.0, 60.0),
    "60+ HU": (60.0, math.inf),
}
"""Brighter or darker than the host by at least the first, by less than the second."""

SPECIFICITIES: Final = (0.8, 0.9)
"""At which sensitivity is told, besides that of the masks as delivered."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What became of one lesion.

    Attributes:
        found: At least one voxel is in the mask as delivered.
        covered: Share of its voxels that are.
        dice: With the union of all findings that touch it; 0.0 when nothing does.
        score: Largest probability inside of it; 0.0 where there is no candidate.
    """

    found: bool
    covered: float
    dice: float
    score: float


@dataclass(frozen=True, kw_only=True)
class PlantedLesion(Verdict):
    """One lesion, where it was and what became of it.

    Attributes:
        dataset: Id of the card.
        case: Case id within the dataset.
        round: Which variation of the scan; see `Look`.
        seed: Of the lesion's own source of chance.
        name: Its class.
        host: Class of the organ it was planted in.
        bin: Label of its bin of diameters.
        planned_mm: Diameter asked for.
        diameter_mm: Diameter of the ball of the volume that came about, within `bin`.
        volume_ml: Volume.
        contrast_hu: Difference to the host.
        center_mm: RAS of its middle.
    """

    dataset: str
    case: str
    round: int
    seed: int
    name: str
    host: str
    bin: str
    planned_mm: float
    diameter_mm: float
    volume_ml: float
    contrast_hu: float
    center_mm: tuple[float, float, float]


@dataclass(frozen=True, kw_only=True)
class Look:
    """What was found of one class in one variation of a scan.

    Attributes:
        dataset: Id of the card.
        case: Case id within the dataset.
        round: 0 for the scan as it is, from 1 for variations.
        name: The class.
        planted: Whether lesions, of any class, were planted into it.
        false_findings: Pieces of the mask that touch no planted lesion of this class.
        predicted_ml: Volume of the mask.
        score: Largest probability of a candidate anywhere.
    """

    dataset: str
    case: str
    round: int
    name: str
    planted: bool
    false_findings: int
    predicted_ml: float
    score: float


def bin_name(low_mm: float, high_mm: float) -> str:
    """What a bin of diameters is called."""
    return f"{low_mm:g}-{high_mm:g} mm"


def judge(
    lesions: Sequence[tuple[Box, Mask]], predicted: Mask, levels: NDArray[np.uint8]
) -> tuple[list[Verdict], int, float]:
    """Every lesion of one class in one scan, and what else was found.

    Args:
        lesions: Box in the scan, and mask within the box with at least one voxel; they may not overlap.
        predicted: (X, Y, Z) bool, the mask as delivered.
        levels: (X, Y, Z) uint8, 255 times the probability, 0 where there is no candidate.

    Returns:
        A verdict for each lesion, in order; the number of findings that touch none of them; the largest probability
        anywhere. Without lesions every finding is one of those.
    """
    labels = np.zeros(predicted.shape, dtype=np.int32)
    sizes = np.zeros(1, dtype=np.int64)
    box = joint_box(predicted, predicted)
    if box is not None:
        pieces = components(predicted[box])
        labels[box], sizes = pieces.labels, pieces.sizes
    verdicts, touched_by_any = [], set()
    for at, mask in lesions:
        inside = labels[at][mask]
        touching = np.unique(inside[inside > 0])
        touched_by_any.update(touching.tolist())
        shared, size = int(np.count_nonzero(inside)), int(np.count_nonzero(mask))
        verdicts.append(
            Verdict(
                found=shared > 0,
                covered=shared / size,
                dice=2 * shared / (size + int(sizes[touching].sum())),
                score=int(levels[at][mask].max()) / 255,
            )
        )
    return verdicts, len(sizes) - 1 - len(touched_by_any), int(levels.max(initial=0)) / 255


def summarize_planted(
    lesions: Sequence[PlantedLesion], looks: Sequence[Look], bins_mm: Sequence[tuple[float, float]]
) -> dict[str, Any]:
    """Everything about one class, as plain data for JSON. What cannot be told is None, and shares of nothing are too.

    Args:
        lesions: Of one class.
        looks: Of the same class.
        bins_mm: Diameters to sort by.

    Returns:
        ``as_delivered``: ``sensitivity`` (``all`` and every bin), ``specificity`` over untouched scans, ``dice`` (mean
        over the lesions of a bin, missed ones being 0) and false findings per scan. ``by_contrast``: sensitivity
        by the amount of contrast. ``curve``: both rates at every threshold. ``at_specificity``: the lowest threshold
        with that specificity, and what is found at it.
    """
    names = [bin_name(low, high) for low, high in bins_mm]
    untouched = [look for look in looks if not look.planted]
    planted = [look for look in looks if look.planted]
    return {
        "n_lesions": len(lesions),
        "n_untouched": len(untouched),
        "n_planted": len(planted),
        "n_scans": len({(look.dataset, look.case) for look in looks}),
        "as_delivered": {
            "sensitivity": _by_bin(lesions, names, lambda lesion: lesion.found),
            "specificity": plain(wilson(sum(look.predicted_ml == 0 for look in untouched), len(untouched))),
            "dice": {name: _mean([one.dice for one in own]) for name, own in _sorted(lesions, names).items()},
            "false_findings_per_planted_scan": _per_scan(planted),
            "false_findings_per_untouched_scan": _per_scan(untouched),
        },
        "by_contrast": {
            name: plain(wilson(sum(lesion.found for lesion in own), len(own)))
            for name, (low, high) in CONTRAST_STRATA_HU.items()
            for own in [[lesion for lesion in lesions if low <= abs(lesion.contrast_hu) < high]]
        },
        "curve": _curve(lesions, untouched, names),
        "at_specificity": {f"{least:g}": operating_point(lesions, untouched, names, least) for least in SPECIFICITIES},
    }


def operating_point(
    lesions: Sequence[PlantedLesion], untouched: Sequence[Look], bins: Sequence[str], min_specificity: float
) -> dict[str, Any] | None:
    """The lowest threshold at which at least that share of untouched scans stays without any finding.

    It is chosen on the scans it is told for, and so looks a little better than it will be elsewhere. Thresholds are
    scores that occur; where all are too low nothing is called positive, and the threshold is None. No point without
    an untouched scan.
    """
    if not untouched:
        return None
    needed = math.ceil(min_specificity * len(untouched) - 1e-9)
    candidates = [*_thresholds(lesions, untouched), math.inf]
    threshold = next(t for t in candidates if sum(look.score < t for look in untouched) >= needed)
    return {
        "threshold": plain(threshold),
        "specificity": plain(wilson(sum(look.score < threshold for look in untouched), len(untouched))),
        "sensitivity": _by_bin(lesions, bins, lambda lesion: lesion.score >= threshold),
    }


def lesions_csv(lesions: Iterable[PlantedLesion]) -> str:
    """One line per lesion as CSV text, with the RAS of its middle in three columns."""
    text = io.StringIO()
    columns = [field.name for field in fields(PlantedLesion) if field.name != "center_mm"]
    axes = ("x_mm", "y_mm", "z_mm")
    # What became of it comes last, though it is the base class.
    columns = [*columns[4:], *axes, *columns[:4]]
    writer = csv.DictWriter(text, columns, lineterminator="\n", extrasaction="ignore")
    writer.writeheader()
    for lesion in lesions:
        writer.writerow(asdict(lesion) | dict(zip(axes, lesion.center_mm, strict=True)))
    return text.getvalue()


def _curve(lesions: Sequence[PlantedLesion], untouched: Sequence[Look], names: Sequence[str]) -> dict[str, Any]:
    """Both rates from the highest threshold down, starting where nothing is called positive."""
    thresholds = [math.inf, *_thresholds(lesions, untouched)[::-1]]
    by_bin = _sorted(lesions, names)
    return {
        "thresholds": plain(thresholds),
        "specificity": [_share([look.score < least for look in untouched]) for least in thresholds],
        "sensitivity": {
            name: [_share([lesion.score >= least for lesion in own]) for least in thresholds]
            for name, own in by_bin.items()
        },
    }


def _thresholds(lesions: Sequence[PlantedLesion], untouched: Sequence[Look]) -> list[float]:
    """All scores that occur, ascending; 0 is no score, since a threshold of 0 would find everything."""
    scores = [lesion.score for lesion in lesions] + [look.score for look in untouched]
    return sorted({score for score in scores if score > 0})


def _sorted(lesions: Sequence[PlantedLesion], names: Sequence[str]) -> dict[str, list[PlantedLesion]]:
    return {"all": list(lesions)} | {name: [lesion for lesion in lesions if lesion.bin == name] for name in names}


def _by_bin(
    lesions: Sequence[PlantedLesion], names: Sequence[str], is_found: Callable[[PlantedLesion], bool]
) -> Mapping[str, Any]:
    return {name: plain(wilson(sum(map(is_found, own)), len(own))) for name, own in _sorted(lesions, names).items()}


def _per_scan(looks: Sequence[Look]) -> Any:
    """Variations of one scan are not independent, so whole scans are resampled."""
    owners = [f"{look.dataset}/{look.case}" for look in looks]
    return plain(cluster_bootstrap([float(look.false_findings) for look in looks], owners))


def _mean(values: Sequence[float]) -> float | None:
    return fmean(values) if values else None


def _share(hits: Sequence[bool]) -> float | None:
    return sum(hits) / len(hits) if hits else None
