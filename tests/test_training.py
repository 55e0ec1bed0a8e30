"""From a recipe to weights that segment: alone, resumed, from a cache, and shared by two processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch

from tests.train.phantoms import CPU, write_dataset, write_recipe
from tests.train.test_loop import rows_of
from tests.train.test_processes import TORCHRUN, assert_same_training
from voxicon.cli.main import main
from voxicon.data.manifest import read_manifest, write_manifest
from voxicon.errors import CheckpointError, ConfigError, OutputError, UnknownClass
from voxicon.io.atomic import file_sha256
from voxicon.model.checkpoint import read_metadata
from voxicon.plan import plan_training
from voxicon.recipe import load_recipe
from voxicon.segmenter import load
from voxicon.train.loop import Trainer
from voxicon.training import build_trainer

ROOT = Path(__file__).parents[1]


def built(folder: Path, *datasets: str, run: str = "run", cache: Path | None = None, **changes: Any) -> Trainer:
    """The trainer of a recipe over datasets in a folder."""
    path = write_recipe(folder, *datasets, **changes)
    plan = plan_training(load_recipe(path), folder)
    return build_trainer(plan, folder / run, CPU, cache=cache)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Dataset a: liver and tumor; dataset b: spleen alone; two scans each."""
    write_dataset(tmp_path, "a", ("liver", "liver_tumor"))
    write_dataset(tmp_path, "b", ("spleen",), seed=4)
    return tmp_path


def write_splits(folder: Path, **split_of: str) -> None:
    """A manifest with the checksums of the scans that are there."""
    lines = ["id,split,image_sha256,labels_sha256"]
    for name, split in split_of.items():
        data, case = name.split("_")
        sums = [file_sha256(folder / data / f"{case}_{what}.nii.gz") for what in ("ct", "labels")]
        lines.append(",".join([f"{data}/{case}", split, *sums]))
    (folder / "m.csv").write_text("\n".join(lines) + "\n")


def remove_lesions(dataset: Path, case: str = "*") -> None:
    """What was lesion becomes liver, in some label maps."""
    for path in dataset.glob(f"{case}_labels.nii.gz"):
        labels = nib.load(path)
        values = np.asarray(labels.dataobj)
        nib.save(nib.Nifti1Image(np.where(values == 2, 1, values).astype(np.int16), labels.affine), path)


# --- the whole way ----------------------------------------------------------------------------------------------


def test_from_recipe_to_masks(folder: Path) -> None:
    trainer = built(folder, "a", "b", card={"license": "Apache-2.0"})
    known = [case.known_N.tolist() for case in trainer.sampler.cases]
    assert known == [[False, True, True]] * 2 + [[True, False, False]] * 2
    weights = trainer.run()
    metadata = read_metadata(weights)
    card = metadata.card
    assert metadata.trained == ("spleen", "liver", "liver_tumor")
    assert (card["steps"], card["license"]) == (3, "Apache-2.0")
    assert card["recipe"]["optimize"]["patch"] == [16, 16, 16]
    first, second = card["data"]
    assert (first["dataset"], first["train"], first["val"], second["dataset"]) == ("a", 2, 0, "b")
    assert first["sha256"]["c0"] == [file_sha256(folder / "a" / f"c0_{what}.nii.gz") for what in ("ct", "labels")]
    segmenter = load(weights, device="cpu")
    assert segmenter.classes == ("spleen", "liver", "liver_tumor")
    assert segmenter.segment(folder / "a" / "c0_ct.nii.gz").masks.geometry.shape == (24, 24, 24)


def test_lesions_are_known_to_the_sampler(folder: Path) -> None:
    assert built(folder, "a", "b").sampler.lesion_N.tolist() == [False, False, True]


def test_the_leak_of_a_recipe_is_that_of_the_network_and_its_file(folder: Path) -> None:
    trainer = built(folder, "a", network={"leak": 0.2})
    assert trainer.network.head.leak == trainer.averaged.head.leak == 0.2
    assert read_metadata(trainer.run()).network.leak == 0.2
    assert built(folder, "a", run="other").network.head.leak == 0.0


