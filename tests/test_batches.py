"""Batches of scans whose stages overlap: the same results as one after the other. Nothing here sleeps or is timed."""

from __future__ import annotations

import json
import shutil
import threading
import weakref
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from tests.phantoms import body
from tests.weights_on_disk import write_small_weights
from voxicon import workflow
from voxicon.cli import segment as command
from voxicon.core.volume import Volume
from voxicon.errors import NotCt, OutputError, UnknownClass
from voxicon.infer.memory import MemoryPlan
from voxicon.io.read_options import ReadOptions
from voxicon.result import Result
from voxicon.segmenter import Segmenter, load
from voxicon.workflow import Job, Outcome, find_jobs, is_complete, run_jobs

SAFETY_SECONDS = 60
"""No test waits for this long unless it fails."""

WORDS = ("liver", "spleen")


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small_weights(tmp_path_factory.mktemp("weights") / "small.safetensors")


@pytest.fixture(scope="module")
def segmenter(weights: Path) -> Segmenter:
    return load(weights, device="cpu", engine="torch")


@pytest.fixture(scope="module")
def scans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four scans, no two alike."""
    folder = tmp_path_factory.mktemp("scans")
    volume = body((10.0, 10.0, 12.0))
    for seed, name in enumerate("abcd"):
        noise = np.random.default_rng(seed).normal(0, 40, volume.hu.shape)
        hu = (volume.hu + noise).astype(np.int16)
        nib.save(nib.Nifti1Image(hu, volume.geometry.affine), folder / f"{name}.nii.gz")
    return folder


@pytest.fixture(autouse=True)
def _no_thread_stays() -> Iterator[None]:
    def ours() -> int:
        return sum(thread.name.startswith("ThreadPoolExecutor") for thread in threading.enumerate())

    before = ours()
    yield
    assert ours() == before


def statuses(outcomes: list[Outcome]) -> list[tuple[str, str]]:
    return [(outcome.job.folder.name, outcome.status) for outcome in outcomes]


def files(folder: Path) -> dict[str, bytes]:
    """Every file by name; of ``case.json``, what does not change from run to run."""
    found = {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    for name in [name for name in found if name.endswith("case.json")]:
        case = json.loads(found[name])
        case["seconds"] = list(case["seconds"])
        case["memory"] = list(case["memory"])
        found[name] = json.dumps(case).encode()
    return found


class Spy:
    """Lets a test look in, wait or raise where a scan is read and where a result is saved."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.log: list[str] = []
        self.on_read = self.on_save = lambda _: None
        read, save = Segmenter.read, Result.save

        def spied_read(scan: Path, options: ReadOptions | None, plan: MemoryPlan) -> Volume:
            self.log.append(f"read {scan.name[0]}")
            self.on_read(scan.name[0])
            return read(scan, options, plan)

        def spied_save(result: Result, folder: Path, **options: Any) -> list[Path]:
            self.log.append(f"save {folder.name}")
            self.on_save(folder.name)
            return save(result, folder, **options)

        monkeypatch.setattr(Segmenter, "read", staticmethod(spied_read))
        monkeypatch.setattr(Result, "save", spied_save)


@pytest.fixture
def spy(monkeypatch: pytest.MonkeyPatch) -> Spy:
    return Spy(monkeypatch)


def test_overlapped_and_in_turn_write_the_same_bytes(segmenter: Segmenter, scans: Path, tmp_path: Path) -> None:
    for out, ahead in (("ahead", True), ("in turn", False)):
        outcomes = run_jobs(segmenter, find_jobs([scans], tmp_path / out), ahead=ahead, probabilities=("liver",))
        assert statuses(list(outcomes)) == [(name, "done") for name in "abcd"]
    ahead, in_turn = files(tmp_path / "ahead"), files(tmp_path / "in turn")
    assert ahead == in_turn
    assert len({ahead[f"{name}/probabilities/liver.nii.gz"] for name in "abcd"}) == 4, "scans alike would prove nothing"


