"""The text bank: one vector per class, made once by a text encoder and carried inside every checkpoint.

Inference never needs a text encoder. An encoder is imported only when a bank is made; `voxicon.model.encoders` holds
them.

Sentences that differ in one word are nearly parallel, so that left and right kidney are nearly one vector. Three
things set them apart again and keep their meaning: taking away what all words share (`center`), reading short facts
beside the sentences (the template `RICH`), and turning the vectors of the body's sides away from each other
(`side_angle_deg`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from voxicon.errors import ConfigError
from voxicon.model.encoders import ENCODERS, WORDLESS, encode, find_clip

TEMPLATES = {
    "V1": "A computerized tomography of a {}.",
    "V2": "There is {} in this computerized tomography.",
    "V3": "This computerized tomography has a {}.",
    "V4": "A photo of a {}.",
}
"""Prompt templates. Source: Liu et al., ICCV 2023, ablation of prompts; V1 and V2 scored best."""

RICH = "rich"
"""Template that reads several texts per class and takes their mean: the sentences of `RICH_TEMPLATES` and the word's
facts. Averaging over templates is Radford et al., ICML 2021; facts in texts of their own are our choice: inside the
sentence they make it longer, and what two sentences share then weighs more, not less."""

RICH_TEMPLATES = ("V1", "V2", "V3")
"""Those of `TEMPLATES` that speak of a CT."""

ORIGINAL_ENCODER = "clip ViT-B/32 (stored)"
"""What weights of the authors say of their bank: its vectors came with them."""

ORIGINAL_TEMPLATE = "A computerized tomography of a {}"
"""Their template, without a full stop."""

VECTOR_NORM = 9.0
"""Length given to normalized vectors: the middle of the original bank's 8.1-9.6, so that a head
initialized the usual way sees inputs of the usual size."""


@dataclass(frozen=True)
class Word:
    """What is said of a class to a text encoder.

    Attributes:
        wording: Fills a template, such as ``left kidney``.
        side: Of the body; None for what lies in the middle or on both.
        facts: Short texts that are true of it, such as ``organ`` and ``left``; the template `RICH` reads them.
    """

    wording: str
    side: Literal["left", "right"] | None = None
    facts: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class TextBank:
    """Names and their vectors, with how they were made.

    Attributes:
        names: Canonical class names.
        vectors: (N, E) float32.
        prompts: The sentence behind each vector, or several, one a line, of the template `RICH`; the bare wording where
            the encoder reads no sentence.
        encoder: Which encoder made them, such as ``minilm``.
        centered: True when the mean vector was taken away and the rest scaled to `VECTOR_NORM`.
        template: `RICH`, a key of `TEMPLATES`, or a sentence with ``{}``; None where the encoder reads no sentence.
        side_angle_deg: As of `make_bank`.
        table_sha256: Of the vectors as they stood in a table, for the encoder ``table``.
    """

    names: tuple[str, ...]
    vectors: NDArray[np.float32]
    prompts: tuple[str, ...]
    encoder: str
    centered: bool = False
    template: str | None = None
    side_angle_deg: float = 0.0
    table_sha256: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Everything but the vectors, as plain data; what was not asked for is left out."""
        found = {
            "names": list(self.names),
            "prompts": list(self.prompts),
            "encoder": self.encoder,
            "centered": self.centered,
            "template": self.template,
        }
        if self.side_angle_deg:
            found["side_angle_deg"] = self.side_angle_deg
        return found if self.table_sha256 is None else {**found, "table_sha256": self.table_sha256}


