"""``voxicon classes``: the words the package knows, and which of them some weights can find."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from voxicon.core.concepts import Concept


def classes(
    weights: Annotated[
        str, typer.Option(help="Whose classes come first: 'starter', installed weights, or a .safetensors file.")
    ] = "starter",
    as_json: Annotated[bool, typer.Option("--json", help="Print all fields as JSON.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
) -> None:
    """List every class: id, name, kind, and other words for it; first those that the weights can find."""
    del debug
    from voxicon.infer.settings import classes_of, vocabulary_of
    from voxicon.model.checkpoint import read_metadata
    from voxicon.weights.store import resolve

    metadata = read_metadata(resolve(weights))
    vocabulary = vocabulary_of(metadata.card, weights)
    trained = frozenset(classes_of(metadata, vocabulary))
    if as_json:
        rows = [{**concept.to_dict(), "trained": concept.name in trained} for concept in vocabulary]
        typer.echo(json.dumps(rows, indent=2))
        return
    found = [concept for concept in vocabulary if concept.name in trained]
    others = [concept for concept in vocabulary if concept.name not in trained]
    typer.echo(f"{len(found)} classes that the weights '{weights}' can find:")
    _list(found)
    if others:
        typer.echo(f"\n{len(others)} known words that these weights were not trained for:")
        _list(others)


def _list(concepts: list[Concept]) -> None:
    for concept in concepts:
        words = dict.fromkeys([concept.display_name, *concept.aliases])
        others = ", ".join(word for word in words if word != concept.name.replace("_", " "))
        typer.echo(f"{concept.id:>3}  {concept.name:<30} {concept.kind:<7} {others}".rstrip())
