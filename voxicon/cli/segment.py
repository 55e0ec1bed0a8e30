"""``voxicon segment``: scans in, masks out."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from voxicon.errors import UnknownClass, UsageError

if TYPE_CHECKING:
    from voxicon.io.read_options import ReadOptions
    from voxicon.report.palette import Colors
    from voxicon.workflow import Outcome

_FILE = "Reading odd files"
_Volume = Annotated[int | None, typer.Option(help="Which volume of a 4D file, from 0.", rich_help_panel=_FILE)]
_Use = Annotated[str | None, typer.Option(help="'sform' or 'qform' where they disagree.", rich_help_panel=_FILE)]
_Orientation = Annotated[
    str | None, typer.Option(help="Such as RAS, where the file places nothing.", rich_help_panel=_FILE)
]
_Spacing = Annotated[
    str | None, typer.Option(help="Voxel size 'x,y,z' in mm, where the file's is wrong.", rich_help_panel=_FILE)
]
_Offset = Annotated[float | None, typer.Option(help="Added to every value, such as -1024.", rich_help_panel=_FILE)]

_SPEED = "Speed and memory"
_Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.", rich_help_panel=_SPEED)]
_Engine = Annotated[
    Literal["auto", "torch", "openvino"],
    typer.Option(help="What computes the network; openvino: CPU, faster.", rich_help_panel=_SPEED),
]
_Precision = Annotated[
    Literal["fp32", "bf16"],
    typer.Option(help="bf16: faster on some devices; only for scans that bear it.", rich_help_panel=_SPEED),
]
_Overlap = Annotated[
    float | None,
    typer.Option(
        help="Share of a window its neighbor covers too; the weights' own if left out.", rich_help_panel=_SPEED
    ),
]
_Fast = Annotated[bool, typer.Option("--fast", help="The same as --overlap 0.25: less exact.", rich_help_panel=_SPEED)]
_Locate = Annotated[
    bool,
    typer.Option("--locate", help="Find organs with 'starter' first, then look only there.", rich_help_panel=_SPEED),
]
_MaxMemory = Annotated[
    float | None,
    typer.Option(
        metavar="GB", help="Stay below, by temporary files; refuse scans that cannot.", rich_help_panel=_SPEED
    ),
]

_EVERY = "all"
_FAST_OVERLAP = 0.25
"""Two thirds as many windows along each axis that holds several, compared with the usual 0.5."""


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
    device: _Device = "auto",
    engine: _Engine = "auto",
    precision: _Precision = "fp32",
    overlap: _Overlap = None,
    fast: _Fast = False,
    locate: _Locate = False,
    max_memory: _MaxMemory = None,
    cleanup: Annotated[
        Literal["default", "original", "none"], typer.Option(help="Rules applied to masks; original: as the authors.")
    ] = "default",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace results that are there.")] = False,
    keep: Annotated[bool, typer.Option("--continue", help="Skip scans whose result is complete.")] = False,
    preview: Annotated[bool, typer.Option(help="Write preview.png.")] = True,
    colors: Annotated[
        Literal["vocabulary", "safe"], typer.Option(help="Of preview.png; safe: for color-blind readers too.")
    ] = "vocabulary",
    as_json: Annotated[bool, typer.Option("--json", help="One JSON line per scan on stdout.")] = False,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Only errors.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
    volume: _Volume = None,
    use: _Use = None,
    assume_orientation: _Orientation = None,
    spacing: _Spacing = None,
    hu_offset: _Offset = None,
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
    options = _read_options(volume, use, assume_orientation, spacing, hu_offset)
    failed = _run(
        inputs, out, _words(classes) if classes else None, _words(probabilities),
        weights=weights, device=device, engine=engine, precision=precision,
        overlap=_FAST_OVERLAP if fast else overlap, max_memory_gb=max_memory, locate=locate, cleanup=cleanup,
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
    preview: Colors | Literal[False],
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


def _read_options(
    volume: int | None, use: str | None, orientation: str | None, spacing: str | None, hu_offset: float | None
) -> ReadOptions:
    from voxicon.io.read_options import ReadOptions

    spacing_mm = None
    if spacing is not None:
        try:
            x, y, z = (float(s) for s in spacing.split(","))
        except ValueError:
            raise UsageError(f"--spacing {spacing!r}: expected three numbers such as 0.8,0.8,2.5") from None
        spacing_mm = (x, y, z)
    return ReadOptions(
        volume=volume,
        use=use,  # type: ignore[arg-type]
        assume_orientation=orientation,
        spacing_mm=spacing_mm,
        hu_offset=hu_offset,
    )
