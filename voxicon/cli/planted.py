"""``voxicon evaluate --planted``: lesions of known size planted into scans without any, and how many are found."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from voxicon.errors import ConfigError, OutputError

Planted = Annotated[
    bool, typer.Option("--planted", help="Plant lesions into scans without any; tell which sizes are found.")
]
Diameters = Annotated[
    str | None, typer.Option(metavar="MM-MM,...", help="With --planted: bins; 3-5,5-10,10-20,20-40 by default.")
]
ContrastHu = Annotated[
    float | None, typer.Option(help="With --planted: to the organ, such as -40; drawn for each by default.")
]
PerBin = Annotated[
    int | None, typer.Option(help="With --planted: lesions of a kind and bin, and untouched looks; 20 by default.")
]
Seed = Annotated[int | None, typer.Option(help="With --planted: of everything random; 0 by default.")]

Organs = Annotated[
    Literal["weights", "labels"] | None,
    typer.Option(help="With --planted: look into organs that the weights find (default), or into labelled ones."),
]


@dataclass(frozen=True, kw_only=True)
class PlantedOptions:
    """Options that mean something with ``--planted`` alone, as given; None for left out."""

    diameters: str | None = None
    contrast_hu: float | None = None
    per_bin: int | None = None
    seed: int | None = None
    organs: Literal["weights", "labels"] | None = None

    def given(self) -> list[str]:
        """Names of those that were given, as on the command line."""
        return [f"--{name.replace('_', '-')}" for name, value in vars(self).items() if value is not None]


def evaluate_planted(
    assembly: Path,
    data: Path | None,
    lesions: Sequence[str],
    options: PlantedOptions,
    *,
    split: str,
    weights: str | None,
    out: Path,
    device: str,
    as_json: bool,
    quiet: bool,
) -> bool:
    """Plant, look, write everything into `out` and tell; False when a scan could not be used."""
    from voxicon.cli.progress import progress_bar
    from voxicon.evaluate.planted import BINS_MM
    from voxicon.plan import plan_training
    from voxicon.planted import PlantedConfig, prepare_planted, run_planted, save
    from voxicon.recipe import load_recipe
    from voxicon.segmenter import load

    config = PlantedConfig(
        lesions=tuple(lesions),
        bins_mm=BINS_MM if options.diameters is None else bins_of(options.diameters),
        contrast_hu=options.contrast_hu,
        split=split,
        **{name: value for name in ("per_bin", "seed", "organs") if (value := getattr(options, name)) is not None},
    )
    _refuse_other_kind(out)
    # Which classes a recipe is for says nothing about lesions that are planted.
    recipe = load_recipe(assembly).model_copy(update={"classes": None})
    plan = plan_training(recipe, assembly.parent, data)
    study = prepare_planted(plan, load(weights or "starter", device=device), config)
    with progress_bar(quiet) as tick:
        run_planted(study, tick)
    found = save(study, out, shlex.join(["voxicon", *sys.argv[1:]]))
    _tell(found, out, as_json=as_json, quiet=quiet)
    return not found["failed"]


def _refuse_other_kind(folder: Path) -> None:
    if (folder / "summary.json").exists():
        raise OutputError(f"{folder}: holds an evaluation on labels, which would be overwritten; choose another by -o")


def bins_of(text: str) -> tuple[tuple[float, float], ...]:
    """``3-5,5-10`` as numbers.

    Raises:
        ConfigError: It is not of that form.
    """
    try:
        bins = [tuple(float(edge) for edge in one.split("-")) for one in text.split(",")]
        return tuple((low, high) for low, high in bins)
    except ValueError as error:
        raise ConfigError(f"--diameters {text!r}: expected ranges in mm, such as 3-5,5-10,10-20") from error


def _tell(found: Mapping[str, Any], out: Path, *, as_json: bool, quiet: bool) -> None:
    if as_json:
        shown = {key: value for key, value in found.items() if key not in ("rows", "looks")}
        typer.echo(json.dumps(shown))
    elif not quiet:
        for line in lines(found):
            typer.echo(line)
        typer.echo(f"report: {out / 'report.html'}")
    for name, message in found["failed"].items():
        typer.echo(" ".join(f"voxicon: error {name}: {message}".split()), err=True)


def lines(found: Mapping[str, Any]) -> list[str]:
    """A summary in a few lines for a terminal."""
    shown = [f"{'lesion':22} {'diameter':10} {'found (95 %)':28} {'Dice':>5}  at specificity 0.8"]
    for name, one in found["lesions"].items():
        delivered, point = one["as_delivered"], one["at_specificity"]["0.8"]
        for bin_ in [*found["bins"], "all"]:
            dice = delivered["dice"][bin_]
            at_point = "-" if point is None else share(point["sensitivity"][bin_])
            shown.append(
                f"{name if bin_ == found['bins'][0] else '':22} {bin_:10} {share(delivered['sensitivity'][bin_]):28} "
                f"{'-' if dice is None else f'{dice:.2f}':>5}  {at_point}"
            )
        threshold = "none" if point is None or point["threshold"] is None else f"{point['threshold']:.3f}"
        shown.append(
            f"{'':22} untouched scans without a finding {share(delivered['specificity'])}; "
            f"threshold for specificity 0.8: {threshold}"
        )
    return shown + [f"note: {note}" for note in found["notes"]]


def share(one: Mapping[str, Any]) -> str:
    """``3/4 = 75% [30%, 95%]``; a dash for a share of nothing."""
    if one["value"] is None:
        return "-"
    return f"{one['count']}/{one['total']} = {one['value']:.0%} [{one['low']:.0%}, {one['high']:.0%}]"
