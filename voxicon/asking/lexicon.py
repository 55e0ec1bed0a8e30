"""Which words mean what: those of ``words.yaml`` beside this file, and those of a vocabulary."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache
from importlib import resources
from typing import Any

import yaml

from voxicon.core.concepts import Concept, Vocabulary

ARTICLES = ("the", "a", "an")
_WORD = re.compile(
    r"\d+(?:\.\d+)?(?![a-z\d.])|\d+(?:\.\d+)?(?=\.(?:\s|$)|(?:mm|cm|ml|cc)\b|cm3\b)|[a-z\d]+|[<>]=?|[^\s]"
)
_LISTS = ("and", "join", "then", "except", "negated", "if_any", "distance", "in", "of", "near", "touching", "pronoun")
_COMPARISONS = ("larger", "smaller", "at_least", "at_most")


@dataclass(frozen=True)
class Noun:
    """What a word of anatomy names, with and without a side."""

    said: str
    classes: tuple[str, ...]
    left: tuple[str, ...] = ()
    right: tuple[str, ...] = ()

    def on(self, side: str) -> tuple[str, ...]:
        """The classes of one side; of "" and "both", all of them. Empty when that side has none."""
        return {"left": self.left, "right": self.right}.get(side, self.classes)


@dataclass(frozen=True)
class Token:
    """A phrase that is understood: its part in the grammar, its meaning, and as it was written."""

    kind: str
    value: Any = None
    text: str = ""


def words_of(text: str) -> tuple[str, ...]:
    """Words, numbers and signs of a text in small letters; a possessive 's is left out."""
    plain = re.sub(r"[‘’]", "'", text.casefold())
    plain = plain.replace("≥", ">=").replace("≤", "<=").replace("³", "3")
    plain = re.sub(r"\bwhat's\b", "what is", plain).replace("don't", "don t")
    plain = re.sub(r"'s?(?![a-z])", " ", plain)
    return tuple(_WORD.findall(re.sub(r"(?<=[a-z])[-_/](?=[a-z])|(?<=[a-z])_(?=\d)", " ", plain)))


def stem(word: str) -> str:
    """A word without plural and in American spelling, so that all its forms are one key."""
    spelling = grammar()["spelling"]
    word = spelling.get(word, word)
    if len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is")):
        word = re.sub(r"(?<=[a-z])ies$", "y", word)
        word = re.sub(r"(?<=ss|ch|sh)es$|(?<=x)es$|s$", "", word, count=1) if word.endswith("s") else word
    return str(spelling.get(word, word))


def key_of(phrase: str) -> tuple[str, ...]:
    """What a phrase is looked up by: stems without articles."""
    return tuple(stem(word) for word in words_of(phrase) if word not in ARTICLES)


@cache
def grammar() -> dict[str, Any]:
    """The content of ``words.yaml``."""
    text = resources.files(__package__).joinpath("words.yaml").read_text(encoding="utf8")
    content: dict[str, Any] = yaml.safe_load(text)
    return content


