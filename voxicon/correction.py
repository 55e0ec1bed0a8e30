"""A result folder checked against a written report, and, if wanted, freed from the lesions that the report denies.

By default no mask changes: what was decided is written to ``corrections.json``. Removing saves the voxels under
``removed/`` first and then rewrites the folder as `voxicon.result.Result.save` does: ``case.json`` goes first and
comes last, so that a killed run leaves the complete old result or one that is not complete.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from voxicon.core.components import crop, put
from voxicon.core.concepts import Concept, Vocabulary
from voxicon.core.masks import MaskSet
from voxicon.core.volume import Source
from voxicon.errors import BadGeometry, InputError, UnreadableFile
from voxicon.evaluate.predictions import read_case_file
from voxicon.io.atomic import file_sha256, write_text
from voxicon.io.masks import SEGMENTATIONS, write_combined, write_masks
from voxicon.io.nifti import read_labels, write_mask
from voxicon.io.probabilities import PROBABILITIES
from voxicon.judging import Decision, Piece, judge
from voxicon.result import CASE_FILE, DISCLAIMER, remove_file
from voxicon.statements import load_report, read_report
from voxicon.version import __version__

FORMAT = "voxicon-corrections-1"
CORRECTIONS_FILE = "corrections.json"
REMOVED = "removed"
"""Folder of the voxels that were taken out, and the entry of ``case.json`` that lists their classes."""

_COMBINED = ("combined_labels.nii.gz", "combined_labels.json")


@dataclass(frozen=True)
class Corrections:
    """What a report makes of a result.

    Attributes:
        document: The content of ``corrections.json``.
        decisions: Those of this run, as in the document.
        removed: Pieces taken out by this run.
        dropped: Files that told of the old masks and were deleted, relative to the folder.
        unchanged: An earlier run left nothing to do: the masks and, unless it removed pieces, the file stay the same.
    """

    document: Mapping[str, Any]
    decisions: tuple[Decision, ...]
    removed: int
    dropped: tuple[str, ...]
    unchanged: bool


@dataclass(frozen=True)
class _Held:
    """A complete result as it lies in its folder."""

    folder: Path
    case: dict[str, Any]
    masks: MaskSet
    vocabulary: Vocabulary


def correct(folder: str | Path, report: str | Path, *, remove: bool = False) -> Corrections:
    """Check the lesions of a result folder against a report and write ``corrections.json`` into the folder.

    Args:
        folder: A complete result of ``voxicon segment``.
        report: A text file, UTF-8, English.
        remove: Take the pieces out that the report denies beyond doubt. They are kept in ``removed/<class>.nii.gz``.

    Returns:
        The decisions, and what changed.

    Raises:
        InputError: The folder holds no complete result, or a file is not the one that ``case.json`` lists.
        UnreadableFile: The report or a mask cannot be read.
        BadGeometry: Masks are on different grids.
        OutputError: Something cannot be written. The masks are the old ones, or the folder is not complete.
    """
    out, path = Path(folder), Path(report)
    text = load_report(path)
    held = _read(out)
    understood = read_report(text, held.vocabulary)
    judgement = judge(understood, held.masks, held.vocabulary)
    denied = judgement.denied if remove else ()
    told = {
        "file": path.name,
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "statements": len(understood.statements),
        "sentences_unread": len(understood.unread),
        "sentences_skipped": len(understood.skipped),
    }
    earlier = _earlier(held)
    taken = [
        {**decision.to_dict(), "report_sha256": told["sha256"]}
        for decision in judgement.decisions
        if decision.action == "denied" and denied
    ]
    document = {
        "format": FORMAT,
        "voxicon": __version__,
        "notice": DISCLAIMER,
        "case": held.case.get("case"),
        "report": told,
        "decisions": [_logged(decision, done=bool(denied)) for decision in judgement.decisions],
        "removed": [*earlier, *taken],
    }
    content = json.dumps(document, indent=2, ensure_ascii=False) + "\n"
    same = _text_of(out / CORRECTIONS_FILE) == content
    dropped = _take_out(held, denied, content) if denied else ()
    if not denied and not same:
        write_text(out / CORRECTIONS_FILE, content)
    return Corrections(document, judgement.decisions, len(denied), dropped, unchanged=not denied and same)


def _logged(decision: Decision, *, done: bool) -> dict[str, Any]:
    """A decision and what was done about it."""
    acts = {"denied": "removed" if done else "flagged", "missing": "flagged", "not looked for": "flagged"}
    return {**decision.to_dict(), "done": acts.get(decision.action, "nothing")}


def _read(folder: Path) -> _Held:
    case = read_case_file(folder)
    files = case.get("files")
    if not isinstance(files, dict) or not isinstance(case.get("volumes_ml"), dict) or not files:
        raise InputError(
            f"{folder}: holds no complete result (no sound {CASE_FILE}); expected a folder that 'voxicon segment' "
            "finished; segment the scan again"
        )
    for name, digest in files.items():
        _check_file(folder, name, digest)
    names = list(case["volumes_ml"])
    missing = [name for name in names if f"{SEGMENTATIONS}/{name}.nii.gz" not in files]
    if missing:
        raise InputError(f"{folder}: {CASE_FILE} lists no mask of {', '.join(missing)}; segment the scan again")
    vocabulary = _vocabulary(folder, names)
    return _Held(folder, case, _masks(folder, names), vocabulary)


def _check_file(folder: Path, name: str, digest: object) -> None:
    path = folder / name
    if folder.resolve() not in path.resolve().parents:
        raise InputError(f"{folder}: {CASE_FILE} lists {name!r} outside of its folder; segment the scan again")
    if not path.is_file():
        raise InputError(f"{path}: is missing from the result; expected what {CASE_FILE} lists; segment the scan again")
    if file_sha256(path) != digest:
        raise InputError(
            f"{path}: is not the file that {CASE_FILE} lists (hashes differ); put that file back or segment the scan "
            "again",
            code="E-HASH",
        )


def _vocabulary(folder: Path, names: Sequence[str]) -> Vocabulary:
    """The shipped vocabulary and the classes that the weights brought along, as the result describes them."""
    default = Vocabulary.default()
    own = [name for name in names if name not in default]
    if not own:
        return default
    path = folder / _COMBINED[1]
    try:
        entries = [entry for entry in json.loads(path.read_text(encoding="utf8")).values() if entry["name"] in own]
        concepts = [
            Concept.from_dict(
                {k: v for k, v in {**entry, "display": entry["display_name"]}.items() if k != "display_name"}
            )
            for entry in entries
        ]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: does not describe {', '.join(own)} ({error}); segment the scan again") from error
    vocabulary = Vocabulary((*default, *concepts))
    for name in own:
        vocabulary[name]
    return vocabulary


def _masks(folder: Path, names: Sequence[str]) -> MaskSet:
    masks: MaskSet | None = None
    for name in names:
        path = folder / SEGMENTATIONS / f"{name}.nii.gz"
        values, grid = read_labels(path)
        if masks is None:
            header: Any = nib.load(path).header
            masks = MaskSet.empty(names, grid, Source(name=folder.name, header=header.binaryblock), file_order=True)
        elif not grid.same_grid(masks.geometry):
            raise BadGeometry(f"{path}: is on another grid than the masks before it; segment the scan again")
        masks.set(name, values != 0)
    if masks is None:
        raise InputError(f"{folder}: the result has no class; segment the scan with at least one")
    return masks


def _earlier(held: _Held) -> list[Any]:
    """What earlier runs took out of this result; nothing where the result is newer than that."""
    if not held.case.get(REMOVED):
        return []
    try:
        document = json.loads(_text_of(held.folder / CORRECTIONS_FILE))
        return list(document["removed"]) if document["format"] == FORMAT else []
    except (ValueError, KeyError, TypeError):
        return []


def _text_of(path: Path) -> str:
    try:
        return path.read_text(encoding="utf8")
    except (OSError, ValueError):
        return ""


def _take_out(held: _Held, pieces: Sequence[Piece], content: str) -> tuple[str, ...]:
    """Save the voxels, rewrite masks and ``case.json``; names of the files deleted as they told of the old masks."""
    folder, masks, case = held.folder, held.masks, held.case
    touched = tuple(dict.fromkeys(piece.name for piece in pieces))
    for name in touched:
        _save_removed(held, name, [piece for piece in pieces if piece.name == name])
    for piece in pieces:
        put(masks, piece.name, piece.lesion.box, crop(masks, piece.name, piece.lesion.box) & ~piece.lesion.mask)
    kept = [name for name in case["files"] if _stays(name)]
    dropped = tuple(name for name in case["files"] if name not in kept)
    # From here to the last line the folder is not complete, whatever happens.
    remove_file(folder / CASE_FILE)
    changed = MaskSet.from_masks({name: masks[name] for name in touched}, masks.geometry, masks.source)
    write_masks(changed, folder, held.vocabulary)
    write_combined(masks, folder / _COMBINED[0], held.vocabulary)
    for name in dropped:
        remove_file(folder / name)
    write_text(folder / CORRECTIONS_FILE, content)
    volumes = {name: round(volume_ml, 3) for name, volume_ml in changed.volumes_ml().items()}
    case = {
        **case,
        "volumes_ml": {**case["volumes_ml"], **volumes},
        "notes": [*case.get("notes", []), *_notes(pieces, masks)],
        REMOVED: sorted({*case.get(REMOVED, []), *touched}),
        "files": {name: file_sha256(folder / name) for name in dict.fromkeys((*kept, *_COMBINED))},
    }
    write_text(folder / CASE_FILE, json.dumps(case, indent=2) + "\n")
    return dropped


def _save_removed(held: _Held, name: str, pieces: Sequence[Piece]) -> None:
    """Write what goes, together with what went from this result before."""
    path = held.folder / REMOVED / f"{name}.nii.gz"
    gone = np.zeros(held.masks.geometry.shape, dtype=bool)
    if name in held.case.get(REMOVED, ()) and path.is_file():
        values, grid = read_labels(path)
        if not grid.same_grid(held.masks.geometry):
            raise UnreadableFile(f"{path}: is on another grid than the masks; move it elsewhere and run again")
        gone |= values != 0
    for piece in pieces:
        gone[piece.lesion.box] |= piece.lesion.mask
    write_mask(path, gone, held.masks.geometry, held.masks.source.header)


def _stays(name: str) -> bool:
    """Whether a listed file is still true: a mask or label map, which is rewritten, or what the network answered."""
    return name in _COMBINED or name.startswith((f"{SEGMENTATIONS}/", f"{PROBABILITIES}/"))


def _notes(pieces: Sequence[Piece], masks: MaskSet) -> list[str]:
    voxel_ml = masks.geometry.voxel_ml
    return [
        f"{p.name}: piece {p.number} of {p.lesion.mask.sum() * voxel_ml:.3f} ml removed, a report denies it "
        f"(see {CORRECTIONS_FILE})"
        for p in pieces
    ]
