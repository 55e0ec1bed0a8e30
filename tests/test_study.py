"""A study from Python: what it is asked, whose scan is whose, which scans belong to it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.assemblies import TINY, write_assembly, write_predictions
from voxicon.data.manifest import ManifestRow, write_manifest
from voxicon.errors import ConfigError, OutputError
from voxicon.evaluation import save, summary, with_cases
from voxicon.plan import plan_training
from voxicon.prediction import ByWeights, FromFolder
from voxicon.recipe import load_recipe
from voxicon.segmenter import load
from voxicon.study import StudyConfig, prepare_study, run_study, scans_of


def test_copies_of_one_scan_are_one_patient(tmp_path: Path) -> None:
    assembly = write_assembly(tmp_path)
    split = {"a1": "train", "v1": "val", "v2": "val"}
    rows = [
        ManifestRow(f"tiny/{case}", f"tiny/{case[:2]}", split.get(case, "test"), -1, f"tiny/{case[:2]}")
        for case in ("a1", "v1", "v2", "t1", "t2", "t3a", "t3b")
    ]
    # spleens/0001 is the scan of tiny/t1 under another name; 0002 cannot be used.
    rows += [ManifestRow("spleens/0001", "spleens/0001", "test", -1, "tiny/t1")]
    rows += [ManifestRow("spleens/0002", "spleens/0002", "excluded", -1, "spleens/0002")]
    write_manifest(tmp_path / "manifest.csv", rows)
    recipe = load_recipe(assembly).model_copy(update={"manifest": Path("manifest.csv")})
    plan = plan_training(recipe, tmp_path)
    cases = [case for dataset in plan.datasets for case in dataset.cases]
    study = prepare_study(plan, tmp_path, FromFolder(write_predictions(tmp_path / "p"), cases), StudyConfig())
    told: list[tuple[str, int, int]] = []
    run_study(study, lambda *one: told.append(one))
    assert told[0] == ("tiny/t1", 0, 5)
    found = summary(study)
    assert (found["n_cases"], found["n_patients"]) == (5, 3)
    assert (
        found["classes"]["spleen"]["all"]["dice"] | {"n": 5, "patients": 3} == found["classes"]["spleen"]["all"]["dice"]
    )
    assert {row["case"] for row in with_cases(found, study)["cases"]} == {"t1", "t2", "t3a", "t3b", "0001"}
    assert save(study, tmp_path / "out", "a command")["command"] == "a command"


def test_scans_of_a_split(tmp_path: Path) -> None:
    plan = plan_training(load_recipe(write_assembly(tmp_path)), tmp_path)
    names = {split: [case.id for case in scans_of(plan, split)] for split in ("train", "val", "unlabeled")}
    assert names == {
        "train": ["tiny/a1", "spleens/0002"],
        "val": ["tiny/v1", "tiny/v2"],
        "unlabeled": ["tiny/u1", "spleens/0061"],
    }


def test_operating_points_are_chosen_on_scans_that_can_tell(tmp_path: Path) -> None:
    plan = plan_training(load_recipe(write_assembly(tmp_path)), tmp_path)
    cases = [case for dataset in plan.datasets for case in dataset.cases]
    source = FromFolder(write_predictions(tmp_path / "p"), cases)
    study = prepare_study(plan, tmp_path, source, StudyConfig(split="val", choose_on="train"))
    # The spleens know nothing about lesions.
    assert [(split, case.id) for split, case in study.cases] == [
        ("val", "tiny/v1"), ("val", "tiny/v2"), ("train", "tiny/a1"),
    ]  # fmt: skip
    run_study(study)
    # Of the split to choose on only lesions are judged.
    assert {row.name for row in study.rows if row.split == "train"} == {"liver_tumor"}


def test_results_of_other_weights_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "predictions" / TINY["id"] / "t1"
    folder.mkdir(parents=True)
    (folder / "case.json").write_text('{"weights": {"sha256": "0"}}')
    with pytest.raises(OutputError, match="holds a result of other weights than starter"):
        ByWeights(load("starter", device="cpu"), tmp_path / "predictions")


def test_settings_that_make_no_sense() -> None:
    with pytest.raises(ConfigError, match="--split 'excluded'"):
        StudyConfig(split="excluded")
    with pytest.raises(ConfigError, match="expected 0 or more"):
        StudyConfig(tolerance_mm=float("inf"))
    # What goes with scans without labels.
    StudyConfig(split="unlabeled", submission=Path("x"))
    with pytest.raises(ConfigError, match="alone"):
        StudyConfig(split="unlabeled", submission=Path("x"), choose_on="val")
