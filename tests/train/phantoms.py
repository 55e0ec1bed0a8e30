"""Tiny datasets to train on: boxes in a body of 24³ voxels, in memory or on disk with their card."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from numpy.typing import NDArray

from voxicon.core.geometry import Geometry
from voxicon.core.volume import Source, Volume
from voxicon.data.annotation import Annotation
from voxicon.data.card import DatasetCard, parse_card
from voxicon.data.harmonise import harmonise
from voxicon.io.nifti import write_labels, write_volume
from voxicon.model.checkpoint import Metadata
from voxicon.model.config import NetworkConfig
from voxicon.model.network import UniversalNetwork, build_network
from voxicon.prep.pipeline import PreparationConfig
from voxicon.train.augment import AugmentConfig
from voxicon.train.cases import TrainingCase, Traits, build_case
from voxicon.train.config import OptimizeConfig
from voxicon.train.log import read_rows
from voxicon.train.loop import Trainer, Validate
from voxicon.train.patches import PatchSampler, Pool, SamplingConfig
from voxicon.train.processes import Processes

SHAPE = (24, 24, 24)
SPACING_MM = 3.0
GRID = Geometry(SHAPE, np.diag([SPACING_MM] * 3 + [1.0]))
PREPARATION = PreparationConfig(spacing_mm=(SPACING_MM,) * 3, window_hu=(-250, 350), crop="none")

MADE_OF = {"liver": ["liver", "lesion"], "liver_tumor": ["lesion"], "spleen": ["spleen"]}
RAW = {1: "liver", 2: "lesion", 3: "spleen"}
CLASSES = tuple(MADE_OF)

STILL = AugmentConfig(
    rotate_degrees=0, scale=1, elastic_mm=0, repaint=0, noise_hu=0, blur_voxels=0, thick_slices=0, contrast=1,
    brightness_hu=0, cut=0,
)  # fmt: skip
NO_JITTER = SamplingConfig(jitter=0)
CPU = torch.device("cpu")

LONG: dict[str, Any] = {"steps": 8, "save_every": 3, "log_every": 2, "validate_every": 2, "precision": "bf16"}
"""A run that saves in the middle of a row of its log."""


def card_values(name: str = "example", classes: tuple[str, ...] = CLASSES, **more: Any) -> dict[str, Any]:
    """Fields of a card that annotates some of the three classes."""
    return {
        "id": name,
        "title": f"Dataset {name}",
        "source": "made up",
        "terms": "none",
        "labels_by": "human",
        "parts": [{"image": "{case}_ct.nii.gz", "label": "{case}_labels.nii.gz"}],
        "raw": RAW,
        "annotates": {c: {"union": MADE_OF[c]} for c in classes},
        **more,
    }


def make_card(name: str = "example", classes: tuple[str, ...] = CLASSES, **more: Any) -> DatasetCard:
    """The card of `card_values`."""
    return parse_card(yaml.safe_dump(card_values(name, classes, **more)), f"{name}.yaml")


def make_labels(seed: int = 0) -> NDArray[np.int16]:
    """A liver of 1344 voxels around a lesion of 125, and a spleen of 180; moved a voxel by the seed."""
    x, y, z = (seed >> k & 1 for k in range(3))
    labels = np.zeros(SHAPE, dtype=np.int16)
    labels[2 + x : 16 + x, 6 + y : 14 + y, 5 + z : 17 + z] = 1
    labels[5 + x : 10 + x, 7 + y : 12 + y, 7 + z : 12 + z] = 2
    labels[18 + x : 21 + x, 8 + y : 14 + y, 4 + z : 14 + z] = 3
    return labels


def make_hu(labels: NDArray[np.int16], seed: int = 0) -> NDArray[np.int16]:
    """Soft tissue with a brighter liver, lesion and spleen, in noise; two slices of air."""
    hu = np.choose(labels, [-60, 60, 170, 110]) + np.random.default_rng(seed).normal(0, 8, labels.shape)
    hu[:, :2] = -1000
    return np.rint(hu).astype(np.int16)


def make_case(
    card: DatasetCard | None = None,
    classes: tuple[str, ...] = CLASSES,
    seed: int = 0,
    spacing_mm: float = SPACING_MM,
    paint_hu: dict[str, tuple[float, float]] | None = None,
) -> TrainingCase:
    """A scan made ready for training."""
    card = card or make_card()
    labels = make_labels(seed)
    annotation = Annotation(GRID, raw=labels)
    volume = Volume(make_hu(labels, seed).astype(np.float32), GRID, Source(name=f"case{seed}"))
    preparation = PreparationConfig(spacing_mm=(spacing_mm,) * 3, window_hu=(-250, 350))
    return build_case(volume, annotation, card, harmonise(annotation, card, classes), preparation, paint_hu or {})


def bare_case(
    masks: NDArray[np.bool_],
    hu: NDArray[np.int16] | None = None,
    traits: Traits = Traits(),  # noqa: B008  frozen
    **changes: Any,
) -> TrainingCase:
    """A training case straight from (N, X, Y, Z) masks of known classes; HU count the voxels by default."""
    n, *shape = masks.shape
    words = np.zeros((-(-n // 32), *shape), dtype=np.uint32)
    for index, mask in enumerate(masks):
        words[index // 32] |= mask.astype(np.uint32) << np.uint32(index % 32)
    centers = {index: np.argwhere(mask).astype(np.int16) for index, mask in enumerate(masks) if mask.any()}
    fields: dict[str, Any] = {
        "name": "bare",
        "hu_XYZ": np.arange(np.prod(shape), dtype=np.int16).reshape(shape) if hu is None else hu,
        "words_WXYZ": words,
        "structure_XYZ": np.zeros(shape, dtype=np.int16),
        "known_N": np.ones(n, dtype=bool),
        "count_N": masks.reshape(n, -1).sum(axis=1),
        "centers": centers,
        "background": np.argwhere(~masks.any(axis=0)).astype(np.int16),
        "mean_hu": {},
        "traits": traits,
    }
    return TrainingCase(**{**fields, **changes})


def make_network(seed: int = 1) -> UniversalNetwork:
    """A network of two levels for the three classes; the seed decides its weights."""
    torch.manual_seed(seed)
    return build_network(_SHAPE_OF_NETWORK, torch.randn(len(CLASSES), 8))


def make_sampler(config: OptimizeConfig, cases: list[TrainingCase] | None = None) -> PatchSampler:
    """Patches of two scans of which one knows the liver alone."""
    if cases is None:
        cases = [make_case(), make_case(make_card("livers", ("liver",)), seed=5)]
    numbers = list(range(len(cases)))
    return PatchSampler(Pool(cases, numbers), config.patch, SPACING_MM, config.augment, config.sampling, config.seed)


def make_config(**changes: Any) -> OptimizeConfig:
    """Six quick steps in full precision."""
    values = {
        "steps": 6, "patch": (16, 16, 16), "warmup": 2, "save_every": 3, "log_every": 1, "precision": "fp32",
        "learning_rate": 0.01, "augment": STILL.model_copy(update={"noise_hu": 5}),
        "sampling": {"centers": "classes"}, **changes,
    }  # fmt: skip
    return OptimizeConfig.model_validate(values)


def make_trainer(
    folder: Path,
    cases: list[TrainingCase] | None = None,
    processes: Processes = Processes(),  # noqa: B008  frozen
    validate: Validate | None = None,
    **changes: Any,
) -> Trainer:
    """A run in a folder, from the same start every time."""
    config = make_config(**changes)
    metadata = Metadata(
        network=_SHAPE_OF_NETWORK, preparation=PREPARATION.to_dict(), inference={"window": [16, 16, 16]}, text_bank={},
        trained=CLASSES, card={"title": "test"},
    )  # fmt: skip
    return Trainer(make_network(), make_sampler(config, cases), config, metadata, folder, CPU, processes, validate)


def judge(network: UniversalNetwork) -> dict[str, float | None]:
    """A number that depends on every weight and stands for a Dice; a judge that sees no scan."""
    total = sum(float(p.detach().double().abs().sum()) for p in network.parameters())
    return {"liver": total % 1, "spleen": None}


def write_dataset(
    folder: Path, name: str, classes: tuple[str, ...] = CLASSES, n_cases: int = 2, seed: int = 0, **card: Any
) -> Path:
    """Scans ``name/c0_ct.nii.gz`` … with their labels, and the card beside the folder; returns the card's path."""
    for index in range(n_cases):
        labels = make_labels(seed + index)
        write_volume(folder / name / f"c{index}_ct.nii.gz", make_hu(labels, seed + index), GRID)
        write_labels(folder / name / f"c{index}_labels.nii.gz", labels, GRID)
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(card_values(name, classes, **card)))
    return path


