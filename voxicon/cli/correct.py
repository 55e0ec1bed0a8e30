"""``voxicon correct``: what a written report makes of a result."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from voxicon.correction import Corrections

_TO_ANNOTATE = ("missing", "not looked for")


def correct(
    folder: Annotated[Path, typer.Argument(help="A result of 'voxicon segment': OUT/<scan name>.")],
    report: Annotated[Path, typer.Option("--report", help="The written report, a text file, English.")],
    remove: Annotated[
        bool, typer.Option("--remove", help="Take out what the report denies; it is kept in removed/.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print corrections.json.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
) -> None:
    """Check the lesions of a result against a radiology or pathology report.

    Lesions that the report denies are flagged, or removed with --remove; lesions that it tells of and that were not
    found are flagged for annotation. Every decision and its reason go to corrections.json in the folder.
    """
    del debug
    from voxicon.correction import correct as run

    done = run(folder, report, remove=remove)
    if done.dropped:
        typer.echo(f"{folder}: deleted, as they told of the old masks: {', '.join(done.dropped)}", err=True)
    if as_json:
        typer.echo(json.dumps(done.document, indent=2, ensure_ascii=False))
        return
    for decision in done.document["decisions"]:
        typer.echo(_line(decision))
    typer.echo(_closing(done, remove=remove))


def _line(decision: dict[str, Any]) -> str:
    """Such as "flagged: liver_tumor 1 (2.3 ml at 10, -4, 22 mm): liver is said to be normal: 'Normal liver.'"."""
    label = _label(decision) + (", to be annotated" if decision["action"] in _TO_ANNOTATE else "")
    what = " or ".join(decision["lesions"]) or "tumor"
    if decision["piece"] is not None:
        at = ", ".join(f"{value:g}" for value in decision["center_mm"])
        what += f" {decision['piece']} ({decision['volume_ml']:g} ml at {at} mm)"
    quoted = "".join(f' "{sentence}"' for sentence in decision["sentences"])
    return f"{label}: {what}: {decision['reason']}{':' + quoted if quoted else ''}"


def _label(decision: dict[str, Any]) -> str:
    return str(decision["done"] if decision["action"] == "denied" else decision["action"])


def _closing(done: Corrections, *, remove: bool) -> str:
    told = done.document["report"]
    counts = Counter(map(_label, done.document["decisions"]))
    listed = ", ".join(f"{count} {label}" for label, count in sorted(counts.items())) or "no lesion on either side"
    read = f"statements read: {told['statements']}, sentences not understood: {told['sentences_unread']}"
    rest = "; nothing is left to do" if done.unchanged or (remove and not done.removed) else ""
    return f"{listed}; {read}{rest}"