def test_the_next_scan_is_read_and_the_last_saved_during_the_network(
    segmenter: Segmenter, scans: Path, tmp_path: Path, spy: Spy
) -> None:
    saving, reading, seen = threading.Event(), threading.Event(), threading.Event()
    threads = set()

    def on_save(name: str) -> None:
        if name == "a":
            saving.set()
            assert seen.wait(SAFETY_SECONDS)

    def on_read(name: str) -> None:
        if name == "c":
            reading.set()
            assert seen.wait(SAFETY_SECONDS)

    def progress(job: Job, _done: int, _total: int) -> None:
        threads.add(threading.get_ident())
        if job.folder.name == "b" and not seen.is_set():
            assert saving.wait(SAFETY_SECONDS), "nothing was saved during the network"
            assert reading.wait(SAFETY_SECONDS), "nothing was read during the network"
            assert not is_complete(tmp_path / "a")
            seen.set()

    spy.on_save, spy.on_read = on_save, on_read
    for outcome in run_jobs(segmenter, find_jobs([scans], tmp_path), WORDS, preview=False, progress=progress):
        assert is_complete(outcome.job.folder), "told of before it was there"
    assert threads == {threading.get_ident()}


def test_seconds_are_those_of_the_stages(
    segmenter: Segmenter, scans: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ticks = count(step=7.0)
    monkeypatch.setattr(workflow, "time", SimpleNamespace(monotonic=lambda: next(ticks)))
    for outcome in run_jobs(segmenter, find_jobs([scans], tmp_path), WORDS, preview=False):
        seconds = json.loads((outcome.job.folder / "case.json").read_text())["seconds"]
        assert list(seconds) == ["read", "prepare", "network", "cleanup", "restore", "write"]
        assert seconds["read"] == 7.0
        assert outcome.seconds == round(sum(seconds.values()), 1)


@pytest.mark.parametrize("ahead", [True, False])
def test_a_failure_of_any_stage_fails_its_scan_alone(
    segmenter: Segmenter, scans: Path, tmp_path: Path, spy: Spy, monkeypatch: pytest.MonkeyPatch, ahead: bool
) -> None:
    def on_save(name: str) -> None:
        if name == "c":
            raise OutputError("disk full")

    def refuse(volume: Volume, *rest: Any) -> Any:
        if volume.source.name == "b":
            raise NotCt("no body")
        return prepare(volume, *rest)

    prepare = vars(__import__("voxicon.segmenter", fromlist=["prepare"]))["prepare"]
    monkeypatch.setattr("voxicon.segmenter.prepare", refuse)
    spy.on_save = on_save
    shutil.copytree(scans, tmp_path / "scans")
    (tmp_path / "scans" / "a.nii.gz").write_bytes((scans / "a.nii.gz").read_bytes()[:500])
    jobs = find_jobs([tmp_path / "scans"], tmp_path / "out")
    outcomes = list(run_jobs(segmenter, jobs, WORDS, preview=False, ahead=ahead))
    assert statuses(outcomes) == [("a", "failed"), ("b", "failed"), ("c", "failed"), ("d", "done")]
    assert [getattr(outcome.error, "code", None) for outcome in outcomes] == ["E-TRUNC", "E-HU", "E-OUTPUT", None]
    assert [p.parent.name for p in (tmp_path / "out").rglob("case.json")] == ["d"]


@pytest.mark.parametrize("ahead", [True, False])
def test_nothing_is_read_for_what_is_skipped_or_refused(
    segmenter: Segmenter, scans: Path, tmp_path: Path, spy: Spy, ahead: bool
) -> None:
    jobs = find_jobs([scans], tmp_path)

    def go(if_exists: workflow.IfExists, *words: str) -> list[str]:
        spy.log.clear()
        return [o.status for o in run_jobs(segmenter, jobs, words, preview=False, if_exists=if_exists, ahead=ahead)]

    assert go("refuse", "liver") == ["done"] * 4
    shutil.rmtree(jobs[2].folder)
    assert go("refuse", "liver") == ["failed", "failed", "done", "failed"]
    assert spy.log == ["read c", "save c"]
    (jobs[1].folder / "case.json").unlink()
    assert go("continue", "liver") == ["skipped", "done", "skipped", "skipped"]
    assert spy.log == ["read b", "save b"]
    assert go("continue", "spleen") == ["failed"] * 4
    assert go("overwrite", "aorta") == ["failed"] * 4
    assert spy.log == []
    with pytest.raises(UnknownClass):
        segmenter.segment(scans / "nowhere.nii.gz", ["aorta"])


@pytest.mark.parametrize("ahead", [True, False])
def test_jobs_that_share_a_folder_do_not_run_side_by_side(
    segmenter: Segmenter, scans: Path, tmp_path: Path, ahead: bool
) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "out", target_is_directory=True)
    (tmp_path / "out").mkdir()
    first, second = (
        Job(scans / "a.nii.gz", tmp_path / "out" / "case"),
        Job(scans / "b.nii.gz", tmp_path / "link" / "case"),
    )
    outcomes = list(run_jobs(segmenter, [first, second], WORDS, preview=False, ahead=ahead))
    assert [outcome.status for outcome in outcomes] == ["done", "failed"]
    again = list(run_jobs(segmenter, [first, second], WORDS, if_exists="overwrite", preview=False, ahead=ahead))
    assert [outcome.status for outcome in again] == ["done", "done"]
    assert json.loads((first.folder / "case.json").read_text())["case"] == "b"


