"""``voxicon synthesize``: lesions planted into a CT, or whole synthetic bodies as a dataset."""

from __future__ import annotations

import json
import re
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from voxicon.errors import ConfigError, UsageError

if TYPE_CHECKING:
    from voxicon.core.volume import Volume
    from voxicon.data.card import DatasetCard
    from voxicon.planted_scan import Organs
    from voxicon.planting import Request
    from voxicon.synthesis.lesions.plant import LesionKind

_LESIONS = "Lesions planted into a CT"
_BODIES = "Synthetic bodies as a dataset"
_STARTER = "starter"
_NUMBER = r"[+-]?\d+(?:\.\d*)?"


_Lesions = Annotated[
    list[str] | None,
    typer.Option(metavar="CLASS", help="What to plant, by name, alias or id; repeat.", rich_help_panel=_LESIONS),
]
_Diameters = Annotated[
    list[str] | None,
    typer.Option(
        metavar="MM", help="Such as 4, or 4-30 to draw from; several are taken in turn.", rich_help_panel=_LESIONS
    ),
]
_Contrasts = Annotated[
    list[str] | None,
    typer.Option(
        metavar="HU",
        help="Difference to the organ, such as -40, or -60--20 to draw from; several are taken in turn.",
        rich_help_panel=_LESIONS,
    ),
]
_Organs = Annotated[
    Path | None,
    typer.Option(
        help="Organ masks: a label map (with --card), or a result folder of 'voxicon segment'. "
        "Without them the CT is segmented first.",
        rich_help_panel=_LESIONS,
    ),
]
_Weights = Annotated[
    str | None, typer.Option(help="Weights that find the organs; 'starter' by default.", rich_help_panel=_LESIONS)
]
_Push = Annotated[bool, typer.Option(help="Let lesions push away what is around them.", rich_help_panel=_LESIONS)]
_Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what is there.", rich_help_panel=_LESIONS)]
_Labels = Annotated[
    Path | None, typer.Option(help="Label map (with --card) to make other patients of.", rich_help_panel=_BODIES)
]
_Drawn = Annotated[Path | None, typer.Option("--ct", help="The CT of --labels.", rich_help_panel=_BODIES)]
_Region = Annotated[
    str | None,
    typer.Option(metavar="REGION", help="Bodies of nothing: torso, chest, abdomen, pelvis.", rich_help_panel=_BODIES),
]
_Spacing = Annotated[
    float | None, typer.Option(help="Voxel size of bodies in mm; 3 by default.", rich_help_panel=_BODIES)
]
_Strength = Annotated[
    float | None, typer.Option(help="How far anatomy strays from --labels; 1 by default.", rich_help_panel=_BODIES)
]
_Real = Annotated[
    float | None,
    typer.Option(help="Share of bodies that keep the HU of --ct; 0.5 by default.", rich_help_panel=_BODIES),
]
_Phase = Annotated[
    Literal["plain", "arterial", "venous"] | None,
    typer.Option(help="Contrast phase; drawn for each body by default.", rich_help_panel=_BODIES),
]
_Variety = Annotated[float | None, typer.Option(help="How far HU stray; 1 by default.", rich_help_panel=_BODIES)]


