"""A plan becomes a trainer, ready to run: scans prepared and kept, words made vectors, network built."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from voxicon.core.geometry import Geometry
from voxicon.core.masks import MaskSet
from voxicon.data.cases import read_case
from voxicon.data.content import ContentHashes
from voxicon.data.harmonise import Targets
from voxicon.data.layout import Case, Dataset
from voxicon.errors import ConfigError, OutputError
from voxicon.infer.predictor import InferenceConfig, Predictor
from voxicon.io.atomic import file_sha256
from voxicon.model.checkpoint import Metadata, load_checkpoint
from voxicon.model.network import NetworkConfig, UniversalNetwork, build_network
from voxicon.model.text import make_bank
from voxicon.plan import Plan, defined_classes, extended_vocabulary, for_training, plan_training
from voxicon.prep.pipeline import window
from voxicon.recipe import Recipe
from voxicon.train.cases import TrainingCase, build_case
from voxicon.train.loop import Trainer, Validate
from voxicon.train.patches import PatchSampler, Pool
from voxicon.train.planting import Planter
from voxicon.train.processes import Processes
from voxicon.train.store import CaseStore, entry_key

__all__ = ["Plan", "build_trainer", "defined_classes", "extended_vocabulary", "plan_training"]

Told = Callable[[str, int, int], None]
"""What is being done, how much of it is done, and how much there is."""

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

    Raises:
        InputError: A scan cannot be read.
        OutputError: A folder cannot be written.
        ConfigError: There is nothing to learn, scans are not those of the manifest, or settings do not fit the network.
        CheckpointError: The folder holds a run with other settings, or the network cannot be built.
    """
    plan = for_training(plan)
    recipe = plan.recipe
    bank = make_bank({name: plan.vocabulary[name].display_name for name in plan.classes}, **recipe.text.model_dump())
    shape = NetworkConfig(
        backbone=recipe.network.backbone,
        classes=plan.classes,
        embedding_size=bank.vectors.shape[1],
        options=recipe.network.options,
        controller=recipe.network.controller,
        leak=recipe.network.leak,
    )
    torch.manual_seed(recipe.optimize.seed)
    network = build_network(shape, torch.from_numpy(bank.vectors))
    if plan.start is not None:
        _start_from(plan.start, network, shape)
    _refuse_sizes(recipe, network.size_multiple)
    _refuse_strays(recipe, plan.classes)
    cache = cache if cache is not None else folder / "prepared"
    for needed in (folder, cache):
        _make_folder(needed)
    prepared, digests = _prepare(plan, cache, processes, told)
    train, val = prepared[: len(plan.train)], prepared[len(plan.train) :]
    metadata = Metadata(
        network=shape,
        preparation=plan.preparation.to_dict(),
        inference=recipe.inference.model_dump(mode="json"),
        text_bank=bank.to_dict(),
        trained=_trained(plan, train),
        card=_training_card(plan, train, digests),
    )
    sampler = _sampler(plan, train)
    validate = _validation(val, plan, device, processes) if val else None
    return Trainer(network, sampler, recipe.optimize, metadata, folder, device, processes, validate)


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
    )


def _planter(plan: Plan) -> Planter | None:
    config = plan.recipe.optimize.lesions
    return Planter(config, plan.classes) if config.share > 0 else None


def _start_from(path: Path, network: UniversalNetwork, shape: NetworkConfig) -> None:
    """Numbers of earlier weights into a fresh network of the same words and shape.

    Two things may differ: the class networks' leak, which is no tensor, and inputs of local contrast that the earlier
    network had not. Those start at zero, so that at first it finds what it found.
    """
    start = load_checkpoint(path)
    if _grown(start.metadata.network, shape) != shape:
        raise ConfigError(
            f"{path}: is another network than the recipe's ({start.metadata.network.to_dict()} instead of "
            f"{shape.to_dict()}); start from weights of the same backbone, options and classes"
        )
    # Half precision in the file: the words are the same if they agree that far.
    if not torch.allclose(start.network.text_vectors, network.text_vectors, atol=1e-2):
        raise ConfigError(
            f"{path}: its words have other vectors than the recipe's; use the same text encoder and template"
        )
    earlier = {**start.network.state_dict(), "text_vectors": network.text_vectors}
    network.load_state_dict({name: _filled_up(earlier[name], own) for name, own in network.state_dict().items()})


