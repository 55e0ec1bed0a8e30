"""How seconds and memory of ``voxicon segment`` grow with the length of a CT, the number of classes and of threads.

Long CTs are made of a real one: its slices up, down and up again, so that the body has no seam, each 512×512 as they
come, int16, gzip level 1. Every run is a process of its own, start-up included: wall seconds, CPU seconds, and peak
memory as the system counted it (``ru_maxrss``). All settings take turns, round by round; numbers are medians. Stages
are those of case.json; start-up is what is left of the wall time: imports, weights, and the way out.

The product has no option for threads of its own: it takes OMP_NUM_THREADS, by which torch and, through torch, OpenVINO
go. Files are packed by as many threads as there are cores, whatever it says.

    python benchmarks/scaling.py ../shared/data/chest_abdomen/ct.nii.gz --out runs/scaling

measures the starter weights with both engines on 100, 200, 400 and 1000 slices, 1, 5 and all classes, 1 and 2 threads,
three times each; writes OUT/scaling.json and prints a table per axis. ``--axes length --lengths 200 400`` takes less.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
from benchmarks.measure import Run, apart, interleave, machine, medians, run, table, write

STAGES = ("read", "prepare", "network", "second look", "cleanup", "restore", "write")
"""As case.json names them."""


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What one run is asked for; 0 threads leaves the choice to the product, no classes asks for all."""

    weights: str
    engine: str
    slices: int
    classes: tuple[str, ...] = ()
    threads: int = 0

    def __str__(self) -> str:
        found = f"{self.weights}, {self.engine}, {self.slices} slices"
        found += f", {len(self.classes)} classes" if self.classes else ""
        return found + (f", {self.threads} threads" if self.threads else "")


def tall(scan: Path, slices: int, path: Path) -> None:
    """A CT of as many slices as asked for, out of one that may have fewer."""
    import gzip

    import nibabel as nib
    import numpy as np

    image = nib.load(scan)
    hu = np.asanyarray(image.dataobj).astype(np.int16)
    there = hu.shape[2]
    at = np.arange(slices) % max(1, 2 * there - 2)
    up_and_down = np.where(at < there, at, 2 * there - 2 - at)
    header = image.header.copy()
    header.set_data_dtype(np.int16)
    header.set_slope_inter(1, 0)
    with gzip.open(path, "wb", compresslevel=1) as file:
        nib.Nifti1Image(hu[:, :, up_and_down], image.affine, header).to_stream(file)


def classes_of(weights: str) -> tuple[str, ...]:
    """Names of all that some weights find."""
    from voxicon.model.checkpoint import read_metadata
    from voxicon.weights.store import resolve

    return tuple(read_metadata(resolve(weights)).trained)


def measured(setting: Setting, out: Path) -> dict[str, float]:
    """One run of the product: what it took in all, and in each stage."""
    folder = out / "result"
    words = [scan_of(setting.slices, out), "-o", folder, "--weights", setting.weights, "--engine", setting.engine, "-q"]
    words += ["--classes", ",".join(setting.classes)] if setting.classes else []
    variables = {"OMP_NUM_THREADS": str(setting.threads)} if setting.threads else {}
    done: Run = run(sys.executable, "-m", "voxicon", "segment", *words, variables=variables)
    (case,) = folder.glob("*/case.json")
    stages: dict[str, float] = json.loads(case.read_text("utf8"))["seconds"]
    shutil.rmtree(folder)
    whole = {"seconds": done.seconds, "cpu_seconds": done.cpu_seconds, "peak_gb": done.peak_gb}
    return {**whole, "start-up": done.seconds - sum(stages.values()), **dict.fromkeys(STAGES, 0.0), **stages}


def scan_of(slices: int, out: Path) -> Path:
    """Where the CT of some length lies."""
    return out / "scans" / f"ct_{slices}.nii.gz"


def axes(options: argparse.Namespace) -> dict[str, list[Setting]]:
    """The settings of each axis; one may stand on several and is measured once."""
    found: dict[str, list[Setting]] = {axis: [] for axis in options.axes}
    for weights in options.weights:
        names = apart(classes_of, weights) if "classes" in found else ()
        for engine in options.engines:
            of = partial(Setting, weights=weights, engine=engine)
            varied = {
                "length": [of(slices=n) for n in options.lengths],
                "classes": [of(slices=options.slices, classes=names[:n]) for n in options.counts if n < len(names)]
                + [of(slices=options.slices)],
                "threads": [of(slices=options.slices, threads=n) for n in options.threads],
            }
            for axis in found:
                found[axis] += varied[axis]
    return found


def rows(axis: str, settings: Iterable[Setting], runs: dict[str, list[dict[str, float]]]) -> list[list[object]]:
    """Of each setting: medians, and what share of the wall time each stage took."""
    found: list[list[object]] = []
    for setting in settings:
        value = {
            "length": setting.slices,
            "classes": len(setting.classes) or "all",
            "threads": setting.threads,
        }[axis]
        middle = medians(runs[str(setting)])
        shares = [f"{100 * middle[stage] / middle['seconds']:.0f} %" for stage in ("start-up", *STAGES)]
        whole = [middle[name] for name in ("seconds", "cpu_seconds", "peak_gb")]
        found.append([Path(setting.weights).stem, setting.engine, value, *whole, *shares])
    return found


def main() -> None:
    """Make the CTs, measure, write, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scan", type=Path, help="A CT of 512×512 voxels per slice.")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--axes", nargs="+", choices=("length", "classes", "threads"),
                        default=["length", "classes", "threads"])  # fmt: skip
    parser.add_argument("--lengths", nargs="+", type=int, default=[100, 200, 400, 1000], help="Slices.")
    parser.add_argument("--counts", nargs="+", type=int, default=[1, 5], help="Classes, besides all.")
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--slices", type=int, default=200, help="Of the CT for classes and threads.")
    parser.add_argument("--weights", nargs="+", default=["starter"])
    parser.add_argument("--engines", nargs="+", default=["openvino", "torch"])
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    about = machine()
    varied = axes(options)
    settings = list(dict.fromkeys(setting for several in varied.values() for setting in several))
    lengths = sorted({setting.slices for setting in settings})
    (options.out / "scans").mkdir(parents=True, exist_ok=True)
    for slices in lengths:
        apart(tall, options.scan, slices, scan_of(slices, options.out))
    # OpenVINO converts weights once and keeps them; what is measured is every later run.
    for first in {(setting.weights, setting.engine): setting for setting in reversed(settings)}.values():
        measured(first, options.out)
    runs = interleave({str(one): partial(measured, one, options.out) for one in settings}, options.runs)
    results = [{**asdict(setting), "runs": runs[str(setting)]} for setting in settings]
    write(options.out / "scaling.json", about, {"scan": options.scan.name, "settings": results})
    shutil.rmtree(options.out / "scans")
    for axis, several in varied.items():
        header = ["weights", "engine", "slices" if axis == "length" else axis, "s", "CPU s", "peak GB"]
        print(table([*header, "start-up", *STAGES], rows(axis, several, runs)))


if __name__ == "__main__":
    main()
