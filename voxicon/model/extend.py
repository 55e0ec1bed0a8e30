"""Words come, go and change their names; what the network knew stays as it was.

Every function gives a new network and leaves the one it was given alone. Tensors that are kept are kept bit by bit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from voxicon.errors import CheckpointError, UnknownClass
from voxicon.model.config import ExtensionConfig, HeadConfig, NetworkConfig
from voxicon.model.head import CONTROLLER_WIDTH, FEATURE, ClassControllers, TextDrivenHead
from voxicon.model.network import UniversalNetwork, build_network

_PER_CLASS = ("hidden_weight", "hidden_bias", "weight", "bias")
"""Of a controller per class: parameters whose first axis counts classes."""


def extended(
    network: UniversalNetwork, words: Mapping[str, Tensor], adapter: Mapping[str, Any] | None = None
) -> UniversalNetwork:
    """A network that has more words, in a head of their own; the rest is the same.

    The new head starts as a copy of the first one as far as their shapes are the same: it then reads images as that one
    does, and only has to learn what the new words mean. A controller is shared by the new words if the first head's is
    shared by its own.

    Args:
        network: Stays as it is.
        words: Name → vector (E,), all of one length; which may be another than that of the older words.
        adapter: Arguments of `Adapter` for the new words; none where left out.

    Raises:
        UnknownClass: There is such a word already, or there is no new one.
    """
    config = config_of(network)
    there = sorted(set(words) & set(network.classes))
    if there or not words:
        raise UnknownClass(f"{', '.join(there) or 'nothing'}: expected words that these weights have not yet")
    vectors = torch.stack(list(words.values())).float()
    added = ExtensionConfig(
        classes=tuple(words), embedding_size=vectors.shape[1], controller=config.controller, adapter=adapter
    )
    grown = build_network(replace(config, extensions=(*config.extensions, added)))
    extension = grown.extensions[-1]
    kept = network.state_dict()
    own = {f"extensions.{len(config.extensions)}.{key}": tensor for key, tensor in extension.state_dict().items()}
    for key, fresh in list(own.items()):
        theirs = kept.get(key.split(".", 2)[2])
        if ".head." in key and theirs is not None and theirs.shape == fresh.shape:
            own[key] = theirs
    own[f"extensions.{len(config.extensions)}.text_vectors"] = vectors
    grown.load_state_dict({**kept, **own})
    return grown.train(network.training)


def without(network: UniversalNetwork, classes: tuple[str, ...]) -> UniversalNetwork:
    """A network that lacks some words. A head that loses all of its words goes, unless it is the first.

    Raises:
        UnknownClass: There is no such word, or none would be left.
    """
    config = config_of(network)
    _refuse_strangers(network, classes)
    if set(classes) == set(network.classes):
        raise UnknownClass("no word would be left; keep one of them at least")
    tensors = network.state_dict()
    first = replace(config, classes=tuple(c for c in config.classes if c not in classes))
    found = _rows_kept(tensors, "", config, classes)
    extensions: list[ExtensionConfig] = []
    for number, each in enumerate(config.extensions):
        left = tuple(c for c in each.classes if c not in classes)
        if left:
            rows = _rows_kept(tensors, f"extensions.{number}.", each, classes)
            old, new = f"extensions.{number}.", f"extensions.{len(extensions)}."
            found |= {new + key.removeprefix(old): tensor for key, tensor in rows.items()}
            extensions.append(replace(each, classes=left))
    smaller = build_network(replace(first, extensions=tuple(extensions)))
    smaller.load_state_dict(found)
    return smaller.train(network.training)


def _rows_kept(
    tensors: Mapping[str, Tensor], prefix: str, head: HeadConfig, lost: tuple[str, ...]
) -> dict[str, Tensor]:
    """The tensors of a head (of the first: and of the backbone) without the rows of some classes."""
    own = {k: t for k, t in tensors.items() if k.startswith(prefix) and (prefix or not k.startswith("extensions."))}
    rows = [row for row, name in enumerate(head.classes) if name not in lost]
    of_classes = {f"{prefix}text_vectors"}
    if head.controller == "per_class":
        of_classes |= {f"{prefix}head.controller.{name}" for name in _PER_CLASS}
    return {key: tensor[rows] if key in of_classes else tensor for key, tensor in own.items()}


def renamed(network: UniversalNetwork, names: Mapping[str, str]) -> UniversalNetwork:
    """A network whose words go by other names; their vectors, and so their masks, are the same.

    Args:
        network: Stays as it is.
        names: Old name → new name.

    Raises:
        UnknownClass: There is no such word, or two would have one name.
    """
    config = config_of(network)
    _refuse_strangers(network, tuple(names))

    def new(classes: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(names.get(name, name) for name in classes)

    twice = sorted({name for name in new(network.classes) if new(network.classes).count(name) > 1})
    if twice:
        raise UnknownClass(f"{', '.join(twice)}: two words would have this name; give each its own")
    extensions = tuple(replace(each, classes=new(each.classes)) for each in config.extensions)
    same = build_network(replace(config, classes=new(config.classes), extensions=extensions))
    same.load_state_dict(network.state_dict())
    return same.train(network.training)


@torch.no_grad()
def with_own_controllers(network: UniversalNetwork) -> UniversalNetwork:
    """A network with a controller per class where one was shared, written so that logits are equal but for rounding.

    A shared controller is linear in [image feature, projected word]. For one class the word is fixed: its part becomes
    a bias. The image's part is passed on by pairs of hidden units, one for a feature and one for its negative, of
    which a ReLU lets exactly one through. Heads that have controllers of their own stay as they are.
    """
    config = config_of(network)
    tensors = dict(network.state_dict())
    for prefix, each, head, vectors in _heads(network, config):
        if each.controller == "shared":
            tensors = {k: t for k, t in tensors.items() if not k.startswith(_shared(prefix))}
            tensors |= {f"{prefix}head.controller.{k}": t for k, t in _own_controllers(head, vectors).items()}
    extensions = tuple(replace(each, controller="per_class") for each in config.extensions)
    written = build_network(replace(config, controller="per_class", extensions=extensions))
    written.load_state_dict(tensors)
    return written.train(network.training)


def _shared(prefix: str) -> tuple[str, ...]:
    return f"{prefix}head.controller.", f"{prefix}head.text_projection."


def _heads(network: UniversalNetwork, config: NetworkConfig) -> list[tuple[str, HeadConfig, TextDrivenHead, Tensor]]:
    """Of each head: what its tensors begin with, its shape, itself and its words."""
    found: list[tuple[str, HeadConfig, TextDrivenHead, Tensor]] = [("", config, network.head, network.text_vectors)]
    for number, (each, extension) in enumerate(zip(config.extensions, network.extensions, strict=True)):
        found.append((f"extensions.{number}.", each, extension.head, extension.text_vectors))  # type: ignore[arg-type]
    return found


def _own_controllers(head: TextDrivenHead, vectors_NE: Tensor) -> dict[str, Tensor]:
    """Parameters of a `ClassControllers` that answers as the shared controller of a head does."""
    assert isinstance(head.controller, torch.nn.Linear)
    assert head.text_projection is not None
    words_NF = torch.relu(head.text_projection(vectors_NE))
    of_image, of_word = head.controller.weight[:, :FEATURE], head.controller.weight[:, FEATURE:]
    own = ClassControllers(len(vectors_NE), FEATURE + vectors_NE.shape[1])
    own.hidden_weight.zero_()
    own.hidden_bias.zero_()
    one = torch.eye(FEATURE)
    own.hidden_weight[:, :CONTROLLER_WIDTH, :FEATURE] = torch.cat([one, -one])
    own.weight[:] = torch.cat([of_image, -of_image], dim=1)
    own.bias[:] = words_NF @ of_word.T + head.controller.bias
    return own.state_dict()


def config_of(network: UniversalNetwork) -> NetworkConfig:
    """What a network was built from.

    Raises:
        CheckpointError: It was put together by hand.
    """
    if network.config is None:
        raise CheckpointError("this network was put together by hand; build it from a NetworkConfig")
    return network.config


def _refuse_strangers(network: UniversalNetwork, classes: tuple[str, ...]) -> None:
    strangers = [name for name in classes if name not in network.classes]
    if strangers:
        raise UnknownClass(
            f"these weights have no word {', '.join(strangers)}; they have: {', '.join(network.classes)}"
        )
