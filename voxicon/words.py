"""Words as a network meets them: their vectors, of weights or of a bank yet to be made, and which are nearly one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxicon.core.concepts import Vocabulary
from voxicon.errors import ConfigError, UnknownClass
from voxicon.io.atomic import write_bytes
from voxicon.model.checkpoint import load_checkpoint
from voxicon.model.tables import read_table, to_bytes
from voxicon.model.text import TextBank, Word, make_bank
from voxicon.recipe import TextSection
from voxicon.wording import free_word, word_of

NEARLY_SAME = 0.95
"""Cosine above which two words are called nearly the same. Own choice: two vectors of one length then differ by less
than a third of it (sqrt(2 - 2 * 0.95) = 0.32), and the parameters that a network makes of them by less than a third of
what it can make of opposite words. Left and right of an organ lie above it in ``minilm`` unless they are centered."""


@dataclass(frozen=True)
class Entry:
    """A word and its vector.

    Attributes:
        name: Of the class.
        prompt: What the encoder read; empty where nobody wrote it down.
        encoder: What made the vector; empty likewise.
        vector: (E,) float32.
        space: Words of one space were made alike, and only their vectors can be compared.
    """

    name: str
    prompt: str
    encoder: str
    vector: NDArray[np.float32]
    space: int = 0

    @property
    def norm(self) -> float:
        """Length of the vector."""
        return float(np.linalg.norm(self.vector))


@dataclass(frozen=True)
class Pair:
    """Two words and the cosine of the angle between them."""

    first: str
    second: str
    cosine: float


def encode_words(words: Iterable[str], text: TextSection, *, free: bool = False) -> TextBank:
    """A bank of words.

    Args:
        words: Names, aliases or ids of the vocabulary; each once.
        text: How words become vectors; its file is relative to the working folder.
        free: Words of any kind: each is its own name, unless the vocabulary has it.

    Raises:
        UnknownClass: A word that is not in the vocabulary, unless `free`, or one that is there twice.
        ConfigError: As of `voxicon.model.text.make_bank`.
    """
    vocabulary, found = Vocabulary.default(), dict[str, Word]()
    for given in words:
        name, word = _understood(given, vocabulary, free)
        if name in found:
            raise UnknownClass(f"{given!r}: {name} is asked for twice; name each word once")
        found[name] = word
    return make_bank(found, **text.model_dump())


def _understood(given: str, vocabulary: Vocabulary, free: bool) -> tuple[str, Word]:
    try:
        concept = vocabulary.resolve(given)
    except UnknownClass as error:
        if free and given.strip():
            return given.strip(), free_word(given.strip())
        raise UnknownClass(f"{error}; --free takes words that are in no vocabulary") from None
    return concept.name, word_of(concept, vocabulary)


def write_bank(bank: TextBank, path: Path) -> None:
    """Write a bank as a table, which the encoder ``table`` reads.

    Raises:
        ConfigError: The path ends in something else than ``.safetensors``, ``.json`` or ``.csv``.
        OutputError: It cannot be written.
    """
    write_bytes(path, to_bytes(path.suffix, bank.vectors, bank.to_dict()))


def entries_of_bank(bank: TextBank) -> list[Entry]:
    """The words of a bank."""
    return _entries(bank.names, bank.vectors, bank.to_dict(), 0)


def entries_of_table(path: Path) -> list[Entry]:
    """The words of a table.

    Raises:
        ConfigError: As of `voxicon.model.tables.read_table`.
    """
    names, vectors, made = read_table(path)
    return _entries(names, vectors, made, 0)


def entries_of_weights(path: Path) -> list[Entry]:
    """The words that weights carry: those of their first head, then those that were added.

    Raises:
        CheckpointError: The weights are damaged.
    """
    checkpoint = load_checkpoint(path)
    shape, network, bank = checkpoint.metadata.network, checkpoint.network, checkpoint.metadata.text_bank
    found = _entries(shape.classes, network.text_vectors.numpy(), bank, 0)
    banks = bank.get("extensions", ())
    for number, (each, extension) in enumerate(zip(shape.extensions, network.extensions, strict=True)):
        own = banks[number] if number < len(banks) else {}
        space = 0 if _alike(own, bank) else number + 1
        vectors: Any = extension.text_vectors
        found += _entries(each.classes, vectors.numpy(), own, space)
    return found


def _alike(bank: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    keys = ("encoder", "template", "centered", "side_angle_deg")
    return [bank.get(key) for key in keys] == [other.get(key) for key in keys] and bank.get("encoder") != "onehot"


def _entries(names: Iterable[str], vectors: NDArray[np.float32], made: Mapping[str, Any], space: int) -> list[Entry]:
    """Words and vectors; what is known of how they were made goes by name, as words may have been renamed since."""
    prompts = dict(zip(made.get("names", ()), made.get("prompts", ()), strict=False))
    encoder = str(made.get("encoder", ""))
    return [
        Entry(name, prompts.get(name, ""), encoder, vector, space) for name, vector in zip(names, vectors, strict=True)
    ]


def cosines(entries: list[Entry]) -> NDArray[np.float32]:
    """Cosines (N, N) of all pairs, 1 on the diagonal; NaN where two words are of different spaces.

    Raises:
        ConfigError: A vector is zero.
    """
    flat = [entry.name for entry in entries if not entry.norm]
    if flat:
        raise ConfigError(f"{', '.join(flat)}: the vector is zero and points nowhere; its weights never got words")
    found = np.full((len(entries), len(entries)), np.nan, dtype=np.float32)
    for space in {entry.space for entry in entries}:
        rows = [row for row, entry in enumerate(entries) if entry.space == space]
        unit = np.stack([entries[row].vector / entries[row].norm for row in rows])
        found[np.ix_(rows, rows)] = np.clip(unit @ unit.T, -1, 1)
    return found


def closest_pairs(entries: list[Entry]) -> list[Pair]:
    """All pairs of one space, the closest first; none for a single word."""
    found, names = cosines(entries), [entry.name for entry in entries]
    rows, columns = np.triu_indices(len(entries), 1)
    pairs = [Pair(names[r], names[c], float(found[r, c])) for r, c in zip(rows, columns, strict=True)]
    return sorted((pair for pair in pairs if not np.isnan(pair.cosine)), key=lambda pair: -pair.cosine)


def neighbors(entries: list[Entry]) -> dict[str, Pair]:
    """Name → pair with the nearest other word of its space; words that are alone in theirs have none."""
    found: dict[str, Pair] = {}
    for pair in closest_pairs(entries):
        found.setdefault(pair.first, pair)
        found.setdefault(pair.second, Pair(pair.second, pair.first, pair.cosine))
    return found
