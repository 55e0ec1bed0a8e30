"""Where to cut lesions: thresholds by class from lesions planted into CTs that weights never saw.

Each study is of other weights and another CT. What is told of a threshold is told of the studies it was not chosen on;
the mean over all studies, on the scale of logits, is what goes into a recipe.

    voxicon evaluate runs/leave_one_out/unseen_chest_abdomen.yaml --planted --weights ... -o runs/planted_chest_abdomen
    python scripts/operating_points.py runs/planted_chest_abdomen runs/planted_abdomen_pelvis
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

Study = dict[str, Any]
"""The lesions of a planted.json: class → what `voxicon.evaluate.planted.summarize_planted` gives."""


def threshold_of(study: Study, name: str, specificity: str) -> float | None:
    """The lowest threshold with that specificity in a study; None where nothing is called positive at it."""
    point = study[name]["at_specificity"][specificity] if name in study else None
    return point["threshold"] if point else None


def rates_at(study: Study, name: str, threshold: float) -> tuple[float, dict[str, float | None]]:
    """Specificity, and sensitivity by bin, with a threshold that was chosen elsewhere."""
    curve = study[name]["curve"]
    # Thresholds fall, beginning with None for infinity; rates change only at scores that occur.
    last = max(i for i, at in enumerate(curve["thresholds"]) if at is None or at >= threshold)
    return curve["specificity"][last], {size: rates[last] for size, rates in curve["sensitivity"].items()}


def pooled(thresholds: Sequence[float]) -> float:
    """Mean on the scale of logits."""
    # Scores are steps of 1/255: one that rounds to certainty is less than that.
    logit = fmean(math.log(t / (1 - t)) for t in (min(t, 1 - 1 / 510) for t in thresholds))
    return 1 / (1 + math.exp(-logit))


def main() -> None:
    """Print what each study's threshold does on the others, and the thresholds to write down."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("studies", type=Path, nargs="+", help="Outputs of voxicon evaluate --planted.")
    parser.add_argument("--specificity", choices=("0.8", "0.9"), default="0.9", help="To choose by.")
    options = parser.parse_args()
    studies: dict[str, Study] = {
        folder.name: json.loads((folder / "planted.json").read_text(encoding="utf8"))["lesions"]
        for folder in options.studies
    }
    print("| lesion | chosen on | threshold | judged on | specificity | sensitivity by diameter |")
    print("|---|---|---|---|---|---|")
    chosen: dict[str, float] = {}
    for name in dict.fromkeys(name for study in studies.values() for name in study):
        own = {key: threshold_of(study, name, options.specificity) for key, study in studies.items() if name in study}
        found = {key: threshold for key, threshold in own.items() if threshold is not None}
        for key, threshold in found.items():
            for other in (other for other in own if other != key):
                specificity, sensitivity = rates_at(studies[other], name, threshold)
                sizes = ", ".join(f"{size} {rate:.2f}" for size, rate in sensitivity.items() if rate is not None)
                print(f"| {name} | {key} | {threshold:.2f} | {other} | {specificity:.2f} | {sizes} |")
        if found:
            chosen[name] = pooled(list(found.values()))
    print("\nthresholds: {" + ", ".join(f"{name}: {t:.3f}" for name, t in chosen.items()) + "}")


if __name__ == "__main__":
    main()
