"""Does learning from partial labels work? Four datasets that each annotate other organs, three ways to train.

From the two labeled torso CTs of the test data four "patients" are made by large smooth warps. Each becomes a
dataset of its own that annotates some of nine organs: with ``--times 2`` every organ is annotated once on a contrast
scan and once on a plain one, with ``--times 1`` in one dataset only. Three runs see the same scans and number of steps:

- ``partial``: unknown classes give no signal (this package's rule),
- ``background``: what is not annotated is taken for absent (the usual mistake),
- ``full``: all nine organs annotated everywhere (what full labels would give).

All are judged on the two unwarped CTs, which none has seen in this shape. The labels are machine labels, and the
people are those of the training scans: this measures the rule, not accuracy on strangers.

    python scripts/partial_labels.py --data ../shared/data --out runs/partial_labels
"""

from __future__ import annotations

import argparse
import csv
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch
import yaml

from voxicon.core.geometry import Geometry
from voxicon.data.card import load_card
from voxicon.data.cases import read_case
from voxicon.data.layout import find_dataset
from voxicon.io.atomic import write_text
from voxicon.io.nifti import write_labels, write_volume
from voxicon.prep.labels import averaged_masks
from voxicon.prep.pipeline import model_grid
from voxicon.prep.resample import resample_values
from voxicon.train.augment import AugmentConfig, draw_warp, warp_labels, warp_values

ORGANS = (
    "spleen", "kidney_right", "kidney_left", "liver", "stomach", "aorta", "lung_right", "lung_left", "colon",
)  # fmt: skip

PATIENTS = {
    "a1": ("chest_abdomen", 1),
    "a2": ("chest_abdomen", 2),
    "b1": ("abdomen_pelvis", 3),
    "b2": ("abdomen_pelvis", 4),
}
"""Patient → CT, and seed of its warp."""

ANNOTATED = {
    2: {
        "a1": ("liver", "kidney_right", "lung_left", "colon"),
        "a2": ("spleen", "kidney_left", "stomach", "aorta", "lung_right"),
        "b1": ("liver", "spleen", "aorta", "kidney_right", "lung_right"),
        "b2": ("stomach", "kidney_left", "lung_left", "colon"),
    },
    1: {
        "a1": ("liver", "kidney_left"),
        "a2": ("spleen", "aorta"),
        "b1": ("stomach", "kidney_right", "lung_left"),
        "b2": ("lung_right", "colon"),
    },
}
"""Times that every organ is annotated → patient → what its dataset annotates."""

WARP = AugmentConfig(rotate_degrees=8, scale=1.1, elastic_mm=12, elastic_cell_mm=70)
SPACING_MM = 5.0


def make_patients(data: Path, folder: Path) -> None:
    """Write every patient's scan and full label map, and the two unwarped CTs, at 5 mm."""
    for source in sorted({source for source, _ in PATIENTS.values()}):
        (case,) = find_dataset(load_card(source), data).cases
        volume, _, targets = read_case(case, ORGANS)
        grid = model_grid(volume.geometry, (SPACING_MM,) * 3)
        hu = resample_values(volume.hu, volume.geometry, grid, antialias=True, outside=-1024.0)
        masks = averaged_masks(targets.masks, grid)
        labels = np.zeros(grid.shape, dtype=np.int64)
        for value, name in enumerate(ORGANS, start=1):
            labels[masks[name]] = value
        write_scan(folder / "test" / f"{source}_ct.nii.gz", hu, labels, grid)
        for patient, (own, seed) in PATIENTS.items():
            if own == source:
                generator = torch.Generator().manual_seed(seed)
                center = tuple((n - 1) / 2 for n in grid.shape)
                warp = draw_warp(WARP, generator, center, grid.shape, SPACING_MM)
                warped = warp_values(torch.from_numpy(hu), warp).numpy()
                moved = warp_labels(torch.from_numpy(labels), warp).numpy()
                write_scan(folder / patient / f"{patient}_ct.nii.gz", warped, moved, grid)


def write_scan(path: Path, hu: np.ndarray, labels: np.ndarray, grid: Geometry) -> None:
    """One scan and its label map side by side."""
    write_volume(path, np.rint(hu).astype(np.int16), grid)
    write_labels(path.with_name(path.name.replace("_ct", "_labels")), labels.astype(np.uint8), grid)


def write_card(path: Path, name: str, organs: tuple[str, ...]) -> None:
    """A dataset card that annotates some of the nine organs."""
    card = {
        "id": name,
        "title": f"Partial-label experiment, {name}",
        "source": "scripts/partial_labels.py",
        "terms": "made from test data; not for release",
        "labels_by": "machine",
        "parts": [{"image": "{case}_ct.nii.gz", "label": "{case}_labels.nii.gz"}],
        "raw": dict(enumerate(ORGANS, start=1)),
        "annotates": {organ: {"union": [organ]} for organ in organs},
    }
    write_text(path, yaml.safe_dump(card, sort_keys=False))


