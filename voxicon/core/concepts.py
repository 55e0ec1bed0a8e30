"""The words: what each class is called, where it lies, how it is coded and cleaned up.

Everything is read from ``vocabulary.yaml`` beside this file; no other file lists anatomy.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any, Literal

import yaml

from voxicon.errors import UnknownClass

Kind = Literal["organ", "vessel", "lesion"]
Side = Literal["left", "right"]

HIGHEST_ID = 65535
"""Largest id that a label map of two bytes a voxel can hold."""

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
"""Canonical names become names of files."""

_CLOSE_ENOUGH = 0.6
"""Similarity above which a known word is offered as a suggestion (difflib ratio)."""


@dataclass(frozen=True)
class Cleanup:
    """How a predicted mask of one class is cleaned up: a rule and the classes it refers to."""

    rule: str
    of: tuple[str, ...] = ()


@dataclass(frozen=True)
class Concept:
    """One class: a thing in the body that has a name and can have a mask."""

    id: int
    name: str
    kind: Kind
    snomed: tuple[str, str]
    """SNOMED CT code and meaning of the segmented property type."""
    color: tuple[int, int, int]
    cleanup: Cleanup
    original: str = ""
    """Wording of the original model's prompt, misspellings included; empty for classes it does not know."""
    display: str = ""
    """Name for people, where `name` alone does not read well."""
    side: Side | None = None
    parents: tuple[str, ...] = ()
    """What it lies in or is a part of: the organs of a lesion or vessel, the lung of a lobe."""
    aliases: tuple[str, ...] = ()
    region: tuple[str, str] | None = None
    """SNOMED CT code and meaning of the anatomic region, where the type does not say it."""

    @property
    def display_name(self) -> str:
        """For people: ``kidney_left`` reads "left kidney"."""
        if self.display:
            return self.display
        words = self.name.split("_")
        if self.side:
            words = [self.side, *[w for w in words if w != self.side]]
        return " ".join(words)

    @classmethod
    def from_dict(cls, entry: dict[str, Any]) -> Concept:
        """Build from one entry of the vocabulary file."""
        values = dict(entry)
        cleanup = values.pop("cleanup")
        for key in ("snomed", "color", "parents", "aliases", "region"):
            if values.get(key) is not None:
                values[key] = tuple(values[key])
        return cls(cleanup=Cleanup(cleanup["rule"], tuple(cleanup.get("of", ()))), **values)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "id": self.id,
            "name": self.name,
            "display_name": self.display_name,
            "kind": self.kind,
            "side": self.side,
            "parents": list(self.parents),
            "aliases": list(self.aliases),
            "snomed": list(self.snomed),
            "region": list(self.region) if self.region else None,
            "color": list(self.color),
            "cleanup": {"rule": self.cleanup.rule, "of": list(self.cleanup.of)},
        }


class Vocabulary:
    """All known concepts, found by name, alias or id.

    Args:
        concepts: Concepts with different ids, names and aliases. Classes that they refer to may be missing.

    Raises:
        UnknownClass: Two concepts share an id or a word, a word is a number, a name cannot name a file, or an id does
            not fit a label map.
    """

    def __init__(self, concepts: Iterable[Concept]) -> None:
        self.concepts = tuple(concepts)
        self._by_name = {concept.name: concept for concept in self.concepts}
        self._by_id: dict[int, Concept] = {}
        self._by_word: dict[str, Concept] = {}
        for concept in self.concepts:
            self._add(concept)

    def _add(self, concept: Concept) -> None:
        if not _NAME.fullmatch(concept.name):
            raise UnknownClass(
                f"vocabulary: {concept.name!r} cannot name a file; expected letters, digits and _, such as kidney_left"
            )
        if not 1 <= concept.id <= HIGHEST_ID:
            raise UnknownClass(f"vocabulary: {concept.name} has id {concept.id}; expected 1 to {HIGHEST_ID}")
        known = self._by_id.setdefault(concept.id, concept)
        if known is not concept:
            raise UnknownClass(f"vocabulary: {known.name} and {concept.name} both have id {concept.id}; change one")
        for word in (concept.name, concept.display_name, concept.original or concept.name, *concept.aliases):
            text = _normal(word)
            if not text or text.isdecimal():
                raise UnknownClass(f"vocabulary: {concept.name} is also called {word!r}; expected words, not an id")
            known = self._by_word.setdefault(text, concept)
            if known is not concept:
                raise UnknownClass(f"vocabulary: {word!r} names both {known.name} and {concept.name}; one must go")

    @classmethod
    def default(cls) -> Vocabulary:
        """The vocabulary that ships with the package: ids 1-32 as in the original model, more from 33 on."""
        return _default()

    def extended(self, concepts: Iterable[Concept]) -> Vocabulary:
        """A new vocabulary with more concepts after those of this one, which stays as it is.

        The package never gives out ids from 1000 on, so that a user's class keeps its number when the package grows.

        Raises:
            UnknownClass: As for a vocabulary, or a new concept refers to a class that neither the old nor the new
                ones are.
        """
        new = tuple(concepts)
        larger = Vocabulary((*self.concepts, *new))
        for concept in new:
            missing = [name for name in (*concept.parents, *concept.cleanup.of) if name not in larger]
            if missing:
                raise UnknownClass(
                    f"vocabulary: {concept.name} refers to {', '.join(missing)}, which is no class; "
                    "expected canonical names: correct parents or cleanup"
                )
        return larger

    def __iter__(self) -> Iterator[Concept]:
        return iter(self.concepts)

    def __len__(self) -> int:
        return len(self.concepts)

    def __contains__(self, name: object) -> bool:
        return name in self._by_name

    @property
    def names(self) -> tuple[str, ...]:
        """Canonical names in id order."""
        return tuple(concept.name for concept in self.concepts)

    def __getitem__(self, name: str) -> Concept:
        """The concept of a canonical name.

        Raises:
            UnknownClass: Not a canonical name.
        """
        try:
            return self._by_name[name]
        except KeyError:
            raise UnknownClass(self._refusal(name)) from None

    def resolve(self, word: str) -> Concept:
        """The concept that a name, alias, original wording or id means, in any case and spacing.

        Raises:
            UnknownClass: Nothing fits; the message names the nearest words.
        """
        text = _normal(word)
        found = self._by_id.get(int(text)) if text.isdecimal() else self._by_word.get(text)
        if found is None:
            raise UnknownClass(self._refusal(word))
        return found

    def suggest(self, word: str, limit: int = 3) -> tuple[str, ...]:
        """Canonical names that look or sound like a word, nearest first; empty when none is near."""
        text = _normal(word)
        near = difflib.get_close_matches(text, self._by_word, n=3 * limit, cutoff=_CLOSE_ENOUGH)
        # A single word such as "kidney" names a family: both sides and the lesions inside.
        family = [w for w in self._by_word if text and text in w.split()]
        names = dict.fromkeys(self._by_word[w].name for w in (*near, *family))
        return tuple(names)[:limit]

    def _refusal(self, word: str) -> str:
        near = self.suggest(word)
        hint = f"did you mean {', '.join(near)}?" if near else "'voxicon classes' lists all of them"
        return f"unknown class {word!r}; {hint}"


def _normal(word: str) -> str:
    return re.sub(r"[\s_\-/]+", " ", word).strip().casefold()


@cache
def _default() -> Vocabulary:
    text = resources.files(__package__).joinpath("vocabulary.yaml").read_text(encoding="utf8")
    return Vocabulary(Concept.from_dict(entry) for entry in yaml.safe_load(text)["concepts"])
