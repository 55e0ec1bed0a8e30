"""Files that appear whole or not at all: written under a temporary name, then renamed; and their hashes."""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from voxicon.errors import OutputError

TEMPORARY_PREFIX = ".tmp-"
"""Start of every unfinished file's name; what a killed run leaves behind begins with it."""


@contextmanager
def open_atomic(path: Path) -> Iterator[BinaryIO]:
    """A binary file to write into; it takes the name `path` only when the block ends without an error.

    Missing parent folders are made. Until the end an older file of that name stays as it is, and after a
    failure it is still there and the temporary file is gone.

    Args:
        path: The final name. A symbolic link there is replaced, not followed.

    Raises:
        OutputError: The folder cannot be written, the disk is full, or another operating-system error
            came up inside the block (code ``E-DISK``).
    """
    temporary = path.parent / f"{TEMPORARY_PREFIX}{secrets.token_hex(8)}"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Not tempfile: it would give the result the mode 0600 instead of what the umask says.
        with temporary.open("xb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
        _remember_name(path.parent)
    except OSError as error:
        raise _cannot_be_written(path, error) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


@contextmanager
def folder_atomic(path: Path) -> Iterator[Path]:
    """A new folder to fill; it takes the name `path` only when the block ends without an error.

    Missing parent folders are made. Until the end an older folder of that name stays as it is; then it goes, with
    everything in it. After a failure it is still there and the new one is gone.

    Raises:
        OutputError: As of `open_atomic`.
    """
    temporary, aside = (path.parent / f"{TEMPORARY_PREFIX}{secrets.token_hex(8)}" for _ in range(2))
    try:
        temporary.mkdir(parents=True)
        yield temporary
        if path.exists():
            path.rename(aside)
        temporary.rename(path)
        _remember_name(path.parent)
    except OSError as error:
        if aside.exists() and not path.exists():
            aside.rename(path)
        raise _cannot_be_written(path, error) from error
    finally:
        for unwanted in (temporary, aside):
            shutil.rmtree(unwanted, ignore_errors=True)


def write_bytes(path: Path, data: bytes) -> None:
    """Put a file with exactly these bytes at `path`, or leave what was there.

    Raises:
        OutputError: The file cannot be written.
    """
    with open_atomic(path) as stream:
        stream.write(data)


def write_text(path: Path, text: str) -> None:
    """Put a UTF-8 text file at `path`, or leave what was there.

    Raises:
        OutputError: The file cannot be written.
    """
    write_bytes(path, text.encode("utf8"))


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal.

    Raises:
        OSError: It cannot be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _cannot_be_written(path: Path, error: OSError) -> OutputError:
    return OutputError(
        f"{path}: cannot be written ({error.strerror or error}); expected a folder with write permission "
        "and free space; choose another output folder or make room",
        code="E-DISK",
    )


def _remember_name(folder: Path) -> None:
    # The rename itself survives a power cut only when the folder is flushed too; not every system can.
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
