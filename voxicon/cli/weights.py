"""``voxicon weights``: fetch, convert, join, look at and check weights, and tell them where to cut."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Literal

import typer

app = typer.Typer(
    help="Fetch, convert, join, look at and check weights, and tell them where to cut.", no_args_is_help=True
)

_Debug = Annotated[bool, typer.Option("--debug", help="Show tracebacks.")]


@app.command("get")
def get(
    source: Annotated[str, typer.Argument(help="hf:OWNER/REPO/FILE, with @REVISION if wanted.")],
    sha256: Annotated[str | None, typer.Option(help="Refuse the file if its hash is another.")] = None,
    debug: _Debug = False,
) -> None:
    """Download weights from the Hugging Face hub; size and license are printed first."""
    del debug
    from voxicon.weights.fetch import fetch

    path = fetch(source, sha256=sha256, announce=lambda line: typer.echo(line, err=True))
    if path.suffix != ".safetensors":
        typer.echo(f"next: voxicon weights convert {path} -o {path.with_suffix('.safetensors')}", err=True)
    typer.echo(str(path))


@app.command("convert")
def convert(
    official: Annotated[Path, typer.Argument(metavar="OFFICIAL.pth", help="The authors' checkpoint.")],
    out: Annotated[Path, typer.Option("-o", "--output", help="Where to write the .safetensors file.")],
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace OUT if it is there.")] = False,
    debug: _Debug = False,
) -> None:
    """Convert the authors' .pth to safetensors, keeping its text vectors; no code in it is run."""
    del debug
    from voxicon.core.concepts import Vocabulary
    from voxicon.errors import UsageError
    from voxicon.model.official import convert_official

    if out.suffix != ".safetensors":
        raise UsageError(f"{out}: the output must end in .safetensors")
    if out.exists() and not overwrite:
        raise UsageError(f"{out}: is already there; use --overwrite to replace it")
    concepts = [concept for concept in Vocabulary.default() if concept.original]
    placement = convert_official(official, out, [c.name for c in concepts], [c.original for c in concepts])
    typer.echo(placement.describe(), err=True)
    typer.echo(str(out))


@app.command("info")
def info(
    weights: Annotated[
        str | None, typer.Argument(help="'starter', a name or a path; all installed when left out.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
    debug: _Debug = False,
) -> None:
    """Say what weights are: classes, preparation, training card."""
    del debug
    from voxicon.weights.store import installed, resolve

    if weights is None:
        for entry in installed():
            typer.echo(f"{entry.name:<28} {entry.size_bytes / 1e6:8.1f} MB  {entry.path}")
        return
    from voxicon.answering.detection import operating_points
    from voxicon.joining import described_inside
    from voxicon.model.checkpoint import read_metadata
    from voxicon.operating import described

    path = resolve(weights)
    metadata = read_metadata(path)
    if as_json:
        typer.echo(metadata.to_json())
        return
    typer.echo(f"{path}  {path.stat().st_size / 1e6:.1f} MB")
    typer.echo(f"classes      {', '.join(metadata.trained)}")
    typer.echo(f"backbone     {metadata.network.backbone} {dict(metadata.network.options) or ''}".rstrip())
    typer.echo(f"preparation  {json.dumps(dict(metadata.preparation))}")
    typer.echo(f"inference    {json.dumps(dict(metadata.inference))}")
    typer.echo(f"text         {metadata.text_bank.get('encoder')}, {metadata.network.embedding_size} numbers a word")
    for key, value in metadata.card.items():
        if not isinstance(value, dict | list):
            typer.echo(f"{key:<12} {value}")
    if metadata.inside is not None:
        typer.echo(
            f"inside       {described_inside(metadata, path.stem) or 'nothing that these weights have organs for'}"
        )
        typer.echo(f"inside title {metadata.inside.card.get('title', 'not stated')}")
    for name, point in operating_points(metadata.card, path.stem).items():
        typer.echo(f"operating    {described(name, point)}")


@app.command("join")
def join(
    organs: Annotated[str, typer.Argument(help="Weights that find organs: 'starter', a name or a path.")],
    lesions: Annotated[str, typer.Argument(help="Weights that look into organs, likewise.")],
    out: Annotated[Path, typer.Option("-o", "--output", help="Where to write the new .safetensors file.")],
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace OUT if it is there.")] = False,
    debug: _Debug = False,
) -> None:
    """Write weights that find organs with one network and look into them for lesions with another.

    What both find is found by LESIONS.
    """
    del debug
    from voxicon.errors import UsageError
    from voxicon.joining import described_inside
    from voxicon.joining import join as write
    from voxicon.weights.store import resolve

    if out.exists() and not overwrite:
        raise UsageError(f"{out}: is already there; use --overwrite to replace it")
    metadata = write(resolve(organs), resolve(lesions), out)
    typer.echo(f"inside: {described_inside(metadata, out.name)}", err=True)
    typer.echo(str(out))


@app.command("operate")
def operate(
    weights: Annotated[str, typer.Argument(help="'starter', a name or a path; stays as it is.")],
    folder: Annotated[
        Path, typer.Option("--from", metavar="FOLDER", help="Output of 'voxicon evaluate' with these weights.")
    ],
    out: Annotated[Path, typer.Option("-o", "--output", help="Where to write the new .safetensors file.")],
    specificity: Annotated[
        Literal["0.8", "0.9"] | None, typer.Option(help="Of planted lesions: which threshold to take; 0.9 by default.")
    ] = None,
    classes: Annotated[
        list[str] | None,
        typer.Option("-c", "--class", help="Only these lesions, by name, alias or id; comma or repeat."),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace OUT if it is there.")] = False,
    debug: _Debug = False,
) -> None:
    """Write the same weights with thresholds that an evaluation chose, and what it found of them.

    'voxicon ask' then says by them whether a patient has a kind of lesion, and how far that can be trusted.
    """
    del debug
    from voxicon.errors import UsageError
    from voxicon.operating import described, read_evaluation
    from voxicon.operating import operate as write
    from voxicon.weights.store import resolve

    if out.exists() and not overwrite:
        raise UsageError(f"{out}: is already there; use --overwrite to replace it")
    words = [word.strip() for item in classes or [] for word in item.split(",") if word.strip()]
    evaluation = read_evaluation(folder, specificity)
    points = write(resolve(weights), evaluation, out, words)
    for name, point in points.items():
        typer.echo(described(name, point))
    for name, why in {} if words else evaluation.lacking.items():
        typer.echo(f"{name}: left out: {why}", err=True)
    typer.echo(str(out))


@app.command("verify")
def verify(
    weights: Annotated[str, typer.Argument(help="'starter', a name or a path.")] = "starter",
    debug: _Debug = False,
) -> None:
    """Compare weights with the hash recorded when they were installed, and load them once."""
    del debug
    from voxicon.model.checkpoint import load_checkpoint
    from voxicon.weights.store import resolve
    from voxicon.weights.store import verify as check

    path = resolve(weights)
    check(path)
    checkpoint = load_checkpoint(path)
    typer.echo(f"{path}: sound, sha256 {checkpoint.sha256}")
