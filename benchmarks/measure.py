"""What benchmarks share: measured child processes, interleaved rounds, medians, tables, what machine it was.

Nothing heavy is imported here: a child's peak memory, as the system counts it (``ru_maxrss``), begins with that of the
process it was forked from, so whoever starts measured children must stay small itself. `apart` does the large work.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

_PACKAGES = ("torch", "openvino", "monai", "numpy")


@dataclass(frozen=True)
class Run:
    """One process, from start to exit."""

    seconds: float
    cpu_seconds: float
    peak_gb: float
    printed: str


def run(*command: object, variables: Mapping[str, str] | None = None) -> Run:
    """Run a command to its end and measure it; `variables` are set in its environment besides ours."""
    began = time.perf_counter()
    environment = {**os.environ, **(variables or {})}
    process = subprocess.Popen([str(word) for word in command], stdout=subprocess.PIPE, text=True, env=environment)
    assert process.stdout is not None
    printed = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"failed: {' '.join(map(str, command))}")
    peak_gb = usage.ru_maxrss * 1024 / 1e9
    return Run(time.perf_counter() - began, usage.ru_utime + usage.ru_stime, peak_gb, printed)


def apart(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """What a function of a module returns, computed in a process of its own."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(function, *args, **kwargs).result()


def interleave(tasks: Mapping[str, Callable[[], T]], rounds: int) -> dict[str, list[T]]:
    """What each task returns, one after the other in every round, so that a busy minute hurts all of them alike."""
    found: dict[str, list[T]] = {name: [] for name in tasks}
    erase, end = ("\r\033[K", "") if sys.stderr.isatty() else ("", "\n")
    for index in range(rounds):
        for name, task in tasks.items():
            sys.stderr.write(f"{erase}round {index + 1} of {rounds}: {name}{end}")
            found[name].append(task())
    sys.stderr.write(erase)
    return found


def seconds_of(call: Callable[[], object], at_least: float = 0.2) -> float:
    """Wall seconds of a call; short ones are repeated until they fill `at_least`."""
    began, count = time.perf_counter(), 0
    while not count or time.perf_counter() - began < at_least:
        call()
        count += 1
    return (time.perf_counter() - began) / count


def flops_of(call: Callable[[], object]) -> int:
    """What a call computes forward in torch: two FLOPs per multiply-add of convolutions and matrix products."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        call()
    return int(counter.get_total_flops())


def medians(rows: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The median of every number over several measurements."""
    return {name: median(row[name] for row in rows) for name in rows[0]}


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A markdown table; numbers are given three digits, or as many as there are before the point."""
    lines = [header, ["---"] * len(header), *([_told(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def _told(cell: object) -> str:
    if not isinstance(cell, float):
        return str(cell)
    return f"{cell:.0f}" if abs(cell) >= 100 else f"{cell:.3g}"


def machine() -> dict[str, Any]:
    """Processor, cores, memory, and the versions that decide how fast things are."""
    return {
        "commit": _commit(),
        "processor": _line("/proc/cpuinfo", "model name") or platform.processor() or platform.machine(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        "load_before": [round(load, 2) for load in os.getloadavg()],
        "system": platform.platform(),
        "python": platform.python_version(),
        **{name: _version(name) for name in _PACKAGES},
    }


def _line(path: str, key: str) -> str:
    """The value of the first line ``key : value`` of a file; empty where there is none."""
    lines = Path(path).read_text("utf8").splitlines() if Path(path).is_file() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(key)), "")


def _commit() -> str | None:
    """Of the tree that this file lies in, and whether it was changed; None where it is no repository."""
    git = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        return subprocess.run(git, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def write(path: Path, about: Mapping[str, Any], results: Mapping[str, Any]) -> None:
    """Results as JSON, after the command that gave them and the machine, as `machine` told before they were made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    everything = {"command": " ".join(sys.argv), "machine": about, **results}
    path.write_text(json.dumps(everything, indent=1) + "\n", "utf8")
