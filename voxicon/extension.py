"""New words for finished weights: a head of their own is trained, and what became of the old words is measured.

Three ways. ``frozen`` trains the new head alone. ``light`` trains an adapter with it that only the new words read
through. In both the old words read the same numbers through the same numbers: their logits stay as they were, bit by
bit. ``joint`` trains everything, and the old words are kept from being forgotten by the old weights' own answers.

Source of joint training with pseudo labels: Zhang et al., Continual Learning for Abdominal Multi-Organ and Tumor
Segmentation, MICCAI 2023; of distillation: Li and Hoiem, Learning without Forgetting, ECCV 2016.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch

from voxicon.core.concepts import Vocabulary
from voxicon.core.masks import MaskSet
from voxicon.core.volume import Volume
from voxicon.data.card import define_concepts
from voxicon.data.harmonise import Targets
from voxicon.errors import CheckpointError, ConfigError, UnknownClass, UsageError
from voxicon.infer.settings import hosts_inside, vocabulary_of
from voxicon.infer.windows import tile
from voxicon.model.checkpoint import (
    Checkpoint,
    Metadata,
    load_checkpoint,
    read_metadata,
    save_checkpoint,
    storage_dtype,
)
from voxicon.model.extend import extended
from voxicon.model.network import UniversalNetwork
from voxicon.model.text import TextBank, added_bank
from voxicon.operating import carried_over
from voxicon.plan import Plan, defined_classes, for_training, plan_training
from voxicon.prep.pipeline import window
from voxicon.preparing import Told, prepare_cases
from voxicon.recipe import Recipe
from voxicon.segmenter import Segmenter
from voxicon.student import ADAPTER, Student, as_weights
from voxicon.train.cases import TrainingCase
from voxicon.training import build_trainer
from voxicon.validation import case_dice
from voxicon.wording import words_of

Mode = Literal["frozen", "light", "joint"]

Keep = Literal["pseudo", "distill", "none"]
"""What speaks for the old words in joint training: the old weights' masks of every scan, taken for labels where a scan
lacks them; their probabilities of every patch; or nothing."""

DISTILL = 1.0
"""Weight of the old weights' probabilities beside labels. Source: Li and Hoiem (2016)."""

_WINDOWS_PER_SCAN = 4
"""Looked at to compare old logits."""


@dataclass(frozen=True)
class Extended:
    """Weights with new words, and what they cost.

    Attributes:
        path: The new weights.
        added: The new words.
        parameters: Numbers that were added.
        seconds: Wall time of training.
        old_logits: ``windows`` compared, the ``largest_difference`` of a logit of an old word, and whether all were
            ``identical``, bit by bit.
        dice: One row per scan and class that the scan can tell of: ``scan``, ``split``, ``class``, ``before`` (None for
            a new word) and ``after``; on the model's grid, without cleanup.
    """

    path: Path
    added: tuple[str, ...]
    parameters: int
    seconds: float
    old_logits: Mapping[str, Any]
    dice: tuple[Mapping[str, Any], ...]


def plan_extension(weights: Path, recipe: Recipe, base: Path, data: Path | None = None) -> Plan:
    """What a recipe means on this machine for weights that are to learn its classes.

    Args:
        weights: What is to be extended.
        recipe: Datasets, manifest, `classes` (all of them new) and how to optimize. Its network, words, preparation and
            inference are not looked at: they are those of the weights.
        base: Folder that the recipe's paths are relative to.
        data: As of `voxicon.plan.plan_training`.

    Raises:
        UnknownClass: A class is no word of the vocabulary, or the weights have it already.
        ConfigError: The recipe names no classes, or there is nothing to learn.
        CardError: A card is wrong, or its files are not where it says.
        CheckpointError: The weights are damaged.
    """
    if not recipe.classes:
        raise ConfigError(f"recipe {recipe.name}: names no classes to add; give --class, such as --class spinal_cord")
    metadata = read_metadata(weights)
    recipe = as_weights(recipe, metadata).model_copy(update={"start": None, "strategy": "full"})
    plan = plan_training(recipe, base, data)
    inside = hosts_inside(metadata, vocabulary_of(metadata.card, weights.name))
    has = sorted(set(plan.classes) & {*metadata.network.all_classes, *inside})
    if has:
        raise UnknownClass(f"{', '.join(has)}: the weights have this word already; name new ones only")
    defines = {
        **metadata.card.get("defines", {}), **defined_classes([dataset.card for dataset in plan.datasets]),
    }  # fmt: skip
    own = {word: entry for word, entry in defines.items() if word not in Vocabulary.default()}
    vocabulary = Vocabulary.default().extended(define_concepts(own)) if own else Vocabulary.default()
    return for_training(replace(plan, vocabulary=vocabulary))


