"""Predicted lesions against what a report states: which are denied, confirmed, missing; nothing is changed here."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from voxicon.core.concepts import Vocabulary
from voxicon.core.masks import MaskSet
from voxicon.findings.finding import Finding, Point
from voxicon.findings.parts import Lesion, lesions_of
from voxicon.findings.shape import axial_diameters, center_mm, cropped
from voxicon.statements import Report, Statement

Action = Literal[
    "denied", "confirmed", "missing", "not looked for", "uncertain", "contradictory", "organ removed", "not mentioned"
]

DENIALS = ("normal", "absent")


@dataclass(frozen=True)
class Decision(Finding):
    """What the report makes of one predicted piece, or of a lesion that it tells of and nobody predicted.

    Attributes:
        action: What was decided.
        lesions: The class of the piece, or those that were looked for.
        organs: The organ of the piece, or those where it should be; empty where it is in none.
        piece: Number among the pieces of its class, from 1, largest first; None without a piece.
        volume_ml: Of the piece; None without one.
        center_mm: Of the piece, RAS; None without one.
        longest_mm: Longest axial diameter of the piece; None without one.
        told_mm: Largest size that the report tells of such lesions there.
        told_count: How many the report tells.
        found_count: How many pieces lie there, where the report tells of such lesions.
        reason: In words.
        sentences: Of the report, verbatim.
    """

    action: Action
    lesions: tuple[str, ...]
    organs: tuple[str, ...]
    reason: str
    sentences: tuple[str, ...] = ()
    piece: int | None = None
    volume_ml: float | None = None
    center_mm: Point | None = None
    longest_mm: float | None = None
    told_mm: float | None = None
    told_count: int | None = None
    found_count: int | None = None


@dataclass(frozen=True, eq=False)
class Piece:
    """A predicted piece: its class, its number in it, and where it is."""

    name: str
    number: int
    lesion: Lesion


@dataclass(frozen=True, eq=False)
class Judgement:
    """Decisions, and the pieces that those with a number are about, in the same order."""

    decisions: tuple[Decision, ...]
    pieces: tuple[Piece, ...] = field(default=())

    @property
    def denied(self) -> tuple[Piece, ...]:
        """The pieces that the report denies beyond doubt."""
        return tuple(p for p, d in zip(self.pieces, self.decisions, strict=False) if d.action == "denied")


def judge(report: Report, masks: MaskSet, vocabulary: Vocabulary) -> Judgement:
    """Compare every 26-connected piece of every lesion class with a report.

    A piece is denied where its organ is said normal, or its class absent there, and nothing in the report says or
    suspects the contrary. A piece that touches no organ is denied where all organs that its class lies in are.

    Args:
        report: What the report states.
        masks: Predicted; organs that are not among them own no piece.
        vocabulary: Knows every class of `masks`.

    Returns:
        First a decision for every piece, in the order of the masks; then those on lesions without a piece. None where
        there is no piece and no lesion in the report.
    """
    boxes = masks.bounds()
    pieces = tuple(
        Piece(name, number, lesion)
        for name in masks
        if vocabulary[name].kind == "lesion"
        for number, lesion in enumerate(lesions_of(name, masks, vocabulary, boxes), start=1)
    )
    court = _Court(report, masks, vocabulary, pieces)
    return Judgement((*map(court.on_piece, pieces), *court.without_piece()), pieces)


@dataclass(frozen=True, eq=False)
class _Court:
    report: Report
    masks: MaskSet
    vocabulary: Vocabulary
    pieces: tuple[Piece, ...]

    def on_piece(self, piece: Piece) -> Decision:
        """What the report makes of a predicted piece."""
        organs = self._organs(piece)
        told = [s for s in self.report.statements if piece.name in s.lesions and self._is_there(s, organs)]
        action, used, reason = self._verdict(piece, organs, told)
        mask, grid = piece.lesion.mask, cropped(self.masks.geometry, piece.lesion.box)
        decision = Decision(
            action,
            (piece.name,),
            (piece.lesion.organ,) if piece.lesion.organ else (),
            reason,
            _sentences(used),
            piece.number,
            round(int(mask.sum()) * grid.voxel_ml, 3),
            _rounded(center_mm(mask, grid)),
            round(axial_diameters(mask, grid).longest_mm, 1),
        )
        return self._compared(decision, used) if action == "confirmed" else decision

    def without_piece(self) -> Iterator[Decision]:
        """Lesions that the report tells of or suspects, each once, where no piece is."""
        seen: dict[tuple[str, tuple[str, ...], tuple[str, ...]], list[Statement]] = {}
        for statement in self.report.statements:
            if statement.kind in ("present", "uncertain") and (statement.lesions or statement.finding == "tumor"):
                for organs in self._targets(statement):
                    seen.setdefault((statement.kind, statement.lesions, organs), []).append(statement)
        for (_, lesions, organs), told in seen.items():
            if not self._found(lesions, organs):
                yield self._missing(lesions, organs, told)

    def _missing(self, lesions: tuple[str, ...], organs: tuple[str, ...], told: list[Statement]) -> Decision:
        where = " or ".join(organs) or "the body"
        denials = [s for s in self.report.statements if _denies(s, lesions, organs) and not s.otherwise]
        if told[0].kind == "uncertain":
            action: Action = "uncertain"
            reason = f"the report is not sure of it in {where}, and no piece lies there"
        elif denials:
            action, reason = "contradictory", f"the report says both that it is in {where} and that it is not"
        elif not lesions:
            action, reason = "not looked for", f"it is said to be in {where}, where no class stands for one"
        elif not set(lesions).intersection(self.masks.names):
            action, reason = "not looked for", f"it is said to be in {where}; this result did not look for it"
        else:
            action, reason = "missing", f"it is said to be in {where} and no piece lies there"
        used = [*told, *(denials if action == "contradictory" else [])]
        return _with_told(Decision(action, lesions, organs, reason, _sentences(used), found_count=0), told)

    def _verdict(
        self, piece: Piece, organs: tuple[str, ...], told: list[Statement]
    ) -> tuple[Action, list[Statement], str]:
        """The action on a piece, the statements that decided, and why."""
        where = piece.lesion.organ or "the body"
        by_kind = {kind: [s for s in told if s.kind == kind] for kind in ("present", "uncertain", "removed")}
        denials = [s for s in told if s.kind in DENIALS]
        firm = [s for s in denials if not s.otherwise]
        if by_kind["present"] and firm:
            return "contradictory", by_kind["present"] + firm, f"the report both finds and denies it in {where}"
        if by_kind["present"]:
            return "confirmed", by_kind["present"], f"the report finds it in {where}"
        if by_kind["uncertain"]:
            return "uncertain", by_kind["uncertain"], f"the report is not sure of it in {where}"
        if by_kind["removed"]:
            return "organ removed", by_kind["removed"], f"{where} is said to be taken out; look whether it came back"
        if organs and all(any(organ in s.organs for s in denials) for organ in organs):
            normal = all(s.kind == "normal" for s in denials)
            why = f"{' and '.join(organs)} {'is' if len(organs) == 1 else 'are'} said to be "
            return "denied", denials, why + ("normal" if normal else f"without {piece.name}")
        return "not mentioned", [], "the report says nothing of it"

    def _compared(self, decision: Decision, used: list[Statement]) -> Decision:
        """The same with size and number, where the report tells them."""
        organs = tuple(dict.fromkeys(organ for s in used for organ in s.organs))
        lesions = tuple(dict.fromkeys(name for s in used for name in s.lesions))
        decision = _with_told(replace(decision, found_count=len(self._found(lesions, organs))), used)
        reason = decision.reason
        if decision.told_mm is not None:
            reason += f"; largest told {decision.told_mm:g} mm, this one {decision.longest_mm:g} mm"
        if decision.told_count is not None:
            reason += f"; told {decision.told_count}, found {decision.found_count}"
        return replace(decision, reason=reason)

    def _organs(self, piece: Piece) -> tuple[str, ...]:
        """The organ of a piece; of one that touches none, all that its class may lie in."""
        return (piece.lesion.organ,) if piece.lesion.organ else self.vocabulary[piece.name].parents

    def _is_there(self, statement: Statement, organs: tuple[str, ...]) -> bool:
        """Whether a statement is about one of the organs; a finding in a lobe is one in the lung."""
        around = set(statement.organs)
        if statement.kind in ("present", "uncertain"):
            around |= {parent for organ in statement.organs for parent in self.vocabulary[organ].parents}
        return bool(around.intersection(organs)) or not (statement.organs or organs)

    def _targets(self, statement: Statement) -> Sequence[tuple[str, ...]]:
        """Where a lesion should be: in each of both sides, or in any of the organs."""
        return [(organ,) for organ in statement.organs] if statement.side == "both" else [statement.organs]

    def _found(self, lesions: tuple[str, ...], organs: tuple[str, ...]) -> list[Piece]:
        """Pieces of the classes in the organs; one that touches no organ is where no organ was looked for."""
        around = {*organs, *(parent for organ in organs for parent in self.vocabulary[organ].parents)}
        found = []
        for piece in (piece for piece in self.pieces if piece.name in lesions):
            blind = [organ for organ in self._organs(piece) if organ not in self.masks.names]
            at = [piece.lesion.organ] if piece.lesion.organ else blind
            if around.intersection(at) or not (around or self._organs(piece)):
                found.append(piece)
        return found


def _denies(statement: Statement, lesions: tuple[str, ...], organs: tuple[str, ...]) -> bool:
    return (
        statement.kind in DENIALS
        and set(lesions) <= set(statement.lesions)
        and set(organs) <= set(statement.organs)
    )  # fmt: skip


def _with_told(decision: Decision, told: list[Statement]) -> Decision:
    sizes = [s.size_mm for s in told if s.size_mm is not None]
    counts = [s.count for s in told if s.count is not None]
    return replace(decision, told_mm=max(sizes, default=None), told_count=max(counts, default=None))


def _sentences(statements: list[Statement]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(" ".join(s.sentence.text.split()) for s in statements))


def _rounded(point: Point) -> Point:
    x, y, z = (round(value, 1) for value in point)
    return x, y, z
