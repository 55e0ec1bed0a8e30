"""A loss that looks at every n-th voxel is the loss of those voxels, and in the course of a run looks at all."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from tests.train.phantoms import make_card, make_case, make_network, make_trainer
from voxicon.errors import CheckpointError
from voxicon.train.loop import Trainer
from voxicon.train.loss import partial_label_loss
from voxicon.train.patches import PatchBatch


def run_with(folder: Path, every: int, **settings: Any) -> Trainer:
    cases = [make_case(make_card("livers", ("liver", "liver_tumor")))]
    return make_trainer(folder, cases, loss_every=every, precision="fp32", **settings)


def logits_of(run: Trainer, batch: PatchBatch) -> Tensor:
    low, high = run.preparation.window_hu
    return run.network(((batch.hu_B1XYZ - low) / (high - low)).clamp(0, 1))


@pytest.mark.parametrize("every", [1, 2, 3])
def test_it_is_the_loss_of_the_voxels_looked_at(tmp_path: Path, every: int) -> None:
    run = run_with(tmp_path, every, false_voxels={"organ": 54, "lesion": 54})
    batch = run.sampler.batch(0, [0])
    # Known to be absent: what is found costs by false_voxels, given in voxels of a patch.
    batch = replace(batch, target_BNXYZ=torch.zeros_like(batch.target_BNXYZ))
    assert run.false_voxels_N.tolist() == pytest.approx([54 / every**3] * len(run.false_voxels_N))
    at = (..., *run._looked_at())
    expected = partial_label_loss(
        logits_of(run, batch)[at], batch.target_BNXYZ[at], batch.known_BN, None, torch.full((3,), 54 / every**3)
    )
    loss = run.loss_of(batch)
    assert float(loss.detach()) == pytest.approx(float(expected.detach()), rel=1e-5)
    wanted = torch.autograd.grad(expected, run.learning, allow_unused=True)
    given = torch.autograd.grad(loss, run.learning, allow_unused=True)
    for one, other in zip(given, wanted, strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-4)


def test_every_voxel_is_looked_at_sooner_or_later(tmp_path: Path) -> None:
    run, seen = run_with(tmp_path, 2), torch.zeros(4, 4, 4, dtype=torch.int64)
    for run.step in range(80):
        assert run._looked_at() == run._looked_at()
        seen[run._looked_at()] += 1
    assert int(seen.sum()) == 80 * 8
    assert int(seen.min()) >= 2


@pytest.mark.parametrize("every", [1, 2])
def test_negative_seeds_are_seeds(tmp_path: Path, every: int) -> None:
    run_with(tmp_path / "a", every, steps=1, seed=-1).run()
    seen = {run_with(tmp_path / f"b{seed}", 4, seed=seed)._looked_at()[0].start for seed in range(-12, 0)}
    assert len(seen) > 1


def test_the_teacher_is_asked_for_the_same_voxels(tmp_path: Path) -> None:
    alone, taught = (run_with(tmp_path / name, 2, distill=weight) for name, weight in (("a", 0.0), ("b", 0.5)))
    taught.teacher = make_network(seed=9).eval()
    batch = taught.sampler.batch(0, [0])
    (unknown,) = (~batch.known_BN[0]).nonzero()[:, 0].tolist()
    with torch.no_grad():
        low, high = taught.preparation.window_hu
        image = ((batch.hu_B1XYZ - low) / (high - low)).clamp(0, 1)
        at = (..., *taught._looked_at())
        soft = taught.teacher(image)[:, unknown][at].sigmoid()
        expected = 0.5 * functional.binary_cross_entropy_with_logits(taught.network(image)[:, unknown][at], soft)
    added = taught.loss_of(batch).detach() - alone.loss_of(batch).detach()
    assert float(added) == pytest.approx(float(expected), rel=1e-3)


def test_it_is_a_setting_of_the_run(tmp_path: Path) -> None:
    run_with(tmp_path, 1, steps=2).run()
    settings = json.loads(torch.load(tmp_path / "resume.pt", weights_only=True)["settings"])
    assert settings["optimize.loss_every"] == 1
    with pytest.raises(CheckpointError, match=r"other settings \(optimize.loss_every\)"):
        run_with(tmp_path, 2, steps=2)
