"""``voxicon evaluate``: an assembly and weights in, numbers with intervals out."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from voxicon.cli.planted import ContrastHu, Diameters, Organs, PerBin, Planted, PlantedOptions, Seed, evaluate_planted
from voxicon.errors import ConfigError, UsageError

if TYPE_CHECKING:
    from voxicon.plan import Plan
    from voxicon.prediction import Predictions
    from voxicon.study import StudyConfig


_Assembly = Annotated[
    Path, typer.Argument(metavar="ASSEMBLY", help="The assembly.yaml of 'voxicon assembly check', or any recipe.")
]
_Weights = Annotated[str | None, typer.Option(help="'starter' (default), installed weights, or a .safetensors file.")]
_Predictions = Annotated[
    Path | None, typer.Option(help="Judge earlier results instead: DIR/<dataset>/<case>/segmentations/.")
]
_Data = Annotated[
    Path | None,
    typer.Option("--data", help="Folder the datasets' folders are relative to; the assembly's by default."),
]
_ChooseOn = Annotated[str | None, typer.Option(help="Split to choose operating points for lesions on, such as val.")]
_Classes = Annotated[
    list[str] | None,
    typer.Option("-c", "--classes", help="Judge only these, by name, alias or id; comma or repeat."),
]
_Readers = Annotated[
    list[str] | None,
    typer.Option(metavar="NAME=DIR", help="Another reader's label maps, named like the dataset's; twice or more."),
]
_Against = Annotated[Path | None, typer.Option(help="Folder of another evaluation to compare with, pair by pair.")]
_Submission = Annotated[
    Path | None, typer.Option(help="Write predictions in the datasets' own values and file names here.")
]


def evaluate(
    assembly: _Assembly,
    weights: _Weights = None,
    predictions: _Predictions = None,
    data: _Data = None,
    split: Annotated[str, typer.Option(help="train, val, test, or unlabeled (with --submission).")] = "test",
    choose_on: _ChooseOn = None,
    classes: _Classes = None,
    tolerance_mm: Annotated[float, typer.Option(help="Tolerance of the NSD in mm.")] = 2.0,
    reader: _Readers = None,
    against: _Against = None,
    submission: _Submission = None,
    planted: Planted = False,
    diameters: Diameters = None,
    contrast_hu: ContrastHu = None,
    per_bin: PerBin = None,
    seed: Seed = None,
    organs: Organs = None,
    out: Annotated[Path, typer.Option("-o", "--output", help="Where the evaluation is written.")] = Path("evaluation"),
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="The summary as JSON on stdout.")] = False,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Only errors.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
) -> None:
    """Judge weights, or masks made earlier, on the scans of an assembly.

    Leaves cases.csv, lesions.csv, summary.json and report.html; results of single scans are in OUT/predictions. An
    interrupted evaluation goes on where it stopped. Exit code 1 when a scan could not be judged.

    With --planted only organs need labels: lesions of known size are planted into scans believed to have none. -c
    names the kinds. Leaves planted.json, lesions.csv and report.html.
    """
    del debug  # read by the error boundary
    words = [word.strip() for item in classes or [] for word in item.split(",") if word.strip()]
    options = PlantedOptions(diameters=diameters, contrast_hu=contrast_hu, per_bin=per_bin, seed=seed, organs=organs)
    if planted:
        foreign = {
            "--predictions": predictions, "--choose-on": choose_on, "--reader": reader, "--against": against,
            "--submission": submission,
        }  # fmt: skip
        _refuse([name for name, value in foreign.items() if value is not None], "does not go with --planted")
        done = evaluate_planted(
            assembly, data, words, options,
            split=split, weights=weights, out=out, device=device, as_json=as_json, quiet=quiet,
        )  # fmt: skip
        if not done:
            raise typer.Exit(1)
        return
    _refuse(options.given(), "means something with --planted alone")
    from voxicon.study import StudyConfig

    config = StudyConfig(
        split=split, choose_on=choose_on, tolerance_mm=tolerance_mm, readers=_readers(reader or []),
        against=against, submission=submission,
    )  # fmt: skip
    found = _run(assembly, data, words, config, weights, predictions, out=out, device=device, quiet=quiet)
    _tell(found, out, as_json=as_json, quiet=quiet)
    if found["failed"]:
        raise typer.Exit(1)


def _refuse(options: list[str], why: str) -> None:
    if options:
        raise UsageError(f"{options[0]}: {why}; leave it out")


def _run(
    assembly: Path,
    data: Path | None,
    words: list[str],
    config: StudyConfig,
    weights: str | None,
    predictions: Path | None,
    *,
    out: Path,
    device: str,
    quiet: bool,
) -> dict[str, Any]:
    """Judge everything and write it down; returns the summary."""
    if weights is not None and predictions is not None:
        raise UsageError("--weights and --predictions contradict each other; give one of them")
    from voxicon.cli.progress import progress_bar
    from voxicon.evaluation import save
    from voxicon.plan import plan_training
    from voxicon.recipe import load_recipe
    from voxicon.study import prepare_study, run_study

    recipe = load_recipe(assembly)
    if words:
        recipe = recipe.model_copy(update={"classes": tuple(words)})
    plan = plan_training(recipe, assembly.parent, data)
    study = prepare_study(plan, assembly.parent, _source(plan, weights, predictions, out, device), config)
    with progress_bar(quiet) as tick:
        run_study(study, tick)
    return save(study, out, shlex.join(["voxicon", *sys.argv[1:]]))


def _tell(found: Mapping[str, Any], out: Path, *, as_json: bool, quiet: bool) -> None:
    """A table or JSON on stdout, one line per scan that failed on stderr."""
    if as_json:
        typer.echo(json.dumps(found))
    elif not quiet:
        for line in lines(found):
            typer.echo(line)
        typer.echo(f"report: {out / 'report.html'}")
    for name, message in found["failed"].items():
        typer.echo(" ".join(f"voxicon: error {name}: {message}".split()), err=True)


def _source(plan: Plan, weights: str | None, folder: Path | None, out: Path, device: str) -> Predictions:
    from voxicon.prediction import ByWeights, FromFolder

    if folder is not None:
        cases = [case for dataset in plan.datasets for case in dataset.cases]
        return FromFolder(folder, cases)
    from voxicon.segmenter import load

    return ByWeights(load(weights or "starter", device=device), out / "predictions")


def _readers(given: list[str]) -> dict[str, Path]:
    readers: dict[str, Path] = {}
    for text in given:
        name, sign, folder = text.partition("=")
        if not (sign and name and folder) or name in readers:
            raise ConfigError(f"--reader {text!r}: expected NAME=FOLDER, every name once, such as R1=/data/reader1")
        if not Path(folder).is_dir():
            raise ConfigError(f"--reader {text!r}: no such folder; give the folder of this reader's label maps")
        readers[name] = Path(folder)
    return readers


def lines(found: Mapping[str, Any]) -> list[str]:
    """A summary in a few lines for a terminal."""
    nsd = f"NSD {found['tolerance_mm']:g} mm"
    shown = [f"{'class':28} {'n':>4}  {'Dice (95 %)':22} {nsd:>10} {'HD95 mm':>8}  absent/missed/false alarm"]
    for name, entry in found["classes"].items():
        cell = entry["all"]
        states = "/".join(str(cell[f"n_{state}"]) for state in ("absent", "missed", "false_alarm"))
        lacking = f", not predicted in {cell['n_not_predicted']}" if cell["n_not_predicted"] else ""
        shown.append(_line(name, cell) + f"  {states}{lacking}")
    if len(found["classes"]) > 1:
        shown.append(_line("mean over classes", found["mean"]["all"]))
    shown += [line for name, one in found["detection"].items() for line in _detection_lines(name, one)]
    if found["submission"]:
        shown.append(f"submission: {len(found['submission']['files'])} files in {found['submission']['folder']}")
    return shown + [f"note: {note}" for note in found["notes"]]


def _line(name: str, cell: Mapping[str, Any]) -> str:
    dice = cell["dice"]
    interval = "" if dice["low"] is None else f" [{dice['low']:.3f}, {dice['high']:.3f}]"
    text = f"{_number(dice['mean'])}{interval}"
    nsd, hd95_mm = _number(cell["nsd"]["mean"]), _number(cell["hd95_mm"]["mean"], 1)
    return f"{name:28} {dice['n']:>4}  {text:22} {nsd:>10} {hd95_mm:>8}"


def _detection_lines(name: str, one: Mapping[str, Any]) -> list[str]:
    called = one["any_voxel"]
    rates = ", ".join(f"{rate} {_share(called[rate])}" for rate in ("sensitivity", "specificity"))
    shown = [
        f"{name}: patients, any voxel: {rates}; lesions found {_share(one['lesions']['sensitivity']['all'])}",
    ]
    point = one["operating_point"]
    if point:
        rates = ", ".join(f"{rate} {_share(point['reported'][rate])}" for rate in ("sensitivity", "specificity"))
        shown.append(f"{name}: at {_number(point['threshold'])} chosen on {point['chosen_on']}: {rates}")
    return shown + [f"{name}: {note}" for note in one["notes"]]


def _share(share: Mapping[str, Any]) -> str:
    if share["value"] is None:
        return "unknown (none to tell by)"
    return f"{share['count']}/{share['total']} = {share['value']:.0%} [{share['low']:.0%}, {share['high']:.0%}]"


def _number(value: float | None, digits: int = 3) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
