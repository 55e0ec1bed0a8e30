"""The shape of a network, as plain data: all that is needed to build one before any weight is known."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Controller = Literal["shared", "per_class"]
"""How words become parameters: one controller for all (ICCV 2023) or one for each (MedIA 2024)."""


@dataclass(frozen=True, kw_only=True)
class HeadConfig:
    """Shape of a head."""

    classes: tuple[str, ...]
    """Names of the words, in the order of the text vectors."""
    embedding_size: int
    """Length of a text vector."""
    controller: Controller = "shared"
    """Checkpoints from before there was a choice have no such field and are shared."""


@dataclass(frozen=True, kw_only=True)
class ExtensionConfig(HeadConfig):
    """Shape of an `Extension`."""

    adapter: Mapping[str, Any] | None = None
    """Arguments of `Adapter`, without its channels; None for no adapter."""


@dataclass(frozen=True, kw_only=True)
class NetworkConfig(HeadConfig):
    """All that is needed to build a network of the right shape, before any weight is known.

    `classes`, `embedding_size` and `controller` are those of its first head.
    """

    backbone: str
    """One of `BACKBONES`."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Arguments of the backbone's constructor."""
    leak: float = 0.0
    """Slope below zero inside the class networks; 0, the original's ReLU, where a checkpoint says nothing."""
    extensions: tuple[ExtensionConfig, ...] = ()
    """What was added later, in that order."""

    @property
    def all_classes(self) -> tuple[str, ...]:
        """Names of the words of all heads."""
        return tuple(name for head in (self, *self.extensions) for name in head.classes)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for a checkpoint's metadata. A network that was never extended says nothing of it, as ever."""
        found = {**asdict(self), "classes": list(self.classes), "options": dict(self.options)}
        found["extensions"] = [{**asdict(each), "classes": list(each.classes)} for each in self.extensions]
        if not self.extensions:
            del found["extensions"]
        return found

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> NetworkConfig:
        """Read back what `to_dict` wrote.

        Raises:
            AttributeError, KeyError, TypeError: A field is missing, unknown or of another type.
        """
        extensions = tuple(
            ExtensionConfig(**{**each, "classes": tuple(each["classes"])}) for each in values.get("extensions", ())
        )
        return cls(**{**values, "classes": tuple(values["classes"]), "extensions": extensions})
