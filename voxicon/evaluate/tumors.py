"""Detection of one lesion class over many scans: per patient, per lesion, at every threshold and at one chosen before.

Two questions, two kinds of findings. *Masks as delivered* answer whether the product found a lesion: any voxel makes a
patient positive, as in Liu et al., ICCV 2023. *Candidates* are the pieces of the probability map above a low
threshold, inside of what cleanup allows; each scores its largest probability, a patient the largest of all. From them
come the ROC and FROC curves and the operating point, which is chosen on patients other than those it is reported on.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, Final

import numpy as np

from voxicon.evaluate.detection import (
    Froc,
    Patients,
    at_threshold,
    auc,
    by_patient,
    choose_threshold,
    froc,
    lesion_sensitivity,
    roc,
    sweep,
)
from voxicon.evaluate.lesions import LesionMatch, PredictedLesion, TrueLesion
from voxicon.evaluate.statistics import cluster_bootstrap
from voxicon.evaluate.table import Subject

CANDIDATE: Final = 0.1
"""Probability from which a voxel belongs to a candidate. Low enough that a curve over higher thresholds is whole, high
enough that candidates do not all flow together."""

FROC_RATES: Final = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
"""False positives per scan at which sensitivity is told. Source: LUNA16 (Setio et al., MedIA 2017)."""


@dataclass(frozen=True, kw_only=True)
class LesionScan(Subject):
    """One scan whose labels know a lesion class that was predicted.

    Attributes:
        name: The class.
        found: True lesions against the mask as delivered.
        candidates: True lesions against candidates with scores; None without a probability map.
        predicted_ml: Volume of the mask as delivered.
    """

    name: str
    found: LesionMatch
    candidates: LesionMatch | None
    predicted_ml: float

    @property
    def is_positive(self) -> bool:
        """Whether there is a true lesion."""
        return bool(self.found.true_lesions)

    @property
    def probability(self) -> float:
        """Largest score of a candidate; 0.0 without any."""
        findings = self.candidates.predicted_lesions if self.candidates else ()
        return max((finding.score or 0.0 for finding in findings), default=0.0)


def detection(
    scans: Sequence[LesionScan], choosing: Sequence[LesionScan] = (), chosen_on: str | None = None
) -> dict[str, Any]:
    """Everything about the detection of one class, as plain data for JSON.

    What cannot be told (specificity without a healthy patient, a curve without both kinds) is None, and ``notes`` says
    why in one line each. No scans give counts of 0.

    Args:
        scans: What is reported on.
        choosing: Scans of other patients that the operating point is chosen on.
        chosen_on: Name of their split; None chooses no operating point.
    """
    by_probability = all(scan.candidates is not None for scan in (*scans, *choosing))
    patients = _patients(scans, by_probability)
    point, reason = _operating_point(patients, choosing, chosen_on, by_probability)
    n_positive = int(patients.truth.sum())
    matches = [scan.candidates for scan in scans if scan.candidates is not None]
    curve = froc(matches) if by_probability else None
    return {
        "n_scans": len(scans),
        "n_patients": len(patients.ids),
        "n_positive": n_positive,
        "n_negative": len(patients.ids) - n_positive,
        "n_lesions": sum(len(scan.found.true_lesions) for scan in scans),
        "labels_by": sorted({scan.labels_by for scan in scans}),
        "any_voxel": _any_voxel(scans),
        "score": "probability" if by_probability else "volume_ml",
        "sweep": plain(sweep(patients)),
        "roc": plain(roc(patients)),
        "auc": plain(auc(patients)),
        "operating_point": point,
        "lesions": _lesions(scans, point["threshold"] if point and by_probability else None),
        "froc": plain(curve) | _at_rates(curve) if curve is not None else None,
        "notes": [*_notes(patients, by_probability), *([reason] if reason else [])],
    }


def _patients(scans: Sequence[LesionScan], by_probability: bool) -> Patients:
    scores = [scan.probability if by_probability else scan.predicted_ml for scan in scans]
    return by_patient([scan.patient for scan in scans], scores, [scan.is_positive for scan in scans])


def _any_voxel(scans: Sequence[LesionScan]) -> dict[str, Any]:
    called = [float(scan.predicted_ml > 0) for scan in scans]
    patients = by_patient([scan.patient for scan in scans], called, [scan.is_positive for scan in scans])
    counts: dict[str, Any] = plain(at_threshold(patients, 1.0))
    del counts["threshold"]  # of yes or no, not of a probability
    return counts


def _operating_point(
    patients: Patients, choosing: Sequence[LesionScan], chosen_on: str | None, by_probability: bool
) -> tuple[dict[str, Any] | None, str]:
    """The point with its counts on both splits, and why there is none."""
    if chosen_on is None:
        return None, ""
    others = _patients(choosing, by_probability)
    n_positive = int(others.truth.sum())
    if n_positive in (0, len(others.ids)):
        return None, (
            f"no operating point: of {len(others.ids)} patients in {chosen_on!r} {n_positive} have a lesion; "
            "choosing takes some with and some without"
        )
    threshold = choose_threshold(others)
    return {
        "chosen_on": chosen_on,
        "rule": "largest sensitivity + specificity - 1 (Youden)",
        "threshold": None if math.isinf(threshold) else threshold,
        "chosen": plain(at_threshold(others, threshold)),
        "reported": plain(at_threshold(patients, threshold)),
    }, ""


def _lesions(scans: Sequence[LesionScan], threshold: float | None) -> dict[str, Any]:
    found = [scan.found for scan in scans]
    owners = [scan.patient for scan in scans]
    alarms = [sum(finding.false_positive for finding in match.predicted_lesions) for match in found]
    lesions: dict[str, Any] = {
        "sensitivity": plain(lesion_sensitivity(found)),
        "false_positives_per_scan": plain(cluster_bootstrap(alarms, owners)),
        "at_operating_point": None,
    }
    if threshold is not None:
        matches = [scan.candidates for scan in scans if scan.candidates is not None]
        lesions["at_operating_point"] = {
            "sensitivity": plain(lesion_sensitivity(matches, threshold)),
            "false_positives_per_scan": plain(cluster_bootstrap([_alarms(m, threshold) for m in matches], owners)),
        }
    return lesions


def _alarms(match: LesionMatch, threshold: float) -> int:
    return sum(f.false_positive and (f.score or 0.0) >= threshold for f in match.predicted_lesions)


def _at_rates(curve: Froc) -> dict[str, Any]:
    return {"sensitivity_at": {f"{rate:g}": curve.sensitivity_at(rate) for rate in FROC_RATES}}


def _notes(patients: Patients, by_probability: bool) -> list[str]:
    n_positive = int(patients.truth.sum())
    notes = []
    if not len(patients.ids):
        notes.append("no scan: nothing to tell")
    elif not n_positive:
        notes.append("no patient has a lesion: sensitivity, ROC and FROC cannot be told")
    elif n_positive == len(patients.ids):
        notes.append("every patient has a lesion: specificity and ROC cannot be told")
    if not by_probability:
        notes.append(
            "not all scans have a probability map: patients are scored by predicted volume, and there is no FROC"
        )
    return notes


_LESION_COLUMNS = (
    "dataset", "case", "patient", "split", "class", "kind", "number", "volume_ml", "diameter_mm", "extent_mm",
    "stratum", "hit", "covered", "dice", "score", "false_positive", "matches",
)  # fmt: skip


def lesions_csv(scans: Iterable[LesionScan]) -> str:
    """One line per true lesion (``lesion``), piece of a mask as delivered (``finding``) and ``candidate``, as CSV text.

    Hits, overlap and matches of a lesion are with findings; its score is the highest threshold on candidates at which
    it is still hit. Matches are numbers on the other side, with ``;`` between them.
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, _LESION_COLUMNS, lineterminator="\n")
    writer.writeheader()
    for scan in scans:
        place = {"dataset": scan.dataset, "case": scan.case, "patient": scan.patient, "split": scan.split}
        for kind, values in _lines(scan):
            writer.writerow({**place, "class": scan.name, "kind": kind, **values})
    return text.getvalue()


