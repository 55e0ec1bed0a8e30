"""The bytes of a NIfTI file: unpacked, measured against the header's promise, hashed; no voxel is interpreted."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import os
import tempfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

from voxicon.core.storage import in_memory_below
from voxicon.errors import UnreadableFile

GZIP_MAGIC = b"\x1f\x8b"

LONGEST_HEADER_BYTES = 540
"""A NIfTI-2 header; a NIfTI-1 header is shorter."""

DEFLATE_LIMIT = 1032
"""Deflate cannot shrink data further than this. Source: zlib technical details, "maximum compression factor"."""

SLACK_BYTES = 1 << 20
"""Bytes tolerated after the last voxel: some writers pad."""

_CHUNK_BYTES = 1 << 18
_PIECE_BYTES = 1 << 20


@dataclass(frozen=True, eq=False)
class FileBytes:
    """A file unpacked and read to its end.

    Attributes:
        content: The unpacked file from its first byte, to be closed by whoever asked for it; a file without a name from
            `voxicon.core.storage.in_memory_below` on.
        sha256: Hash of the file as it lies on disk, packed or not.
        warnings: What was odd about the container.
    """

    content: BinaryIO
    sha256: str
    warnings: tuple[str, ...]


def read_bytes(path: Path, implied_bytes: Callable[[bytes], int]) -> FileBytes:
    """The unpacked bytes of a file, never more of them than its own header asks for.

    Args:
        path: A plain or gzip-packed file; the content decides which, not the name.
        implied_bytes: Given the first (up to) 540 bytes, the length the whole file should have; it raises
            where they are no usable header.

    Raises:
        UnreadableFile: No such file (``E-OPEN``), it ends early (``E-TRUNC``), is damaged (``E-CRC``), or
            its length contradicts its header (``E-SIZE``), or there is no room to unpack it (``E-DISK``).
    """
    with contextlib.ExitStack() as if_it_fails:
        # A zero would mean: never a file.
        largest = max(1, in_memory_below())
        content = cast("BinaryIO", if_it_fails.enter_context(tempfile.SpooledTemporaryFile(largest, prefix="voxicon-")))
        with _told(path, content), path.open("rb") as stream:
            digest = hashlib.sha256()
            pieces, packed = _unpacked(stream, digest.update)
            _fill(content, pieces, LONGEST_HEADER_BYTES)
            expected = implied_bytes(head_of(content))
            _refuse_impossible(path.name, expected, os.fstat(stream.fileno()).st_size)
            try:
                _fill(content, pieces, expected + SLACK_BYTES + 1)
            except EOFError:
                raise _ends_early(path.name, content.tell(), expected) from None
        _refuse_wrong_length(path.name, expected, content.tell())
        warnings = _name_warnings(path.name, packed, content.tell() - expected)
        if_it_fails.pop_all()
    return FileBytes(content, digest.hexdigest(), warnings)


def read_head(path: Path) -> bytes:
    """The first (up to) 540 bytes of a file, unpacked; nothing behind them is looked at.

    Raises:
        UnreadableFile: As `read_bytes`, as far as that little can tell.
    """
    content = io.BytesIO()
    with _told(path, content), path.open("rb") as stream:
        _fill(content, _unpacked(stream, lambda _: None)[0], LONGEST_HEADER_BYTES)
    return content.getvalue()[:LONGEST_HEADER_BYTES]


@contextlib.contextmanager
def _told(path: Path, content: BinaryIO) -> Iterator[None]:
    """What goes wrong with a file while it is unpacked, in a line that says what to do."""
    try:
        yield
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise UnreadableFile(
                f"{path.name}: no room to unpack it in {tempfile.gettempdir()}; make room there, or set TMPDIR to a "
                "folder on a larger disk",
                code="E-DISK",
            ) from error
        raise UnreadableFile(
            f"{path.name}: cannot be opened ({error.strerror or error}); expected a readable file; check the path",
            code="E-OPEN",
        ) from error
    except EOFError:
        raise _ends_early(path.name, content.tell(), 0) from None
    except zlib.error as error:
        raise UnreadableFile(
            f"{path.name}: the gzip data are damaged ({error}); expected an intact checksum; copy the file again",
            code="E-CRC",
        ) from None


def _unpacked(stream: BinaryIO, update: Callable[[bytes], None]) -> tuple[Iterator[bytes], bool]:
    """The bytes of a file, piece by piece, and whether it was packed."""
    packed = stream.read(2) == GZIP_MAGIC
    stream.seek(0)
    chunks = _hashed_chunks(stream, update)
    return (_inflate(chunks) if packed else chunks), packed


def _hashed_chunks(stream: BinaryIO, update: Callable[[bytes], None]) -> Iterator[bytes]:
    while chunk := stream.read(_CHUNK_BYTES):
        update(chunk)
        yield chunk


def _inflate(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Pieces of bounded size; the end of every gzip member is reached, so its checksum is compared."""
    engine = zlib.decompressobj(wbits=31)
    for chunk in chunks:
        data = chunk
        while data:
            if engine.eof:
                data = data.lstrip(b"\0")
                if not data:
                    break
                engine = zlib.decompressobj(wbits=31)
            piece = engine.decompress(data, _PIECE_BYTES)
            if piece:
                yield piece
            data = engine.unused_data if engine.eof else engine.unconsumed_tail
    if not engine.eof:
        raise EOFError


def head_of(content: BinaryIO) -> bytes:
    """The first (up to) 540 bytes; what follows is read or written where it was before."""
    at = content.tell()
    content.seek(0)
    head = content.read(LONGEST_HEADER_BYTES)
    content.seek(at)
    return head


def _fill(content: BinaryIO, pieces: Iterator[bytes], target: int) -> None:
    while content.tell() < target:
        piece = next(pieces, None)
        if piece is None:
            return
        content.write(piece)


def _refuse_impossible(name: str, expected: int, size: int) -> None:
    if expected > size * DEFLATE_LIMIT:
        raise UnreadableFile(
            f"{name}: has {size:,} bytes, expected {expected:,} unpacked by its header; no compression packs that "
            "tightly, so the header is wrong or almost all of the file is missing; copy or convert it again",
            code="E-SIZE",
        )


def _refuse_wrong_length(name: str, expected: int, found: int) -> None:
    if found < expected:
        raise _ends_early(name, found, expected)
    if found > expected + SLACK_BYTES:
        raise UnreadableFile(
            f"{name}: holds more data than its header describes; expected {expected:,} bytes unpacked, reading "
            f"stopped after {found:,}; repair the header's dim or convert the scan again",
            code="E-SIZE",
        )


def _ends_early(name: str, found: int, expected: int) -> UnreadableFile:
    promise = f"expected {expected:,}" if expected else "expected a whole header and voxels"
    return UnreadableFile(
        f"{name}: ends early: got {found:,} bytes unpacked, {promise}; copy the file again", code="E-TRUNC"
    )


def _name_warnings(name: str, packed: bool, surplus: int) -> tuple[str, ...]:
    warnings = []
    if packed and not name.lower().endswith(".gz"):
        warnings.append(f"{name}: is gzip-packed although its name does not end in .gz; read as packed")
    if not packed and name.lower().endswith(".gz"):
        warnings.append(f"{name}: is not gzip-packed although its name ends in .gz; read as plain")
    if surplus:
        warnings.append(f"{name}: {surplus:,} bytes after the last voxel were ignored")
    return tuple(warnings)
