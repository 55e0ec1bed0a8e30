"""``voxicon classes``: the words the package knows."""

from __future__ import annotations

import json
from typing import Annotated

import typer


def classes(
    as_json: Annotated[bool, typer.Option("--json", help="Print all fields as JSON.")] = False,
) -> None:
    """List every class: id, name, kind, and other words for it."""
    from voxicon.core.concepts import Vocabulary

    vocabulary = Vocabulary.default()
    if as_json:
        typer.echo(json.dumps([concept.to_dict() for concept in vocabulary], indent=2))
        return
    for concept in vocabulary:
        aliases = ", ".join(a for a in concept.aliases if a != concept.display_name)
        typer.echo(f"{concept.id:>3}  {concept.name:<30} {concept.kind:<7} {aliases}".rstrip())
