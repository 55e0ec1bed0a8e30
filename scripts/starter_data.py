"""The scans that the starter weights learn from: real ones, synthetic patients made of them, and bodies of nothing.

Writes OUT/lungs (a chest CT whose lungs are found by rule), OUT/limbs (arms and legs, where there is nothing to find),
OUT/like_* and OUT/phantom_torso, and links the two labelled CTs beside them: the folder that
``voxicon train recipes/starter_coarse.yaml --data OUT`` reads.

    python scripts/starter_data.py --data ../shared/data --out runs/starter_data
"""

from __future__ import annotations

import argparse
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import cc3d
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from voxicon.bodies import Wish, bodies_like, phantoms
from voxicon.core.orientation import from_ras_order, to_ras_order
from voxicon.data.card import load_card
from voxicon.io.atomic import write_text
from voxicon.io.nifti import read_labels, read_volume, write_labels
from voxicon.recipe import load_recipe

SEED = 20261121

SOURCES = {
    "abdomen_pelvis": ("abdomen_pelvis", "abdomen_pelvis/labels.nii.gz", "abdomen_pelvis/ct.nii.gz"),
    "chest_abdomen": ("chest_abdomen", "chest_abdomen/labels.nii.gz", "chest_abdomen/ct.nii.gz"),
    "amos_0013": ("amos22_ct", "label_maps/amos_0013.nii.gz", None),
}
"""Name → card, labels, CT."""

LUNG_CARD = """\
# Lungs by rule: the two largest pieces of the body below -400 HU, closed over vessels, with the drawn tumor.
id: lung_tumor_lungs
title: Chest CT of the pyradiomics test data, lungs by threshold
source: "PyPI pyradiomics 3.0.1 source package, test data"
terms: "BSD-3-Clause (package); origin of the CT not stated"
labels_by: human and machine
parts:
  - {image: "{case}/ct.nii.gz", label: "{case}/labels.nii.gz", case: lung_tumour, example: lung_tumour}
annotates:
  lung_right: {union: [lung_right, tumor_right]}
  lung_left: {union: [lung_left, tumor_left]}
  lung_tumor: {union: [tumor_right, tumor_left]}
  urinary_bladder: {union: []}
  prostate: {union: []}
raw: {1: lung_right, 2: lung_left, 3: tumor_right, 4: tumor_left}
"""

LIMBS_CARD = """\
# Arms and legs: the organs of the trunk, all that the recipe learns, are known to be absent. The sarcomas are not used.
id: limbs
title: Limbs of the IBSI validation set of soft-tissue sarcomas
source: "IBSI reference data; from TCIA, collection Soft-tissue-Sarcoma"
terms: "CC BY 3.0"
labels_by: human
parts:
  - {image: "{case}/ct.nii.gz", label: "{case}/labels.nii.gz", case: 'STS_\\d{3}', example: STS_004}
raw: {}
annotates:
"""

RECIPE = Path(__file__).parent.parent / "recipes" / "starter_coarse.yaml"

LIMBS = ("004", "006", "010", "015", "016", "019", "023", "024", "032", "041", "042")
"""Training patients of the sarcoma set; looked at slice by slice, their crops show no bladder, bowel or lung."""

_LUNG_HU = -400.0
_CLOSING_MM = 12.0


def lungs_by_rule(hu: NDArray[np.float32], spacing_mm: tuple[float, float, float]) -> NDArray[np.int16]:
    """1 in the right and 2 in the left lung, for a chest CT in RAS order whose two lungs do not touch."""
    air = hu < _LUNG_HU
    pieces = cc3d.connected_components(air, connectivity=6)
    border = np.unique(
        np.concatenate([pieces[0].ravel(), pieces[-1].ravel(), pieces[:, 0].ravel(), pieces[:, -1].ravel()])
    )
    inner = air & ~np.isin(pieces, border)
    # Opening cuts the bronchi off, so that the lungs come apart from the trachea and from one another.
    opened = ndimage.distance_transform_edt(inner, sampling=spacing_mm) > 3
    cores = cc3d.connected_components(opened, connectivity=6)
    sizes = np.bincount(cores.ravel())
    sizes[0] = 0
    first, second = np.argsort(sizes)[-2:]
    x_first, x_second = (np.argwhere(cores == c)[:, 0].mean() for c in (first, second))
    right, left = (cores == first, cores == second) if x_first > x_second else (cores == second, cores == first)
    out = np.zeros(hu.shape, dtype=np.int16)
    for value, core in ((1, right), (2, left)):
        near = ndimage.distance_transform_edt(~core, sampling=spacing_mm)
        closed = ndimage.distance_transform_edt(near <= _CLOSING_MM, sampling=spacing_mm) > _CLOSING_MM
        lung = (inner & (near < 5)) | closed
        out[lung & (out == 0)] = value
    return out


