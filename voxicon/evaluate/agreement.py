"""Do readers agree with the machine as well as with each other? Every two of them compared on the same cases.

A difference between machine and reader means little without the difference between two readers: where people disagree
that much, no more can be asked. Source: Liu et al., ICCV 2023, Figure 4.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Final

import numpy as np

from voxicon.evaluate.overlap import overlap
from voxicon.evaluate.pair import Mask
from voxicon.evaluate.statistics import cluster_bootstrap
from voxicon.evaluate.table import Subject

MACHINE: Final = "AI"


@dataclass(frozen=True, kw_only=True)
class PairScore(Subject):
    """How far two of the machine and its readers agree on one class in one case.

    Attributes:
        name: The class.
        pair: Such as ``("AI", "R1")``; the machine comes first.
        dice: None where both say that the class is absent.
    """

    name: str
    pair: tuple[str, str]
    dice: float | None


def agree(subject: Subject, name: str, masks: Mapping[str, Mask]) -> tuple[PairScore, ...]:
    """Every two of some masks of one class in one case, in the order given.

    Args:
        subject: Whose scan it is.
        name: The class.
        masks: Who drew it → (X, Y, Z) bool, all on one grid.

    Raises:
        BadGeometry: The shapes differ.
    """
    same = {"dataset": subject.dataset, "case": subject.case, "patient": subject.patient, "split": subject.split}
    return tuple(
        PairScore(
            **same, labels_by=subject.labels_by, name=name, pair=(a, b), dice=overlap(masks[a], masks[b], 1.0).dice
        )
        for a, b in combinations(masks, 2)
    )


def summarize_agreement(scores: Sequence[PairScore], readers: Sequence[str]) -> dict[str, Any]:
    """Mean Dice of every pair, per class, with 95 % intervals from resampling patients; plain data for JSON.

    All pairs of a class are over the same cases, those that the machine and all readers have. No scores give no
    classes.

    Args:
        scores: From `agree`.
        readers: Names in the order of the command line.
    """
    names = dict.fromkeys(score.name for score in scores)
    return {
        "names": list(readers),
        "n_cases": len({score.id for score in scores}),
        "n_patients": len({score.patient for score in scores}),
        "classes": {name: _pairs([score for score in scores if score.name == name]) for name in names},
    }


def _pairs(scores: Sequence[PairScore]) -> dict[str, Any]:
    return {
        "-".join(pair): _estimate([score for score in scores if score.pair == pair])
        for pair in dict.fromkeys(score.pair for score in scores)
    }


def _estimate(scores: Sequence[PairScore]) -> dict[str, Any]:
    measured = [(score.dice, score.patient) for score in scores if score.dice is not None]
    values = [dice for dice, _ in measured]
    found = cluster_bootstrap(values, [patient for _, patient in measured])
    return {
        "mean": found.value,
        "low": found.low,
        "high": found.high,
        "median": float(np.median(values)) if values else None,
        "n": found.n,
        "patients": found.patients,
        "n_both_absent": len(scores) - len(values),
    }