def write_recipe(folder: Path, run: str, times: int, steps: int, seed: int) -> Path:
    """The recipe of one run."""
    for patient, organs in ANNOTATED[times].items():
        write_card(folder / f"{run}_{patient}.yaml", f"{run}_{patient}", ORGANS if run == "full" else organs)
    recipe = {
        "name": run,
        "preset": "laptop",
        "datasets": [{"card": f"{run}_{patient}.yaml", "folder": patient} for patient in PATIENTS],
        "missing": "background" if run == "background" else "unknown",
        "network": {"options": {"channels": [16, 32, 64, 96]}},
        "preparation": {"spacing_mm": [SPACING_MM] * 3},
        "inference": {"window": [48, 48, 48]},
        "optimize": {
            "steps": steps, "patch": [48, 48, 48], "warmup": 100, "seed": seed, "validate_every": 0,
            "save_every": 100, "sampling": {"datasets": "uniform", "centers": "classes"},
        },
        "repaint_hu": {"spleen": [25, 190], "kidney_": [5, 230], "liver": [25, 140], "stomach": [-10, 90],
                       "aorta": [25, 420], "colon": [-40, 80]},
    }  # fmt: skip
    path = folder / f"{run}.yaml"
    write_text(path, yaml.safe_dump(recipe, sort_keys=False))
    return path


def write_assembly(folder: Path) -> None:
    """The same datasets as a recipe that also validates, for ablations: patients train, the unwarped CTs judge."""
    recipe = yaml.safe_load((folder / "partial.yaml").read_text(encoding="utf8"))
    recipe["datasets"].append({"card": "test.yaml", "folder": "test"})
    recipe |= {"name": "assembly", "manifest": "manifest.csv"}
    recipe["optimize"]["steps"] = 1000
    write_text(folder / "assembly.yaml", yaml.safe_dump(recipe, sort_keys=False))
    sources = {source for source, _ in PATIENTS.values()}
    rows = [f"partial_{patient}/{patient},train" for patient in PATIENTS] + [f"test/{name},val" for name in sources]
    write_text(folder / "manifest.csv", "id,split\n" + "\n".join(sorted(rows)) + "\n")


def main() -> None:
    """Make the data, train and evaluate every run that is not there yet, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--out", type=Path, default=Path("runs/partial_labels"))
    parser.add_argument("--times", type=int, choices=ANNOTATED, default=2, help="datasets that annotate an organ")
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    out = options.out
    if not (out / "test" / "chest_abdomen_ct.nii.gz").is_file():
        make_patients(options.data, out)
    write_card(out / "test.yaml", "test", ORGANS)
    write_text(
        out / "judge.yaml", yaml.safe_dump({"name": "judge", "datasets": [{"card": "test.yaml", "folder": "test"}]})
    )
    rows = {}
    for run in ("partial", "background", "full"):
        folder = out / (run if run == "full" else f"{run}-{options.times}")
        recipe = write_recipe(out, run, options.times, options.steps, options.seed)
        voxicon("train", recipe, "-o", folder, "--cache", out / "prepared")
        weights = folder / "weights.safetensors"
        voxicon("evaluate", out / "judge.yaml", "--weights", weights, "--split", "train", "-o", folder / "evaluation")
        with (folder / "evaluation" / "cases.csv").open(encoding="utf8", newline="") as file:
            rows[run] = list(csv.DictReader(file))
    write_recipe(out, "partial", options.times, options.steps, options.seed)
    write_assembly(out)
    print_table(rows, options.times)


def voxicon(*words: object) -> None:
    """Run the command line and stop when it fails."""
    subprocess.run([sys.executable, "-m", "voxicon", *map(str, words)], check=True)


def print_table(rows: dict[str, list[dict[str, str]]], times: int) -> None:
    """Mean Dice of each organ, one column per run, over the CTs of the kinds it is annotated on."""
    print("| organ | " + " | ".join(rows) + " |\n|---|" + "---|" * len(rows))
    means: dict[str, list[float]] = {run: [] for run in rows}
    for organ in ORGANS:
        kinds = {PATIENTS[patient][0] for patient, organs in ANNOTATED[times].items() if organ in organs}
        cells = []
        for run, found in rows.items():
            dice = [float(row["dice"]) for row in found if row["class"] == organ and row["case"] in kinds]
            means[run].append(float(np.mean(dice)))
            cells.append(f"{means[run][-1]:.3f}")
        print(f"| {organ} | {' | '.join(cells)} |")
    print("| **mean** | " + " | ".join(f"**{np.mean(values):.3f}**" for values in means.values()) + " |")


if __name__ == "__main__":
    main()