def test_patches_come_from_the_datasets_of_the_recipe(folder: Path) -> None:
    write_dataset(folder, "c", ("liver",), n_cases=4)
    sampler = built(folder, "c", "b", optimize={"sampling": {"datasets": "uniform"}}).sampler
    spleens = [bool(sampler.batch(step, [0]).known_BN[0, 0]) for step in range(100)]
    assert np.mean(spleens) == pytest.approx(0.5, abs=0.15), "one dataset in two, though one scan in three"


def test_finished_runs_are_not_trained_again_but_get_their_card_anew(folder: Path) -> None:
    first = built(folder, "a")
    first.run()
    again = built(folder, "a", card={"license": "MIT"})
    assert again.step == 3
    weights = again.run()
    assert read_metadata(weights).card["license"] == "MIT"
    assert all(torch.equal(a, b) for a, b in zip(first.averaged.parameters(), again.averaged.parameters(), strict=True))


def test_other_scans_do_not_resume(folder: Path) -> None:
    built(folder, "a").run()
    write_dataset(folder, "a", ("liver", "liver_tumor"), seed=2)
    with pytest.raises(CheckpointError, match=r"other settings \(training scans or cards\)"):
        built(folder, "a")
    with pytest.raises(CheckpointError, match=r"network.classes"):
        built(folder, "a", "b")


def test_missing_taken_for_background(folder: Path) -> None:
    write_splits(folder, a_c0="train", a_c1="val", b_c0="train", b_c1="val")
    plan = plan_training(load_recipe(write_recipe(folder, "a", "b", manifest="m.csv", missing="background")), folder)
    trainer = build_trainer(plan, folder / "run", CPU)
    assert all(case.known_N.all() for case in trainer.sampler.cases)
    assert trainer.sampler.cases[0].count_N[0] == 0, "the spleen of dataset a is drawn in its labels, but not annotated"
    assert trainer.validate is not None
    # Judged on what is known all the same: the spleen on one scan alone.
    asked: list[tuple[str, ...]] = []
    spied_on(trainer, asked)
    assert asked == [("liver", "liver_tumor"), ("spleen",)]


def spied_on(trainer: Trainer, asked: list[tuple[str, ...]]) -> None:
    """Which classes validation asks the network for, scan by scan."""
    real = trainer.averaged.rows_of
    trainer.averaged.rows_of = lambda names: (asked.append(names), real(names))[1]  # type: ignore[method-assign]
    assert trainer.validate is not None
    trainer.validate(trainer.averaged)


# --- validation -------------------------------------------------------------------------------------------------


def test_validation_by_hand(folder: Path) -> None:
    write_splits(folder, a_c0="train", a_c1="val", b_c0="train", b_c1="val")
    trainer = built(folder, "a", "b", manifest="m.csv")
    assert trainer.validate is not None
    with torch.no_grad():
        # A head without weights but for its last bias: every voxel of every class is found.
        for parameter in trainer.averaged.head.controller.parameters():
            parameter.zero_()
        trainer.averaged.head.controller.bias[-1] = 5.0
    dice = trainer.validate(trainer.averaged)
    # Everything found among 24³ = 13824 voxels: Dice is 2 n / (n + 13824) for a class of n voxels.
    liver, tumor, spleen = 1344, 125, 180
    assert dice == {
        name: pytest.approx(2 * n / (n + 13824))
        for name, n in (("spleen", spleen), ("liver", liver), ("liver_tumor", tumor))
    }
    with torch.no_grad():
        trainer.averaged.head.controller.bias[-1] = -5.0
    assert trainer.validate(trainer.averaged) == {"spleen": 0, "liver": 0, "liver_tumor": 0}


