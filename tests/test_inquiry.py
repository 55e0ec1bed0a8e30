"""Requests about a scan from Python: what weights find and masks at hand say, joined, answered and saved."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

import voxicon
from tests.answering.documents import finder as no_finder
from tests.answering.on_disk import write_belly, write_belly_masks
from tests.answering.phantom import BOXES, VOCABULARY, VOXEL_ML, box, drawn
from tests.weights_on_disk import CLASSES, write_small_lesions, write_small_weights
from voxicon import inquiry as module
from voxicon.answering.language import language
from voxicon.asking import understood
from voxicon.core.volume import Volume
from voxicon.errors import BadGeometry, CheckpointError, InputError, OutputError, UnknownClass, UsageError
from voxicon.finder import Finder, finder_of, needed
from voxicon.inquiry import Inquiry, answer, ask
from voxicon.io.atomic import file_sha256
from voxicon.io.nifti import read_volume
from voxicon.joining import join

SAY = language("en")


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small_weights(tmp_path_factory.mktemp("weights") / "small.safetensors")


@pytest.fixture(scope="module")
def finder(weights: Path) -> Finder:
    return finder_of(weights, device="cpu", engine="torch")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A scan, all of its masks, and those of three classes."""
    folder = tmp_path_factory.mktemp("belly")
    write_belly(folder)
    write_belly_masks(folder)
    write_belly_masks(folder / "some", "liver", "liver_tumor", "aorta")
    return folder


@pytest.fixture(scope="module")
def scan(folder: Path) -> Volume:
    return read_volume(folder / "belly.nii.gz")


def asked(scan: Volume, finder: Finder | None, *texts: str, **more: Any) -> Inquiry:
    return answer(scan, understood(texts, VOCABULARY), finder, language=SAY, **more)


def test_what_weights_find_is_known_before_they_are_loaded(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[object] = []
    monkeypatch.setattr("voxicon.segmenter.load", lambda path, **options: loaded.append((path, options)))
    found = finder_of(weights, device="cpu", overlap=0.1)
    assert (found.name, set(found.classes)) == ("small", set(CLASSES))
    assert found.classes == tuple(name for name in VOCABULARY.names if name in CLASSES)
    assert found.card["title"] == "noise"
    assert loaded == []
    found.load()
    assert loaded == [(weights, {"device": "cpu", "overlap": 0.1})]


def test_weights_that_cannot_be_used_are_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError):
        finder_of(tmp_path / "missing.safetensors")
    card = {"title": "noise", "license": "Apache-2.0", "operating_points": {"liver_tumor": {"threshold": 2}}}
    with pytest.raises(CheckpointError, match="operating points are damaged"):
        finder_of(write_small_weights(tmp_path / "odd.safetensors", card=card))


def test_requests_are_understood_one_by_one() -> None:
    texts = ("measure the liver", "count the tumors")
    pairs = understood(texts, VOCABULARY)
    assert [(text, request.in_plain_words()) for text, request in pairs] == [
        ("measure the liver", "measure: liver"),
        ("count the tumors", "count: tumors"),
    ]


@pytest.mark.parametrize(
    ("wrong", "kind", "told"),
    [("segment the flux", UnknownClass, "'flux"), ("tumors larger than 2", UsageError, "expected a unit")],
)
def test_of_several_requests_the_wrong_one_is_named(wrong: str, kind: type[UsageError], told: str) -> None:
    with pytest.raises(UsageError, match=told) as alone:
        understood([wrong], VOCABULARY)
    assert str(alone.value).startswith("request: ")
    with pytest.raises(UsageError, match=told) as second:
        understood(["measure the liver", wrong, wrong], VOCABULARY)
    assert str(second.value) == str(alone.value).replace("request: ", "request 2 of 3: ")
    for caught in (alone, second):
        assert (type(caught.value), caught.value.code) == (kind, kind.code)


def test_what_is_needed_is_known_by_names_of_files(tmp_path: Path, finder: Finder) -> None:
    for name in ("spleen", "aorta", "notes"):
        (tmp_path / f"{name}.nii.gz").touch()
    pairs = understood(["measure the spleen", "kidney tumors near the aorta"], VOCABULARY)
    assert needed(pairs[:1], None, masks=tmp_path).classes == ("spleen",)
    assert needed(pairs[:1], finder).classes == ("spleen",)
    with pytest.raises(UnknownClass, match=r"request: the masks in .* cannot find kidney tumor; they find no lesions"):
        needed(pairs, None, masks=tmp_path)
    with pytest.raises(UnknownClass, match=r"weights 'small' and the masks in .* kidney tumor; .* find liver tumor"):
        needed(pairs, finder, masks=tmp_path)
    with pytest.raises(UnknownClass, match=r"^request: weights 'small' cannot find kidney tumor"):
        needed(pairs, finder)
    with pytest.raises(InputError, match="holds no mask") as caught:
        needed(pairs, None, masks=tmp_path / "elsewhere")
    assert caught.value.code == "E-ORGAN"


