"""A run that starts from earlier weights, and one that learns a class from planted lesions alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.test_training import built, folder
from tests.train.phantoms import write_dataset
from voxicon.errors import CheckpointError, ConfigError
from voxicon.io.atomic import file_sha256
from voxicon.model.checkpoint import load_checkpoint, read_metadata

__all__ = ["folder"]


# --- from earlier weights ---------------------------------------------------------------------------------------


def test_a_run_starts_from_the_numbers_of_earlier_weights(folder: Path) -> None:
    first = built(folder, "a", "b").run()
    second = built(folder, "a", "b", run="second", start="run/weights.safetensors")
    tensors = load_checkpoint(first).network.state_dict()
    for name, value in second.network.state_dict().items():
        torch.testing.assert_close(value, tensors[name], atol=1e-3, rtol=1e-3)
    weights = second.run()
    start = read_metadata(weights).card["start"]
    assert start == {"file": "weights.safetensors", "sha256": file_sha256(first)}
    first.write_bytes(built(folder, "a", "b", run="third", optimize={"seed": 9}).run().read_bytes())
    with pytest.raises(CheckpointError, match="other settings"):
        built(folder, "a", "b", run="second", start="run/weights.safetensors")


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"network": {"backbone": "compact", "options": {"channels": [16, 32]}}}, "another network"),
        ({"text": {"encoder": "random", "center": False}}, "another network|other vectors"),
    ],
)
def test_weights_of_another_network_or_other_words_are_no_start(
    folder: Path, changes: dict[str, Any], found: str
) -> None:
    built(folder, "a", "b").run()
    with pytest.raises(ConfigError, match=found):
        built(folder, "a", "b", run="second", start="run/weights.safetensors", **changes)
    with pytest.raises(CheckpointError, match=r"nothing\.safetensors"):
        built(folder, "a", "b", run="second", start="nothing.safetensors")


def test_inputs_that_the_earlier_network_had_not_start_at_zero(folder: Path) -> None:
    first = load_checkpoint(built(folder, "a", "b").run()).network
    contrast = {"sides": [[1, 3], [1, 5]], "tissue": [0.4, 0.7], "full": 0.05}
    changes = {"network": {"options": {**(first.config.options if first.config else {}), "contrast": contrast}}}
    second = built(folder, "a", "b", run="second", start="run/weights.safetensors", **changes).network
    image = torch.rand(1, 1, 32, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        torch.testing.assert_close(second(image), first(image), atol=1e-2, rtol=1e-2)
    weight = second.state_dict()["backbone.stem.conv.weight"]
    assert weight.shape[1] == 3
    assert weight[:, 0].any()
    assert not weight[:, 1:].any()


def test_the_leak_of_the_class_networks_may_differ_from_the_start(folder: Path) -> None:
    built(folder, "a", "b").run()
    options = built(folder, "a", "b", run="same").metadata.network.options
    changes = {"network": {"options": options, "leak": 0.2}}
    assert built(folder, "a", "b", run="second", start="run/weights.safetensors", **changes).network.head.leak == 0.2


# --- planted lesions --------------------------------------------------------------------------------------------


def test_a_class_that_no_scan_shows_is_learned_from_planted_lesions(tmp_path: Path) -> None:
    empty = {"liver": {"union": ["liver", "lesion"]}, "liver_tumor": {"union": []}, "spleen": {"union": ["spleen"]}}
    write_dataset(tmp_path, "a", annotates=empty)
    plain = built(tmp_path, "a", run="plain")
    assert plain.metadata.trained == ("spleen", "liver")
    assert plain.metadata.card["never_shown"] == ["liver_tumor"]
    planted = built(tmp_path, "a", run="planted", optimize={"lesions": {"share": 1.0}})
    assert planted.metadata.trained == ("spleen", "liver", "liver_tumor")
    seen = [planted.sampler.batch(step, [0]).target_BNXYZ[0] for step in range(8)]
    index = planted.network.classes.index("liver_tumor")
    assert sum(bool(target[index].any()) for target in seen) >= 4
