"""Which organs a clause is about, and on which side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from voxicon.core.concepts import Vocabulary
from voxicon.statements.lexicon import Place, Token

ToldSide = Literal["", "left", "right", "both"]
_BEHIND = 3
"""Words within which a side may follow its organ: "the kidney on the right"."""


@dataclass(frozen=True)
class Named:
    """An organ or a pair of organs that a clause names.

    Attributes:
        organs: Canonical names.
        side: As told; empty where it is not, or where the organ has none.
        single: One of a pair is meant and the report does not say which ("the kidney").
        part: Only a part of the organ is meant.
        unnamed: It is only one of a family ("the remaining organs").
    """

    organs: tuple[str, ...]
    side: ToldSide = ""
    single: bool = False
    part: bool = False
    unnamed: bool = False


def places_of(tokens: Sequence[Token]) -> tuple[Named, ...]:
    """The organs in the order of the clause; those that only say where something lies near are left out."""
    free = {at: token.value for at, token in enumerate(tokens) if token.kind == "side"}
    spots = [at for at in range(len(tokens)) if _is_place(tokens, at)]
    sides: dict[int, ToldSide] = {}
    for at in spots:
        side_at = _side_of(tokens, at, free)
        if side_at is not None:
            sides[at] = free.pop(side_at)
    paired = [at for at in spots if _is_pair(tokens[at].value)]
    left = set(free.values())
    # A side somewhere else in the clause still tells the only pair's: "a mass on the left, in the kidney".
    if len(left) == 1 and len(paired) == 1 and paired[0] not in sides:
        sides[paired[0]] = left.pop()
    return tuple(_named(tokens[at], sides.get(at, "")) for at in spots)


def implied_places(tokens: Sequence[Token]) -> tuple[Named, ...]:
    """Where the lesion words themselves say where they lie: RCC in a kidney."""
    sides = {token.value for token in tokens if token.kind == "side"}
    side: ToldSide = sides.pop() if len(sides) == 1 else ""
    found = [t.value.place for t in tokens if t.kind == "lesion" and t.value.place is not None]
    return tuple(_of(place, side) for place in dict.fromkeys(found))


def on_told_side(places: Sequence[Named], tokens: Sequence[Token], vocabulary: Vocabulary) -> tuple[Named, ...]:
    """Organs of the clause before, on the side that this one tells: "right kidney normal, the left has a cyst"."""
    sides = {token.value for token in tokens if token.kind == "side"}
    if not sides.intersection(("left", "right")):
        return tuple(places)
    side = sides.pop()
    return tuple(_turned(named, side, vocabulary) if len(sides) == 0 else Named(()) for named in places)


def narrowed(places: Sequence[Named], vocabulary: Vocabulary) -> tuple[Named, ...]:
    """Places without those of which another is a part: of "the right upper lobe of the lung" the lobe."""
    parents = {parent for named in places for organ in named.organs for parent in vocabulary[organ].parents}
    return tuple(named for named in places if not parents.intersection(named.organs))


def _turned(named: Named, side: ToldSide, vocabulary: Vocabulary) -> Named:
    """The organ of a pair that lies on a side; an organ without sides stays."""
    found = []
    for organ in named.organs:
        own = vocabulary[organ].side
        twin = f"{organ.removesuffix(own)}{side}" if own else organ
        found.append(twin if twin in vocabulary else organ)
    sided = any(vocabulary[organ].side for organ in found)
    return Named(tuple(dict.fromkeys(found)), side if sided else "")


def _is_place(tokens: Sequence[Token], at: int) -> bool:
    if tokens[at].kind != "place" or (at and tokens[at - 1].kind == "not counted"):
        return False  # "stage T1" is no vertebra
    # The renal vein is not the kidney, nor are lymph nodes of the liver the liver.
    if at + 1 < len(tokens) and tokens[at + 1].kind == "elsewhere":
        return False
    return not any(token.kind in ("near", "origin") for token in tokens[:at])


def _is_pair(place: Place) -> bool:
    return bool(place.left and place.right)


def _side_of(tokens: Sequence[Token], at: int, free: dict[int, str]) -> int | None:
    """Position of the side that belongs to a place: the nearest before it, else one just behind it."""
    for before in range(at - 1, -1, -1):
        if before in free:
            return before
        if tokens[before].kind in ("place", "lesion", "elsewhere"):
            break
    for behind in range(at + 1, min(at + 1 + _BEHIND, len(tokens))):
        if behind in free and len(tokens[behind].text) > 1 and not _precedes_place(tokens, behind):
            return behind
        if tokens[behind].kind in ("place", "elsewhere"):
            break
    return None


def _precedes_place(tokens: Sequence[Token], at: int) -> bool:
    return any(token.kind in ("place", "elsewhere") for token in tokens[at + 1 : at + 3])


def _named(token: Token, side: ToldSide) -> Named:
    place: Place = token.value
    plural = token.text != token.stem and token.text.endswith("s") and not token.stem.endswith("s")
    named = _of(place, side)
    single = _is_pair(place) and not side and not plural and not place.adjective
    return Named(named.organs, named.side, single, place.part)


def _of(place: Place, side: ToldSide) -> Named:
    if not _is_pair(place):
        return Named(place.classes, "left" if place.left else "right" if place.right else "")
    return Named({"left": place.left, "right": place.right}.get(side, place.classes), side)
