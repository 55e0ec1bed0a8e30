"""A report against a result folder: what is flagged, removed, kept, missing; and that nothing is ever lost."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from voxicon import correction as module
from voxicon.core.concepts import Concept, Vocabulary
from voxicon.core.geometry import Geometry
from voxicon.core.masks import MaskSet
from voxicon.core.volume import Source, Volume
from voxicon.correction import Corrections, correct
from voxicon.errors import InputError, OutputError, UnreadableFile, VoxiconError
from voxicon.io.atomic import file_sha256
from voxicon.result import Result
from voxicon.workflow import is_complete

SHAPE = (40, 30, 20)
AFFINE = np.diag([2.0, 2.0, 3.0, 1.0])
AFFINE[:3, 3] = (-40, -30, 5)
Box = tuple[slice, slice, slice]


def box(x: int, y: int, z: int, size: int) -> Box:
    return slice(x, x + size), slice(y, y + size), slice(z, z + size)


PIECES: dict[str, list[Box]] = {
    "liver": [box(25, 5, 3, 12)],
    "kidney_right": [box(22, 20, 2, 8)],
    "kidney_left": [box(4, 20, 2, 8)],
    "pancreas": [box(10, 5, 5, 8)],
    "liver_tumor": [box(27, 7, 5, 4), box(34, 12, 10, 2)],
    "kidney_tumor": [box(5, 21, 3, 3), box(24, 22, 4, 2)],
    "kidney_cyst": [box(23, 25, 8, 1)],
    "pancreas_tumor": [],
}


def masks_of(pieces: dict[str, list[Box]]) -> MaskSet:
    masks = {}
    for name, boxes in pieces.items():
        masks[name] = np.zeros(SHAPE, dtype=bool)
        for one in boxes:
            masks[name][one] = True
    return MaskSet.from_masks(masks, Geometry(SHAPE, AFFINE), Source(name="phantom"))


def save(folder: Path, pieces: dict[str, list[Box]] | None = None, **more: Any) -> Path:
    masks = masks_of(PIECES if pieces is None else pieces)
    volume = Volume(np.zeros(SHAPE, dtype=np.float32), masks.geometry, masks.source)
    weights = {"name": "none", "sha256": "0", "title": ""}
    Result(masks, volume, weights, {"classes": list(masks)}, **more).save(folder)
    return folder


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("saved") / "case")


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    return shutil.copytree(saved, tmp_path / "case")


@pytest.fixture
def run(folder: Path):
    def one(text: str, *, remove: bool = False) -> Corrections:
        report = folder.parent / "report.txt"
        report.write_text(text)
        return correct(folder, report, remove=remove)

    return one


def told(done: Corrections) -> list[tuple[str, str, int | None]]:
    return [
        (d.action, "|".join(d.lesions), d.piece) for d in done.decisions if d.action != "not mentioned"
    ]  # fmt: skip


def files_in(folder: Path) -> dict[str, str]:
    return {p.relative_to(folder).as_posix(): file_sha256(p) for p in folder.rglob("*") if p.is_file()}


def read(folder: Path, name: str, kind: str = "segmentations") -> Any:
    return np.asarray(nib.load(folder / kind / f"{name}.nii.gz").dataobj) != 0


def test_lesions_in_an_organ_that_is_said_normal_are_flagged_and_stay(folder: Path, run) -> None:
    before = files_in(folder)
    done = run("Findings: The liver is unremarkable.")
    assert told(done) == [("denied", "liver_tumor", 1), ("denied", "liver_tumor", 2)]
    after = files_in(folder)
    del after["corrections.json"]
    assert after == before
    document = json.loads((folder / "corrections.json").read_text())
    assert document == done.document
    assert document["format"] == "voxicon-corrections-1"
    assert document["report"]["sha256"] == file_sha256(folder.parent / "report.txt")
    assert document["removed"] == []
    first = document["decisions"][0]
    assert (first["done"], first["organs"], first["volume_ml"]) == ("flagged", ["liver"], 64 * 0.012)
    assert first["center_mm"] == [-40 + 2 * 28.5, -30 + 2 * 8.5, 5 + 3 * 6.5]
    assert first["sentences"] == ["Findings: The liver is unremarkable."]
    assert "liver is said to be normal" in first["reason"]
    assert done.removed == 0
    assert done.dropped == ()


def test_a_class_that_is_said_absent_is_denied_and_no_other(run) -> None:
    done = run("No right renal mass.")
    assert told(done) == [("denied", "kidney_tumor", 2)]
    assert "without kidney_tumor" in done.decisions[3].reason
    assert told(run("No renal cysts.")) == [("denied", "kidney_cyst", 1)]
    assert told(run("Normal right kidney.")) == [("denied", "kidney_tumor", 2), ("denied", "kidney_cyst", 1)]


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
    assert case["notes"][0] == "liver_tumor: piece 1 of 0.768 ml removed, a report denies it (see corrections.json)"
    assert len(case["notes"]) == 3
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
    assert run("Normal liver.").unchanged
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


@pytest.mark.parametrize(
    ("text", "action"),
    [
        ("The liver is normal. 2 cm mass in the liver.", "contradictory"),
        ("No hepatic metastases. Multiple liver metastases.", "contradictory"),
        ("The liver is normal. Possible liver metastasis.", "uncertain"),
        ("Indeterminate liver lesion.", "uncertain"),
        ("2 cm mass in the liver, otherwise the liver is normal.", "confirmed"),
        ("1 cm hemangioma in the liver.", "not mentioned"),
        ("INDICATION: normal liver.\nFINDINGS: normal spleen.", "not mentioned"),
        ("The liver is normal in size.", "not mentioned"),
    ],
)
def test_what_is_not_denied_beyond_doubt_is_never_removed(folder: Path, run, text: str, action: str) -> None:
    before = files_in(folder)
    done = run(text, remove=True)
    assert [d.action for d in done.decisions[:2]] == [action] * 2
    assert done.removed == 0
    after = files_in(folder)
    del after["corrections.json"]
    assert after == before


def test_an_organ_that_was_taken_out_is_looked_at_by_a_person(folder: Path, run) -> None:
    done = run("Status post left nephrectomy.", remove=True)
    assert told(done) == [("organ removed", "kidney_tumor", 1)]
    assert done.removed == 0


def test_a_lesion_that_nobody_found_is_to_be_annotated(run) -> None:
    done = run("2 cm mass in the pancreatic head.\n\nIMPRESSION: 2 cm mass in the pancreas.")
    assert told(done) == [("missing", "pancreas_tumor", None)]
    [decision] = [d for d in done.decisions if d.action == "missing"]
    assert (decision.organs, decision.told_mm, decision.found_count) == (("pancreas",), 20.0, 0)
    assert decision.sentences == ("IMPRESSION: 2 cm mass in the pancreas.",)
    assert done.document["decisions"][-1]["done"] == "flagged"


def test_a_lesion_is_missing_on_the_side_where_it_is_not(run) -> None:
    assert told(run("Left renal cyst.")) == [("missing", "kidney_cyst|kidney_cyst_left", None)]
    assert told(run("Right renal cyst.")) == [("confirmed", "kidney_cyst", 1)]
    assert told(run("Renal cyst.")) == [("confirmed", "kidney_cyst", 1)]
    both = run("Bilateral renal cysts.")
    assert told(both) == [
        ("confirmed", "kidney_cyst", 1),
        ("missing", "kidney_cyst|kidney_cyst_left|kidney_cyst_right", None),
    ]
    assert both.decisions[-1].organs == ("kidney_left",)


def test_a_class_that_was_not_looked_for_is_said(run) -> None:
    assert told(run("Lung metastases.")) == [("not looked for", "lung_tumor", None)]
    spleen = run("Metastasis in the spleen.")
    assert told(spleen) == [("not looked for", "", None)]
    assert "no class stands for one" in spleen.decisions[-1].reason


def test_a_contradiction_without_a_piece_is_said_too(run) -> None:
    assert told(run("Normal pancreas. 2 cm pancreatic mass.")) == [("contradictory", "pancreas_tumor", None)]
    assert told(run("Possible pancreatic mass.")) == [("uncertain", "pancreas_tumor", None)]


def test_what_is_confirmed_is_compared(run) -> None:
    done = run("Three liver metastases, up to 9 mm.")
    first = done.decisions[0]
    assert (first.action, first.told_mm, first.told_count, first.found_count) == ("confirmed", 9.0, 3, 2)
    # Face centers of 4 x 4 voxels of 2 mm, the farthest two: 4 along one axis and 3 along the other.
    assert first.longest_mm == 10.0
    assert first.reason.endswith("largest told 9 mm, this one 10 mm; told 3, found 2")


def test_a_finding_in_a_lobe_is_one_of_the_lung_and_denying_one_is_not(tmp_path: Path) -> None:
    save(tmp_path / "case", {"lung_left": [box(2, 2, 2, 12)], "lung_tumor": [box(4, 4, 4, 2)]})
    report = tmp_path / "report.txt"
    report.write_text("5 mm nodule in the left lower lobe.")
    assert told(correct(tmp_path / "case", report)) == [("confirmed", "lung_tumor", 1)]
    report.write_text("Left lower lobe is clear. No nodule in the right lung.")
    assert told(correct(tmp_path / "case", report)) == []


def test_a_piece_that_touches_no_organ_is_denied_only_in_all_of_them(tmp_path: Path) -> None:
    pieces = {
        "kidney_left": [box(4, 20, 2, 8)],
        "kidney_right": [box(22, 20, 2, 8)],
        "kidney_tumor": [box(30, 2, 2, 2)],
    }
    save(tmp_path / "case", pieces)
    report = tmp_path / "report.txt"
    for text, actions in {
        "Normal left kidney.": [],
        "Normal kidneys.": [("denied", "kidney_tumor", 1)],
        "Left renal mass.": [("confirmed", "kidney_tumor", 1), ("missing", "kidney_tumor", None)],
    }.items():
        report.write_text(text)
        assert told(correct(tmp_path / "case", report)) == actions


def test_pieces_of_organs_that_were_not_looked_for_count_as_found(tmp_path: Path) -> None:
    save(tmp_path / "case", {"kidney_tumor": [box(30, 2, 2, 2)]})
    (tmp_path / "report.txt").write_text("Left renal mass.")
    done = correct(tmp_path / "case", tmp_path / "report.txt")
    assert told(done) == [("confirmed", "kidney_tumor", 1)]


def test_classes_that_the_weights_brought_along_are_known(tmp_path: Path) -> None:
    concept = Concept.from_dict({
        "id": 1000, "name": "spleen_tumor", "kind": "lesion", "snomed": ["1", "x"], "color": [1, 2, 3],
        "parents": ["spleen"], "cleanup": {"rule": "none"}, "display": "splenic tumor",
    })  # fmt: skip
    pieces = {"spleen": [box(2, 2, 2, 9)], "spleen_tumor": [box(3, 3, 3, 2)]}
    save(tmp_path / "case", pieces, vocabulary=Vocabulary.default().extended([concept]))
    (tmp_path / "report.txt").write_text("Spleen: normal.")
    done = correct(tmp_path / "case", tmp_path / "report.txt", remove=True)
    assert told(done) == [("denied", "spleen_tumor", 1)]
    assert not read(tmp_path / "case", "spleen_tumor").any()
    table = json.loads((tmp_path / "case" / "combined_labels.json").read_text())
    assert table["1000"]["display_name"] == "splenic tumor"


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


def _break(name: str, content: bytes | None):
    def one(folder: Path) -> None:
        (folder / name).unlink() if content is None else (folder / name).write_bytes(content)

    return one


def _edit(**changes: Any):
    def one(folder: Path) -> None:
        case = json.loads((folder / "case.json").read_text())
        (folder / "case.json").write_text(json.dumps({**case, **changes}))

    return one


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_break("case.json", None), "holds no complete result"),
        (_break("case.json", b"[]"), "holds no complete result"),
        (_edit(files={}), "holds no complete result"),
        (_edit(files=["a"]), "holds no complete result"),
        (_edit(volumes_ml=None), "holds no complete result"),
        (_edit(files={"../report.txt": ""}), "outside of its folder"),
        (_edit(volumes_ml={"liver": 1, "lung_tumor": 1}), "lists no mask of lung_tumor"),
        (_edit(volumes_ml={}), "has no class"),
        (_break("segmentations/liver.nii.gz", None), "is missing from the result"),
        (_break("segmentations/liver.nii.gz", b"x"), "hashes differ"),
        (_break("preview.png", b"x"), "hashes differ"),
    ],
)
def test_what_is_no_sound_result_is_refused(folder: Path, run, damage, message: str) -> None:
    damage(folder)
    with pytest.raises(InputError, match=message) as refused:
        run("Normal liver.", remove=True)
    assert "\n" not in str(refused.value)
    assert not (folder / "corrections.json").exists()


def _relist(folder: Path, name: str) -> None:
    case = json.loads((folder / "case.json").read_text())
    case["files"][name] = file_sha256(folder / name)
    (folder / "case.json").write_text(json.dumps(case))


def test_masks_on_different_grids_are_refused(folder: Path, run) -> None:
    name = "segmentations/pancreas.nii.gz"
    moved = AFFINE.copy()
    moved[0, 3] += 50
    nib.save(nib.Nifti1Image(np.zeros(SHAPE, dtype=np.uint8), moved), folder / name)
    _relist(folder, name)
    with pytest.raises(VoxiconError, match="on another grid"):
        run("Normal liver.")


def test_a_class_that_nothing_describes_is_refused(folder: Path, run) -> None:
    case = json.loads((folder / "case.json").read_text())
    (folder / "segmentations" / "thing.nii.gz").write_bytes((folder / "segmentations" / "liver.nii.gz").read_bytes())
    case["volumes_ml"]["thing"] = 1.0
    (folder / "case.json").write_text(json.dumps(case))
    _relist(folder, "segmentations/thing.nii.gz")
    with pytest.raises(VoxiconError, match="thing"):
        run("Normal liver.")


def test_removed_voxels_on_another_grid_are_refused(folder: Path, run) -> None:
    run("Normal left kidney.", remove=True)
    moved = AFFINE.copy()
    moved[0, 3] += 50
    nib.save(nib.Nifti1Image(np.zeros(SHAPE, dtype=np.uint8), moved), folder / "removed" / "kidney_tumor.nii.gz")
    before = files_in(folder)
    with pytest.raises(UnreadableFile, match="another grid"):
        run("Normal right kidney.", remove=True)
    assert files_in(folder) == before


def test_reports_that_are_none_are_refused(folder: Path) -> None:
    with pytest.raises(UnreadableFile, match="cannot be read"):
        correct(folder, folder.parent / "none.txt")
    (folder.parent / "report.txt").write_bytes(b"\xff\xfe\0")
    with pytest.raises(UnreadableFile, match="UTF-8"):
        correct(folder, folder.parent / "report.txt")
    assert not (folder / "corrections.json").exists()
