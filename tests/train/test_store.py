"""Prepared scans on disk: the same bits come back, whatever kills, races or damage came between."""

from __future__ import annotations

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.train.phantoms import NO_JITTER, STILL, make_card, make_case
from voxicon.errors import OutputError
from voxicon.train import store as store_module
from voxicon.train.augment import AugmentConfig
from voxicon.train.cases import TrainingCase
from voxicon.train.patches import PatchSampler, Pool
from voxicon.train.store import CaseStore, entry_key

KEY = "0123456789abcdef"
FILES = ("hu_XYZ.b2nd", "words_WXYZ.b2nd", "structure_XYZ.b2nd", "small.npz", "case.json")


def rich_case() -> TrainingCase:
    card = make_card(sampling={"background": 1, "organ": 1, "lesion": 5}, zoom={"chance": 1, "low": 1.3, "high": 1.5})
    return make_case(card, paint_hu={"liver": (0.0, 90.0), "spleen": (-5.0, 120.5)})


CASE = rich_case()


def never() -> TrainingCase:
    raise AssertionError("the entry is there and must not be made again")


def assert_same(one: TrainingCase, two: TrainingCase) -> None:
    for name in ("hu_XYZ", "words_WXYZ", "structure_XYZ", "known_N", "count_N", "background"):
        a, b = getattr(one, name)[:], getattr(two, name)[:]
        assert a.dtype == b.dtype, name
        assert np.array_equal(a, b), name
    assert list(one.centers) == list(two.centers)
    assert all(np.array_equal(one.centers[n], two.centers[n]) for n in one.centers)
    assert (one.name, one.mean_hu, one.traits) == (two.name, two.mean_hu, two.traits)


def test_an_entry_survives_reopening_bit_for_bit(tmp_path: Path) -> None:
    assert KEY not in CaseStore(tmp_path / "cache")
    assert_same(CaseStore(tmp_path / "cache").get(KEY, rich_case), CASE)
    assert KEY in CaseStore(tmp_path / "cache")
    assert_same(CaseStore(tmp_path / "cache").get(KEY, never), CASE)
    assert sorted(p.name for p in (tmp_path / "cache" / KEY).iterdir()) == sorted(FILES)
    assert [p.name for p in (tmp_path / "cache").iterdir()] == [KEY], "nothing unfinished is left"


def test_a_box_is_read_alone(tmp_path: Path) -> None:
    stored = CaseStore(tmp_path).get(KEY, rich_case)
    box = (slice(3, 9), slice(0, 24), slice(5, 6))
    assert np.array_equal(stored.hu_XYZ[box], np.asarray(CASE.hu_XYZ)[box])
    assert np.array_equal(stored.words_WXYZ[(slice(None), *box)], np.asarray(CASE.words_WXYZ)[(slice(None), *box)])


def test_thousands_of_scans_need_no_open_files(tmp_path: Path) -> None:
    open_files = Path("/proc/self/fd")
    if not open_files.is_dir():
        pytest.skip("no /proc here to count open files")
    before = len(list(open_files.iterdir()))
    stored = [CaseStore(tmp_path).get(KEY, rich_case) for _ in range(50)]
    assert all(case.hu_XYZ[0, 0, 0] == stored[0].hu_XYZ[0, 0, 0] for case in stored)
    assert len(list(open_files.iterdir())) <= before + 3


@pytest.mark.parametrize("augment", [STILL, AugmentConfig()])
def test_cached_patches_equal_uncached_ones_bit_for_bit(tmp_path: Path, augment: AugmentConfig) -> None:
    stored = CaseStore(tmp_path).get(KEY, rich_case)
    for step in range(3):
        one, two = (
            PatchSampler(Pool([case], [0]), (16, 16, 16), 3.0, augment, NO_JITTER, 7).batch(step, range(2))
            for case in (stored, CASE)
        )
        assert torch.equal(one.hu_B1XYZ, two.hu_B1XYZ)
        assert torch.equal(one.target_BNXYZ, two.target_BNXYZ)
        assert torch.equal(one.known_BN, two.known_BN)


def test_a_run_killed_half_way_leaves_no_entry(tmp_path: Path) -> None:
    # What kill -9 leaves behind: the scratch folder with some of its files.
    CaseStore(tmp_path).get(KEY, rich_case)
    (tmp_path / KEY).rename(tmp_path / f".{KEY}.77")
    (tmp_path / f".{KEY}.77" / "case.json").unlink()
    assert KEY not in CaseStore(tmp_path)
    assert_same(CaseStore(tmp_path).get(KEY, rich_case), CASE)


