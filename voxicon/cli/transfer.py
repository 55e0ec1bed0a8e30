"""``voxicon transfer``: does a start from earlier weights help? Learning curves in, a table and a picture out."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from voxicon.errors import UsageError

if TYPE_CHECKING:
    from voxicon.transfer import Way


def transfer(
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE", help="What to learn, such as recipes/sarcoma.yaml.")],
    start: Annotated[str, typer.Option("--from", metavar="WEIGHTS", help="What to start from.")] = "starter",
    out: Annotated[Path | None, typer.Option("-o", "--output", help="A folder per run is made in it.")] = None,
    ways: Annotated[
        str, typer.Option("--ways", help="Of scratch, full, head, adapters; separated by commas.")
    ] = "scratch,full",
    budgets: Annotated[
        str | None, typer.Option("--scans", help="Numbers of training scans; 1,2,5,10 and all of them by default.")
    ] = None,
    seeds: Annotated[str, typer.Option("--seeds", help="Each combination is run once with each.")] = "0",
    data: Annotated[
        Path | None,
        typer.Option("--data", help="Folder the datasets' folders are relative to; the recipe's by default."),
    ] = None,
    changes: Annotated[
        list[str] | None, typer.Option("--set", metavar="FIELD=VALUE", help="Such as optimize.steps=500; repeatable.")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="The runs as JSON on stdout.")] = False,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Only the table and errors.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
) -> None:
    """Compare training from weights with training from scratch, over the number of labeled scans.

    Writes table.md, curves.svg and points.json into the output folder. Stop and start as you like.
    """
    del debug  # read by the error boundary
    from voxicon.cli.progress import progress_bar
    from voxicon.infer.device import pick_device
    from voxicon.io.atomic import write_text
    from voxicon.recipe import load_recipe
    from voxicon.transfer import Design, curves, run_study, table

    written = load_recipe(recipe, changes or ())
    folder = out if out is not None else Path("runs") / f"{written.name}_transfer"
    design = Design(_ways(ways), _numbers("--scans", budgets), _numbers("--seeds", seeds))
    with progress_bar(quiet) as tick:
        points = run_study(
            written, recipe.parent, start, folder, pick_device(device), design=design, data=data, told=tick
        )
    shown = table(points)
    write_text(folder / "table.md", shown + "\n")
    write_text(folder / "curves.svg", curves(points) + "\n")
    rows = json.dumps([asdict(point) for point in points], indent=1)
    write_text(folder / "points.json", rows)
    typer.echo(rows if as_json else shown)


def _ways(text: str) -> list[Way]:
    return [way.strip() for way in text.split(",") if way.strip()]  # type: ignore[misc]


def _numbers(option: str, text: str | None) -> list[int]:
    try:
        return [] if text is None else [int(each) for each in text.split(",")]
    except ValueError:
        raise UsageError(f"{option} {text!r}: expected whole numbers separated by commas, such as 1,2,5") from None
