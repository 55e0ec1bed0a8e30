"""``voxicon ask``: what it says, what it writes, in which order it looks, and what it refuses in one line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from jsonschema import Draft202012Validator

from tests.answering.on_disk import write_belly, write_belly_masks
from tests.cli.conftest import Call
from tests.weights_on_disk import write_small_weights
from voxicon import inquiry as inquiry_module
from voxicon.answering.document import schema
from voxicon.errors import OutputError
from voxicon.io.atomic import file_sha256

Ask = Callable[..., tuple[int, str, str]]
TUMORS = "measure the liver tumors larger than 9 mm"


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small_weights(tmp_path_factory.mktemp("weights") / "small.safetensors")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``belly.nii.gz`` and ``masks/``."""
    folder = tmp_path_factory.mktemp("belly")
    write_belly(folder)
    write_belly_masks(folder)
    return folder


@pytest.fixture
def ask(call: Call, weights: Path, folder: Path, tmp_path: Path) -> Ask:
    """The command on the belly in this process, its output under ``out``; `scan` and `given` may be others."""

    def one(*words: object, scan: object = folder / "belly.nii.gz", given: object = folder / "masks"):
        options = ["-o", tmp_path / "out", "--weights", weights, "--no-preview", "--engine", "torch"]
        if "--weights" in words:
            options = options[:2] + options[4:]
        masks = [] if given is None else ["--masks", given]
        return call("ask", scan, *words, *options, *masks)

    return one


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out" / "belly"


ANSWER = """\
understood: measure: liver tumor, larger than 9 mm
measure: liver tumor, larger than 9 mm
  liver tumor 1 (liver, upper third): 13.4 × 8.9 mm (axial), 1.2 ml
  liver tumor 2 (liver, lower third): 10.0 × 2.0 mm (axial), 0.080 ml
  -> {folder}/answers/1_liver_tumor_larger_than_9_mm.nii.gz
- Liver tumor: 5 found, 1.4 ml together; the largest 13.4 × 8.9 mm (longest axial diameters), in the upper third of \
the liver, 50 HU darker than the liver.
-> {folder}/report.html
"""


def test_a_request_is_understood_answered_and_written(ask: Ask, out: Path) -> None:
    code, told, errors = ask(TUMORS)
    assert (code, told) == (0, ANSWER.format(folder=out))
    assert errors.splitlines()[-1] == f"{out}: Research software, not a medical device."
    assert "weights" not in errors  # none were loaded
    document = json.loads((out / "findings.json").read_text())
    Draft202012Validator(schema()).validate(document)
    assert document["masks_by"]["given_from"] == "masks"
    assert document["scan"]["file"] == "belly.nii.gz"
    assert (out / "measurements.csv").read_text().count("\n") == 1 + 5


def test_what_is_odd_about_a_scan_is_told(ask: Ask, out: Path) -> None:
    code, _, errors = ask(TUMORS, "--hu-offset", "200")
    assert code == 0
    (warning,) = json.loads((out / "findings.json").read_text())["warnings"]
    assert "neither air nor fat" in warning
    assert f"  warning: {warning}" in errors.splitlines()


def test_quiet_says_answers_alone(ask: Ask, out: Path) -> None:
    code, told, errors = ask(TUMORS, "-q")
    assert (code, told, errors) == (0, ANSWER.format(folder=out), "")


def test_the_case_lists_the_new_files(ask: Ask, out: Path) -> None:
    assert ask(TUMORS)[0] == 0
    files = json.loads((out / "case.json").read_text())["files"]
    assert {"findings.json", "measurements.csv", "answers/1_liver_tumor_larger_than_9_mm.nii.gz"} <= set(files)
    on_disk = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
    assert on_disk == {*files, "case.json"}
    for name, digest in files.items():
        assert file_sha256(out / name) == digest
    written = {name: (out / name).stat().st_mtime_ns for name in (*files, "case.json")}
    assert written["case.json"] == max(written.values())


