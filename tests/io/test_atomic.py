import errno
import os
import stat
from pathlib import Path

import pytest

from voxicon.errors import OutputError
from voxicon.io.atomic import TEMPORARY_PREFIX, folder_atomic, open_atomic, write_bytes, write_text


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def test_writes_bytes_and_text_and_makes_folders(tmp_path):
    write_bytes(tmp_path / "a" / "b" / "x.bin", b"\0\1")
    write_text(tmp_path / "ü.txt", "tumor µ\n")
    assert (tmp_path / "a" / "b" / "x.bin").read_bytes() == b"\0\1"
    assert (tmp_path / "ü.txt").read_bytes() == "tumor µ\n".encode()
    assert names(tmp_path) == ["a", "ü.txt"]


def test_mode_follows_the_umask_instead_of_being_private(tmp_path):
    before = os.umask(0o022)
    try:
        write_bytes(tmp_path / "x", b"1")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "x").stat().st_mode) == 0o644


def test_the_final_name_is_not_touched_before_the_end(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(b"old")
    with open_atomic(path) as stream:
        stream.write(b"new")
        assert path.read_bytes() == b"old"
        assert any(name.startswith(TEMPORARY_PREFIX) for name in names(tmp_path))
    assert path.read_bytes() == b"new"
    assert names(tmp_path) == ["x"]


@pytest.mark.parametrize("error", [ValueError("boom"), KeyboardInterrupt()])
def test_a_failure_leaves_the_old_file_and_no_temporary(tmp_path, error):
    path = tmp_path / "x"
    path.write_bytes(b"old")
    with pytest.raises(type(error)), open_atomic(path) as stream:  # noqa: PT012
        stream.write(b"half")
        raise error
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["x"]


def test_disk_full_is_one_line(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(b"old")
    with pytest.raises(OutputError, match="No space left") as caught, open_atomic(path) as stream:  # noqa: PT012
        stream.write(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert caught.value.code == "E-DISK"
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["x"]


def test_a_failing_fsync_counts_as_not_written(tmp_path, monkeypatch):
    def fail(_handle: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OutputError, match="Input/output error"):
        write_bytes(tmp_path / "x", b"1")
    assert names(tmp_path) == []


def test_a_file_where_a_folder_is_needed(tmp_path):
    (tmp_path / "taken").write_bytes(b"")
    with pytest.raises(OutputError, match="taken"):
        write_text(tmp_path / "taken" / "x.txt", "1")
    assert names(tmp_path) == ["taken"]


def test_read_only_folder(tmp_path, monkeypatch):
    def deny(*_args, **_kwargs):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(Path, "open", deny)  # the tests may run as root, whom no mode stops
    with pytest.raises(OutputError, match="Permission denied") as caught:
        write_text(tmp_path / "x.txt", "1")
    assert caught.value.code == "E-DISK"
    assert names(tmp_path) == []


def test_a_symbolic_link_is_replaced_and_not_followed(tmp_path):
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    link = tmp_path / "x"
    link.symlink_to(victim)
    write_bytes(link, b"mask")
    assert victim.read_bytes() == b"precious"
    assert not link.is_symlink()
    assert link.read_bytes() == b"mask"


def test_a_folder_appears_whole_and_replaces_all_of_an_earlier_one(tmp_path):
    out = tmp_path / "a" / "out"
    for content in ("first", "second"):
        with folder_atomic(out) as folder:
            (folder / f"{content}.txt").write_text(content)
            assert names(out) == ["first.txt"] if out.exists() else content == "first"
        assert names(out) == [f"{content}.txt"]
        assert names(out.parent) == ["out"]


def test_a_folder_that_failed_is_not_left_and_the_earlier_one_is(tmp_path):
    out = tmp_path / "out"
    with folder_atomic(out) as folder:
        (folder / "x").write_text("old")
    with pytest.raises(ZeroDivisionError), folder_atomic(out) as folder:
        (folder / "x").write_text(f"new {1 / 0}")
    assert (out / "x").read_text() == "old"
    assert names(tmp_path) == ["out"]


def test_an_earlier_folder_comes_back_where_the_new_one_cannot_take_its_name(tmp_path, monkeypatch):
    out = tmp_path / "out"
    out.mkdir()
    (out / "x").write_text("old")
    rename = Path.rename

    def refuse(self, target):
        if (self / "y").exists():
            raise OSError(errno.EACCES, "not allowed")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(OutputError, match=r"out: cannot be written \(not allowed\)"), folder_atomic(out) as folder:
        (folder / "y").write_text("new")
    assert (out / "x").read_text() == "old"
    assert names(tmp_path) == ["out"]


def test_a_folder_where_a_file_is_in_the_way_is_refused(tmp_path):
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(OutputError, match="cannot be written"), folder_atomic(tmp_path / "file" / "out"):
        pass