def test_with_all_masks_given_no_network_is_loaded(scan: Volume, folder: Path) -> None:
    here = no_finder(("liver", "liver_tumor", "spleen"), operating_points={})
    inquiry = asked(scan, here, "measure the liver tumors larger than 9 mm", masks=folder / "masks")
    (answer,) = inquiry.document.requests
    assert [one.number for one in answer.clauses[0].targets[0].found] == [1, 2]
    by = inquiry.document.masks_by
    assert (by.weights, by.title, by.sha256, by.license, by.given_from) == (None, None, None, None, "masks")
    assert by.given == ("liver_tumor", "liver", "portal_vein_and_splenic_vein", "hepatic_vessel")
    (verdict,) = inquiry.document.detection
    assert (verdict.name, verdict.by, verdict.detected, verdict.lesions) == ("liver_tumor", "masks", True, 5)
    # What is only needed to place and compare lesions is no finding of its own.
    assert inquiry.document.organs == ()
    assert {one.name for one in inquiry.document.lesions} == {"liver_tumor"}
    assert inquiry.result.settings["given"] == list(by.given)
    assert inquiry.result.settings["requests"] == ["measure the liver tumors larger than 9 mm"]


def test_without_weights(scan: Volume, folder: Path) -> None:
    inquiry = asked(scan, None, "report", masks=folder / "masks")
    assert {organ.name for organ in inquiry.document.organs} == {n for n in BOXES if VOCABULARY[n].kind != "lesion"}
    assert {one.name: one.volume_ml for one in inquiry.document.organs}["aorta"] == pytest.approx(270 * VOXEL_ML)
    assert [(v.name, v.lesions) for v in inquiry.document.detection] == [
        ("kidney_tumor", 2), ("liver_tumor", 5), ("pancreas_tumor", 2), ("kidney_cyst", 0),
    ]  # fmt: skip
    assert "lung_tumor" in inquiry.document.not_looked_for
    assert "No kidney cyst in the masks that were given." in inquiry.document.impression


def test_masks_that_are_given_win_and_weights_find_the_rest(
    scan: Volume, folder: Path, finder: Finder, weights: Path
) -> None:
    steps: list[tuple[int, int]] = []
    told: list[str] = []
    texts = ("measure the liver", "count the liver tumors", "segment the pancreas")
    inquiry = asked(
        scan, finder, *texts, masks=folder / "some" / "masks",
        progress=lambda done, total: steps.append((done, total)), planned=lambda segmenter: told.append(segmenter.name),
    )  # fmt: skip
    masks = inquiry.result.masks
    assert masks.names == ("liver", "liver_tumor", "pancreas")
    for name in ("liver", "liver_tumor"):
        assert (masks[name] == drawn(name)).all()
    alone = finder.load().segment(scan, ["pancreas"])
    assert alone.masks.count("pancreas") > 0
    assert (masks["pancreas"] == alone.masks["pancreas"]).all()
    assert steps[-1][0] == steps[-1][1]
    assert told == ["small"]
    by = inquiry.document.masks_by
    assert (by.weights, by.title, by.license, by.given) == ("small", "noise", "Apache-2.0", ("liver", "liver_tumor"))
    assert by.sha256 == file_sha256(weights)
    (verdict,) = inquiry.document.detection
    assert (verdict.by, verdict.score, verdict.lesions) == ("masks", None, 5)


def test_lesions_of_weights_are_looked_for_in_organs_that_are_given(
    scan: Volume, folder: Path, finder: Finder, monkeypatch: pytest.MonkeyPatch
) -> None:
    segmenter, told = finder.load(), []
    plain = segmenter.segment

    def watched(*words: Any, **more: Any) -> Any:
        told.append(more["organs"])
        return plain(*words, **more)

    monkeypatch.setattr(segmenter, "segment", watched)
    asked(scan, replace(finder, load=lambda: segmenter), "segment the spleen", masks=folder / "some" / "masks")
    asked(scan, replace(finder, load=lambda: segmenter), "segment the spleen")
    assert set(told[0].names) == {"liver", "liver_tumor", "aorta"}
    assert told[1] is None


