"""Many scans in, one result folder each: the model is loaded once, a bad scan does not stop the others."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypedDict, Unpack

from voxicon.errors import OutputError, UsageError, VoxiconError
from voxicon.io.atomic import file_sha256
from voxicon.result import CASE_FILE, listed_files

if TYPE_CHECKING:
    from voxicon.io.nifti import ReadOptions
    from voxicon.segmenter import Segmenter

_SUFFIXES = (".nii.gz", ".nii")

IfExists = Literal["refuse", "overwrite", "continue"]


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
    """What became of a job."""

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
    preview: bool = True,
    progress: Callable[[Job, int, int], None] = lambda _job, _done, _total: None,
    **wishes: Unpack[Wishes],
) -> Iterator[Outcome]:
    """Segment and save one job after the other, and tell what became of each.

    Only this package's own errors are caught; they fail their job and the next one starts. With ``continue``, a
    complete result of the same wishes is left as it is; one that only lacks probabilities is made again.
    """
    wanted = None if classes is None else list(classes)
    for job in jobs:
        try:
            if if_exists == "continue" and is_complete(job.folder) and _holds(job, segmenter, wanted, wishes):
                yield Outcome(job, "skipped")
                continue
            if if_exists == "refuse" and job.folder.is_dir() and any(job.folder.iterdir()):
                raise OutputError(
                    f"{job.folder}: already holds a result; use --overwrite to replace it or --continue to keep it"
                )
            told = partial(progress, job)
            result = segmenter.segment(job.scan, wanted, progress=told, **wishes)
            result.save(job.folder, preview=preview)
            yield Outcome(job, "done", seconds=round(sum(result.seconds.values()), 1))
        except VoxiconError as error:
            yield Outcome(job, "failed", error)


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
