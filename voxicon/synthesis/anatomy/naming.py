"""What datasets call a structure, and what this package calls it."""

from __future__ import annotations

from functools import cache

from voxicon.core.concepts import Vocabulary
from voxicon.errors import UnknownClass


@cache
def standard_name(name: str) -> str:
    """The vocabulary's name for a structure that a dataset calls otherwise (``postcava``); unknown ones stay."""
    try:
        return Vocabulary.default().resolve(name).name
    except UnknownClass:
        return name
