"""``metrics.jsonl``, and TensorBoard where it is installed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from voxicon.io.atomic import write_text


class RunLog:
    """The record of a run: one JSON object per line, every one with its ``step``.

    Args:
        folder: The run's folder.
        step: Where the run goes on; later rows are from steps that will be done again, and are dropped.

    Raises:
        OutputError: The folder cannot be written.
    """

    def __init__(self, folder: Path, step: int) -> None:
        self.path = folder / "metrics.jsonl"
        kept = [row for row in read_rows(self.path) if row["step"] <= step]
        write_text(self.path, "".join(f"{json.dumps(row)}\n" for row in kept))
        self.board: Any = None
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            return
        # TensorBoard forgets what was logged at this step and later; our rows of `step` itself stay.
        self.board = SummaryWriter(str(folder / "tensorboard"), purge_step=step + 1)

    def __enter__(self) -> RunLog:
        return self

    def __exit__(self, *_: object) -> None:
        if self.board is not None:
            self.board.close()

    def write(self, row: Mapping[str, Any]) -> None:
        """Append a row; its numbers also go to TensorBoard."""
        with self.path.open("a", encoding="utf8") as file:
            file.write(json.dumps(row) + "\n")
        if self.board is None:
            return
        for name, value in row.items():
            if name in {"step", "seconds"}:
                continue
            for part, number in value.items() if isinstance(value, dict) else [("", value)]:
                if isinstance(number, int | float):
                    self.board.add_scalar(f"{name}/{part}" if part else name, number, row["step"])


def read_rows(path: Path) -> list[dict[str, Any]]:
    """All whole rows of a ``metrics.jsonl``; none when there is no file. A row cut off by a kill is left out."""
    rows = []
    for line in path.read_text(encoding="utf8").splitlines() if path.is_file() else []:
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return rows
