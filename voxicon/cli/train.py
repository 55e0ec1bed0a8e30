"""``voxicon train``: a recipe in, weights out."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer


def train(
    recipe: Annotated[Path, typer.Argument(metavar="CONFIG", help="A recipe in YAML, such as recipes/starter.yaml.")],
    data: Annotated[Path, typer.Option("--data", help="Folder in which the cards' files lie.")] = Path(),
    out: Annotated[
        Path | None, typer.Option("-o", "--output", help="Run folder; an earlier run in it goes on.")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="One JSON line per report on stdout.")] = False,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Only errors.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
) -> None:
    """Train weights from partly labelled scans; stop and start as you like.

    The run folder holds metrics.jsonl, tensorboard/, resume.pt and weights.safetensors.
    """
    del debug  # read by the error boundary
    from voxicon.cli.progress import progress_bar
    from voxicon.recipe import build_trainer, load_recipe
    from voxicon.segmenter import pick_device

    plan = load_recipe(recipe)
    folder = out if out is not None else Path("runs") / plan.name
    trainer = build_trainer(plan, data, folder, pick_device(device))
    if trainer.step and not quiet:
        typer.echo(f"resuming {folder} at step {trainer.step}", err=True)
    with progress_bar(quiet) as tick:

        def report(row: Mapping[str, Any]) -> None:
            tick(f"loss {row['loss']:.3f}", row["step"], row["steps"])
            if as_json:
                typer.echo(json.dumps(dict(row)))

        path = trainer.run(report)
    if not quiet:
        typer.echo(f"weights: {path}", err=True)
