"""Many datasets as one: every shipped card goes through check, training and the page; copies never leak."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
import yaml

from voxicon import assembly
from voxicon.data.card import card_ids, load_card
from voxicon.data.example import write_example
from voxicon.data.manifest import read_manifest
from voxicon.errors import CardError, ConfigError
from voxicon.evaluation import save
from voxicon.plan import Plan, plan_training
from voxicon.prediction import ByWeights
from voxicon.recipe import load_recipe
from voxicon.segmenter import load
from voxicon.study import StudyConfig, prepare_study, run_study
from voxicon.train.loop import Trainer
from voxicon.training import build_trainer

TINY = (
    "network={backbone: compact, options: {channels: [16, 16]}}", "text.encoder=onehot", "text.center=false",
    "preparation.spacing_mm=[12, 12, 12]", "inference.window=[16, 16, 16]", "optimize.steps=2", "optimize.warmup=1",
    "optimize.patch=[16, 16, 16]", "optimize.validate_every=2", "optimize.precision=fp32", "optimize.batch=1",
)  # fmt: skip

CARDS = tuple(name for name in card_ids() if name not in {"abdomen_pelvis", "chest_abdomen", "liver_slab"})


@pytest.fixture(scope="module")
def datasets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One made-up dataset per card, two scans for each part, all in one folder."""
    root = tmp_path_factory.mktemp("datasets")
    for number, name in enumerate(CARDS):
        write_example(load_card(name), root / name, n_cases=2 if name != "ircadb" else 1, seed=number)
    return root