def make_bank(
    words: Mapping[str, str | Word],
    *,
    encoder: str = "minilm",
    template: str = "V1",
    center: bool = True,
    side_angle_deg: float = 0.0,
    file: Path | None = None,
) -> TextBank:
    """Encode one word per class.

    Args:
        words: Canonical name → word, or a bare wording that fills the template.
        encoder: ``minilm`` (384-dim, offline, extra ``[text]``), ``clip`` (512-dim, of one's own), ``table`` (a file),
            ``onehot`` (as long as there are classes), or ``random`` (512-dim, seeded by the wording).
        template: A key of `TEMPLATES`, `RICH`, or a sentence with ``{}``. Encoders that read no sentence take no
            notice of it, but a wrong one is refused all the same.
        center: Take away the mean vector and rescale: sentences that differ in one word are nearly
            parallel (left/right kidney: cosine 0.9 and more), and what they share says nothing. A single
            class is left as it is: it would be its own mean.
        side_angle_deg: Least angle between a left and a right word. Above 0 the vectors get one more coordinate; words
            with a side are turned by half of the angle, left ones towards it and right ones away from it. Lengths stay.
        file: As of `voxicon.model.encoders.encode`.

    Raises:
        ConfigError: Unknown encoder or template, no class or two with the same wording or vector, an angle that is
            none, or the encoder cannot be used.
    """
    if not 0 <= side_angle_deg < 180:
        raise ConfigError(f"side angle {side_angle_deg}: expected 0 (none) or more, and less than 180 degrees")
    every = _as_words(words)
    prompts, used = _prompts(every, encoder, template)
    raw = _read(encoder, tuple(every), prompts, used, file)
    middle = raw.mean(axis=0) if center and len(prompts) > 1 else None
    return _bank(every, prompts, raw, middle, encoder=encoder, template=used, side_angle_deg=side_angle_deg)


def added_bank(earlier: Mapping[str, Any], words: Mapping[str, str | Word], *, file: Path | None = None) -> TextBank:
    """Vectors of more words, made as those of an earlier bank were: encoder, template, center, length and side angle.

    A word's vector then means the same in both. Where that cannot be, the new words get a bank of their own: one-hot
    vectors are as long as there are words, and an encoder that only the makers of the weights had cannot be asked. The
    authors' own vectors are CLIP's, so where it is on this machine new words are made by it, in the authors' sentence.

    Args:
        earlier: What `TextBank.to_dict` gave.
        words: As of `make_bank`.
        file: As of `make_bank`. A table must hold the earlier words too, with the same numbers.

    Raises:
        ConfigError: As `make_bank`, or a table is not the one that the earlier words came from.
    """
    encoder, template = earlier.get("encoder"), earlier.get("template") or "V1"
    angle = float(earlier.get("side_angle_deg", 0.0))
    if encoder == ORIGINAL_ENCODER and find_clip(file) is not None:
        encoder, template = "clip", ORIGINAL_TEMPLATE
    if encoder == "onehot":
        return make_bank(words, encoder="onehot", center=bool(earlier.get("centered")), side_angle_deg=angle)
    if encoder not in ENCODERS:
        return make_bank(words)
    every = _as_words(words)
    prompts, used = _prompts(every, encoder, template)
    raw, middle = _read(encoder, tuple(every), prompts, used, file), None
    if earlier.get("centered") or encoder == "table":
        theirs = _read(encoder, tuple(earlier["names"]), tuple(earlier["prompts"]), used, file)
        if encoder == "table" and _digest(theirs) != earlier.get("table_sha256"):
            raise ConfigError(f"{file}: other vectors than these weights' words were made from; give the same table")
        middle = theirs.mean(axis=0) if earlier.get("centered") else None
    return _bank(every, prompts, raw, middle, encoder=encoder, template=used, side_angle_deg=angle)


def _bank(
    words: Mapping[str, Word],
    prompts: tuple[str, ...],
    raw: NDArray[np.float32],
    middle: NDArray[np.float32] | None,
    *,
    encoder: str,
    template: str | None,
    side_angle_deg: float,
) -> TextBank:
    """A bank of vectors as the encoder gave them, without what lies in their middle, and with the sides apart."""
    names = tuple(words)
    vectors = raw if middle is None else _centered(raw, middle, names)
    vectors = _turned(vectors, words, side_angle_deg)
    _refuse_equal(names, vectors)
    digest = _digest(raw) if encoder == "table" else None
    return TextBank(names, vectors, prompts, encoder, middle is not None, template, side_angle_deg, digest)


