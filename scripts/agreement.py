"""Agreement of weights with the labels of datasets that have a card: Dice per class and scan.

Run: python scripts/agreement.py --data ../shared/data [--weights starter] [--card]

With ``--card`` the table goes into the weights' own training card, and the card as text beside them.
Agreement with machine labels
is agreement, not accuracy; on scans the weights were trained on it says only that training worked.
"""

from __future__ import annotations

import argparse
import json
import os
from datetime import UTC, datetime
from pathlib import Path

import torch

from voxicon.core.concepts import Vocabulary
from voxicon.core.masks import MaskSet
from voxicon.core.volume import Volume
from voxicon.data.card import DatasetCard, load_card
from voxicon.data.cases import read_case
from voxicon.data.layout import find_dataset
from voxicon.model.checkpoint import Metadata, load_checkpoint, save_checkpoint
from voxicon.prep.labels import averaged_masks
from voxicon.prep.pipeline import prepare
from voxicon.segmenter import Segmenter, load
from voxicon.weights.store import Record, file_hash, record, resolve

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


def write_card(weights: str, table: Table, machine: str) -> None:
    """Put the table into the checkpoint's training card and write the card as text beside the weights."""
    path = resolve(weights)
    checkpoint = load_checkpoint(path)
    fields = dict(checkpoint.metadata.__dict__)
    fields["card"] = {**checkpoint.metadata.card, "agreement": table, "machine": machine}
    metadata = Metadata(**fields)
    # The weights were stored as float16 and come back as float32, so storing them so again changes nothing.
    save_checkpoint(path, checkpoint.network, metadata, dtype=torch.float16)
    size = path.stat().st_size
    path.with_suffix(".md").write_text(card_text(metadata, size), encoding="utf8")
    source = f"voxicon train recipes/starter.yaml, {metadata.card['steps']} steps"
    entry = Record(
        sha256=file_hash(path),
        source=source,
        size_bytes=size,
        license=str(metadata.card["license"]),
        date=datetime.now(UTC).date().isoformat(),
    )
    record(path, entry)


def card_text(metadata: Metadata, size: int) -> str:
    """The training card for people."""
    card = metadata.card
    lines = [f"# {card['title']}", "", f"**What they cannot do.** {card['cannot']}", ""]
    lines += [f"- License: {card['license']}", f"- Size: {size / 1e6:.1f} MB, float16"]
    lines += [f"- Network: {metadata.network.backbone}, {dict(metadata.network.options)}"]
    lines += [f"- Words: {metadata.text_bank['encoder']}, {metadata.network.embedding_size} numbers each"]
    lines += [f"- Preparation: {json.dumps(dict(metadata.preparation))}"]
    lines += [f"- Training: {card['steps']} steps, seed {card['seed']}, {card['wall_seconds'] / 60:.0f} minutes"]
    lines += [f"- Machine: {card['machine']}", f"- Labels: {card['labels']}", "", "## What they saw", ""]
    for entry in card["data"]:
        lines.append(f"- {entry['title']} ({entry['phase']}; {entry['terms']}; labels by {entry['labels_by']})")
        lines.append(f"  - image sha256 `{entry['image_sha256']}`")
        lines.append(f"  - label sha256 `{entry['label_sha256']}`")
    lines += ["", "## Agreement", "", "Dice with the labels of the scans they were trained on (n = 1 each).", ""]
    return "\n".join([*lines, *markdown(card["agreement"], metadata.trained)]) + "\n"


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
    parser.add_argument("--card", action="store_true")
    parser.add_argument("--ceiling", action="store_true", help="Bring the labels to the model's grid and back instead.")
    parser.add_argument("--machine", default=f"{os.cpu_count()} CPU cores, no GPU", help="Where they were trained.")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    segmenter = load(options.weights)
    table: Table = {}
    for name in options.datasets:
        table[name] = agreement(segmenter, load_card(name), options.data, ceiling=options.ceiling)
    if options.card:
        write_card(options.weights, table, options.machine)
    print(json.dumps(table, indent=2) if options.json else "\n".join(markdown(table, segmenter.classes)))


if __name__ == "__main__":
    main()