def recipe_values(*datasets: str, **changes: Any) -> dict[str, Any]:
    """A recipe of three quick steps over datasets that `write_dataset` wrote; nested fields are merged."""
    values: dict[str, Any] = {
        "name": "tiny",
        "datasets": [{"card": f"{name}.yaml", "folder": name} for name in datasets],
        "network": {"backbone": "compact", "options": {"channels": [16, 16]}},
        "text": {"encoder": "onehot", "center": False},
        "preparation": {"spacing_mm": [3, 3, 3], "window_hu": [-250, 350], "antialias": True, "crop": "none"},
        "inference": {"window": [16, 16, 16], "overlap": 0.25},
        "optimize": {
            "steps": 3, "patch": [16, 16, 16], "batch": 1, "save_every": 2, "log_every": 1, "warmup": 1,
            "precision": "fp32", "learning_rate": 0.01,
        },
    }  # fmt: skip
    for key, value in changes.items():
        is_nested = isinstance(value, dict) and isinstance(values.get(key), dict)
        values[key] = {**values[key], **value} if is_nested else value
    return values


def write_recipe(folder: Path, *datasets: str, **changes: Any) -> Path:
    """``recipe.yaml`` in a folder."""
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe_values(*datasets, **changes)))
    return path


_SHAPE_OF_NETWORK = NetworkConfig(backbone="compact", classes=CLASSES, embedding_size=8, options={"channels": [16, 16]})


def rows_of(folder: Path) -> list[dict[str, Any]]:
    """The log without what a clock says."""
    return [
        {k: v for k, v in row.items() if k not in {"seconds", "validation_seconds"}}
        for row in read_rows(folder / "metrics.jsonl")
    ]
