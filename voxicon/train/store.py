"""Prepared scans kept on disk: made once, found again by what they were made of, read a patch at a time.

An entry is a folder named by a key over the scan's bytes, the labels' bytes, the card and the settings.
It is written under another name and renamed when whole, so a killed run leaves no half entry behind, and
two runs that prepare the same case do no harm to each other.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from voxicon.data.card import Sampling, Zoom
from voxicon.errors import ConfigError, OutputError
from voxicon.train.cases import TrainingCase, Traits

try:
    import blosc2
except ImportError as error:
    raise ConfigError(
        "training needs the package blosc2, which is not installed; run: pip install 'voxicon[train]'"
    ) from error

VERSION = 1
"""Part of every key: raise it whenever prepared scans come out differently."""

_ARRAYS = ("hu_XYZ", "words_WXYZ", "structure_XYZ")
_SMALL = "small.npz"
_VALUES = "case.json"

_CHUNK = 48
"""Voxels along each side of a compressed block: a patch touches few blocks, a block holds few strangers."""

_ATTEMPTS = 3
"""Another run may remove a damaged entry between our writing and our reading; not three times in a row."""


def entry_key(parts: Mapping[str, Any]) -> str:
    """A name for a prepared scan; equal parts give equal names, on every machine."""
    text = json.dumps({"version": VERSION, **parts}, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


@dataclass(frozen=True)
class StoredArray:
    """An array in a file, opened anew for every box: thousands of scans would need too many open files.

    Attributes:
        path: The file.
        shape: Voxels per axis.
    """

    path: Path
    shape: tuple[int, ...]

    def __getitem__(self, box: Any) -> NDArray[Any]:
        """The voxels of a box, read from the blocks it touches.

        Raises:
            OutputError: The file is gone, or damaged so that its blocks cannot be unpacked.
        """
        try:
            found: NDArray[Any] = blosc2.open(str(self.path), mode="r", mmap_mode="r")[box]
        except (OSError, RuntimeError, ValueError) as error:
            raise OutputError(
                f"{self.path.parent}: this prepared scan cannot be read any more ({error}); "
                "remove the folder and start again, the scan is then prepared anew"
            ) from error
        return found


class CaseStore:
    """Prepared scans in a folder.

    Args:
        folder: Made when missing; may be shared by runs and processes.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __contains__(self, key: str) -> bool:
        return _open(self.folder / key) is not None

    def get(self, key: str, make: Callable[[], TrainingCase]) -> TrainingCase:
        """The scan of a key, made and kept when it is not there yet, or when its entry is damaged.

        Damage is looked for in the sizes and the heads of the files: enough for what kills, full disks and power
        cuts do, and quick. Reading terabytes again to find a flipped bit would not be.

        Raises:
            OutputError: The folder cannot be written.
        """
        made: TrainingCase | None = None
        for _ in range(_ATTEMPTS):
            found = _open(self.folder / key)
            if found is not None:
                return found
            made = made or make()
            try:
                self._write(key, made)
            except (OSError, RuntimeError) as error:
                reason = getattr(error, "strerror", None) or error
                raise OutputError(
                    f"{self.folder}: prepared scans cannot be kept there ({reason}); "
                    "free some space or give another cache folder",
                    code="E-DISK",
                ) from error
        raise OutputError(
            f"{self.folder / key}: what was written there cannot be read back; give another cache folder", code="E-DISK"
        )

    def _write(self, key: str, case: TrainingCase) -> None:
        scratch = self.folder / f".{key}.{uuid.uuid4().hex}"
        scratch.mkdir(parents=True)
        try:
            for name in _ARRAYS:
                array = np.ascontiguousarray(getattr(case, name)[:])
                lead = array.ndim - 3
                chunks = (*array.shape[:lead], *(min(_CHUNK, n) for n in array.shape[lead:]))
                blosc2.asarray(array, chunks=chunks, urlpath=str(scratch / _file_of(name)), mode="w")
            small: dict[str, Any] = {"known": case.known_N, "count": case.count_N, "background": case.background}
            small |= {f"center_{index}": voxels for index, voxels in case.centers.items()}
            np.savez(scratch / _SMALL, **small)
            sizes = {path.name: path.stat().st_size for path in scratch.iterdir()}
            text = json.dumps({**_to_dict(case), "bytes": sizes}, indent=1)
            (scratch / _VALUES).write_text(text, encoding="utf8")
            self._keep(scratch, key)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)

    def _keep(self, scratch: Path, key: str) -> None:
        """Give a whole entry its name; if there is a whole one by now, that one is as good."""
        entry = self.folder / key
        if entry.exists() and key not in self:
            # Aside first: removing takes a while, and a damaged entry must not be looked at meanwhile.
            aside = self.folder / f".{key}.{uuid.uuid4().hex}"
            with contextlib.suppress(FileNotFoundError):  # another run was faster
                entry.rename(aside)
            shutil.rmtree(aside, ignore_errors=True)
        try:
            scratch.rename(entry)
        except OSError:
            if key not in self:
                raise


def _file_of(array: str) -> str:
    return f"{array}.b2nd"


def _values(folder: Path) -> dict[str, Any] | None:
    """What an entry says about itself; None where there is none, or a file is not as long as it was."""
    try:
        values: dict[str, Any] = json.loads((folder / _VALUES).read_text(encoding="utf8"))
        is_whole = all((folder / name).stat().st_size == size for name, size in values["bytes"].items())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return values if is_whole else None


def _open(folder: Path) -> TrainingCase | None:
    """A training case whose voxels stay on disk; None where the entry is missing or damaged."""
    values = _values(folder)
    if values is None:
        return None
    try:
        return _from_dict(values, folder)
    except (OSError, ValueError, KeyError, TypeError, EOFError, RuntimeError, BadZipFile):
        return None


def _from_dict(values: Mapping[str, Any], folder: Path) -> TrainingCase:
    with np.load(folder / _SMALL) as small:
        parts = {name: small[name] for name in small.files}
    paths = {name: folder / _file_of(name) for name in _ARRAYS}
    shapes = {name: tuple(blosc2.open(str(path), mode="r", mmap_mode="r").shape) for name, path in paths.items()}
    return TrainingCase(
        name=values["name"],
        **{name: StoredArray(path, shapes[name]) for name, path in paths.items()},
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
