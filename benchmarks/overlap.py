"""What less overlap of windows saves and costs on trained weights: windows, and Dice with the labels.

The starter's windows are so large that a torso takes eight of them whatever their overlap is. So that there is
something to overlap, windows of 64 voxels are laid here in place of the weights' own; torch computes.

    python benchmarks/overlap.py --data ../shared/data --cards chest_abdomen abdomen_pelvis

prints a row per scan and overlap: windows, mean Dice with the labels, and what lost most against half overlap.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from statistics import fmean

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
from benchmarks.measure import table
from voxicon.core.masks import MaskSet
from voxicon.data.card import load_card
from voxicon.data.cases import read_case
from voxicon.data.layout import find_dataset
from voxicon.segmenter import load

WINDOW, OVERLAPS = (64, 64, 64), (0.5, 0.25, 0.0)


def dice(found: MaskSet, truth: MaskSet, names: tuple[str, ...]) -> dict[str, float]:
    """Of each class that the labels show."""
    scores = {}
    for name in names:
        a, b = found[name], truth[name]
        if b.any():
            scores[name] = float(2 * np.count_nonzero(a & b) / (np.count_nonzero(a) + np.count_nonzero(b)))
    return scores


def rows(card: str, data: Path, weights: str) -> list[list[object]]:
    """One scan at every overlap."""
    segmenter = load(weights, engine="torch")
    (case,) = find_dataset(load_card(card), data).cases
    volume, _, targets = read_case(case, segmenter.classes)
    known = tuple(name for name in segmenter.classes if name in targets.known)
    usual: dict[str, float] = {}
    found: list[list[object]] = []
    for overlap in OVERLAPS:
        segmenter.predictor.config = replace(segmenter.inference, window=WINDOW, overlap=overlap)
        windows: list[int] = []
        masks = segmenter.segment(volume, known, progress=lambda _, total, told=windows: told.append(total)).masks
        scores = dice(masks, targets.masks, known)
        usual = usual or scores
        loss, worst = max((usual[name] - scores[name], name) for name in scores)
        found.append([card, overlap, windows[-1], f"{fmean(scores.values()):.4f}", f"{worst} {loss:.4f}"])
    return found


def main() -> None:
    """Segment, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--cards", nargs="+", required=True)
    parser.add_argument("--weights", default="starter")
    options = parser.parse_args()
    found = [row for card in options.cards for row in rows(card, options.data, options.weights)]
    print(table(["scan", "overlap", "windows", "mean Dice", "most lost"], found))


if __name__ == "__main__":
    main()
