"""How a run is described: the learning rate by hand, presets by name, and what makes no sense."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from voxicon.train.augment import PAPER, AugmentConfig
from voxicon.train.config import OptimizeConfig, learning_rate


def test_learning_rate_by_hand() -> None:
    config = OptimizeConfig(steps=110, warmup=10, learning_rate=1.0)
    assert learning_rate(config, 0) == pytest.approx(0.1)
    assert learning_rate(config, 9) == pytest.approx(1.0)
    assert learning_rate(config, 10) == pytest.approx(1.0)
    assert learning_rate(config, 60) == pytest.approx(0.5)
    assert learning_rate(config, 110) == pytest.approx(0.0)
    short = OptimizeConfig(steps=5, warmup=10, learning_rate=1.0)
    assert learning_rate(short, 4) == pytest.approx(0.5)
    assert learning_rate(OptimizeConfig(steps=5, warmup=0, learning_rate=1.0), 0) == 1.0


def test_augmentation_by_name_or_by_range() -> None:
    assert OptimizeConfig(steps=1).augment == PAPER
    named = OptimizeConfig.model_validate({"steps": 1, "augment": "strong"})
    assert named.augment == AugmentConfig()
    ranges = OptimizeConfig.model_validate({"steps": 1, "augment": {"noise_hu": 3}})
    assert ranges.augment == AugmentConfig(noise_hu=3)
    assert OptimizeConfig.model_validate_json(named.model_dump_json()) == named


def test_patches_per_step() -> None:
    assert OptimizeConfig(steps=1, batch=3, accumulate=4).patches_per_step == 12


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"steps": 0}, "greater than 0"),
        ({"steps": 1, "augment": "weak"}, "no such preset; known: paper, strong"),
        ({"steps": 1, "augment": {"mirror": 1}}, "mirror"),
        ({"steps": 1, "patience": 2}, "patience counts validations, but validate_every is 0"),
        ({"steps": 1, "balanced_lesions": True}, "balanced_lesions needs false_voxels.lesion"),
        ({"steps": 1, "patch": [8, 0, 8]}, "at least one voxel"),
        ({"steps": 1, "sampling": {"datasets": "all"}}, "sampling.datasets"),
        ({"steps": 1, "precision": "fp16"}, "precision"),
        ({"steps": 1, "ema": 1}, "less than 1"),
        ({"steps": 1, "patch": [8, 2, 8], "loss_every": 3}, r"loss_every is 3, of a patch of \[8, 2, 8\] voxels"),
    ],
)
def test_what_makes_no_sense_is_refused(values: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        OptimizeConfig.model_validate(values)