def _lines(scan: LesionScan) -> Iterable[tuple[str, dict[str, Any]]]:
    scores = {lesion.number: lesion.score for lesion in scan.candidates.true_lesions} if scan.candidates else {}
    for lesion in scan.found.true_lesions:
        yield "lesion", _of_lesion(lesion) | {"score": scores.get(lesion.number)}
    for finding in scan.found.predicted_lesions:
        yield "finding", _of_finding(finding)
    for finding in scan.candidates.predicted_lesions if scan.candidates else ():
        yield "candidate", _of_finding(finding)


def _of_lesion(lesion: TrueLesion) -> dict[str, Any]:
    own = {key: getattr(lesion, key) for key in ("number", "volume_ml", "diameter_mm", "extent_mm", "stratum")}
    return own | {"hit": lesion.hit, "covered": lesion.covered, "dice": lesion.dice, "matches": _joined(lesion.matches)}


def _of_finding(finding: PredictedLesion) -> dict[str, Any]:
    own = {key: getattr(finding, key) for key in ("number", "volume_ml", "diameter_mm", "score", "false_positive")}
    return own | {"matches": _joined(finding.hits)}


def _joined(numbers: Sequence[int]) -> str:
    return ";".join(map(str, numbers))


def plain(value: Any) -> Any:
    """Data for JSON: dataclasses and mappings as dicts, arrays as lists, and None for what is not finite."""
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
