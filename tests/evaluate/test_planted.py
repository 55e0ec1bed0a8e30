"""Planted lesions counted by hand, and judged like lesions of labels are."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from voxicon.evaluate.lesions import match_lesions
from voxicon.evaluate.pair import joint_box
from voxicon.evaluate.planted import (
    Look,
    PlantedLesion,
    bin_name,
    judge,
    lesions_csv,
    operating_point,
    summarize_planted,
)

BINS = ((3.0, 5.0), (5.0, 10.0))
NAMES = ["3-5 mm", "5-10 mm"]


def lesion(found: bool, score: float, bin_: str = "3-5 mm", **more: Any) -> PlantedLesion:
    values: dict[str, Any] = {
        "dataset": "d", "case": "c", "round": 1, "seed": 7, "name": "liver_tumor", "host": "liver", "bin": bin_,
        "planned_mm": 4.0, "diameter_mm": 4.1, "volume_ml": 0.036, "contrast_hu": -40.0, "center_mm": (1.0, 2.0, 3.0),
        "found": found, "covered": float(found), "dice": 0.5 * found, "score": score,
    }  # fmt: skip
    return PlantedLesion(**values | more)


def look(score: float, predicted_ml: float = 0.0, planted: bool = False, case: str = "c", alarms: int = 0) -> Look:
    return Look(
        dataset="d", case=case, round=0, name="liver_tumor", planted=planted, false_findings=alarms,
        predicted_ml=predicted_ml, score=score,
    )  # fmt: skip


def test_bins_have_names() -> None:
    assert bin_name(3, 5) == "3-5 mm"
    assert bin_name(2.5, 10) == "2.5-10 mm"


def test_one_lesion_found_one_missed_one_finding_too_many() -> None:
    predicted = np.zeros((12, 4, 4), dtype=bool)
    levels = np.zeros(predicted.shape, dtype=np.uint8)
    first = (slice(1, 3), slice(0, 2), slice(0, 2))  # 8 voxels
    second = (slice(8, 10), slice(1, 3), slice(1, 3))
    predicted[2:5, 0:2, 0:2] = True  # 12 voxels, 4 of them in the first lesion
    predicted[6, 3, 3] = True  # touches nothing: one voxel beside the second, not in it
    levels[2:5, 0:2, 0:2] = 153
    levels[4, 0, 0] = 250  # of the finding, not in the lesion
    levels[9, 2, 2] = 51  # in the second, below the mask's threshold
    whole = np.ones((2, 2, 2), dtype=bool)
    verdicts, false_findings, score = judge([(first, whole), (second, whole)], predicted, levels)
    assert [verdict.found for verdict in verdicts] == [True, False]
    assert [verdict.covered for verdict in verdicts] == [0.5, 0]
    # 2 x 4 shared, 8 of the lesion and 12 of the finding.
    assert [verdict.dice for verdict in verdicts] == [pytest.approx(8 / 20), 0]
    assert [verdict.score for verdict in verdicts] == [pytest.approx(0.6), pytest.approx(0.2)]
    assert false_findings == 1
    assert score == pytest.approx(250 / 255)


def test_only_voxels_of_the_lesion_count_not_its_box() -> None:
    predicted = np.zeros((4, 4, 4), dtype=bool)
    predicted[0, 0, 0] = True
    mask = np.ones((4, 4, 4), dtype=bool)
    mask[0, 0, 0] = False
    [verdict], false_findings, _ = judge([((slice(0, 4),) * 3, mask)], predicted, predicted.astype(np.uint8))
    assert (verdict.found, verdict.score, false_findings) == (False, 0, 1)


def test_nothing_predicted_and_nothing_planted() -> None:
    nothing = np.zeros((3, 3, 3), dtype=bool)
    levels = np.zeros((3, 3, 3), dtype=np.uint8)
    assert judge([], nothing, levels) == ([], 0, 0.0)
    [verdict], false_findings, score = judge([((slice(0, 1),) * 3, np.ones((1, 1, 1), dtype=bool))], nothing, levels)
    assert (verdict.found, verdict.covered, verdict.dice, false_findings, score) == (False, 0, 0, 0, 0)


masks = hnp.arrays(np.bool_, (6, 5, 4), elements=st.booleans())


@given(masks, masks)
def test_one_lesion_is_judged_as_lesions_of_labels_are(truth: np.ndarray, predicted: np.ndarray) -> None:
    box = joint_box(truth, truth)
    expected = match_lesions(truth, predicted, (1.0, 1.0, 1.0))
    if box is None or len(expected.true_lesions) != 1:
        return
    [true] = expected.true_lesions
    [verdict], false_findings, _ = judge([(box, truth[box])], predicted, predicted.astype(np.uint8))
    assert (verdict.found, verdict.covered) == (true.hit, true.covered)
    assert verdict.dice == pytest.approx(true.dice)
    assert false_findings == sum(finding.false_positive for finding in expected.predicted_lesions)


def study() -> tuple[list[PlantedLesion], list[Look]]:
    lesions = [
        lesion(False, 0.2, contrast_hu=-10.0),
        lesion(True, 0.6, contrast_hu=30.0),
        lesion(True, 0.9, "5-10 mm", contrast_hu=-20.0),
        lesion(True, 0.8, "5-10 mm", contrast_hu=-60.0),
    ]
    quiet = [look(score, predicted_ml=score > 0.5) for score in (0.0, 0.1, 0.3, 0.7, 0.3)]
    return lesions, [*quiet, look(0.9, 3.0, planted=True, alarms=2), look(0.9, 3.0, planted=True, alarms=1)]


def test_a_summary_by_hand() -> None:
    lesions, looks = study()
    found = summarize_planted(lesions, looks, BINS)
    assert (found["n_lesions"], found["n_untouched"], found["n_planted"], found["n_scans"]) == (4, 5, 2, 1)
    delivered = found["as_delivered"]
    counts = {name: (one["count"], one["total"]) for name, one in delivered["sensitivity"].items()}
    assert counts == {"all": (3, 4), "3-5 mm": (1, 2), "5-10 mm": (2, 2)}
    # Wilson for 2 of 2: from 1 / (1 + 1.96^2 / 2) = 0.342 to 1.
    assert delivered["sensitivity"]["5-10 mm"]["low"] == pytest.approx(0.342, abs=1e-3)
    # Of five untouched looks one has a voxel; looks at planted scans do not count.
    assert (delivered["specificity"]["count"], delivered["specificity"]["total"]) == (4, 5)
    # Dice 0.5 where found: (0 + 0.5) / 2 and 0.5.
    assert delivered["dice"] == {"all": 0.375, "3-5 mm": 0.25, "5-10 mm": 0.5}
    assert delivered["false_findings_per_planted_scan"]["value"] == 1.5
    assert delivered["false_findings_per_untouched_scan"]["value"] == 0
    contrasts = {name: (one["count"], one["total"]) for name, one in found["by_contrast"].items()}
    # Amounts 10, 30, 20 and 60: lower ends belong to the stratum.
    assert contrasts == {"under 20 HU": (0, 1), "20-40 HU": (2, 2), "40-60 HU": (0, 0), "60+ HU": (1, 1)}
    json.dumps(found, allow_nan=False)


def test_the_curve_and_the_points_on_it() -> None:
    lesions, looks = study()
    found = summarize_planted(lesions, looks, BINS)
    curve = found["curve"]
    assert curve["thresholds"] == [None, 0.9, 0.8, 0.7, 0.6, 0.3, 0.2, 0.1]
    # Scores of untouched looks: 0, 0.1, 0.3, 0.3 and 0.7; below 0.9 are all, below 0.7 four of five, below 0.3 two.
    assert curve["specificity"] == [1, 1, 1, 0.8, 0.8, 0.4, 0.4, 0.2]
    assert curve["sensitivity"]["all"] == [0, 0.25, 0.5, 0.5, 0.75, 0.75, 1, 1]
    assert curve["sensitivity"]["3-5 mm"] == [0, 0, 0, 0, 0.5, 0.5, 1, 1]
    # The lowest threshold with four of five quiet is 0.6: a lesion's own score is enough.
    point = found["at_specificity"]["0.8"]
    assert point["threshold"] == 0.6
    assert (point["specificity"]["count"], point["specificity"]["total"]) == (4, 5)
    assert [point["sensitivity"][name]["count"] for name in ("all", *NAMES)] == [3, 1, 2]
    # 0.9 of five are all five.
    assert found["at_specificity"]["0.9"]["threshold"] == 0.8


def test_points_at_the_ends() -> None:
    assert operating_point([lesion(True, 0.9)], [], NAMES, 0.8) is None
    # Nothing scores above the only untouched look, so nothing may be called.
    point = operating_point([lesion(True, 0.4)], [look(0.9)], NAMES, 0.8)
    assert point is not None
    assert (point["threshold"], point["sensitivity"]["all"]["count"], point["specificity"]["value"]) == (None, 0, 1)
    # Untouched looks without any candidate: every lesion with one is found, those of score 0 are not.
    point = operating_point([lesion(True, 0.4), lesion(False, 0.0)], [look(0.0)], NAMES, 0.8)
    assert point is not None
    assert (point["threshold"], point["sensitivity"]["all"]["count"]) == (0.4, 1)


def test_nothing_at_all() -> None:
    found = summarize_planted([], [], BINS)
    assert (
        found["as_delivered"]["sensitivity"]["3-5 mm"] | {"value": None, "total": 0}
        == (found["as_delivered"]["sensitivity"]["3-5 mm"])
    )
    assert found["as_delivered"]["dice"]["all"] is None
    assert found["at_specificity"] == {"0.8": None, "0.9": None}
    assert found["curve"]["specificity"] == [None]
    json.dumps(found, allow_nan=False)


scores = st.lists(st.sampled_from([0.0, 0.1, 0.3, 0.5, 0.8, 1.0]), min_size=1, max_size=12)


@given(scores, scores, st.sampled_from([0.5, 0.8, 0.9, 1.0]))
def test_a_point_keeps_its_specificity_and_no_lower_one_does(
    of_lesions: list[float], quiet: list[float], least: float
) -> None:
    lesions, looks = [lesion(True, score) for score in of_lesions], [look(score) for score in quiet]
    point = operating_point(lesions, looks, NAMES, least)
    assert point is not None
    assert point["specificity"]["value"] >= least - 1e-9
    threshold = point["threshold"] or np.inf
    lower = [score for score in {*of_lesions, *quiet} if 0 < score < threshold]
    assert all(sum(q < score for q in quiet) / len(quiet) < least for score in lower)
    assert point["sensitivity"]["all"]["count"] == sum(score >= threshold for score in of_lesions)


def test_the_table_has_a_line_per_lesion() -> None:
    [row] = csv.DictReader(io.StringIO(lesions_csv([lesion(True, 0.6)])))
    assert list(row)[:5] == ["dataset", "case", "round", "seed", "name"]
    assert list(row)[-4:] == ["found", "covered", "dice", "score"]
    assert (row["x_mm"], row["y_mm"], row["z_mm"], row["found"], row["bin"]) == ("1.0", "2.0", "3.0", "True", "3-5 mm")
    assert lesions_csv([]).count("\n") == 1
