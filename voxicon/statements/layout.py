"""How a report is laid out: sections, headings, and the sentences under them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from voxicon.statements.lexicon import grammar, key_of
from voxicon.statements.statement import Sentence

_BULLET = r"(?:[-*•]|\(?\d{1,2}[.)]|\(?[a-z]\))"
_HEADING = re.compile(rf"\s*{_BULLET}?\s*([^\W\d][^:.;]{{0,60}}?)\s*:(?=\s|$)", re.IGNORECASE)
_ITEM = re.compile(rf"\s*{_BULLET}\s", re.IGNORECASE)
_END = re.compile(r"[.!?]+(?=\s|$)")


@dataclass(frozen=True)
class Passage:
    """A sentence and what stands over it.

    Attributes:
        sentence: With its heading, where it begins with one.
        body: Without.
        heading: Such as "LIVER"; empty where there is none.
        skipped: It is in a section that states nothing.
    """

    sentence: Sentence
    body: str
    heading: str
    skipped: bool


def passages(text: str, is_heading: Callable[[str], bool]) -> Iterator[Passage]:
    """The sentences of a report in their order.

    A heading holds to the end of its paragraph; lines that do not end like a sentence go on in the next one. Where
    there is any section, what precedes the first one is skipped; without any, all of it is read.

    Args:
        text: The report.
        is_heading: Tells whether words before a colon are a heading or a part of the sentence.
    """
    spans = list(_paragraphs(text))
    section = "skipped" if any(_section_of(text[start:end]) for start, end in spans) else "read"
    for start, end in spans:
        heading = ""
        for first, last in _sentences(text, start, end):
            at = first
            while found := _HEADING.match(text, at, last):
                named = _section_named(found[1])
                if not named and not is_heading(found[1]):
                    break
                section, heading = named or section, "" if named else found[1]
                at = found.end()
            if _section_named(text[at:last]):
                section = _section_named(text[at:last])
            elif re.search(r"[^\W\d_]{2}", text[at:last]):
                yield Passage(Sentence(text[first:last], first, last), text[at:last], heading, section == "skipped")


def _paragraphs(text: str) -> Iterator[tuple[int, int]]:
    start = end = 0
    for line in re.finditer(r"[^\n\r]*[\n\r]*", text):
        content = line[0].strip()
        open_end = text[start:end].rstrip()[-1:] not in ("", ".", "!", "?")
        goes_on = open_end and content and not _HEADING.match(line[0]) and not _ITEM.match(line[0])
        if not goes_on or _section_named(text[start:end]) or _section_named(content):
            if text[start:end].strip():
                yield start, end
            start = line.start()
        end = line.end()
        if "\n\n" in line[0].replace("\r", ""):
            yield start, end
            start = end
    if text[start:end].strip():
        yield start, end


def _sentences(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    at = start
    for stop in _END.finditer(text, start, end):
        word = re.search(r"[\w.]*$", text[at : stop.start()])
        if word and word[0].lower() in grammar()["abbreviations"]:
            continue
        if _section_named(text[at : stop.start()]):
            continue
        yield _trimmed(text, at, stop.end())
        at = stop.end()
    if text[at:end].strip():
        yield _trimmed(text, at, end)


def _trimmed(text: str, start: int, end: int) -> tuple[int, int]:
    inner = text[start:end]
    return start + len(inner) - len(inner.lstrip()), end - len(inner) + len(inner.rstrip())


def _section_of(paragraph: str) -> str:
    found = _HEADING.match(paragraph)
    return _section_named(found[1] if found else paragraph)


def _section_named(words: str) -> str:
    """``read`` or ``skipped`` for the name of a section, else an empty string."""
    if len(words) > 80:
        return ""
    key = key_of(words.strip().strip(":.").replace("&", "and"))
    return next((role for role, names in grammar()["sections"].items() if key and key in map(key_of, names)), "")
