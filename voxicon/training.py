"""A recipe and the datasets it names become a trainer, ready to run."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from voxicon.core.concepts import Vocabulary
from voxicon.core.geometry import Geometry
from voxicon.core.masks import MaskSet
from voxicon.data.card import DatasetCard, define_concepts, load_card
from voxicon.data.cases import read_case
from voxicon.data.content import ContentHashes
from voxicon.data.harmonise import Targets
from voxicon.data.layout import Case, Dataset, find_dataset
from voxicon.data.manifest import ManifestRow, read_manifest
from voxicon.errors import ConfigError
from voxicon.infer.predictor import InferenceConfig, Predictor
from voxicon.model.checkpoint import Metadata
from voxicon.model.network import NetworkConfig, UniversalNetwork, build_network
from voxicon.model.text import make_bank
from voxicon.prep.pipeline import PreparationConfig, window
from voxicon.recipe import Recipe
from voxicon.train.cases import TrainingCase, build_case
from voxicon.train.loop import Trainer, Validate
from voxicon.train.patches import PatchSampler
from voxicon.train.processes import Processes
from voxicon.train.store import CaseStore, entry_key

Told = Callable[[str, int, int], None]
"""What is being done, how much of it is done, and how much there is."""

_LISTED = 50
"""Datasets with more scans are recorded by one hash over all of them."""


@dataclass(frozen=True)
class Plan:
    """What a recipe means on this machine.

    Attributes:
        recipe: As written.
        datasets: What was found.
        vocabulary: The shipped words and those that cards define.
        classes: To learn, in order of id.
        train: Scans to learn from.
        val: Scans to judge on during training.
        test: Scans held out.
        preparation: Of the scans.
    """

    recipe: Recipe
    datasets: tuple[Dataset, ...]
    vocabulary: Vocabulary
    classes: tuple[str, ...]
    train: tuple[Case, ...]
    val: tuple[Case, ...]
    test: tuple[Case, ...]
    preparation: PreparationConfig


def plan_training(recipe: Recipe, base: Path, data: Path | None = None) -> Plan:
    """Find the datasets of a recipe and sort their scans.

    Args:
        recipe: What to do.
        base: Folder that the recipe's paths are relative to.
        data: Folder that the datasets' folders are relative to, if it is another one.

    Raises:
        CardError: A card is wrong, or its files are not where it says.
        ConfigError: Cards, classes, manifest and settings do not fit each other.
    """
    datasets = tuple(find_dataset(_card(entry.card, base), (data or base) / entry.folder) for entry in recipe.datasets)
    vocabulary = extended_vocabulary([dataset.card for dataset in datasets])
    annotated = {name for dataset in datasets for name in dataset.card.annotates}
    wanted = annotated if recipe.classes is None else {vocabulary.resolve(word).name for word in recipe.classes}
    classes = tuple(name for name in vocabulary.names if name in wanted)
    never = [name for name in classes if name not in annotated]
    if never:
        raise ConfigError(f"recipe {recipe.name}: no card annotates {', '.join(never)}; leave them out or add a card")
    preparation = PreparationConfig.from_dict(recipe.preparation)
    if len(set(preparation.spacing_mm)) != 1:
        raise ConfigError(
            f"recipe {recipe.name}: training needs one spacing for all axes, got {preparation.spacing_mm}"
        )
    rows = read_manifest(base / recipe.manifest) if recipe.manifest else {}
    sorted_cases: dict[str, list[Case]] = {"train": [], "val": [], "test": [], "excluded": []}
    for case in (case for dataset in datasets for case in dataset.cases):
        sorted_cases[_split(case, rows, recipe)].append(case)
    train, val, test = (tuple(sorted_cases[name]) for name in ("train", "val", "test"))
    if not train:
        raise ConfigError(f"recipe {recipe.name}: no scan is left to train on; check the manifest's column 'split'")
    return Plan(recipe, datasets, vocabulary, classes, train, val, test, preparation)


def _card(name: str, base: Path) -> DatasetCard:
    return load_card(base / name if Path(name).suffix in {".yaml", ".yml"} else name)


def extended_vocabulary(cards: Sequence[DatasetCard]) -> Vocabulary:
    """The shipped vocabulary with all classes that the cards define.

    Raises:
        ConfigError: Two cards define the same class differently.
    """
    defines = defined_classes(cards)
    return Vocabulary.default().extended(define_concepts(defines)) if defines else Vocabulary.default()


def defined_classes(cards: Sequence[DatasetCard]) -> dict[str, Mapping[str, Any]]:
    """Entries of all classes that the cards define.

    Raises:
        ConfigError: Two cards define the same class differently.
    """
    defines: dict[str, Mapping[str, Any]] = {}
    for card in cards:
        for name, entry in card.defines.items():
            if defines.setdefault(name, entry) != entry:
                raise ConfigError(f"{card.id}: defines {name!r} otherwise than another card; make them agree")
    return defines


def _split(case: Case, rows: Mapping[str, ManifestRow], recipe: Recipe) -> str:
    if not rows:
        return case.split or "train"
    row = rows.get(case.id)
    if row is None:
        raise ConfigError(
            f"{recipe.manifest}: does not list {case.id}; run 'voxicon assembly check' again, "
            "so that the new scan is checked and put into a split"
        )
    if recipe.fold is None or row.split in {"test", "excluded"}:
        return row.split
    return "val" if row.fold == recipe.fold else "train"


def build_trainer(
    plan: Plan,
    folder: Path,
    device: torch.device,
    *,
    cache: Path | None = None,
    processes: Processes = Processes(),  # noqa: B008  frozen
    told: Told = lambda what, done, total: None,
) -> Trainer:
    """Prepare the scans, make the words' vectors, and build (or resume) a run in `folder`.

    Args:
        plan: What to train.
        folder: The run's.
        device: Where to compute.
        cache: Where prepared scans are kept; beside the run by default.
        processes: Who else works on it; they share the preparation.
        told: Hears of the preparation.

    Raises:
        InputError: A scan cannot be read.
        CheckpointError: The folder holds a run with other settings.
    """
    recipe = plan.recipe
    folder.mkdir(parents=True, exist_ok=True)
    cache = cache if cache is not None else folder / "prepared"
    hashes = ContentHashes(cache / f"hashes-{processes.rank}.jsonl")
    prepared = _prepare(plan, (*plan.train, *plan.val), cache, hashes, processes, told)
    train, val = prepared[: len(plan.train)], prepared[len(plan.train) :]
    bank = make_bank({name: plan.vocabulary[name].display_name for name in plan.classes}, **recipe.text.model_dump())
    shape = NetworkConfig(
        backbone=recipe.network.backbone,
        classes=plan.classes,
        embedding_size=bank.vectors.shape[1],
        options=recipe.network.options,
        controller=recipe.network.controller,
    )
    torch.manual_seed(recipe.optimize.seed)
    network = build_network(shape, torch.from_numpy(bank.vectors))
    metadata = Metadata(
        network=shape,
        preparation=plan.preparation.to_dict(),
        inference=recipe.inference.model_dump(mode="json"),
        text_bank=bank.to_dict(),
        trained=shape.classes,
        card=_training_card(plan, hashes),
    )
    order = {dataset.card.id: index for index, dataset in enumerate(plan.datasets)}
    sampler = PatchSampler(
        train,
        [order[case.card.id] for case in plan.train],
        recipe.optimize.patch,
        plan.preparation.spacing_mm[0],
        recipe.optimize.augment,
        recipe.optimize.sampling,
        recipe.optimize.seed,
        np.array([plan.vocabulary[name].kind == "lesion" for name in plan.classes]),
    )
    validate = _validation(val, plan, device) if val else None
    return Trainer(network, sampler, recipe.optimize, metadata, folder, device, processes, validate)


def _prepare(
    plan: Plan, cases: Sequence[Case], cache: Path, hashes: ContentHashes, processes: Processes, told: Told
) -> list[TrainingCase]:
    """Training cases from the store, each process making its share of those that are not there yet."""
    store = CaseStore(cache)
    makers = [_maker(plan, case, hashes) for case in cases]
    for index, (key, make) in enumerate(makers):
        if index % processes.count == processes.rank and key not in store:
            told(f"preparing {cases[index].id}", index, len(cases))
            store.get(key, make)
    processes.wait()
    return [store.get(key, make) for key, make in makers]


def _maker(plan: Plan, case: Case, hashes: ContentHashes) -> tuple[str, Callable[[], TrainingCase]]:
    recipe, spacing = plan.recipe, plan.preparation.spacing_mm[0]
    card = case.card.model_dump(
        mode="json", include={"raw", "annotates", "sampling", "zoom", "repaint_hu", "label_axes"}
    )
    key = entry_key(
        {
            "image": hashes.of(case.image),
            "labels": hashes.of_labels(case),
            "card": card,
            "annotates": sorted(case.annotates),
            "classes": plan.classes,
            "missing": recipe.missing,
            "spacing_mm": spacing,
            "repaint_hu": recipe.repaint_hu,
        }
    )
    return key, partial(_make, plan, case)


def _make(plan: Plan, case: Case) -> TrainingCase:
    volume, annotation, targets = read_case(case, plan.classes)
    if plan.recipe.missing == "background":
        targets = Targets(targets.masks, frozenset(plan.classes))
    return build_case(volume, annotation, case.card, targets, plan.preparation.spacing_mm[0], plan.recipe.repaint_hu)


def _validation(cases: Sequence[TrainingCase], plan: Plan, device: torch.device) -> Validate:
    """Whole-scan inference on held-out scans: mean Dice of each class over the scans that can tell."""
    low_high, spacing = plan.preparation.window_hu, plan.preparation.spacing_mm
    config = InferenceConfig(**plan.recipe.inference.model_dump())

    def validate(network: UniversalNetwork) -> dict[str, float | None]:
        predictor = Predictor(network, config, device)
        found: dict[str, list[float]] = {name: [] for name in plan.classes}
        for case in cases:
            x, y, z = case.hu_XYZ.shape
            grid = Geometry((x, y, z), np.diag([*spacing, 1.0]))
            known = tuple(name for name, is_known in zip(plan.classes, case.known_N, strict=True) if is_known)
            truth = MaskSet(case.words_WXYZ[:], plan.classes, grid)
            image = window(case.hu_XYZ[:].astype(np.float32), low_high)
            predicted = predictor.predict(image, grid, known).masks
            for name in known:
                mask, true = predicted[name], truth[name]
                total = int(mask.sum()) + int(true.sum())
                if total:
                    found[name].append(2 * int((mask & true).sum()) / total)
        return {name: sum(scores) / len(scores) if scores else None for name, scores in found.items()}

    return validate


def _training_card(plan: Plan, hashes: ContentHashes) -> dict[str, Any]:
    card = {**plan.recipe.card, "recipe": plan.recipe.model_dump(mode="json")}
    card["data"] = [_provenance(dataset, plan, hashes) for dataset in plan.datasets]
    defines = defined_classes([dataset.card for dataset in plan.datasets])
    if defines:
        card["defines"] = {name: dict(entry) for name, entry in defines.items()}
    return card


def _provenance(dataset: Dataset, plan: Plan, hashes: ContentHashes) -> dict[str, Any]:
    train = [case for case in plan.train if case.card.id == dataset.card.id]
    sums = {case.name: [hashes.of(case.image), hashes.of_labels(case)] for case in train}
    digest = hashlib.sha256(repr(sorted(sums.items())).encode()).hexdigest()
    return {
        "dataset": dataset.card.id,
        "title": dataset.card.title,
        "terms": dataset.card.terms,
        "labels_by": dataset.card.labels_by,
        "phase": dataset.card.phase,
        "train": len(train),
        "val": sum(case.card.id == dataset.card.id for case in plan.val),
        "sha256": sums if len(sums) <= _LISTED else digest,
    }
