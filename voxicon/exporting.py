"""Weights out to other programs: the network with its words baked in, proven in the runtime that will run it.

Every export is a folder that appears whole or not at all: the network in the format's own files, and ``voxicon.json``,
which says everything needed to use it (`voxicon.export.description`) and how far its probabilities are from ours.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from voxicon.errors import ConfigError, OutputError, UnknownClass, UsageError
from voxicon.export.description import Description
from voxicon.export.formats import FORMATS, Answer, Format
from voxicon.export.program import to_program
from voxicon.infer.engine import MOST_DIFFERENCE, made_up_image
from voxicon.io.atomic import file_sha256, folder_atomic
from voxicon.segmenter import Segmenter

DESCRIPTION_FILE = "voxicon.json"


@dataclass(frozen=True)
class Exported:
    """What was written.

    Attributes:
        folder: Where.
        size_bytes: Of all files in it.
        runtime: What ran it for the proof, with its version.
        most_difference: Largest difference of a probability from ours, on a made-up window.
        left_out: Classes of a network that looks into organs, which no format takes.
    """

    folder: Path
    size_bytes: int
    runtime: str
    most_difference: float
    left_out: tuple[str, ...] = ()


def export(
    segmenter: Segmenter, to: str, out: Path, classes: Iterable[str] | None = None, *, overwrite: bool = False
) -> Exported:
    """Write a network in another program's format, after that program has answered as ours does.

    Args:
        segmenter: Stays as it is; its network is exported, and its overlap is written down. One that looks into organs
            is not: what it reads must be made of masks first.
        to: One of `FORMATS`.
        out: The folder to make.
        classes: Words in the order of the channels wanted; everything the first network finds by default.
        overwrite: Replace an earlier export at `out`.

    Raises:
        ConfigError: No such format, or what runs it is not installed; says what to install.
        UsageError: There is something at `out`, or a class is asked for that takes a look into an organ.
        UnknownClass: A class is not known, or none is asked for.
        OutputError: The folder cannot be written, or the format's own runtime answers otherwise than we do; nothing is
            left then.
    """
    form = _format(to)
    names = segmenter.first_classes if classes is None else segmenter.resolve_classes(classes)
    inside = [name for name in names if name not in segmenter.first_classes]
    if inside:
        raise UsageError(
            f"{', '.join(inside)}: found by a network that looks into organs, which is not exported; "
            f"expected some of {', '.join(segmenter.first_classes)}"
        )
    if not names:
        raise UnknownClass("no class to export; name one at least, or none for all of them")
    _refuse_existing(out, overwrite)
    description = Description(
        weights=segmenter.provenance(), classes=names, preparation=segmenter.preparation,
        inference=segmenter.inference, vocabulary=segmenter.vocabulary,
    )  # fmt: skip
    network = segmenter.predictor.network
    runtime = " ".join((form.needs[0], importlib.metadata.version(form.needs[0])))
    with folder_atomic(out) as folder:
        form.write(to_program(network, names, description.inference.window), description, folder)
        difference = _difference(segmenter, names, form.load(folder))
        if not difference <= MOST_DIFFERENCE:
            raise OutputError(
                f"{out}: {runtime} gives probabilities up to {difference:.3g} away from torch, expected at most "
                f"{MOST_DIFFERENCE:g}; nothing was written: try another format or another version of {form.needs[0]}",
                code="E-PARITY",
            )
        told = {**description.to_dict(), "format": to, "parity": _parity(runtime, difference), "files": _hashes(folder)}
        (folder / DESCRIPTION_FILE).write_text(json.dumps(told, indent=2) + "\n", "utf8")
        size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    left_out = tuple(name for name in segmenter.classes if classes is None and name not in names)
    return Exported(out, size, runtime, difference, left_out)


def _format(to: str) -> Format:
    if to not in FORMATS:
        raise ConfigError(f"format {to!r} is unknown; use {', '.join(FORMATS)}")
    form = FORMATS[to]
    missing = [package for package in form.needs if importlib.util.find_spec(package) is None]
    if missing:
        raise ConfigError(
            f'format {to}: needs {", ".join(missing)}, not installed here; pip install "voxicon[{form.extra}]"'
        )
    return form


def _refuse_existing(out: Path, overwrite: bool) -> None:
    if not out.exists():
        return
    if not overwrite:
        raise UsageError(f"{out}: is already there; use --overwrite to replace it")
    # A whole folder would go: only one that was made here.
    if not (out / DESCRIPTION_FILE).is_file():
        raise UsageError(f"{out}: holds no {DESCRIPTION_FILE}, so it is no earlier export; choose another folder")


@torch.inference_mode()
def _difference(segmenter: Segmenter, names: tuple[str, ...], answer: Answer) -> float:
    """Largest difference of a probability from that of the network the export was made of."""
    network, image = segmenter.predictor.network, made_up_image(segmenter.inference.window)
    ours = network(image.to(segmenter.device), names).cpu()
    theirs = torch.from_numpy(np.array(answer(image.numpy())))
    if theirs.shape != ours.shape:
        return float("inf")
    return float((ours.sigmoid_() - theirs.sigmoid_()).abs_().max())


def _parity(runtime: str, difference: float) -> dict[str, object]:
    return {
        "runtime": runtime,
        "compared_with": f"torch {torch.__version__}",
        "on": "one made-up window",
        "most_difference_of_a_probability": difference,
        "at_most": MOST_DIFFERENCE,
    }


def _hashes(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): file_sha256(path) for path in files}
