"""Arrays that may be larger than memory should hold: from some size on they lie in a temporary file.

A scan of a thousand slices and its masks are a gigabyte each, and all that reads or writes them goes slab by slab. So
an array that large is mapped from a file without a name, which vanishes with the array or the process, and whoever is
done with a slab lets go of its pages. To everyone else it is an array like any other.

The file lies in the folder for temporary files (``TMPDIR``); where there is no room, or no way to be sure of it, the
array is kept in memory after all.
"""

from __future__ import annotations

import math
import mmap
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import DTypeLike, NDArray

_Box = tuple[slice, slice, slice]

LARGE_BYTES = 256 << 20
"""From here on an array lies in a file unless `keep_in_memory_below` says otherwise. Own choice: a scan of 512 x 512
x 200 as float32 is a little less, and what is usual should not wait for a disk."""

_PIECE_BYTES = 1 << 24
_STATUS = "/proc/self/status"

_limit_bytes = LARGE_BYTES


def keep_in_memory_below(n_bytes: int) -> None:
    """Set, for this process, from how many bytes on an array lies in a file."""
    global _limit_bytes  # noqa: PLW0603  memory is the process's, and so is this
    _limit_bytes = n_bytes


def in_memory_below() -> int:
    """From how many bytes on an array lies in a file."""
    return _limit_bytes


def zeros(shape: tuple[int, ...], dtype: DTypeLike, order: Literal["C", "F"] = "C") -> NDArray[Any]:
    """An array of zeros, in memory or, from `in_memory_below` on, in a temporary file.

    Args:
        shape: Of the array; may hold zeros.
        dtype: Type of its numbers.
        order: ``F`` where the first axis is to run fastest, as in NIfTI files.
    """
    n_bytes = math.prod(shape) * np.dtype(dtype).itemsize
    mapping = _mapped(n_bytes) if n_bytes >= max(1, _limit_bytes) else None
    if mapping is None:
        return np.zeros(shape, dtype=dtype, order=order)
    return np.frombuffer(mapping, dtype=dtype).reshape(shape, order=order)


def release(array: NDArray[Any]) -> None:
    """Let go of the memory of an array that lies in a file; its values stay, and are read again when asked for.

    Does nothing to an array in memory.
    """
    mapping = _mapping_of(array)
    if mapping is not None:
        mapping.madvise(mmap.MADV_DONTNEED)


def lies_in_file(array: NDArray[Any]) -> bool:
    """True for an array, or a view of one, that `zeros` put into a file."""
    return _mapping_of(array) is not None


def pieces(array: NDArray[Any]) -> Iterator[_Box]:
    """Boxes that cover a volume, along the axis that runs slowest through memory, each within 16 MB of it.

    After each of them the array is let go of, so that a pass over one that lies in a file takes the memory of a piece:
    also of a part of a larger one, whose slices lie as far apart as whole ones.

    Args:
        array: (X, Y, Z); one without voxels has no pieces.
    """
    axis = int(np.argmax(np.abs(array.strides)))
    depth = max(1, _PIECE_BYTES // max(1, abs(array.strides[axis])))
    for start in range(0, array.shape[axis] if array.size else 0, depth):
        box = [slice(0, n) for n in array.shape]
        box[axis] = slice(start, min(start + depth, array.shape[axis]))
        yield box[0], box[1], box[2]
        release(array)


def plane(array: NDArray[Any], axis: int, at: int) -> NDArray[Any]:
    """A copy of one plane of a volume: (X, Y, Z) without `axis`, at an index along it."""
    shape = list(array.shape)
    shape[axis] = 1
    found = np.empty(shape, dtype=array.dtype)
    for box in pieces(array):
        if box[axis].start <= at < box[axis].stop:
            source, target = list(box), list(box)
            source[axis], target[axis] = slice(at, at + 1), slice(0, 1)
            found[tuple(target)] = array[tuple(source)]
    return found.squeeze(axis)


def resident_bytes() -> int:
    """What the process has in memory now; 0 where the system does not tell (it is Linux that does)."""
    return _status_bytes("VmRSS")


def most_resident_bytes() -> int:
    """The most the process ever had in memory; 0 where the system does not tell."""
    # Not ru_maxrss: a process begins with the peak of the one it was started from on its account.
    return _status_bytes("VmHWM")


def _mapped(n_bytes: int) -> mmap.mmap | None:
    """Zeros in a file without a name; None where the disk has no room or the system no way to promise it."""
    if not hasattr(os, "posix_fallocate"):
        return None  # a disk that fills up under a mapping kills the process
    try:
        with tempfile.TemporaryFile(prefix="voxicon-") as file:
            os.posix_fallocate(file.fileno(), 0, n_bytes)
            return mmap.mmap(file.fileno(), n_bytes)
    except OSError:
        return None


def _mapping_of(array: NDArray[Any]) -> mmap.mmap | None:
    base: Any = array
    while isinstance(base, np.ndarray):
        base = base.base
    if isinstance(base, memoryview):
        base = base.obj
    return base if isinstance(base, mmap.mmap) else None


def _status_bytes(field: str) -> int:
    try:
        lines = Path(_STATUS).read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{field}:")), 0)
