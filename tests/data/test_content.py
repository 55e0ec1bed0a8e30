"""Hashes tell content, survive renaming, and are computed once."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.data.test_card import GOOD
from voxicon.data import content
from voxicon.data.card import parse_card
from voxicon.data.content import ContentHashes
from voxicon.data.layout import Case

CARD = parse_card(GOOD, "example.yaml")


def test_a_file_by_hand(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    # Source: FIPS 180-2, appendix B.1.
    assert ContentHashes().of(tmp_path / "a") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_content_counts_and_the_name_does_not(tmp_path: Path) -> None:
    for name, data in {"a": b"1", "b": b"1", "c": b"2"}.items():
        (tmp_path / name).write_bytes(data)
    a, b, c = (ContentHashes().of(tmp_path / name) for name in "abc")
    assert a == b != c


def test_a_folder_is_its_files_and_their_names(tmp_path: Path) -> None:
    def folder(name: str, files: dict[str, bytes]) -> str:
        for file, data in files.items():
            (tmp_path / name / file).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name / file).write_bytes(data)
        return ContentHashes().of(tmp_path / name)

    first = folder("a", {"1.dcm": b"x", "in/2.dcm": b"y"})
    assert folder("b", {"in/2.dcm": b"y", "1.dcm": b"x", ".DS_Store": b"?"}) == first
    assert folder("c", {"1.dcm": b"y", "in/2.dcm": b"x"}) != first
    assert folder("d", {"1.dcm": b"x"}) != first


def test_hashes_are_remembered_until_the_file_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Path] = []

    def counted(path: Path, real: object = content.file_sha256) -> str:
        read.append(path)
        return real(path)  # type: ignore[operator]

    monkeypatch.setattr(content, "file_sha256", counted)
    file, memo = tmp_path / "a", tmp_path / "deep" / "hashes.jsonl"
    file.write_bytes(b"1")
    first = ContentHashes(memo).of(file)
    assert ContentHashes(memo).of(file) == first
    assert len(read) == 1
    file.write_bytes(b"2")
    os.utime(file, ns=(1, 1))
    changed = ContentHashes(memo)
    assert changed.of(file) == changed.of(file) != first
    assert len(read) == 2


def test_a_memo_cut_off_by_a_kill_still_serves(tmp_path: Path) -> None:
    file, memo = tmp_path / "a", tmp_path / "hashes.jsonl"
    file.write_bytes(b"1")
    first = ContentHashes(memo).of(file)
    memo.write_text(memo.read_text() + '["/some/where 1 2", "ab')
    assert ContentHashes(memo).of(file) == first


def test_labels_of_a_case(tmp_path: Path) -> None:
    for name in ("map", "l1", "l2", "s"):
        (tmp_path / name).write_text(name)

    def case(label: str | None, **masks: tuple[str, ...]) -> Case:
        files = {structure: tuple(tmp_path / name for name in names) for structure, names in masks.items()}
        return Case(CARD, "a", tmp_path / "ct", tmp_path / label if label else None, files, frozenset())

    hashes = ContentHashes()
    assert hashes.of_labels(case("map")) == hashes.of(tmp_path / "map")
    both = hashes.of_labels(case(None, liver=("l1", "l2"), spleen=("s",)))
    assert both == hashes.of_labels(case(None, spleen=("s",), liver=("l1", "l2")))
    # The same files under other structures are other labels.
    assert both != hashes.of_labels(case(None, spleen=("l1", "l2"), liver=("s",)))
    assert both != hashes.of_labels(case(None, liver=("l1",), spleen=("s",)))
