"""What an earlier network knows is learned where labels are silent, and only there."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from torch.nn import functional

from tests.train.phantoms import CLASSES, make_case, make_network, make_trainer
from voxicon.train.cases import focused
from voxicon.train.loop import Trainer
from voxicon.train.patches import PatchBatch


def batch(known: tuple[bool, ...]) -> PatchBatch:
    generator = torch.Generator().manual_seed(0)
    hu = 400 * torch.rand(1, 1, 16, 16, 16, generator=generator) - 100
    target = torch.rand(1, len(CLASSES), 16, 16, 16, generator=generator) > 0.7
    return PatchBatch(hu, target, torch.tensor([known]))


def trainer(folder: Path, distill: float) -> Trainer:
    return make_trainer(folder, distill=distill)


def test_the_teacher_answers_for_what_is_unknown(tmp_path: Path) -> None:
    alone, taught = trainer(tmp_path / "a", 0.0), trainer(tmp_path / "b", 0.5)
    taught.teacher = make_network(seed=9).eval()
    some = batch((True, False, True))
    with torch.no_grad():
        low, high = taught.preparation.window_hu
        image = ((some.hu_B1XYZ - low) / (high - low)).clamp(0, 1)
        soft = taught.teacher(image)[:, 1].sigmoid()
        expected = 0.5 * functional.binary_cross_entropy_with_logits(taught.network(image)[:, 1], soft)
    assert float(expected) > 0.01
    added = taught.loss_of(some).detach() - alone.loss_of(some).detach()
    assert float(added) == pytest.approx(float(expected), rel=1e-3)


def test_a_step_of_several_batches_hears_the_teacher_once(tmp_path: Path) -> None:
    some, added = batch((True, False, True)), []
    for accumulate in (1, 4):
        alone, taught = (
            make_trainer(tmp_path / f"{accumulate}{distill}", distill=distill, accumulate=accumulate)
            for distill in (0.0, 0.5)
        )
        taught.teacher = make_network(seed=9).eval()
        added.append(float(taught.loss_of(some).detach() - alone.loss_of(some).detach()))
    assert added[0] == pytest.approx(4 * added[1], rel=1e-2)


def test_labels_come_before_the_teacher(tmp_path: Path) -> None:
    alone, taught = trainer(tmp_path / "a", 0.0), trainer(tmp_path / "b", 0.5)
    taught.teacher = make_network(seed=9).eval()
    every = batch((True, True, True))
    assert torch.equal(taught.loss_of(every), alone.loss_of(every))


def test_a_teacher_without_weight_says_nothing(tmp_path: Path) -> None:
    alone, silent = trainer(tmp_path / "a", 0.0), trainer(tmp_path / "b", 0.0)
    silent.teacher = make_network(seed=9).eval()
    some = batch((True, False, False))
    assert torch.equal(silent.loss_of(some), alone.loss_of(some))


def test_the_teacher_does_not_learn(tmp_path: Path) -> None:
    taught = trainer(tmp_path, 1.0)
    taught.teacher = make_network(seed=9).eval()
    before = copy.deepcopy(taught.teacher.state_dict())
    taught.loss_of(batch((False, True, False))).backward()  # type: ignore[no-untyped-call]
    assert all(parameter.grad is None for parameter in taught.teacher.parameters())
    assert all(torch.equal(tensor, before[name]) for name, tensor in taught.teacher.state_dict().items())
    assert taught.network.head.map_projection.weight.grad is not None


def test_a_focused_case_knows_and_shows_only_what_is_learned() -> None:
    case = make_case()
    learned = [name == "spleen" for name in CLASSES]
    only = focused(case, torch.tensor(learned).numpy())
    assert only.known_N.tolist() == [a and b for a, b in zip(case.known_N.tolist(), learned, strict=True)]
    assert set(only.centers) == set(case.centers) & {CLASSES.index("spleen")}
    assert only.known_N.any()
    assert len(case.centers) > len(only.centers)