def write_lungs(data: Path, out: Path) -> None:
    """The chest CT with the tumor, its lungs labelled by rule."""
    folder = out / "lung_tumour"
    folder.mkdir(parents=True)
    volume = read_volume(data / "lung_tumour" / "ct.nii.gz")
    tumor, _ = read_labels(data / "lung_tumour" / "labels.nii.gz")
    hu, grid = to_ras_order(volume.hu, volume.geometry)
    values = lungs_by_rule(np.asarray(hu, dtype=np.float32), grid.spacing_mm)
    drawn, _ = to_ras_order(tumor, volume.geometry)
    nearest = ndimage.distance_transform_edt(values == 0, return_distances=False, return_indices=True)
    side = values[tuple(nearest)]
    values[drawn == 1] = side[drawn == 1] + 2
    write_labels(
        folder / "labels.nii.gz", np.ascontiguousarray(from_ras_order(values, volume.geometry)), volume.geometry
    )
    (folder / "ct.nii.gz").symlink_to((data / "lung_tumour" / "ct.nii.gz").resolve())
    write_text(out / "card.yaml", LUNG_CARD)


def write_limbs(data: Path, out: Path) -> None:
    """Arms and legs, all classes of the recipe absent: a model that has seen only trunks finds a liver there."""
    out.mkdir(parents=True)
    for patient in LIMBS:
        folder = out / f"STS_{patient}"
        folder.mkdir()
        image = data / "sarcoma" / f"STS_{patient}_ct.nii.gz"
        volume = read_volume(image)
        write_labels(folder / "labels.nii.gz", np.zeros(volume.hu.shape, dtype=np.int16), volume.geometry)
        (folder / "ct.nii.gz").symlink_to(image.resolve())
    # Only what a trunk holds: a leg has a femur, and muscles.
    absent = "".join(f"  {name}: {{union: []}}\n" for name in load_recipe(RECIPE).classes or ())
    write_text(out / "card.yaml", LIMBS_CARD + absent)


def _like(name: str, data: str, out: str, count: int, spacing_mm: float) -> str:
    card, labels, ct = SOURCES[name]
    wish = Wish(count=count, seed=SEED, spacing_mm=spacing_mm)
    bodies_like(Path(data) / labels, load_card(card), Path(out), wish, Path(data) / ct if ct else None)
    return name


def _phantoms(region: str, out: str, count: int, spacing_mm: float) -> str:
    phantoms(region, Path(out), Wish(count=count, seed=SEED, spacing_mm=spacing_mm))
    return region


def main() -> None:
    """Make all that is not there yet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--count", type=int, default=30, help="Patients made of each labelled one.")
    parser.add_argument("--phantoms", type=int, default=30, help="Bodies made of nothing.")
    parser.add_argument("--spacing-mm", type=float, default=3.0)
    parser.add_argument("--jobs", type=int, default=2)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    for name in ("chest_abdomen", "abdomen_pelvis"):
        if not (options.out / name).exists():
            (options.out / name).symlink_to((options.data / name).resolve())
    if not (options.out / "lungs").exists():
        write_lungs(options.data, options.out / "lungs")
    if not (options.out / "limbs").exists():
        write_limbs(options.data, options.out / "limbs")
    with ProcessPoolExecutor(options.jobs) as pool:
        tasks = [
            pool.submit(
                _like, name, str(options.data), str(options.out / f"like_{name}"), options.count, options.spacing_mm
            )
            for name in SOURCES
            if not (options.out / f"like_{name}").exists()
        ]
        tasks += [
            pool.submit(_phantoms, region, str(options.out / f"phantom_{region}"), options.phantoms, options.spacing_mm)
            for region in ("torso",)
            if not (options.out / f"phantom_{region}").exists()
        ]
        for task in tasks:
            print(task.result(), flush=True)


if __name__ == "__main__":
    main()
