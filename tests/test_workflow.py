"""Result folders: complete or not there, never half; a bad scan does not stop the others."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from tests.phantoms import body
from tests.weights_on_disk import CLASSES, write_small_weights
from voxicon import result as result_module
from voxicon.core.volume import Volume
from voxicon.errors import OutputError, UsageError
from voxicon.result import Result
from voxicon.segmenter import Segmenter, load
from voxicon.workflow import Outcome, find_jobs, is_complete, run_jobs


@pytest.fixture(scope="module")
def segmenter(tmp_path_factory: pytest.TempPathFactory) -> Segmenter:
    return load(write_small_weights(tmp_path_factory.mktemp("weights") / "small.safetensors"), device="cpu")


def write_scan(path: Path, volume: Volume | None = None) -> Path:
    volume = volume or body((8.0, 8.0, 10.0))
    # Real CT is noisy; the reader refuses files with a handful of values as label maps.
    noise = np.random.default_rng(0).normal(0, 12, volume.hu.shape)
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image((volume.hu + noise).astype(np.int16), volume.geometry.affine), path)
    return path


def test_a_result_folder_holds_what_it_says(segmenter: Segmenter, tmp_path: Path) -> None:
    scan = write_scan(tmp_path / "a.nii.gz")
    [outcome] = run_jobs(segmenter, find_jobs([scan], tmp_path / "out"))
    folder = tmp_path / "out" / "a"
    assert outcome.status == "done"
    case = json.loads((folder / "case.json").read_text())
    assert set(case["volumes_ml"]) == set(CLASSES)
    assert case["input"]["sha256"] == hashlib.sha256(scan.read_bytes()).hexdigest()
    assert case["notice"] == "Research software, not a medical device."
    on_disk = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
    assert on_disk == {*case["files"], "case.json"}
    assert {f"segmentations/{name}.nii.gz" for name in CLASSES} <= on_disk
    assert {"combined_labels.nii.gz", "combined_labels.json", "preview.png"} <= on_disk
    for name, digest in case["files"].items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest
    source, mask = nib.load(scan), nib.load(folder / "segmentations" / "liver.nii.gz")
    assert mask.shape == source.shape
    assert (mask.affine == source.affine).all()
    assert np.asarray(mask.dataobj).sum() * np.prod(source.header.get_zooms()) / 1000 == pytest.approx(
        case["volumes_ml"]["liver"], abs=1e-2
    )


def test_same_input_same_bytes(segmenter: Segmenter, tmp_path: Path) -> None:
    scan = write_scan(tmp_path / "a.nii.gz")
    for out in ("one", "two"):
        list(run_jobs(segmenter, find_jobs([scan], tmp_path / out)))
    one, two = (json.loads((tmp_path / out / "a" / "case.json").read_text())["files"] for out in ("one", "two"))
    assert one == two


def test_a_bad_scan_does_not_stop_the_others(segmenter: Segmenter, tmp_path: Path) -> None:
    good = write_scan(tmp_path / "scans" / "b.nii.gz")
    (tmp_path / "scans" / "a.nii.gz").write_bytes(good.read_bytes()[:500])
    outcomes = list(run_jobs(segmenter, find_jobs([tmp_path / "scans"], tmp_path / "out")))
    assert [o.status for o in outcomes] == ["failed", "done"]
    assert outcomes[0].error is not None
    assert outcomes[0].error.code == "E-TRUNC"
    assert not (tmp_path / "out" / "a").exists()


def test_existing_results_are_refused_kept_or_replaced(segmenter: Segmenter, tmp_path: Path) -> None:
    jobs = find_jobs([write_scan(tmp_path / "a.nii.gz")], tmp_path / "out")
    assert [o.status for o in run_jobs(segmenter, jobs, ["liver"])] == ["done"]
    [refused] = run_jobs(segmenter, jobs, ["liver"])
    assert refused.status == "failed"
    assert "--overwrite" in str(refused.error)
    assert [o.status for o in run_jobs(segmenter, jobs, ["liver"], if_exists="continue")] == ["skipped"]
    assert [o.status for o in run_jobs(segmenter, jobs, ["liver"], if_exists="overwrite")] == ["done"]
    (jobs[0].folder / "segmentations" / "liver.nii.gz").unlink()
    assert not is_complete(jobs[0].folder)
    assert [o.status for o in run_jobs(segmenter, jobs, ["liver"], if_exists="continue")] == ["done"]


def test_continuing_does_not_mix_precisions(
    segmenter: Segmenter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = find_jobs([write_scan(tmp_path / "a.nii.gz")], tmp_path / "out")
    case = jobs[0].folder / "case.json"
    [done] = run_jobs(segmenter, jobs, ["liver"], if_exists="continue", preview=False)
    assert done.status == "done"
    monkeypatch.setattr(segmenter, "precision", "bf16")
    [refused] = run_jobs(segmenter, jobs, ["liver"], if_exists="continue", preview=False)
    assert "holds a result with other precision; use --overwrite" in str(refused.error)
    # A result of before there was a choice is of fp32.
    held = json.loads(case.read_text())
    del held["settings"]["precision"]
    case.write_text(json.dumps(held))
    monkeypatch.undo()
    assert [one.status for one in run_jobs(segmenter, jobs, ["liver"], if_exists="continue")] == ["skipped"]


def test_continuing_makes_a_result_again_that_lacks_probabilities(segmenter: Segmenter, tmp_path: Path) -> None:
    jobs = find_jobs([write_scan(tmp_path / "a.nii.gz")], tmp_path / "out")
    maps = jobs[0].folder / "probabilities"

    def go_on(probabilities: tuple[str, ...]) -> Outcome:
        [outcome] = run_jobs(
            segmenter, jobs, ["liver", "spleen"], if_exists="continue", preview=False, probabilities=probabilities
        )
        return outcome

    assert [go_on(()).status, go_on(()).status] == ["done", "skipped"]
    before = (jobs[0].folder / "segmentations" / "liver.nii.gz").read_bytes()
    assert go_on(("liver",)).status == "done"
    assert [p.name for p in maps.iterdir()] == ["liver.nii.gz"]
    assert (jobs[0].folder / "segmentations" / "liver.nii.gz").read_bytes() == before
    # More than was asked for is complete too; one map more is made; a map is never taken away.
    assert [go_on(()).status, go_on(("liver",)).status] == ["skipped", "skipped"]
    refused = go_on(("spleen",))
    assert "holds a result with other probabilities; use --overwrite" in str(refused.error)
    assert go_on(("spleen", "liver")).status == "done"
    assert sorted(p.name for p in maps.iterdir()) == ["liver.nii.gz", "spleen.nii.gz"]
    (maps / "spleen.nii.gz").unlink()
    assert not is_complete(jobs[0].folder)
    assert go_on(("spleen", "liver")).status == "done"
    # A class of which only probabilities are asked for has a mask too, which this result lacks.
    assert "other classes" in str(go_on(("pancreas",)).error)
    # A result from before there were probabilities.
    case = json.loads((jobs[0].folder / "case.json").read_text())
    del case["probabilities"]
    (jobs[0].folder / "case.json").write_text(json.dumps(case))
    assert [go_on(()).status, go_on(("liver",)).status] == ["skipped", "done"]


def test_probability_maps_are_not_taken_for_scans(segmenter: Segmenter, tmp_path: Path) -> None:
    write_scan(tmp_path / "a.nii.gz")
    jobs = find_jobs([tmp_path], tmp_path / "out")
    list(run_jobs(segmenter, jobs, ["liver"], preview=False, probabilities=("liver",)))
    assert [job.scan.name for job in find_jobs([tmp_path], tmp_path / "out")] == ["a.nii.gz"]


def test_continuing_does_not_take_another_result_for_this_one(segmenter: Segmenter, tmp_path: Path) -> None:
    scan = write_scan(tmp_path / "a.nii.gz")
    jobs = find_jobs([scan], tmp_path / "out")
    list(run_jobs(segmenter, jobs, ["liver"], preview=False))
    before = (jobs[0].folder / "case.json").read_bytes()
    [other] = run_jobs(segmenter, jobs, ["spleen"], cleanup="none", if_exists="continue")
    assert other.status == "failed"
    assert "other classes, cleanup" in str(other.error)
    nib.save(nib.Nifti1Image(np.asarray(nib.load(scan).dataobj)[..., ::-1], nib.load(scan).affine), scan)
    [changed] = run_jobs(segmenter, jobs, ["liver"], if_exists="continue")
    assert "other input" in str(changed.error)
    assert (jobs[0].folder / "case.json").read_bytes() == before


def test_overwriting_leaves_nothing_of_the_earlier_result(segmenter: Segmenter, tmp_path: Path) -> None:
    jobs = find_jobs([write_scan(tmp_path / "a.nii.gz")], tmp_path / "out")
    list(run_jobs(segmenter, jobs, ["liver", "spleen"]))
    (jobs[0].folder / "my notes.txt").write_text("keep me")
    list(run_jobs(segmenter, jobs, ["pancreas"], if_exists="overwrite", preview=False))
    left = {p.relative_to(jobs[0].folder).as_posix() for p in jobs[0].folder.rglob("*") if p.is_file()}
    assert left == {
        "segmentations/pancreas.nii.gz", "combined_labels.nii.gz", "combined_labels.json", "case.json", "my notes.txt",
    }  # fmt: skip


def test_a_case_file_cannot_name_files_outside_of_its_folder(tmp_path: Path) -> None:
    (tmp_path / "case").mkdir()
    (tmp_path / "precious.txt").touch()
    (tmp_path / "case" / "case.json").write_text('{"files": {"../precious.txt": "", "mine.txt": ""}}')
    assert result_module.listed_files(tmp_path / "case") == [tmp_path / "case" / "mine.txt"]


def test_results_are_not_taken_for_scans(segmenter: Segmenter, tmp_path: Path) -> None:
    write_scan(tmp_path / "a.nii.gz")
    list(run_jobs(segmenter, find_jobs([tmp_path], tmp_path / "out"), ["liver"], preview=False))
    assert [job.scan.name for job in find_jobs([tmp_path], tmp_path / "out")] == ["a.nii.gz"]
    # A scan may lie beside its own result, and results may go to where the scans are.
    shutil.copy(tmp_path / "a.nii.gz", tmp_path / "out" / "a" / "scan.nii.gz")
    assert [job.scan.name for job in find_jobs([tmp_path / "out"], tmp_path)] == ["scan.nii.gz"]
    with pytest.raises(UsageError, match="is a result of an earlier run"):
        find_jobs([tmp_path / "out" / "a" / "combined_labels.nii.gz"], tmp_path / "out")


def test_a_folder_being_rewritten_never_claims_to_be_complete(
    segmenter: Segmenter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = find_jobs([write_scan(tmp_path / "a.nii.gz")], tmp_path / "out")
    list(run_jobs(segmenter, jobs, ["liver"]))
    assert is_complete(jobs[0].folder)

    def disk_full(*_: object) -> None:
        raise OutputError("disk full")

    monkeypatch.setattr(result_module, "write_combined", disk_full)
    [outcome] = run_jobs(segmenter, jobs, ["liver"], if_exists="overwrite")
    assert outcome.status == "failed"
    assert not is_complete(jobs[0].folder)


@pytest.mark.parametrize("content", ["", "[]", '{"files": 3}', '{"files": {"gone.nii.gz": ""}}'])
def test_damaged_case_files_do_not_count_as_complete(tmp_path: Path, content: str) -> None:
    (tmp_path / "case.json").write_text(content)
    assert not is_complete(tmp_path)


def test_jobs_get_folders_of_their_own(tmp_path: Path) -> None:
    for patient in ("p1", "p2"):
        (tmp_path / patient).mkdir()
        (tmp_path / patient / "ct.nii.gz").touch()
    (tmp_path / "p1" / "other.nii").touch()
    jobs = find_jobs([tmp_path], tmp_path / "out")
    assert [job.folder.name for job in jobs] == ["p1_ct", "other", "p2_ct"]
    assert len(find_jobs([tmp_path / "p1" / "other.nii", tmp_path / "p1" / "other.nii"], tmp_path)) == 1


def test_inputs_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such file"):
        find_jobs([tmp_path / "none.nii.gz"], tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="results need a folder"):
        find_jobs([tmp_path], tmp_path / "file")
    with pytest.raises(UsageError, match="without any"):
        find_jobs([tmp_path], tmp_path / "out")
    for folder in ("x/a", "y/a"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "ct.nii").touch()
    with pytest.raises(UsageError, match="two scans would go"):
        find_jobs([tmp_path], tmp_path / "out")


def test_an_output_folder_that_is_a_file_is_refused(segmenter: Segmenter, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("not a folder")
    result = segmenter.segment(body((8.0, 8.0, 8.0)), classes=["liver"])
    with pytest.raises(OutputError):
        result.save(tmp_path / "out" / "case")


def test_with_a_limit_of_memory_scans_go_one_by_one_and_too_large_ones_fail_unread(
    segmenter: Segmenter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scans = [write_scan(tmp_path / f"{name}.nii.gz") for name in "abc"]
    log: list[str] = []
    read, save = Segmenter.read, Result.save

    def logged_read(scan: Path, *rest: Any) -> Volume:
        log.append(f"read {scan.name[0]}")
        return read(scan, *rest)

    def logged_save(result: Result, *rest: Any, **options: Any) -> list[Path]:
        log.append(f"save {result.volume.source.name}")
        return save(result, *rest, **options)

    monkeypatch.setattr(Segmenter, "read", staticmethod(logged_read))
    monkeypatch.setattr(Result, "save", logged_save)
    monkeypatch.setattr(segmenter, "max_memory_gb", 64.0)
    planned: list[str] = []
    jobs = find_jobs(scans, tmp_path / "out")
    outcomes = list(run_jobs(segmenter, jobs, preview=False, planned=lambda _, plan: planned.append(str(plan))))
    assert [outcome.status for outcome in outcomes] == ["done"] * 3
    assert log == [f"{what} {name}" for name in "abc" for what in ("read", "save")]
    assert len(planned) == 3
    assert all(line.startswith("about ") and line.endswith(" GB of memory") for line in planned)
    log.clear()
    monkeypatch.setattr(segmenter, "max_memory_gb", 0.1)
    again = list(run_jobs(segmenter, find_jobs(scans, tmp_path / "small")))
    assert [outcome.error.code for outcome in again if outcome.error] == ["E-MEMORY"] * 3
    assert log == []