def _grown(earlier: NetworkConfig, shape: NetworkConfig) -> NetworkConfig:
    """The earlier network with all that the new one may have added."""
    options = dict(earlier.options)
    if "contrast" not in options and "contrast" in shape.options:
        options["contrast"] = shape.options["contrast"]
    return replace(earlier, options=options, leak=shape.leak)


def _filled_up(earlier: Tensor, own: Tensor) -> Tensor:
    """Earlier weights (C_out, C_in, ...) with zeros for the inputs that only the new network reads."""
    if earlier.shape == own.shape:
        return earlier
    filled = torch.zeros_like(own)
    filled[:, : earlier.shape[1]] = earlier
    return filled


def _refuse_sizes(recipe: Recipe, multiple: int) -> None:
    for field, size in (("optimize.patch", recipe.optimize.patch), ("inference.window", recipe.inference.window)):
        if any(n < 1 or n % multiple for n in size):
            raise ConfigError(
                f"recipe {recipe.name}: {field} is {list(size)}; the backbone {recipe.network.backbone} needs "
                f"multiples of {multiple}"
            )


def _refuse_strays(recipe: Recipe, classes: Sequence[str]) -> None:
    for field in ("thresholds", "smoothing_mm"):
        strays = [name for name in getattr(recipe.inference, field) if name not in classes]
        if strays:
            raise ConfigError(
                f"recipe {recipe.name}: inference.{field} names {', '.join(strays)}, which it does not learn; "
                "take them out, or add them to classes"
            )


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"{folder}: cannot be made ({error.strerror}); expected a folder, or room for one; give another",
            code="E-DISK",
        ) from error


def _prepare(
    plan: Plan, cache: Path, processes: Processes, told: Told
) -> tuple[list[TrainingCase], dict[str, tuple[str, str]]]:
    """Training and validation scans from the store, and the hashes of image and labels by case id.

    Each process reads its share of the files and makes its share of what is not in the store yet.
    """
    cases = (*plan.train, *plan.val)
    own = range(processes.rank, len(cases), processes.count)
    hashes = ContentHashes(cache / f"hashes-{processes.rank}.jsonl")
    shares: dict[str, tuple[str, str]] = {}
    for index in own:
        told(f"reading {cases[index].id}", index, len(cases))
        shares[cases[index].id] = hashes.of(cases[index].image), hashes.of_labels(cases[index])
    digests = {name: digest for share in processes.gather(shares) for name, digest in share.items()}
    _refuse_changed(plan, digests)
    store = CaseStore(cache)
    # The usual mistake is made in training alone: scans to judge on say what they know.
    missing = [plan.recipe.missing] * len(plan.train) + ["unknown"] * len(plan.val)
    keys = [_key(plan, case, digests[case.id], what) for case, what in zip(cases, missing, strict=True)]
    makers = [partial(_make, plan, case, what) for case, what in zip(cases, missing, strict=True)]
    for index in own:
        if keys[index] not in store:
            told(f"preparing {cases[index].id}", index, len(cases))
            store.get(keys[index], makers[index])
    processes.wait()
    return [store.get(key, make) for key, make in zip(keys, makers, strict=True)], digests


def _refuse_changed(plan: Plan, digests: Mapping[str, tuple[str, str]]) -> None:
    """Scans that are not what was checked may be copies across splits, or broken."""
    for name, found in digests.items():
        row = plan.rows.get(name)
        listed = (row.image_sha256, row.labels_sha256) if row else ("", "")
        for what, stated, is_now in zip(("scan", "labels"), listed, found, strict=True):
            if stated and stated != is_now:
                raise ConfigError(
                    f"{plan.recipe.manifest}: the {what} of {name} changed since they were checked "
                    f"(SHA-256 {is_now[:12]}, listed {stated[:12]}); run 'voxicon assembly check' again"
                )


