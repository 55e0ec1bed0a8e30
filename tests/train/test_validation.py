"""Validation while training: the best weights are kept, and a run that gets no better gives up."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.train.phantoms import make_trainer, rows_of
from voxicon.model.checkpoint import read_metadata
from voxicon.model.network import UniversalNetwork


class Judge:
    """Says what it was told to, one mean Dice after the other."""

    def __init__(self, *scores: float | None) -> None:
        self.scores = list(scores)
        self.seen: list[dict[str, torch.Tensor]] = []

    def __call__(self, network: UniversalNetwork) -> dict[str, float | None]:
        assert not network.training
        self.seen.append({name: tensor.clone() for name, tensor in network.state_dict().items()})
        score = self.scores.pop(0)
        return {"liver": score, "spleen": None if score is None else score + 0.1, "aorta": None}


def test_the_best_weights_are_kept(tmp_path: Path) -> None:
    judged = Judge(0.3, 0.6, 0.5)
    run = make_trainer(tmp_path, validate=judged, validate_every=2)
    run.run()
    rows = [row for row in rows_of(tmp_path) if "mean_dice" in row]
    # The mean of 0.3 and 0.4 is 0.35, and so on; a class that no scan can tell does not count.
    assert [(row["step"], row["mean_dice"]) for row in rows] == [(2, 0.35), (4, 0.65), (6, 0.55)]
    assert rows[0]["dice"] == {"liver": 0.3, "spleen": 0.4, "aorta": None}
    assert (run.best["step"], run.best["since"]) == (4, 1)
    best = load_file(tmp_path / "best.safetensors")
    for name, tensor in judged.seen[1].items():
        assert torch.equal(best[name], tensor.half()), "the averaged weights of step 4"
    card = read_metadata(tmp_path / "best.safetensors").card
    assert (card["steps"], card["best_validation"]) == (4, {"step": 4, "mean_dice": 0.65})
    assert read_metadata(tmp_path / "weights.safetensors").card["steps"] == 6


def test_it_validates_at_the_last_step_too(tmp_path: Path) -> None:
    make_trainer(tmp_path, steps=5, validate=Judge(0.1, 0.2), validate_every=3).run()
    assert [row["step"] for row in rows_of(tmp_path) if "mean_dice" in row] == [3, 5]


def test_it_gives_up_when_validation_has_not_got_better(tmp_path: Path) -> None:
    run = make_trainer(tmp_path, validate=Judge(0.5, 0.5, 0.4), validate_every=1, patience=2)
    run.run()
    assert (run.step, run.has_given_up) == (3, True)
    assert read_metadata(tmp_path / "weights.safetensors").card["steps"] == 3
    assert read_metadata(tmp_path / "best.safetensors").card["steps"] == 1
    again = make_trainer(tmp_path, validate=Judge(), validate_every=1, patience=2)
    again.run()
    assert again.step == 3, "a run that has given up stays so"
    patient = make_trainer(tmp_path, validate=Judge(0.9, 0.1, 0.1), validate_every=1, patience=4)
    patient.run()
    assert patient.best == {"step": 4, "dice": pytest.approx(0.95), "since": 2}


def test_patience_survives_resumption(tmp_path: Path) -> None:
    first = make_trainer(tmp_path, validate=Judge(0.5, 0.4), validate_every=1, patience=2, save_every=2)
    with pytest.raises(IndexError):  # the judge is out of words at step 3
        first.run()
    second = make_trainer(tmp_path, validate=Judge(0.3), validate_every=1, patience=2, save_every=2)
    assert second.best == {"step": 1, "dice": pytest.approx(0.55), "since": 1}
    second.run()
    assert second.step == 3


def test_without_a_judge_nothing_is_the_best(tmp_path: Path) -> None:
    run = make_trainer(tmp_path, validate_every=1, patience=1)
    run.run()
    assert run.step == 6
    assert run.best == {}
    assert not (tmp_path / "best.safetensors").exists()


def test_when_no_scan_can_tell_nothing_is_the_best(tmp_path: Path) -> None:
    run = make_trainer(tmp_path, steps=3, validate=Judge(None, 0.4, None), validate_every=1, patience=1)
    run.run()
    assert [row["mean_dice"] for row in rows_of(tmp_path) if "mean_dice" in row] == [None, 0.45, None]
    assert run.best == {"step": 2, "dice": pytest.approx(0.45), "since": 0}