def test_what_weights_find_has_scores(scan: Volume, finder: Finder) -> None:
    inquiry = asked(scan, finder, "count the liver tumors")
    (verdict,) = inquiry.document.detection
    assert (verdict.by, verdict.measured, verdict.threshold) == ("weights", None, 0.5)
    assert verdict.score is not None
    assert tuple(inquiry.result.probabilities) == ("liver_tumor",)
    assert inquiry.document.masks_by.given == ()
    assert inquiry.document.masks_by.given_from is None


def test_thresholds_of_the_weights_masks_are_known(scan: Volume, tmp_path: Path) -> None:
    inference = {"window": [16, 16, 16], "overlap": 0.25, "thresholds": {"liver_tumor": 0.3}}
    other = finder_of(write_small_weights(tmp_path / "other.safetensors", inference=inference), engine="torch")
    document = asked(scan, other, "count the liver tumors").document
    assert document.detection[0].threshold == 0.3
    confidence = document.lesions[0].confidence
    assert confidence is not None
    assert confidence.margin == pytest.approx(confidence.highest - 0.3)


@pytest.mark.parametrize(("peaks", "told"), [({}, 0.3), ({"liver_tumor": 0.9}, 0.9), ({"liver_tumor": 0.2}, 0.3)])
def test_thresholds_are_those_of_the_network_that_looks_into_organs(
    scan: Volume, tmp_path: Path, peaks: dict[str, float], told: float
) -> None:
    inference = {"window": [16, 16, 16], "thresholds": {"liver_tumor": 0.3}, "peaks": peaks}
    organs = write_small_weights(tmp_path / "organs.safetensors", ("liver", "spleen"))
    join(
        organs,
        write_small_lesions(tmp_path / "lesions.safetensors", inference=inference),
        tmp_path / "both.safetensors",
    )
    both = finder_of(tmp_path / "both.safetensors", engine="torch")
    (verdict,) = asked(scan, both, "count the liver tumors").document.detection
    assert verdict.threshold == told


def test_operating_points_of_the_weights_count(scan: Volume, finder: Finder) -> None:
    entry = {"threshold": 0.01, "specificity": None, "sensitivity": {}, "data": "nothing"}
    measured = replace(finder, card={**finder.card, "operating_points": {"liver_tumor": entry}})
    (verdict,) = asked(scan, measured, "count the liver tumors").document.detection
    assert (verdict.detected, verdict.threshold) == (True, 0.01)
    assert verdict.measured is not None
    assert verdict.measured.data == "nothing"


def test_what_cannot_be_answered_is_refused_before_anything_runs(scan: Volume, folder: Path) -> None:
    nobody = no_finder(("liver",))
    with pytest.raises(UnknownClass, match="cannot find spleen"):
        asked(scan, nobody, "measure the spleen")
    with pytest.raises(UsageError, match="the dome of the liver"):
        asked(scan, nobody, "segment the dome of the liver", masks=folder / "masks")


def test_masks_of_another_scan_are_refused(scan: Volume, tmp_path: Path) -> None:
    image = nib.Nifti1Image(np.zeros((4, 4, 4), np.uint8), np.eye(4))
    nib.save(image, tmp_path / "liver.nii.gz")
    with pytest.raises(BadGeometry, match="another grid") as caught:
        asked(scan, None, "measure the liver", masks=tmp_path)
    assert caught.value.code == "E-GRID"


TEXTS = ("segment the liver tumors in the middle third of the liver", "measure the largest liver tumor. Mark it.")


@pytest.fixture
def inquiry(scan: Volume, folder: Path) -> Inquiry:
    return asked(scan, None, *TEXTS, masks=folder / "masks")


