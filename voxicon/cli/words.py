"""``voxicon words``: the vectors behind the words, made, listed and compared."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from voxicon.errors import UsageError

if TYPE_CHECKING:
    from voxicon.recipe import TextSection
    from voxicon.words import Entry

app = typer.Typer(help="Make, list and compare the vectors behind the words.", no_args_is_help=True)

_Encoder = Annotated[str, typer.Option(help="minilm, clip, table, onehot or random.")]
_Template = Annotated[str, typer.Option(help="V1 to V4, rich (several texts), or a sentence with {}.")]
_Center = Annotated[bool, typer.Option("--center/--no-center", help="Take away what all words share.")]
_Angle = Annotated[
    float, typer.Option("--side-angle-deg", help="Least angle between a left and a right word; 0 for none.")
]
_File = Annotated[
    Path | None, typer.Option("--file", help="What the encoder reads: a table of words, or a folder with CLIP's files.")
]
_Free = Annotated[bool, typer.Option("--free", help="Take words that are in no vocabulary, as they are written.")]
_Weights = Annotated[str | None, typer.Option(help="'starter', installed weights, or a .safetensors file.")]
_Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace OUT if it is there.")]
_Debug = Annotated[bool, typer.Option("--debug", help="Show tracebacks.")]

_LISTED = 10
"""Closest pairs that are printed."""


@app.command("encode")
def encode(
    names: Annotated[list[str], typer.Argument(metavar="NAMES...", help="Words of the vocabulary.")],
    out: Annotated[Path, typer.Option("-o", "--output", help="A .safetensors, .json or .csv file.")],
    encoder: _Encoder = "minilm",
    template: _Template = "V1",
    center: _Center = True,
    side_angle_deg: _Angle = 0.0,
    file: _File = None,
    free: _Free = False,
    overwrite: _Overwrite = False,
    debug: _Debug = False,
) -> None:
    """Write a bank: one vector per word, which the encoder 'table' reads."""
    del debug  # read by the error boundary
    from voxicon.words import encode_words, entries_of_bank, write_bank

    _refuse_existing(out, overwrite)
    bank = encode_words(names, _section(encoder, template, center, side_angle_deg, file), free=free)
    write_bank(bank, out)
    _warn(entries_of_bank(bank))
    typer.echo(str(out))


@app.command("list")
def list_words(
    weights: _Weights = "starter",
    as_json: Annotated[bool, typer.Option("--json", help="Print all fields as JSON.")] = False,
    debug: _Debug = False,
) -> None:
    """List the words that weights carry: prompt, encoder, length, and the word that is most like it."""
    del debug
    from voxicon.weights.store import resolve
    from voxicon.words import entries_of_weights, neighbors

    entries = entries_of_weights(resolve(weights or "starter"))
    nearest = neighbors(entries)
    rows = [
        {
            "name": entry.name,
            "prompt": entry.prompt,
            "encoder": entry.encoder,
            "norm": round(entry.norm, 4),
            "nearest": nearest[entry.name].second if entry.name in nearest else None,
            "cosine": round(nearest[entry.name].cosine, 4) if entry.name in nearest else None,
        }
        for entry in entries
    ]
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
        return
    for row in rows:
        near = f"{row['cosine']:+.3f} {row['nearest']}" if row["nearest"] else "no other word"
        said = str(row["prompt"]).replace("\n", " | ") or "prompt not recorded"
        typer.echo(f"{row['name']:<30} {row['norm']:6.2f}  {near:<38} {row['encoder']}: {said}")


@app.command("compare")
def compare(
    what: Annotated[
        list[str] | None,
        typer.Argument(metavar="[BANK | NAMES...]", help="A bank's file, or words; the starter weights' by default."),
    ] = None,
    out: Annotated[Path | None, typer.Option("-o", "--output", help="A .png or .svg of all cosines.")] = None,
    weights: _Weights = None,
    encoder: _Encoder = "minilm",
    template: _Template = "V1",
    center: _Center = True,
    side_angle_deg: _Angle = 0.0,
    file: _File = None,
    free: _Free = False,
    overwrite: _Overwrite = False,
    debug: _Debug = False,
) -> None:
    """Compare words by the cosines of their vectors: the closest pairs, and a picture of all."""
    del debug
    from voxicon.words import closest_pairs

    kind = None if out is None else _picture_kind(out, overwrite)
    if what and weights:
        raise UsageError(f"{what[0]!r} and --weights {weights}: say one thing: a bank, words, or weights")
    entries = _entries(what or [], weights, _section(encoder, template, center, side_angle_deg, file), free)
    pairs = closest_pairs(entries)
    if out is not None and kind is not None:
        _draw(entries, out, kind)
    for pair in pairs[:_LISTED]:
        typer.echo(f"{pair.cosine:+.3f}  {pair.first}  {pair.second}")
    _warn(entries)
    if out is not None:
        typer.echo(str(out))


def _section(encoder: str, template: str, center: bool, side_angle_deg: float, file: Path | None) -> TextSection:
    from voxicon.recipe import TextSection

    if not 0 <= side_angle_deg < 180:
        raise UsageError(f"--side-angle-deg {side_angle_deg}: expected 0 (none) or more, and less than 180")
    return TextSection(
        encoder=encoder, template=template, center=center, side_angle_deg=side_angle_deg, file=file,
    )  # fmt: skip


def _entries(what: list[str], weights: str | None, text: TextSection, free: bool) -> list[Entry]:
    from voxicon.model.tables import SUFFIXES
    from voxicon.weights.store import resolve
    from voxicon.words import encode_words, entries_of_bank, entries_of_table, entries_of_weights

    if not what:
        return entries_of_weights(resolve(weights or "starter"))
    if len(what) == 1 and Path(what[0]).suffix in SUFFIXES:
        return entries_of_table(Path(what[0]))
    return entries_of_bank(encode_words(what, text, free=free))


def _picture_kind(out: Path, overwrite: bool) -> Literal["png", "svg"]:
    _refuse_existing(out, overwrite)
    if out.suffix == ".png":
        return "png"
    if out.suffix == ".svg":
        return "svg"
    raise UsageError(f"{out}: the picture must end in .png or .svg")


def _refuse_existing(out: Path, overwrite: bool) -> None:
    if out.exists() and not overwrite:
        raise UsageError(f"{out}: is already there; use --overwrite to replace it")


def _draw(entries: list[Entry], out: Path, kind: Literal["png", "svg"]) -> None:
    from voxicon.io.atomic import write_bytes
    from voxicon.report.similarity import similarity_matrix
    from voxicon.words import cosines

    encoders = ", ".join(dict.fromkeys(entry.encoder or "not recorded" for entry in entries))
    title = f"Cosines of {len(entries)} words, in percent ({encoders})"
    write_bytes(out, similarity_matrix(title, [entry.name for entry in entries], cosines(entries), kind))


def _warn(entries: list[Entry]) -> None:
    """Say on stderr which words a network will hardly tell apart, and what helps."""
    from voxicon.words import NEARLY_SAME, closest_pairs

    same = [pair for pair in closest_pairs(entries) if pair.cosine > NEARLY_SAME]
    if not same:
        return
    for pair in same[:_LISTED]:
        typer.echo(f"warning: {pair.first} and {pair.second} are nearly one vector: {pair.cosine:.3f}", err=True)
    more = f" (and {len(same) - _LISTED} pairs more)" if len(same) > _LISTED else ""
    typer.echo(
        f"above a cosine of {NEARLY_SAME}{more} words are hard to tell apart; what helps when a bank is made: "
        "--center, --template rich, and for left and right --side-angle-deg 60; in a recipe text.center, "
        "text.template and text.side_angle_deg",
        err=True,
    )
