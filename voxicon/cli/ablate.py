"""``voxicon ablate``: a grid of trainings in, one table out."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer


def ablate(
    grid: Annotated[Path, typer.Argument(metavar="GRID", help="A YAML file, such as recipes/ablations/text.yaml.")],
    data: Annotated[
        Path | None,
        typer.Option("--data", help="Folder the datasets' folders are relative to; the recipe's by default."),
    ] = None,
    base: Annotated[Path | None, typer.Option(help="A recipe to vary, in place of the grid's own.")] = None,
    out: Annotated[Path | None, typer.Option("-o", "--output", help="A folder per variant is made in it.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="The outcomes as JSON on stdout.")] = False,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Only the table and errors.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
) -> None:
    """Train variants of a recipe on the same scans and compare them in one table; stop and start as you like."""
    del debug  # read by the error boundary
    from voxicon.ablation import load_grid, run_grid, table
    from voxicon.cli.progress import progress_bar
    from voxicon.infer.device import pick_device
    from voxicon.io.atomic import write_text

    plan = load_grid(grid)
    folder = out if out is not None else Path("runs") / grid.stem
    with progress_bar(quiet) as tick:
        recipe = base if base is not None else grid.parent / plan.base
        outcomes = run_grid(plan, recipe, folder, pick_device(device), data=data, told=tick)
    shown = table(outcomes)
    write_text(folder / "table.md", shown + "\n")
    write_text(folder / "outcomes.json", json.dumps([asdict(outcome) for outcome in outcomes], indent=1))
    typer.echo(json.dumps([asdict(outcome) for outcome in outcomes]) if as_json else shown)
