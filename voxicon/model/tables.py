"""Tables of words: names and vectors in a file, to be read as a text encoder and written from a bank.

Five forms. ``.csv``: a line per class, its name and then its numbers; a first line that begins with ``name`` is a
header. ``.npy``: an array (N, E), with the names in a ``.txt`` file beside it, one a line. ``.safetensors`` and
``.json``: what `to_bytes` gives, which says beside the vectors how they were made.
"""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxicon.errors import ConfigError

_KEY = "voxicon_bank"
"""Metadata of a ``.safetensors`` table: names and how the vectors were made, as JSON."""

_SHOWN = 5
"""Names in a message."""

_Content = tuple[Sequence[str], Any, Mapping[str, Any]]
"""Names, vectors, how they were made."""


def look_up(path: Path, names: Sequence[str]) -> NDArray[np.float32]:
    """The vectors of some classes, (N, E) float32, in their order.

    Args:
        path: A table.
        names: Canonical names; the table may hold more.

    Raises:
        ConfigError: As of `read_table`, or a name is missing.
    """
    held, vectors, _ = read_table(path)
    missing = [name for name in names if name not in held]
    if missing:
        raise ConfigError(
            f"{path}: has no vector for {_some(missing)}; it holds {len(held)} names: {_some(held)}; add the missing "
            "ones under their canonical names ('voxicon classes' lists them)"
        )
    return vectors[[held.index(name) for name in names]]


def read_table(path: Path) -> tuple[tuple[str, ...], NDArray[np.float32], Mapping[str, Any]]:
    """What a table holds.

    Args:
        path: Ends in one of `SUFFIXES`.

    Returns:
        Names; vectors (N, E) float32; and how they were made, as of `TextBank.to_dict`, where the file says it.

    Raises:
        ConfigError: It cannot be read, is empty, is not of its form, names a class twice, or holds a number that is
            none or a vector without length.
    """
    if path.suffix not in _READERS:
        raise ConfigError(f"{path}: not a table of words; expected {', '.join(SUFFIXES)}")
    try:
        given, rows, made = _READERS[path.suffix](path)
        names, vectors = tuple(map(str, given)), np.asarray(rows, dtype=np.float32)
    except OSError as error:
        raise ConfigError(f"{error.filename or path}: cannot be read ({error.strerror}); name a table") from error
    except Exception as error:  # every form's reader stumbles in its own way
        raise ConfigError(f"{path}: not a table of words ({error}); expected a name and numbers per class") from error
    _refuse(path, names, vectors)
    return names, vectors, made


def _refuse(path: Path, names: Sequence[str], vectors: NDArray[np.float32]) -> None:
    if vectors.ndim != 2 or len(vectors) != len(names) or not vectors.size:
        raise ConfigError(
            f"{path}: {len(names)} names and vectors of shape {vectors.shape}; expected one vector per name, "
            "all of one length"
        )
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise ConfigError(f"{path}: {_some(twice)} is there more than once; keep one line each")
    broken = [name for name, vector in zip(names, vectors, strict=True) if not np.isfinite(vector).all()]
    if broken:
        raise ConfigError(f"{path}: the vector of {_some(broken)} holds what is no number; correct it")
    flat = [name for name, vector in zip(names, vectors, strict=True) if not vector.any()]
    if flat:
        raise ConfigError(f"{path}: the vector of {_some(flat)} is zero and points nowhere; correct it")


def to_bytes(suffix: str, vectors: NDArray[np.float32], made: Mapping[str, Any]) -> bytes:
    """The content of a table; a float32 comes back as it was.

    Args:
        suffix: ``.safetensors``, ``.json`` or ``.csv``; a CSV holds names and numbers alone.
        vectors: (N, E) float32.
        made: As of `TextBank.to_dict`; holds the ``names``.

    Raises:
        ConfigError: Another suffix.
    """
    if suffix == ".safetensors":
        from safetensors.numpy import save

        return bytes(save({"vectors": np.ascontiguousarray(vectors)}, metadata={_KEY: json.dumps(dict(made))}))
    if suffix == ".json":
        return (json.dumps({**made, "vectors": vectors.tolist()}) + "\n").encode("utf8")
    if suffix == ".csv":
        text = io.StringIO()
        lines = csv.writer(text, lineterminator="\n")
        lines.writerow(["name", *range(vectors.shape[1])])
        # Nine digits tell every float32 from its neighbors.
        lines.writerows([name, *(f"{x:.9g}" for x in row)] for name, row in zip(made["names"], vectors, strict=True))
        return text.getvalue().encode("utf8")
    raise ConfigError(f"{suffix or 'no ending'}: no table of words; expected .safetensors, .json or .csv")


def _csv(path: Path) -> _Content:
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = [row for row in csv.reader(file) if row]
    if rows and rows[0][0].strip().casefold() == "name":
        rows = rows[1:]
    lengths = sorted({len(row) - 1 for row in rows})
    if len(lengths) > 1:
        raise ValueError(f"lines of {lengths[0]} and of {lengths[-1]} numbers")
    return [row[0].strip() for row in rows], [[float(cell) for cell in row[1:]] for row in rows], {}


def _npy(path: Path) -> _Content:
    lines = path.with_suffix(".txt").read_text(encoding="utf-8-sig").splitlines()
    return [line.strip() for line in lines if line.strip()], np.load(path, allow_pickle=False), {}


def _json(path: Path) -> _Content:
    made = json.loads(path.read_text(encoding="utf8"))
    vectors = made.pop("vectors")
    return made["names"], vectors, made


def _safetensors(path: Path) -> _Content:
    from safetensors import safe_open

    path.open("rb").close()  # its own error names no file
    with safe_open(path, framework="np") as file:
        made = json.loads((file.metadata() or {})[_KEY])
        return made["names"], file.get_tensor("vectors"), made


_READERS: Mapping[str, Callable[[Path], _Content]] = {
    ".csv": _csv,
    ".npy": _npy,
    ".json": _json,
    ".safetensors": _safetensors,
}

SUFFIXES = tuple(_READERS)


def _some(names: Sequence[str]) -> str:
    more = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {more} more" if more > 0 else "")
