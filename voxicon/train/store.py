"""Prepared scans kept on disk: made once, found again by what they were made of, read a patch at a time.

An entry is a folder named by a key over the scan's bytes, the labels' bytes, the card and the settings.
It is written under another name and renamed when whole, so a killed run leaves no half entry behind, and
two runs that prepare the same case do no harm to each other.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import blosc2
import numpy as np

from voxicon.data.card import Sampling, Zoom
from voxicon.errors import OutputError
from voxicon.train.cases import TrainingCase, Traits

VERSION = 1
"""Part of every key: raise it whenever prepared scans come out differently."""

_ARRAYS = ("hu_XYZ", "words_WXYZ", "structure_XYZ")
_CHUNK = 48
"""Voxels along each side of a compressed block: a patch touches few blocks, a block holds few strangers."""


def entry_key(parts: Mapping[str, Any]) -> str:
    """A name for a prepared scan; equal parts give equal names, on every machine."""
    text = json.dumps({"version": VERSION, **parts}, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


class CaseStore:
    """Prepared scans in a folder.

    Args:
        folder: Made when missing; may be shared by runs and processes.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __contains__(self, key: str) -> bool:
        return (self.folder / key / "case.json").is_file()

    def get(self, key: str, make: Callable[[], TrainingCase]) -> TrainingCase:
        """The scan of a key, made and kept when it is not there yet, or when its entry is damaged.

        Raises:
            OutputError: The folder cannot be written.
        """
        if key in self:
            try:
                return self._open(self.folder / key)
            except (OSError, ValueError, KeyError, RuntimeError):
                shutil.rmtree(self.folder / key, ignore_errors=True)
        try:
            self._write(key, make())
            return self._open(self.folder / key)
        except OSError as error:
            raise OutputError(
                f"{self.folder}: prepared scans cannot be kept there ({error.strerror or error}); "
                "free some space or give another cache folder"
            ) from error

    def _write(self, key: str, case: TrainingCase) -> None:
        scratch = self.folder / f".{key}.{uuid.uuid4().hex}"
        scratch.mkdir(parents=True)
        try:
            for name in _ARRAYS:
                array = np.ascontiguousarray(getattr(case, name)[:])
                lead = array.ndim - 3
                chunks = (*array.shape[:lead], *(min(_CHUNK, n) for n in array.shape[lead:]))
                blosc2.asarray(array, chunks=chunks, urlpath=str(scratch / f"{name}.b2nd"), mode="w")
            small: dict[str, Any] = {f"center_{index}": voxels for index, voxels in case.centers.items()}
            np.savez(scratch / "small.npz", known=case.known_N, count=case.count_N, background=case.background, **small)
            (scratch / "case.json").write_text(json.dumps(_to_dict(case), indent=1), encoding="utf8")
            try:
                os.rename(scratch, self.folder / key)
            except OSError:
                if key not in self:  # somebody else was faster: theirs is as good
                    raise
        finally:
            shutil.rmtree(scratch, ignore_errors=True)

    def _open(self, folder: Path) -> TrainingCase:
        values = json.loads((folder / "case.json").read_text(encoding="utf8"))
        with np.load(folder / "small.npz") as small:
            parts = {name: small[name] for name in small.files}
        arrays = {name: blosc2.open(str(folder / f"{name}.b2nd"), mode="r", mmap_mode="r") for name in _ARRAYS}
        return TrainingCase(
            name=values["name"],
            **arrays,
            known_N=parts["known"],
            count_N=parts["count"],
            background=parts["background"],
            centers={int(n.removeprefix("center_")): v for n, v in parts.items() if n.startswith("center_")},
            mean_hu={int(value): mean for value, mean in values["mean_hu"].items()},
            traits=Traits(
                Sampling(**values["sampling"]),
                Zoom(**values["zoom"]) if values["zoom"] else None,
                {int(value): (low, high) for value, (low, high) in values["paint_hu"].items()},
            ),
        )


def _to_dict(case: TrainingCase) -> dict[str, Any]:
    return {
        "name": case.name,
        "mean_hu": case.mean_hu,
        "sampling": case.traits.sampling.model_dump(),
        "zoom": case.traits.zoom.model_dump() if case.traits.zoom else None,
        "paint_hu": case.traits.paint_hu or {},
    }
