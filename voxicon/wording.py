"""What is said of a class to a text encoder: its name as people say it, its side, and short facts.

The model reads words and knows no anatomy; here the vocabulary speaks to it.
"""

from __future__ import annotations

from collections.abc import Iterable

from voxicon.core.concepts import Concept, Vocabulary
from voxicon.model.text import Word


def words_of(names: Iterable[str], vocabulary: Vocabulary) -> dict[str, Word]:
    """Canonical name → what a text encoder is told of it.

    Raises:
        UnknownClass: Not a canonical name.
    """
    return {name: word_of(vocabulary[name], vocabulary) for name in names}


def word_of(concept: Concept, vocabulary: Vocabulary) -> Word:
    """What a text encoder is told of a class: facts are its kind, what it lies in, and its side.

    The side is a bare word. Measured with ``minilm``: "left" and "right" have cosine 0.41, "Left side." and "Right
    side." 0.91, and longer sentences 0.97 and more: all that two texts share makes them alike.
    """
    facts: list[str] = [concept.kind]
    if concept.parents:
        facts.append("in the " + " or the ".join(vocabulary[name].display_name for name in concept.parents))
    if concept.side:
        facts.append(concept.side)
    return Word(concept.display_name, concept.side, tuple(facts))


def free_word(text: str) -> Word:
    """A word that the vocabulary lacks: its wording is the text; it has the side that it says, and no other fact."""
    said = {"left", "right"} & set(text.casefold().split())
    if said == {"left"}:
        return Word(text, "left", ("left",))
    return Word(text, "right", ("right",)) if said == {"right"} else Word(text)
