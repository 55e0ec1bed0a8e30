"""Phrases inside a clause: a target with its side, place and conditions."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal

from voxicon.asking.lexicon import Lexicon, Noun, Token, bare_name, grammar
from voxicon.asking.request import Condition, Place, Target
from voxicon.errors import UnknownClass, UsageError

END = Token("end", None, "the end")
NOUN_STARTS = ("noun", "adjective", "side", "rank", "part", "number")
MODIFIER_STARTS = ("in", "of", "near", "touching", "distance", "comparison")


class Tokens:
    """Tokens with a position."""

    def __init__(self, tokens: Iterable[Token]) -> None:
        self._tokens = tuple(tokens)
        self._at = 0

    def peek(self, ahead: int = 0) -> Token:
        """The next token, or one further on; END behind the last."""
        at = self._at + ahead
        return self._tokens[at] if at < len(self._tokens) else END

    def take(self) -> Token:
        """The next token, and go on."""
        token = self.peek()
        self._at += 1
        return token

    def accept(self, *kinds: str) -> Token | None:
        """The next token if it is of one of these kinds."""
        return self.take() if self.peek().kind in kinds else None

    def expect(self, kind: str, wanted: str) -> Token:
        """The next token.

        Raises:
            UsageError: It is of another kind.
        """
        token = self.peek()
        if token.kind != kind:
            raise UsageError(f"request: found {token.text!r}; expected {wanted}; say it in other words")
        return self.take()


@dataclass
class _Words:
    """What stands before and around the noun of a target."""

    count: float | None = None
    rank: Literal["largest", "smallest"] | None = None
    side: str = ""
    owner: Noun | None = None
    part: str = ""
    noun: Noun | None = None


class Phrases:
    """Reads targets, places and conditions.

    Args:
        tokens: What is read from; shared with the reader of clauses.
        lexicon: Where nouns and classes are looked up.
    """

    def __init__(self, tokens: Tokens, lexicon: Lexicon) -> None:
        self.tokens = tokens
        self.lexicon = lexicon
        self.vocabulary = lexicon.vocabulary

    def target(self) -> list[Target]:
        """The next noun with what stands before it; several for "pancreatic and renal tumors".

        Raises:
            UsageError: The words do not make a target.
            UnknownClass: No class fits them.
        """
        adjectives = self._shared_adjectives()
        words = self._words()
        if not adjectives:
            return [self._target_of(words)]
        noun = words.noun
        family = self.lexicon.family_of(noun.classes[0]) if noun else None
        if noun is None or family is None:
            raise UsageError(
                f"request: found an adjective before {noun.said if noun else words.part!r}; "
                "expected tumors, cysts or lesions after it; name the organ itself"
            )
        if len(noun.classes) > 1:
            family = noun
        shared = [replace(words, owner=owner, noun=family) for owner in adjectives]
        return [*(self._target_of(each) for each in shared), self._target_of(words)]

    def _shared_adjectives(self) -> list[Noun]:
        """Adjectives that share a noun with the next one: "pancreatic and" of "pancreatic and renal tumors"."""
        found = []
        while self.tokens.peek().kind == "adjective" and self.tokens.peek(1).kind in ("and", "comma"):
            found.append(self.tokens.take().value)
            while self.tokens.accept("and", "comma"):
                pass
        return found

    def _words(self) -> _Words:
        words = _Words()
        while words.noun is None:
            token = self.tokens.peek()
            if token.kind == "number" and words.count is None:
                words.count = token.value
            elif token.kind == "rank" and words.rank is None:
                words.rank = token.value
            elif token.kind == "side" and not words.side:
                words.side = token.value
            elif token.kind == "adjective" and words.owner is None:
                words.owner = token.value
            elif token.kind == "part" and not words.part:
                words.part = token.value
            elif token.kind == "of" and (words.part or words.rank) and words.owner is None:
                pass
            elif token.kind == "noun":
                words.noun = token.value
            else:
                break
            self.tokens.take()
        self._behind(words)
        self._check_noun(words)
        return words

    def _check_noun(self, words: _Words) -> None:
        if words.noun is None and words.owner is None:
            found = self.tokens.peek().text
            raise UsageError(f"request: found {found!r}; expected a class or family, such as liver or kidney tumors")
        if words.noun is None and words.owner is not None and not words.part:
            raise UsageError(
                f"request: found an adjective alone; expected a noun after it; name it or write {words.owner.said}"
            )

    def _behind(self, words: _Words) -> None:
        """A noun may turn out to own what follows: "liver lesions", "pancreas tail", "kidney left"."""
        follows = self.tokens.peek()
        if words.noun and words.owner is None and follows.kind == "part":
            words.owner, words.noun, words.part = words.noun, None, self.tokens.take().value
            follows = self.tokens.peek()
            words.noun = self.tokens.take().value if follows.kind == "noun" else None
        elif words.noun and words.owner is None and self._owns(words.noun, follows):
            words.owner, words.noun = words.noun, self.tokens.take().value
        elif words.noun and words.owner is None and words.part and self._is_organ(words.noun):
            words.owner, words.noun = words.noun, None
        if not words.side and (side := self.tokens.accept("side")):
            words.side = side.value

    def _owns(self, noun: Noun, follows: Token) -> bool:
        return follows.kind == "noun" and self._is_organ(noun) and not self._is_organ(follows.value)

    def _is_organ(self, noun: Noun) -> bool:
        return all(self.vocabulary[name].kind != "lesion" for name in noun.classes)

    def _target_of(self, words: _Words) -> Target:
        if words.owner is not None:
            said, classes, side = self.named(words.owner, words.side)
            place = Place(" ".join(filter(None, [side, said])), classes, words.part)
            self._check_part(place)
            if words.noun is None:
                target = Target(said, classes, self._one_side(side), place)
            else:
                target = self.narrowed(Target(*self.named(words.noun, "")[:2]), place)
        elif words.noun is not None:
            target = self._sided(words.noun, words.side)
        else:
            raise UsageError(f"request: found {words.part!r} alone; expected 'the {words.part} of' an organ")
        return self._ranked(target, words)

    def _ranked(self, target: Target, words: _Words) -> Target:
        if words.rank is None:
            if words.count is not None and words.count != len(target.classes):
                raise UsageError(
                    f"request: found {words.count:g} of {target.said!r}, which is {len(target.classes)} class(es); "
                    "expected the same number, or 'the 2 largest ...'; leave the number out"
                )
            return target
        return self.with_condition(target, Condition(words.rank, self.whole(words.count)))

    def whole(self, count: float | None) -> float:
        """How many pieces: one when nothing is said.

        Raises:
            UsageError: Not a whole number from one on.
        """
        if count is not None and (count < 1 or count != int(count)):
            raise UsageError(f"request: found {count:g} as a number of things; expected 1, 2, 3 ...; correct it")
        return count or 1.0

    def named(self, noun: Noun, side: str) -> tuple[str, tuple[str, ...], str]:
        """Name for people, classes, and the side that the name does not say.

        Raises:
            UnknownClass: The noun has no such side.
        """
        classes = noun.on(side)
        if not classes:
            raise UnknownClass(f"unknown class '{side} {noun.said}'; {noun.said} has no sides here; leave {side!r} out")
        if side == "both" and not (noun.left and noun.right):
            raise UnknownClass(f"unknown class 'both {noun.said}'; {noun.said} has no sides here; leave the sides out")
        if len(classes) == 1:
            return self.vocabulary[classes[0]].display_name, classes, ""
        if classes == (*noun.left, *noun.right) and len(classes) == 2:
            return f"left and right {noun.said}", classes, ""
        return noun.said, classes, "" if side == "both" else side

    def _sided(self, noun: Noun, side: str) -> Target:
        if side in ("left", "right") and not noun.on(side) and not self._is_organ(noun):
            parents = tuple(
                name
                for name in dict.fromkeys(p for c in noun.classes for p in self.vocabulary[c].parents)
                if name in self.vocabulary and self.vocabulary[name].side == side
            )
            if len(noun.classes) == 1 and parents:
                return self.narrowed(Target(noun.said, noun.classes), self._place_of(parents))
        said, classes, left = self.named(noun, side)
        return Target(said, classes, self._one_side(left))

    def _place_of(self, classes: tuple[str, ...]) -> Place:
        return Place(", ".join(self.vocabulary[name].display_name for name in classes), classes)

    @staticmethod
    def _one_side(side: str) -> Literal["", "left", "right"]:
        return "left" if side == "left" else "right" if side == "right" else ""

    def _check_part(self, place: Place) -> None:
        parts = grammar()["parts"]
        names = {bare_name(self.vocabulary[name]) for name in place.classes}
        known = [*(parts.get(names.pop(), []) if len(names) == 1 else []), *parts["any"]]
        if place.part and place.part not in known:
            raise UsageError(
                f"request: found 'the {place.part} of the {place.said}'; expected a part of it: {', '.join(known)}"
            )

    def place(self, *, of_lesions: bool = False) -> Place:
        """A place such as "the tail of the pancreas", read from behind its "in".

        Args:
            of_lesions: A lesion will do too: things lie near one, not in one.

        Raises:
            UsageError: The words do not make a place.
            UnknownClass: No class fits them, or the class is a lesion.
        """
        words = self._words()
        noun = words.owner or words.noun
        if noun is None or (words.owner and words.noun) or words.rank or words.count not in (None, len(noun.classes)):
            raise UsageError("request: found a place with more words than it can have; expected 'in the left kidney'")
        if not of_lesions and not self._is_organ(noun):
            raise UsageError(f"request: found {noun.said!r} as a place; expected an organ; name where it lies")
        said, classes, side = self.named(noun, words.side)
        place = Place(" ".join(filter(None, [side, said])), classes, words.part)
        self._check_part(place)
        return place

    def modified(self, target: Target) -> Target:
        """The target with one more place or condition, which comes next.

        Raises:
            UsageError: The words do not make one, or there are two places.
            UnknownClass: No class fits the words.
        """
        token = self.tokens.take()
        if token.kind == "distance" and self.tokens.peek().kind != "number":
            token = Token("in", None, token.text)
        if token.kind == "of" and self.tokens.peek().kind == "comparison":
            token = self.tokens.take()
        if token.kind in ("in", "of"):
            return self.narrowed(target, self.place())
        return self.with_condition(target, self._condition(token))

    def _condition(self, token: Token) -> Condition:
        if token.kind == "comparison":
            value, unit = self.size()
            return Condition(token.value, value, unit)
        if token.kind == "distance":
            value, unit = self.size()
            if unit != "mm":
                raise UsageError(f"request: found a distance in {unit}; expected mm or cm; correct the unit")
            self.tokens.expect("of", "'of' and what it is near to")
            near = self.place(of_lesions=True)
            return Condition("within", value, unit, near.said, self._unparted(near))
        near = self.place(of_lesions=True)
        return Condition("touching" if token.kind == "touching" else "near", None, "", near.said, self._unparted(near))

    @staticmethod
    def _unparted(place: Place) -> tuple[str, ...]:
        if place.part:
            raise UsageError(
                f"request: found 'near the {place.part}' of {place.said}; expected a whole class; leave it out"
            )
        return place.classes

    def size(self) -> tuple[float, Literal["mm", "ml"]]:
        """A number with its unit, in mm or ml.

        Raises:
            UsageError: One of them is missing, or the size is zero.
        """
        number = self.tokens.expect("number", "a number, as in 'larger than 2 cm'")
        unit = self.tokens.expect("unit", f"a unit after {number.text}: mm, cm or ml")
        name, factor = unit.value
        if number.value <= 0:
            raise UsageError(f"request: found a size of {number.text} {unit.text}; expected more than 0; correct it")
        return round(number.value * factor, 9), name

    def with_condition(self, target: Target, condition: Condition) -> Target:
        """The target with a condition; ranks come first.

        Raises:
            UsageError: The same kind of condition is there already.
        """
        ranks = ("largest", "smallest")
        alike = ranks if condition.kind in ranks else (condition.kind,)
        if any(known.kind in alike and condition.kind not in ("near", "touching") for known in target.conditions):
            raise UsageError(
                f"request: found {condition.kind!r} twice for {target.said!r}; expected one; leave one out"
            )
        conditions = sorted((*target.conditions, condition), key=lambda c: c.kind not in ranks)
        return replace(target, conditions=tuple(conditions))

    def narrowed(self, target: Target, place: Place) -> Target:
        """The target as far as it lies in a place: "tumors" in the pancreas are pancreas tumors.

        Raises:
            UsageError: It has a place already.
            UnknownClass: Nothing of it lies there.
        """
        if target.place is not None:
            raise UsageError(
                f"request: found two places for {target.said!r}: {target.place.said} and {place.said}; expected one; "
                "use two sentences"
            )
        if set(target.classes) <= set(place.classes):
            return replace(target, place=place)
        area = {*place.classes, *(parent for name in place.classes for parent in self.vocabulary[name].parents)}
        concepts = [self.vocabulary[name] for name in target.classes]
        kept = [concept for concept in concepts if area.intersection(concept.parents)]
        organs = {bare_name(self.vocabulary[name]) for name in place.classes}
        elsewhere = len(organs) == 1 and concepts[0].kind == "organ"
        if not kept and (len(concepts) > 1 or concepts[0].parents or elsewhere):
            raise UnknownClass(
                f"unknown class '{target.said} in the {place.said}'; no class of {target.said} lies there; "
                "'voxicon classes' lists all of them"
            )
        lesions = len(organs) == 1 and all(concept.kind == "lesion" for concept in kept)
        own = [c for c in kept if lesions and any(c.name.startswith(f"{organ}_") for organ in organs)]
        kept = own or kept or concepts
        if len(kept) != 1:
            return replace(target, classes=tuple(concept.name for concept in kept), place=place)
        one = kept[0]
        if one.parents and not set(one.parents) <= set(place.classes):
            # "A cyst in the left kidney" is the class that says so, where there is one.
            twins = [c for c in self.vocabulary if c.side and bare_name(c) == one.name]
            one = next((c for c in twins if c.parents and set(c.parents) <= set(place.classes)), one)
        covered = bool(one.parents) and set(one.parents) <= set(place.classes) and not place.part
        return replace(target, said=one.display_name, classes=(one.name,), side="", place=None if covered else place)
