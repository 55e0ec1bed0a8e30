"""The manifest: what is written is read again, and what makes no sense is refused with its line."""

from __future__ import annotations

from pathlib import Path

import pytest

from voxicon.data.manifest import ManifestRow, read_manifest, write_manifest
from voxicon.errors import ConfigError, OutputError

ROWS = (
    ManifestRow("b/2", "b/p1", "val", 0, "b/1", "", "12", "34", "5x6x7", "1.00x1.00x2.50", 'odd, "very"; é'),
    ManifestRow("b/1", "b/p1", "train", 3, "b/1"),
    ManifestRow("a/1", "a/1", "excluded", -1, "a/1", copy_of="b/1", problem="two\nlines"),
)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    write_manifest(tmp_path / "m.csv", ROWS)
    rows = read_manifest(tmp_path / "m.csv")
    assert list(rows) == ["a/1", "b/1", "b/2"]
    assert set(rows.values()) == set(ROWS)


def test_equal_rows_give_equal_bytes_in_any_order(tmp_path: Path) -> None:
    write_manifest(tmp_path / "one.csv", ROWS)
    write_manifest(tmp_path / "two.csv", reversed(ROWS))
    assert (tmp_path / "one.csv").read_bytes() == (tmp_path / "two.csv").read_bytes()
    assert b"\r" not in (tmp_path / "one.csv").read_bytes()


def test_people_may_edit_it(tmp_path: Path) -> None:
    # A spreadsheet's mark at the start, columns in another order, one of their own, most of ours left out.
    (tmp_path / "m.csv").write_text("\ufeffsplit,id,comment\ntrain,a/1,nice\ntest,a/2,\n", encoding="utf8")
    rows = read_manifest(tmp_path / "m.csv")
    assert rows["a/1"] == ManifestRow("a/1", patient="a/1", split="train", fold=-1, group="a/1")
    assert rows["a/2"].split == "test"


def test_fold_zero_is_a_fold(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text("id,split,fold\na,train,0\nb,train,\n")
    assert [row.fold for row in read_manifest(tmp_path / "m.csv").values()] == [0, -1]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"m.csv:1: has no column id, split"),
        ("id,fold\na,0\n", r"m.csv:1: has no column split; expected id, patient"),
        ("id,split\na,train\nb,training\n", r"m.csv:3: split is 'training'; expected train, val, test, excluded"),
        ("id,split\na\n", r"m.csv:2: split is ''"),
        ("id,split,fold\na,train,x\n", r"m.csv:2: fold is not a whole number"),
        ("id,split\na,train\na,val\n", r"m.csv:3: a is listed twice"),
    ],
)
def test_what_makes_no_sense_is_refused_with_its_line(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "m.csv").write_text(text)
    with pytest.raises(ConfigError, match=message):
        read_manifest(tmp_path / "m.csv")


def test_files_that_cannot_be_read_or_written(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="make it with 'voxicon assembly check'"):
        read_manifest(tmp_path / "none.csv")
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError):
        write_manifest(tmp_path / "file" / "m.csv", ROWS)
