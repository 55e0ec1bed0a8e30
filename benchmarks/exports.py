"""What an export weighs, how far it differs from torch, and how long a window takes in each runtime.

Every format is exported and proven anew; then windows are computed in turns, so that a busy minute hurts all alike.

    OMP_NUM_THREADS=1 python benchmarks/exports.py --weights starter --rounds 5

prints a row for torch as it computes for us and one per format. The JSON is written where ``-o`` says.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from functools import partial
from pathlib import Path
from statistics import median

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))
from benchmarks.measure import interleave, machine, seconds_of, table, write
from voxicon.export.formats import FORMATS
from voxicon.exporting import export
from voxicon.infer.engine import made_up_image
from voxicon.segmenter import load


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", default="starter")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("-o", "--output", type=Path)
    options = parser.parse_args()
    about = machine()
    segmenter = load(options.weights, device="cpu", engine="torch")
    window = made_up_image(segmenter.inference.window)
    with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
        done = {to: export(segmenter, to, Path(folder) / to) for to in FORMATS}
        network = segmenter.predictor.network
        calls = {"torch": partial(network, window, segmenter.classes)}
        calls |= {to: partial(form.load(done[to].folder), window.numpy()) for to, form in FORMATS.items()}
        for call in calls.values():
            call()  # the first time some allocate and tune
        seconds = interleave({name: partial(seconds_of, call) for name, call in calls.items()}, options.rounds)
    rows: list[list[object]] = [["torch", "-", "-", median(seconds["torch"])]]
    for to, each in done.items():
        rows.append([f"{to} ({each.runtime})", each.size_bytes / 1e6, each.most_difference, median(seconds[to])])
    print(table(["format", "MB", "largest difference of a probability", "s a window, median"], rows))
    if options.output:
        results = [dict(zip(("format", "mb", "difference", "seconds"), row, strict=True)) for row in rows]
        write(options.output, about, {"threads": torch.get_num_threads(), "rows": results, "seconds": seconds})


if __name__ == "__main__":
    main()
