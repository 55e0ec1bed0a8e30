"""How much of each organ lies in the box that locating looks in, and how many windows that leaves to compute.

Organs are located by weights that have not seen the scan; the truth is its label map. A voxel outside of its organ's
box cannot be found any more, whatever computes the rest. Windows are counted as a larger network takes them: 96 voxels
of 1.5 mm, half overlapping.

    python benchmarks/locating.py --data ../shared/data --card chest_abdomen --weights without_chest_abdomen.safetensors

prints a row per organ: the share of its voxels in the box with several margins, and windows left with the largest.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from voxicon.core.masks import MaskSet
from voxicon.core.volume import Volume
from voxicon.data.card import load_card
from voxicon.data.cases import read_case
from voxicon.data.layout import find_dataset
from voxicon.infer.locate import MARGIN_MM, boxes_of, touches
from voxicon.infer.windows import Tiling, tile
from voxicon.prep.pipeline import model_grid
from voxicon.segmenter import Segmenter, load

MARGINS_MM = (0.0, 10.0, 20.0, MARGIN_MM)
SPACING_MM, WINDOW, OVERLAP = (1.5, 1.5, 1.5), (96, 96, 96), 0.5


def row(name: str, truth: MaskSet, volume: Volume, segmenter: Segmenter, tiling: Tiling) -> str | None:
    """One organ's; None where the truth has none of it."""
    mask = truth[name]
    if not mask.any():
        return None
    found = segmenter.find(volume, (name,))
    shares = []
    for margin_mm in MARGINS_MM:
        boxes = boxes_of(found, volume.geometry, margin_mm)
        shares.append("everywhere" if boxes is None else f"{np.count_nonzero(mask[boxes[0]]) / mask.sum():.2%}")
    grid = model_grid(volume.geometry, SPACING_MM)
    near = boxes_of(found, grid)
    windows = [window for line in tiling.rows for window in line]
    left = sum(near is None or touches(window.start, window.size, near) for window in windows)
    return f"| {name} | {' | '.join(shares)} | {left} of {len(windows)} |"


def main() -> None:
    """Locate, count, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--card", required=True)
    parser.add_argument("--weights", default="starter")
    options = parser.parse_args()
    segmenter = load(options.weights)
    (case,) = find_dataset(load_card(options.card), options.data).cases
    volume, _, targets = read_case(case, segmenter.classes)
    shape = model_grid(volume.geometry, SPACING_MM).shape
    x, y, z = (max(n, side) for n, side in zip(shape, WINDOW, strict=True))
    tiling = tile((x, y, z), WINDOW, OVERLAP)
    print("| class | " + " | ".join(f"{margin_mm:g} mm" for margin_mm in MARGINS_MM) + " | windows |")
    print("|---" * (len(MARGINS_MM) + 2) + "|")
    for name in (name for name in segmenter.classes if name in targets.known):
        line = row(name, targets.masks, volume, segmenter, tiling)
        if line is not None:
            print(line)


if __name__ == "__main__":
    main()
