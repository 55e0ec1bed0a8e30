"""A batch of scans with overlapping stages and without, interleaved in one run: seconds and memory.

Every batch is a process of its own that segments copies of one scan; its peak memory is what the system counted
(``ru_maxrss``). A process starts with the peak memory of the one it was forked from on its account, so this one
imports nothing large.

    python benchmarks/batch.py ../shared/data/chest_abdomen/ct.nii.gz --out runs/batch --copies 3 --runs 3

writes OUT/batch.json and prints a table and the same numbers as JSON. Seconds are those from the first scan's reading
to the last one's writing; starting up and loading weights come on top, once.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

MODES = ("in turn", "overlapped")


def child(mode: str, scans: Path, out: Path, weights: str, engine: str) -> None:
    """Segment a folder of scans; prints wall seconds of the batch, and of each stage over all scans."""
    sys.path.insert(0, str(Path(__file__).parents[1]))
    from voxicon.segmenter import load
    from voxicon.workflow import find_jobs, run_jobs

    segmenter = load(weights, engine=engine)  # type: ignore[arg-type]
    jobs = find_jobs([scans], out)
    began = time.perf_counter()
    outcomes = list(run_jobs(segmenter, jobs, if_exists="overwrite", ahead=mode == "overlapped"))
    seconds = time.perf_counter() - began
    assert [outcome.status for outcome in outcomes] == ["done"] * len(jobs), outcomes
    stages: dict[str, float] = {}
    for job in jobs:
        for name, spent in json.loads((job.folder / "case.json").read_text("utf8"))["seconds"].items():
            stages[name] = round(stages.get(name, 0) + spent, 2)
    print(json.dumps({"seconds": round(seconds, 2), "stages": stages, "engine": segmenter.engine.name}))


def measured(*words: object) -> dict[str, object]:
    """What a child prints, and what the system counted for it."""
    process = subprocess.Popen([sys.executable, __file__, *map(str, words)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    printed = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if status:
        raise SystemExit(f"failed: {' '.join(map(str, words))}")
    counted = {"peak_gb": usage.ru_maxrss * 1024 / 1e9, "cpu_seconds": usage.ru_utime + usage.ru_stime}
    return {**json.loads(printed), **{name: round(value, 2) for name, value in counted.items()}}


def compare(scan: Path, out: Path, copies: int, runs: int, words: list[str]) -> dict[str, object]:
    """Both ways in turn, `runs` times; the ratio is of median seconds, overlapped to in turn."""
    scans = out / "scans"
    shutil.rmtree(scans, ignore_errors=True)
    scans.mkdir(parents=True)
    for number in range(copies):
        shutil.copyfile(scan, scans / f"copy{number}.nii.gz")
    found: dict[str, list[dict[str, object]]] = {mode: [] for mode in MODES}
    for run in range(runs):
        # The other one first every second time: what grows slower or faster during a run is neither's fault.
        for mode in MODES if run % 2 == 0 else MODES[::-1]:
            found[mode].append(measured("--child", mode, scans, "--out", out / mode.replace(" ", "_"), *words))
            print(mode, found[mode][-1], file=sys.stderr, flush=True)
    medians = {
        mode: {key: median(one[key] for one in several) for key in ("seconds", "peak_gb", "cpu_seconds")}  # type: ignore[type-var]
        for mode, several in found.items()
    }
    ratio = medians["overlapped"]["seconds"] / medians["in turn"]["seconds"]  # type: ignore[operator]
    return {"copies": copies, "cores": os.cpu_count(), "ratio": round(ratio, 3), "medians": medians, "runs": found}


def main() -> None:
    """Measure, write, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scan", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--copies", type=int, default=3)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--weights", default="starter")
    parser.add_argument("--engine", default="auto")
    parser.add_argument("--child", choices=MODES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child(options.child, options.scan, options.out, options.weights, options.engine)
        return
    words = ["--weights", options.weights, "--engine", options.engine]
    result = compare(options.scan, options.out, options.copies, options.runs, words)
    (options.out / "batch.json").write_text(json.dumps(result, indent=1), "utf8")
    print("| stages | s | CPU s | peak GB |\n|---|---|---|---|")
    for mode, of in result["medians"].items():  # type: ignore[attr-defined]
        print(f"| {mode} | {of['seconds']:.1f} | {of['cpu_seconds']:.1f} | {of['peak_gb']:.2f} |")
    print(f"overlapped takes {result['ratio']} of the time")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
