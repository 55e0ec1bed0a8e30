"""From a scan and words to masks: the Python front door."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.phantoms import body
from tests.weights_on_disk import CLASSES, write_small_weights
from voxicon.errors import CheckpointError, ConfigError, UnknownClass
from voxicon.segmenter import Segmenter, load, pick_device


@pytest.fixture(scope="module")
def segmenter(tmp_path_factory: pytest.TempPathFactory) -> Segmenter:
    return load(write_small_weights(tmp_path_factory.mktemp("weights") / "small.safetensors"), device="cpu")


def test_masks_come_back_on_the_very_grid_of_the_scan(segmenter: Segmenter) -> None:
    volume = body((5.0, 5.0, 7.0))
    result = segmenter.segment(volume)
    assert result.masks.geometry is volume.geometry
    assert result.masks.names == segmenter.classes == CLASSES
    assert result.masks.words.any()
    assert set(result.seconds) == {"read", "prepare", "network", "cleanup", "restore"}
    assert result.weights["name"] == "small"
    assert len(str(result.weights["sha256"])) == 64


def test_words_choose_classes_in_their_order(segmenter: Segmenter) -> None:
    result = segmenter.segment(body((8.0, 8.0, 8.0)), classes=["Liver", "right kidney", "6"])
    assert result.masks.names == ("liver", "kidney_right")


def test_a_class_alone_equals_the_class_among_all(segmenter: Segmenter) -> None:
    volume = body((8.0, 8.0, 8.0))
    every = segmenter.segment(volume)
    # The tumor's cleanup looks at the liver, so the liver is computed although nobody asked for it.
    alone = segmenter.segment(volume, classes=["liver tumour"])
    assert alone.masks.names == ("liver_tumor",)
    assert (alone.masks["liver_tumor"] == every.masks["liver_tumor"]).all()


def test_cleanup_none_keeps_what_cleanup_removes(segmenter: Segmenter) -> None:
    volume = body((8.0, 8.0, 8.0))
    raw = segmenter.segment(volume, cleanup="none")
    assert raw.notes == ()
    assert segmenter.segment(volume).notes
    assert raw.masks.count("spleen") >= segmenter.segment(volume).masks.count("spleen")
    assert raw.settings["cleanup"] == "none"


def test_the_scan_is_not_changed(segmenter: Segmenter) -> None:
    volume = body((8.0, 8.0, 8.0))
    before = volume.hu.copy()
    segmenter.segment(volume, classes=["liver"])
    assert (np.asarray(volume.hu) == before).all()


def test_progress_is_told(segmenter: Segmenter) -> None:
    told: list[tuple[int, int]] = []
    segmenter.segment(body((8.0, 8.0, 8.0)), classes=["liver"], progress=lambda *step: told.append(step))
    assert told
    assert told[-1][0] == told[-1][1]


def test_unknown_and_untrained_classes_are_refused(segmenter: Segmenter) -> None:
    with pytest.raises(UnknownClass, match="did you mean spleen"):
        segmenter.segment(body((8.0, 8.0, 8.0)), classes=["spleeen"])
    with pytest.raises(UnknownClass, match="not trained for aorta; they find: spleen"):
        segmenter.segment(body((8.0, 8.0, 8.0)), classes=["aorta"])


def test_weights_that_make_no_sense_are_refused(tmp_path: Path) -> None:
    strange = write_small_weights(tmp_path / "a.safetensors", classes=("class_01", "class_02"))
    with pytest.raises(CheckpointError, match="none of the classes"):
        load(strange, device="cpu")
    for settings in ({}, {"window": [16, 16]}, {"window": [16] * 3, "x": 1}):
        broken = write_small_weights(tmp_path / "b.safetensors", inference=settings)
        with pytest.raises(CheckpointError, match="inference settings"):
            load(broken, device="cpu")
    with pytest.raises(CheckpointError, match="preparation settings"):
        load(write_small_weights(tmp_path / "c.safetensors", preparation={}), device="cpu")


def test_devices() -> None:
    assert pick_device("cpu") == torch.device("cpu")
    assert pick_device("auto").type in {"cpu", "cuda", "mps"}
    with pytest.raises(ConfigError, match="unknown"):
        pick_device("toaster")
    with pytest.raises(ConfigError, match="not available"):
        pick_device("cuda:99")
