"""``voxicon segment``: scans in, masks out."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from voxicon.cli.options import (
    FAST_OVERLAP,
    Colors,
    Device,
    Engine,
    Fast,
    Locate,
    MaxMemory,
    Offset,
    Orientation,
    Overlap,
    Precision,
    Spacing,
    Use,
    Volume,
    read_options,
)  # fmt: skip
from voxicon.errors import UnknownClass, UsageError

if TYPE_CHECKING:
    from voxicon.io.read_options import ReadOptions
    from voxicon.report.palette import Colors as PaletteColors
    from voxicon.workflow import Outcome

_EVERY = "all"


def segment(
    scans: Annotated[list[Path] | None, typer.Argument(help="CT files (.nii, .nii.gz) or folders of them.")] = None,
    more: Annotated[list[Path] | None, typer.Option("-i", "--input", help="The same as an argument.")] = None,
    out: Annotated[Path, typer.Option("-o", "--output", help="Results go to OUT/<scan name>/.")] = Path("out"),
    classes: Annotated[
        list[str] | None, typer.Option("-c", "--classes", help="What to find, by name, alias or id; comma or repeat.")
    ] = None,
    probabilities: Annotated[
        list[str] | None,
        typer.Option(metavar="CLASS", help="Write probabilities of it too; comma or repeat; 'all' of -c."),
    ] = None,
    weights: Annotated[str, typer.Option(help="'starter', installed weights, or a .safetensors file.")] = "starter",
    device: Device = "auto",
    engine: Engine = "auto",
    precision: Precision = "fp32",
    overlap: Overlap = None,
    fast: Fast = False,
    locate: Locate = False,
    max_memory: MaxMemory = None,
    cleanup: Annotated[
        Literal["default", "original", "none"], typer.Option(help="Rules applied to masks; original: as the authors.")
    ] = "default",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace results that are there.")] = False,
    keep: Annotated[bool, typer.Option("--continue", help="Skip scans whose result is complete.")] = False,
    preview: Annotated[bool, typer.Option(help="Write preview.png.")] = True,
    colors: Colors = "vocabulary",
    as_json: Annotated[bool, typer.Option("--json", help="One JSON line per scan on stdout.")] = False,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Only errors.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
    volume: Volume = None,
    use: Use = None,
    assume_orientation: Orientation = None,
    spacing: Spacing = None,
    hu_offset: Offset = None,
) -> None:
    """Find organs and tumors in CT scans.

    Writes OUT/<scan name>/segmentations/<class>.nii.gz on the scan's own grid, combined_labels.nii.gz,
    preview.png and case.json; with --probabilities also probabilities/<class>.nii.gz, 0 to 1, not cleaned up.
    """
    del debug  # read by the error boundary
    if overwrite and keep:
        raise UsageError("--overwrite and --continue contradict each other; give one of them")
    if fast and overlap is not None:
        raise UsageError("--fast and --overlap contradict each other; give one of them")
    inputs = [*(scans or []), *(more or [])]
    if not inputs:
        raise UsageError("no scan given; try: voxicon segment ct.nii.gz -o out")
    options = read_options(volume, use, assume_orientation, spacing, hu_offset)
    failed = _run(
        inputs, out, _words(classes) if classes else None, _words(probabilities),
        weights=weights, device=device, engine=engine, precision=precision,
        overlap=FAST_OVERLAP if fast else overlap, max_memory_gb=max_memory, locate=locate, cleanup=cleanup,
        options=options, preview=colors if preview else False,
        if_exists="overwrite" if overwrite else "continue" if keep else "refuse", quiet=quiet, as_json=as_json,
    )  # fmt: skip
    if failed:
        raise typer.Exit(1)


def _run(
    inputs: list[Path],
    out: Path,
    words: list[str] | None,
    maps: list[str],
    *,
    weights: str,
    device: str,
    engine: Literal["auto", "torch", "openvino"],
    precision: Literal["fp32", "bf16"],
    overlap: float | None,
    max_memory_gb: float | None,
    locate: bool,
    cleanup: Literal["default", "original", "none"],
    options: ReadOptions,
    preview: PaletteColors | Literal[False],
    if_exists: Literal["refuse", "overwrite", "continue"],
    quiet: bool,
    as_json: bool,
) -> int:
    """Segment everything; returns how many scans failed."""
    from voxicon.cli.progress import progress_bar
    from voxicon.workflow import find_jobs, run_jobs

    jobs = find_jobs(inputs, out)
    # Words are checked before the weights are loaded: a typing error should not cost seconds.
    names = None if words is None else _names(words, weights)
    named = tuple(_names([word for word in maps if word != _EVERY], weights))

    from voxicon.segmenter import load

    segmenter = load(
        weights, device=device, engine=engine, precision=precision, overlap=overlap, max_memory_gb=max_memory_gb,
        locate=locate,
    )  # fmt: skip
    asked, _ = segmenter.with_probabilities(names, named)
    if not quiet:
        typer.echo(
            f"weights {segmenter.name} on {segmenter.device} ({segmenter.engine.name}), {len(jobs)} scan(s)", err=True
        )
    failed = 0
    with progress_bar(quiet) as tick:
        outcomes = run_jobs(
            segmenter, jobs, asked, if_exists=if_exists, preview=preview,
            progress=lambda job, done, total: tick(job.folder.name, done, total),
            planned=lambda job, plan: None if quiet else typer.echo(f"{job.scan.name}: takes {plan}", err=True),
            cleanup=cleanup, read=options, probabilities=asked if _EVERY in maps else named,
        )  # fmt: skip
        # Closed here, what is being written when telling fails (a broken pipe) is still whole.
        with closing(outcomes):
            for outcome in outcomes:
                failed += outcome.status == "failed"
                _tell(outcome, quiet=quiet, as_json=as_json)
    return failed


def _names(words: list[str], weights: str) -> list[str]:
    """Canonical names; the weights are asked for words of their own only where the shipped vocabulary lacks one."""
    from voxicon.core.concepts import Vocabulary

    vocabulary = Vocabulary.default()
    try:
        return [vocabulary.resolve(word).name for word in words]
    except UnknownClass:
        from voxicon.infer.settings import vocabulary_of
        from voxicon.model.checkpoint import read_metadata
        from voxicon.weights.store import resolve

        own = vocabulary_of(read_metadata(resolve(weights)).card, weights)
        return [own.resolve(word).name for word in words]


def _tell(outcome: Outcome, *, quiet: bool, as_json: bool) -> None:
    """One line about a finished job: errors on stderr, JSON on stdout."""
    job, error = outcome.job, outcome.error
    if as_json:
        row: dict[str, object] = {"scan": str(job.scan), "folder": str(job.folder), "status": outcome.status}
        row |= {"seconds": outcome.seconds} if error is None else {"code": error.code, "message": str(error)}
        typer.echo(json.dumps(row))
    if error is not None:
        typer.echo(f"voxicon: error [{error.code}] {error}", err=True)
    elif not quiet and outcome.status == "skipped":
        typer.echo(f"{job.folder}: complete, left as it is", err=True)
    elif not quiet:
        case = json.loads((job.folder / "case.json").read_text(encoding="utf8"))
        found = sum(1 for volume_ml in case["volumes_ml"].values() if volume_ml > 0)
        typer.echo(
            f"{job.folder}: {found} of {len(case['volumes_ml'])} classes found in {outcome.seconds:g} s", err=True
        )
        for warning in case["warnings"]:
            typer.echo(f"  warning: {warning}", err=True)


def _words(given: list[str] | None) -> list[str]:
    return [word.strip() for item in given or [] for word in item.split(",") if word.strip()]