def extend(
    weights: Path,
    plan: Plan,
    out: Path,
    device: torch.device,
    *,
    mode: Mode = "frozen",
    keep: Keep = "pseudo",
    told: Told = lambda what, done, total: None,
) -> Extended:
    """Teach finished weights the classes of a plan. A run that was interrupted goes on in the same run folder.

    Args:
        weights: What to extend; the file stays as it is.
        plan: Of `plan_extension` for these weights.
        out: The new weights, ``.safetensors``. The run folder lies beside them: same name, ``.run``.
        device: Where to compute.
        mode: What is trained, see above.
        keep: For ``joint``: what old words are kept by.
        told: Hears of the progress.

    Raises:
        ConfigError: Mode or keep do not exist, or settings do not fit the network.
        UsageError: The output has another ending, or the weights look into organs.
        CheckpointError: The weights are damaged, or the run folder holds another run.
        InputError: A scan cannot be read.
        OutputError: Something cannot be written.
    """
    _refuse(out, mode, keep)
    old, added = load_checkpoint(weights), plan.classes
    if old.network.inputs != 1:
        raise UsageError(f"{weights.name}: looks into organs; only weights that read whole scans can be extended")
    bank = added_bank(old.metadata.text_bank, words_of(added, plan.vocabulary), file=plan.text_file)
    torch.manual_seed(plan.recipe.optimize.seed)
    words = dict(zip(added, torch.from_numpy(bank.vectors), strict=True))
    network = extended(old.network, words, ADAPTER if mode == "light" else None)
    plan = replace(plan, classes=network.classes, recipe=_distilling(plan.recipe, mode, keep))
    folder = out.with_suffix(".run")
    student = _student(old, network, bank, mode, keep, device)
    trainer = build_trainer(plan, folder, device, told=told, student=student)
    trainer.run(lambda row: told(f"loss {row['loss']:.3f}", row["step"], row["steps"]) if "loss" in row else None)
    # What is judged is what is in a file: rounded as it is stored.
    dtype = storage_dtype(old.network)
    save_checkpoint(folder / "extended.safetensors", trainer.averaged, trainer.metadata, dtype=dtype)
    grown = load_checkpoint(folder / "extended.safetensors").network.to(device)
    done = _judged(out, (old.metadata.trained, added), old.network.to(device), grown, plan, told)
    if mode != "joint" and not done.old_logits["identical"]:
        raise CheckpointError(f"{out}: old logits changed though nothing of them was trained; please report this")
    done = replace(done, seconds=round(trainer.seconds, 1))
    metadata = _metadata(old, weights, trainer.metadata, bank, done, mode, keep)
    save_checkpoint(out, grown, metadata, dtype=dtype, inside=old.inside)
    return done


def _refuse(out: Path, mode: str, keep: str) -> None:
    if mode not in get_args(Mode):
        raise ConfigError(f"mode {mode!r} is unknown; use {', '.join(get_args(Mode))}")
    if keep not in get_args(Keep):
        raise ConfigError(f"keep {keep!r} is unknown; use {', '.join(get_args(Keep))}")
    if out.suffix != ".safetensors":
        raise UsageError(f"{out}: the output must end in .safetensors")


def _judged(
    out: Path,
    words: tuple[tuple[str, ...], tuple[str, ...]],
    before: UniversalNetwork,
    after: UniversalNetwork,
    plan: Plan,
    told: Told,
) -> Extended:
    """What became of old and new words on the plan's scans, as far as their labels tell."""
    device, (old, added) = before.text_vectors.device, words
    cases, _ = prepare_cases(plan, out.with_suffix(".run") / "prepared", told=told)
    names = [case.id for case in (*plan.train, *plan.val)]
    splits = ["train"] * len(plan.train) + ["val"] * len(plan.val)
    rows = []
    for case, name, split in zip(cases, names, splits, strict=True):
        told(f"judging {name}", names.index(name), len(names))
        earlier = case_dice(before, case, plan, device, old)
        later = case_dice(after, case, plan, device, (*old, *added))
        rows += [
            {"scan": name, "split": split, "class": word, "before": earlier.get(word), "after": later.get(word)}
            for word in plan.classes
            if word in earlier or word in later
        ]
    parameters = _count(after) - _count(before)
    return Extended(out, added, parameters, 0.0, _old_logits(before, after, cases, plan, device), tuple(rows))


