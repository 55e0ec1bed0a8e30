"""Arrays in memory and arrays in a file: the same to everyone who uses them."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from voxicon.core import storage
from voxicon.core.storage import (
    in_memory_below,
    keep_in_memory_below,
    lies_in_file,
    most_resident_bytes,
    pieces,
    plane,
    release,
    resident_bytes,
    zeros,
)  # fmt: skip

linux = pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="this system cannot promise room in a file")


@pytest.fixture
def all_in_files() -> Iterator[None]:
    before = in_memory_below()
    keep_in_memory_below(1)
    yield
    keep_in_memory_below(before)


@linux
@pytest.mark.parametrize("order", ["C", "F"])
def test_an_array_in_a_file_is_an_array(order: str, all_in_files: None) -> None:
    array = zeros((3, 4, 5), np.float32, order=order)  # type: ignore[arg-type]
    assert lies_in_file(array)
    assert lies_in_file(array[1:, ::2].transpose(2, 0, 1))
    assert array.flags[f"{order}_CONTIGUOUS"]
    assert not array.any()
    array[1, 2, 3] = 7
    assert np.flatnonzero(array).tolist() == [1 * 20 + 2 * 5 + 3]


@linux
def test_what_is_let_go_of_is_still_there(all_in_files: None) -> None:
    array = zeros((200, 300, 40), np.uint32, order="F")
    wanted = np.arange(array.size, dtype=np.uint32).reshape(array.shape)
    array[...] = wanted
    release(array[5:])
    assert (array == wanted).all()


@linux
def test_letting_go_gives_memory_back(all_in_files: None) -> None:
    array = zeros((256, 256, 512), np.uint32)
    array += 1
    before = resident_bytes()
    release(array)
    assert before - resident_bytes() > 0.9 * array.nbytes


def test_the_process_knows_its_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    if Path("/proc/self/status").exists():
        assert 50 << 20 < resident_bytes() <= most_resident_bytes()
    monkeypatch.setattr(storage, "_STATUS", "/nowhere")
    assert resident_bytes() == most_resident_bytes() == 0


def test_small_arrays_stay_in_memory() -> None:
    array = zeros((3, 4, 5), np.float32, order="F")
    assert not lies_in_file(array)
    assert array.flags.f_contiguous
    array += 1
    release(array)
    assert array.all()


def test_no_room_on_the_disk_is_no_reason_to_stop(monkeypatch: pytest.MonkeyPatch, all_in_files: None) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(storage.os, "posix_fallocate", full, raising=False)
    assert not lies_in_file(zeros((3, 4, 5), np.float32))
    monkeypatch.delattr(storage.os, "posix_fallocate")
    assert not lies_in_file(zeros((3, 4, 5), np.float32))


def test_nothing_needs_no_file(all_in_files: None) -> None:
    assert zeros((0, 4, 5), np.float32).shape == (0, 4, 5)
    assert list(pieces(zeros((0, 4, 5), np.float32))) == []


shapes = st.tuples(*[st.integers(1, 9)] * 3)


@given(shapes, st.permutations([0, 1, 2]), st.integers(1, 60))
def test_pieces_cover_every_voxel_once_along_the_slowest_axis(
    shape: tuple[int, int, int], order: list[int], voxels: int
) -> None:
    array = np.zeros(shape).transpose(order)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(storage, "_PIECE_BYTES", 8 * voxels)
        boxes = list(pieces(array))
    seen = np.zeros(array.shape, dtype=int)
    for box in boxes:
        seen[box] += 1
    assert (seen == 1).all()
    slowest = int(np.argmax(array.strides))
    spans = [(box[slowest].stop - box[slowest].start) * array.strides[slowest] for box in boxes]
    assert max(spans) <= max(8 * voxels, array.strides[slowest])


def test_pieces_of_a_part_are_as_thin_as_those_of_the_whole() -> None:
    whole = np.zeros((10, 20, 30), dtype=np.uint32, order="F")
    part = whole[4:6, 5:6, 10:]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(storage, "_PIECE_BYTES", 4 * 10 * 20 * 7)  # seven slices of the whole
        assert [box[2].stop - box[2].start for box in pieces(part)] == [7, 7, 6]


@given(shapes, st.permutations([0, 1, 2]), st.integers(0, 2), st.integers(1, 60), st.data())
def test_a_plane_is_a_plane(
    shape: tuple[int, int, int], order: list[int], axis: int, voxels: int, data: st.DataObject
) -> None:
    array = np.arange(np.prod(shape)).reshape(shape).transpose(order)
    at = data.draw(st.integers(0, array.shape[axis] - 1))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(storage, "_PIECE_BYTES", 8 * voxels)
        found = plane(array, axis, at)
    assert (found == array.take(at, axis)).all()
