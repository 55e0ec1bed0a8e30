"""Does a patient have the disease, and was each lesion found: counts, thresholds, ROC and FROC.

A score is any number that grows with suspicion: the largest probability of a tumor voxel, or the tumor's volume.
A patient or a lesion is called positive when its score is *at least* the threshold. A threshold is to be chosen on
one split and applied to another; `choose_threshold` and `at_threshold` are therefore two functions.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from voxicon.errors import ConfigError, UsageError
from voxicon.evaluate.lesions import SIZE_STRATA_MM, LesionMatch
from voxicon.evaluate.statistics import (
    LEVEL,
    RESAMPLES,
    SEED,
    Estimate,
    Proportion,
    percentile_interval,
    wilson,
)

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Patients:
    """One row per patient, ordered by id.

    Attributes:
        ids: All different.
        scores: (N,) the largest score among the patient's scans.
        truth: (N,) bool, true in any of the patient's scans.
    """

    ids: tuple[str, ...]
    scores: Floats
    truth: NDArray[np.bool_]


@dataclass(frozen=True)
class Confusion:
    """Counts at one threshold, with the four rates of a diagnostic test and their Wilson intervals.

    Attributes:
        threshold: Positive is a score at least this high; infinite when nobody is.
        true_positives: Diseased and called so.
        false_negatives: Diseased, missed.
        true_negatives: Healthy and called so.
        false_positives: Healthy, called diseased.
        sensitivity: Of the diseased, those called so.
        specificity: Of the healthy, those called so.
        ppv: Of those called diseased, the diseased; depends on how many of this group are.
        npv: Of those called healthy, the healthy; likewise.
    """

    threshold: float
    true_positives: int
    false_negatives: int
    true_negatives: int
    false_positives: int
    sensitivity: Proportion
    specificity: Proportion
    ppv: Proportion
    npv: Proportion


@dataclass(frozen=True, eq=False)
class Roc:
    """Points of a ROC curve from (0, 0), where nobody is called positive, to (1, 1).

    Attributes:
        thresholds: (P,) descending, infinity first, then every score that occurs.
        sensitivity: (P,) ascending.
        specificity: (P,) descending.
    """

    thresholds: Floats
    sensitivity: Floats
    specificity: Floats


@dataclass(frozen=True, eq=False)
class Froc:
    """Lesions found against false findings per scan, as findings of lower and lower score are let in.

    Attributes:
        thresholds: (P,) descending, infinity first, then every finding's score.
        sensitivity: (P,) share of all true lesions that are hit, ascending.
        false_positives_per_scan: (P,) mean over all scans, those without lesions too; ascending.
        lesions: True lesions.
        scans: Scans.
    """

    thresholds: Floats
    sensitivity: Floats
    false_positives_per_scan: Floats
    lesions: int
    scans: int

    def sensitivity_at(self, false_positives_per_scan: float) -> float:
        """Best sensitivity with at most that many false positives per scan; a point of the curve, not between two."""
        allowed = self.false_positives_per_scan <= false_positives_per_scan
        return float(self.sensitivity[allowed].max(initial=0.0))


def by_patient(patient_ids: Sequence[str], scores: ArrayLike, truth: ArrayLike) -> Patients:
    """Scans gathered into patients: the highest score counts, and one positive scan makes a positive patient.

    No scans give no patients.

    Args:
        patient_ids: (N,) whose scan each is.
        scores: (N,) finite.
        truth: (N,) bool, or 0 and 1.

    Raises:
        UsageError: Lengths differ, a score is not finite, or a truth is neither 0 nor 1.
    """
    values, labels = np.asarray(scores, dtype=float), np.asarray(truth)
    if not len(patient_ids) == len(values) == len(labels):
        raise UsageError(
            f"{len(patient_ids)} patient ids, {len(values)} scores, {len(labels)} truths; expected one each per scan"
        )
    if not np.isfinite(values).all():
        raise UsageError("scores: expected finite numbers; score a scan without any finding 0")
    if not np.isin(labels, (0, 1)).all():
        raise UsageError("truth: expected true or false per scan; leave out scans whose truth is unknown")
    ids, owner = np.unique(np.asarray(patient_ids, dtype=str), return_inverse=True)
    highest, diseased = np.full(len(ids), -np.inf), np.zeros(len(ids), dtype=bool)
    np.maximum.at(highest, owner, values)
    np.logical_or.at(diseased, owner, labels.astype(bool))
    return Patients(tuple(ids.tolist()), highest, diseased)


def at_threshold(patients: Patients, threshold: float) -> Confusion:
    """Everybody called at one threshold; a rate without anybody to take it from has the value None."""
    positive = patients.scores >= threshold
    tp, fn = int((positive & patients.truth).sum()), int((~positive & patients.truth).sum())
    tn, fp = int((~positive & ~patients.truth).sum()), int((positive & ~patients.truth).sum())
    return Confusion(
        threshold=float(threshold),
        true_positives=tp,
        false_negatives=fn,
        true_negatives=tn,
        false_positives=fp,
        sensitivity=wilson(tp, tp + fn),
        specificity=wilson(tn, tn + fp),
        ppv=wilson(tp, tp + fp),
        npv=wilson(tn, tn + fn),
    )


def sweep(patients: Patients, thresholds: Sequence[float] | None = None) -> tuple[Confusion, ...]:
    """Counts at several thresholds; without any named, at infinity and at every score that occurs, descending."""
    if thresholds is None:
        thresholds = [math.inf, *np.unique(patients.scores)[::-1].tolist()]
    return tuple(at_threshold(patients, threshold) for threshold in thresholds)


def roc(patients: Patients) -> Roc | None:
    """The ROC curve; None unless there are diseased and healthy patients. Equal scores make one slanted step."""
    n_diseased = int(patients.truth.sum())
    n_healthy = len(patients.truth) - n_diseased
    if not n_diseased or not n_healthy:
        return None
    thresholds, tp, fp = _counts_down(patients.scores[patients.truth], patients.scores[~patients.truth])
    return Roc(thresholds, tp / n_diseased, (n_healthy - fp) / n_healthy)


def auc(patients: Patients, level: float = LEVEL, resamples: int = RESAMPLES, seed: int = SEED) -> Estimate:
    """Chance that a diseased patient scores above a healthy one, equal scores counting half.

    The interval is the percentile bootstrap over patients, diseased and healthy drawn apart so that every draw has
    both. None without diseased or without healthy patients; no interval with fewer than two of either. When the two
    groups do not overlap every draw is 1: the interval then has no width and says too much.

    Source: Hanley and McNeil, Radiology 143 (1982), for the area as the Mann-Whitney statistic; Robin et al., pROC,
        BMC Bioinformatics 12 (2011), for the stratified bootstrap.
    """
    diseased, healthy = patients.scores[patients.truth], patients.scores[~patients.truth]
    n = len(patients.ids)
    if not len(diseased) or not len(healthy):
        return Estimate(None, None, None, n, n)
    area = _mann_whitney(diseased, healthy)
    if min(len(diseased), len(healthy)) < 2:
        return Estimate(area, None, None, n, n)
    rng = np.random.default_rng(seed)
    draws = [
        _mann_whitney(rng.choice(diseased, len(diseased)), rng.choice(healthy, len(healthy))) for _ in range(resamples)
    ]
    low, high = percentile_interval(draws, level)
    return Estimate(area, low, high, n, n)


def choose_threshold(patients: Patients, min_specificity: float | None = None) -> float:
    """An operating point, to be applied to *other* patients: on those it was chosen on it looks too good.

    Of equally good thresholds the highest is taken, the one with the fewest false alarms. Infinity means that calling
    nobody positive was best.

    Source: Youden, Index for rating diagnostic tests, Cancer 3 (1950).

    Args:
        patients: The split to choose on.
        min_specificity: Take the highest sensitivity with at least this specificity. None takes the largest
            Youden index, sensitivity + specificity - 1.

    Raises:
        ConfigError: The specificity asked for is not in [0, 1].
        UsageError: No diseased or no healthy patients to choose by.
    """
    if min_specificity is not None and not 0 <= min_specificity <= 1:
        raise ConfigError(f"min_specificity {min_specificity}: expected a share from 0 to 1, such as 0.95")
    curve = roc(patients)
    if curve is None:
        raise UsageError(
            f"operating point: {int(patients.truth.sum())} of {len(patients.ids)} patients are diseased; "
            "expected some of both; choose on another split"
        )
    if min_specificity is None:
        merit = curve.sensitivity + curve.specificity
    else:
        merit = np.where(curve.specificity >= min_specificity, curve.sensitivity, -np.inf)
    # Sums of two shares that are equal on paper may differ in the last bit; the highest threshold must win those.
    return float(curve.thresholds[np.flatnonzero(merit >= merit.max() - 1e-12)[0]])


def froc(scans: Sequence[LesionMatch]) -> Froc | None:
    """The FROC curve of some scans, matched with probabilities; None when they hold no true lesion.

    A false positive is one when all findings count; it does not turn into one as the threshold rises.

    Source: Chakraborty, Maximum likelihood analysis of free-response receiver operating characteristic data, Med Phys
        16 (1989); as used by LUNA16 (Setio et al., MedIA 2017).

    Raises:
        UsageError: A finding has no score.
    """
    findings = [finding for scan in scans for finding in scan.predicted_lesions]
    if any(finding.score is None for finding in findings):
        raise UsageError("FROC: a predicted lesion has no score; match lesions with the probability map")
    lesions = sum(len(scan.true_lesions) for scan in scans)
    if not lesions:
        return None
    hits = np.array([lesion.score for scan in scans for lesion in scan.true_lesions if lesion.hit], dtype=float)
    alarms = np.array([finding.score for finding in findings if finding.false_positive], dtype=float)
    others = np.array([finding.score for finding in findings], dtype=float)
    thresholds, n_hits, n_alarms = _counts_down(hits, alarms, others)
    return Froc(thresholds, n_hits / lesions, n_alarms / len(scans), lesions, len(scans))


def lesion_sensitivity(scans: Sequence[LesionMatch], threshold: float | None = None) -> dict[str, Proportion]:
    """Lesions hit per size stratum, and under "all"; every stratum is there, an empty one with the value None.

    Lesions are counted as independent; with many in one patient the intervals are too narrow.

    Args:
        scans: Matched scans.
        threshold: Count only hits by findings of at least this score; None counts all.

    Raises:
        UsageError: A threshold is given and a finding has no score.
    """
    counts = {name: [0, 0] for name in ("all", *SIZE_STRATA_MM)}
    for stratum, hit in _hits(scans, threshold):
        for name in ("all", stratum):
            counts[name][0] += hit
            counts[name][1] += 1
    return {name: wilson(hits, total) for name, (hits, total) in counts.items()}


def _hits(scans: Sequence[LesionMatch], threshold: float | None) -> Iterator[tuple[str, bool]]:
    for scan in scans:
        for lesion in scan.true_lesions:
            if threshold is None or not lesion.hit:
                yield lesion.stratum, lesion.hit
            elif lesion.score is None:
                raise UsageError("threshold on lesions: a lesion has no score; match lesions with the probability map")
            else:
                yield lesion.stratum, lesion.score >= threshold


def _mann_whitney(diseased: Floats, healthy: Floats) -> float:
    ranks = stats.rankdata(np.concatenate((diseased, healthy)))
    n = len(diseased)
    return float((ranks[:n].sum() - n * (n + 1) / 2) / (n * len(healthy)))


def _counts_down(good: Floats, bad: Floats, also: Floats | None = None) -> tuple[Floats, Floats, Floats]:
    """Thresholds from infinity down over all scores, and how many good and bad ones each lets in."""
    scores = np.unique(np.concatenate((good, bad) if also is None else (good, bad, also)))[::-1]
    thresholds = np.concatenate(([np.inf], scores))
    n_good, n_bad = (len(each) - np.searchsorted(np.sort(each), thresholds) for each in (good, bad))
    return thresholds, n_good.astype(float), n_bad.astype(float)