@pytest.mark.parametrize(
    ("scan", "folder", "clashes"),
    [
        ("b.nii.gz", "out/b", False),
        ("out/b.nii.gz", "out/b", False),
        ("b.nii.gz", "out/a", True),
        ("b.nii.gz", "link/a", True),
        ("b.nii.gz", "out", True),
        ("b.nii.gz", "out/a/segmentations", True),
        ("out/a/combined_labels.nii.gz", "out/b", True),
        ("b.nii.gz", "out/ab", False),
    ],
)
def test_which_jobs_have_to_do_with_each_other(
    segmenter: Segmenter, tmp_path: Path, scan: str, folder: str, clashes: bool
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "out", target_is_directory=True)
    stages = workflow._Segmenting(segmenter, None, {}, "refuse", False, lambda *_: None, lambda *_: None)
    earlier = Job(tmp_path / "a.nii.gz", tmp_path / "out" / "a")
    assert stages.clash(Job(tmp_path / scan, tmp_path / folder), earlier) is clashes


@pytest.mark.parametrize("ahead", [True, False])
def test_no_scan_is_kept_in_memory_once_its_result_is_written(
    segmenter: Segmenter, scans: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ahead: bool
) -> None:
    gone = {name: threading.Event() for name in "abcd"}
    read = Segmenter.read

    def watched(scan: Path, options: ReadOptions | None, plan: MemoryPlan) -> Volume:
        volume = read(scan, options, plan)
        weakref.finalize(volume, gone[scan.name[0]].set)
        return volume

    def progress(job: Job, _done: int, _total: int) -> None:
        before = {"b": "a", "c": "b", "d": "c"}.get(job.folder.name)
        assert before is None or gone[before].wait(SAFETY_SECONDS), f"{before} is still in memory"

    monkeypatch.setattr(Segmenter, "read", staticmethod(watched))
    jobs = find_jobs([scans], tmp_path)
    for outcome in run_jobs(segmenter, jobs, WORDS, preview=False, progress=progress, ahead=ahead):
        assert outcome.job.folder.name != "d" or gone["d"].wait(SAFETY_SECONDS)


def test_interrupted_finished_results_stay_and_no_other_looks_complete(
    segmenter: Segmenter, scans: Path, tmp_path: Path, spy: Spy
) -> None:
    interrupted = threading.Event()

    def progress(job: Job, _done: int, _total: int) -> None:
        if job.folder.name == "b":
            interrupted.set()
            raise KeyboardInterrupt

    def on_save(_: str) -> None:
        assert interrupted.wait(SAFETY_SECONDS)

    spy.on_save = on_save
    jobs = find_jobs([scans], tmp_path)
    with pytest.raises(KeyboardInterrupt):
        list(run_jobs(segmenter, jobs, WORDS, preview=False, progress=progress))
    # What was being written when the interruption came is whole.
    assert [is_complete(job.folder) for job in jobs] == [True, False, False, False]
    assert not jobs[1].folder.exists()
    again = list(run_jobs(segmenter, jobs, WORDS, preview=False, if_exists="continue"))
    assert [outcome.status for outcome in again] == ["skipped", "done", "done", "done"]


