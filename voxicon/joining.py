"""Two networks in one file: weights that find organs, and inside of them weights that look into those."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from voxicon.errors import UsageError
from voxicon.infer.settings import hosts_inside, vocabulary_of
from voxicon.model.checkpoint import Metadata, load_checkpoint, save_checkpoint, storage_dtype
from voxicon.model.host import INPUTS
from voxicon.operating import carried_over


def join(organs: Path, lesions: Path, out: Path) -> Metadata:
    """Write weights of two networks. Each answers as before; what both know is found by that of the lesions.

    The card is that of the organs, with the words that the lesions' card defines, and without operating points of what
    is found otherwise now. The lesions' card stays with their network.

    Args:
        organs: Find organs, by one network; stay as they are.
        lesions: Look into organs; stay as they are.
        out: Ends in ``.safetensors``; a file of that name is replaced.

    Returns:
        What is written beside the tensors.

    Raises:
        UsageError: The output has another ending; the organs have lesions inside already, or look into organs
            themselves; the lesions do not, or into none that these organs' weights find; or both define one word.
        CheckpointError: Weights are missing or damaged, or they prepare a scan in different ways.
        OutputError: The output cannot be written.
    """
    if out.suffix != ".safetensors":
        raise UsageError(f"{out}: the output must end in .safetensors")
    first, second = load_checkpoint(organs), load_checkpoint(lesions)
    if first.metadata.inside is not None:
        raise UsageError(
            f"{organs.name}: has a network inside already, for {', '.join(first.metadata.inside.trained)}; "
            f"join {lesions.name} with the weights that it was made from"
        )
    if first.network.inputs != 1:
        raise UsageError(
            f"{organs.name}: looks into organs itself; expected weights that find organs: name these first"
        )
    if second.network.inputs != INPUTS:
        raise UsageError(
            f"{lesions.name}: does not look into organs; expected weights trained with the network option host"
        )
    defines = _defines(first.metadata.card, second.metadata.card, lesions.name)
    card = {**first.metadata.card, **({"defines": defines} if defines else {})}
    metadata = replace(first.metadata, card=card, inside=second.metadata)
    found = _found_inside(metadata, organs.name, lesions.name)
    metadata = replace(metadata, card=carried_over(card, lost=found))
    save_checkpoint(out, first.network, metadata, dtype=storage_dtype(first.network), inside=second.network)
    return metadata


def described_inside(metadata: Metadata, name: str) -> str:
    """What the second network of some weights looks for, and into what, in one line; empty where there is none."""
    hosts = hosts_inside(metadata, vocabulary_of(metadata.card, name))
    return "; ".join(f"{lesion} in {' and '.join(of)}" for lesion, of in hosts.items())


def _defines(first: Mapping[str, Any], second: Mapping[str, Any], name: str) -> dict[str, Any]:
    ours, theirs = first.get("defines", {}), second.get("defines", {})
    twice = [word for word in ours if word in theirs and theirs[word] != ours[word]]
    if twice:
        raise UsageError(
            f"{name}: defines {', '.join(twice)} otherwise than the weights of the organs do; "
            "rename one of them with 'voxicon extend --rename'"
        )
    return {**ours, **theirs}


def _found_inside(metadata: Metadata, organs: str, lesions: str) -> tuple[str, ...]:
    """What the second network finds; refused where that is nothing."""
    vocabulary = vocabulary_of(metadata.card, lesions)
    found = tuple(hosts_inside(metadata, vocabulary))
    if found:
        return found
    known = [name for name in (metadata.inside.trained if metadata.inside else ()) if name in vocabulary]
    hosts = dict.fromkeys(parent for name in known for parent in vocabulary[name].parents)
    raise UsageError(
        f"{lesions}: looks for {', '.join(known) or 'no class of the vocabulary'} in {', '.join(hosts) or 'no organ'}, "
        f"of which {organs} finds none; expected weights that do"
    )
