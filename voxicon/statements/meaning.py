"""What a clause states. The rules are in the order in which they are tried; the words are in ``words.yaml``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from voxicon.statements.clauses import Clause
from voxicon.statements.lexicon import Lexicon, Token, grammar
from voxicon.statements.places import Named, implied_places, narrowed, on_told_side, places_of
from voxicon.statements.statement import Finding, Kind, Sentence, Statement

_FINDINGS: dict[str, Finding] = {
    "tumor": "tumor", "named tumor": "tumor", "nodule": "tumor", "lesion": "lesion", "unclear": "lesion",
    "cyst": "cyst", "benign": "benign",
}  # fmt: skip
_VAGUE = ("lesion", "nodule", "unclear")
"""Groups of lesion words that other words of the clause make more precise."""
_SEPARATORS = (",", "or", "and", "/", "&", "nor")
_HINDER = ("unknown", "part", "stop", "near", "origin", "history", "removal", "equals", "before", "not counted")
"""Kinds that may be what matters, so that nothing is denied beside them."""


@dataclass(frozen=True)
class Topic:
    """Where a clause looks for organs if it names none.

    Attributes:
        places: Of the clause before it, or of the heading.
        sentence: The clause's sentence.
        heading: The places are the heading's.
        sample: It is about a sample, which is not the organ: nothing it denies is sure.
    """

    places: tuple[Named, ...]
    sentence: Sentence
    heading: bool = False
    sample: bool = False


class ClauseReader:
    """Reads clauses with the words of a lexicon."""

    def __init__(self, lexicon: Lexicon) -> None:
        self.lexicon = lexicon

    def read(self, clause: Clause, topic: Topic) -> list[Statement]:
        """What a clause states; nothing where it is not understood."""
        tokens = clause.tokens
        denials = sum(t.kind in ("negation", "negation after") for t in tokens)
        if clause.has("removal", "removed"):
            return list(self._removed(clause, topic))
        if clause.has("history", "stop") or denials > 1:
            return []
        places = self.places(clause) or _implied(tokens, topic)
        places = places or on_told_side(topic.places, tokens, self.lexicon.vocabulary)
        if denials and clause.has("lesion"):
            return list(self._denied(clause, places, topic))
        if denials:
            return []
        if clause.has("lesion"):
            return [] if clause.has("normal", "partly normal") else list(self._found(clause, places, topic))
        return list(self._normal(clause, places, topic)) if clause.has("normal") else []

    def places(self, clause: Clause) -> tuple[Named, ...]:
        """The organs that a clause names; a nameless one where it only names other anatomy."""
        named = narrowed(places_of(clause.tokens), self.lexicon.vocabulary) or self._family(clause)
        return named or ((Named(()),) if clause.has("elsewhere", "place") else ())

    def _family(self, clause: Clause) -> tuple[Named, ...]:
        organs = [organ for token in clause.tokens if token.kind == "family" for organ in token.value]
        vocabulary = self.lexicon.vocabulary
        known = [vocabulary[organ] for organ in organs if organ in vocabulary]
        return tuple(Named((concept.name,), concept.side or "", unnamed=True) for concept in known)

    def _removed(self, clause: Clause, topic: Topic) -> Iterator[Statement]:
        hindered = (
            "uncertain",
            "sample",
            "negation",
            "negation after",
            "stop",
            "part of removal",
            "part",
            "lesion",
            "normal",
        )
        if clause.has(*hindered):
            return
        cues = tuple(t.text for t in clause.tokens if t.kind in ("removal", "removed"))
        operated = [t.value for t in clause.tokens if t.kind == "removal" and t.value is not None]
        as_places = [
            Token("place", t.value, t.text, t.stem) if t.kind == "removal" and t.value is not None else t
            for t in clause.tokens
        ]
        for named in places_of(as_places) or (() if operated else topic.places):
            if named.organs and not (named.single or named.part):
                lesions = self.lexicon.lesion_classes("lesion", named.organs)
                yield Statement(topic.sentence, "removed", named.organs, lesions, side=named.side, cues=cues)

    def _denied(self, clause: Clause, places: tuple[Named, ...], topic: Topic) -> Iterator[Statement]:
        tokens = clause.tokens
        otherwise = clause.otherwise or any(t.kind == "otherwise" or t.value == "otherwise" for t in tokens)
        doubt = topic.sample or clause.has("uncertain", "size", "number", "count")
        cues = tuple(t.text for t in tokens if t.kind in ("negation", "negation after", "uncertain", "sample"))
        for at, token in enumerate(tokens):
            if token.kind != "lesion":
                continue
            group = _group(token, tokens)
            unsure = doubt or group == "named tumor"
            if group == "unclear" or (not unsure and _is_hindered(tokens, at)):
                continue
            kind: Kind = "uncertain" if unsure else "normal" if group == "lesion" else "absent"
            around = self._of_item(tokens, at) or places
            for named in (named for named in self._where(token, around) if not named.part or unsure):
                yield self._statement(
                    topic, kind, _FINDINGS[group], named, token, otherwise=otherwise, cues=(*cues, token.text)
                )

    def _of_item(self, tokens: Sequence[Token], at: int) -> tuple[Named, ...]:
        """Organs of a lesion word's own item of a list, else of the item before it, else of the next that has any.

        "No left renal mass, cyst or hepatic lesion" speaks of no right kidney and of no mass in the liver.
        """
        items = _items(tokens)
        own = next(number for number, item in enumerate(items) if at in item)
        vocabulary = self.lexicon.vocabulary
        named = [narrowed(places_of(tokens[item.start : item.stop]), vocabulary) for item in items]
        return next((places for places in (*reversed(named[: own + 1]), *named[own + 1 :]) if places), ())

    def _found(self, clause: Clause, places: tuple[Named, ...], topic: Topic) -> Iterator[Statement]:
        tokens = clause.tokens
        kept = _precise([t for t in tokens if t.kind == "lesion"], tokens)
        doubt = clause.has("uncertain") or _is_choice(tokens)
        size, count = _size(tokens), _count(tokens)
        cues = tuple(t.text for t in tokens if t.kind in ("uncertain", "suspicious"))
        for token in kept:
            group = _group(token, tokens)
            for named in self._where(token, places):
                sure = group not in _VAGUE or (group == "nodule" and self._nodule_is_tumor(named))
                finding = _FINDINGS[group] if group != "nodule" or sure else "lesion"
                if finding == "benign" and doubt:
                    finding = "lesion"
                kind: Kind = "present" if sure and not doubt else "uncertain"
                made = self._statement(topic, kind, finding, named, token, cues=(*cues, token.text))
                yield replace(made, size_mm=size, count=count)

    def _normal(self, clause: Clause, places: tuple[Named, ...], topic: Topic) -> Iterator[Statement]:
        tokens = clause.tokens
        if clause.has(*_HINDER) or (clause.has("remaining") and not clause.has("family")):
            return
        cue = next(t for t in tokens if t.kind == "normal")
        kind: Kind = "uncertain" if topic.sample or clause.has("uncertain") else "normal"
        otherwise = clause.otherwise or clause.has("otherwise", "family")
        for named in places:
            fits = cue.value is None or self._lies_in(named, cue.value)
            if named.organs and not (named.single or named.part) and fits:
                lesions = self.lexicon.lesion_classes("lesion", named.organs)
                yield Statement(
                    topic.sentence, kind, named.organs, lesions, side=named.side, otherwise=otherwise,
                    unnamed=named.unnamed, cues=(cue.text,),
                )  # fmt: skip

    def _where(self, token: Token, places: tuple[Named, ...]) -> Sequence[Named]:
        """The places of a lesion word; one that is a class of its own and lies in no organ needs none."""
        if token.value.classes and not any(named.organs for named in places):
            return [Named(())]
        return [named for named in places if named.organs]

    def _statement(
        self, topic: Topic, kind: Kind, finding: Finding, named: Named, token: Token, *, otherwise: bool = False,
        cues: tuple[str, ...] = (),
    ) -> Statement:  # fmt: skip
        lesions = token.value.classes or self.lexicon.lesion_classes(finding, named.organs)
        return Statement(
            topic.sentence, kind, named.organs, lesions, finding, named.side, otherwise=otherwise or named.unnamed,
            unnamed=named.unnamed, cues=cues,
        )  # fmt: skip

    def _nodule_is_tumor(self, named: Named) -> bool:
        return self._lies_in(named, grammar()["nodule_is_tumor"])

    def _lies_in(self, named: Named, organs: Sequence[str]) -> bool:
        return all(
            organ in organs or set(self.lexicon.vocabulary[organ].parents).intersection(organs)
            for organ in named.organs
        )


def _implied(tokens: Sequence[Token], topic: Topic) -> tuple[Named, ...]:
    """Where lesion words say where they lie; nothing where a heading, or the same organ before, says it better."""
    implied = implied_places(tokens)
    before = {organ for named in topic.places for organ in named.organs}
    known = topic.heading or any(before.intersection(named.organs) for named in implied)
    return () if topic.places and known else implied


def _group(token: Token, tokens: Sequence[Token]) -> str:
    """The group of a lesion word; a suspicious lesion is a tumor."""
    group = str(token.value.group)
    return "tumor" if group in _VAGUE and any(t.kind == "suspicious" for t in tokens) else group


def _precise(lesions: list[Token], tokens: Sequence[Token]) -> list[Token]:
    """Lesion words without those that others explain: "lesion consistent with hemangioma" is a hemangioma."""
    equals = next((at for at, t in enumerate(tokens) if t.kind == "equals"), None)
    if equals is not None:
        lesions = [t for t in tokens[equals:] if t.kind == "lesion"] or lesions
    groups = {_group(t, tokens) for t in lesions}
    if groups.intersection(("tumor", "named tumor", "benign")):
        lesions = [t for t in lesions if _group(t, tokens) not in _VAGUE]
    return lesions


def _is_choice(tokens: Sequence[Token]) -> bool:
    """Whether "or" stands between two lesion words."""
    spots = [at for at, t in enumerate(tokens) if t.kind == "lesion"]
    return bool(spots) and any(t.text in ("or", "/") for t in tokens[spots[0] : spots[-1]])


def _is_hindered(tokens: Sequence[Token], at: int) -> bool:
    """Whether a word that is not understood may narrow what is denied.

    Words of an item that comes later do not, but for those behind the last one, which may be meant for all of them,
    as may those of an earlier item.
    """
    final = next(i for i in _items(tokens)[-1] if tokens[i].kind == "lesion")
    end, last = (
        next((i for i in range(start, len(tokens)) if tokens[i].text in _SEPARATORS), len(tokens))
        for start in (at, final)
    )
    mattering = [*range(end), *range(final, last)]
    return any(tokens[i].kind in _HINDER for i in mattering)


def _items(tokens: Sequence[Token]) -> list[range]:
    """Positions of the items of a list of lesion words: "no mass", "cyst", "stone in the kidneys"."""
    starts = [0]
    last = max(at for at, token in enumerate(tokens) if token.kind == "lesion")
    for at, token in enumerate(tokens[:last]):
        if token.text in _SEPARATORS and any(t.kind == "lesion" for t in tokens[starts[-1] : at]):
            starts.append(at + 1)
    return [range(start, end) for start, end in zip(starts, [*starts[1:], len(tokens)], strict=True)]


def _size(tokens: Sequence[Token]) -> float | None:
    """The largest size of today in mm."""
    sizes = [
        t.value
        for at, t in enumerate(tokens)
        if t.kind == "size" and not any(b.kind == "before" for b in tokens[max(at - 2, 0) : at])
    ]
    return max(sizes, default=None)


def _count(tokens: Sequence[Token]) -> int | None:
    first = next(at for at, t in enumerate(tokens) if t.kind == "lesion")
    told = [
        int(t.value)
        for at, t in enumerate(tokens[:first])
        if t.kind in ("count", "number") and not (at and _is_no_count(tokens[at - 1]))
    ]
    return told[-1] if told else None


def _is_no_count(token: Token) -> bool:
    return token.stem in grammar()["not_counts"]