def _as_words(words: Mapping[str, str | Word]) -> dict[str, Word]:
    return {name: Word(word) if isinstance(word, str) else word for name, word in words.items()}


def _prompts(words: Mapping[str, Word], encoder: str, template: str) -> tuple[tuple[str, ...], str | None]:
    """What the encoder is given for each class, and the template that it came from."""
    # Made even where no sentence is read: a misspelled template must not go unseen.
    prompts = tuple(_prompt(word, template) for word in words.values())
    if encoder in WORDLESS:
        prompts = tuple(word.wording for word in words.values())
    if len(set(prompts)) < max(len(prompts), 1):
        raise ConfigError(
            "two classes have the same wording, or there is none; words that are equal find the same mask"
        )
    return prompts, None if encoder in WORDLESS else template


def _prompt(word: Word, template: str) -> str:
    """A sentence; of the template `RICH` all its texts, one a line."""
    if template == RICH:
        texts = [TEMPLATES[key].replace("{}", word.wording) for key in RICH_TEMPLATES]
        return "\n".join(" ".join(text.split()) for text in (*texts, *word.facts))
    sentence = TEMPLATES.get(template, template)
    if "{}" not in sentence:
        known = ", ".join((*TEMPLATES, RICH))
        raise ConfigError(f"template {template!r} is neither one of {known} nor a sentence with {{}}")
    # Not str.format: a wording or a template may hold other braces.
    return sentence.replace("{}", word.wording)


def _read(
    encoder: str, names: tuple[str, ...], prompts: Sequence[str], template: str | None, file: Path | None
) -> NDArray[np.float32]:
    """Vectors as the encoder gives them, (N, E) float32; of the template `RICH` the mean of a class's texts."""
    if template != RICH:
        return encode(encoder, prompts, names=names, file=file)
    texts = [prompt.split("\n") for prompt in prompts]
    vectors = encode(encoder, [text for of_class in texts for text in of_class], file=file)
    ends = np.cumsum([len(of_class) for of_class in texts])[:-1]
    return np.stack([of_class.mean(axis=0) for of_class in np.split(vectors, ends)])


def _centered(vectors: NDArray[np.float32], center: NDArray[np.float32], names: tuple[str, ...]) -> NDArray[np.float32]:
    """What is left of vectors (N, E) without the center (E,), at the length `VECTOR_NORM`."""
    rest = vectors - center
    lengths = np.linalg.norm(rest, axis=1, keepdims=True)
    if not lengths.all():
        lost = names[int(np.argmin(lengths))]
        raise ConfigError(f"{lost}: its vector is the mean of all, so nothing is left of it; do not center these words")
    return np.asarray(VECTOR_NORM * rest / lengths, dtype=np.float32)


def _turned(vectors: NDArray[np.float32], words: Mapping[str, Word], angle_deg: float) -> NDArray[np.float32]:
    """Vectors (N, E) with the side as coordinate E + 1, at their old lengths; as they are where the angle is 0.

    Of a left and a right word with cosine c, the new cosine is c cos²(angle/2) - sin²(angle/2): at most cos(angle).
    Two words of one side come closer: c cos²(angle/2) + sin²(angle/2).
    """
    if not angle_deg:
        return vectors
    half = np.deg2rad(angle_deg) / 2
    turns = np.array([{"left": half, "right": -half, None: 0.0}[word.side] for word in words.values()])[:, None]
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.hstack([vectors * np.cos(turns), lengths * np.sin(turns)]).astype(np.float32)


def _refuse_equal(names: tuple[str, ...], vectors: NDArray[np.float32]) -> None:
    seen: dict[bytes, str] = {}
    for name, vector in zip(names, vectors, strict=True):
        other = seen.setdefault(vector.tobytes(), name)
        if other != name:
            raise ConfigError(
                f"{other} and {name} have the same vector; words that are equal find the same mask: word them "
                "otherwise, or set the body's sides apart by a side angle"
            )


def _digest(vectors: NDArray[np.float32]) -> str:
    return hashlib.sha256(np.ascontiguousarray(vectors).tobytes()).hexdigest()
