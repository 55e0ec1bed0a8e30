"""Agreement of weights with the labels of datasets that have a card: Dice per class and scan.

Run: python scripts/agreement.py --data ../shared/data [--weights starter] [--card]

With ``--card`` the table is written into the weights' own training card. Agreement with machine labels
is agreement, not accuracy; on scans the weights were trained on it says only that training worked.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

from voxicon.core.concepts import Vocabulary
from voxicon.data.card import DatasetCard, load_card
from voxicon.data.harmonise import harmonise
from voxicon.io.nifti import read_labels
from voxicon.model.checkpoint import Metadata, load_checkpoint, save_checkpoint
from voxicon.segmenter import Segmenter, load
from voxicon.weights.store import resolve


def dice_per_class(segmenter: Segmenter, card: DatasetCard, data: Path) -> dict[str, float | None]:
    """Dice of every class the card annotates; None where neither labels nor prediction have a voxel."""
    result = segmenter.segment(data / card.image)
    raw, grid = read_labels(data / card.label)
    targets = harmonise(raw, grid, card, result.masks.names)
    scores: dict[str, float | None] = {}
    for name in result.masks.names:
        if name not in targets.known:
            continue
        found, wanted = result.masks[name], targets.masks[name]
        total = int(found.sum()) + int(wanted.sum())
        scores[name] = round(2 * int((found & wanted).sum()) / total, 3) if total else None
    return scores


def write_card(weights: str, table: dict[str, dict[str, float | None]]) -> None:
    """Put the table into the checkpoint's training card, keeping the stored weights as they are."""
    import torch

    path = resolve(weights)
    checkpoint = load_checkpoint(path)
    fields = dict(checkpoint.metadata.__dict__)
    fields["card"] = {**checkpoint.metadata.card, "agreement": table}
    save_checkpoint(path, checkpoint.network, Metadata(**fields), dtype=torch.float16)


def main() -> None:
    """Print the table as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--weights", default="starter")
    parser.add_argument("--datasets", nargs="+", default=["chest_abdomen", "abdomen_pelvis"])
    parser.add_argument("--card", action="store_true")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    segmenter = load(options.weights)
    table = {}
    for name in options.datasets:
        began = time.monotonic()
        table[name] = dice_per_class(segmenter, load_card(name), options.data)
        print(f"<!-- {name}: {time.monotonic() - began:.0f} s -->")
    if options.card:
        write_card(options.weights, table)
    if options.json:
        print(json.dumps(table, indent=2))
        return
    print("| class | " + " | ".join(table) + " |\n|---|" + "---|" * len(table))
    for name in segmenter.classes:
        cells = []
        for scores in table.values():
            score = scores.get(name, "unknown")
            cells.append("absent, none found" if score is None else str(score))
        print(f"| {Vocabulary.default()[name].display_name} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