def test_a_class_that_is_absent_and_not_found_tells_nothing(folder: Path) -> None:
    remove_lesions(folder / "a", "c1")
    write_splits(folder, a_c0="train", a_c1="val")
    trainer = built(folder, "a", manifest="m.csv")
    assert trainer.validate is not None
    with torch.no_grad():
        for parameter in trainer.averaged.head.controller.parameters():
            parameter.zero_()
        trainer.averaged.head.controller.bias[-1] = -5.0
    assert trainer.validate(trainer.averaged) == {"liver": 0, "liver_tumor": None}
    with torch.no_grad():
        trainer.averaged.head.controller.bias[-1] = 5.0
    assert trainer.validate(trainer.averaged)["liver_tumor"] == 0, "false positives do tell"


def test_it_validates_on_the_scans_of_the_manifest(folder: Path) -> None:
    write_splits(folder, a_c0="train", a_c1="val")
    trainer = built(folder, "a", manifest="m.csv", optimize={"validate_every": 2})
    trainer.run()
    assert [row["step"] for row in rows_of(folder / "run") if "mean_dice" in row] == [2, 3]
    assert (folder / "run" / "best.safetensors").is_file()
    card = read_metadata(folder / "run" / "best.safetensors").card
    assert (card["data"][0]["train"], card["data"][0]["val"]) == (1, 1)
    assert set(card["data"][0]["sha256"]) == {"c0"}


# --- prepared scans ---------------------------------------------------------------------------------------------


def entries(cache: Path) -> set[str]:
    return {path.name for path in cache.iterdir() if path.is_dir()}


def test_prepared_scans_are_found_again_by_what_they_were_made_of(folder: Path) -> None:
    cache = folder / "cache"
    told: list[str] = []

    def prepare(run: str, *datasets: str, base: Path = folder, **changes: Any) -> set[str]:
        before = entries(cache) if cache.is_dir() else set()
        told.clear()
        plan = plan_training(load_recipe(write_recipe(base, *datasets, **changes)), base)
        build_trainer(plan, base / run, CPU, cache=cache, told=lambda what, done, total: told.append(what))
        return entries(cache) - before

    assert len(prepare("one", "a")) == 2
    assert [what for what in told if what.startswith("preparing")] == ["preparing a/c0", "preparing a/c1"]
    assert prepare("two", "a") == set()
    assert not [what for what in told if what.startswith("preparing")]
    assert prepare("three", "a", optimize={"steps": 9, "augment": "strong"}, name="other") == set()
    moved = folder / "moved"
    moved.mkdir()
    (folder / "a").rename(moved / "a")
    (folder / "a.yaml").rename(moved / "a.yaml")
    assert prepare("four", "a", base=moved) == set(), "where a scan lies says nothing about what it is"
    assert len(prepare("five", "a", base=moved, preparation={"spacing_mm": [4, 4, 4]})) == 2
    assert len(prepare("six", "a", base=moved, preparation={"antialias": False})) == 2
    assert len(prepare("seven", "a", base=moved, classes=["liver"])) == 2
    assert len(prepare("eight", "a", base=moved, repaint_hu={"liver": [0, 9]})) == 2
    assert len(prepare("nine", "a", base=moved, missing="background")) == 2
    write_dataset(moved, "a", ("liver", "liver_tumor"), sampling={"background": 2, "foreground": 1})
    assert len(prepare("ten", "a", base=moved)) == 2, "another card"
    write_dataset(moved, "a", ("liver", "liver_tumor"), n_cases=1, seed=7)
    (moved / "a" / "c1_labels.nii.gz").unlink()
    assert len(prepare("eleven", "a", base=moved)) == 1, "another scan"


def test_a_cache_changes_nothing(folder: Path) -> None:
    runs = [built(folder, "a", "b", run=name, cache=folder / "cache") for name in ("one", "two")]
    for run in runs:
        run.run()
    own = built(folder, "a", "b", run="three")
    own.run()
    for other in (runs[1], own):
        for a, b in zip(runs[0].network.parameters(), other.network.parameters(), strict=True):
            assert torch.equal(a, b)


def test_folders_that_cannot_be_made(folder: Path) -> None:
    (folder / "file").write_text("")
    with pytest.raises(OutputError, match=r"file: cannot be made .*give another") as caught:
        built(folder, "a", run="file")
    assert caught.value.code == "E-DISK"
    with pytest.raises(OutputError, match=r"file/cache: cannot be made"):
        built(folder, "a", cache=folder / "file" / "cache")


