"""Training learns, judges itself, and a run that was killed and resumed is the run that was not."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from tests.train.phantoms import (
    CLASSES,
    LONG,
    judge,
    make_card,
    make_case,
    make_config,
    make_sampler,
    make_trainer,
    rows_of,
)
from voxicon.errors import CheckpointError, ConfigError, OutputError
from voxicon.model.checkpoint import load_checkpoint
from voxicon.train.log import read_rows
from voxicon.train.loop import Trainer
from voxicon.train.loss import partial_label_loss

ROOT = Path(__file__).parents[2]


def assert_same_state(one: Path, two: Path) -> None:
    """Every tensor of two runs' states and weights is equal, bit for bit."""
    states = [torch.load(folder / "resume.pt", weights_only=True) for folder in (one, two)]
    for part in ("network", "averaged"):
        assert states[0][part].keys() == states[1][part].keys()
        for name, tensor in states[0][part].items():
            assert torch.equal(tensor, states[1][part][name]), f"{part} {name}"
    moments = [state["optimizer"]["state"] for state in states]
    assert moments[0].keys() == moments[1].keys()
    for index, values in moments[0].items():
        assert all(torch.equal(tensor, moments[1][index][name]) for name, tensor in values.items())
    assert [state["step"] for state in states] == [states[0]["step"]] * 2
    assert states[0]["best"] == states[1]["best"]
    for name in {path.name for path in one.glob("*.safetensors")} | {path.name for path in two.glob("*.safetensors")}:
        weights = [load_file(folder / name) for folder in (one, two)]
        assert all(torch.equal(tensor, weights[1][key]) for key, tensor in weights[0].items()), name


def assert_same_weights(one: Trainer, two: Trainer, within: float = 1e-5) -> None:
    for (name, a), b in zip(one.network.named_parameters(), two.network.parameters(), strict=True):
        assert float((a - b).abs().max().detach()) <= within, name


# --- learning ---------------------------------------------------------------------------------------------------


def test_it_learns_what_is_known(tmp_path: Path) -> None:
    run = make_trainer(tmp_path, steps=80, save_every=80)
    batch = run.sampler.batch(0, range(4))
    before = float(run.loss_of(batch).detach())
    run.run()
    assert float(run.loss_of(batch).detach()) < 0.5 * before


def test_a_step_in_which_nothing_is_known_is_survived(tmp_path: Path) -> None:
    nothing = make_case(make_card(classes=("liver",)), classes=("spleen", "liver_tumor", "aorta"))
    assert not nothing.known_N.any()
    run = make_trainer(tmp_path, [nothing], steps=2)
    run.run()
    assert [row["loss"] for row in rows_of(tmp_path)] == [0, 0]


def test_two_halves_make_one_step(tmp_path: Path) -> None:
    """Batches of other scans know other classes; their gradients must add up to those of one large batch."""
    # AdamW blows the noise of a vanishing gradient up to the learning rate, so a small one shows more.
    same = {"steps": 3, "learning_rate": 1e-4}
    one = make_trainer(tmp_path / "one", batch=2, **same)
    two = make_trainer(tmp_path / "two", batch=1, accumulate=2, **same)
    known = [one.sampler.batch(step, range(2)).known_BN.sum(1).tolist() for step in range(3)]
    assert [1, 3] in known or [3, 1] in known, "a step with uneven halves is among them"
    for trainer in (one, two):
        trainer._one_step()
    for (name, a), b in zip(one.network.named_parameters(), two.network.parameters(), strict=True):
        assert a.grad is not None
        assert b.grad is not None
        assert torch.allclose(a.grad, b.grad, atol=1e-6), name
    one.step = two.step = 1
    for trainer in (one, two):
        trainer.run()
    assert_same_weights(one, two)
    assert [row["loss"] for row in rows_of(tmp_path / "one")] == pytest.approx(
        [row["loss"] for row in rows_of(tmp_path / "two")], abs=2e-5
    )


def test_recomputing_changes_no_weight(tmp_path: Path) -> None:
    kept, again = make_trainer(tmp_path / "kept", steps=3), make_trainer(tmp_path / "again", steps=3, recompute=True)
    assert again.network.recompute
    kept.run()
    again.run()
    assert_same_weights(kept, again, 0)


def test_a_run_that_diverges_stops_and_keeps_what_was_saved(tmp_path: Path) -> None:
    run = make_trainer(tmp_path, save_every=1)
    run._one_step()
    run.step = 1
    run.save()
    before = (tmp_path / "resume.pt").read_bytes()
    with torch.no_grad():
        next(run.network.parameters()).fill_(torch.nan)
    with pytest.raises(ConfigError, match=r"step 2 has a loss of nan.*lower optimize.learning_rate") as caught:
        run.run()
    assert caught.value.code == "E-DIVERGED"
    assert (tmp_path / "resume.pt").read_bytes() == before


# --- resuming ---------------------------------------------------------------------------------------------------


