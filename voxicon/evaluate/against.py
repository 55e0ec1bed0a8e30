"""Two models on the same cases: what differs, with an interval, a test, and a correction for testing many classes."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from voxicon.errors import UsageError
from voxicon.evaluate.statistics import cluster_bootstrap, holm, paired_wilcoxon
from voxicon.evaluate.table import CaseRow

MEASURES = ("dice", "nsd")

_SAME_VOLUME = 1e-6
"""Relative difference in true volume below which two evaluations saw the same labels."""

Pair = tuple[CaseRow, CaseRow]


def compare(rows: Iterable[CaseRow], others: Iterable[CaseRow], measures: Sequence[str] = MEASURES) -> dict[str, Any]:
    """Differences per class, first minus second, on the rows that both have; plain data for JSON.

    A pair counts where both have the measure. A class that is absent, which one model leaves alone and the other does
    not, has it on one side only: it is left out and counted as ``n_one_sided``, since no difference of Dice tells it.

    Args:
        rows: Of this evaluation.
        others: Of the other.
        measures: Which fields of the rows to compare.

    Returns:
        ``classes``: name → measure → ``difference`` (mean), ``low``, ``high``, ``median``, ``n``, ``patients``,
        ``effect_size``, ``p`` and ``p_holm`` (Wilcoxon on patients' means; corrected over the classes), ``n_one_sided``
        and the two means. Counts of pairs and of rows that only one has.

    Raises:
        UsageError: No row is in both, or the true volumes differ, so that the labels are not the same.
    """
    here, there = _by_key(rows), _by_key(others)
    common = [key for key in here if key in there]
    if not common:
        raise UsageError("the two evaluations have no case and class in common; judge both models on the same split")
    pairs = [(here[key], there[key]) for key in common]
    differ = [one for one, other in pairs if not _same_truth(one, other)]
    if differ:
        raise UsageError(
            f"{len(differ)} rows were judged by other labels, such as {differ[0].id} {differ[0].name}: the true "
            "volumes differ; evaluate both models on the same labels"
        )
    by_class: dict[str, list[Pair]] = defaultdict(list)
    for one, other in pairs:
        by_class[one.name].append((one, other))
    classes = {name: {measure: _difference(own, measure) for measure in measures} for name, own in by_class.items()}
    for measure in measures:
        _correct([found[measure] for found in classes.values()])
    return {
        "classes": classes,
        "n_pairs": len(pairs),
        "n_cases": len({one.id for one, _ in pairs}),
        "n_only_here": len(here) - len(pairs),
        "n_only_there": len(there) - len(pairs),
    }


def _by_key(rows: Iterable[CaseRow]) -> dict[tuple[str, str], CaseRow]:
    """Rows that were predicted, by case and class."""
    return {(row.id, row.name): row for row in rows if row.state != "not_predicted"}


def _same_truth(one: CaseRow, other: CaseRow) -> bool:
    return math.isclose(one.truth_ml or 0.0, other.truth_ml or 0.0, rel_tol=_SAME_VOLUME, abs_tol=_SAME_VOLUME)


def _difference(pairs: Sequence[Pair], measure: str) -> dict[str, Any]:
    sides = [(getattr(one, measure), getattr(other, measure), one.patient) for one, other in pairs]
    both = [(a, b, patient) for a, b, patient in sides if a is not None and b is not None]
    first, second, patients = [a for a, _, _ in both], [b for _, b, _ in both], [patient for *_, patient in both]
    differences = [a - b for a, b in zip(first, second, strict=True)]
    found = cluster_bootstrap(differences, patients)
    test = paired_wilcoxon(_per_patient(first, patients), _per_patient(second, patients))
    return {
        "difference": found.value,
        "low": found.low,
        "high": found.high,
        "median": float(np.median(differences)) if differences else None,
        "n": found.n,
        "patients": found.patients,
        "mean_here": float(np.mean(first)) if first else None,
        "mean_there": float(np.mean(second)) if second else None,
        "effect_size": test.effect_size,
        "p": test.p_value,
        "n_one_sided": sum((a is None) != (b is None) for a, b, _ in sides),
    }


def _per_patient(values: Sequence[float], patients: Sequence[str]) -> list[float]:
    """Each patient's mean, in order of first appearance: the test takes its pairs as independent."""
    own: dict[str, list[float]] = defaultdict(list)
    for value, patient in zip(values, patients, strict=True):
        own[patient].append(value)
    return [float(np.mean(numbers)) for numbers in own.values()]


def _correct(found: Sequence[dict[str, Any]]) -> None:
    """Add ``p_holm``, in place, over the classes that were tested."""
    tested = [one for one in found if one["p"] is not None]
    for one in found:
        one["p_holm"] = None
    for one, adjusted in zip(tested, holm([one["p"] for one in tested]), strict=True):
        one["p_holm"] = adjusted
