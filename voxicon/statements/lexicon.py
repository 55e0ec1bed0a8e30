"""Which phrases mean what: those of ``words.yaml`` beside this file, and the organs of a vocabulary."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache, lru_cache
from importlib import resources
from typing import Any

import yaml

from voxicon.core.concepts import Vocabulary

Key = tuple[str, ...]

_WORD = re.compile(r"\d+(?:[.,]\d+)?|n't\b|[^\W\d_]+(?:\d+[^\W\d_]*)?|[^\s\w]|_")
_LISTS = {
    "pseudo": "pseudo_negations", "negation after": "negations_after", "negation": "negations",
    "uncertain": "uncertain", "sample": "samples", "near": "near", "origin": "origin", "history": "history",
    "suspicious": "suspicious", "equals": "equals", "otherwise": "otherwise", "remaining": "remaining",
    "exception": "exceptions", "normal": "normal", "removed": "removed_after",
    "part of removal": "parts_of_removals", "stop": "stop", "break": "breaks", "many": "many",
    "qualifier": "qualifiers", "before": "before", "not counted": "not_counts",
}  # fmt: skip
"""Kinds of phrase that need no value, and their lists; a phrase of two lists is of the kind named first."""


@dataclass(frozen=True)
class Place:
    """An organ as words name it, or a pair of organs.

    Attributes:
        classes: All that the bare word names; none for anatomy that no class stands for.
        left: Of these, the left ones; none where the organ has no side.
        right: The same of the right.
        adjective: Said of either side alike ("renal"), unlike the noun in the singular ("the kidney").
        part: Only a part of the organ is meant ("cecum").
    """

    classes: tuple[str, ...]
    left: tuple[str, ...] = ()
    right: tuple[str, ...] = ()
    adjective: bool = False
    part: bool = False


@dataclass(frozen=True)
class Lesion:
    """A lesion word: its group in ``words.yaml``, where it lies if it says so, and its class if it names one."""

    group: str
    place: Place | None = None
    classes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Token:
    """A phrase of a sentence.

    Attributes:
        kind: Its part in the grammar; ``unknown`` where no phrase fits.
        value: What it means.
        text: As written, in small letters.
        stem: Its last word without plural.
    """

    kind: str
    value: Any = None
    text: str = ""
    stem: str = ""


@cache
def grammar() -> dict[str, Any]:
    """The content of ``words.yaml``."""
    content: dict[str, Any] = yaml.safe_load(
        resources.files(__package__).joinpath("words.yaml").read_text(encoding="utf8")
    )
    return content


def words_of(text: str) -> list[str]:
    """Words, numbers and signs of a text in small letters."""
    plain = re.sub(r"[‘’]", "'", text.lower()).replace("×", "x")
    plain = re.sub(r"\b(do|does|did|is|are|was|were|has|have|could|would)n't\b", r"\1 not", plain)
    # "non-enhancing" and "left-sided" are two words each; "3-cm" is a number and a unit.
    plain = re.sub(r"(?<=[a-z\d])-(?=[a-z])|_", " ", plain)
    return _WORD.findall(re.sub(r"(?<=[a-z])'s?\b", "", plain.replace("can't", "cannot")))


@lru_cache(maxsize=4096)
def stem(word: str) -> str:
    """A word without plural and in American spelling."""
    spelling = grammar()["spelling"]
    word = spelling.get(word, word)
    if len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is")):
        word = word[:-3] + "y" if word.endswith("ies") else re.sub(r"(?<=ss|ch|sh)es$|(?<=x)es$|s$", "", word, count=1)
    return str(spelling.get(word, word))


def key_of(phrase: str) -> Key:
    """What a phrase is looked up by."""
    return tuple(stem(word) for word in words_of(phrase))


class Lexicon:
    """All phrases that a report on the organs of a vocabulary is read by."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.vocabulary = vocabulary
        self.phrases: dict[Key, Token] = {}
        words = grammar()
        self._places = dict(_places(vocabulary))
        named = {
            **words["adjectives"],
            **words["parts_of_organs"],
            **{organ: organ for organ in map(" ".join, self._places)},
        }
        for kind, value, phrase in _grammar_phrases():
            self.phrases.setdefault(key_of(phrase), Token(kind, value))
        for phrase, organ in words["places_of_tumors"].items():
            self.phrases[key_of(phrase)] = Token("lesion", Lexicon._tumor_in(self._places.get(key_of(organ))))
        for phrase, organ in named.items():
            place = self._places.get(key_of(organ))
            if place is not None:
                told = {"adjective": phrase in words["adjectives"], "part": phrase in words["parts_of_organs"]}
                self.phrases[key_of(phrase)] = Token("place", Place(place.classes, place.left, place.right, **told))
        for phrase, organ in words["removals"].items():
            self.phrases[key_of(phrase)] = Token("removal", self._places.get(key_of(organ)))
        for key, classes in _named_lesions(vocabulary):
            if not self._is_made_of_known_words(key):
                self.phrases[key] = Token("lesion", Lesion("tumor", classes=classes))
        self.longest = max(map(len, self.phrases))

    @staticmethod
    def _tumor_in(place: Place | None) -> Lesion:
        return Lesion("named tumor", place)

    def _is_made_of_known_words(self, key: Key) -> bool:
        """Whether organ, side and lesion words explain it already, as in "left renal cyst"."""
        return all((word,) in self.phrases for word in key) and any(
            self.phrases[(word,)].kind == "place" for word in key
        )

    def tokens(self, text: str) -> list[Token]:
        """The phrases of a text, the longest first at every word."""
        words = words_of(text)
        stems = [stem(word) for word in words]
        found: list[Token] = []
        at = 0
        while at < len(words):
            size = _size(words, stems, at)
            if size is not None:
                token, length = size
            else:
                token, length = self._phrase(words, stems, at)
            found.append(token)
            at += length
        return found

    def _phrase(self, words: list[str], stems: list[str], at: int) -> tuple[Token, int]:
        for length in range(min(self.longest, len(stems) - at), 0, -1):
            known = self.phrases.get(tuple(stems[at : at + length]))
            if known is not None:
                text = " ".join(words[at : at + length])
                return Token(known.kind, known.value, text, stems[at + length - 1]), length
        word = words[at]
        kind = "number" if word.isdecimal() else "unknown"
        return Token(kind, int(word) if kind == "number" else None, word, stems[at]), 1

    def lesion_classes(self, finding: str, organs: tuple[str, ...]) -> tuple[str, ...]:
        """Lesion classes that lie in the organs and can be the finding; of "lesion", all that lie there."""
        around = {*organs, *(parent for organ in organs for parent in self.vocabulary[organ].parents)}
        patterns = ["*"] if finding == "lesion" else grammar()["classes"].get(finding, [])
        return tuple(
            concept.name
            for concept in self.vocabulary
            if concept.kind == "lesion"
            and around.intersection(concept.parents)
            and any(fnmatchcase(concept.name, pattern) for pattern in patterns)
        )