def test_resumed_after_kill_9_equals_uninterrupted(tmp_path: Path) -> None:
    make_trainer(tmp_path / "whole", validate=judge, **LONG).run()
    killed = subprocess.run(
        [sys.executable, "-m", "tests.train.killed_run", str(tmp_path / "parts"), "4"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert rows_of(tmp_path / "parts")[-1]["step"] == 4
    (tmp_path / "parts" / ".tmp-0123").write_text("half a state")
    resumed = make_trainer(tmp_path / "parts", validate=judge, **LONG)
    assert resumed.step == 3, "the fourth step was not saved and is done again"
    resumed.run()
    assert_same_state(tmp_path / "whole", tmp_path / "parts")
    rows = rows_of(tmp_path / "whole")
    assert [row["step"] for row in rows] == [2, 2, 4, 4, 6, 6, 8, 8]
    # The row of step 4 averages step 3, done before the kill, and step 4, done after it.
    assert rows_of(tmp_path / "parts") == rows
    assert not list((tmp_path / "parts").glob(".tmp-*"))


def test_a_finished_run_is_not_trained_again(tmp_path: Path) -> None:
    make_trainer(tmp_path, steps=2).run()
    again = make_trainer(tmp_path, steps=2)
    again.run(lambda _: pytest.fail("nothing is left to do"))
    assert [row["step"] for row in rows_of(tmp_path)] == [1, 2]


def test_how_patches_are_dealt_may_change_on_resumption(tmp_path: Path) -> None:
    same = {"steps": 3, "learning_rate": 1e-4}

    def half(folder: Path) -> None:
        run = make_trainer(folder, batch=2, **same)
        for _ in range(2):
            run._one_step()
            run.step += 1
        run.save()

    half(tmp_path / "a")
    half(tmp_path / "b")
    one = make_trainer(tmp_path / "a", batch=2, **same)
    free = {"recompute": True, "log_every": 3, "save_every": 1, "validate_every": 2}
    two = make_trainer(tmp_path / "b", batch=1, accumulate=2, **same, **free)
    one.run()
    two.run()
    assert_same_weights(one, two)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"learning_rate": 0.5}, r"\(optimize.learning_rate\)"),
        ({"batch": 2}, r"\(patches per step\)"),
        ({"seed": 1, "steps": 9}, r"\(optimize.seed, optimize.steps\)"),
        ({"sampling": {"centers": "card"}}, r"\(optimize.sampling\)"),
    ],
)
def test_other_settings_do_not_resume(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    make_trainer(tmp_path, steps=1).save()
    with pytest.raises(CheckpointError, match="this run was started with other settings " + message):
        make_trainer(tmp_path, **{"steps": 1, **changes})


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("text_bank", {"names": ["other"]}, r"\(words\)"),
        ("preparation", {"spacing_mm": [2, 2, 2], "window_hu": [-250, 350]}, r"\(preparation\)"),
        ("card", {"data_sha256": "other"}, r"\(training scans or cards\)"),
    ],
)
def test_other_words_scans_or_preparation_do_not_resume(
    tmp_path: Path, field: str, value: dict[str, Any], message: str
) -> None:
    run = make_trainer(tmp_path)
    run.save()
    metadata = type(run.metadata)(**{**run.metadata.__dict__, field: value})
    with pytest.raises(CheckpointError, match=message):
        Trainer(run.network, run.sampler, run.config, metadata, tmp_path, run.device)


@pytest.mark.parametrize("how", ["short", "empty", "text", "of another kind"])
def test_a_damaged_state_is_refused_and_kept(tmp_path: Path, how: str) -> None:
    make_trainer(tmp_path, steps=1).run()
    state = tmp_path / "resume.pt"
    data = {"short": state.read_bytes()[:1000], "empty": b"", "text": b"hello"}.get(how)
    if data is None:
        torch.save({"step": 3}, state)
    else:
        state.write_bytes(data)
    before = state.read_bytes()
    with pytest.raises(CheckpointError, match=r"resume.pt: cannot be resumed.*remove it to start over"):
        make_trainer(tmp_path, steps=1)
    assert state.read_bytes() == before


def test_a_state_that_cannot_be_written_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make_trainer(tmp_path, steps=1)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OutputError, match="No space left"):
        run.save()
    assert list(tmp_path.iterdir()) == []


# --- the record -------------------------------------------------------------------------------------------------


def test_the_run_folder_tells_the_story(tmp_path: Path) -> None:
    told: list[int] = []
    path = make_trainer(tmp_path).run(lambda row: told.append(row["step"]))
    rows = read_rows(tmp_path / "metrics.jsonl")
    assert [row["step"] for row in rows] == told == [1, 2, 3, 4, 5, 6]
    assert [set(row) for row in rows] == [{"step", "loss", "learning_rate", "seconds"}] * 6
    checkpoint = load_checkpoint(path)
    assert checkpoint.metadata.card["steps"] == 6
    assert checkpoint.metadata.card["title"] == "test"
    assert checkpoint.metadata.trained == CLASSES
    assert "best_validation" not in checkpoint.metadata.card
    assert {p.name for p in tmp_path.iterdir()} == {"metrics.jsonl", "resume.pt", "tensorboard", "weights.safetensors"}


