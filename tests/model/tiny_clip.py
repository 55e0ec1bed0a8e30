"""CLIP's text tower in small, with random numbers and a tokenizer of its own, as files in a folder."""

from __future__ import annotations

import json
from pathlib import Path

import torch

WIDTH, PROJECTION, LONGEST = 16, 12, 77


def write_tiny_clip(folder: Path, *, seed: int = 0) -> Path:
    """What `from_pretrained` reads: weights, their shape, and a tokenizer that knows letters only."""
    from transformers import CLIPTextConfig, CLIPTextModelWithProjection, CLIPTokenizer

    letters = [chr(code) for code in range(33, 127)]
    words = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps({word: number for number, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt")).save_pretrained(str(folder))
    torch.manual_seed(seed)
    config = CLIPTextConfig(
        vocab_size=len(words), hidden_size=WIDTH, intermediate_size=32, projection_dim=PROJECTION, num_hidden_layers=2,
        num_attention_heads=2, max_position_embeddings=LONGEST, bos_token_id=len(words) - 2,
        eos_token_id=len(words) - 1, pad_token_id=len(words) - 1,
    )  # fmt: skip
    CLIPTextModelWithProjection(config).save_pretrained(str(folder))
    return folder
