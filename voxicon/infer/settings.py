"""What a checkpoint says beside its numbers, as objects: the words it knows and how its windows are laid and cut."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from voxicon.core.concepts import Vocabulary
from voxicon.data.card import define_concepts
from voxicon.errors import CheckpointError, UsageError
from voxicon.infer.predictor import InferenceConfig
from voxicon.model.checkpoint import Metadata

BY_CLASS = ("thresholds", "smoothing_mm", "depth_mm", "peaks")
"""Settings of `InferenceConfig` that name classes."""


def vocabulary_of(card: Mapping[str, Any], name: str) -> Vocabulary:
    """The shipped vocabulary and the classes that a checkpoint's card defines, numbered after it.

    A class that the shipped vocabulary has by now is the shipped one.

    Raises:
        CheckpointError: A definition is damaged.
    """
    default = Vocabulary.default()
    try:
        defines = {word: entry for word, entry in card.get("defines", {}).items() if word not in default}
        return default.extended(define_concepts(defines)) if defines else default
    except (UsageError, AttributeError, TypeError, ValueError) as error:
        raise CheckpointError(f"{name}: the classes these weights define are damaged: {error}") from error


def classes_of(metadata: Metadata, vocabulary: Vocabulary) -> tuple[str, ...]:
    """Canonical names of all that a checkpoint can find, by either network, in id order."""
    inside = hosts_inside(metadata, vocabulary)
    return tuple(name for name in vocabulary.names if name in metadata.trained or name in inside)


def hosts_inside(metadata: Metadata, vocabulary: Vocabulary) -> dict[str, tuple[str, ...]]:
    """What a checkpoint's second network finds, in id order, and the organs that it looks into for each.

    These are the parents of the class that the first network finds. Of a class without any nothing can be found, so it
    is left out; a checkpoint of one network has none.
    """
    if metadata.inside is None:
        return {}
    trained = [name for name in vocabulary.names if name in metadata.inside.trained]
    hosts = {name: tuple(p for p in vocabulary[name].parents if p in metadata.trained) for name in trained}
    return {name: of for name, of in hosts.items() if of}


def inference_config(values: Mapping[str, object]) -> InferenceConfig:
    """Window, overlap and threshold from a checkpoint.

    Raises:
        CheckpointError: A field is missing, unknown or senseless.
    """
    try:
        fields = dict(values)
        x, y, z = (int(n) for n in fields.pop("window"))  # type: ignore[attr-defined]
        return InferenceConfig(window=(x, y, z), **fields)  # type: ignore[arg-type]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CheckpointError(f"inference settings of the checkpoint are damaged: {error}") from error
