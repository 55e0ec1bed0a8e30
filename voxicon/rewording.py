"""Weights whose words change without training: taken away, called otherwise, or each given a controller of its own."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from voxicon.core.concepts import Vocabulary
from voxicon.errors import UnknownClass, UsageError
from voxicon.infer.settings import BY_CLASS, hosts_inside, vocabulary_of
from voxicon.model.checkpoint import Checkpoint, Metadata, load_checkpoint, save_checkpoint, storage_dtype
from voxicon.model.extend import config_of, renamed, with_own_controllers, without
from voxicon.model.network import UniversalNetwork
from voxicon.operating import carried_over


def reword(weights: Path, out: Path, *, remove: Iterable[str] = (), rename: Mapping[str, str] | None = None) -> None:
    """Write weights that lack some words, or call them otherwise. All other words answer as before.

    A network inside is taken along as it is.

    Args:
        weights: Stay as they are.
        out: Ends in ``.safetensors``.
        remove: Words of the vocabulary.
        rename: Word → canonical name of another class of the vocabulary, under which its masks then go.

    Raises:
        UnknownClass: There is no such word, none would be left, or a new name is no class of the vocabulary.
        UsageError: The output has another ending, or a word is one that a network inside finds or looks into.
        CheckpointError: The weights are damaged.
        OutputError: The output cannot be written.
    """
    old = load_checkpoint(weights)
    vocabulary = vocabulary_of(old.metadata.card, weights.name)
    lost = tuple(vocabulary.resolve(word).name for word in remove)
    names = {vocabulary.resolve(a).name: vocabulary.resolve(b).name for a, b in (rename or {}).items()}
    _refuse_inside(old.metadata, vocabulary, {*lost, *names, *names.values()}, weights.name)
    network = renamed(without(old.network, lost) if lost else old.network, names)
    trained = tuple(names.get(name, name) for name in old.metadata.trained if name not in lost)
    if not trained:
        raise UnknownClass(f"{weights.name}: no word that these weights were trained for would be left")
    done: dict[str, Any] = {"removed": list(lost)} if lost else {}
    done |= {"renamed": names} if names else {}
    _write(old, weights, out, network, trained, done, names, lost)


def own_controllers(weights: Path, out: Path) -> None:
    """Write weights with a controller per class that answer as the shared one did, but for rounding.

    Raises:
        UsageError: There is none that is shared, or the output has another ending.
        CheckpointError: The weights are damaged.
        OutputError: The output cannot be written.
    """
    old = load_checkpoint(weights)
    config = config_of(old.network)
    if all(each.controller == "per_class" for each in (config, *config.extensions)):
        raise UsageError(f"{weights.name}: every class has a controller of its own already")
    network = with_own_controllers(old.network)
    _write(old, weights, out, network, old.metadata.trained, {"controllers": "per_class"}, {}, ())


def _write(
    old: Checkpoint,
    weights: Path,
    out: Path,
    network: UniversalNetwork,
    trained: tuple[str, ...],
    done: Mapping[str, Any],
    names: Mapping[str, str],
    lost: tuple[str, ...],
) -> None:
    if out.suffix != ".safetensors":
        raise UsageError(f"{out}: the output must end in .safetensors")
    inference = dict(old.metadata.inference)
    for field in BY_CLASS:
        if field in inference:
            of_class = {names.get(name, name): value for name, value in inference[field].items() if name not in lost}
            inference[field] = of_class
    entry = {**done, "from": {"file": weights.name, "sha256": old.sha256}}
    card = carried_over(old.metadata.card, names, lost)
    card["extensions"] = [*card.get("extensions", []), entry]
    metadata = replace(
        old.metadata, network=config_of(network), trained=trained, inference=inference, card=card,
    )  # fmt: skip
    save_checkpoint(out, network, metadata, dtype=storage_dtype(network), inside=old.inside)


def _refuse_inside(metadata: Metadata, vocabulary: Vocabulary, words: Collection[str], name: str) -> None:
    """Refuse to reword what a network inside finds, or the organs that it would then look for in vain."""
    hosts = hosts_inside(metadata, vocabulary)
    needed = sorted({*hosts, *(host for of in hosts.values() for host in of)} & set(words))
    if needed:
        raise UsageError(
            f"{name}: {', '.join(needed)}: the network inside finds it or looks into it; reword the weights before "
            "'voxicon weights join'"
        )