def _size(words: list[str], stems: list[str], at: int) -> tuple[Token, int] | None:
    """A size such as "2.3 x 1.8 cm" or "3-4 mm", in mm, the largest number of it; None where there is none."""
    numbers: list[float] = []
    factor: float | None = None
    end = at
    while end < len(words) and re.fullmatch(r"\d+(?:[.,]\d+)?", words[end]):
        numbers.append(float(words[end].replace(",", ".")))
        end += 1
        unit = grammar()["units"].get(stems[end]) if end < len(words) else None
        if unit is not None:
            factor = float(unit)
            end += 1
        if end + 1 >= len(words) or words[end] not in ("x", "-", "–", "by", "to"):
            break
        end += 1
    if factor is None:
        return None
    if end < len(words) and words[end - 1] in ("x", "-", "–", "by", "to"):
        end -= 1
    return Token("size", max(numbers) * factor, " ".join(words[at:end]), "size"), end - at


def _places(vocabulary: Vocabulary) -> Iterator[tuple[Key, Place]]:
    """Every word for an organ or vessel; those of paired ones also without their side."""
    exact: dict[Key, str] = {}
    sided: dict[Key, dict[str, str]] = {}
    for concept in (c for c in vocabulary if c.kind != "lesion"):
        for phrase in (concept.display_name, concept.name, *concept.aliases):
            key = key_of(phrase)
            bare = tuple(word for word in key if word not in (concept.side, (concept.side or " ")[0]))
            if concept.side and bare and bare != key:
                sided.setdefault(bare, {})[concept.side] = concept.name
            else:
                exact.setdefault(key, concept.name)
    for key, pair in sided.items():
        left, right = ((pair[side],) if side in pair else () for side in ("left", "right"))
        yield key, Place((*right, *left), left, right)
    for key, name in exact.items():
        side = vocabulary[name].side
        yield key, Place((name,), (name,) if side == "left" else (), (name,) if side == "right" else ())


def _named_lesions(vocabulary: Vocabulary) -> Iterator[tuple[Key, tuple[str, ...]]]:
    for concept in vocabulary:
        if concept.kind == "lesion":
            for phrase in (concept.display_name, *concept.aliases):
                yield key_of(phrase), (concept.name,)


def _grammar_phrases() -> Iterator[tuple[str, Any, str]]:
    words = grammar()
    yield from (("negation", "otherwise", phrase) for phrase in words["otherwise_negations"])
    for kind, name in _LISTS.items():
        yield from ((kind, None, phrase) for phrase in words[name])
    for attribute in words["normal_attributes"]:
        yield from (("partly normal", None, f"{start} {attribute}") for start in ("normal in", "normal", "normal for"))
    yield from (("normal", organs, phrase) for phrase, organs in words["normal_of"].items())
    for group, phrases in words["findings"].items():
        yield from (("lesion", Lesion(group), phrase) for phrase in phrases)
    for side, phrases in words["sides"].items():
        yield from (("side", side, phrase) for phrase in phrases)
    for family in words["families"].values():
        yield from (("family", tuple(family["organs"]), phrase) for phrase in family["words"])
    yield from (("count", number, word) for word, number in words["numbers"].items())
    yield from (("elsewhere", None, phrase) for phrase in words["elsewhere"])
    yield from (("part", None, phrase) for phrase in words["parts"])
    yield from (("verb", None, phrase) for phrase in words["verbs"])
    yield from (("neutral", None, phrase) for phrase in words["neutral"])
