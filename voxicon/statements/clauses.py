"""A sentence cut into clauses, each of which says one thing about one list of organs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from voxicon.statements.lexicon import Token

PREDICATES = ("lesion", "normal", "partly normal", "removal", "removed")
_JOINTS = (",", "and", "with")
_ARTICLES = ("the", "a", "an")


@dataclass
class Clause:
    """Tokens that belong together.

    Attributes:
        tokens: Of the sentence, in order.
        otherwise: It is said of what an exception leaves ("normal except for ...").
        exception: It names the exception.
    """

    tokens: list[Token] = field(default_factory=list)
    otherwise: bool = False
    exception: bool = False

    def has(self, *kinds: str) -> bool:
        """Whether a token is of one of these kinds."""
        return any(token.kind in kinds for token in self.tokens)


def clauses_of(tokens: Sequence[Token]) -> list[Clause]:
    """Cut where another thing begins to be said; clauses without a word are left out."""
    found = [Clause()]
    for at, token in enumerate(tokens):
        current = found[-1]
        if token.kind == "break":
            found.append(Clause(otherwise=current.exception))
        elif token.kind == "exception":
            current.otherwise = True
            found.append(Clause(exception=True))
        elif token.kind == "negation" and current.has("place", "elsewhere", "family", *PREDICATES):
            found.append(Clause([token], otherwise=current.exception))
        elif token.text in _JOINTS and _another_begins(current, tokens[at + 1 :]):
            found.append(Clause(otherwise=current.exception))
        else:
            current.tokens.append(token)
    return [clause for clause in found if clause.tokens]


def _another_begins(before: Clause, rest: Sequence[Token]) -> bool:
    """Whether what follows a comma, "and" or "with" says something of its own."""
    if not before.has(*PREDICATES):
        return False
    piece = []
    for token in rest:
        if token.text in _JOINTS or token.kind in ("break", "exception", "negation"):
            break
        piece.append(token)
    predicate = any(token.kind in PREDICATES for token in piece)
    denied = before.has("negation")
    first = next((token for token in piece if token.text not in _ARTICLES), None)
    if first is None:
        return False
    if first.kind == "number" and before.tokens[-1].kind == "number":
        return False  # "segments 5 and 7"
    counted = first.kind in ("size", "count", "number", "many") or first.text == "there"
    if predicate and (counted or (not denied and piece[0].text in ("a", "an"))):
        return True
    if denied:
        return first.kind in ("place", "side") and _says_of_itself(rest)
    return predicate and (first.kind == "verb" or any(t.kind in ("place", "elsewhere", "family") for t in piece))


def _says_of_itself(rest: Sequence[Token]) -> bool:
    """Whether a verb with something to say follows: "the spleen is normal", unlike "spleen or pancreas is seen"."""
    kinds = [token.kind for token in rest]
    if "verb" not in kinds:
        return False
    verb = kinds.index("verb")
    if any(kind in PREDICATES for kind in kinds[:verb]):
        return False
    return any(kind in PREDICATES for kind in kinds[verb:])
