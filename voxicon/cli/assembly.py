"""``voxicon assembly``: many partly labeled datasets looked over as one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, help="Look datasets over before training on them.")


@app.command("check")
def check(
    sources: Annotated[
        list[str],
        typer.Argument(metavar="FOLDER...", help="Dataset folders, CARD=FOLDER pairs, or an assembly.yaml."),
    ],
    out: Annotated[Path, typer.Option("-o", "--output", help="Where the assembly is written.")] = Path("assembly"),
    name: Annotated[
        str | None, typer.Option(help="Name of the weights to be trained; the folder's by default.")
    ] = None,
    preset: Annotated[str, typer.Option(help="paper (large GPUs) or laptop (CPU).")] = "paper",
    seed: Annotated[int, typer.Option(help="Deals scans without an official split.")] = 0,
    val: Annotated[float, typer.Option(help="Share of such scans for validation.")] = 0.1,
    test: Annotated[float, typer.Option(help="Share of such scans for testing.")] = 0.2,
    folds: Annotated[int, typer.Option(help="Folds for cross-validation.")] = 5,
    official: Annotated[bool, typer.Option("--official/--ignore-official", help="Keep official splits.")] = True,
    as_json: Annotated[bool, typer.Option("--json", help="The summary as JSON on stdout.")] = False,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Only errors.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
) -> None:
    """Read every scan and label once; report what is wrong, find copies, make splits that cannot leak.

    Leaves assembly.yaml, ready for 'voxicon train', with manifest.csv, report.html and summary.json. An
    interrupted check goes on where it stopped. Exit code 1 when a scan cannot be used.
    """
    del debug  # read by the error boundary
    from voxicon import assembly
    from voxicon.cli.progress import progress_bar

    datasets = assembly.gather(sources)
    options = assembly.SplitOptions(
        seed=seed, val_fraction=val, test_fraction=test, n_folds=folds, keep_official=official
    )
    with progress_bar(quiet) as tick:
        found = assembly.check(datasets, out, options, tick)
    assembly.save(found, out, name or out.resolve().name, preset)
    summary = assembly.summary(found)
    if as_json:
        typer.echo(json.dumps(summary))
    elif not quiet:
        for line in assembly.lines(summary):
            typer.echo(line)
        typer.echo(f"report: {out / 'report.html'}\nnext:   voxicon train {out / 'assembly.yaml'}")
    if found.n_failed:
        raise typer.Exit(1)


@app.command("cards")
def cards(
    as_json: Annotated[bool, typer.Option("--json", help="Machine readable.")] = False,
) -> None:
    """List the dataset cards that ship with the package."""
    from voxicon.data.card import card_ids, load_card

    known = [load_card(card) for card in card_ids()]
    if as_json:
        fields = {"id", "title", "source", "terms", "labels_by", "citation", "pitfalls"}
        shown = [{**card.model_dump(mode="json", include=fields), "classes": list(card.annotates)} for card in known]
        typer.echo(json.dumps(shown))
        return
    for card in known:
        typer.echo(f"{card.id:24} {len(card.annotates):>3} classes  {card.title}")


@app.command("example")
def example(
    card: Annotated[str, typer.Argument(help="Id of a card, or the path of one.")],
    out: Annotated[Path, typer.Option("-o", "--output", help="Where the dataset's folder is made.")],
    cases: Annotated[int, typer.Option(min=1, help="Scans per part of the dataset.")] = 3,
    seed: Annotated[int, typer.Option(help="Other scans for another seed.")] = 0,
) -> None:
    """Write tiny made-up scans in a dataset's own layout and label values, to try things before downloading."""
    from voxicon.data.card import load_card
    from voxicon.data.example import write_example

    written = write_example(load_card(card), out, n_cases=cases, seed=seed)
    typer.echo(f"{len(written)} scans of card {card} in {out}; made up, good for trying commands and nothing else")
