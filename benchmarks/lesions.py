"""What planting a lesion costs: milliseconds by kind and diameter on a patch as in training, as JSON on stdout.

    python benchmarks/lesions.py --repeats 50

CPU time is what one core needs; wall time tells also how busy the machine was.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import time

import numpy as np

from voxicon.synthesis.lesions.plant import KINDS, plant

SIDE = 64
DIAMETERS_MM = (4, 8, 16, 32, 64)


def patch(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """An organ of half the patch in fat, with the noise of a scan."""
    away = np.stack(np.meshgrid(*[np.arange(SIDE) - SIDE / 2] * 3, indexing="ij"))
    host = (away**2).sum(axis=0) < (0.44 * SIDE) ** 2
    hu = np.where(host, 100, -90) + rng.normal(0, 12, host.shape)
    return hu.astype(np.float32), host


def measure(repeats: int, spacing_mm: float) -> dict[str, dict[str, dict[str, float]]]:
    """Kind → diameter → median milliseconds; ``drawn`` is for diameters that the kind draws itself."""
    rng = np.random.default_rng(0)
    hu, host = patch(rng)
    found: dict[str, dict[str, dict[str, float]]] = {}
    for kind in KINDS.values():
        for diameter_mm in (None, *DIAMETERS_MM):
            cpu, wall = [], []
            for _ in range(repeats):
                began = time.process_time(), time.perf_counter()
                plant(hu, host, (spacing_mm,) * 3, kind, rng, diameter_mm=diameter_mm)
                cpu.append(1000 * (time.process_time() - began[0]))
                wall.append(1000 * (time.perf_counter() - began[1]))
            row = {"cpu_ms": round(statistics.median(cpu), 2), "wall_ms": round(statistics.median(wall), 2)}
            found.setdefault(kind.name, {})["drawn" if diameter_mm is None else f"{diameter_mm} mm"] = row
    return found


def main() -> None:
    """Measure at the spacings that networks are trained at."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=50)
    options = parser.parse_args()
    rows = {f"{spacing_mm:g} mm": measure(options.repeats, spacing_mm) for spacing_mm in (3.0, 4.0)}
    machine = {"machine": platform.machine(), "cores": os.cpu_count(), "python": platform.python_version()}
    about = {"patch": [SIDE] * 3, "median_of": options.repeats, **machine, "numpy": np.__version__}
    sys.stdout.write(json.dumps({**about, "by_spacing": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
