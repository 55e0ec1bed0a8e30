"""What has to be found in a scan before requests can be answered."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass

from voxicon.answering.scene import VESSELS_OF
from voxicon.asking.request import Clause, Request, Target
from voxicon.core.concepts import Vocabulary
from voxicon.errors import UnknownClass, UsageError
from voxicon.findings.place import parts_known


@dataclass(frozen=True)
class Needs:
    """Classes by what they are needed for, each once.

    Attributes:
        asked: What requests are about.
        around: What else is to be found: organs that lesions lie in, lesions that organs are measured without, places
            and vessels.
        unknown: What families that were asked for hold, and nobody here can find.
    """

    asked: tuple[str, ...]
    around: tuple[str, ...]
    unknown: tuple[str, ...]

    @property
    def classes(self) -> tuple[str, ...]:
        """All that is to be found."""
        return (*self.asked, *self.around)


def needs_of(requests: Iterable[Request], vocabulary: Vocabulary, able: Collection[str], by: str) -> Needs:
    """What requests take.

    Args:
        requests: As understood.
        vocabulary: Knows every class.
        able: Classes that can be found.
        by: What finds them, for messages, such as "weights 'starter'".

    Raises:
        UnknownClass: What is asked for, a place or a neighbor cannot be found.
        UsageError: A part of an organ that no method here tells.
    """
    asked: dict[str, None] = {}
    around: dict[str, None] = {}
    unknown: dict[str, None] = {}
    clauses = [clause for request in requests for clause in request.clauses]
    for clause in clauses:
        if not clause.targets:
            asked |= dict.fromkeys(name for name in vocabulary.names if name in able)
            lesions = (concept.name for concept in vocabulary if concept.kind == "lesion")
            unknown |= dict.fromkeys(name for name in lesions if name not in able)
        for target in clause.targets:
            known = _known(target, vocabulary, able, by)
            asked |= dict.fromkeys(known)
            unknown |= dict.fromkeys(name for name in target.classes if name not in able)
            around |= dict.fromkeys(_around(clause, target, known, vocabulary, able, by))
    return Needs(tuple(asked), tuple(name for name in around if name not in asked), tuple(unknown))


def _known(target: Target, vocabulary: Vocabulary, able: Collection[str], by: str) -> tuple[str, ...]:
    known = tuple(name for name in target.classes if name in able)
    if not known:
        there = [vocabulary[name] for name in vocabulary.names if name in able]
        # Who asks for a tumor wants to know which tumors there are, not that there is a liver.
        if all(vocabulary[name].kind == "lesion" for name in target.classes):
            there = [concept for concept in there if concept.kind == "lesion"]
        found = ", ".join(concept.display_name for concept in there) or "no lesions at all"
        raise UnknownClass(
            f"request: {by} cannot find {target.said}; they find {found}; "
            "use weights that know it (--weights), or bring masks of it (--masks)"
        )
    return known


def _around(
    clause: Clause, target: Target, known: Iterable[str], vocabulary: Vocabulary, able: Collection[str], by: str
) -> Iterator[str]:
    lesions_too = clause.action in ("measure", "report", "compare")
    for name in known:
        concept = vocabulary[name]
        if concept.kind == "lesion":
            yield from (parent for parent in concept.parents if parent in able)
            yield from (v for parent in concept.parents for v in VESSELS_OF.get(parent, ()) if v in able)
        elif lesions_too:
            yield from (c.name for c in vocabulary if c.kind == "lesion" and name in c.parents and c.name in able)
    if target.place is not None:
        _check_part(target, vocabulary)
        yield from _neighbors(target.place.classes, target.place.said, able, by)
    for condition in target.conditions:
        if condition.classes:
            yield from _neighbors(condition.classes, condition.said, able, by)
    yield from (name for excluded in clause.without for name in excluded.classes if name in able)


def _neighbors(classes: Iterable[str], said: str, able: Collection[str], by: str) -> tuple[str, ...]:
    known = tuple(name for name in classes if name in able)
    if not known:
        raise UnknownClass(f"request: {by} cannot find {said}, which the request refers to; leave that out")
    return known


def _check_part(target: Target, vocabulary: Vocabulary) -> None:
    place = target.place
    if place is None or not place.part:
        return
    lost = [name for name in place.classes if place.part not in parts_known(name)]
    if lost:
        organ = vocabulary[lost[0]].display_name
        raise UsageError(
            f"request: found 'the {place.part} of the {organ}'; a mask of the {organ} does not tell where that is; "
            f"expected one of: {', '.join(parts_known(lost[0]))}"
        )
