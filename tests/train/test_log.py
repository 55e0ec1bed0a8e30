"""The record of a run: whole rows, each once, whatever was cut off."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from voxicon.errors import OutputError
from voxicon.train.log import RunLog, read_rows


def scalars(folder: Path) -> dict[str, list[int]]:
    """Steps that TensorBoard shows, by tag."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    board = EventAccumulator(str(folder / "tensorboard"))
    board.Reload()
    return {tag: [event.step for event in board.Scalars(tag)] for tag in board.Tags()["scalars"]}


def test_rows_after_the_last_save_are_written_anew(tmp_path: Path) -> None:
    with RunLog(tmp_path, 0) as log:
        for step in (1, 2, 3):
            log.write({"step": step, "loss": step / 2, "seconds": 1.0})
        log.write({"step": 3, "mean_dice": 0.5, "dice": {"liver": 0.5, "spleen": None}})
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 4, "lo')
    with RunLog(tmp_path, 2) as log:
        assert [row["step"] for row in read_rows(log.path)] == [1, 2]
        log.write({"step": 3, "loss": 9.0, "seconds": 1.0})
    assert [(row["step"], row["loss"]) for row in read_rows(tmp_path / "metrics.jsonl")] == [
        (1, 0.5),
        (2, 1.0),
        (3, 9.0),
    ]
    # TensorBoard keeps the steps that are not done again, the last saved one among them.
    assert scalars(tmp_path)["loss"] == [1, 2, 3]


def test_tensorboard_shows_numbers_by_class(tmp_path: Path) -> None:
    with RunLog(tmp_path, 0) as log:
        log.write({"step": 1, "mean_dice": 0.5, "dice": {"liver": 0.5, "spleen": None}, "seconds": 3.0})
    assert set(scalars(tmp_path)) == {"mean_dice", "dice/liver"}


def test_without_tensorboard_the_record_is_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with RunLog(tmp_path, 0) as log:
        log.write({"step": 1, "loss": 0.5})
    assert read_rows(tmp_path / "metrics.jsonl") == [{"step": 1, "loss": 0.5}]
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.jsonl"]


def test_a_row_cut_off_by_a_kill_is_left_out(tmp_path: Path) -> None:
    assert read_rows(tmp_path / "none.jsonl") == []
    (tmp_path / "m.jsonl").write_text('{"step": 1}\n{"step": 2, "lo')
    assert read_rows(tmp_path / "m.jsonl") == [{"step": 1}]


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError):
        RunLog(tmp_path / "file", 0)
