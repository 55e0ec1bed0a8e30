"""How bright structures are in CT: `tissues.yaml` by name."""

from __future__ import annotations

from functools import cache
from importlib import resources
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field

from voxicon.core.concepts import Vocabulary
from voxicon.errors import UnknownClass

Phase = Literal["plain", "arterial", "venous"]

PHASES: tuple[Phase, ...] = ("plain", "arterial", "venous")
"""In the order of time after the injection."""

_FALLBACK = "soft_tissue"


class Tissue(BaseModel):
    """One line of the table. Pairs are a mean and a standard deviation in HU unless they say otherwise."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    plain: tuple[float, float]
    arterial: tuple[float, float]
    venous: tuple[float, float]
    texture: tuple[float, float] = (0.0, 10.0)
    """Amplitude in HU and correlation length in mm inside one patient."""
    group: str
    """Structures of one group are bright in the same patients."""
    pattern: str = "solid"
    cortex: tuple[float, float] = Field((0.0, 0.0))
    """Shell of a bone."""


@cache
def tissue_table() -> dict[str, Tissue]:
    """Key of ``tissues.yaml`` → its line, with what the file leaves out filled in."""
    text = resources.files(__package__).joinpath("tissues.yaml").read_text(encoding="utf8")
    table = {}
    for key, entry in yaml.safe_load(text).items():
        line: dict[str, Any] = {"group": key, **entry}
        line.setdefault("arterial", line["plain"])
        line.setdefault("venous", line["arterial"])
        table[key] = Tissue(**line)
    return table


@cache
def find_tissue(name: str) -> Tissue:
    """The line that fits a structure best.

    Args:
        name: Of a structure: a key, a longer name that starts with one (``rib_left_5``), or a word of the vocabulary
            for one (``postcava``).

    Returns:
        The line of the longest key that fits; soft tissue where none does.
    """
    word = name.strip().casefold().replace(" ", "_")
    found = _longest_key(word)
    if found is None:
        found = _longest_key(_canonical(name))
    return tissue_table()[found or _FALLBACK]


def _longest_key(name: str) -> str | None:
    fits = [key for key in tissue_table() if name == key or name.startswith(f"{key}_")]
    return max(fits, key=len, default=None)


def _canonical(name: str) -> str:
    try:
        return Vocabulary.default().resolve(name).name
    except UnknownClass:
        return ""