def synthesize(
    ct: Annotated[
        Path | None, typer.Argument(help="CT to plant into: a file (.nii, .nii.gz) or a folder of DICOM slices.")
    ] = None,
    lesion: _Lesions = None,
    diameter_mm: _Diameters = None,
    contrast_hu: _Contrasts = None,
    organs: _Organs = None,
    weights: _Weights = None,
    mass_effect: _Push = True,
    overwrite: _Overwrite = False,
    labels: _Labels = None,
    drawn_on: _Drawn = None,
    phantom: _Region = None,
    spacing_mm: _Spacing = None,
    strength: _Strength = None,
    real: _Real = None,
    phase: _Phase = None,
    variety: _Variety = None,
    card: Annotated[str | None, typer.Option(help="Explains the label map: a dataset's id or a .yaml file.")] = None,
    count: Annotated[int, typer.Option(help="Lesions of each --lesion, or bodies.")] = 1,
    seed: Annotated[int, typer.Option(help="The same seed gives the same outcome.")] = 0,
    out: Annotated[
        Path, typer.Option("-o", "--output", help="Lesions go to OUT/<scan name>/, a dataset to OUT.")
    ] = Path("synthesized"),
    device: Annotated[str, typer.Option(help="For --weights: auto, cpu, cuda, cuda:N or mps.")] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="One JSON line on stdout.")] = False,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Only errors.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
) -> None:
    """Make CT whose truth is known.

    CT --lesion CLASS plants lesions: OUT/<scan name>/ gets ct.nii.gz on the exact
    grid of the CT, segmentations/<class>.nii.gz and planted.json. --labels makes
    other patients of one, --phantom bodies of nothing, as a dataset with its card.
    """
    del debug  # read by the error boundary
    if sum(given is not None for given in (ct, labels, phantom)) != 1:
        raise UsageError("give one of: a CT (with --lesion), --labels (with --card), or --phantom; see --help")
    if count < 1 or seed < 0:
        raise UsageError(f"--count {count} --seed {seed}: expected a count of at least 1 and a seed of at least 0")
    bodies = {"spacing_mm": spacing_mm, "strength": strength, "real": real, "phase": phase, "variety": variety}
    if ct is None:
        _refuse(
            {"--lesion": lesion, "--diameter-mm": diameter_mm, "--contrast-hu": contrast_hu, "--organs": organs}
            | {"--weights": weights, "--no-mass-effect": not mass_effect or None, "--overwrite": overwrite or None},
            "a CT to plant into",
        )
        wish = {**bodies, "count": count, "seed": seed}
        row = _make(labels, drawn_on, phantom, card, out, wish, quiet=quiet)
    else:
        options = {f"--{name.replace('_', '-')}": value for name, value in bodies.items()}
        _refuse({"--ct": drawn_on, **options}, "--labels or --phantom")
        requests = _requests(lesion or [], diameter_mm or [], contrast_hu or [], count)
        row = _plant(
            ct, requests, organs, card, weights, out, seed, device=device, mass_effect=mass_effect,
            overwrite=overwrite, quiet=quiet,
        )  # fmt: skip
    if as_json:
        typer.echo(json.dumps(row))


def _refuse(options: dict[str, Any], need: str) -> None:
    given = [name for name, value in options.items() if value is not None]
    if given:
        raise UsageError(f"{', '.join(given)}: means nothing without {need}; leave it out")


def _plant(
    ct: Path,
    requests: list[Request],
    organs: Path | None,
    card: str | None,
    weights: str | None,
    out: Path,
    seed: int,
    *,
    device: str,
    mass_effect: bool,
    overwrite: bool,
    quiet: bool,
) -> dict[str, Any]:
    """Plant into one CT; returns what is told as JSON."""
    if not ct.exists():
        raise UsageError(f"{ct}: no such file or folder")
    explained = _explained(organs, card, weights)

    from voxicon.io.scan import read_scan
    from voxicon.planted_scan import refuse_existing, requested, save
    from voxicon.planting import plant_lesions

    volume = read_scan(ct)
    folder = out / volume.source.name
    refuse_existing(folder, overwrite=overwrite)
    found = _organs(volume, organs, explained, weights or _STARTER, device, quiet=quiet)
    planted = plant_lesions(volume, found.masks, requests, seed, mass_effect=mass_effect)
    facts = {"seed": seed, "mass_effect": mass_effect, "organs": dict(found.origin), "requested": requested(requests)}
    save(planted, folder, facts, overwrite=overwrite)
    if not quiet:
        typer.echo(f"{folder}: {len(planted.lesions)} of {len(requests)} lesions planted", err=True)
        for one in planted.lesions:
            typer.echo(f"  {_line(one)}", err=True)
        for line in (*planted.missing, *volume.source.warnings):
            typer.echo(f"  warning: {line}", err=True)
    row = {"scan": str(ct), "folder": str(folder), "planted": len(planted.lesions), "asked": len(requests)}
    return {**row, "missing": list(planted.missing)}


def _line(lesion: Any) -> str:
    size = f"{lesion['equivalent_diameter_mm']:.1f} mm ({lesion['volume_ml']:.3g} ml)"
    x, y, z = lesion["center_mm"]
    return f"{lesion['class']} {lesion['id']}: {size} in {lesion['host']} at {x:.0f}, {y:.0f}, {z:.0f} mm RAS, " + (
        f"{lesion['contrast_hu']:+.0f} HU"
    )


