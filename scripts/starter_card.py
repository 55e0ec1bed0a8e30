"""Install trained weights as the starter, with a card that says what they saw, what they score, and where they fail.

Numbers are taken from files that other scripts measured: nothing is typed in. What is left out stays as it is in the
card of the weights: those that ship can get another network inside without being trained again.

    python scripts/leave_one_out.py --made runs/starter_data --out runs/leave_one_out
    voxicon evaluate runs/leave_one_out/unseen_chest_abdomen.yaml --planted --weights ... -o runs/planted_chest_abdomen
    python scripts/starter_card.py --weights runs/starter/weights.safetensors --data ../shared/data
        --inside runs/starter_inside/weights.safetensors --unseen runs/leave_one_out
        --planted runs/planted_chest_abdomen runs/planted_abdomen_pelvis --machine "..."
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from voxicon.core.concepts import Vocabulary
from voxicon.data.card import load_card
from voxicon.joining import described_inside
from voxicon.model.checkpoint import Checkpoint, Metadata, load_checkpoint, save_checkpoint
from voxicon.recipe import load_recipe
from voxicon.segmenter import Segmenter
from voxicon.weights.store import Record, file_hash, record, resolve

sys.path.insert(0, str(Path(__file__).parent))
from agreement import agreement, markdown
from leave_one_out import HELD_OUT, table_of

UNSEEN_HOW = "Trained again by the same recipe without the CT and all that was made of it."

_MOST_BYTES = 20_000_000
"""What the package has room for."""


def planted_tables(folders: list[Path]) -> list[dict[str, Any]]:
    """What each evaluation of planted lesions found, without its thousands of rows."""
    kept = ("name", "command", "scans", "bins", "contrast_hu", "per_bin", "seed", "lesions", "notes")
    found = []
    for folder in folders:
        values = json.loads((folder / "planted.json").read_text(encoding="utf8"))
        lesions = {
            kind: {key: numbers[key] for key in ("n_lesions", "n_untouched", "as_delivered")}
            for kind, numbers in values["lesions"].items()
        }
        found.append({**{key: values[key] for key in kept}, "lesions": lesions})
    return found


def planted_markdown(found: dict[str, Any]) -> list[str]:
    """Sensitivity by diameter and specificity, a row for each lesion."""
    bins = found["bins"]
    rows = [
        "| lesion | " + " | ".join(bins) + " | specificity |",
        "|---|" + "---|" * (len(bins) + 1),
    ]
    for kind, numbers in found["lesions"].items():
        told = numbers["as_delivered"]
        cells = [_share(told["sensitivity"].get(name)) for name in bins]
        rows.append(
            f"| {Vocabulary.default()[kind].display_name} | {' | '.join(cells)} | {_share(told['specificity'])} |"
        )
    return rows


def _share(interval: Any) -> str:
    if not interval or interval.get("value") is None:
        return "none planted"
    return f"{interval['value']:.2f} [{interval['low']:.2f}, {interval['high']:.2f}]"


def card_text(metadata: Metadata, size: int) -> str:
    """The training card for people."""
    card = metadata.card
    lines = [f"# {card['title']}", "", f"**What they cannot do.** {card['cannot']}", ""]
    lines += [f"- License: {card['license']}", f"- Size: {size / 1e6:.1f} MB, float16"]
    lines += [f"- Network: {metadata.network.backbone}, {dict(metadata.network.options)}"]
    lines += [f"- Words: {metadata.text_bank['encoder']}, {metadata.network.embedding_size} numbers each"]
    lines += [f"- Preparation: {json.dumps(dict(metadata.preparation))}"]
    lines += training_text(card)
    if card["left_out"]:
        lines.append(f"- Learned by the first network, not worth asking it for: {', '.join(card['left_out'])}")
    lines += [f"- Machine: {card['machine']}", f"- Labels: {card['labels']}", "", "## What they saw", ""]
    for entry in card["data"]:
        lines.append(
            f"- {entry['title']}: {entry['train']} ({entry['phase']}; {entry['terms']}; labels by {entry['labels_by']})"
        )
        if isinstance(entry["sha256"], dict) and len(entry["sha256"]) == 1:
            ((image, label),) = entry["sha256"].values()
            lines += [f"  - image sha256 `{image}`", f"  - label sha256 `{label}`"]
    if metadata.inside is not None:
        lines += inside_text(metadata)
    lines += ["", "## On CTs they never saw", ""]
    lines += [card["unseen_how"], "", "Dice with **machine** labels (agreement), n = 1 each.", ""]
    lines += [table_of(card["unseen"]), ""]
    for found in card["planted"]:
        lines += ["## Planted lesions on an unseen CT", ""]
        lines += [card["planted_how"], ""] if card.get("planted_how") else []
        lines += [f"`{found['command']}`", ""]
        lines += ["Sensitivity by diameter and specificity of the masks as cut there, with 95 % intervals.", ""]
        lines += [*planted_markdown(found), "", *(f"- {note}" for note in found["notes"]), ""]
    lines += [
        "## On the CTs they were trained on",
        "",
        "Dice with machine labels, n = 1 each: says that training worked.",
        "",
    ]
    return "\n".join([*lines, *markdown(card["agreement"], metadata.trained)]) + "\n"


def training_text(card: dict[str, Any]) -> list[str]:
    """How long the last recipe trained, and from what."""
    minutes = card["wall_seconds"] / 60
    lines = [f"- Training, last recipe alone: {card['steps']} steps, seed {card['seed']}, {minutes:.0f} minutes"]
    if "start" in card:
        recipe = Path(card["recipe"]["start"]).parent.name
        lines.append(f"- Started from: the weights of `{recipe}`, sha256 `{card['start']['sha256']}`")
    return lines


def inside_text(metadata: Metadata) -> list[str]:
    """What is known of the network inside."""
    inside = metadata.inside
    if inside is None:
        return []
    card = inside.card
    lines = ["", f"## Inside: {described_inside(metadata, 'starter')}", "", f"{card['cannot']}", ""]
    lines += [f"- Network: {inside.network.backbone}, {dict(inside.network.options)}"]
    lines += training_text(card)
    lines += [f"- Machine: {metadata.card['machine_inside']}", f"- Labels: {card['labels']}"]
    scans = ", ".join(f"{entry['dataset']} ({entry['train']})" for entry in card["data"])
    return [*lines, f"- Scans: {scans}"]


def parsed() -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--recipe", type=Path, default=Path("recipes/starter.yaml"), help="Says how to infer.")
    parser.add_argument("--inside", type=Path, help="Weights that look into organs, to be put inside.")
    parser.add_argument("--recipe-inside", type=Path, default=Path("recipes/starter_inside.yaml"), help="Likewise.")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--unseen", type=Path, help="What leave_one_out.py wrote.")
    parser.add_argument("--planted", type=Path, nargs="*", help="Outputs of voxicon evaluate --planted.")
    parser.add_argument("--planted-how", help="How the weights judged there differ from these, if they do.")
    parser.add_argument("--leave-out", nargs="*", help="Classes learned that are not worth asking for.")
    parser.add_argument("--unseen-how", help="How the runs of leave_one_out.py differ from the recipe, if they do.")
    parser.add_argument("--machine", help="Where they were trained.")
    parser.add_argument("--machine-inside", help="Where those inside were trained.")
    return parser.parse_args()


def measured(options: argparse.Namespace, checkpoint: Checkpoint, left_out: list[str]) -> dict[str, Any]:
    """What the card tells beside what training wrote: measured now, read from files, or as it was."""
    told = {"unseen_how": UNSEEN_HOW, **checkpoint.metadata.card}
    segmenter = Segmenter(checkpoint, torch.device("cpu"), "starter")
    strays = set(left_out) - {*segmenter.classes, *checkpoint.metadata.network.classes}
    if strays:
        raise SystemExit(f"--leave-out {', '.join(sorted(strays))}: not among what these weights find")
    segmenter.classes = tuple(name for name in segmenter.classes if name not in left_out)
    told["agreement"] = {name: agreement(segmenter, load_card(name), options.data) for name in HELD_OUT}
    told["left_out"] = left_out
    if options.unseen:
        told["unseen"] = {name: json.loads((options.unseen / f"without_{name}.json").read_text()) for name in HELD_OUT}
    if options.planted is not None:
        told["planted"] = planted_tables(options.planted)
    for key in ("planted_how", "unseen_how", "machine", "machine_inside"):
        if getattr(options, key) is not None:
            told[key] = getattr(options, key)
    return told


def main() -> None:
    """Write the weights, their card, and the entry in the list of weights."""
    options = parsed()
    checkpoint = load_checkpoint(options.weights)
    metadata = checkpoint.metadata
    left_out = metadata.card.get("left_out", []) if options.leave_out is None else options.leave_out
    # Where lesions are cut is chosen when the training is over (operating_points.py), and then written into the recipe;
    # what a card says in words is no part of what was learned either.
    recipe = load_recipe(options.recipe)
    inference, words = recipe.inference.model_dump(mode="json"), dict(recipe.card)
    trained = tuple(name for name in metadata.trained if name not in left_out)
    metadata = replace(metadata, trained=trained, inference=inference)
    if options.inside:
        inside = load_checkpoint(options.inside)
        cut = load_recipe(options.recipe_inside).inference.model_dump(mode="json")
        own = {**inside.metadata.card, "recipe": {**inside.metadata.card["recipe"], "inference": cut}}
        metadata = replace(metadata, inside=replace(inside.metadata, inference=cut, card=own))
        checkpoint = replace(checkpoint, inside=inside.network)
    checkpoint = replace(checkpoint, metadata=metadata)
    card = measured(options, checkpoint, left_out)
    card |= words
    card["recipe"] = {**metadata.card["recipe"], "inference": inference, "card": words}
    metadata = replace(metadata, card=card)
    path = resolve("starter")
    # The weights were stored as float16 and come back as float32, so storing them so again changes nothing.
    save_checkpoint(path, checkpoint.network, metadata, dtype=torch.float16, inside=checkpoint.inside)
    size = path.stat().st_size
    if size > _MOST_BYTES:
        raise SystemExit(f"{path}: {size} bytes, more than the {_MOST_BYTES} the package has room for")
    path.with_suffix(".md").write_text(card_text(metadata, size), encoding="utf8")
    source = f"voxicon train recipes/starter.yaml, {card['steps']} steps"
    if metadata.inside is not None:
        source += (
            f", and recipes/starter_inside.yaml after the three steps before it, {metadata.inside.card['steps']} steps"
        )
    entry = Record(
        sha256=file_hash(path),
        source=source,
        size_bytes=size,
        license=str(card["license"]),
        date=datetime.now(UTC).date().isoformat(),
    )
    record(path, entry)
    print(path.with_suffix(".md").read_text(encoding="utf8"))


if __name__ == "__main__":
    main()
