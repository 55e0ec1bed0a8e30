"""What a report states, as data: one statement per thing said about organs or lesions."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

Kind = Literal["normal", "absent", "present", "uncertain", "removed"]
Finding = Literal["", "tumor", "cyst", "lesion", "benign"]


@dataclass(frozen=True)
class Sentence:
    """A sentence of the report, as it was written, and where: ``text[start:end]``."""

    text: str
    start: int
    end: int


@dataclass(frozen=True)
class Statement:
    """One thing that a sentence says.

    Attributes:
        sentence: Where it is said.
        kind: ``normal``: the organs are, or are free of focal lesions. ``absent`` and ``present``: the finding is
            not, or is, in the organs. ``uncertain``: it may be. ``removed``: the organs were taken out.
        organs: Canonical names. Empty for a lesion class that lies in no organ of the vocabulary.
        lesions: Classes that are meant: none of them where normal or absent, at least one of them where present.
            Empty where the vocabulary has no class for the finding (a hepatic cyst, a stone).
        finding: What was found or denied; ``benign`` is anything that is neither tumor nor cyst, ``lesion`` may be
            anything. Empty for ``removed``, and for ``normal`` where no lesion is named.
        side: As told. Where it is empty and a paired organ is meant, ``present`` means at least one of them.
        count: How many, where a number is told.
        size_mm: Largest size told.
        otherwise: Said of the rest, beside what other statements say ("otherwise unremarkable").
        unnamed: The organ is one of "the remaining organs" and not named; left out where the report says anything
            else of it.
        cues: The words that decided, in small letters.
    """

    sentence: Sentence
    kind: Kind
    organs: tuple[str, ...]
    lesions: tuple[str, ...]
    finding: Finding = ""
    side: Literal["", "left", "right", "both"] = ""
    count: int | None = None
    size_mm: float | None = None
    otherwise: bool = False
    unnamed: bool = False
    cues: tuple[str, ...] = ()


@dataclass(frozen=True)
class Report:
    """What was understood of a report.

    Attributes:
        statements: In the order of the text.
        unread: Sentences that gave no statement, in the order of the text.
        skipped: Sentences of sections that state nothing, such as the indication.
    """

    statements: tuple[Statement, ...]
    unread: tuple[Sentence, ...] = ()
    skipped: tuple[Sentence, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)
