"""Detection of one class as plain data: what is told, what cannot be told, and the table of lesions."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from math import inf, nan

import numpy as np
import pytest

from tests.evaluate.shapes import box, empty
from voxicon.evaluate.lesions import match_lesions
from voxicon.evaluate.tumors import LesionScan, detection, lesions_csv, plain

SHAPE = (12, 6, 6)
SPACING_MM = (2.0, 2.0, 2.0)
LESION = box(SHAPE, ((1, 3), (1, 3), (1, 3)))
STRAY = box(SHAPE, ((8, 10), (1, 3), (1, 3)))


def scan(patient: str, lesion: float | None, stray: float = 0.0, *, maps: bool = True, case: str = "") -> LesionScan:
    """A scan with or without a lesion, seen with a probability, and with a stray finding of another."""
    truth = LESION if lesion is not None else empty(SHAPE)
    probability = LESION * (lesion or 0.0) + STRAY * stray
    mask = probability > 0.5
    candidates = match_lesions(truth, probability >= 0.1, SPACING_MM, probability) if maps else None
    return LesionScan(
        dataset="d", case=case or patient, patient=patient, split="test", labels_by="human", name="tumor",
        found=match_lesions(truth, mask, SPACING_MM), candidates=candidates, predicted_ml=float(mask.sum()) * 0.008,
    )  # fmt: skip


FOUR = [scan("a", 0.9), scan("b", 0.3, 0.2), scan("c", None, 0.6), scan("d", None)]


def test_patients_by_hand() -> None:
    found = detection(FOUR)
    assert [found[f"n_{key}"] for key in ("scans", "patients", "positive", "negative", "lesions")] == [4, 4, 2, 2, 2]
    # Above one half: a is found, b is not; c is a false alarm.
    called = found["any_voxel"]
    assert [called[key] for key in ("true_positives", "false_negatives", "true_negatives", "false_positives")] == [
        1,
        1,
        1,
        1,
    ]
    # 0.9 > 0.6 and 0; 0.3 > 0 only: three of four pairs.
    assert found["auc"]["value"] == 0.75
    assert found["score"] == "probability"
    assert [point["threshold"] for point in found["sweep"]] == [None, 0.9, 0.6, 0.3, 0.0]
    # Lesions at 0.9 and 0.3, false findings at 0.6 and 0.2, in four scans.
    assert found["froc"]["sensitivity"] == [0, 0.5, 0.5, 1, 1]
    assert found["froc"]["false_positives_per_scan"] == [0, 0, 0.25, 0.25, 0.5]
    assert found["froc"]["sensitivity_at"]["0.25"] == 1
    assert found["lesions"]["false_positives_per_scan"]["value"] == 0.25
    assert (found["operating_point"], found["lesions"]["at_operating_point"], found["notes"]) == (None, None, [])
    json.dumps(found, allow_nan=False)


def test_two_scans_of_a_patient_are_one() -> None:
    found = detection([scan("a", 0.2, case="a1"), scan("a", None, 0.8, case="a2"), scan("b", None)])
    assert (found["n_scans"], found["n_patients"], found["n_positive"]) == (3, 2, 1)
    assert found["any_voxel"]["true_positives"] == 1


def test_an_operating_point_of_other_patients() -> None:
    found = detection(FOUR, [scan("x", 0.55), scan("y", None, 0.4)], "val")
    point = found["operating_point"]
    assert (point["chosen_on"], point["threshold"]) == ("val", 0.55)
    assert (point["chosen"]["true_positives"], point["chosen"]["true_negatives"]) == (1, 1)
    assert [point["reported"][key] for key in ("true_positives", "false_positives")] == [1, 1]
    at_point = found["lesions"]["at_operating_point"]
    assert (at_point["sensitivity"]["all"]["count"], at_point["false_positives_per_scan"]["value"]) == (1, 0.25)


@pytest.mark.parametrize(
    ("choosing", "n"),
    [
        ([], "0 patients in 'val' 0"),
        ([scan("x", 0.9)], "1 patients in 'val' 1"),
        ([scan("x", None)], "1 patients in 'val' 0"),
    ],
)
def test_nothing_to_choose_by(choosing: list[LesionScan], n: str) -> None:
    found = detection(FOUR, choosing, "val")
    assert found["operating_point"] is None
    assert f"no operating point: of {n} have a lesion" in found["notes"][-1]


def test_when_calling_nobody_is_best() -> None:
    found = detection(FOUR, [scan("x", 0.2), scan("y", None, 0.9)], "val")
    assert found["operating_point"]["threshold"] is None
    assert found["operating_point"]["reported"]["true_positives"] == 0
    json.dumps(found, allow_nan=False)


def test_without_maps_volume_is_the_score() -> None:
    found = detection([replace(one, candidates=None) if one.case == "d" else one for one in FOUR])
    assert (found["score"], found["froc"]) == ("volume_ml", None)
    assert "scored by predicted volume" in found["notes"][0]
    # a and c have 8 voxels of 8 mm3, b and d none: 1/2 + 1 + 0 + 1/2 of four pairs.
    assert found["auc"]["value"] == 0.5
    assert found["lesions"]["sensitivity"]["all"]["count"] == 1
    # An operating point on volumes says nothing about single lesions.
    found = detection(FOUR, [scan("x", 0.9, maps=False), scan("y", None, maps=False)], "val")
    assert found["operating_point"]["threshold"] == pytest.approx(0.064)
    assert found["lesions"]["at_operating_point"] is None


def test_no_scans() -> None:
    found = detection([])
    assert (found["n_scans"], found["auc"]["value"], found["roc"], found["froc"]) == (0, None, None, None)
    assert found["notes"] == ["no scan: nothing to tell"]


def test_the_table_of_lesions() -> None:
    rows = list(csv.DictReader(io.StringIO(lesions_csv(FOUR))))
    told = [(row["case"], row["kind"], row["hit"], row["false_positive"], row["score"], row["matches"]) for row in rows]
    assert told == [
        ("a", "lesion", "True", "", "0.9", "1"),
        ("a", "finding", "", "False", "", "1"),
        ("a", "candidate", "", "False", "0.9", "1"),
        # Not hit by the mask as delivered; hit by a candidate.
        ("b", "lesion", "False", "", "0.3", ""),
        ("b", "candidate", "", "False", "0.3", "1"),
        ("b", "candidate", "", "True", "0.2", ""),
        ("c", "finding", "", "True", "", ""),
        ("c", "candidate", "", "True", "0.6", ""),
    ]
    # 8 voxels of 8 mm3: the ball of 64 mm3 is 4.96 mm wide.
    assert {row["stratum"] for row in rows if row["kind"] == "lesion"} == {"0-5 mm"}


def test_plain_data() -> None:
    assert plain({"a": (1.0, inf, nan), "b": np.array([1, 2]), "c": {"d": "x"}, "e": np.array([inf])}) == {
        "a": [1.0, None, None], "b": [1, 2], "c": {"d": "x"}, "e": [None],
    }  # fmt: skip
