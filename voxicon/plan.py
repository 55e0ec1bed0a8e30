"""What a recipe means on this machine: which datasets, classes and scans, and what each scan is for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from voxicon.core.concepts import Vocabulary
from voxicon.data.card import DatasetCard, define_concepts, load_card
from voxicon.data.layout import Case, Dataset, find_dataset
from voxicon.data.manifest import ManifestRow, read_manifest
from voxicon.errors import ConfigError
from voxicon.prep.pipeline import PreparationConfig
from voxicon.recipe import Recipe


@dataclass(frozen=True)
class Plan:
    """What a recipe means on this machine.

    Attributes:
        recipe: As written.
        datasets: What was found.
        vocabulary: The shipped words and those that cards define.
        classes: In order of id; each is annotated in some scan.
        train: Scans to learn from.
        val: Scans to judge on during training.
        test: Scans held out.
        preparation: Of the scans.
        rows: The manifest; empty without one.
        start: Weights to start from, if any.
        text_file: What the text encoder reads, if it needs to be told.
    """

    recipe: Recipe
    datasets: tuple[Dataset, ...]
    vocabulary: Vocabulary
    classes: tuple[str, ...]
    train: tuple[Case, ...]
    val: tuple[Case, ...]
    test: tuple[Case, ...]
    preparation: PreparationConfig
    rows: Mapping[str, ManifestRow]
    start: Path | None = None
    text_file: Path | None = None


def plan_training(recipe: Recipe, base: Path, data: Path | None = None) -> Plan:
    """Find the datasets of a recipe and sort their scans. There may be none to train on: some are only judged on.

    Args:
        recipe: What to do.
        base: Folder that the recipe's paths are relative to.
        data: Folder that the datasets' folders are relative to, if it is another one.

    Raises:
        CardError: A card is wrong, or its files are not where it says.
        ConfigError: Cards, classes, manifest and settings do not fit each other.
    """
    folders = [(data or base) / entry.folder for entry in recipe.datasets]
    datasets = tuple(
        find_dataset(_card(entry.card, (base, folder)), folder)
        for entry, folder in zip(recipe.datasets, folders, strict=True)
    )
    twice = sorted(name for name, n in Counter(dataset.card.id for dataset in datasets).items() if n > 1)
    if twice:
        raise ConfigError(f"recipe {recipe.name}: dataset {', '.join(twice)} is listed more than once; list it once")
    preparation = PreparationConfig.from_dict(recipe.preparation)
    if len(set(preparation.spacing_mm)) != 1:
        raise ConfigError(
            f"recipe {recipe.name}: training needs one spacing for all axes, got {preparation.spacing_mm}"
        )
    rows = read_manifest(base / recipe.manifest) if recipe.manifest else None
    split: dict[str, list[Case]] = {"train": [], "val": [], "test": [], "excluded": []}
    for case in (case for dataset in datasets for case in dataset.cases):
        split[_split(case, rows, recipe)].append(case)
    train, val, test = (tuple(split[name]) for name in ("train", "val", "test"))
    vocabulary = extended_vocabulary([dataset.card for dataset in datasets])
    classes = _classes(recipe, vocabulary, (*train, *val, *test))
    start, text_file = (base / path if path else None for path in (recipe.start, recipe.text.file))
    return Plan(recipe, datasets, vocabulary, classes, train, val, test, preparation, rows or {}, start, text_file)


def for_training(plan: Plan) -> Plan:
    """The part of a plan that can be learned: classes that a training scan annotates, and scans that annotate any.

    Raises:
        ConfigError: There is nothing to learn, a class that was asked for is annotated in no training scan, scans
            of the manifest are missing, or no scan can be judged on and the run is to wait for that.
    """
    recipe = plan.recipe
    if not plan.train:
        raise ConfigError(f"recipe {recipe.name}: no scan is left to train on; check the manifest's column 'split'")
    _refuse_gaps(plan)
    annotated = {name for case in plan.train for name in case.annotates}
    never = [name for name in plan.classes if name not in annotated]
    if recipe.classes is not None and never:
        raise ConfigError(
            f"recipe {recipe.name}: {', '.join(never)} is annotated in no training scan; leave it out, or move scans "
            "to the split 'train'"
        )
    classes = tuple(name for name in plan.classes if name in annotated)
    train, val = (tuple(c for c in cases if c.annotates & set(classes)) for cases in (plan.train, plan.val))
    if recipe.missing == "background":
        train = plan.train
    train = _taken(train, recipe)
    if recipe.optimize.patience and not val:
        raise ConfigError(
            f"recipe {recipe.name}: optimize.patience waits for validations, but no scan is for validation; "
            "set it to 0, or put scans into the split 'val'"
        )
    return replace(plan, classes=classes, train=train, val=val)


def _taken(train: tuple[Case, ...], recipe: Recipe) -> tuple[Case, ...]:
    """As many scans as the recipe takes, in the order they were in; a larger number adds to a smaller one's."""
    if recipe.take is None:
        return train
    if recipe.take > len(train):
        raise ConfigError(f"recipe {recipe.name}: take is {recipe.take}, but there are {len(train)} training scans")
    drawn = sorted(train, key=lambda case: sha256(f"{recipe.optimize.seed} {case.id}".encode()).digest())
    return tuple(case for case in train if case in drawn[: recipe.take])


def _refuse_gaps(plan: Plan) -> None:
    there = {case.id for dataset in plan.datasets for case in dataset.cases}
    prefixes = tuple(f"{dataset.card.id}/" for dataset in plan.datasets)
    used = [row for row in plan.rows.values() if row.id.startswith(prefixes) and row.split in {"train", "val"}]
    gone = sorted(row.id for row in used if row.id not in there)
    if gone:
        shown = ", ".join(gone[:3]) + (f" and {len(gone) - 3} more" if len(gone) > 3 else "")
        raise ConfigError(
            f"{plan.recipe.manifest}: lists {shown}, but no such scan is there; put it back, "
            "or run 'voxicon assembly check' again"
        )
    folds = sorted({row.fold for row in used if row.fold >= 0})
    if plan.recipe.fold is not None and plan.recipe.fold not in folds:
        known = ", ".join(map(str, folds)) or "none"
        raise ConfigError(f"{plan.recipe.manifest}: no scan is in fold {plan.recipe.fold}; there are: {known}")


def _classes(recipe: Recipe, vocabulary: Vocabulary, cases: Sequence[Case]) -> tuple[str, ...]:
    """Canonical names in order of id: those asked for, or all that a scan annotates."""
    annotated = {name for case in cases for name in case.annotates}
    wanted = annotated if recipe.classes is None else {vocabulary.resolve(word).name for word in recipe.classes}
    classes = tuple(name for name in vocabulary.names if name in wanted)
    never = [name for name in classes if name not in annotated]
    if never:
        raise ConfigError(
            f"recipe {recipe.name}: no card annotates {', '.join(never)} in any of its scans; drop it, or add a card"
        )
    if not classes:
        raise ConfigError(f"recipe {recipe.name}: no scan has any class annotated; check the manifest and the cards")
    return classes


def _card(name: str, places: tuple[Path, ...]) -> DatasetCard:
    """A shipped card, or one from the first of some folders that has it."""
    if Path(name).suffix not in {".yaml", ".yml"}:
        return load_card(name)
    return load_card(next((place / name for place in places if (place / name).is_file()), places[0] / name))


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


def _split(case: Case, rows: Mapping[str, ManifestRow] | None, recipe: Recipe) -> str:
    if rows is None:
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