def test_a_saved_inquiry(inquiry: Inquiry, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    written = inquiry.save(out, preview=False)
    assert written[-1] == out / "case.json"
    names = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
    assert names == {path.relative_to(out).as_posix() for path in written}
    answers = {"answers/1_liver_tumor_in_the_middle_third_of_the_liver.nii.gz", "answers/2_largest_liver_tumor.nii.gz"}
    assert answers | {"findings.json", "measurements.csv", "segmentations/liver.nii.gz"} <= names
    case = json.loads((out / "case.json").read_text())
    assert case["files"] == {path.relative_to(out).as_posix(): file_sha256(path) for path in written[:-1]}
    assert json.loads((out / "findings.json").read_text()) == json.loads(json.dumps(inquiry.document.to_dict()))
    for name in inquiry.result.masks:
        given, saved = (nib.load(place / f"{name}.nii.gz") for place in (folder / "masks", out / "segmentations"))
        assert (np.asarray(given.dataobj) == np.asarray(saved.dataobj)).all()


def test_the_files_of_an_answer_hold_its_voxels(inquiry: Inquiry, tmp_path: Path) -> None:
    inquiry.save(tmp_path, preview=False)
    middle = box((29, 31), (23, 25), (18, 19)) | box((42, 44), (18, 20), (16, 17))
    largest = box((34, 40), (8, 12), (20, 23))
    expected = (middle, largest, largest)
    clauses = [clause for request in inquiry.document.requests for clause in request.clauses]
    for clause, mask in zip(clauses, expected, strict=True):
        (path,) = clause.targets[0].masks
        image = nib.load(tmp_path / path)
        assert (np.asarray(image.dataobj) == mask).all()
        assert np.allclose(image.affine, inquiry.scene.geometry.affine)


def test_an_answer_of_nothing_is_an_empty_mask(scan: Volume, folder: Path, tmp_path: Path) -> None:
    asked(scan, None, "segment the liver tumors larger than 9 cm", masks=folder / "masks").save(tmp_path, preview=False)
    (path,) = (tmp_path / "answers").iterdir()
    image = nib.load(path)
    assert image.shape == scan.geometry.shape
    assert not np.asarray(image.dataobj).any()


def test_a_folder_that_was_not_finished_has_no_case(inquiry: Inquiry, tmp_path: Path, monkeypatch: Any) -> None:
    inquiry.save(tmp_path, preview=False)
    assert (tmp_path / "case.json").is_file()

    def full(path: Path, text: str) -> None:
        raise OutputError(f"{path}: no space left")

    monkeypatch.setattr(module, "write_text", full)
    with pytest.raises(OutputError, match="no space"):
        inquiry.save(tmp_path, preview=False)
    assert not (tmp_path / "case.json").exists()


def test_what_an_earlier_inquiry_left_goes(inquiry: Inquiry, scan: Volume, folder: Path, tmp_path: Path) -> None:
    inquiry.save(tmp_path, preview=False)
    asked(scan, None, "measure the aorta", masks=folder / "masks").save(tmp_path, preview=False)
    assert list((tmp_path / "answers").iterdir()) == []
    assert [path.name for path in (tmp_path / "segmentations").iterdir()] == ["aorta.nii.gz"]


def test_the_same_question_has_the_same_bytes(inquiry: Inquiry, scan: Volume, folder: Path, tmp_path: Path) -> None:
    inquiry.save(tmp_path / "a", preview=False)
    asked(scan, None, *TEXTS, masks=folder / "masks").save(tmp_path / "b", preview=False)
    files = [json.loads((tmp_path / name / "case.json").read_text())["files"] for name in "ab"]
    assert files[0] == files[1]


def test_masks_made_from_another_file_are_taken_with_a_warning(scan: Volume, folder: Path, tmp_path: Path) -> None:
    first = asked(scan, None, "the liver", masks=folder / "masks")
    assert first.document.warnings == ()
    first.save(tmp_path / "own", preview=False, page=False)
    again = asked(scan, None, "the liver", masks=tmp_path / "own")
    assert again.document.warnings == ()
    other = Volume(scan.hu, scan.geometry, replace(scan.source, sha256="0" * 64))
    later = asked(other, None, "the liver", masks=tmp_path / "own")
    assert later.document.warnings == later.result.warnings
    (warning,) = later.document.warnings
    assert "its masks were made from another file than this scan" in warning


def test_one_call_answers_from_a_file(folder: Path, weights: Path) -> None:
    inquiry = ask(
        folder / "belly.nii.gz", "the liver", "count the liver tumors", weights=weights, masks=folder / "masks"
    )
    assert [one.understood for one in inquiry.document.requests] == ["segment: liver", "count: liver tumor"]
    assert inquiry.document.organs[0].volume_ml > 0
    assert voxicon.ask is ask
    with pytest.raises(UnknownClass, match="cannot find brain"):
        ask(folder / "nowhere.nii.gz", "the brain", weights=weights)


def test_the_stages_of_an_inquiry_are_timed_once(scan: Volume, folder: Path, finder: Finder) -> None:
    inquiry = asked(scan, finder, "segment the pancreas", masks=folder / "some" / "masks")
    assert set(inquiry.result.seconds) >= {"masks", "network", "measure"}
    assert "segment" not in inquiry.result.seconds


def test_lesions_that_an_organ_is_measured_without_are_told_of(scan: Volume, folder: Path) -> None:
    inquiry = asked(scan, None, "measure the liver", masks=folder / "masks")
    assert [(one.name, one.lesions) for one in inquiry.document.detection] == [("liver_tumor", 5)]
    assert len(inquiry.document.lesions) == 5
    assert inquiry.document.impression[0].startswith("Liver tumor: 5 found")
    assert not any("was looked for" in line for line in inquiry.document.impression)
    plain = asked(scan, None, "segment the aorta", masks=folder / "masks")
    assert "No kind of tumor or cyst was looked for." in plain.document.impression
