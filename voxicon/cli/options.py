"""Options that several commands have: how an odd file is read, and what a scan may take of the machine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import typer

from voxicon.errors import UsageError

if TYPE_CHECKING:
    from voxicon.io.read_options import ReadOptions

_FILE = "Reading odd files"
Volume = Annotated[int | None, typer.Option(help="Which volume of a 4D file, from 0.", rich_help_panel=_FILE)]
Use = Annotated[str | None, typer.Option(help="'sform' or 'qform' where they disagree.", rich_help_panel=_FILE)]
Orientation = Annotated[
    str | None, typer.Option(help="Such as RAS, where the file places nothing.", rich_help_panel=_FILE)
]
Spacing = Annotated[
    str | None, typer.Option(help="Voxel size 'x,y,z' in mm, where the file's is wrong.", rich_help_panel=_FILE)
]
Offset = Annotated[float | None, typer.Option(help="Added to every value, such as -1024.", rich_help_panel=_FILE)]

_SPEED = "Speed and memory"
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.", rich_help_panel=_SPEED)]
Engine = Annotated[
    Literal["auto", "torch", "openvino"],
    typer.Option(help="What computes the network; openvino: CPU, faster.", rich_help_panel=_SPEED),
]
Precision = Annotated[
    Literal["fp32", "bf16"],
    typer.Option(help="bf16: faster on some devices; only for scans that bear it.", rich_help_panel=_SPEED),
]
Overlap = Annotated[
    float | None,
    typer.Option(
        help="Share of a window its neighbor covers too; the weights' own if left out.", rich_help_panel=_SPEED
    ),
]
Fast = Annotated[bool, typer.Option("--fast", help="The same as --overlap 0.25: less exact.", rich_help_panel=_SPEED)]
Locate = Annotated[
    bool,
    typer.Option("--locate", help="Find organs with 'starter' first, then look only there.", rich_help_panel=_SPEED),
]
MaxMemory = Annotated[
    float | None,
    typer.Option(
        metavar="GB", help="Stay below, by temporary files; refuse scans that cannot.", rich_help_panel=_SPEED
    ),
]

Colors = Annotated[Literal["vocabulary", "safe"], typer.Option(help="Of pictures; safe: for color-blind readers too.")]
FAST_OVERLAP = 0.25
"""Two thirds as many windows along each axis that holds several, compared with the usual 0.5."""


def read_options(
    volume: int | None, use: str | None, orientation: str | None, spacing: str | None, hu_offset: float | None
) -> ReadOptions:
    """What to do about an odd file, from the options of a command.

    Raises:
        UsageError: The spacing is not three numbers.
    """
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
