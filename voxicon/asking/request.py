"""What a request means: clauses, each an action on targets; and the same in plain words."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Action = Literal["segment", "mark", "measure", "count", "compare", "report"]

_SIZES = {"larger": "larger than", "smaller": "smaller than", "at_least": "at least", "at_most": "at most"}


@dataclass(frozen=True)
class Place:
    """Where to look: an organ (or a family of them), or a part of it."""

    said: str
    classes: tuple[str, ...]
    part: str = ""
    """Such as "tail" or "upper third"; empty for the whole."""

    def in_plain_words(self) -> str:
        """Such as "in the tail of the pancreas"."""
        return f"in the {self.part} of the {self.said}" if self.part else f"in the {self.said}"


@dataclass(frozen=True)
class Condition:
    """Which of the pieces found are meant: by size, by rank or by distance from something else."""

    kind: Literal["larger", "smaller", "at_least", "at_most", "largest", "smallest", "near", "touching", "within"]
    value: float | None = None
    """A size or distance; for largest and smallest, how many."""
    unit: Literal["", "mm", "ml"] = ""
    said: str = ""
    """What it is near to."""
    classes: tuple[str, ...] = ()

    def in_plain_words(self) -> str:
        """Such as "larger than 20 mm"."""
        if self.kind in ("largest", "smallest"):
            return self.kind if self.value == 1 else f"{self.value:.15g} {self.kind}"
        if self.kind in ("near", "touching"):
            return f"{'near' if self.kind == 'near' else 'touching'} the {self.said}"
        if self.kind == "within":
            return f"within {self.value:.15g} {self.unit} of the {self.said}"
        return f"{_SIZES[self.kind]} {self.value:.15g} {self.unit}"


@dataclass(frozen=True)
class Target:
    """What a clause is about: one class, or the classes of a family."""

    said: str
    """The name for people: of the class, or of the family."""
    classes: tuple[str, ...]
    side: Literal["", "left", "right"] = ""
    """Only for families; a class has its side in its name."""
    place: Place | None = None
    conditions: tuple[Condition, ...] = ()

    def in_plain_words(self) -> str:
        """Such as "largest liver tumor, larger than 20 mm"."""
        ranks = [c.in_plain_words() for c in self.conditions if c.kind in ("largest", "smallest")]
        others = [c.in_plain_words() for c in self.conditions if c.kind not in ("largest", "smallest")]
        noun = " ".join([*ranks, *([self.side] if self.side else []), self.said])
        place = self.place
        if place is not None and place.part and place.classes == self.classes and not ranks:
            return ", ".join([f"{place.part} of the {place.said}", *others])
        return ", ".join([noun, *([place.in_plain_words()] if place else []), *others])


@dataclass(frozen=True)
class Clause:
    """One thing to do."""

    action: Action
    targets: tuple[Target, ...] = ()
    """Empty only for a report on the whole scan."""
    quantities: tuple[str, ...] = ()
    """What to measure: size, volume, diameter, density."""
    without: tuple[Target, ...] = ()
    """What to leave out. Classes named here are gone from families; from an organ, the masks are to be subtracted."""
    if_any: bool = False
    """Finding nothing is a fine answer."""
    same: bool = False
    """The targets are those of the clause before."""

    def in_plain_words(self) -> str:
        """Such as "measure volume: liver, spleen"."""
        quantities = () if self.quantities == ("size",) and self.action == "measure" else self.quantities
        verb = " ".join([self.action, *([" and ".join(quantities)] if quantities else [])])
        things = ["the same"] if self.same else [target.in_plain_words() for target in self.targets]
        if self.if_any:
            things.append("if any")
        if self.without and not self.same:
            things.append("except " + ", ".join(target.in_plain_words() for target in self.without))
        return f"{verb}: {', '.join(things)}" if things else verb


@dataclass(frozen=True)
class Request:
    """A whole request, clause by clause. Two requests are equal when they mean the same."""

    clauses: tuple[Clause, ...]
    ignored: tuple[str, ...] = field(default=(), compare=False)
    """Words that were left out as polite or empty."""
    corrected: tuple[tuple[str, str], ...] = field(default=(), compare=False)
    """Misspelled words and what they were taken for."""

    def in_plain_words(self) -> str:
        """The request said again so that a person can check it; reading that gives an equal request."""
        return "; then ".join(clause.in_plain_words() for clause in self.clauses)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)