def _student(
    old: Checkpoint, network: UniversalNetwork, bank: TextBank, mode: Mode, keep: Keep, device: torch.device
) -> Student:
    added = network.extensions[-1]
    student = Student(network, bank.to_dict(), known=old.metadata.trained, origin=old.sha256)
    if mode != "joint":
        network.requires_grad_(False)
        added.requires_grad_(True)
        return replace(student, learned=bank.names)
    if keep == "distill":
        return replace(student, teacher=old.network)
    if keep == "pseudo":
        # Of what this network said itself: one inside says what it says as before.
        alone = replace(old, metadata=replace(old.metadata, inside=None), inside=None)
        teacher = Segmenter(alone, device, "old weights")
        return replace(student, complete=(f"masks of {old.sha256}", partial(_filled_in, teacher)))
    return student


def _filled_in(teacher: Segmenter, volume: Volume, targets: Targets) -> Targets:
    """Labels, and masks of the teacher for the classes that it knows and the labels do not."""
    missing = tuple(name for name in teacher.classes if name in targets.masks and name not in targets.known)
    if not missing:
        return targets
    masks, found = MaskSet.empty(targets.masks.names, targets.masks.geometry), teacher.segment(volume, missing).masks
    for name in targets.masks.names:
        masks.set(name, found[name] if name in missing else targets.masks[name])
    return Targets(masks, targets.known | frozenset(missing))


def _distilling(recipe: Recipe, mode: Mode, keep: Keep) -> Recipe:
    if mode != "joint" or keep != "distill" or recipe.optimize.distill:
        return recipe
    return recipe.model_copy(update={"optimize": recipe.optimize.model_copy(update={"distill": DISTILL})})


@torch.inference_mode()
def _old_logits(
    before: UniversalNetwork, after: UniversalNetwork, cases: Iterable[TrainingCase], plan: Plan, device: torch.device
) -> dict[str, Any]:
    """Logits of the old words, of the old network and of the new one, in windows of every scan."""
    size, difference, identical, seen = plan.recipe.inference.window, 0.0, True, 0
    for case in cases:
        image = torch.from_numpy(window(case.hu_XYZ[:].astype(np.float32), plan.preparation.window_hu))
        x, y, z = (max(n, w) for n, w in zip(image.shape, size, strict=True))
        every = [w for row in tile((x, y, z), size, 0.0).rows for w in row]
        for place in every[:: max(1, len(every) // _WINDOWS_PER_SCAN)][:_WINDOWS_PER_SCAN]:
            patch = torch.zeros(size)
            piece = image[place.to_slices()]
            patch[tuple(slice(n) for n in piece.shape)] = piece
            ours, theirs = (network(patch[None, None].to(device), before.classes) for network in (after, before))
            difference = max(difference, float((ours - theirs).abs().max()))
            identical, seen = identical and torch.equal(ours, theirs), seen + 1
    return {"windows": seen, "largest_difference": difference, "identical": identical}


def _count(network: UniversalNetwork) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def _metadata(
    old: Checkpoint, weights: Path, of_run: Metadata, bank: TextBank, done: Extended, mode: Mode, keep: Keep
) -> Metadata:
    """The old metadata, with a line of provenance more."""
    learned = dict(of_run.card)
    entry = {
        "classes": list(done.added),
        "mode": mode,
        "from": {"file": weights.name, "sha256": old.sha256},
        "parameters": done.parameters,
        "wall_seconds": done.seconds,
        "old_logits": dict(done.old_logits),
        "dice": [dict(row) for row in done.dice],
        "data": learned.get("data", []),
        "recipe": learned.get("recipe", {}),
    }
    if mode == "joint":
        entry["keep"] = keep
    # Trained jointly, old words answer otherwise: what was known of their thresholds no longer holds.
    # So do the organs that a network inside looks into.
    inside = () if old.metadata.inside is None else old.metadata.inside.trained
    before = carried_over(old.metadata.card, lost=(*old.metadata.trained, *inside) if mode == "joint" else ())
    defines = {**before.get("defines", {}), **learned.get("defines", {})}
    card = {**before, "extensions": [*before.get("extensions", []), entry], **({"defines": defines} if defines else {})}
    banks = [*old.metadata.text_bank.get("extensions", []), bank.to_dict()]
    return replace(
        old.metadata,
        network=of_run.network,
        trained=of_run.trained,
        text_bank={**old.metadata.text_bank, "extensions": banks},
        card=card,
    )
