"""``voxicon evaluate`` end to end on hand-made predictions whose every number is known; what goes wrong."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml

from tests.assemblies import (
    AFFINE,
    GRID,
    SHAPE,
    TINY,
    by_case,
    labels_of,
    masks_of,
    shifted,
    summary,
    table,
    write_prediction,
    write_predictions,
    write_scan,
)
from tests.cli.conftest import Evaluate
from tests.weights_on_disk import write_small_weights
from voxicon.core.geometry import Geometry
from voxicon.io.nifti import write_labels

TEST = ("t1", "t2", "t3a", "t3b")


# --- numbers


def test_perfect_predictions(evaluate: Evaluate, pristine: Path, tmp_path: Path) -> None:
    folder, out = write_predictions(tmp_path / "p"), tmp_path / "out"
    code, text, errors = evaluate(pristine, "--predictions", folder, "-o", out)
    assert (code, errors) == (0, "")
    found = summary(out)
    assert set(found["classes"]) == {"spleen", "liver", "liver_tumor"}
    for cell in (entry["all"] for entry in found["classes"].values()):
        assert (cell["dice"]["mean"], cell["nsd"]["mean"], cell["hd95_mm"]["mean"]) == (1, 1, 0)
        assert (cell["n_missed"], cell["n_false_alarm"], cell["n_not_predicted"]) == (0, 0, 0)
    assert found["mean"]["all"]["dice"]["mean"] == 1
    tumor = found["classes"]["liver_tumor"]["all"]
    # t2 has none, and none is found: right, and nothing to score.
    assert (tumor["n_scored"], tumor["n_absent"], tumor["dice"]["n"]) == (3, 1, 3)
    # t3a and t3b are one patient.
    assert (tumor["n_cases"], tumor["n_patients"], tumor["dice"]["patients"]) == (4, 3, 2)
    called = found["detection"]["liver_tumor"]["any_voxel"]
    assert (called["sensitivity"]["count"], called["sensitivity"]["total"]) == (2, 2)
    assert (called["specificity"]["count"], called["specificity"]["total"]) == (1, 1)
    # Wilson's lower bound for 2 of 2: 1 / (1 + 1.96^2 / 2) = 0.342.
    assert called["sensitivity"]["low"] == pytest.approx(0.342, abs=1e-3)
    lesions = found["detection"]["liver_tumor"]["lesions"]
    assert lesions["sensitivity"]["all"]["value"] == 1
    # 27 voxels of 36 mm3: the ball of 972 mm3 is 12.3 mm wide.
    assert lesions["sensitivity"]["10-20 mm"]["total"] == 3
    assert lesions["false_positives_per_scan"]["value"] == 0
    assert "liver_tumor                     3  1.000" in text
    assert "report: " in text


def test_predictions_moved_by_one_voxel(evaluate: Evaluate, pristine: Path, tmp_path: Path) -> None:
    folder, out = write_predictions(tmp_path / "p", shifted), tmp_path / "out"
    assert evaluate(pristine, "--predictions", folder, "-o", out, "--tolerance-mm", "3", "-q") == (0, "", "")
    cells = {name: entry["all"] for name, entry in summary(out)["classes"].items()}
    # Boxes 10, 3 and 4 voxels long, moved by one: 9/10, 2/3 and 3/4 are shared.
    expected = {"liver": 9 / 10, "liver_tumor": 2 / 3, "spleen": 3 / 4}
    assert {name: cell["dice"]["mean"] for name, cell in cells.items()} == pytest.approx(expected)
    assert {cell["nsd"]["mean"] for cell in cells.values()} == {1.0}  # one voxel is 3 mm, the tolerance too
    assert {cell["hd95_mm"]["mean"] for cell in cells.values()} == {3.0}
    assert {cell["volume_error_percent"]["mean"] for cell in cells.values()} == {0.0}
    assert cells["spleen"]["dice"] | {"n": 5} == cells["spleen"]["dice"]
    strict = tmp_path / "strict"
    assert evaluate(pristine, "--predictions", folder, "-o", strict, "--tolerance-mm", "2.9", "-q")[0] == 0
    assert summary(strict)["classes"]["liver"]["all"]["nsd"]["mean"] < 0.8


def test_cells_say_where_they_come_from(evaluate: Evaluate, pristine: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    words = (pristine, "--predictions", write_predictions(tmp_path / "p"), "-o", out)
    assert evaluate(*words)[0] == 0
    found = summary(out)
    spleen = found["classes"]["spleen"]
    assert set(spleen["per_dataset"]) == {"tiny", "spleens"}
    assert spleen["all"]["labels_by"] == ["human", "machine"]
    assert (spleen["per_dataset"]["tiny"]["dice"]["n"], spleen["per_dataset"]["spleens"]["dice"]["n"]) == (4, 1)
    # One patient cannot tell how patients differ.
    assert spleen["per_dataset"]["spleens"]["dice"]["low"] is None
    # Nothing is known about livers in the other dataset, so nothing is judged there.
    assert set(found["classes"]["liver"]["per_dataset"]) == {"tiny"}
    assert found["command"].startswith("voxicon evaluate ")
    assert str(pristine) in found["command"]
    assert found["predictions"] == str(tmp_path / "p")
    assert found["datasets"]["spleens"]["labels_by"] == "machine"
    assert any("not all labels of spleens are by people" in note for note in found["notes"])
    assert (out / "report.html").read_text(encoding="utf8")


def test_missed_classes_and_false_alarms(evaluate: Evaluate, pristine: Path, tmp_path: Path) -> None:
    folder, out = write_predictions(tmp_path / "p"), tmp_path / "out"
    nothing = np.zeros(SHAPE, dtype=bool)
    alarm = nothing.copy()
    alarm[2:4, 2:4, 2:4] = True
    write_prediction(folder / "tiny" / "t1", {"liver_tumor": nothing})
    write_prediction(folder / "tiny" / "t2", {"liver_tumor": alarm})
    code, text, _ = evaluate(pristine, "--predictions", folder, "-o", out)
    assert code == 0
    rows = by_case(out)
    assert rows["t1", "liver_tumor"] | {"state": "missed", "dice": "0.0", "hd95_mm": ""} == rows["t1", "liver_tumor"]
    assert rows["t2", "liver_tumor"] | {"state": "false_alarm", "dice": "0.0"} == rows["t2", "liver_tumor"]
    tumor = summary(out)["classes"]["liver_tumor"]["all"]
    # 0 and 0 for these, 1 and 1 for t3a and t3b.
    assert (tumor["dice"]["mean"], tumor["dice"]["n"], tumor["hd95_mm"]["n"]) == (0.5, 4, 2)
    assert "0/1/1" in text
    detection = summary(out)["detection"]["liver_tumor"]
    # Patients t1 (missed), t2 (false alarm), t3 (found).
    assert [detection["any_voxel"][key]["count"] for key in ("sensitivity", "specificity")] == [1, 0]
    assert (
        detection["lesions"]["sensitivity"]["all"] | {"count": 2, "total": 3}
        == detection["lesions"]["sensitivity"]["all"]
    )
    assert detection["lesions"]["false_positives_per_scan"]["value"] == 0.25
    kinds = [(row["case"], row["kind"], row["hit"], row["false_positive"]) for row in table(out, "lesions.csv")]
    assert ("t1", "lesion", "False", "") in kinds
    assert ("t2", "finding", "", "True") in kinds


def test_what_nobody_predicted_is_listed_and_not_scored(evaluate: Evaluate, pristine: Path, tmp_path: Path) -> None:
    folder, out = write_predictions(tmp_path / "p"), tmp_path / "out"
    for path in folder.rglob("liver.nii.gz"):
        path.unlink()
    (folder / "tiny" / "t1" / "segmentations" / "spleen.nii.gz").unlink()
    code, text, _ = evaluate(pristine, "--predictions", folder, "-o", out)
    assert code == 0
    found = summary(out)
    assert found["not_predicted"] == {"spleen": 1, "liver": 4}
    liver = found["classes"]["liver"]["all"]
    assert (liver["dice"]["mean"], liver["dice"]["n"], liver["n_not_predicted"]) == (None, 0, 4)
    assert found["mean"]["all"]["dice"] | {"mean": 1.0, "n": 2} == found["mean"]["all"]["dice"]
    assert by_case(out)["t1", "spleen"]["state"] == "not_predicted"
    assert "not predicted in 4" in text
    assert "note: annotated but not predicted, and in no mean: liver, spleen" in text


def test_classes_and_split(evaluate: Evaluate, pristine: Path, tmp_path: Path) -> None:
    folder, out = write_predictions(tmp_path / "p"), tmp_path / "out"
    code, text, _ = evaluate(pristine, "--predictions", folder, "-o", out, "-c", "LIVER,1", "--split", "val", "--json")
    assert code == 0
    found = json.loads(text)
    assert set(found["classes"]) == {"liver", "spleen"}
    assert {row["case"] for row in table(out)} == {"v1", "v2"}
    assert found == summary(out)


# --- what goes wrong


def test_a_scan_that_cannot_be_judged_does_not_stop_the_others(
    evaluate: Evaluate, assembly: Path, tmp_path: Path
) -> None:
    folder, out = write_predictions(tmp_path / "p"), tmp_path / "out"
    shutil.rmtree(folder / "tiny" / "t1")
    affine = AFFINE.copy()
    affine[0, 3] += 1.5
    write_prediction(folder / "tiny" / "t2", {"liver": masks_of(labels_of("t2"))["liver"]}, Geometry(SHAPE, affine))
    (assembly.parent / "tiny" / "labelsTr" / "t3a.nii.gz").write_bytes(b"no label map")
    code, _, errors = evaluate(assembly, "--predictions", folder, "-o", out)
    assert code == 1
    failed = summary(out)["failed"]
    assert set(failed) == {"tiny/t1", "tiny/t2", "tiny/t3a"}
    assert "no prediction; expected" in failed["tiny/t1"]
    assert "is not the scan's" in failed["tiny/t2"]
    assert "liver.nii.gz" in failed["tiny/t2"]
    assert len(errors.splitlines()) == 3
    # All of a failed case's rows are gone, the others are there.
    assert {row["case"] for row in table(out)} == {"t3b", "0001"}
    assert any("3 scan(s) could not be judged" in note for note in summary(out)["notes"])


def test_masks_of_another_scan_are_refused(evaluate: Evaluate, pristine: Path, tmp_path: Path) -> None:
    folder, out = write_predictions(tmp_path / "p"), tmp_path / "out"
    told = {"input": {"sha256": "0" * 64}, "weights": {"name": "w", "sha256": "1" * 64}}
    (folder / "tiny" / "t1" / "case.json").write_text(json.dumps(told))
    code, _, errors = evaluate(pristine, "--predictions", folder, "-o", out)
    assert code == 1
    assert "was made from another scan" in errors


def test_hostile_case_names(evaluate: Evaluate, tmp_path: Path) -> None:
    names = ["a,b", '"q"', "<script>alert(1)", "=1+1", "ü ñ", "new\nline", "x&y"]
    data = tmp_path / "data"
    card = TINY | {"parts": [{"image": "img{case}.nii.gz", "label": "lab{case}.nii.gz"}], "patient": None, "splits": {}}
    for name in [*names, ".."]:
        write_scan(data / f"img{name}.nii.gz")
        write_labels(data / f"lab{name}.nii.gz", labels_of("t1"), GRID)
        if name not in ("..", "new\nline"):
            write_prediction(tmp_path / "p" / "tiny" / name, masks_of(labels_of("t1")))
    (data / "tiny.yaml").write_text(yaml.safe_dump(card))
    recipe = data / "assembly.yaml"
    recipe.write_text(yaml.safe_dump({"name": "hostile", "datasets": [{"card": "tiny.yaml"}]}))
    out, sent = tmp_path / "out", tmp_path / "sent"
    words = (recipe, "--predictions", tmp_path / "p", "-o", out, "--split", "train", "--submission", sent, "-q")
    code, _, errors = evaluate(*words)
    assert code == 1
    assert "cannot name a folder" in errors
    assert set(summary(out)["failed"]) == {"tiny/..", "tiny/new\nline"}
    assert len(errors.splitlines()) == 2
    judged = set(names) - {"new\nline"}
    assert {row["case"] for row in table(out)} == judged
    assert "<script>alert" not in (out / "report.html").read_text(encoding="utf8")
    assert {path.name for path in (sent / "tiny").iterdir()} == {f"lab{name}.nii.gz" for name in judged}
    # By weights, too, nothing is written outside of its own folder.
    weights = write_small_weights(tmp_path / "w.safetensors")
    assert (
        evaluate(recipe, "--weights", weights, "-o", tmp_path / "own", "--split", "train", "-c", "spleen", "-q")[0] == 1
    )
    assert {p.name for p in (tmp_path / "own" / "predictions").iterdir()} == {"tiny"}
    assert {p.name for p in (tmp_path / "own" / "predictions" / "tiny").iterdir()} == set(names)


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["--weights", "starter", "--predictions", "."], 2, "contradict"),
        (["--predictions", "nowhere"], 2, "no such folder"),
        (["--predictions", "{p}", "-c", "livr"], 2, "did you mean liver"),
        (["--predictions", "{p}", "-c", "aorta"], 2, "no card annotates aorta"),
        (["--predictions", "{p}", "--split", "tset"], 2, "--split 'tset'"),
        (["--predictions", "{p}", "--choose-on", "unlabeled"], 2, "--choose-on 'unlabeled'"),
        (["--predictions", "{p}", "--choose-on", "test"], 2, "looks too good"),
        (["--predictions", "{p}", "--tolerance-mm", "-1"], 2, "expected 0 or more"),
        (["--predictions", "{p}", "--tolerance-mm", "nan"], 2, "expected 0 or more"),
        (["--predictions", "{p}", "--split", "unlabeled"], 2, "no labels to judge by"),
        (["--predictions", "{p}", "--reader", "R1"], 2, "NAME=FOLDER"),
        (["--predictions", "{p}", "--reader", "R1=nowhere", "--reader", "R2={p}"], 2, "no such folder"),
        (["--predictions", "{p}", "--reader", "R1={p}"], 2, "at least two"),
        (["--predictions", "{p}", "--reader", "R1={p}", "--reader", "R1={p}"], 2, "every name once"),
        (["--predictions", "{p}", "--reader", "AI={p}", "--reader", "R1={p}"], 2, "stands for the model"),
        (["--predictions", "{p}", "--reader", "R1={p}", "--reader", "R2={p}"], 2, "has a label map in all of"),
        (["--predictions", "{p}", "--against", "nowhere"], 2, "cannot be read"),
        (["--weights", "nowhere"], 2, "E-WEIGHTS"),
    ],
)
def test_refusals(
    evaluate: Evaluate, pristine: Path, tmp_path: Path, words: list[str], code: int, message: str
) -> None:
    (tmp_path / "p").mkdir()
    done = evaluate(pristine, *(word.format(p=tmp_path / "p") for word in words), "-o", tmp_path / "out")
    assert done[0] == code
    assert message in done[2]
    assert len(done[2].splitlines()) == 1
    assert not (tmp_path / "out" / "summary.json").exists()


def test_no_scan_in_the_split(evaluate: Evaluate, assembly: Path, tmp_path: Path) -> None:
    card = assembly.parent / "tiny.yaml"
    card.write_text(yaml.safe_dump(TINY | {"splits": {"test": list(TEST)}}))
    code, _, errors = evaluate(assembly, "--predictions", tmp_path, "--split", "val")
    assert code == 2
    assert "no scan in the split 'val' (there are: train 4, val 0, test 5, unlabeled 2)" in errors


def test_the_same_dataset_twice(evaluate: Evaluate, assembly: Path, tmp_path: Path) -> None:
    recipe = yaml.safe_load(assembly.read_text())
    recipe["datasets"].append(recipe["datasets"][0])
    assembly.write_text(yaml.safe_dump(recipe))
    code, _, errors = evaluate(assembly, "--predictions", tmp_path)
    assert code == 2
    assert "is listed more than once" in errors