class Lexicon:
    """All phrases that requests about a vocabulary can be made of."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.vocabulary = vocabulary
        self.phrases: dict[tuple[str, ...], Token] = {}
        self.nouns: dict[tuple[str, ...], Noun] = {}
        # Anatomy comes first: a class keeps its words whatever the grammar would read in them.
        for noun_key, noun in _nouns(vocabulary):
            self.nouns.setdefault(noun_key, noun)
        for words, noun in _families(vocabulary):
            self.nouns.setdefault(words, noun)
        self.phrases.update({key: Token("noun", noun) for key, noun in self.nouns.items()})
        for kind, value, phrase in _grammar_phrases():
            self.phrases.setdefault(key_of(phrase), Token(kind, value))
        for adjective, organ in grammar()["adjectives"].items():
            named = self.nouns.get(key_of(organ))
            if named is not None:
                self.phrases.setdefault(key_of(adjective), Token("adjective", named))
        self.longest = max(map(len, self.phrases))
        nouns = [*self.nouns.values()]
        self.written = {stem(word): word for noun in nouns for word in words_of(noun.said)}
        self.known_words = frozenset(word for key in self.phrases for word in key)
        self.correctable = frozenset(
            word
            for key, token in self.phrases.items()
            if token.kind in ("noun", "adjective", "action", "quantity")
            for word in key
            if len(word) >= 6
        )

    def with_parts(self, names: Iterable[str]) -> frozenset[str]:
        """Classes and the organs that are parts of them: the ribs of bone, the lobes of a lung."""
        found = set(names)
        patterns = [pattern for name in found for pattern in grammar()["wholes"].get(name, [])]
        for concept in self.vocabulary:
            inside = concept.kind == "organ" and found.intersection(concept.parents)
            if inside or any(fnmatchcase(concept.name, pattern) for pattern in patterns):
                found.add(concept.name)
        return frozenset(found)

    def family_of(self, name: str) -> Noun | None:
        """The family of lesions, such as tumors, that a class belongs to; None for what is no lesion."""
        if self.vocabulary[name].kind == "lesion":
            for family in ("tumors", "cysts", "lesions"):
                noun = self.nouns.get(key_of(family))
                if noun is not None and name in noun.classes:
                    return noun
        return None


def bare_name(concept: Concept) -> str:
    """The canonical name without its side: ``kidney`` of ``kidney_left``."""
    return "_".join(part for part in concept.name.split("_") if part != concept.side)


def _nouns(vocabulary: Vocabulary) -> Iterator[tuple[tuple[str, ...], Noun]]:
    exact: dict[tuple[str, ...], Concept] = {}
    sided: dict[tuple[str, ...], list[Concept]] = {}
    said: dict[tuple[str, ...], str] = {}
    for concept in vocabulary:
        for phrase in (concept.display_name, concept.name, concept.original or concept.name, *concept.aliases):
            key = key_of(phrase)
            side = concept.side
            if side and (key[0] in (side, side[0]) or key[-1] == side or phrase == concept.name):
                key = tuple(word for word in key if word not in (side, side[0]))
                if concept not in sided.setdefault(key, []):
                    sided[key].append(concept)
                said.setdefault(key, " ".join(w for w in concept.display_name.split() if w != side))
            else:
                exact.setdefault(key, concept)
    for key in {**exact, **sided}:
        whole, sides = exact.get(key), sided.get(key, [])
        left, right = ([c.name for c in sides if c.side == side] for side in ("left", "right"))
        classes = [whole.name] if whole else [*left, *right]
        # One of a pair alone still answers to its bare name; display names keep their side.
        name = whole.display_name if whole else said[key] if len(classes) > 1 else sides[0].display_name
        if whole and whole.side:
            left, right = ([whole.name] if whole.side == side else [] for side in ("left", "right"))
        yield key, Noun(name, tuple(classes), tuple(left), tuple(right))


def _families(vocabulary: Vocabulary) -> Iterator[tuple[tuple[str, ...], Noun]]:
    for said, family in grammar()["families"].items():
        members = [
            concept
            for concept in vocabulary
            if concept.kind == family.get("kind")
            or any(fnmatchcase(concept.name, p) for p in family.get("classes", []))
        ]
        wholes = {concept.name for concept in members if not concept.side}
        # A lesion that is listed with and without its side would be counted twice.
        whole = [c for c in members if c.kind != "lesion" or not c.side or bare_name(c) not in wholes]
        left, right = (tuple(c.name for c in members if c.side == side) for side in ("left", "right"))
        if members:
            noun = Noun(said, tuple(c.name for c in whole), left, right)
            for phrase in (said, *family["words"]):
                yield key_of(phrase), noun


def _grammar_phrases() -> Iterator[tuple[str, Any, str]]:
    words = grammar()
    for kind in _LISTS:
        yield from ((kind, None, phrase) for phrase in words[kind])
    for kind, table in (("action", "actions"), ("quantity", "quantities"), ("side", "sides")):
        yield from ((kind, value, phrase) for value, phrases in words[table].items() for phrase in phrases)
    for comparison in _COMPARISONS:
        yield from (("comparison", comparison, phrase) for phrase in words[comparison])
    for comparison in ("at_least", "at_most"):
        yield from (("comparison after", comparison, phrase) for phrase in words[f"{comparison}_after"])
    for rank in ("largest", "smallest"):
        yield from (("rank", rank, phrase) for phrase in words[rank])
    for unit, names in words["units"].items():
        yield from (("unit", (unit, factor), name) for name, factor in names.items())
    yield from (("number", float(value), word) for word, value in words["numbers"].items())
    for part in _distinct(part for parts in words["parts"].values() for part in parts):
        yield "part", part, part
    yield from (("ignorable", None, phrase) for line in words["ignorable"] for phrase in line)
    yield from (("unknown", near, phrase) for phrase, near in words["unknown"].items())


def _distinct(items: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(items))