def test_a_disk_that_fills_up_leaves_no_case(ask: Ask, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(document: object) -> str:
        raise OutputError("measurements.csv: no space left")

    monkeypatch.setattr(inquiry_module, "measurements_csv", full)
    code, _, errors = ask(TUMORS)
    assert (code, errors.splitlines()[-1]) == (1, "voxicon: error [E-OUTPUT] measurements.csv: no space left")
    assert (out / "findings.json").is_file()
    assert not (out / "case.json").exists()


def test_json_is_findings_json(ask: Ask, out: Path) -> None:
    code, told, errors = ask(TUMORS, "count the kidneys", "--json")
    assert code == 0
    assert told.count("\n") == 1
    assert json.loads(told) == json.loads((out / "findings.json").read_text())
    # What was understood is still said, beside the data.
    assert errors.startswith(
        "understood: measure: liver tumor, larger than 9 mm\nunderstood: count: left and right kidney\n"
    )
    code, told, errors = ask(TUMORS, "--json", "-q", "--overwrite")
    assert (code, errors) == (0, "")
    assert json.loads(told)["requests"][0]["text"] == TUMORS


def test_several_requests_are_answered_in_order(ask: Ask, out: Path) -> None:
    code, told, _ = ask("count the kidney tumors", "segment the liver tumour", "count the aorta")
    assert code == 0
    lines = told.splitlines()
    assert lines[:3] == [
        "understood: count: kidney tumor",
        "understood: segment: liver tumor",
        "understood: count: aorta",
    ]
    assert lines[3:9] == [
        "count: kidney tumor",
        "  kidney tumor: 2",
        f"  -> {out}/segmentations/kidney_tumor.nii.gz",
        "segment: liver tumor",
        "  liver tumor: 5 found, 1.4 ml together",
        f"  -> {out}/segmentations/liver_tumor.nii.gz",
    ]
    asked = [request["text"] for request in json.loads((out / "findings.json").read_text())["requests"]]
    assert asked == ["count the kidney tumors", "segment the liver tumour", "count the aorta"]


def test_a_file_is_named_once_and_a_page_only_where_there_is_one(ask: Ask, out: Path) -> None:
    _, told, _ = ask("segment the liver and then measure it", "mark the liver", "--no-report")
    assert told.count(f"-> {out}/segmentations/liver.nii.gz") == 1
    assert "report.html" not in told


def test_what_was_corrected_and_left_out_is_shown_before_the_answer(ask: Ask) -> None:
    _, told, _ = ask("Please measure the panceas")
    assert told.splitlines()[:4] == [
        "understood: measure: pancreas",
        "  read 'panceas' as 'pancreas'",
        "  left out: please",
        "measure: pancreas",
    ]


def test_requests_from_a_file(ask: Ask, tmp_path: Path, out: Path) -> None:
    lines = tmp_path / "requests.txt"
    lines.write_text("# what the meeting asks for\n\n  count the kidneys  \n#count the aorta\nmeasure the liver\n")
    code, told, _ = ask("count the aorta", "--request-file", lines)
    assert code == 0
    assert told.splitlines()[:3] == [
        "understood: count: aorta",
        "understood: count: left and right kidney",
        "understood: measure: liver",
    ]


def test_a_file_of_requests_may_begin_with_a_byte_order_mark(ask: Ask, tmp_path: Path) -> None:
    lines = tmp_path / "requests.txt"
    lines.write_text("# of an editor on Windows\r\ncount the kidneys\r\n", encoding="utf-8-sig", newline="")
    code, told, _ = ask("--request-file", lines, "--parse-only")
    assert (code, told) == (0, "understood: count: left and right kidney\n")


def test_parse_only(ask: Ask, tmp_path: Path) -> None:
    nowhere = tmp_path / "no.nii.gz"
    code, told, errors = ask(TUMORS, "segment the brain", "--parse-only", scan=nowhere, given=None)
    assert (code, errors) == (0, "")
    assert told == "understood: measure: liver tumor, larger than 9 mm\nunderstood: segment: brain\n"
    code, told, errors = ask(TUMORS, "--parse-only", "--json", scan=nowhere, given=None)
    assert (code, errors) == (0, "")
    (request,) = json.loads(told)
    assert request["clauses"][0]["targets"][0]["conditions"][0]["value"] == 9
    assert not (tmp_path / "out").exists()


def test_weights_find_what_is_not_given(ask: Ask, out: Path) -> None:
    code, _, errors = ask("count the liver tumors", given=None)
    assert code == 0
    assert "weights small on cpu (torch" in errors
    document = json.loads((out / "findings.json").read_text())
    assert document["masks_by"]["weights"] == "small"
    Draft202012Validator(schema()).validate(document)


def refused(done: tuple[int, str, str], code: int, name: str, *parts: str) -> str:
    """One line with an exit code, on stderr, with nothing written before it but what was understood."""
    assert done[0] == code, done
    line = done[2].splitlines()[-1]
    assert line.startswith(f"voxicon: error [{name}] ")
    for part in parts:
        assert part in line
    assert "Traceback" not in done[2]
    return line


def test_what_is_wrong_with_a_request(ask: Ask, tmp_path: Path, folder: Path) -> None:
    refused(ask(), 2, "E-USAGE", "no request given", "'measure the liver'")
    refused(ask("segment the livr"), 2, "E-CLASS", "'livr' is not understood", "did you mean liver")
    refused(ask("count the aorta", "tumors larger than 2"), 2, "E-USAGE", "request 2 of 2: ", "expected a unit")
    refused(ask("segment the dome of the liver"), 2, "E-USAGE", "the dome of the liver", "upper third")
    refused(ask("segment the brain"), 2, "E-CLASS", "weights 'small' and the masks in", "cannot find brain")
    refused(ask("segment the brain", given=None), 2, "E-CLASS", "weights 'small' cannot find brain; they find spleen")
    refused(ask("kidney tumors near the brain"), 2, "E-CLASS", "cannot find brain, which the request refers to")
    assert not (tmp_path / "out").exists()


def test_what_is_wrong_with_a_file_of_requests(ask: Ask, tmp_path: Path) -> None:
    lines = tmp_path / "requests.txt"
    refused(ask("--request-file", lines), 2, "E-USAGE", "requests.txt: cannot be read as text", "one request a line")
    for text in ("", "\n  \n", "# nothing\n"):
        lines.write_text(text)
        refused(ask("--request-file", lines), 2, "E-USAGE", "requests.txt: holds no request")
    lines.write_bytes(b"\xff\xfe\x00")
    refused(ask("--request-file", lines), 2, "E-USAGE", "cannot be read as text")
    assert not (tmp_path / "out").exists()


def test_what_is_wrong_with_a_scan(ask: Ask, folder: Path, tmp_path: Path) -> None:
    refused(ask(TUMORS, scan=tmp_path / "no.nii.gz"), 2, "E-USAGE", "no.nii.gz: no such file")
    refused(ask(TUMORS, scan=folder), 2, "E-USAGE", "is a folder", "one scan at a time")
    (tmp_path / "half.nii.gz").write_bytes((folder / "belly.nii.gz").read_bytes()[:500])
    refused(ask(TUMORS, scan=tmp_path / "half.nii.gz"), 1, "E-TRUNC")
    assert not (tmp_path / "out").exists()


def test_a_request_that_cannot_be_answered_is_refused_before_the_scan_is_looked_at(ask: Ask, tmp_path: Path) -> None:
    refused(ask("segment the brain", scan=tmp_path / "no.nii.gz"), 2, "E-CLASS", "cannot find brain")
    refused(ask("segment the livr", scan=tmp_path / "no.nii.gz"), 2, "E-CLASS", "livr")
    assert not (tmp_path / "out").exists()


def test_what_is_wrong_with_masks(ask: Ask, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for given in (tmp_path / "empty", tmp_path / "missing"):
        refused(ask(TUMORS, given=given), 1, "E-ORGAN", "holds no mask named like a class", "voxicon segment")
    nib.save(nib.Nifti1Image(np.zeros((4, 4, 4), np.uint8), np.eye(4)), tmp_path / "empty" / "liver_tumor.nii.gz")
    refused(ask(TUMORS, given=tmp_path / "empty"), 1, "E-GRID", "liver_tumor.nii.gz: lies on another grid")
    assert not (tmp_path / "out").exists()


def test_a_language_that_is_not_there(ask: Ask, tmp_path: Path) -> None:
    refused(ask(TUMORS, "--report-language", "tlh"), 2, "E-USAGE", "'tlh': not there; expected one of: ", "en")
    assert not (tmp_path / "out").exists()


def test_results_are_not_replaced_unasked(ask: Ask, out: Path) -> None:
    assert ask(TUMORS)[0] == 0
    before = (out / "case.json").read_bytes()
    refused(ask("count the aorta"), 1, "E-OUTPUT", "already holds a result; use --overwrite")
    assert (out / "case.json").read_bytes() == before
    assert ask("count the aorta", "--overwrite")[0] == 0
    assert [path.name for path in (out / "segmentations").iterdir()] == ["aorta.nii.gz"]
    assert list((out / "answers").iterdir()) == []


def test_weights_that_are_not_there(ask: Ask, tmp_path: Path) -> None:
    refused(ask(TUMORS, "--weights", tmp_path / "no.safetensors"), 2, "E-WEIGHTS", "no.safetensors")
    assert not (tmp_path / "out").exists()
