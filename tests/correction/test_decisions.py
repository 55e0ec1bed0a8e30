"""What a report makes of predicted lesions: flagged, confirmed, kept, missing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.correction.phantom import box, files_in, read, save, told
from voxicon.core.concepts import Concept, Vocabulary
from voxicon.correction import correct
from voxicon.io.atomic import file_sha256


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
