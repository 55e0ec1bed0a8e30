"""``voxicon train``: a recipe in, weights out."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from voxicon.errors import UsageError

if TYPE_CHECKING:
    from voxicon.train.loop import Trainer


_Data = Annotated[
    Path | None,
    typer.Option("--data", help="Folder the datasets' folders are relative to; the recipe's by default."),
]
_Start = Annotated[
    str | None,
    typer.Option("--from", metavar="WEIGHTS", help="Start from weights: their network, words, preparation, windows."),
]
_Strategy = Annotated[
    Literal["full", "head", "adapters"],
    typer.Option(help="What learns after --from: everything, all but the backbone, or layers beside it."),
]


def train(
    recipe: Annotated[
        Path,
        typer.Argument(metavar="RECIPE", help="A YAML file, such as the assembly.yaml of 'voxicon assembly check'."),
    ],
    data: _Data = None,
    out: Annotated[
        Path | None, typer.Option("-o", "--output", help="Run folder; an earlier run in it goes on.")
    ] = None,
    preset: Annotated[str | None, typer.Option(help="paper or laptop; wins over the recipe's.")] = None,
    changes: Annotated[
        list[str] | None, typer.Option("--set", metavar="FIELD=VALUE", help="Such as optimize.steps=500; repeatable.")
    ] = None,
    start: _Start = None,
    strategy: _Strategy = "full",
    cache: Annotated[
        Path | None, typer.Option(help="Folder of prepared scans, which runs may share; in the run folder by default.")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="One JSON line per report on stdout.")] = False,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Only errors.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
) -> None:
    """Train weights from partly labeled scans; stop and start as you like.

    The run folder holds metrics.jsonl, tensorboard/, resume.pt and weights.safetensors. On several GPUs or
    machines start it with torchrun: torchrun --nproc-per-node 4 -m voxicon train RECIPE.
    """
    del debug  # read by the error boundary
    from voxicon.cli.progress import progress_bar
    from voxicon.infer.device import pick_device
    from voxicon.plan import plan_training
    from voxicon.recipe import load_recipe
    from voxicon.student import starting_from
    from voxicon.train.processes import processes
    from voxicon.training import build_trainer

    if start is None and strategy != "full":
        raise UsageError(f"--strategy {strategy} needs --from: what has not learned yet must not be frozen")
    written = load_recipe(recipe, changes or (), preset)
    written = written if start is None else starting_from(written, start, strategy)
    plan = plan_training(written, recipe.parent, data)
    folder = out if out is not None else Path("runs") / written.name
    with processes(pick_device(device)) as (shared, own_device):
        quiet = quiet or not shared.is_first
        with progress_bar(quiet) as tick:
            trainer = build_trainer(plan, folder, own_device, cache=cache, processes=shared, told=tick)
            if trainer.step and not quiet:
                typer.echo(f"resuming {folder} at step {trainer.step}", err=True)

            def report(row: Mapping[str, Any]) -> None:
                tick(_label(row), row["step"], row["steps"])
                if as_json:
                    typer.echo(json.dumps(dict(row)))

            path = trainer.run(report)
    if not quiet:
        _summarize(trainer, path)


def _label(row: Mapping[str, Any]) -> str:
    if "loss" in row:
        return f"loss {row['loss']:.3f}"
    return "no scan can be judged on" if row["mean_dice"] is None else f"mean Dice {row['mean_dice']:.3f}"


def _summarize(trainer: Trainer, path: Path) -> None:
    """What came out of a run, on stderr."""
    if trainer.has_given_up:
        typer.echo(
            f"stopped at step {trainer.step}: {trainer.config.patience} validations without a better one", err=True
        )
    typer.echo(f"weights: {path}", err=True)
    best = trainer.best
    if best:
        typer.echo(
            f"best:    {trainer.folder / 'best.safetensors'} (step {best['step']}, mean Dice {best['dice']:.3f})",
            err=True,
        )
    never = trainer.metadata.card.get("never_shown", ())
    if never:
        typer.echo(f"note:    no training scan shows {', '.join(never)}; the weights do not answer to it", err=True)
