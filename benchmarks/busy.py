"""What ``voxicon segment`` takes alone and beside another program that keeps a core busy, with either way of waiting.

Threads of one computation wait for one another. Where another program has the core of one of them, the others wait
long, and if they do so awake they keep the cores from whatever could run (`voxicon.cli.main.SPINS`).

    python benchmarks/busy.py ../shared/data/chest_abdomen/ct.nii.gz --out runs/busy

takes turns, round by round, and prints medians of the wall time from start to exit; writes OUT/busy.json.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from itertools import product
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
from benchmarks.measure import interleave, machine, medians, run, table, write

WAITING = {"the product's": {}, "OpenMP's own": {"GOMP_SPINCOUNT": "300000"}}
"""Source: what GCC's OpenMP takes where OMP_WAIT_POLICY is not set, https://gcc.gnu.org/onlinedocs/libgomp/GOMP_005fSPINCOUNT.html."""


@contextmanager
def busy(programs: int) -> Iterator[None]:
    """Other programs that each keep a core busy."""
    others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(programs)]
    try:
        yield
    finally:
        for other in others:
            other.kill()
            other.wait()


def measured(scan: Path, out: Path, engine: str, programs: int, waiting: str) -> dict[str, float]:
    """One run: what it took in all, and what of that for the network."""
    command = [sys.executable, "-m", "voxicon", "segment", scan, "-o", out / "result", "--engine", engine, "-q"]
    with busy(programs):
        done = run(*command, variables=WAITING[waiting])
    (case,) = (out / "result").glob("*/case.json")
    network = float(json.loads(case.read_text("utf8"))["seconds"]["network"])
    shutil.rmtree(out / "result")
    return {"seconds": done.seconds, "cpu_seconds": done.cpu_seconds, "peak_gb": done.peak_gb, "network": network}


def main() -> None:
    """Measure, write, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scan", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--engines", nargs="+", default=["openvino", "torch"])
    parser.add_argument("--programs", nargs="+", type=int, default=[0, 1], help="Others that each keep a core busy.")
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    about = machine()
    settings = product(options.engines, options.programs, WAITING)
    tasks = {" ".join(map(str, one)): partial(measured, options.scan, options.out, *one) for one in settings}
    # OpenVINO converts weights once and keeps them; what is measured is every later run.
    for engine in options.engines:
        measured(options.scan, options.out, engine, 0, "the product's")
    runs = interleave(tasks, options.runs)
    write(options.out / "busy.json", about, {"scan": options.scan.name, "runs": runs})
    rows = [[*task.args[2:], *medians(runs[name]).values()] for name, task in tasks.items()]
    print(table(["engine", "busy programs", "waiting", "s", "CPU s", "peak GB", "network s"], rows))


if __name__ == "__main__":
    main()
