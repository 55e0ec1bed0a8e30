"""``voxicon weights operate``: from an evaluation to weights that know what a threshold is worth."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import get_args

import pytest
from typer.main import get_command

from tests.assemblies import labels_of
from tests.cli.conftest import Call, Evaluate
from tests.cli.test_evaluate_lesions import level_map, write_maps
from tests.test_operating import FOUR, LESIONS, QUIET, write_labels, write_planted
from tests.weights_on_disk import CLASSES, write_small_weights
from voxicon.answering.detection import operating_points
from voxicon.cli.main import app
from voxicon.evaluate.planted import SPECIFICITIES
from voxicon.evaluate.tumors import detection
from voxicon.finder import finder_of
from voxicon.io.atomic import file_sha256
from voxicon.model.checkpoint import read_metadata

Weights = Callable[..., tuple[int, str, str]]


@pytest.fixture
def weights_command(call: Call) -> Weights:
    return partial(call, "weights")


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    return write_small_weights(tmp_path / "w.safetensors", (*CLASSES, "kidney_tumor"))


def test_from_planted_lesions(weights_command: Weights, weights: Path, tmp_path: Path) -> None:
    folder = write_planted(tmp_path / "e", weights, {"liver_tumor": (LESIONS, QUIET), "kidney_tumor": (LESIONS, [])})
    out = tmp_path / "new.safetensors"
    words = ("operate", weights, "--from", folder, "-o", out)
    code, text, errors = weights_command(*words)
    assert code == 0
    line, path = text.splitlines()
    assert path == str(out)
    assert line.startswith("liver_tumor: threshold 0.700, specificity 90% [60%, 98%] (n = 10), sensitivity all 50% [")
    assert "3-5 mm 0% [0%, 66%] (n = 2), 5-10 mm 100% [34%, 100%] (n = 2); 4 lesions planted into 2 CTs" in line
    assert errors == "kidney_tumor: left out: no untouched scan was looked at, so that nothing tells of false alarms\n"
    # What is asked with these weights is held against it.
    finder = finder_of(out)
    assert operating_points(finder.card, finder.name)["liver_tumor"].threshold == 0.7
    info = weights_command("info", out)[1]
    assert f"operating    {line}\n" in info
    assert "operating " not in weights_command("info", weights)[1]
    # A file that is there stays unless one says otherwise.
    before = out.read_bytes()
    code, _, errors = weights_command(*words, "--specificity", "0.8")
    assert code == 2
    assert "is already there; use --overwrite" in errors
    assert out.read_bytes() == before
    code, text, errors = weights_command(*words, "--specificity", "0.8", "--overwrite", "-c", "liver tumour, 1")
    assert (code, text) == (2, "")
    assert "is not judged" in errors
    code, text, errors = weights_command(*words, "--specificity", "0.8", "--overwrite", "-c", "liver tumour")
    assert (code, errors) == (0, "")
    assert text.startswith("liver_tumor: threshold 0.400, specificity 80%")


def test_planted_lesions_that_nobody_finds(
    weights_command: Weights, evaluate: Evaluate, pristine: Path, weights: Path, tmp_path: Path
) -> None:
    folder, out = tmp_path / "e", tmp_path / "new.safetensors"
    words = (pristine, "--planted", "--weights", weights, "-c", "liver_tumor", "--diameters", "9-12", "--per-bin", "1")
    assert evaluate(*words, "-o", folder, "-q")[0] == 0
    # Weights of noise are as sure of scans without a lesion.
    code, _, errors = weights_command("operate", weights, "--from", folder, "-o", out)
    assert code == 2
    assert "no operating point of liver_tumor: keeping 90% of 1 untouched scans without a finding takes" in errors
    assert not out.exists()


def test_labels_that_were_judged(
    weights_command: Weights, evaluate: Evaluate, pristine: Path, weights: Path, tmp_path: Path
) -> None:
    folder, out = tmp_path / "e", tmp_path / "new.safetensors"
    lesion = labels_of("t1") == 2
    inside = {"v1": 153, "v2": 0, "t1": 153, "t2": 0, "t3a": 102, "t3b": 0}
    write_maps(tmp_path / "p", {case: level_map(lesion, level, 51) for case, level in inside.items()})
    evaluation = (pristine, "--predictions", tmp_path / "p", "-o", folder, "--choose-on", "val", "-q")
    evaluate(*evaluation)
    code, _, errors = weights_command("operate", weights, "--from", folder, "-o", out)
    assert code == 2
    assert "does not say which weights it judges" in errors
    for case in inside:
        told = {"weights": {"name": "w", "sha256": file_sha256(weights)}}
        (tmp_path / "p" / "tiny" / case / "case.json").write_text(json.dumps(told))
    evaluate(*evaluation)
    code, text, errors = weights_command("operate", weights, "--from", folder, "-o", out)
    assert (code, errors) == (0, "")
    # Patient t1 is found, t3 is not, and the spot in t2 stays below.
    assert "specificity 100% [21%, 100%] (n = 1), sensitivity all 50% [9%, 91%] (n = 2); 3 patients of the" in text
    # Maps in files are of single precision; ask takes the same score in double precision.
    assert read_metadata(out).card["operating_points"]["liver_tumor"]["threshold"] == 153 / 255


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--from", "{e}", "-o", "{o}.pth"], "must end in .safetensors"),
        (["--from", "{o}", "-o", "{o}.safetensors"], "holds no evaluation"),
        (["--from", "{e}", "-o", "{o}.safetensors", "--specificity", "0.9"], "is an evaluation on labels"),
        (["--from", "{e}", "-o", "{o}.safetensors", "--specificity", "0.7"], "0.7"),
        (["--from", "{e}", "-o", "{o}.safetensors"], "no operating point of liver_tumor: no split was given"),
        (["--from", "{e}", "-o", "{o}.safetensors", "-c", "livr"], "did you mean liver"),
        (["--from", "{e}", "-o", "{o}.safetensors", "-c", "colon_tumor"], "were not trained for colon_tumor"),
    ],
)
def test_refusals(weights_command: Weights, weights: Path, tmp_path: Path, words: list[str], message: str) -> None:
    folder = write_labels(tmp_path / "e", weights, choose_on=None, liver_tumor=detection(FOUR))
    places = {"e": folder, "o": tmp_path / "o"}
    code, text, errors = weights_command("operate", weights, *(word.format(**places) for word in words))
    assert (code, text) == (2, "")
    assert message in errors
    assert len([line for line in errors.splitlines() if line.startswith("voxicon: ")]) <= 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["e", "w.safetensors"]


def test_every_specificity_that_is_told_can_be_taken() -> None:
    command = get_command(app).commands["weights"].commands["operate"]  # type: ignore[attr-defined]
    (option,) = [one for one in command.params if one.name == "specificity"]
    assert list(get_args(option.type_descriptor.annotation)) == [f"{least:g}" for least in SPECIFICITIES]
