"""Weights on this machine: where they lie, what they are, and whether they are still what was fetched.

A folder of weights keeps a manifest, ``weights.json``, with one record per file: hash, source, size, license, date.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from voxicon.errors import CheckpointError

STARTER = "starter"
"""Name of the small weights that ship with the package."""

MANIFEST = "weights.json"

_SUFFIX = ".safetensors"
_TORCH_SUFFIXES = (".pth", ".pt", ".ckpt", ".bin", ".tar")


@dataclass(frozen=True)
class Record:
    """What is known about a file of weights since it was put in its folder.

    Attributes:
        sha256: Of the whole file, 64 hexadecimal digits.
        source: Where it came from, such as ``hf:OWNER/REPO/FILE@COMMIT``.
        size_bytes: Length of the file.
        license: In the words of the source, or ``not stated``.
        date: Day of arrival, ``YYYY-MM-DD``, UTC.
    """

    sha256: str
    source: str
    size_bytes: int
    license: str
    date: str


@dataclass(frozen=True)
class Installed:
    """A file of weights that is there, under the name that `resolve` takes; `record` is None if there is none."""

    name: str
    path: Path
    size_bytes: int
    record: Record | None


def store_folder() -> Path:
    """Folder of fetched weights: ``$VOXICON_HOME/weights``, or ``~/.cache/voxicon/weights``; it may not exist yet."""
    return _home() / "weights"


def engines_folder() -> Path:
    """Folder of networks converted for an engine, beside that of the weights; it may be deleted at any time."""
    return _home() / "engines"


def _home() -> Path:
    home = os.environ.get("VOXICON_HOME")
    return Path(home).expanduser() if home else Path.home() / ".cache" / "voxicon"


def starter_path() -> Path:
    """The weights that ship with the package.

    Raises:
        CheckpointError: This installation was built without them.
    """
    path = _starter()
    if not path.is_file():
        raise CheckpointError(
            f"{path}: the starter weights are missing from this installation; reinstall voxicon, or name other "
            "weights: a path to a .safetensors file, or a name that 'voxicon weights info' lists"
        )
    return path


def resolve(name_or_path: str | Path) -> Path:
    """The file that a name or a path means; the file exists, but its content is not looked at.

    Args:
        name_or_path: ``starter``, a path to a ``.safetensors`` file, or the name of a file in the store folder,
            with or without ``.safetensors``. A path that exists goes before a name in the store.

    Raises:
        CheckpointError: Nothing is there, or it is a file of PyTorch's own format, which has to be converted first.
    """
    text = str(name_or_path)
    if text == STARTER:
        return starter_path()
    path = Path(text).expanduser()
    folder = store_folder()
    candidates = [path]
    if path.name == text:
        candidates += [folder / text, folder / f"{text}{_SUFFIX}"]
    for candidate in candidates:
        if candidate.is_file():
            return _converted(candidate)
    _converted(path)
    names = ", ".join(weights.name for weights in installed()) or "nothing"
    raise CheckpointError(
        f"{text}: no such weights; installed: {names}; put a .safetensors file in {folder}, give its path, "
        "or run 'voxicon weights get'"
    )


def installed(folder: Path | None = None) -> list[Installed]:
    """All weights that can be named, the starter first, then those in the store folder by name.

    Args:
        folder: Another folder than the store. Nothing is listed for a folder that does not exist.

    Raises:
        CheckpointError: The manifest is damaged.
    """
    folder = store_folder() if folder is None else folder
    found = [(STARTER, _starter())] if _starter().is_file() else []
    found += [(path.name, path) for path in sorted(folder.glob("[!.]*")) if path.suffix in (_SUFFIX, *_TORCH_SUFFIXES)]
    return [Installed(name, path, path.stat().st_size, lookup(path)) for name, path in found]


def record(path: Path, entry: Record) -> None:
    """Write down what a file is, in the manifest of its folder; an older record of that name is replaced.

    Raises:
        CheckpointError: The manifest is damaged; it is left as it is.
    """
    records = {**_read_manifest(path.parent), path.name: entry}
    manifest = path.parent / MANIFEST
    scratch = manifest.with_name(f".{MANIFEST}.{os.getpid()}.tmp")
    text = json.dumps({"weights": {name: asdict(records[name]) for name in sorted(records)}}, indent=2)
    try:
        scratch.write_text(f"{text}\n", encoding="utf8")
        scratch.replace(manifest)
    finally:
        scratch.unlink(missing_ok=True)


def lookup(path: Path) -> Record | None:
    """What is written down about a file, or None.

    Raises:
        CheckpointError: The manifest is damaged.
    """
    return _read_manifest(path.parent).get(path.name)


def verify(path: Path) -> Record:
    """The record of a file, after its bytes were found to be the recorded ones.

    Raises:
        CheckpointError: There is no file or no record (E-WEIGHTS), or the hashes differ (E-HASH).
    """
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file; 'voxicon weights info' lists what is installed")
    entry = lookup(path)
    if entry is None:
        raise CheckpointError(
            f"{path}: no record in {path.parent / MANIFEST}, so there is nothing to compare with; fetch the file "
            "with 'voxicon weights get', or compare its SHA-256 with the publisher's"
        )
    found = file_hash(path)
    if found != entry.sha256:
        raise CheckpointError(
            f"{path}: SHA-256 is {found}, recorded is {entry.sha256} (from {entry.source}, {entry.date}); the file "
            "changed since: remove it and fetch it again",
            code="E-HASH",
        )
    return entry


def file_hash(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    from voxicon.model.checkpoint import file_sha256  # loads torch, which listing and fetching do not need

    return file_sha256(path)


def _starter() -> Path:
    return Path(str(resources.files("voxicon.weights") / f"{STARTER}{_SUFFIX}"))


def _converted(path: Path) -> Path:
    if path.suffix in _TORCH_SUFFIXES:
        raise CheckpointError(
            f"{path}: a {path.suffix} file of PyTorch, expected {_SUFFIX}; run 'voxicon weights convert {path}' first"
        )
    return path


def _read_manifest(folder: Path) -> dict[str, Record]:
    manifest = folder / MANIFEST
    try:
        entries: dict[str, dict[str, Any]] = json.loads(manifest.read_text(encoding="utf8"))["weights"]
        return {name: Record(**values) for name, values in entries.items()}
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (AttributeError, KeyError, TypeError, ValueError, OSError) as error:
        raise CheckpointError(
            f"{manifest}: damaged ({error!r}), expected the JSON that 'voxicon weights get' writes; remove this "
            "file (the weights beside it stay) and fetch again"
        ) from error
