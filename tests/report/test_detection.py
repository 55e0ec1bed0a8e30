"""Detection as it is told by the package's own statistics, drawn where the numbers say."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.report.pages import checked, texts, with_class
from voxicon.evaluate.lesions import LesionMatch, PredictedLesion, TrueLesion
from voxicon.evaluate.table import summarize
from voxicon.evaluate.tumors import LesionScan, detection
from voxicon.report.detection import detection_card
from voxicon.report.evaluation import evaluation_page


def scan(patient: str, lesion: bool, score: float, split: str = "test", scored: bool = True) -> LesionScan:
    """A scan with or without one lesion, and one finding of some score, which hits it if it is there."""
    true = TrueLesion(1, 1.0, 12.0, 14.0, "10-20 mm", True, 1.0, 0.8, score, (1,))
    found = PredictedLesion(1, 1.0, 12.0, score if scored else None, (1,) if lesion else (), not lesion)
    match = LesionMatch((true,) if lesion else (), (found,))
    return LesionScan(
        dataset="lits", case=patient, patient=patient, split=split, labels_by="human", name="liver_tumor",
        found=match, candidates=match if scored else None, predicted_ml=score,
    )  # fmt: skip


def scans(split: str = "test", scored: bool = True) -> list[LesionScan]:
    sick, healthy = (0.9, 0.8, 0.3), (0.6, 0.2, 0.1)
    return [scan(f"{split}{i}", True, score, split, scored) for i, score in enumerate(sick)] + [
        scan(f"{split}{i + 9}", False, score, split, scored) for i, score in enumerate(healthy)
    ]


def found(**more: Any) -> dict[str, Any]:
    told = detection(scans(), scans("val"), "val") | more
    return json.loads(json.dumps(told))


def test_the_operating_point_lies_on_the_curve() -> None:
    card = detection_card("liver_tumor", found())
    # From the threshold 0.8 two of three sick and none of the healthy are positive: sensitivity 2/3, specificity 1.
    [mark] = with_class(card["roc"], "mark")
    assert (mark.get("cx"), float(mark.get("cy") or 0)) == ("52", 106)
    assert "● chosen on val" in texts(card["roc"])
    # Three of three and two of three by Wilson: specificity from 0.4385, sensitivity from 0.2077 to 0.9385.
    across, up = with_class(card["roc"], "over")
    assert float(across.get("x2") or 0) == pytest.approx(52 + (1 - 0.4385) * 314, abs=0.1)
    assert float(up.get("y1") or 0) == pytest.approx(294 - 0.2077 * 282, abs=0.1)
    assert float(up.get("y2") or 0) == pytest.approx(294 - 0.9385 * 282, abs=0.1)
    # 9 pairs of sick and healthy: 0.9 and 0.8 beat all three, 0.3 beats two: 8 / 9 = 0.89.
    assert any(words.startswith("AUC 0.89 (") for words in texts(card["roc"]))
    assert len(with_class(card["roc"], "band")) == 1
    [mark] = with_class(card["froc"], "mark")
    assert (mark.get("cx"), mark.get("cy")) == ("52", "106")
    assert "3 lesions, 6 scans" in texts(card["froc"])


def test_the_band_is_the_interval_of_the_sweep() -> None:
    card = detection_card("liver_tumor", found())
    [band] = with_class(card["roc"], "band")
    corners = (band.get("points") or "").split()
    # One corner above and one below for each threshold: infinity and six scores.
    assert len(corners) == 14
    ys = [float(corner.split(",")[1]) for corner in corners]
    # Three of three found: Wilson from 0.44 to 1, so the last lower corner lies at 294 - 0.4385 * 282.
    assert min(ys) == 12
    assert abs(ys[7] - (294 - 0.4385 * 282)) < 0.5


def test_sizes_and_counts() -> None:
    card = detection_card("liver_tumor", found())
    assert {"3 of 3", "0 of 0"} <= set(texts(card["sizes"]))
    assert "2 of 3" in texts(card["sizes_at_point"])
    labels = [label for label, _ in card["rows"]]
    assert labels == [
        "any voxel in the mask",
        "probability of at least 0.800, judged here",
        "probability of at least 0.800, on val where it was chosen",
    ]


def test_the_page_shows_it() -> None:
    text = checked(evaluation_page({**summarize([]), "detection": {"liver_tumor": found()}})).text
    for words in (
        "liver tumor 6 patients, 3 with a lesion 6 scans 3 lesions labels by human",
        "any voxel in the mask 100% 3/3, 44% to 100% 0% 0/3, 0% to 56%",
        "judged here 67% 2/3, 21% to 94% 100% 3/3, 44% to 100%",
        "0.50 false findings per scan",
        "Chosen on val: largest sensitivity",
    ):
        assert words in text


def test_without_probabilities_there_is_no_froc_and_it_is_said() -> None:
    card = detection_card("liver_tumor", detection(scans(scored=False), scans("val", scored=False), "val"))
    assert card["froc"] is None
    assert "volume in ml of at least 0.800, judged here" in [label for label, _ in card["rows"]]
    assert "there is no FROC" in card["notes"][0]


def test_without_healthy_patients_there_is_no_roc() -> None:
    card = detection_card("liver_tumor", detection(scans()[:3]))
    assert card["roc"] is None
    assert card["froc"] is not None
    assert card["point"] is None
    assert [label for label, _ in card["rows"]] == ["any voxel in the mask"]


def test_nobody_positive_is_a_point_too() -> None:
    told = detection(scans(), scans("val"), "val")
    told["operating_point"]["threshold"] = None
    assert detection_card("x", told)["rows"][1][0] == "nobody, judged here"


def test_no_scan_at_all() -> None:
    text = checked(evaluation_page({**summarize([]), "detection": {"liver_tumor": detection([])}})).text
    assert "no scan: nothing to tell" in text
