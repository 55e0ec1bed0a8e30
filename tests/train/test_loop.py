"""Training learns, and a run that was killed and resumed is the run that was not."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.data.test_card import GOOD
from voxicon.core.geometry import Geometry
from voxicon.core.volume import AIR_HU, Volume
from voxicon.data.card import parse_card
from voxicon.data.harmonise import harmonise
from voxicon.errors import CheckpointError, ConfigError
from voxicon.model.checkpoint import Metadata, load_checkpoint
from voxicon.model.network import NetworkConfig, build_network
from voxicon.train.augment import AugmentConfig
from voxicon.train.loop import OptimizeConfig, Trainer, learning_rate
from voxicon.train.patches import PatchSampler, TrainingCase, build_case

CLASSES = ("liver", "liver_tumor", "spleen")
CARD = parse_card(GOOD, "example.yaml")
STILL = AugmentConfig(
    rotate_degrees=0, scale=1, elastic_mm=0, repaint=0, noise_hu=5, blur_voxels=0, thick_slices=0, contrast=1,
    brightness_hu=0, cut=0,
)  # fmt: skip


def phantom_case(spacing_mm: float = 3.0) -> TrainingCase:
    """A bright box with a brighter box inside; spleen is unknown to its card."""
    grid = Geometry((24, 24, 24), np.diag([3.0, 3.0, 3.0, 1.0]))
    labels = np.zeros(grid.shape, dtype=np.int16)
    labels[5:19, 6:18, 4:20] = 1
    labels[9:14, 9:14, 9:14] = 2
    hu = np.choose(labels, [-100.0, 60.0, 160.0]).astype(np.float32)
    targets = harmonise(labels, grid, CARD, CLASSES)
    return build_case(Volume(hu, grid), (labels, grid), CARD, targets, spacing_mm, {"liv": (0.0, 90.0)})


def trainer(folder: Path, steps: int = 6, **changes: object) -> Trainer:
    config = OptimizeConfig.model_validate(
        {"steps": steps, "patch": (16, 16, 16), "warmup": 2, "save_every": 3, "log_every": 1, "precision": "fp32",
         "learning_rate": 0.01, "augment": STILL, **changes}
    )  # fmt: skip
    shape = NetworkConfig(backbone="compact", classes=CLASSES, embedding_size=8, options={"channels": [16, 16]})
    torch.manual_seed(1)
    network = build_network(shape, torch.randn(3, 8))
    metadata = Metadata(
        network=shape, preparation={"spacing_mm": [3, 3, 3], "window_hu": [-250, 350]},
        inference={"window": [16, 16, 16]}, text_bank={}, trained=CLASSES, card={"title": "test"},
    )  # fmt: skip
    return Trainer(network, [phantom_case()], config, metadata, folder, torch.device("cpu"))


def test_build_case_brings_masks_and_structures_to_the_model_grid() -> None:
    case = phantom_case()
    assert case.known_N.tolist() == [True, True, False]
    assert case.hu_XYZ.shape == (24, 24, 24)
    assert ((case.words_XYZ & 1) > 0).sum() == 14 * 12 * 16
    assert ((case.words_XYZ & 2) > 0).sum() == 125
    assert set(case.present) == {0, 1}
    assert case.mean_hu == {1: 60.0}
    assert case.paint_hu == {1: (0.0, 90.0)}
    coarse = phantom_case(6.0)
    assert coarse.hu_XYZ.shape == (13, 13, 13)
    assert ((coarse.words_XYZ & 1) > 0).sum() * 8 == pytest.approx(14 * 12 * 16, rel=0.3)


def test_a_label_map_on_another_grid_is_refused() -> None:
    grid = Geometry((4, 4, 4), np.eye(4))
    labels = np.ones(grid.shape, dtype=np.int16)
    other = Geometry((4, 4, 4), np.diag([2.0, 1.0, 1.0, 1.0]))
    targets = harmonise(labels, other, CARD, CLASSES)
    with pytest.raises(ConfigError, match="label map's grid"):
        build_case(Volume(np.zeros((4, 4, 4), np.float32), grid), (labels, other), CARD, targets, 3.0, {})


def test_patches_repeat_with_their_step_and_center_on_small_classes() -> None:
    sampler = PatchSampler([phantom_case()], (8, 8, 8), 3.0, AugmentConfig(), seed=3, class_share=1.0)
    again = PatchSampler([phantom_case()], (8, 8, 8), 3.0, AugmentConfig(), seed=3, class_share=1.0)
    a, b = sampler.batch(5, 2), again.batch(5, 2)
    assert torch.equal(a.hu_B1XYZ, b.hu_B1XYZ)
    assert torch.equal(a.target_BNXYZ, b.target_BNXYZ)
    assert not torch.equal(a.hu_B1XYZ, sampler.batch(6, 2).hu_B1XYZ)
    assert a.hu_B1XYZ.shape == (2, 1, 8, 8, 8)
    assert a.target_BNXYZ.shape == (2, 3, 8, 8, 8)
    seen = [bool(sampler.batch(step, 1).target_BNXYZ[0, 1].any()) for step in range(20)]
    assert sum(seen) >= 15


def test_beyond_a_cut_field_of_view_nothing_is_labelled() -> None:
    always = STILL.model_copy(update={"cut": 1.0})
    sampler = PatchSampler([phantom_case()], (12, 12, 12), 3.0, always, seed=0, class_share=1.0)
    for step in range(12):
        batch = sampler.batch(step, 1)
        beyond = batch.hu_B1XYZ[0, 0] == AIR_HU
        assert beyond.any()
        assert not batch.target_BNXYZ[0][:, beyond].any()


def test_learning_rate_by_hand() -> None:
    config = OptimizeConfig(steps=110, warmup=10, learning_rate=1.0)
    assert learning_rate(config, 0) == pytest.approx(0.1)
    assert learning_rate(config, 9) == pytest.approx(1.0)
    assert learning_rate(config, 60) == pytest.approx(0.5)
    assert learning_rate(config, 110) == pytest.approx(0.0)


def test_it_learns_what_is_known(tmp_path: Path) -> None:
    run = trainer(tmp_path, steps=60, save_every=60)
    before = float(run.loss_of(run.sampler.batch(0, 1)).detach())
    run.run()
    after = float(run.loss_of(run.sampler.batch(0, 1)).detach())
    assert after < 0.5 * before


def test_resumed_equals_uninterrupted(tmp_path: Path) -> None:
    whole = trainer(tmp_path / "whole")
    whole.run()
    first = trainer(tmp_path / "parts")
    for _ in range(4):
        first._one_step()
        first.step += 1
        if first.step == 3:
            first.save()  # the fourth step is lost, as by kill -9
    second = trainer(tmp_path / "parts")
    assert second.step == 3
    second.run()
    for name, tensor in whole.network.state_dict().items():
        assert torch.equal(tensor, second.network.state_dict()[name]), name
    for name, tensor in whole.averaged.state_dict().items():
        assert torch.equal(tensor, second.averaged.state_dict()[name]), name


def test_the_run_folder_tells_the_story(tmp_path: Path) -> None:
    told: list[int] = []
    path = trainer(tmp_path).run(lambda row: told.append(row["step"]))
    rows = [json.loads(row) for row in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == told == [1, 2, 3, 4, 5, 6]
    checkpoint = load_checkpoint(path)
    assert checkpoint.metadata.card["steps"] == 6
    assert checkpoint.metadata.card["title"] == "test"
    assert checkpoint.metadata.trained == CLASSES
    assert not list(tmp_path.glob("*.tmp"))


def test_a_damaged_state_is_refused_and_kept(tmp_path: Path) -> None:
    trainer(tmp_path).run()
    state = tmp_path / "resume.pt"
    state.write_bytes(state.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match="cannot be resumed"):
        trainer(tmp_path)
    assert state.stat().st_size == 1000


def test_more_classes_than_bits_are_refused() -> None:
    grid = Geometry((4, 4, 4), np.eye(4))
    labels = np.ones(grid.shape, dtype=np.int16)
    many = tuple(f"class_{i}" for i in range(65))
    targets = harmonise(labels, grid, CARD, many)
    with pytest.raises(ConfigError, match="65 classes asked for, training holds at most 64"):
        build_case(Volume(np.zeros((4, 4, 4), np.float32), grid), (labels, grid), CARD, targets, 1.0, {})


def test_other_settings_do_not_resume(tmp_path: Path) -> None:
    trainer(tmp_path).run()
    with pytest.raises(CheckpointError, match="other settings"):
        trainer(tmp_path, learning_rate=0.5)


def test_rows_after_the_last_save_are_rewritten_on_resume(tmp_path: Path) -> None:
    run = trainer(tmp_path)
    run.run()
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 99, "loss": 1}\n')
    trainer(tmp_path).run()
    assert "99" not in (tmp_path / "metrics.jsonl").read_text()
