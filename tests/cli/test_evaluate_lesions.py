"""``voxicon evaluate``: detection of lesions, with probability maps whose every value is known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.assemblies import (
    CASES,
    GRID,
    labels_of,
    summary,
    table,
    write_prediction,
    write_predictions,
)
from tests.cli.conftest import Evaluate
from voxicon.io.nifti import write_labels
from voxicon.io.probabilities import write_probabilities

TEST = ("t1", "t2", "t3a", "t3b")


# --- detection


def level_map(truth: np.ndarray, inside: int, elsewhere: int = 0) -> np.ndarray:
    """Probability in 255ths: one value in the lesion, another in a spot of the liver beside it."""
    levels = np.where(truth, inside, 0).astype(np.uint8)
    levels[11:13, 5:7, 5:7] = elsewhere
    return levels


def write_maps(folder: Path, levels: dict[str, np.ndarray]) -> None:
    for case, one in levels.items():
        write_probabilities({"liver_tumor": one}, folder / "tiny" / case, GRID)
        write_prediction(folder / "tiny" / case, {"liver_tumor": one > 127})


def test_an_operating_point_chosen_on_val_and_reported_on_test(
    evaluate: Evaluate, pristine: Path, tmp_path: Path
) -> None:
    folder, out = write_predictions(tmp_path / "p"), tmp_path / "out"
    lesion = labels_of("t1") == 2
    levels = {
        "v1": level_map(lesion, 153),  # 153 / 255 = 0.6, diseased
        "v2": level_map(lesion, 0, 51),  # 0.2, healthy
        "t1": level_map(lesion, 204),  # 0.8, diseased
        "t2": level_map(lesion, 0, 178),  # 0.698, healthy
        "t3a": level_map(lesion, 102),  # 0.4, diseased
        "t3b": level_map(lesion, 51, 20),  # 0.2, and a spot below what is a candidate
    }
    write_maps(folder, levels)
    code, text, _ = evaluate(pristine, "--predictions", folder, "-o", out, "--choose-on", "val")
    assert code == 0
    found = summary(out)["detection"]["liver_tumor"]
    assert found["score"] == "probability"
    point = found["operating_point"]
    assert point["threshold"] == pytest.approx(0.6)
    assert (point["chosen"]["sensitivity"]["value"], point["chosen"]["specificity"]["value"]) == (1, 1)
    # On the test split patient t1 (0.8) is found, t3 (0.4) is not, and t2 (0.7) is a false alarm.
    assert [point["reported"][key]["count"] for key in ("sensitivity", "specificity")] == [1, 0]
    # Pairs of a diseased and the healthy patient (0.698): 0.8 wins, 0.4 loses.
    assert found["auc"]["value"] == 0.5
    assert found["roc"]["thresholds"][0] is None
    # Lesions: t1 at 0.8, t3a at 0.4, t3b at 0.2; one false candidate (t2) in four scans.
    assert found["froc"]["sensitivity"][-1] == 1
    assert found["froc"]["false_positives_per_scan"][-1] == 0.25
    assert found["froc"]["sensitivity_at"]["0.125"] == pytest.approx(1 / 3)
    at_point = found["lesions"]["at_operating_point"]
    assert at_point["sensitivity"]["all"] | {"count": 1, "total": 3} == at_point["sensitivity"]["all"]
    assert at_point["false_positives_per_scan"]["value"] == 0.25
    # As delivered (above one half): t1 of three.
    assert found["lesions"]["sensitivity"]["all"]["count"] == 1
    assert "at 0.600 chosen on val: sensitivity 1/2 = 50%" in text
    # Rows of val are in the tables, not in the means.
    assert {row["case"] for row in table(out)} == {*TEST, "0001", "v1", "v2"}
    assert summary(out)["n_cases"] == 5
    candidates = [row for row in table(out, "lesions.csv") if row["kind"] == "candidate" and row["case"] == "t3b"]
    assert [float(row["score"]) for row in candidates] == [pytest.approx(0.2)]


def test_candidates_are_confined_like_the_masks(evaluate: Evaluate, pristine: Path, tmp_path: Path) -> None:
    folder, out = write_predictions(tmp_path / "p"), tmp_path / "out"
    levels = {case: level_map(labels_of(case) == 2, 204) for case in TEST}
    levels["t2"][20:22, 2:4, 12:14] = 250  # far from the liver: cleanup of masks would remove it
    write_maps(folder, levels)
    assert evaluate(pristine, "--predictions", folder, "-o", out, "-q")[0] == 0
    found = summary(out)["detection"]["liver_tumor"]
    assert found["froc"]["false_positives_per_scan"][-1] == 0
    assert found["auc"]["value"] == 1


@pytest.mark.parametrize(
    ("has_lesion", "note"),
    [(True, "every patient has a lesion: specificity and ROC"), (False, "no patient has a lesion: sensitivity, ROC")],
)
def test_patients_of_one_kind_only(
    evaluate: Evaluate, assembly: Path, tmp_path: Path, has_lesion: bool, note: str
) -> None:
    alike = labels_of("t1" if has_lesion else "t2")
    folder, out = write_predictions(tmp_path / "p"), tmp_path / "out"
    for case in CASES:
        write_labels(assembly.parent / "tiny" / "labelsTr" / f"{case}.nii.gz", alike, GRID)
        write_maps(folder, {case: level_map(alike == 2, 204)})
    code, text, _ = evaluate(assembly, "--predictions", folder, "-o", out, "--choose-on", "val")
    assert code == 0
    found = summary(out)["detection"]["liver_tumor"]
    assert any(line.startswith(note) for line in found["notes"])
    assert any("no operating point: of 2 patients in 'val'" in line for line in found["notes"])
    assert (found["roc"], found["operating_point"], found["auc"]["value"]) == (None, None, None)
    assert (found["froc"] is None) is not has_lesion
    assert f"liver_tumor: {note}" in text
