"""The original's flow and ours on one CT with one set of weights, interleaved in one run: seconds, memory, agreement.

Weights of the official size are made up and scaled so that logits spread and 9 % of voxels are found, as trained ones
do; the authors' own are not free. Every run is a process of its own, start-up included, whose peak memory is what the
system counted (``ru_maxrss``).

    python benchmarks/flow.py ../shared/data/abdomen_pelvis/ct.nii.gz --out runs/flow --side-mm 200 --runs 3

writes OUT/flow.json and prints a table. ``--side-mm 0`` takes the whole scan. Where voxels of a scan lie half way
between two of 1.5 mm (chest_abdomen, 45/64 mm: one in 35 along two axes), the original takes the one or the other by
the noise of its arithmetic, and no other program the same: there even equal answers agree to 0.99 only.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict
from pathlib import Path
from statistics import fmean

import nibabel as nib
import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))
from benchmarks.measure import Run, apart, machine, medians, run, table, write
from benchmarks.original_flow import predictor, preparation
from tests.model.original import N_CLASSES, Weights, swin_shapes, unet_shapes, weights
from voxicon.core.concepts import Vocabulary

SHAPES = {"swin_unetr": swin_shapes, "unet": unet_shapes}
SPREAD, FOUND = 4.9, 0.09
"""Standard deviation of the logits and share of positive voxels that the made-up weights are scaled to."""

_OUTGOING, _BIAS = slice(128, 136), 152
"""Of a class's 153 parameters: weights of the last layer, and its bias."""


def cut(scan: Path, side_mm: float, out: Path) -> Path:
    """A cube out of the middle of a scan; the scan itself for 0."""
    if not side_mm:
        return scan
    image = nib.load(scan)
    box = []
    for n, step in zip(image.shape, image.header.get_zooms(), strict=True):
        size = min(n, round(side_mm / float(step)))
        box.append(slice((n - size) // 2, (n - size) // 2 + size))
    path = out / "ct.nii.gz"
    nib.save(image.slicer[tuple(box)], path)
    return path


def made_up(backbone: str, scan: Path) -> Weights:
    """Random weights whose logits on a window of the scan look like those of trained ones."""
    made = weights(SHAPES[backbone]())
    image = preparation()({"image": str(scan)})["image"].as_tensor()[None]
    middle = [max(0, (n - 96) // 2) for n in image.shape[2:]]
    window = torch.zeros(1, 1, 96, 96, 96)
    piece = image[..., *(slice(at, at + 96) for at in middle)]
    window[..., : piece.shape[2], : piece.shape[3], : piece.shape[4]] = piece
    with torch.no_grad():
        logits = predictor(backbone, made)(window)
        scale = SPREAD / float(logits.std())
        made["controller.weight"][_OUTGOING] *= scale
        made["controller.bias"][_OUTGOING] *= scale
        logits = predictor(backbone, made)(window)
        some = logits.flatten()[:: max(1, logits.numel() // 1_000_000)]
        made["controller.bias"][_BIAS] -= float(torch.quantile(some, 1 - FOUND))
    return made


def agreement(original: Path, ours: Path) -> dict[str, float]:
    """Dice per class between the files of both flows; classes that neither found are left out."""
    names = {concept.id: concept.name for concept in Vocabulary.default()}
    dice = {}
    for number in range(1, N_CLASSES + 1):
        (theirs,) = original.glob(f"*_{number}.nii.gz")
        a = np.asanyarray(nib.load(theirs).dataobj) > 0
        b = np.asanyarray(nib.load(ours / "segmentations" / f"{names[number]}.nii.gz").dataobj) > 0
        if a.any() or b.any():
            dice[names[number]] = float(2 * np.count_nonzero(a & b) / (np.count_nonzero(a) + np.count_nonzero(b)))
    return dice


def make(backbone: str, scan: Path, path: Path) -> None:
    """Write made-up weights."""
    torch.save(made_up(backbone, scan), path)


def compare(backbone: str, scan: Path, out: Path, runs: int, engines: list[str]) -> dict[str, object]:
    """Both flows in turn, `runs` times."""
    official, ours = out / f"{backbone}.pth", out / f"{backbone}.safetensors"
    apart(make, backbone, scan, official)
    run(sys.executable, "-m", "voxicon", "weights", "convert", official, "-o", ours)
    found: dict[str, list[Run]] = {}
    flow = Path(__file__).with_name("original_flow.py")
    folder = {engine: out / f"{backbone}_{engine.replace(' ', '_')}" for engine in engines}

    def segment(engine: str) -> Run:
        words = ["segment", scan, "-o", folder[engine], "--weights", ours, "--engine", *engine.split()]
        words += ["--cleanup", "original", "--no-preview", "--overwrite", "-q"]
        return run(sys.executable, "-m", "voxicon", *words)

    for number in range(runs):
        found.setdefault("original", []).append(
            run(sys.executable, flow, scan, backbone, official, out / f"{backbone}_original")
        )
        for engine in engines:
            if number == 0 and engine == "openvino":
                segment(engine)  # converts the network, which happens once
            found.setdefault(engine, []).append(segment(engine))
    case = scan.name.removesuffix(".gz").removesuffix(".nii")
    dice = {engine: agreement(out / f"{backbone}_original", folder[engine] / case) for engine in engines}
    return {"runs": {name: [asdict(one) for one in several] for name, several in found.items()}, "dice": dice}


def rows(backbone: str, result: dict[str, object]) -> list[list[object]]:
    """Of each flow: medians, and ratios to the original."""
    runs: dict[str, list[dict[str, float]]] = result["runs"]  # type: ignore[assignment]
    dice: dict[str, dict[str, float]] = result["dice"]  # type: ignore[assignment]
    numbers = ("seconds", "cpu_seconds", "peak_gb")
    of = {name: medians([{key: one[key] for key in numbers} for one in several]) for name, several in runs.items()}
    found: list[list[object]] = []
    for name, mine in of.items():
        lowest, mean = (f"{by(dice[name].values()):.4f}" if name in dice else "–" for by in (min, fmean))
        ratios = [f"{of['original'][key] / mine[key]:.1f}×" for key in ("seconds", "peak_gb")]
        found.append([backbone, name, *mine.values(), *ratios, lowest, mean])
    return found


def main() -> None:
    """Measure, write, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scan", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--side-mm", type=float, default=200)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--backbones", nargs="+", choices=list(SHAPES), default=list(SHAPES))
    parser.add_argument("--engines", nargs="+", default=["torch", "openvino", "openvino --fast"])
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    about = machine()
    scan = cut(options.scan, options.side_mm, options.out)
    results: dict[str, dict[str, object]] = {}
    for backbone in options.backbones:
        results[backbone] = compare(backbone, scan, options.out, options.runs, options.engines)
        write(options.out / "flow.json", about, results)
    header = ["network", "flow", "s", "CPU s", "peak GB", "faster", "smaller", "lowest Dice", "mean Dice"]
    print(table(header, [row for backbone, result in results.items() for row in rows(backbone, result)]))


if __name__ == "__main__":
    main()