def test_a_failure_on_the_way_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(OutputError, match="No space left on device") as caught:
        CaseStore(tmp_path).get(KEY, rich_case)
    assert caught.value.code == "E-DISK"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("how", ["gone", "empty", "short", "garbage"])
def test_a_damaged_entry_is_made_again(tmp_path: Path, file: str, how: str) -> None:
    CaseStore(tmp_path).get(KEY, rich_case)
    path = tmp_path / KEY / file
    data = path.read_bytes()
    if how == "gone":
        path.unlink()
    else:
        path.write_bytes({"empty": b"", "short": data[: len(data) // 2], "garbage": b"\x07" * len(data)}[how])
    assert_same(CaseStore(tmp_path).get(KEY, rich_case), CASE)
    assert_same(CaseStore(tmp_path).get(KEY, never), CASE)
    assert [p.name for p in tmp_path.iterdir()] == [KEY]


@pytest.mark.parametrize("data", [None, b"", b"\x07" * 5000])
def test_an_entry_that_is_damaged_during_the_run_is_told(tmp_path: Path, data: bytes | None) -> None:
    stored = CaseStore(tmp_path).get(KEY, rich_case)
    path = tmp_path / KEY / "hu_XYZ.b2nd"
    path.unlink() if data is None else path.write_bytes(data)
    with pytest.raises(OutputError, match=r"cannot be read any more.*remove the folder and start again"):
        stored.hu_XYZ[:]


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="prepared scans cannot be kept there") as caught:
        CaseStore(tmp_path / "file").get(KEY, rich_case)
    assert caught.value.code == "E-DISK"
    assert "another cache folder" in str(caught.value)


def test_a_folder_that_forgets_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "_open", lambda _: None)
    with pytest.raises(OutputError, match="cannot be read back"):
        CaseStore(tmp_path).get(KEY, rich_case)


def test_an_error_of_the_scan_is_not_taken_for_one_of_the_folder(tmp_path: Path) -> None:
    def missing() -> TrainingCase:
        raise FileNotFoundError(2, "No such file", "scan.nii.gz")

    with pytest.raises(FileNotFoundError):
        CaseStore(tmp_path).get(KEY, missing)


def test_somebody_else_may_be_faster(tmp_path: Path) -> None:
    def slow() -> TrainingCase:
        CaseStore(tmp_path).get(KEY, rich_case)
        return rich_case()

    assert_same(CaseStore(tmp_path).get(KEY, slow), CASE)
    assert [p.name for p in tmp_path.iterdir()] == [KEY]


def test_threads_that_make_the_same_entry_do_no_harm(tmp_path: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        for case in pool.map(lambda _: CaseStore(tmp_path).get(KEY, rich_case), range(12)):
            assert_same(case, CASE)
    assert [p.name for p in tmp_path.iterdir()] == [KEY]


def test_keys_tell_what_they_are_made_of() -> None:
    parts = {"image": "ab", "classes": ("liver", "spleen"), "spacing_mm": 3.0, "card": {"raw": {1: "liver", 2: "x"}}}
    key = entry_key(parts)
    assert key == entry_key(dict(reversed(parts.items()))), "the order in which parts are given does not matter"
    assert key == entry_key(json.loads(json.dumps(parts)))
    others = [
        {**parts, "image": "cd"},
        {**parts, "classes": ("spleen", "liver")},
        {**parts, "spacing_mm": 1.5},
        {**parts, "card": {"raw": {1: "liver", 2: "y"}}},
        {**parts, "more": 1},
    ]
    assert len({key, *map(entry_key, others)}) == 6
    assert key.isalnum(), "it names a folder"


def test_prepared_scans_of_another_version_are_not_found(monkeypatch: pytest.MonkeyPatch) -> None:
    key = entry_key({"image": "ab"})
    monkeypatch.setattr(store_module, "VERSION", store_module.VERSION + 1)
    assert entry_key({"image": "ab"}) != key


def test_without_the_train_extra_training_says_what_to_install() -> None:
    code = "import sys; sys.modules['blosc2'] = None; import voxicon.train.store"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "ConfigError: training needs the package blosc2" in done.stderr
