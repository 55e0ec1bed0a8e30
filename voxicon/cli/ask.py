"""``voxicon ask``: a scan and sentences in, answers out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from voxicon.cli.options import (
    FAST_OVERLAP,
    Colors,
    Device,
    Engine,
    Fast,
    Locate,
    Offset,
    Orientation,
    Spacing,
    Use,
    Volume,
    read_options,
)  # fmt: skip
from voxicon.errors import OutputError, UsageError

if TYPE_CHECKING:
    from voxicon.answering.language import Language
    from voxicon.asking import Request
    from voxicon.core.concepts import Vocabulary
    from voxicon.core.volume import Volume as CtVolume
    from voxicon.finder import Finder
    from voxicon.inquiry import Inquiry
    from voxicon.segmenter import Segmenter

_PAGES = ("report.html", "report.pdf")

_Requests = Annotated[
    list[str] | None, typer.Argument(metavar="REQUEST...", help="Sentences such as 'measure the liver'.")
]
_RequestFile = Annotated[
    Path | None, typer.Option(help="A text file of requests, one a line; lines that begin with # are left out.")
]
_Masks = Annotated[
    Path | None, typer.Option(help="Folder of masks of this scan that count as they are; the rest is found.")
]
_ParseOnly = Annotated[bool, typer.Option("--parse-only", help="Say what is understood, and stop.")]


def ask(
    scan: Annotated[Path, typer.Argument(help="A CT (.nii, .nii.gz).")],
    requests: _Requests = None,
    request_file: _RequestFile = None,
    out: Annotated[Path, typer.Option("-o", "--output", help="Results go to OUT/<scan name>/.")] = Path("out"),
    masks: _Masks = None,
    weights: Annotated[str, typer.Option(help="'starter', installed weights, or a .safetensors file.")] = "starter",
    report_language: Annotated[str, typer.Option(help="Of the report's sentences.")] = "en",
    report: Annotated[bool, typer.Option(help="Write report.html.")] = True,
    pdf: Annotated[bool, typer.Option("--pdf", help="Write report.pdf too; needs voxicon[pdf].")] = False,
    parse_only: _ParseOnly = False,
    device: Device = "auto",
    engine: Engine = "auto",
    fast: Fast = False,
    locate: Locate = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace results that are there.")] = False,
    preview: Annotated[bool, typer.Option(help="Write preview.png.")] = True,
    colors: Colors = "vocabulary",
    as_json: Annotated[bool, typer.Option("--json", help="Print findings.json instead of sentences.")] = False,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Only answers and errors.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
    volume: Volume = None,
    use: Use = None,
    assume_orientation: Orientation = None,
    spacing: Spacing = None,
    hu_offset: Offset = None,
) -> None:
    """Ask for organs and tumors of a CT in plain English: segment, mark, measure, count, compare, report.

    Says first how each request was understood. Writes what 'segment' does, and findings.json, measurements.csv,
    report.html, and answers/ with the masks of what is less than a whole class.
    """
    del debug  # read by the error boundary
    texts = _texts(requests, request_file)
    pairs = _understood(texts, weights, parse_only=parse_only, as_json=as_json, quiet=quiet)
    if parse_only:
        return
    from voxicon.answering.language import language
    from voxicon.finder import finder_of, needed
    from voxicon.io.nifti import read_volume
    from voxicon.report.pdf import check_printing
    from voxicon.workflow import find_jobs

    overlap = FAST_OVERLAP if fast else None
    finder = finder_of(weights, device=device, engine=engine, overlap=overlap, locate=locate)
    say = language(report_language, finder.vocabulary)
    if pdf:
        check_printing()
    needed(pairs, finder, masks=masks)  # what cannot be answered is refused before a scan is read
    (job,) = find_jobs([_one_file(scan)], out)
    if not overwrite and job.folder.is_dir() and any(job.folder.iterdir()):
        raise OutputError(f"{job.folder}: already holds a result; use --overwrite to replace it, or another -o")
    read = read_options(volume, use, assume_orientation, spacing, hu_offset)
    inquiry = _answered(read_volume(job.scan, read), pairs, finder, masks, say, quiet)
    written = inquiry.save(job.folder, preview=preview, page=report, pdf=pdf, colors=colors)
    _tell(inquiry, written, job.folder, as_json=as_json, quiet=quiet)


def _texts(requests: list[str] | None, request_file: Path | None) -> list[str]:
    """All requests, those of the file last."""
    texts = [*(requests or []), *(_lines(request_file) if request_file is not None else [])]
    if not texts:
        raise UsageError("no request given; try: voxicon ask ct.nii.gz 'measure the liver'")
    return texts


def _lines(path: Path) -> list[str]:
    """The requests of a file.

    Raises:
        UsageError: It cannot be read, or holds none.
    """
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: cannot be read as text ({error}); expected one request a line") from error
    requests = [line for line in lines if line and not line.startswith("#")]
    if not requests:
        raise UsageError(f"{path}: holds no request; expected one a line, such as: measure the liver")
    return requests


def _one_file(scan: Path) -> Path:
    if scan.is_dir():
        raise UsageError(f"{scan}: is a folder; ask about one scan at a time: give its .nii or .nii.gz file")
    return scan


def _understood(
    texts: list[str], weights: str, *, parse_only: bool, as_json: bool, quiet: bool
) -> tuple[tuple[str, Request], ...]:
    """Requests as written and as understood, which is said."""
    from voxicon.asking import understood

    pairs = understood(texts, _vocabulary(weights))
    if parse_only and as_json:
        typer.echo(json.dumps([request.to_dict() for _, request in pairs], indent=2))
    elif not as_json or not quiet:
        _tell_understood(pairs, err=as_json)
    return pairs


def _vocabulary(weights: str) -> Vocabulary:
    """The words that weights know. Those of the starter are the shipped ones: a typing error need not load torch."""
    from voxicon.core.concepts import Vocabulary

    if weights == "starter":
        return Vocabulary.default()
    from voxicon.infer.settings import vocabulary_of
    from voxicon.model.checkpoint import read_metadata
    from voxicon.weights.store import resolve

    return vocabulary_of(read_metadata(resolve(weights)).card, weights)


def _tell_understood(pairs: tuple[tuple[str, Request], ...], *, err: bool) -> None:
    """Each request in plain words, with what was corrected and left out."""
    for _, request in pairs:
        typer.echo(f"understood: {request.in_plain_words()}", err=err)
        for wrong, right in request.corrected:
            typer.echo(f"  read {wrong!r} as {right!r}", err=err)
        if request.ignored:
            typer.echo(f"  left out: {', '.join(request.ignored)}", err=err)


def _answered(
    volume: CtVolume,
    pairs: tuple[tuple[str, Request], ...],
    finder: Finder,
    masks: Path | None,
    say: Language,
    quiet: bool,
) -> Inquiry:
    from voxicon.cli.progress import progress_bar
    from voxicon.inquiry import answer

    def planned(segmenter: Segmenter) -> None:
        if not quiet:
            typer.echo(f"weights {segmenter.name} on {segmenter.device} ({segmenter.engine.name})", err=True)

    with progress_bar(quiet) as tick:
        return answer(
            volume, pairs, finder, masks=masks, language=say, planned=planned,
            progress=lambda done, total: tick(volume.source.name, done, total),
        )  # fmt: skip


def _tell(inquiry: Inquiry, written: list[Path], folder: Path, *, as_json: bool, quiet: bool) -> None:
    """The answers on stdout, with the files they are in; warnings on stderr."""
    document = inquiry.document
    if as_json:
        typer.echo(json.dumps(document.to_dict(), ensure_ascii=False))
    else:
        _tell_answers(inquiry, folder)
        for path in written:
            if path.name in _PAGES:
                typer.echo(f"-> {path}")
    if not quiet:
        for warning in document.warnings:
            typer.echo(f"  warning: {warning}", err=True)
        typer.echo(f"{folder}: {document.notice}", err=True)


def _tell_answers(inquiry: Inquiry, folder: Path) -> None:
    from voxicon.answering.telling import answer_lines

    document = inquiry.document
    told: set[str] = set()
    lesions = {(lesion.name, lesion.number): lesion for lesion in document.lesions}
    for request in document.requests:
        for clause in request.clauses:
            typer.echo(clause.understood)
            for line in answer_lines(clause, lesions, inquiry.language):
                typer.echo(f"  {line}")
            paths = dict.fromkeys(path for target in clause.targets for path in target.masks)
            # What is said of the same thing again need not name its file again.
            for path in [path for path in paths if path not in told]:
                typer.echo(f"  -> {folder / path}")
            told.update(paths)
    for line in document.impression:
        typer.echo(f"- {line}")