def test_scans_that_changed_since_they_were_checked_are_refused(folder: Path) -> None:
    write_splits(folder, a_c0="train", a_c1="val")
    built(folder, "a", manifest="m.csv")
    write_manifest(folder / "m.csv", read_manifest(folder / "m.csv").values())
    built(folder, "a", manifest="m.csv", run="again")
    path = folder / "a" / "c1_labels.nii.gz"
    labels = nib.load(path)
    nib.save(nib.Nifti1Image(np.asarray(labels.dataobj)[::-1], labels.affine), path)
    with pytest.raises(ConfigError, match=r"m.csv: the labels of a/c1 changed since they were checked .*check' again"):
        built(folder, "a", manifest="m.csv", run="third")


# --- refused before a scan is read ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"inference": {"thresholds": {"lung_left": 0.8}}},
            r"inference.thresholds names lung_left, which it does not learn",
        ),
        ({"inference": {"smoothing_mm": {"aorta": 3}}}, r"inference.smoothing_mm names aorta, which it does not learn"),
        ({"inference": {"depth_mm": {"aorta": 3}}}, r"inference\.depth_mm says .* set network\.options\.host"),
        ({"inference": {"peaks": {"aorta": 0.8}}}, r"inference\.peaks says .* set network\.options\.host"),
        ({"optimize": {"patch": [16, 16, 15]}}, r"optimize.patch is \[16, 16, 15\]; .* needs multiples of 2"),
        ({"inference": {"window": [15, 16, 16]}}, r"inference.window is \[15, 16, 16\]"),
        ({"text": {"encoder": "oracle"}}, "oracle"),
        ({"classes": ["liver"], "network": {"options": {"channels": [15, 16]}}}, "cannot build backbone"),
        ({"network": {"backbone": "vgg"}}, "unknown backbone 'vgg'"),
    ],
)
def test_what_does_not_fit_is_refused_before_scans_are_read(
    folder: Path, changes: dict[str, Any], message: str
) -> None:
    (folder / "a" / "c0_ct.nii.gz").write_bytes(b"not a scan")
    with pytest.raises((ConfigError, CheckpointError), match=message):
        built(folder, "a", **changes)


# --- words ------------------------------------------------------------------------------------------------------


def test_a_class_that_no_scan_shows_is_not_claimed(folder: Path) -> None:
    remove_lesions(folder / "a")
    trainer = built(folder, "a")
    assert trainer.network.classes == ("liver", "liver_tumor"), "its absence is learned"
    weights = trainer.run()
    assert read_metadata(weights).trained == ("liver",)
    assert read_metadata(weights).card["never_shown"] == ["liver_tumor"]
    with pytest.raises(UnknownClass, match="not trained for liver_tumor"):
        load(weights, device="cpu").resolve_classes(["liver_tumor"])
    with pytest.raises(ConfigError, match="no training scan has a voxel of liver_tumor"):
        built(folder, "a", classes=["liver_tumor"], run="other")