def _explained(organs: Path | None, card: str | None, weights: str | None) -> DatasetCard | None:
    """The card of a label map; None for a folder and where there are no masks yet."""
    if organs is None:
        _refuse({"--card": card}, "--organs or --labels")
        return None
    _refuse({"--weights": weights}, "a CT that has no --organs")
    if not organs.exists():
        raise UsageError(f"--organs {organs}: no such file or folder")
    if organs.is_dir():
        _refuse({"--card": card}, "a label map; the masks of a folder are named")
        return None
    return _card(card, f"--organs {organs}")


def _card(card: str | None, labels: str) -> DatasetCard:
    if card is None:
        raise UsageError(
            f"{labels}: a label map needs --card, which says what its values mean; see 'voxicon assembly cards'"
        )
    from voxicon.data.card import load_card

    return load_card(card)


def _organs(
    volume: Volume, organs: Path | None, card: DatasetCard | None, weights: str, device: str, *, quiet: bool
) -> Organs:
    from voxicon.planted_scan import organs_by_weights, organs_of_labels, organs_of_result

    if organs is not None:
        return organs_of_result(volume, organs) if card is None else organs_of_labels(volume, organs, card)
    from voxicon.cli.progress import progress_bar
    from voxicon.segmenter import load

    segmenter = load(weights, device=device)
    if not quiet:
        typer.echo(f"no --organs given: segmenting with weights {segmenter.name} on {segmenter.device} first", err=True)
    with progress_bar(quiet) as tick:
        return organs_by_weights(volume, segmenter, lambda done, total: tick(volume.source.name, done, total))


def _requests(words: list[str], diameters: list[str], contrasts: list[str], count: int) -> list[Request]:
    """`count` lesions of every kind; diameters and contrasts are taken in turn."""
    if not words:
        raise UsageError("no --lesion given; try: voxicon synthesize ct.nii.gz --lesion liver_tumor -o out")
    kinds = [_kind(word) for word in words]
    sizes = [_range(text, "--diameter-mm", "4 or 4-30") for text in diameters]
    levels = [_range(text, "--contrast-hu", "-40 or -60--20") for text in contrasts]
    from voxicon.planting import Request

    each = [kind for kind in dict.fromkeys(kinds) for _ in range(count)]
    in_turn = zip(each, cycle(sizes or [None]), cycle(levels or [None]), strict=False)
    return [Request(kind, size, level) for kind, size, level in in_turn]


def _kind(word: str) -> LesionKind:
    from voxicon.core.concepts import Vocabulary
    from voxicon.synthesis.lesions.plant import KINDS, kind_of

    name = Vocabulary.default().resolve(word).name
    inside = [kind.name for kind in KINDS.values() if name in kind.hosts]
    if inside:
        raise ConfigError(f"--lesion {word}: is an organ; did you mean {' or '.join(inside)}?")
    return kind_of(name)


def _range(text: str, option: str, example: str) -> tuple[float, float]:
    found = re.fullmatch(rf"\s*({_NUMBER})(?:-({_NUMBER}))?\s*", text)
    if found is None:
        raise UsageError(f"{option} {text!r}: expected a number or a range, such as {example}")
    low = float(found.group(1))
    return low, low if found.group(2) is None else float(found.group(2))


def _make(
    labels: Path | None,
    ct: Path | None,
    region: str | None,
    card: str | None,
    out: Path,
    wishes: dict[str, Any],
    *,
    quiet: bool,
) -> dict[str, Any]:
    """Make a dataset; returns what is told as JSON."""
    explained = None if labels is None else _card(card, f"--labels {labels}")
    for option, path in (("--labels", labels), ("--ct", ct)):
        if path is not None and not path.exists():
            raise UsageError(f"{option} {path}: no such file")
    from voxicon.bodies import Wish, bodies_like, phantoms
    from voxicon.cli.progress import progress_bar

    wish = Wish(**{name: value for name, value in wishes.items() if value is not None})
    with progress_bar(quiet) as tick:

        def told(done: int, total: int) -> None:
            tick("bodies", done, total)

        if region is not None:
            _refuse(
                {"--card": card, "--ct": ct, "--strength": wishes["strength"], "--real": wishes["real"]}, "--labels"
            )
            made = phantoms(region, out, wish, told)
        elif labels is not None and explained is not None:
            made = bodies_like(labels, explained, out, wish, ct, told)
    if not quiet:
        typer.echo(f"{out}: {wish.count} bodies; train on it with the card {made}", err=True)
    return {"folder": str(out), "card": str(made), "count": wish.count}
