"""Agreement of weights with the labels of datasets that have a card: Dice per class and scan.

Run: python scripts/agreement.py --data ../shared/data [--weights starter]

Agreement with machine labels is agreement, not accuracy; on scans the weights were trained on it says only that
training worked.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from voxicon.core.concepts import Vocabulary
from voxicon.core.masks import MaskSet
from voxicon.core.volume import Volume
from voxicon.data.card import DatasetCard, load_card
from voxicon.data.cases import read_case
from voxicon.data.layout import find_dataset
from voxicon.prep.labels import averaged_masks
from voxicon.prep.pipeline import prepare
from voxicon.segmenter import Segmenter, load

Score = dict[str, float]
Table = dict[str, dict[str, Score]]
"""Scan → class → ``dice``, ``label_ml``, ``found_ml``."""


def agreement(segmenter: Segmenter, card: DatasetCard, data: Path, *, ceiling: bool = False) -> dict[str, Score]:
    """Dice and volumes of every class the card annotates; Dice is 1 where both are empty, 0 where one is.

    With `ceiling`, the labels themselves are brought to the model's grid and back instead of predicting:
    the best that any network on that grid could do.
    """
    (case,) = find_dataset(card, data).cases
    volume, _, targets = read_case(case, segmenter.classes)
    found = there_and_back(volume, targets.masks, segmenter) if ceiling else segmenter.segment(volume).masks
    return {name: _score(found, targets.masks, name) for name in found.names if name in targets.known}


def there_and_back(volume: Volume, masks: MaskSet, segmenter: Segmenter) -> MaskSet:
    """Masks averaged onto the model's grid, cut at one half as in training, and restored."""
    trace = prepare(volume, segmenter.preparation).trace
    return trace.restore(averaged_masks(masks, trace.model))


def _score(found: MaskSet, wanted: MaskSet, name: str) -> Score:
    total = found.count(name) + wanted.count(name)
    return {
        "dice": round(2 * int((found[name] & wanted[name]).sum()) / total, 3) if total else 1.0,
        "label_ml": round(wanted.volume_ml(name), 1),
        "found_ml": round(found.volume_ml(name), 1),
    }


def markdown(table: Table, classes: tuple[str, ...]) -> list[str]:
    """The table, a row for each class that is labelled in any of the scans."""
    rows = ["| class | " + " | ".join(table) + " |", "|---|" + "---|" * len(table)]
    for name in classes:
        if not any(name in column for column in table.values()):
            continue
        cells = [_cell(column.get(name)) for column in table.values()]
        rows.append(f"| {Vocabulary.default()[name].display_name} | {' | '.join(cells)} |")
    return rows


def _cell(score: Score | None) -> str:
    if score is None:
        return "not labelled"
    if score["label_ml"] == 0:
        return f"absent; {score['found_ml']:g} ml found" if score["found_ml"] else "absent; none found"
    return f"{score['dice']:.3f}"


def main() -> None:
    """Print the table as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--weights", default="starter")
    parser.add_argument("--datasets", nargs="+", default=["chest_abdomen", "abdomen_pelvis"])
    parser.add_argument("--ceiling", action="store_true", help="Bring the labels to the model's grid and back instead.")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    segmenter = load(options.weights)
    table: Table = {}
    for name in options.datasets:
        table[name] = agreement(segmenter, load_card(name), options.data, ceiling=options.ceiling)
    print(json.dumps(table, indent=2) if options.json else "\n".join(markdown(table, segmenter.classes)))


if __name__ == "__main__":
    main()
