"""``voxicon extend``: new words for finished weights, and words taken away or called otherwise."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from voxicon.errors import UsageError

if TYPE_CHECKING:
    from voxicon.extension import Extended


_Class = Annotated[
    list[str] | None, typer.Option("-c", "--class", help="A new word; repeatable, or separated by commas.")
]
_Recipe = Annotated[
    Path | None,
    typer.Option("--data", metavar="RECIPE", help="What to learn it from: a YAML file as 'voxicon train' takes it."),
]
_Root = Annotated[
    Path | None, typer.Option("--root", help="Folder the datasets' folders are relative to; the recipe's by default.")
]
_Mode = Annotated[
    Literal["frozen", "light", "joint"],
    typer.Option(
        help="frozen: a new head alone. light: and an adapter that new words alone read through. joint: everything."
    ),
]
_Keep = Annotated[
    Literal["pseudo", "distill", "none"],
    typer.Option(help="joint: keep old words by the old weights' masks, by their probabilities, or not at all."),
]
_Changes = Annotated[
    list[str] | None, typer.Option("--set", metavar="FIELD=VALUE", help="As of 'voxicon train'; repeatable.")
]
_Controllers = Annotated[
    Literal["per-class"] | None,
    typer.Option("--controllers", help="Rewrite a shared controller as one for each class; logits stay equal."),
]


def extend(
    weights: Annotated[str, typer.Argument(help="'starter', a name or a path; stays as it is.")],
    out: Annotated[Path, typer.Option("-o", "--output", help="Where to write the new .safetensors file.")],
    classes: _Class = None,
    recipe: _Recipe = None,
    root: _Root = None,
    mode: _Mode = "frozen",
    keep: _Keep = "pseudo",
    steps: Annotated[int | None, typer.Option(min=1, help="Training steps; 600 by default.")] = None,
    changes: _Changes = None,
    remove: Annotated[list[str] | None, typer.Option("--remove", help="A word to take away; repeatable.")] = None,
    rename: Annotated[list[str] | None, typer.Option("--rename", metavar="OLD=NEW", help="Repeatable.")] = None,
    controllers: _Controllers = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")] = "auto",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace OUT if it is there.")] = False,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Only errors.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
) -> None:
    """Teach finished weights new words; in the modes frozen and light the old ones answer as before, bit by bit.

    The training run lies beside OUT in a folder that ends in .run; the same command goes on where it was stopped.
    """
    del debug  # read by the error boundary
    from voxicon.weights.store import resolve

    if out.exists() and not overwrite:
        raise UsageError(f"{out}: is already there; use --overwrite to replace it")
    edits = [bool(remove), bool(rename), controllers is not None]
    if bool(classes) + sum(edits) != 1:
        raise UsageError("say one thing: new words (--class, with --data), --remove, --rename, or --controllers")
    path = resolve(weights)
    if not classes:
        _edit(path, out, remove or [], rename or [])
        typer.echo(str(out))
        return
    if recipe is None:
        raise UsageError("--class needs --data: a recipe that says where the new words are annotated")
    fields = [*(changes or []), f"classes=[{', '.join(_words(classes))}]"]
    if steps is not None:
        fields.append(f"optimize.steps={steps}")
    _learn(path, recipe, root, out, fields, device=device, mode=mode, keep=keep, quiet=quiet)
    typer.echo(str(out))


def _words(given: list[str]) -> list[str]:
    return [f"'{word.strip()}'" for item in given for word in item.split(",") if word.strip()]


def _edit(path: Path, out: Path, remove: list[str], rename: list[str]) -> None:
    from voxicon.rewording import own_controllers, reword

    if not remove and not rename:
        own_controllers(path, out)
        return
    names = {}
    for item in rename:
        old, sign, new = (part.strip() for part in item.partition("="))
        if not (old and sign and new):
            raise UsageError(f"--rename {item!r}: expected OLD=NEW")
        names[old] = new
    reword(path, out, remove=remove, rename=names)


def _learn(
    path: Path,
    recipe: Path,
    root: Path | None,
    out: Path,
    changes: list[str],
    *,
    device: str,
    mode: Literal["frozen", "light", "joint"],
    keep: Literal["pseudo", "distill", "none"],
    quiet: bool,
) -> None:
    from voxicon.cli.progress import progress_bar
    from voxicon.extension import extend as learn
    from voxicon.extension import plan_extension
    from voxicon.infer.device import pick_device
    from voxicon.recipe import load_recipe

    plan = plan_extension(path, load_recipe(recipe, changes, "extend"), recipe.parent, root)
    with progress_bar(quiet) as tick:
        done = learn(path, plan, out, pick_device(device), mode=mode, keep=keep, told=tick)
    if not quiet:
        _tell(done)


def _tell(done: Extended) -> None:
    """What was added, what it cost, and what became of the old words, on stderr."""
    typer.echo(
        f"added {', '.join(done.added)}: {done.parameters:,} numbers, {done.seconds / 60:.1f} minutes of training",
        err=True,
    )
    logits = done.old_logits
    same = "as before, bit by bit" if logits["identical"] else f"changed by up to {logits['largest_difference']:.3g}"
    typer.echo(f"logits of the old words: {same} ({logits['windows']} windows)", err=True)
    for split in dict.fromkeys(row["split"] for row in done.dice):
        rows = [row for row in done.dice if row["split"] == split]
        for row in rows:
            if row["class"] in done.added:
                typer.echo(f"  {split:<6} {row['scan']:<32} {row['class']:<20} Dice {row['after']:.3f}", err=True)
        old = [(row["before"], row["after"]) for row in rows if row["before"] is not None and row["after"] is not None]
        if old:
            earlier, later = (sum(each) / len(old) for each in zip(*old, strict=True))
            typer.echo(
                f"  {split:<6} old words, mean of {len(old)}: Dice {earlier:.4f} before, {later:.4f} after", err=True
            )
