"""Removing loses nothing, may be repeated, and may be killed at any time."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import pytest

from tests.correction.phantom import PIECES, files_in, masks_of, read, save
from voxicon import correction as module
from voxicon.errors import OutputError
from voxicon.io.atomic import file_sha256
from voxicon.workflow import is_complete


def test_removing_saves_the_voxels_and_rewrites_everything_that_tells_of_them(
    folder: Path, run, tmp_path: Path
) -> None:
    case_before = json.loads((folder / "case.json").read_text())
    done = run("Normal liver. No left renal mass.", remove=True)
    assert done.removed == 3
    assert done.dropped == ("preview.png",)
    assert is_complete(folder)
    assert not (folder / "preview.png").exists()
    # The same as if these masks had been predicted in the first place.
    left = {**PIECES, "liver_tumor": [], "kidney_tumor": PIECES["kidney_tumor"][1:]}
    expected = save(tmp_path / "expected", left)
    ours, theirs = files_in(folder), files_in(expected)
    listed = [name for name in theirs if name not in ("case.json", "preview.png")]
    assert {name: ours[name] for name in listed} == {name: theirs[name] for name in listed}
    case = json.loads((folder / "case.json").read_text())
    assert case["files"] == {name: ours[name] for name in listed}
    assert case["volumes_ml"] == json.loads((expected / "case.json").read_text())["volumes_ml"]
    assert case["removed"] == ["kidney_tumor", "liver_tumor"]
    assert case["notes"][0] == "liver: a crumb removed"
    assert case["notes"][1] == "liver_tumor: piece 1 of 0.768 ml removed, a report denies it (see corrections.json)"
    assert len(case["notes"]) == 4
    same = ("voxicon", "input", "weights", "settings", "case", "warnings")
    assert {key: case[key] for key in same} == {key: case_before[key] for key in same}
    # What was taken out and what is left are together what was there.
    for name in ("liver_tumor", "kidney_tumor"):
        gone, kept = read(folder, name, "removed"), read(folder, name)
        assert not (gone & kept).any()
        assert ((gone | kept) == masks_of(PIECES)[name]).all()
        removed, mask = (nib.load(folder / kind / f"{name}.nii.gz") for kind in ("removed", "segmentations"))
        assert (removed.affine == mask.affine).all()
    log = json.loads((folder / "corrections.json").read_text())
    assert [(d["lesions"], d["piece"]) for d in log["removed"]] == [
        (["liver_tumor"], 1), (["liver_tumor"], 2), (["kidney_tumor"], 1),
    ]  # fmt: skip
    assert [d["done"] for d in log["decisions"]] == ["removed"] * 3 + ["nothing"] * 2


def test_the_same_again_does_nothing(folder: Path, run) -> None:
    assert not run("Normal liver.").unchanged
    before = files_in(folder)
    written = (folder / "corrections.json").stat().st_ino
    assert run("Normal liver.").unchanged
    assert (folder / "corrections.json").stat().st_ino == written
    assert files_in(folder) == before
    assert run("Normal liver.", remove=True).removed == 2
    masks = files_in(folder)
    again = run("Normal liver.", remove=True)
    assert (again.removed, again.dropped) == (0, ())
    after = files_in(folder)
    del masks["corrections.json"], after["corrections.json"]
    assert after == masks
    assert run("Normal liver.", remove=True).unchanged
    # The log of what was removed is kept, and what another report removes comes to it.
    assert len(json.loads((folder / "corrections.json").read_text())["removed"]) == 2
    other = run("Normal left kidney.", remove=True)
    assert [d["lesions"] for d in other.document["removed"]] == [["liver_tumor"]] * 2 + [["kidney_tumor"]]
    third = run("Normal right kidney.", remove=True)
    assert len(third.document["removed"]) == 5
    assert (read(folder, "kidney_tumor", "removed") == masks_of(PIECES)["kidney_tumor"]).all()


def test_a_new_result_in_the_folder_has_no_earlier_removals(folder: Path, run) -> None:
    run("Normal liver.", remove=True)
    save(folder, {**PIECES, "liver_tumor": PIECES["liver_tumor"][1:]})
    done = run("Normal liver.", remove=True)
    assert len(done.document["removed"]) == 1
    assert read(folder, "liver_tumor", "removed").sum() == 8


def test_probabilities_stay_and_pages_go(folder: Path, run) -> None:
    # Files that other commands may list beside the masks.
    extra = {"probabilities/liver.nii.gz": True, "findings.json": False, "answers/q1.json": False}
    case = json.loads((folder / "case.json").read_text())
    for name in extra:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(name)
        case["files"][name] = file_sha256(folder / name)
    (folder / "case.json").write_text(json.dumps(case))
    (folder / "my notes.txt").write_text("keep me")
    done = run("Normal liver.", remove=True)
    assert done.dropped == ("preview.png", "findings.json", "answers/q1.json")
    listed = json.loads((folder / "case.json").read_text())["files"]
    for name, stays in extra.items():
        assert (folder / name).exists() == stays == (name in listed)
    assert (folder / "my notes.txt").exists()


WRITERS = ("_save_removed", "remove_file", "write_masks", "write_combined", "write_text")


@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize("nth", [0, 1])
def test_a_killed_removal_leaves_the_old_result_or_none(
    folder: Path, run, monkeypatch: pytest.MonkeyPatch, writer: str, nth: int
) -> None:
    before = files_in(folder)
    old = masks_of(PIECES)
    whole, calls = getattr(module, writer), []

    def killed(*given: Any, **options: Any) -> Any:
        calls.append(given)
        if len(calls) > nth:
            raise KeyboardInterrupt
        return whole(*given, **options)

    monkeypatch.setattr(module, writer, killed)
    try:
        run("Normal liver. Normal kidneys.", remove=True)
    except KeyboardInterrupt:
        after = files_in(folder)
        assert {name: after.get(name) for name in before} == before or not is_complete(folder)
    else:
        assert len(calls) <= nth
    for name in ("liver_tumor", "kidney_tumor"):
        removed = folder / "removed" / f"{name}.nii.gz"
        here = read(folder, name) | (read(folder, name, "removed") if removed.exists() else False)
        assert (here == old[name]).all(), "voxels were lost"


def test_a_full_disk_while_saving_what_goes_changes_nothing(folder: Path, run) -> None:
    (folder / "removed").write_text("a file where a folder should be")
    before = files_in(folder)
    with pytest.raises(OutputError):
        run("Normal liver.", remove=True)
    assert files_in(folder) == before
    assert is_complete(folder)
