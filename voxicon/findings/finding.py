"""What every finding can do: become plain data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

Point = tuple[float, float, float]
"""RAS mm."""


class Finding:
    """A dataclass of numbers and words; units are in the names of its fields."""

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON: lists, numbers, strings and None, under the names of the fields."""
        data: dict[str, Any] = _plain(self)
        return data


def _plain(value: Any) -> Any:
    if is_dataclass(value):
        return {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, tuple) else value
