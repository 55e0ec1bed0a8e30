"""Words taken away, called otherwise, or given controllers of their own, in a file."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.weights_on_disk import CLASSES, write_small_weights
from voxicon.errors import UnknownClass, UsageError
from voxicon.io.atomic import file_sha256
from voxicon.model.checkpoint import load_checkpoint
from voxicon.rewording import own_controllers, reword

IMAGE = torch.rand(1, 1, 16, 16, 16, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    inference = {
        "window": [16, 16, 16],
        "overlap": 0.25,
        "thresholds": {"liver": 0.7, "spleen": 0.6},
        "smoothing_mm": {"liver": 2.0},
        "depth_mm": {"liver": 3.0, "spleen": 4.0},
        "peaks": {"liver": 0.8, "spleen": 0.9},
    }
    return write_small_weights(tmp_path / "old.safetensors", inference=inference)


@torch.inference_mode()
def test_words_go_and_the_others_answer_as_before(weights: Path, tmp_path: Path) -> None:
    out = tmp_path / "less.safetensors"
    reword(weights, out, remove=["Liver", "liver tumour"])
    old, new = load_checkpoint(weights), load_checkpoint(out)
    left = tuple(name for name in CLASSES if not name.startswith("liver"))
    assert new.network.classes == new.metadata.trained == left
    assert torch.equal(new.network(IMAGE), old.network(IMAGE, left))
    assert new.metadata.inference["thresholds"] == {"spleen": 0.6}
    assert new.metadata.inference["smoothing_mm"] == {}
    assert new.metadata.inference["depth_mm"] == {"spleen": 4.0}
    assert new.metadata.inference["peaks"] == {"spleen": 0.9}
    (entry,) = new.metadata.card["extensions"]
    assert entry == {
        "removed": ["liver", "liver_tumor"],
        "from": {"file": "old.safetensors", "sha256": file_sha256(weights)},
    }


@torch.inference_mode()
def test_a_word_by_another_name_finds_the_same(weights: Path, tmp_path: Path) -> None:
    out = tmp_path / "other.safetensors"
    reword(weights, out, rename={"liver": "gallbladder"})
    old, new = load_checkpoint(weights), load_checkpoint(out)
    assert "gallbladder" in new.metadata.trained
    assert "liver" not in new.network.classes
    assert torch.equal(new.network(IMAGE), old.network(IMAGE))
    assert new.metadata.inference["thresholds"] == {"gallbladder": 0.7, "spleen": 0.6}


@torch.inference_mode()
def test_controllers_of_their_own_give_equal_logits(weights: Path, tmp_path: Path) -> None:
    out = tmp_path / "own.safetensors"
    own_controllers(weights, out)
    old, new = load_checkpoint(weights), load_checkpoint(out)
    assert new.metadata.network.controller == "per_class"
    torch.testing.assert_close(new.network(IMAGE), old.network(IMAGE), atol=1e-3, rtol=1e-3)
    with pytest.raises(UsageError, match="every class has a controller of its own already"):
        own_controllers(out, tmp_path / "again.safetensors")


def test_what_makes_no_sense_is_refused(weights: Path, tmp_path: Path) -> None:
    out = tmp_path / "new.safetensors"
    with pytest.raises(UnknownClass, match="have no word gallbladder"):
        reword(weights, out, remove=["gallbladder"])
    with pytest.raises(UnknownClass, match="unknown class 'livver'"):
        reword(weights, out, rename={"livver": "gallbladder"})
    with pytest.raises(UnknownClass, match="two words would have this name"):
        reword(weights, out, rename={"liver": "spleen"})
    with pytest.raises(UnknownClass, match="no word would be left"):
        reword(weights, out, remove=CLASSES)
    with pytest.raises(UsageError, match=r"must end in \.safetensors"):
        reword(weights, tmp_path / "new.pt", remove=["liver"])
    assert not out.exists()
