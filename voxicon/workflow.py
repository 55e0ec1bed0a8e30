"""Many scans in, one result folder each: the model is loaded once, a bad scan does not stop the others."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterable
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypedDict, Unpack

from voxicon.errors import OutputError, UsageError, VoxiconError
from voxicon.io.atomic import file_sha256
from voxicon.pipelining import Stages, in_turn, overlapped
from voxicon.result import CASE_FILE, Result, listed_files

if TYPE_CHECKING:
    from voxicon.core.volume import Volume
    from voxicon.infer.memory import MemoryPlan
    from voxicon.io.nifti import ReadOptions
    from voxicon.report.palette import Colors
    from voxicon.segmenter import Segmenter

_SUFFIXES = (".nii.gz", ".nii")

IfExists = Literal["refuse", "overwrite", "continue"]

Progress = Callable[["Job", int, int], None]
"""Called with a job, windows done and windows in all."""


@dataclass(frozen=True)
class Job:
    """One scan and the folder its result goes to."""

    scan: Path
    folder: Path


class Wishes(TypedDict, total=False):
    """What `Segmenter.segment` is asked for of every scan; left out, its defaults hold."""

    cleanup: Literal["default", "original", "none"]
    read: ReadOptions | None
    probabilities: tuple[str, ...]


@dataclass(frozen=True)
class Outcome:
    """What became of a job.

    Attributes:
        job: The job.
        status: Whether there is a new result, one that was there already, or none.
        error: Why there is none.
        seconds: Of a new result: the wall seconds of its own stages, added up. Where stages of several scans
            overlap, those of all outcomes are more than the batch took.
    """

    job: Job
    status: Literal["done", "skipped", "failed"]
    error: VoxiconError | None = None
    seconds: float = 0.0


def find_jobs(inputs: Iterable[Path], out: Path) -> list[Job]:
    """The scans of files and folders, each with a result folder of its own under `out`.

    A result folder is named like its scan; where two scans have one name, their folders' names go before it.
    Files that an earlier run wrote are left out, so a folder of scans may hold its own results.

    Raises:
        UsageError: An input is missing or is itself a result, a folder holds no scan, two scans would share a
            result folder, or `out` is a file.
    """
    if out.exists() and not out.is_dir():
        raise UsageError(f"{out}: is a file, but results need a folder; choose another output")
    scans: list[Path] = []
    for given in inputs:
        if given.is_dir():
            found = sorted(p for p in given.rglob("*") if p.name.endswith(_SUFFIXES) and p.is_file())
            found = [p for p in found if not is_result(p)]
            if not found:
                raise UsageError(f"{given}: a folder without any .nii or .nii.gz file")
            scans.extend(found)
        elif given.is_file():
            if is_result(given):
                raise UsageError(f"{given}: is a result of an earlier run, not a scan; give the CT itself")
            scans.append(given)
        else:
            raise UsageError(f"{given}: no such file or folder")
    scans = list(dict.fromkeys(scan.resolve() for scan in scans))
    names = Counter(_stem(scan) for scan in scans)
    jobs = []
    for scan in scans:
        stem = _stem(scan)
        name = stem if names[stem] == 1 else f"{scan.parent.name}_{stem}"
        jobs.append(Job(scan, out / name))
    again = [f for f, n in Counter(job.folder for job in jobs).items() if n > 1]
    if again:
        raise UsageError(f"{again[0].name}: two scans would go to this folder; segment them in separate runs")
    return jobs


def _stem(path: Path) -> str:
    for suffix in _SUFFIXES:
        if path.name.endswith(suffix):
            return path.name.removesuffix(suffix)
    return path.stem


def run_jobs(
    segmenter: Segmenter,
    jobs: Iterable[Job],
    classes: Iterable[str] | None = None,
    *,
    if_exists: IfExists = "refuse",
    preview: Colors | Literal[False] = "vocabulary",
    progress: Progress = lambda _job, _done, _total: None,
    planned: Callable[[Job, MemoryPlan], None] = lambda _job, _plan: None,
    ahead: bool = True,
    **wishes: Unpack[Wishes],
) -> Generator[Outcome, None, None]:
    """Segment and save one job after the other, and tell what became of each, in their order.

    Only this package's own errors are caught; they fail their job and the next one starts. With ``continue``, a
    complete result of the same wishes is left as it is; one that only lacks probabilities is made again.

    While a scan is computed, the next is read and the result before it is written, each on a thread of its own: at
    most three scans are in memory. A job is told of when all of its files are on disk, but not before the next is
    computed. A job waits for those before it where it has to do with their folders. Closing the generator waits
    for what is being read or written, and starts nothing else.

    Args:
        segmenter: The weights.
        jobs: What to do. The next one is asked for before the one before it is computed.
        classes: As of `Segmenter.segment`.
        if_exists: What to do about a folder that is not empty.
        preview: Colors of ``preview.png``; False writes none.
        progress: Called with the job, windows done and windows in all, on the caller's thread.
        planned: Called with the job and what it will take of memory, before it is computed, on the caller's thread.
        ahead: False does one thing after the other, with the same outcomes and one scan in memory; so does a
            segmenter with a limit of memory.
        wishes: More for `Segmenter.segment`.

    Yields:
        One outcome per job; none without jobs.
    """
    wanted = None if classes is None else list(classes)
    stages = _Segmenting(segmenter, wanted, wishes, if_exists, preview, progress, planned)
    # A limit is for one scan at a time: what the others will take is not known when one is planned.
    pipeline = overlapped if ahead and segmenter.max_memory_gb is None else in_turn
    cases = pipeline(jobs, stages)
    with closing(cases):
        for job, became in cases:
            if isinstance(became, VoxiconError):
                yield Outcome(job, "failed", became)
            elif became is None:
                yield Outcome(job, "skipped")
            else:
                yield Outcome(job, "done", seconds=became)


@dataclass(frozen=True)
class _Scan:
    """A scan in memory, what was planned for it, and the wall seconds that reading it took."""

    volume: Volume
    plan: MemoryPlan
    seconds: float


@dataclass(frozen=True)
class _Segmenting(Stages[Job, _Scan, Result, float]):
    """The stages of a job; the last one tells the seconds of an `Outcome`."""

    segmenter: Segmenter
    wanted: list[str] | None
    wishes: Wishes
    if_exists: IfExists
    preview: Colors | Literal[False]
    progress: Progress
    planned: Callable[[Job, MemoryPlan], None]

    def read(self, item: Job) -> _Scan | None:
        """The scan; None where its result is complete and to be kept.

        Raises:
            OutputError: The folder holds something that is neither to be replaced nor to be kept.
            InputError: The scan cannot be used, or takes more memory than it may.
            UnknownClass: Something is asked for that these weights do not know.
        """
        folder, wishes = item.folder, self.wishes
        if self.if_exists == "continue" and is_complete(folder) and _holds(item, self.segmenter, self.wanted, wishes):
            return None
        if self.if_exists == "refuse" and folder.is_dir() and any(folder.iterdir()):
            raise OutputError(
                f"{folder}: already holds a result; use --overwrite to replace it or --continue to keep it"
            )
        options, maps = wishes.get("read"), wishes.get("probabilities")
        plan = self.segmenter.plan(item.scan, self.wanted, read=options, probabilities=maps)
        began = time.monotonic()
        volume = self.segmenter.read(item.scan, options, plan)
        return _Scan(volume, plan, round(time.monotonic() - began, 2))

    def compute(self, item: Job, read: _Scan, check: Callable[[], None]) -> Result:
        """The result, not yet on disk."""
        self.planned(item, read.plan)

        def told(done: int, total: int) -> None:
            check()
            self.progress(item, done, total)

        result = self.segmenter.segment(read.volume, self.wanted, progress=told, **self.wishes)
        # Given a volume, the segmenter had nothing to read.
        result.seconds["read"] = read.seconds
        return replace(result, memory=read.plan.to_dict())

    def write(self, item: Job, computed: Result) -> float:
        """Save the result; returns the seconds of all of its stages."""
        computed.save(item.folder, preview=bool(self.preview), colors=self.preview or "vocabulary")
        return round(sum(computed.seconds.values()), 1)

    def clash(self, item: Job, earlier: Job) -> bool:
        """Whether a job looks into, or is to fill, a folder that an earlier one is filling."""
        here, there = item.folder.resolve(), earlier.folder.resolve()
        within = there in (here, *here.parents, *item.scan.resolve().parents)
        return within or here in there.parents


def is_result(path: Path) -> bool:
    """True for a file that a finished result folder lists as its own."""
    return any(path in listed_files(folder) for folder in (path.parent, path.parent.parent))


def _holds(job: Job, segmenter: Segmenter, wanted: list[str] | None, wishes: Wishes) -> bool:
    """Whether a complete result is this job's, with every probability map asked for.

    Raises:
        OutputError: It came from another scan, other weights or other wishes, so that making it again would
            take something away.
    """
    case = json.loads((job.folder / CASE_FILE).read_text(encoding="utf8"))
    classes, maps = segmenter.with_probabilities(wanted, wishes.get("probabilities"))
    held = set(case.get("probabilities", []))  # older results have no such field
    lacking = set(maps) - held
    asked = {
        "input": (case["input"]["sha256"], file_sha256(job.scan)),
        "weights": (case["weights"]["sha256"], segmenter.checkpoint.sha256),
        "classes": (list(case["volumes_ml"]), list(classes)),
        "cleanup": (case["settings"]["cleanup"], wishes.get("cleanup", "default")),
        "overlap": (case["settings"]["inference"]["overlap"], segmenter.inference.overlap),
        # Older results have no such field and are of fp32.
        "precision": (case["settings"].get("precision", {}).get("asked", "fp32"), segmenter.precision),
        "probabilities": (bool(lacking and held - set(maps)), False),
    }
    other = [what for what, (there, here) in asked.items() if there != here]
    if other:
        raise OutputError(
            f"{job.folder}: holds a result with other {', '.join(other)}; use --overwrite, or another output folder"
        )
    return not lacking


def is_complete(folder: Path) -> bool:
    """True when a folder holds a finished result: its ``case.json``, and every file that lists."""
    files = listed_files(folder)
    return bool(files) and all(path.is_file() for path in files)
