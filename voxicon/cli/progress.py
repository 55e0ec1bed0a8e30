"""Progress for people: bars on a terminal, nothing elsewhere, always on stderr."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn


class Tick(Protocol):
    """Tells a bar how far things are."""

    def __call__(self, label: str, done: int, total: int) -> None:
        """Show `label` at `done` of `total`."""
        ...


@contextmanager
def progress_bar(quiet: bool) -> Iterator[Tick]:
    """A bar that appears with its first tick; silent when `quiet` or when stderr is not a terminal."""
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TimeElapsedColumn(),
        TextColumn("eta"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True, disable=quiet or not console.is_terminal) as bar:
        task = bar.add_task("", total=None, visible=False)

        def tick(label: str, done: int, total: int) -> None:
            bar.update(task, description=label, completed=done, total=total, visible=True)

        yield tick