def test_the_last_step_is_logged_whenever_it_comes(tmp_path: Path) -> None:
    make_trainer(tmp_path, steps=5, log_every=3).run()
    assert [row["step"] for row in rows_of(tmp_path)] == [3, 5]


def test_the_average_starts_with_a_short_memory(tmp_path: Path) -> None:
    run = make_trainer(tmp_path, ema=0.9, warmup=0)
    start = [p.detach().clone() for p in run.network.parameters()]
    run._one_step()
    # After step 0 the past weighs (1 + 0) / (10 + 0) = 0.1, although ema is 0.9.
    for first, now, mean in zip(start, run.network.parameters(), run.averaged.parameters(), strict=True):
        assert torch.allclose(mean, 0.1 * first + 0.9 * now, atol=1e-6)


def test_classes_that_no_patch_knows_are_not_computed_and_change_nothing(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, cases=[make_case(make_card("livers", ("liver",)))])
    batch = trainer.sampler.batch(0, [0])
    asked = []
    decode = trainer.network.head.decode
    trainer.network.head.decode = lambda m, p: asked.append(p.shape[1]) or decode(m, p)  # type: ignore[method-assign]
    part = trainer.loss_of(batch)
    part.backward()
    gradients = [p.grad.clone() for p in trainer.network.parameters() if p.grad is not None]
    assert asked == [1]
    trainer.network.zero_grad()
    low, high = trainer.preparation.window_hu
    logits = trainer.network(((batch.hu_B1XYZ - low) / (high - low)).clamp(0, 1))
    whole = partial_label_loss(logits, batch.target_BNXYZ, batch.known_BN)
    whole.backward()
    assert float(part.detach()) == pytest.approx(float(whole.detach()), rel=1e-6)
    others = [p.grad for p in trainer.network.parameters() if p.grad is not None]
    for one, other in zip(gradients, others, strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-4)


def test_a_run_from_before_a_setting_came_goes_on_with_its_default(tmp_path: Path) -> None:
    make_trainer(tmp_path, steps=3).run()
    path = tmp_path / "resume.pt"
    state = torch.load(path, weights_only=True)
    settings = json.loads(state["settings"])
    assert settings.pop("optimize.false_voxels") == {"organ": None, "lesion": None}
    torch.save({**state, "settings": json.dumps(settings)}, path)
    assert make_trainer(tmp_path, steps=3).step == 3
    with pytest.raises(CheckpointError, match=r"other settings \(optimize.false_voxels\)"):
        make_trainer(tmp_path, steps=3, false_voxels={"lesion": 9})


@pytest.mark.parametrize("balanced", [False, True])
def test_what_is_found_of_absent_classes_costs_by_their_kind(tmp_path: Path, balanced: bool) -> None:
    config = make_config(false_voxels={"organ": 50, "lesion": 5}, balanced_lesions=balanced)
    sampler = make_sampler(config, [make_case(make_card("livers", ("liver", "liver_tumor")))])
    sampler.lesion_N = np.array([False, True, False])
    plain = make_trainer(tmp_path / "plain")
    trainer = Trainer(plain.network, sampler, config, plain.metadata, tmp_path / "run", plain.device)
    assert trainer.false_voxels_N.tolist() == [50, 5, 50]
    assert torch.isinf(plain.false_voxels_N).all()
    batch = sampler.batch(0, [0])
    batch = replace(batch, target_BNXYZ=torch.zeros_like(batch.target_BNXYZ))
    low, high = trainer.preparation.window_hu
    logits = trainer.network(((batch.hu_B1XYZ - low) / (high - low)).clamp(0, 1)).detach()
    target, known = batch.target_BNXYZ, batch.known_BN
    assert known[0].tolist() == [True, True, False]
    lesion_N = torch.tensor([False, balanced, False])
    expected = partial_label_loss(logits, target, known, None, torch.tensor([50.0, 5.0, 50.0]), lesion_N)
    assert float(trainer.loss_of(batch).detach()) == pytest.approx(float(expected), rel=1e-5)
    assert float(plain.loss_of(batch).detach()) == pytest.approx(
        float(partial_label_loss(logits, target, known)), rel=1e-5
    )


def test_a_batch_that_knows_nothing_changes_nothing(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path)
    batch = trainer.sampler.batch(0, [0])
    nothing = replace(batch, known_BN=torch.zeros_like(batch.known_BN))
    loss = trainer.loss_of(nothing)
    loss.backward()
    assert float(loss.detach()) == 0
    assert all(p.grad is None or not p.grad.any() for p in trainer.network.parameters())
