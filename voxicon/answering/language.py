"""The sentences of a report in one language, from ``languages/<code>.yaml``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from importlib import resources
from typing import Any

import yaml

from voxicon.core.concepts import Vocabulary
from voxicon.errors import UsageError

NOTHING = "–"


class Language:
    """How things are said.

    Args:
        code: Such as ``en``.
        entries: Content of its file.
        vocabulary: Names of classes, where the file has none.
    """

    def __init__(self, code: str, entries: Mapping[str, Any], vocabulary: Vocabulary) -> None:
        self.code, self.entries, self.vocabulary = code, entries, vocabulary

    def say(self, key: str, count: int | None = None, /, **values: object) -> str:
        """The sentence of a key such as ``answers.none``.

        Args:
            key: Section and name.
            count: Chooses between ``one`` and ``many`` where the entry has both, and fills ``{n}``.
            values: Fill the fields.
        """
        entry = self._entry(key)
        if isinstance(entry, Mapping):
            entry = entry["one" if count == 1 else "many"]
        return str(entry).format(**{"n": count, **values})

    def lines(self, key: str) -> list[str]:
        """The sentences of a key that holds several."""
        return [str(line) for line in self._entry(key)]

    def _entry(self, key: str) -> Any:
        entry: Any = self.entries
        for part in key.split("."):
            entry = entry[part]
        return entry

    def name(self, name: str) -> str:
        """A class for people."""
        own = self.entries["classes"].get(name)
        return str(own) if own else self.vocabulary[name].display_name

    def names(self, names: Sequence[str]) -> str:
        """Several classes, in one list."""
        return self.listed([self.name(name) for name in names])

    def listed(self, items: Sequence[str]) -> str:
        """Several words in one list; a dash for none."""
        if not items:
            return NOTHING
        if len(items) == 1:
            return items[0]
        return self.say("list_and", first=", ".join(items[:-1]), last=items[-1])

    def number(self, value: float | None, digits: int = 0, *, signed: bool = False) -> str:
        """A number with that many decimals, where wanted with a plus too; a dash for None. A 0 has no sign."""
        if value is None:
            return NOTHING
        text = f"{value:{'+' if signed else ''},.{digits}f}"
        text = text if float(text.replace(",", "")) else text.lstrip("+-")
        signs = {",": self.entries["thousands"], ".": self.entries["decimal"]}
        return "".join(signs.get(sign, sign) for sign in text)

    def amount(self, volume_ml: float) -> str:
        """Milliliters with as many decimals as they deserve."""
        return self.number(volume_ml, 0 if volume_ml >= 100 else 1 if volume_ml >= 1 else 3)


def sentence(text: str) -> str:
    """The same with a capital at the beginning."""
    return text[:1].upper() + text[1:]


def language(code: str, vocabulary: Vocabulary | None = None) -> Language:
    """One of `languages`.

    Raises:
        UsageError: There is no such language here.
    """
    if code not in languages():
        raise UsageError(f"report language {code!r}: not there; expected one of: {', '.join(languages())}")
    return Language(code, _entries(code), vocabulary or Vocabulary.default())


@cache
def languages() -> tuple[str, ...]:
    """Codes of all languages that there are files of."""
    names = (entry.name for entry in _folder().iterdir())
    return tuple(sorted(name.removesuffix(".yaml") for name in names if name.endswith(".yaml")))


@cache
def _entries(code: str) -> Mapping[str, Any]:
    entries: dict[str, Any] = yaml.safe_load(_folder().joinpath(f"{code}.yaml").read_text(encoding="utf8"))
    return entries


def _folder() -> Any:
    return resources.files(__package__).joinpath("languages")
