"""``voxicon export``: weights in the formats of other programs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer


def export(
    weights: Annotated[str, typer.Argument(help="'starter', a name or a path; stays as it is.")],
    to: Annotated[
        Literal["onnx", "openvino", "exported-program", "monai-bundle"],
        typer.Option(help="exported-program is torch.export's .pt2, which follows TorchScript."),
    ],
    out: Annotated[Path, typer.Option("-o", "--output", help="The folder to make.")],
    classes: Annotated[
        list[str] | None,
        typer.Option("-c", "--class", help="A word to bake in; repeatable, or separated by commas; all by default."),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier export at OUT.")] = False,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Only errors.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
) -> None:
    """Write the network with its words baked in, and voxicon.json, which says how to use it.

    Input is one prepared window, output a logit per class. It is run by the program it is for and compared first.
    """
    del debug  # read by the error boundary
    from voxicon.exporting import export as write
    from voxicon.segmenter import load

    words = [word.strip() for item in classes for word in item.split(",") if word.strip()] if classes else None
    done = write(load(weights, device="cpu", engine="torch"), to, out, words, overwrite=overwrite)
    if not quiet:
        typer.echo(
            f"{done.size_bytes / 1e6:.1f} MB; {done.runtime} differs from torch by up to {done.most_difference:.2g} "
            "in a probability of a made-up window",
            err=True,
        )
        if done.left_out:
            typer.echo(f"left out, as they take a look into organs: {', '.join(done.left_out)}", err=True)
    typer.echo(str(done.folder))