def _key(plan: Plan, case: Case, digests: tuple[str, str], missing: str) -> str:
    read = {"raw", "annotates", "sampling", "zoom", "repaint_hu", "label_axes"}
    return entry_key(
        {
            "image": digests[0],
            "labels": digests[1],
            "card": case.card.model_dump(mode="json", include=read),
            "annotates": sorted(case.annotates),
            "classes": plan.classes,
            "missing": missing,
            "spacing_mm": plan.preparation.spacing_mm[0],
            "antialias": plan.preparation.antialias,
            "repaint_hu": plan.recipe.repaint_hu,
        }
    )


def _make(plan: Plan, case: Case, missing: str) -> TrainingCase:
    volume, annotation, targets = read_case(case, plan.classes)
    if missing == "background":
        targets = Targets(targets.masks, frozenset(plan.classes))
    return build_case(volume, annotation, case.card, targets, plan.preparation, plan.recipe.repaint_hu)


def _trained(plan: Plan, train: Sequence[TrainingCase]) -> tuple[str, ...]:
    """Classes that a training scan shows. Of the others the network learns at most that they are never there."""
    shown = {index for case in train for index in case.centers}
    planter = Planter(plan.recipe.optimize.lesions, plan.classes)
    for case in train if plan.recipe.optimize.lesions.share > 0 else ():
        there = np.isin(np.arange(len(plan.classes)), list(case.centers))
        kinds = planter.plantable(case.known_N, there)
        names = {name for kind in kinds for name in (kind.name, *kind.also)}
        shown |= {plan.classes.index(name) for name in names & set(plan.classes)}
    trained = tuple(name for index, name in enumerate(plan.classes) if index in shown)
    if not trained:
        raise ConfigError(
            f"recipe {plan.recipe.name}: no training scan has a voxel of {', '.join(plan.classes)}; check the labels"
        )
    return trained


def _validation(cases: Sequence[TrainingCase], plan: Plan, device: torch.device, processes: Processes) -> Validate:
    """Whole-scan inference on held-out scans: mean Dice of each class over the scans that can tell.

    A scan can tell where the class is known and either there or found. Each process takes its share of the scans.
    """
    low_high, spacing = plan.preparation.window_hu, plan.preparation.spacing_mm
    config = InferenceConfig(**plan.recipe.inference.model_dump())

    def validate(network: UniversalNetwork) -> dict[str, float | None]:
        predictor = Predictor(network, config, device)
        sums, counts = [0.0] * len(plan.classes), [0.0] * len(plan.classes)
        for case in cases[processes.rank :: processes.count]:
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
                    index = plan.classes.index(name)
                    sums[index] += 2 * int((mask & true).sum()) / total
                    counts[index] += 1
        totals = processes.totals([*sums, *counts], device)
        pairs = zip(totals[: len(sums)], totals[len(sums) :], strict=True)
        return {name: dice / n if n else None for name, (dice, n) in zip(plan.classes, pairs, strict=True)}

    return validate


def _training_card(plan: Plan, train: Sequence[TrainingCase], digests: Mapping[str, tuple[str, str]]) -> dict[str, Any]:
    card = {**plan.recipe.card, "recipe": plan.recipe.model_dump(mode="json")}
    card["data"] = [_provenance(dataset, plan, digests) for dataset in plan.datasets]
    keys = [_key(plan, case, digests[case.id], plan.recipe.missing) for case in plan.train]
    if plan.start is not None:
        card["start"] = {"file": plan.start.name, "sha256": file_sha256(plan.start)}
        keys.append(card["start"]["sha256"])
    card["data_sha256"] = hashlib.sha256(" ".join(keys).encode()).hexdigest()
    never = sorted(set(plan.classes) - set(_trained(plan, train)))
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