def test_a_class_of_a_card_is_trained_segmented_by_name_and_written(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    stone = {"kind": "lesion", "parents": ["liver"], "aliases": ["gall bladder stone"], "color": [9, 8, 7]}
    annotates = {"liver": {"union": ["liver", "lesion"]}, "gall_stone": {"union": ["lesion"]}}
    write_dataset(folder, "c", annotates=annotates, defines={"gall_stone": stone, "unused_thing": {"kind": "organ"}})
    weights = built(folder, "c").run()
    assert read_metadata(weights).card["defines"] == {"gall_stone": stone}
    segmenter = load(weights, device="cpu")
    assert segmenter.classes == ("liver", "gall_stone")
    scan = folder / "c" / "c0_ct.nii.gz"
    result = segmenter.segment(scan, ["Gall bladder stone"], cleanup="none")
    result.save(folder / "python")
    assert (folder / "python" / "segmentations" / "gall_stone.nii.gz").is_file()
    (found,) = json.loads((folder / "python" / "combined_labels.json").read_text()).values()
    assert (found["name"], found["color"], found["kind"]) == ("gall_stone", [9, 8, 7], "lesion")
    command(monkeypatch, "segment", str(scan), "-c", "gall_stone", "--weights", str(weights), "-o", str(folder / "out"))
    assert (folder / "out" / "c0_ct" / "segmentations" / "gall_stone.nii.gz").is_file()
    capsys.readouterr()
    command(monkeypatch, "classes", "--weights", str(weights))
    assert "gall_stone" in capsys.readouterr().out.split("\n\n")[0]


def command(monkeypatch: pytest.MonkeyPatch, *words: str, code: int = 0) -> None:
    monkeypatch.setattr(sys, "argv", ["voxicon", *words])
    with pytest.raises(SystemExit) as stop:
        main()
    assert int(stop.value.code or 0) == code


# --- the command ------------------------------------------------------------------------------------------------


def test_the_command_trains_and_says_what_came_out(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_splits(folder, a_c0="train", a_c1="val")
    recipe = str(write_recipe(folder, "a", manifest="m.csv"))
    words = ["train", recipe, "-o", str(folder / "out"), "--cache", str(folder / "cache"), "--device", "cpu"]
    command(monkeypatch, *words, "--set", "optimize.validate_every=3", "--set", "optimize.steps=4", "--json")
    out, err = capsys.readouterr()
    rows = [json.loads(line) for line in out.splitlines()]
    assert [row["step"] for row in rows if "loss" in row] == [1, 2, 3, 4]
    assert [row["step"] for row in rows if "mean_dice" in row] == [3, 4]
    assert f"weights: {folder / 'out' / 'weights.safetensors'}" in err
    assert "best:" in err
    assert entries(folder / "cache")
    command(monkeypatch, *words, "--set", "optimize.steps=4")
    assert "resuming" in capsys.readouterr().err
    command(monkeypatch, *words, "--set", "optimize.steps=5", "-q", code=2)
    assert "other settings (optimize.steps)" in capsys.readouterr().err
    command(monkeypatch, *words[:3], str(folder / "lap"), "--preset", "mainframe", code=2)
    assert "no preset 'mainframe'" in capsys.readouterr().err


def test_the_command_tells_of_classes_without_a_voxel_and_of_giving_up(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    remove_lesions(folder / "a")
    write_splits(folder, a_c0="train", a_c1="val")
    patient = {"steps": 9, "validate_every": 1, "patience": 1, "learning_rate": 1e-12}
    recipe = str(write_recipe(folder, "a", manifest="m.csv", optimize=patient))
    command(monkeypatch, "train", recipe, "-o", str(folder / "out"), "--device", "cpu")
    err = capsys.readouterr().err
    assert "stopped at step 2: 1 validations without a better one" in err
    assert "no training scan shows liver_tumor" in err


def test_the_command_under_torchrun_equals_one_process(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two processes with one patch each, of datasets that know different classes, and one process with two."""
    write_splits(folder, a_c0="train", a_c1="val", b_c0="train", b_c1="val")
    recipe = write_recipe(folder, "a", "b", manifest="m.csv", optimize={"learning_rate": 1e-4, "validate_every": 3})
    words = ["train", str(recipe), "--device", "cpu", "--json"]
    done = subprocess.run(
        [*TORCHRUN, "-m", "voxicon", *words, "-o", str(folder / "two")],
        cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    command(monkeypatch, *words, "-o", str(folder / "one"), "--set", "optimize.batch=2")
    alone = capsys.readouterr().out
    assert_same_training(folder / "two", folder / "one")
    shown = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert [(r["step"], set(r)) for r in shown] == [(r["step"], set(r)) for r in map(json.loads, alone.splitlines())]
    assert shown[-1]["dice"] == pytest.approx(json.loads(alone.splitlines()[-1])["dice"], abs=2e-3)
    assert done.stderr.count("weights: ") == 1, "the second process is silent"
    assert read_metadata(folder / "two" / "weights.safetensors").card["processes"] == 2
    assert entries(folder / "two" / "prepared") == entries(folder / "one" / "prepared")
