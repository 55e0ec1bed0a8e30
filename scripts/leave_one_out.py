"""How do the starter weights do on a CT they have never seen? Trained again without it, and judged on it.

For each labelled torso CT the recipe is trained without that CT and without everything made of it (see
``starter_data.py``), then its masks are compared with the CT's labels. Those are machine labels: what comes out is
agreement. Runs go on where they stopped. The weights that look into organs are trained without it too, and joined.

    python scripts/starter_data.py --data ../shared/data --out runs/starter_data
    python scripts/leave_one_out.py --made runs/starter_data --out runs/leave_one_out

It leaves OUT/without_CT.safetensors, OUT/without_CT.json with the scores, and OUT/unseen_CT.yaml, which lists that CT
alone, for ``voxicon evaluate OUT/unseen_CT.yaml --planted --split train --weights ...``.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from voxicon.data.card import load_card
from voxicon.io.atomic import write_text
from voxicon.recipe import load_recipe
from voxicon.segmenter import load

sys.path.insert(0, str(Path(__file__).parent))
from agreement import Table, agreement, markdown

HELD_OUT = {"chest_abdomen": ("chest_abdomen",), "abdomen_pelvis": ("abdomen_pelvis",)}
"""CT → what a dataset's folder must not name."""

RECIPES = [Path(f"recipes/{name}.yaml") for name in ("starter_coarse", "starter_fine", "starter_lesions", "starter")]
"""One after the other, each from the weights of the one before."""

INSIDE_STEPS = ("starter_inside_first", "starter_inside_second", "starter_inside_third", "starter_inside")
INSIDE = [Path(f"recipes/{name}.yaml") for name in INSIDE_STEPS]
"""Look into the organs that those find, likewise."""

MAIN = ("liver", "spleen", "kidney_right", "kidney_left", "lung_right", "lung_left", "aorta", "stomach")


def without(recipe: Path, words: tuple[str, ...], start: Path | None) -> dict[str, Any]:
    """The recipe as plain values, less the datasets whose folder or card names one of some words."""
    values = load_recipe(recipe).model_dump(mode="json")
    values["datasets"] = [
        entry for entry in values["datasets"] if not any(word in f"{entry['card']} {entry['folder']}" for word in words)
    ]
    values["start"] = str(start.resolve()) if start else None
    return values


def voxicon(*words: object) -> None:
    """Run a command of this package."""
    subprocess.run([sys.executable, "-m", "voxicon", *map(str, words)], check=True)


def train(recipe: Path, name: str, start: Path | None, own: Path, options: argparse.Namespace) -> Path:
    """One recipe without a CT, from weights or from nothing; returns its weights."""
    write_text(own, yaml.safe_dump(without(recipe, HELD_OUT[name], start), sort_keys=False))
    run, changes = own.with_suffix(""), [word for change in options.changes for word in ("--set", change)]
    voxicon("train", own, "--data", options.made, "-o", run, "--cache", options.out / "cache", *changes)
    return run / "weights.safetensors"


def trained(name: str, options: argparse.Namespace) -> Path:
    """All recipes without a CT; returns the weights that find organs, and inside of them lesions."""
    weights = []
    for recipes, beginning in ((options.recipes, ""), (options.inside, "inside_")):
        last = None
        for number, recipe in enumerate(recipes):
            last = train(recipe, name, last, options.out / f"{beginning}without_{name}_{number}.yaml", options)
        weights.append(last)
    joined: Path = options.out / f"without_{name}.safetensors"
    voxicon("weights", "join", *weights, "-o", joined)
    return joined


def table_of(scores: Table) -> str:
    """Markdown, with the mean over the main organs at the end."""
    others = sorted({name for column in scores.values() for name in column} - set(MAIN))
    means = [f"{np.mean([column[name]['dice'] for name in MAIN]):.3f}" for column in scores.values()]
    rows = markdown(scores, (*MAIN, *others))
    return "\n".join([*rows, f"| **mean of the first {len(MAIN)}** | {' | '.join(means)} |"])


def main() -> None:
    """Train what is not trained yet, score, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--made", type=Path, required=True, help="What starter_data.py wrote.")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--recipes", type=Path, nargs="+", default=RECIPES, help="Each starts from the one before.")
    parser.add_argument("--inside", type=Path, nargs="+", default=INSIDE, help="Likewise; joined to the last of those.")
    parser.add_argument("--only", choices=sorted(HELD_OUT), nargs="+", default=list(HELD_OUT))
    parser.add_argument("--set", dest="changes", action="append", default=[], help="As of voxicon train.")
    options = parser.parse_args()
    scores: Table = {}
    for name in options.only:
        scores[name] = agreement(load(str(trained(name, options))), load_card(name), options.made)
        write_text(options.out / f"without_{name}.json", json.dumps(scores[name], indent=1))
        only = {"name": f"unseen_{name}", "datasets": [{"card": name}]}
        write_text(options.out / f"unseen_{name}.yaml", yaml.safe_dump(only, sort_keys=False))
    print(table_of(scores))


if __name__ == "__main__":
    main()