def test_abandoned_what_is_being_written_is_finished_and_nothing_else_begins(
    segmenter: Segmenter, scans: Path, tmp_path: Path, spy: Spy
) -> None:
    computing, closing = threading.Event(), threading.Event()
    spy.on_save = lambda name: computing.wait(SAFETY_SECONDS) if name == "a" else closing.wait(SAFETY_SECONDS)
    jobs = find_jobs([scans], tmp_path)
    outcomes = run_jobs(segmenter, jobs, WORDS, preview=False, progress=lambda job, *_: told(job))

    def told(job: Job) -> None:
        if job.folder.name == "b":
            computing.set()

    assert next(outcomes).job == jobs[0]
    closing.set()
    outcomes.close()
    assert [is_complete(job.folder) for job in jobs] == [True, True, False, False]
    assert not jobs[2].folder.exists()
    assert "read d" not in spy.log


@pytest.mark.parametrize("ahead", [True, False])
def test_an_error_that_is_none_of_ours_reaches_the_caller(
    segmenter: Segmenter, scans: Path, tmp_path: Path, spy: Spy, ahead: bool
) -> None:
    def on_save(name: str) -> None:
        if name == "b":
            raise MemoryError("no room")

    spy.on_save = on_save
    told: list[Outcome] = []
    with pytest.raises(MemoryError, match="no room"):
        told.extend(run_jobs(segmenter, find_jobs([scans], tmp_path), WORDS, preview=False, ahead=ahead))
    assert statuses(told) == [("a", "done")]
    assert "save c" not in spy.log


def test_whether_the_writer_broke_is_asked_at_every_window(segmenter: Segmenter, scans: Path, tmp_path: Path) -> None:
    told: list[int] = []
    asked: list[int] = []
    stages = workflow._Segmenting(
        segmenter, ["liver"], {}, "refuse", False, lambda _, done, __: told.append(done), lambda *_: None
    )
    job = Job(scans / "a.nii.gz", tmp_path / "a")
    read = stages.read(job)
    assert read is not None
    stages.compute(job, read, lambda: asked.append(len(told)))
    assert asked == list(range(len(told)))


def test_lines_on_the_terminal_are_in_the_order_of_the_scans(
    weights: Path, scans: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(scans, tmp_path / "scans")
    (tmp_path / "scans" / "b.nii.gz").write_bytes((scans / "b.nii.gz").read_bytes()[:500])
    options: dict[str, Any] = {
        "weights": str(weights), "device": "cpu", "engine": "torch", "overlap": None,
        "max_memory_gb": None, "locate": False, "precision": "fp32", "cleanup": "default",
        "options": ReadOptions(), "preview": False, "quiet": False, "as_json": True,
    }  # fmt: skip
    assert command._run([tmp_path / "scans"], tmp_path / "out", None, [], if_exists="refuse", **options) == 1
    out, err = capsys.readouterr()
    rows = [json.loads(line) for line in out.splitlines()]
    assert [(Path(row["folder"]).name, row["status"]) for row in rows] == [
        ("a", "done"), ("b", "failed"), ("c", "done"), ("d", "done"),
    ]  # fmt: skip
    first, second = (err.index(line) for line in (f"{tmp_path / 'out' / 'a'}:", "voxicon: error [E-TRUNC]"))
    assert first < second < err.index(f"{tmp_path / 'out' / 'c'}:")


def test_results_being_written_when_telling_fails_are_finished(
    weights: Path, scans: Path, tmp_path: Path, spy: Spy, monkeypatch: pytest.MonkeyPatch
) -> None:
    def pipe_is_broken(*_: object, **__: object) -> None:
        telling.set()
        raise BrokenPipeError

    telling = threading.Event()
    spy.on_save = lambda name: name != "d" or telling.wait(SAFETY_SECONDS)
    monkeypatch.setattr(command, "_tell", pipe_is_broken)
    options: dict[str, Any] = {
        "weights": str(weights), "device": "cpu", "engine": "torch", "overlap": None,
        "max_memory_gb": None, "locate": False, "precision": "fp32", "cleanup": "default",
        "options": ReadOptions(), "preview": False, "quiet": True, "as_json": False,
    }  # fmt: skip
    # The traceback in `caught` keeps the frames of the command alive, as the one on the way to main does.
    with pytest.raises(BrokenPipeError) as caught:
        command._run([scans / "c.nii.gz", scans / "d.nii.gz"], tmp_path, ["liver"], [], if_exists="refuse", **options)
    assert caught.traceback
    assert not any(thread.name.startswith("ThreadPoolExecutor") for thread in threading.enumerate())
    assert is_complete(tmp_path / "c")
