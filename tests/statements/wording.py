"""Statements in the short notation of the tables beside this file."""

from __future__ import annotations

from voxicon.core.concepts import Vocabulary
from voxicon.statements import Report, Statement

VOCABULARY = Vocabulary.default()


def in_short(statement: Statement) -> str:
    """Such as "present tumor left kidney, 30 mm, 2x"."""
    names = (_bare(name) for name in (statement.organs or statement.lesions))
    what = [statement.kind, statement.finding, statement.side, "+".join(dict.fromkeys(names))]
    size = f"{statement.size_mm:g} mm" if statement.size_mm is not None else ""
    count = f"{statement.count}x" if statement.count is not None else ""
    words = " ".join(word for word in what if word)
    return ", ".join(part for part in (words, size, count, "otherwise" if statement.otherwise else "") if part)


def all_in_short(report: Report) -> str:
    """All statements, or "-"."""
    return "; ".join(map(in_short, report.statements)) or "-"


def _bare(name: str) -> str:
    side = VOCABULARY[name].side
    return name.removesuffix(f"_{side}") if side else name
