"""A plan becomes a trainer, ready to run: scans prepared and kept, words made vectors, network built."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from voxicon.data.layout import Dataset
from voxicon.errors import ConfigError
from voxicon.infer.settings import BY_CLASS
from voxicon.io.atomic import file_sha256
from voxicon.model.checkpoint import Metadata
from voxicon.model.extend import config_of
from voxicon.plan import Plan, defined_classes, for_training
from voxicon.preparing import Told, case_key, make_folder, prepare_cases
from voxicon.recipe import Recipe
from voxicon.student import Student, make_student
from voxicon.train.cases import TrainingCase, focused
from voxicon.train.hosts import Group, Hosts, groups_of
from voxicon.train.loop import Trainer
from voxicon.train.patches import PatchSampler, Pool
from voxicon.train.planting import Planter
from voxicon.train.processes import Processes
from voxicon.validation import validation

_LISTED = 50
"""Datasets with more scans are recorded by one hash over all of them."""


def build_trainer(
    plan: Plan,
    folder: Path,
    device: torch.device,
    *,
    cache: Path | None = None,
    processes: Processes = Processes(),  # noqa: B008  frozen
    told: Told = lambda what, done, total: None,
    student: Student | None = None,
) -> Trainer:
    """Prepare the scans, make the words' vectors, and build (or resume) a run in `folder`.

    Everything that can be refused without reading a scan is refused first: preparing thousands takes hours.

    Args:
        plan: What to train.
        folder: The run's.
        device: Where to compute.
        cache: Where prepared scans are kept; beside the run by default.
        processes: Who else works on it; they share the preparation and the validation.
        told: Hears of the preparation.
        student: What learns; the plan is then taken as it is. The recipe's network where left out, and of the plan what
            can be learned.

    Raises:
        InputError: A scan cannot be read.
        OutputError: A folder cannot be written.
        ConfigError: There is nothing to learn, scans are not those of the manifest, or settings do not fit the network.
        CheckpointError: The folder holds a run with other settings, or the network cannot be built.
    """
    if student is None:
        plan = for_training(plan)
        _refuse_inside(plan)
        student = make_student(plan)
    recipe = plan.recipe
    _refuse_sizes(recipe, student.network.size_multiple)
    _refuse_strays(recipe, plan.classes)
    cache = cache if cache is not None else folder / "prepared"
    for needed in (folder, cache):
        make_folder(needed)
    prepared, digests = prepare_cases(plan, cache, processes, told, student.complete)
    train, val = prepared[: len(plan.train)], prepared[len(plan.train) :]
    if student.learned:
        learned = np.isin(plan.classes, student.learned)
        train = [focused(case, learned) for case in train]
    metadata = Metadata(
        network=config_of(student.network),
        preparation=plan.preparation.to_dict(),
        inference=recipe.inference.model_dump(mode="json"),
        text_bank=student.text_bank,
        trained=tuple(dict.fromkeys([*student.known, *_trained(plan, train)])),
        card=_training_card(plan, train, digests, student),
    )
    sampler = _sampler(plan, train)
    validate = validation(val, plan, device, processes) if val else None
    trainer = Trainer(student.network, sampler, recipe.optimize, metadata, folder, device, processes, validate)
    trainer.teacher = None if student.teacher is None else student.teacher.to(device).eval()
    return trainer


def _sampler(plan: Plan, train: Sequence[TrainingCase]) -> PatchSampler:
    order = {dataset.card.id: index for index, dataset in enumerate(plan.datasets)}
    optimize = plan.recipe.optimize
    pool = Pool(
        train,
        [order[case.card.id] for case in plan.train],
        {index: entry.weight for index, entry in enumerate(plan.recipe.datasets)},
        np.array([plan.vocabulary[name].kind == "lesion" for name in plan.classes]),
    )
    return PatchSampler(
        pool,
        optimize.patch,
        plan.preparation.spacing_mm[0],
        optimize.augment,
        optimize.sampling,
        optimize.seed,
        _planter(plan),
        Hosts(optimize.host, _groups(plan)) if plan.recipe.looks_inside else None,
    )


def _groups(plan: Plan) -> tuple[Group, ...]:
    """Lesions and their organs, for a network that looks into these."""
    lesions = [name for name in plan.classes if plan.vocabulary[name].kind == "lesion"]
    return groups_of(plan.classes, {name: plan.vocabulary[name].parents for name in lesions})


def _planter(plan: Plan) -> Planter | None:
    config = plan.recipe.optimize.lesions
    return Planter(config, plan.classes) if config.share > 0 else None


def _refuse_sizes(recipe: Recipe, multiple: int) -> None:
    for field, size in (("optimize.patch", recipe.optimize.patch), ("inference.window", recipe.inference.window)):
        if any(n < 1 or n % multiple for n in size):
            raise ConfigError(
                f"recipe {recipe.name}: {field} is {list(size)}; the backbone {recipe.network.backbone} needs "
                f"multiples of {multiple}"
            )


def _refuse_inside(plan: Plan) -> None:
    """What a network that looks into organs cannot do, and what no other can.

    Not told by the recipe alone: the network may be that of the weights it starts from.
    """
    recipe = plan.recipe
    if not recipe.looks_inside:
        for setting in ("depth_mm", "peaks"):
            if getattr(recipe.inference, setting):
                raise ConfigError(
                    f"recipe {recipe.name}: inference.{setting} says which findings in an organ count, which is for a "
                    "network that looks into organs; take it out, or set network.options.host"
                )
        return
    if not _groups(plan):
        raise ConfigError(
            f"recipe {recipe.name}: network.options.host looks for lesions inside of organs, but of "
            f"{', '.join(plan.classes)} none is a lesion whose organ is there too; add both to classes"
        )
    if recipe.optimize.validate_every:
        raise ConfigError(
            f"recipe {recipe.name}: a network that looks into organs is told them, which validation cannot do; "
            "set optimize.validate_every to 0 and judge the joined weights"
        )
    if recipe.strategy == "adapters":
        raise ConfigError(
            f"recipe {recipe.name}: adapters read a scan, and this network what an organ makes of it; "
            "use strategy full or head"
        )


def _refuse_strays(recipe: Recipe, classes: Sequence[str]) -> None:
    for field in BY_CLASS:
        strays = [name for name in getattr(recipe.inference, field) if name not in classes]
        if strays:
            raise ConfigError(
                f"recipe {recipe.name}: inference.{field} names {', '.join(strays)}, which it does not learn; "
                "take them out, or add them to classes"
            )


def _trained(plan: Plan, train: Sequence[TrainingCase]) -> tuple[str, ...]:
    """Classes that a training scan shows. Of the others the network learns at most that they are never there."""
    shown = {index for case in train for index in case.centers}
    planter = Planter(plan.recipe.optimize.lesions, plan.classes)
    for case in train if plan.recipe.optimize.lesions.share > 0 else ():
        there = np.isin(np.arange(len(plan.classes)), list(case.centers))
        kinds = planter.plantable(case.known_N, there)
        names = {name for kind in kinds for name in (kind.name, *kind.also)}
        shown |= {plan.classes.index(name) for name in names & set(plan.classes)}
    if plan.recipe.looks_inside:
        # Organs are told to it, not found by it.
        shown &= {index for group in _groups(plan) for index in group.lesions}
    trained = tuple(name for index, name in enumerate(plan.classes) if index in shown)
    if not trained:
        raise ConfigError(
            f"recipe {plan.recipe.name}: no training scan has a voxel of {', '.join(plan.classes)}; check the labels"
        )
    return trained


def _training_card(
    plan: Plan, train: Sequence[TrainingCase], digests: Mapping[str, tuple[str, str]], student: Student
) -> dict[str, Any]:
    card = {**plan.recipe.card, "recipe": plan.recipe.model_dump(mode="json")}
    card["data"] = [_provenance(dataset, plan, digests) for dataset in plan.datasets]
    keys = [case_key(plan, case, digests[case.id], plan.recipe.missing, student.complete) for case in plan.train]
    keys += [*sorted(student.learned), *filter(None, [student.origin])]
    if plan.start is not None:
        card["start"] = {"file": plan.start.name, "sha256": file_sha256(plan.start)}
        keys.append(card["start"]["sha256"])
    card["data_sha256"] = hashlib.sha256(" ".join(keys).encode()).hexdigest()
    told = {plan.classes[index] for group in _groups(plan) for index in group.hosts if plan.recipe.looks_inside}
    never = sorted(set(student.learned or plan.classes) - set(_trained(plan, train)) - told)
    if never:
        card["never_shown"] = never
    defines = defined_classes([dataset.card for dataset in plan.datasets])
    own = {name: dict(entry) for name, entry in defines.items() if name in plan.classes}
    if own:
        card["defines"] = own
    return card


def _provenance(dataset: Dataset, plan: Plan, digests: Mapping[str, tuple[str, str]]) -> dict[str, Any]:
    train = [case for case in plan.train if case.card.id == dataset.card.id]
    sums = {case.name: list(digests[case.id]) for case in train}
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
