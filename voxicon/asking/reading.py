"""From text to tokens: the longest known phrase first; what is unknown is refused with the nearest words."""

from __future__ import annotations

import difflib
from dataclasses import dataclass

from voxicon.asking.lexicon import ARTICLES, Lexicon, Token, stem, words_of
from voxicon.errors import UnknownClass, UsageError

_SIGNS = {",": "comma", ":": "colon", ".": "stop", ";": "stop", "!": "stop", "?": "stop", "&": "and", "+": "and"}
_QUOTES = "\"'()“”`*"


@dataclass(frozen=True)
class Reading:
    """The tokens of a text, and what was left out or corrected on the way."""

    tokens: tuple[Token, ...]
    ignored: tuple[str, ...]
    corrected: tuple[tuple[str, str], ...]


def read(text: str, lexicon: Lexicon) -> Reading:
    """Split a request into tokens.

    Raises:
        UnknownClass: A word is not known; the message lists the nearest known ones.
        UsageError: There is no word at all.
    """
    words = [word for word in words_of(text) if word not in ARTICLES and word not in _QUOTES]
    if not any(word.isalnum() for word in words):
        raise UsageError("request: found no word; expected something to do, such as 'segment the liver'")
    tokens: list[Token] = []
    ignored: list[str] = []
    corrected: list[tuple[str, str]] = []
    at = 0
    stems = [_known(word, lexicon, corrected) for word in words]
    while at < len(words):
        if inner := _side_inside(stems, words, at, lexicon):
            side, token, length = inner
            tokens.append(side)
        else:
            token, length = _longest(stems, words, at, lexicon)
        if token.kind == "unknown":
            raise UnknownClass(
                f"unknown class {token.text!r}; no class stands for it; nearest known words: {', '.join(token.value)}"
            )
        if token.kind == "ignorable":
            ignored.append(token.text)
        elif token.kind != "colon":
            tokens.append(token)
        at += length
    return Reading(tuple(tokens), tuple(ignored), tuple(corrected))


def _longest(stems: list[str], words: list[str], at: int, lexicon: Lexicon) -> tuple[Token, int]:
    for length in range(min(lexicon.longest, len(stems) - at), 0, -1):
        found = lexicon.phrases.get(tuple(stems[at : at + length]))
        if found is not None:
            return Token(found.kind, found.value, " ".join(words[at : at + length])), length
    word = words[at]
    if word in _SIGNS:
        return Token(_SIGNS[word], None, word), 1
    if word.replace(".", "", 1).isdecimal():
        return Token("number", float(word), word), 1
    raise UnknownClass(_refusal(stems, words, at, lexicon))


def _side_inside(stems: list[str], words: list[str], at: int, lexicon: Lexicon) -> tuple[Token, Token, int] | None:
    """The side and the noun of "third left rib", where the side divides words that belong together."""
    for length in range(min(lexicon.longest, len(stems) - at), 2, -1):
        if tuple(stems[at : at + length]) in lexicon.phrases:
            return None
        for inner in range(at + 1, at + length - 1):
            side = lexicon.phrases.get((stems[inner],))
            noun = lexicon.phrases.get((*stems[at:inner], *stems[inner + 1 : at + length]))
            if side and side.kind == "side" and noun and noun.kind == "noun":
                text = " ".join(words[at : at + length])
                return Token("side", side.value, words[inner]), Token("noun", noun.value, text), length
    return None


def _known(word: str, lexicon: Lexicon, corrected: list[tuple[str, str]]) -> str:
    """The stem of a word; of a word misspelled by one letter, the one known word it can be."""
    key = stem(word)
    if key in lexicon.known_words or len(key) < 5 or not key.isalpha():
        return key
    near = [known for known in lexicon.correctable if known[0] == key[0] and _one_edit(key, known)]
    if len(near) != 1:
        return key
    corrected.append((word, lexicon.written.get(near[0], near[0])))
    return near[0]


def _one_edit(one: str, other: str) -> bool:
    """Whether one letter missing, added, changed or swapped with its neighbor makes one word of the other."""
    if abs(len(one) - len(other)) > 1:
        return False
    start = next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
    a, b = one[start:], other[start:]
    swapped = len(a) > 1 and len(b) > 1 and a[:2] == b[1::-1] and a[2:] == b[2:]
    return a[1:] == b[1:] or a[1:] == b or a == b[1:] or swapped


def _refusal(stems: list[str], words: list[str], at: int, lexicon: Lexicon) -> str:
    # Words that follow without being understood either belong to the same name.
    end = at + 1
    while end < len(words) and words[end].isalpha() and stems[end] not in lexicon.known_words:
        end += 1
    said = " ".join(words[at:end])
    # Little words of grammar look like anything; what a misspelled word was meant to be says more.
    said_kinds = ("noun", "adjective", "action", "quantity")
    written = {" ".join(key): token for key, token in lexicon.phrases.items() if token.kind in said_kinds}
    near = difflib.get_close_matches(" ".join(stems[at:end]), written, n=5, cutoff=0.6)
    names = [written[phrase].value.said if written[phrase].kind == "noun" else phrase for phrase in near]
    names = list(dict.fromkeys([*names, *lexicon.vocabulary.suggest(said)]))[:4]
    hint = f"did you mean {', '.join(names)}?" if names else "'voxicon classes' lists all known words"
    return f"request: {said!r} is not understood; expected known words; {hint}"
