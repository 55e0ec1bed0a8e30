"""``voxicon weights join``, and what is done with the file that it writes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Call
from tests.test_workflow import write_scan
from tests.weights_on_disk import write_small_lesions, write_small_weights


@pytest.fixture
def organs(tmp_path: Path) -> Path:
    return write_small_weights(tmp_path / "organs.safetensors", ("liver", "spleen"))


@pytest.fixture
def lesions(tmp_path: Path) -> Path:
    return write_small_lesions(tmp_path / "lesions.safetensors")


def test_joined_told_and_used(call: Call, organs: Path, lesions: Path, tmp_path: Path) -> None:
    out = tmp_path / "joined.safetensors"
    code, text, errors = call("weights", "join", organs, lesions, "-o", out)
    assert (code, text, errors) == (0, f"{out}\n", "inside: liver_tumor in liver\n")
    info = call("weights", "info", out)[1]
    assert "classes      liver, spleen\n" in info
    assert "inside       liver_tumor in liver\n" in info
    assert "inside title noise in organs\n" in info
    assert json.loads(call("weights", "info", out, "--json")[1])["inside"]["trained"] == ["liver_tumor"]
    assert "inside" not in call("weights", "info", organs)[1]
    assert "3 classes that the weights" in call("classes", "--weights", out)[1]
    scan = write_scan(tmp_path / "a.nii.gz")
    words = ("segment", scan, "-o", tmp_path / "masks", "--weights", out, "--engine", "torch", "--no-preview", "-q")
    assert call(*words, "-c", "liver tumor")[0] == 0
    (case,) = (tmp_path / "masks").glob("*/case.json")
    told = json.loads(case.read_text())
    assert "second look" in told["seconds"]
    assert told["settings"]["inside"]["classes"] == ["liver_tumor"]


def test_a_file_that_is_there_stays(call: Call, organs: Path, lesions: Path) -> None:
    before = organs.read_bytes()
    code, _, errors = call("weights", "join", organs, lesions, "-o", organs)
    assert code == 2
    assert "is already there; use --overwrite to replace it" in errors
    assert organs.read_bytes() == before
    assert call("weights", "join", organs, lesions, "-o", organs, "--overwrite")[0] == 0
    assert call("weights", "info", organs)[1].count("inside ") == 2


def test_what_cannot_be_joined_is_refused_in_one_line(call: Call, organs: Path, lesions: Path, tmp_path: Path) -> None:
    code, text, errors = call("weights", "join", lesions, organs, "-o", tmp_path / "out.safetensors")
    assert (code, text) == (2, "")
    assert "looks into organs itself" in errors
    assert len(errors.splitlines()) == 1


def test_lesions_alone_are_refused_in_one_line(call: Call, lesions: Path, tmp_path: Path) -> None:
    scan = write_scan(tmp_path / "a.nii.gz")
    code, _, errors = call("segment", scan, "-o", tmp_path / "out", "--weights", lesions, "--engine", "torch")
    assert code == 2
    assert "lesions: looks into organs that other weights find; join them with 'voxicon weights join'" in errors
    assert len(errors.splitlines()) == 1


def test_an_export_says_what_it_leaves_out(call: Call, organs: Path, lesions: Path, tmp_path: Path) -> None:
    out = tmp_path / "joined.safetensors"
    call("weights", "join", organs, lesions, "-o", out)
    words = ("export", out, "--to", "exported-program", "-o", tmp_path / "export")
    assert "left out, as they take a look into organs: liver_tumor\n" in call(*words)[2]
    code, _, errors = call(*words, "--overwrite", "-c", "liver tumor")
    assert code == 2
    assert "found by a network that looks into organs" in errors
