"""A network before its first step: new numbers, or those of earlier weights, and which of them learn."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from voxicon.errors import ConfigError
from voxicon.infer.settings import BY_CLASS
from voxicon.model.checkpoint import Checkpoint, Metadata, load_checkpoint, read_metadata
from voxicon.model.config import ExtensionConfig, NetworkConfig
from voxicon.model.encoders import ENCODERS
from voxicon.model.network import UniversalNetwork, build_network
from voxicon.model.text import TextBank, added_bank, make_bank
from voxicon.plan import Plan
from voxicon.preparing import Complete
from voxicon.recipe import InferenceSection, NetworkSection, Recipe, Strategy, TextSection
from voxicon.weights.store import resolve
from voxicon.wording import words_of

ADAPTER = {"width": 32}
"""Of new words that read through an adapter. Own choice: an eighth of the starter network's numbers, and half of its
work, which only those words cost."""


@dataclass(frozen=True, eq=False)
class Student:
    """A network before its first step.

    Attributes:
        network: With the numbers to start from. Its classes are the plan's, in the same order. What takes no gradient
            stays as it is.
        text_bank: How its words were made.
        learned: Classes that count in the loss; all of them where left out.
        known: Classes that it finds already.
        teacher: Keeps old words from being forgotten: a network whose answers for the classes that a scan does not
            annotate are part of the loss (``optimize.distill``); none where left out.
        complete: As of `voxicon.preparing.prepare_cases`.
        origin: Hash of the weights that are extended: a run of others does not go on with these.
    """

    network: UniversalNetwork
    text_bank: Mapping[str, Any]
    learned: tuple[str, ...] = ()
    known: tuple[str, ...] = ()
    teacher: UniversalNetwork | None = None
    complete: tuple[str, Complete] | None = None
    origin: str = ""


def as_weights(recipe: Recipe, metadata: Metadata) -> Recipe:
    """A recipe with the network, words, preparation and windows of weights in place of its own.

    Raises:
        CheckpointError: What the weights say of themselves is damaged.
    """
    shape, bank = metadata.network, metadata.text_bank
    text = recipe.text
    if bank.get("encoder") in ENCODERS:
        text = TextSection(
            encoder=bank["encoder"],
            template=bank.get("template") or "V1",
            center=bool(bank.get("centered")),
            side_angle_deg=bank.get("side_angle_deg", 0.0),
            file=recipe.text.file,  # where it lies is this machine's affair
        )
    network = NetworkSection(
        backbone=shape.backbone, options=shape.options, controller=shape.controller, leak=shape.leak
    )
    # What was tuned for the classes of the weights says nothing of others.
    inference = {k: v for k, v in metadata.inference.items() if k not in BY_CLASS}
    changes = {
        "network": network,
        "text": text,
        "preparation": dict(metadata.preparation),
        "inference": InferenceSection.model_validate(inference),
    }
    return recipe.model_copy(update=changes)


def starting_from(recipe: Recipe, weights: str | Path, strategy: Strategy = "full") -> Recipe:
    """A recipe that starts from weights and is of their network.

    Args:
        recipe: Says what to learn and how to optimize.
        weights: ``starter``, the name of installed weights, or a path.
        strategy: As of a `Recipe`.

    Raises:
        CheckpointError: The weights are missing or damaged.
    """
    path = resolve(weights).resolve()
    return as_weights(recipe, read_metadata(path)).model_copy(update={"start": path, "strategy": strategy})


def make_student(plan: Plan) -> Student:
    """The recipe's network, with new numbers or those of the weights it starts from.

    Raises:
        ConfigError: The weights are of another network, or their words were made in another way.
        CheckpointError: The weights are damaged, or the network cannot be built.
    """
    recipe = plan.recipe
    start = None if plan.start is None else load_checkpoint(plan.start)
    if start is not None and plan.start is not None:
        _refuse_other(plan.start, start, recipe)
    bank = _bank(plan, start)
    shape = NetworkConfig(
        backbone=recipe.network.backbone,
        classes=plan.classes,
        embedding_size=bank.vectors.shape[1],
        options=recipe.network.options,
        controller=recipe.network.controller,
        leak=recipe.network.leak,
    )
    if recipe.strategy == "adapters":
        # The words read through an adapter, and the first head, which none of them asks, has none.
        own = ExtensionConfig(
            classes=plan.classes, embedding_size=shape.embedding_size, controller=shape.controller, adapter=ADAPTER
        )
        shape = replace(shape, classes=(), extensions=(own,))
    torch.manual_seed(recipe.optimize.seed)
    network = build_network(shape)
    (network.extensions[-1] if shape.extensions else network).text_vectors.copy_(torch.from_numpy(bank.vectors))  # type: ignore[operator]
    if start is not None:
        _start_from(start, network, shape)
    if recipe.strategy != "full":
        network.backbone.requires_grad_(False)
    if recipe.strategy == "adapters":
        network.head.requires_grad_(False)
    return Student(network, bank.to_dict())


def _bank(plan: Plan, start: Checkpoint | None) -> TextBank:
    """Vectors of the words; those of a start are made as its own were, so that they mean to it what they meant."""
    words = words_of(plan.classes, plan.vocabulary)
    if start is None or start.metadata.text_bank.get("encoder") not in ENCODERS:
        return make_bank(words, **{**plan.recipe.text.model_dump(), "file": plan.text_file})
    return added_bank(start.metadata.text_bank, words, file=plan.text_file)


def _refuse_other(path: Path, start: Checkpoint, recipe: Recipe) -> None:
    earlier, network = start.metadata.network, recipe.network
    options = dict(earlier.options)
    if "contrast" not in options and "contrast" in network.options:
        options["contrast"] = network.options["contrast"]  # see _start_from
    theirs = (earlier.backbone, _plain(options), earlier.controller)
    ours = (network.backbone, _plain(network.options), network.controller)
    if theirs != ours:
        raise ConfigError(
            f"{path}: is another network than the recipe's ({theirs} instead of {ours}); start from weights of the "
            "same backbone, options and controller"
        )
    bank, text = start.metadata.text_bank, recipe.text
    stated = (bank.get("encoder"), bank.get("template") or text.template, bool(bank.get("centered")))
    angle = bank.get("side_angle_deg", 0.0)
    wanted = (text.encoder, text.template, text.center, text.side_angle_deg)
    if bank.get("encoder") in ENCODERS and (*stated, angle) != wanted:
        raise ConfigError(
            f"{path}: its words have other vectors than the recipe's; use the same text encoder, template, center and "
            "side angle"
        )


def _plain(options: Any) -> Any:
    """Options with lists for tuples, as a file gives them back."""
    if isinstance(options, Mapping):
        return {key: _plain(value) for key, value in options.items()}
    return [_plain(each) for each in options] if isinstance(options, list | tuple) else options


def _start_from(start: Checkpoint, network: UniversalNetwork, shape: NetworkConfig) -> None:
    """Numbers of earlier weights into a fresh network, as far as both have the same parts.

    Words may be others: a shared controller answers to any, and of controllers per class those of the same words are
    taken over. The class networks' leak may differ, as it is no tensor, and so may inputs of local contrast that the
    earlier network had not: those start at zero, so that at first it finds what it found.
    """
    earlier, own = start.network.state_dict(), network.state_dict()
    found = dict(own)
    for name, tensor in own.items():
        source = name.split(".", 2)[2] if name.startswith("extensions.") else name
        if source not in earlier or source == "text_vectors":
            continue
        if source.startswith("backbone."):
            found[name] = _filled_up(earlier[source], tensor)
        elif shape.controller == "per_class" and source.startswith("head.controller."):
            found[name] = _by_word(earlier[source], tensor, start.network.classes, network.classes)
        elif earlier[source].shape == tensor.shape:
            found[name] = earlier[source]
    network.load_state_dict(found)


def _filled_up(earlier: Tensor, own: Tensor) -> Tensor:
    """Earlier weights (C_out, C_in, ...) with zeros for the inputs that only the new network reads."""
    if earlier.shape == own.shape:
        return earlier
    filled = torch.zeros_like(own)
    filled[:, : earlier.shape[1]] = earlier
    return filled


def _by_word(earlier: Tensor, own: Tensor, words: tuple[str, ...], own_words: tuple[str, ...]) -> Tensor:
    """Rows of the same words from earlier weights, all others as they are; all are where vectors differ in length."""
    if earlier.shape[1:] != own.shape[1:]:
        return own
    filled = own.clone()
    for row, word in enumerate(own_words):
        # The controllers of a first head; words that were added to it later have theirs elsewhere.
        if word in words[: len(earlier)]:
            filled[row] = earlier[words.index(word)]
    return filled