@pytest.fixture(scope="module")
def checked(datasets: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[assembly.Assembly, Path]:
    """All of them checked as one assembly."""
    out = tmp_path_factory.mktemp("all") / "assembly"
    found = assembly.check(assembly.gather([str(datasets / name) for name in CARDS]), out)
    assembly.save(found, out, "all", "laptop")
    return found, out


def test_all_datasets_of_the_issue_are_there(checked: tuple[assembly.Assembly, Path]) -> None:
    found, out = checked
    assert [dataset.card.id for dataset in found.datasets] == list(CARDS)
    assert found.n_failed == 0
    assert {row.split for row in found.rows} <= {"train", "val", "test"}
    rows = read_manifest(out / "manifest.csv")
    assert set(rows) == set(found.reports)
    assert all(len(row.image_sha256) == 64 and row.shape for row in rows.values())
    assert "<html" in (out / "report.html").read_text()
    table = json.loads((out / "summary.json").read_text())["counts"]
    assert {"lits", "msd_liver", "kits23"} & set(table["liver"]) == {"lits", "msd_liver"}
    assert table["kidney_tumor"]["kits23"] == {
        "annotated": 2,
        "present": 1,
        "training": table["kidney_tumor"]["kits23"]["training"],
    }


@pytest.fixture(scope="module")
def trained(checked: tuple[assembly.Assembly, Path]) -> tuple[Plan, Path]:
    """Two steps on all datasets at once."""
    _, out = checked
    plan = plan_training(load_recipe(out / "assembly.yaml", TINY), out)
    run = out.parent / "run"
    build_trainer(plan, run, torch.device("cpu")).run()
    return plan, run


def test_all_datasets_train_as_one(trained: tuple[Plan, Path]) -> None:
    plan, run = trained
    assert len(plan.classes) > 120
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert rows[-1]["mean_dice"] >= 0
    assert (run / "best.safetensors").is_file()


def test_all_datasets_are_judged_only_on_what_they_annotate(trained: tuple[Plan, Path], tmp_path: Path) -> None:
    plan, run = trained
    base = run.parent / "assembly"
    weights = ByWeights(load(run / "weights.safetensors", device="cpu"), tmp_path / "predictions")
    study = prepare_study(plan, base, weights, StudyConfig())
    run_study(study)
    assert study.failed == {}
    judged = {row.id for row in study.rows}
    assert judged == {case.id for case in plan.test}
    annotated = {case.id: case.annotates for case in plan.test}
    assert all(row.name in annotated[row.id] for row in study.rows)
    found = save(study, tmp_path, "test")
    assert len(found["classes"]) > 100
    assert "<html" in (tmp_path / "report.html").read_text()


def test_a_check_goes_on_where_it_stopped(datasets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sources = assembly.gather([str(datasets / "kits23"), str(datasets / "lits")])
    first = assembly.check(sources, tmp_path)
    log = tmp_path / "checks.jsonl"
    log.write_text("\n".join(log.read_text().splitlines()[:3]) + '\n{"cut off')
    read: list[str] = []
    check_case = assembly.check_case
    monkeypatch.setattr(assembly, "check_case", lambda case, hashes: read.append(case.id) or check_case(case, hashes))
    again = assembly.check(sources, tmp_path)
    assert read == ["lits/1"]
    assert again.reports == first.reports
    assert again.rows == first.rows


def test_settings_made_by_hand_survive_a_new_check(datasets: Path, tmp_path: Path) -> None:
    found = assembly.check(assembly.gather([str(datasets / "kits23")]), tmp_path)
    assembly.save(found, tmp_path, "mine", "laptop")
    path = tmp_path / "assembly.yaml"
    path.write_text(path.read_text() + "optimize: {steps: 7}\n")
    more = assembly.check(assembly.gather([str(path), str(datasets / "lits")]), tmp_path)
    assembly.save(more, tmp_path, "other", "paper")
    values = yaml.safe_load(path.read_text())
    assert values["optimize"] == {"steps": 7}
    assert (values["name"], values["preset"]) == ("mine", "laptop")
    assert [entry["card"] for entry in values["datasets"]] == ["kits23", "lits"]


def noisy_copy(source: Path, target: Path) -> None:
    """The same voxels under another name, flipped left to right, with another header."""
    image = nib.load(source)
    values = np.asarray(image.dataobj)[::-1]
    nib.save(nib.Nifti1Image(values.astype(np.float32), np.diag([2.0, 2.0, 2.0, 1.0])), target)


def test_a_scan_in_two_datasets_never_trains_and_tests(datasets: Path, tmp_path: Path) -> None:
    """As LiTS and MSD-Liver: the same scans, other names, other headers."""
    lits = write_example(load_card("lits"), tmp_path / "lits", n_cases=4, seed=1)
    msd = write_example(load_card("msd_liver"), tmp_path / "msd", n_cases=4, seed=99)
    for ours, theirs in zip(lits, msd, strict=True):
        noisy_copy(ours, theirs)
        labels = Path(str(theirs).replace("images", "labels"))
        original = nib.load(labels)
        nib.save(nib.Nifti1Image(np.asarray(original.dataobj), np.diag([2.0, 2.0, 2.0, 1.0])), labels)
    for seed in range(3):
        options = assembly.SplitOptions(seed=seed, test_fraction=0.25, val_fraction=0.25)
        found = assembly.check(
            assembly.gather([str(tmp_path / "lits"), str(tmp_path / "msd")]), tmp_path / "out", options
        )
        split = {row.id: row.split for row in found.rows}
        assert sorted(found.matches) == [(f"lits/{n}", f"msd_liver/liver_{n}") for n in range(4)]
        assert all(split[a] == split[b] for a, b in found.matches)
        assert len(set(split.values())) == 3
        copies = {row.id: row.copy_of for row in found.rows if row.copy_of}
        assert copies == {f"msd_liver/liver_{n}": f"lits/{n}" for n in range(4)}


def test_what_is_wrong_is_told_and_left_out(tmp_path: Path) -> None:
    images = write_example(load_card("msd_spleen"), tmp_path / "data", n_cases=4)
    labels = [Path(str(path).replace("images", "labels")) for path in images]
    images[0].write_bytes(images[0].read_bytes()[:500])
    wrong = nib.load(labels[1])
    nib.save(nib.Nifti1Image(np.asarray(wrong.dataobj)[:-1], wrong.affine), labels[1])
    strange = nib.load(labels[2])
    values = np.asarray(strange.dataobj).copy()
    values[0, 0, :3] = 7
    nib.save(nib.Nifti1Image(values, strange.affine), labels[2])
    mirrored = nib.load(labels[3])
    nib.save(nib.Nifti1Image(np.full(mirrored.shape, 0, np.int16), mirrored.affine), labels[3])
    found = assembly.check(assembly.gather([str(tmp_path / "data")]), tmp_path / "out")
    reports = list(found.reports.values())
    assert found.n_failed == 2
    assert "truncated" in reports[0].error or "damaged" in reports[0].error or "ends" in reports[0].error
    assert "grid" in reports[1].error
    assert any("label values that the card does not list" in w and "7 (3 voxels)" in w for w in reports[2].warnings)
    assert "no annotated class has a voxel" in reports[3].warnings
    assert [row.split for row in found.rows].count("excluded") == 2
    assembly.save(found, tmp_path / "out", "x", "laptop")
    plan = plan_training(load_recipe(tmp_path / "out" / "assembly.yaml", TINY), tmp_path / "out")
    assert len(plan.train) + len(plan.val) + len(plan.test) == 2


def test_organs_in_the_wrong_place_are_noticed(tmp_path: Path) -> None:
    (image,) = write_example(load_card("ct_org"), tmp_path, n_cases=1)[:1]
    label = Path(str(image).replace("volume", "labels"))
    original = nib.load(label)
    values = np.asarray(original.dataobj).copy()
    values[values == 1] = 9
    values[values == 3] = 1  # lung labeled as liver
    nib.save(nib.Nifti1Image(values, original.affine), label)
    found = assembly.check(assembly.gather([f"ct_org={tmp_path}"]), tmp_path / "out")
    assert any("liver has a median of" in w for w in found.reports["ct_org/0"].warnings)


def test_requests_that_make_no_sense(datasets: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="given more than once"):
        assembly.gather([str(datasets / "lits"), f"lits={datasets / 'lits'}"])
    with pytest.raises(ConfigError, match="no dataset given"):
        assembly.gather([])
    with pytest.raises(CardError, match="no such folder"):
        assembly.gather([str(tmp_path / "nowhere")])
    (tmp_path / "odd.yaml").write_text("- 1\n")
    with pytest.raises(ConfigError, match="names no datasets"):
        assembly.gather([str(tmp_path / "odd.yaml")])


def test_resuming_a_run_on_an_assembly(checked: tuple[assembly.Assembly, Path], tmp_path: Path) -> None:
    _, out = checked
    changes = (*TINY, "classes=[liver, spleen]")

    def build() -> Trainer:
        plan = plan_training(load_recipe(out / "assembly.yaml", changes), out)
        return build_trainer(plan, tmp_path / "run", torch.device("cpu"), cache=tmp_path / "cache")

    first = build()
    first.run()
    again = build()
    assert again.step == 2
    assert again.best == first.best
