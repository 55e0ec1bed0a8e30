"""A report read from beginning to end."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from voxicon.core.concepts import Vocabulary
from voxicon.errors import UnreadableFile
from voxicon.statements.clauses import Clause, clauses_of
from voxicon.statements.layout import Passage, passages
from voxicon.statements.lexicon import Lexicon
from voxicon.statements.meaning import ClauseReader, Topic
from voxicon.statements.places import Named, narrowed, places_of
from voxicon.statements.statement import Report, Statement

MOST_CHARACTERS = 200_000
"""A report of more is refused: it is another file. Own choice; a long report has 20 000."""


def load_report(path: Path) -> str:
    """The text of a report's file.

    Raises:
        UnreadableFile: It cannot be read, is no UTF-8 text, is too large, or holds no word.
    """
    try:
        # Four bytes are the most that one character takes.
        with path.open("rb") as file:
            content = file.read(4 * MOST_CHARACTERS + 1)
        text = content.decode("utf-8-sig")
    except OSError as error:
        raise UnreadableFile(f"{path}: cannot be read ({error.strerror}); give a text file with the report") from error
    except UnicodeDecodeError as error:
        if len(content) > 4 * MOST_CHARACTERS:
            raise _too_long(str(path), "more") from error
        raise UnreadableFile(
            f"{path}: is no text in UTF-8 (byte {error.start}); expected a plain text file; save the report as one"
        ) from error
    _check(text, str(path))
    return text


def read_report(text: str, vocabulary: Vocabulary | None = None) -> Report:
    """What a report states about organs and lesions.

    Rules and a table of words, nothing learned: a sentence that is not understood gives no statement and is listed as
    unread. Indication, history, comparison and technique state nothing.

    Args:
        text: The report, English.
        vocabulary: Whose organs and lesions; the package's own by default.

    Raises:
        UnreadableFile: There is no word, a character that no text holds, or too many of them.
    """
    _check(text, "report")
    reader = _Reader(_lexicon(vocabulary or Vocabulary.default()))
    statements: list[Statement] = []
    unread, skipped = [], []
    named: set[str] = set()
    for passage in passages(text, reader.is_heading):
        if passage.skipped:
            skipped.append(passage.sentence)
            continue
        found = reader.read(passage)
        statements.extend(found)
        if not found:
            unread.append(passage.sentence)
        if not all(statement.kind == "normal" for statement in found) or not found:
            named |= reader.organs(passage)
    kept = (s for s in statements if not (s.unnamed and named.intersection(s.organs)))
    return Report(tuple(kept), tuple(unread), tuple(skipped))


class _Reader:
    def __init__(self, lexicon: Lexicon) -> None:
        self.lexicon = lexicon
        self.clauses = ClauseReader(lexicon)

    def is_heading(self, words: str) -> bool:
        """Whether words before a colon only name anatomy: "KIDNEYS:", unlike "Hepatic lesions: none"."""
        kinds = {token.kind for token in self.lexicon.tokens(words)}
        return not kinds.intersection(
            ("lesion", "normal", "verb", "negation", "negation after", "number", "count", "uncertain")
        )

    def read(self, passage: Passage) -> list[Statement]:
        """The statements of a sentence, each once."""
        clauses = clauses_of(self.lexicon.tokens(passage.body))
        heading = self._heading(passage)
        sample = self._is_of_sample(passage)
        found: dict[tuple[object, ...], Statement] = {}
        before = heading
        for at, clause in enumerate(clauses):
            topic = before or self._ahead(clause, clauses[at + 1 :])
            for statement in self.clauses.read(clause, Topic(topic, passage.sentence, topic is heading, sample)):
                key = (statement.kind, statement.organs, statement.lesions, statement.finding, statement.size_mm)
                found.setdefault(key, statement)
            named = self.clauses.places(clause)
            before = named or before
        return list(found.values())

    def organs(self, passage: Passage) -> set[str]:
        """Every organ that a sentence or its heading names, understood or not."""
        tokens = self.lexicon.tokens(f"{passage.heading} {passage.body}")
        return {organ for token in tokens if token.kind == "place" for organ in token.value.classes}

    def _is_of_sample(self, passage: Passage) -> bool:
        heading, body = (self.lexicon.tokens(part) for part in (passage.heading, passage.body))
        operated = any(token.kind in ("removal", "part of removal") for token in heading)
        return operated or any(token.kind == "sample" for token in (*heading, *body))

    def _heading(self, passage: Passage) -> tuple[Named, ...]:
        tokens = self.lexicon.tokens(passage.heading)
        places = narrowed(places_of(tokens), self.lexicon.vocabulary)
        # A part, or a word that is not understood, narrows what the heading is about.
        if any(token.kind in ("part", "unknown") for token in tokens):
            return tuple(Named((), named.side) for named in places)
        return places

    def _ahead(self, clause: Clause, rest: list[Clause]) -> tuple[Named, ...]:
        """Organs named later: "no mass and no stone in the kidneys", "aside from a cyst, the liver is normal"."""
        if not rest or not (clause.exception or (clause.has("negation") and rest[0].has("negation"))):
            return ()
        return self.clauses.places(rest[0]) or self._ahead(rest[0], rest[1:])


@lru_cache(maxsize=4)
def _lexicon(vocabulary: Vocabulary) -> Lexicon:
    return Lexicon(vocabulary)


def _check(text: str, name: str) -> None:
    if len(text) > MOST_CHARACTERS:
        raise _too_long(name, f"{len(text)}")
    if "\0" in text:
        raise UnreadableFile(f"{name}: holds zero bytes; expected plain text; save the report as a text file")
    if not any(character.isalpha() for character in text):
        raise UnreadableFile(f"{name}: holds no word; expected a written report; give the file with its text")


def _too_long(name: str, found: str) -> UnreadableFile:
    return UnreadableFile(
        f"{name}: holds {found} characters than fit a report; expected at most {MOST_CHARACTERS}; give one report alone"
    )
