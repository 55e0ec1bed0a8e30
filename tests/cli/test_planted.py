"""``voxicon evaluate --planted`` end to end with a real network, and what does not go with it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.assemblies import table
from tests.cli.conftest import Evaluate
from tests.weights_on_disk import write_small_weights
from voxicon.cli.planted import bins_of, lines
from voxicon.errors import ConfigError


def test_from_the_command_line(evaluate: Evaluate, pristine: Path, tmp_path: Path) -> None:
    weights, out = write_small_weights(tmp_path / "w.safetensors"), tmp_path / "out"
    words = (pristine, "--planted", "--weights", weights, "-c", "liver tumour", "--diameters", "9-12,12-18")
    more = ("--per-bin", "2", "--contrast-hu", "-40", "--seed", "4", "-o", out)
    code, text, errors = evaluate(*words, *more)
    assert (code, errors) == (0, "")
    found = json.loads((out / "planted.json").read_text())
    assert (found["seed"], found["contrast_hu"], found["bins"]) == (4, -40, ["9-12 mm", "12-18 mm"])
    # Of the four scans of 'test' only t2 has no tumor of its own.
    assert found["scans"] == ["tiny/t2"]
    rows = table(out, "lesions.csv")
    assert len(rows) == len(found["rows"]) > 0
    assert {row["contrast_hu"] for row in rows} == {"-40.0"}
    assert found["lesions"]["liver_tumor"]["n_untouched"] == 2
    assert (out / "report.html").read_text(encoding="utf8")
    assert "liver_tumor            9-12 mm" in text
    assert "untouched scans without a finding" in text
    assert "note: tiny/t1: has a liver_tumor of its own" in text
    assert "report: " in text
    # Again, as JSON, with the same numbers.
    code, text, _ = evaluate(*words, *more, "--json")
    assert code == 0
    assert json.loads(text)["lesions"] == found["lesions"]
    assert "rows" not in json.loads(text)


def test_lesions_in_labelled_organs(evaluate: Evaluate, pristine: Path, tmp_path: Path) -> None:
    weights = write_small_weights(tmp_path / "w.safetensors")
    words = ("--planted", "--weights", weights, "-c", "liver tumour", "--diameters", "9-18", "--per-bin", "1")
    for organs in ("labels", "weights"):
        out = tmp_path / organs
        assert evaluate(pristine, *words, "--organs", organs, "-o", out, "-q")[0] == 0
        assert json.loads((out / "planted.json").read_text())["organs"] == organs


def test_a_scan_that_cannot_be_used(evaluate: Evaluate, assembly: Path, tmp_path: Path) -> None:
    (assembly.parent / "tiny" / "labelsTr" / "t1.nii.gz").write_bytes(b"no label map")
    weights = write_small_weights(tmp_path / "w.safetensors")
    words = ("--planted", "--weights", weights, "--per-bin", "1", "--diameters", "9-18", "-o", tmp_path / "o", "-q")
    code, _, errors = evaluate(assembly, *words)
    assert code == 1
    assert errors.startswith("voxicon: error tiny/t1: ")
    assert len(errors.splitlines()) == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--planted", "--predictions", "."], "--predictions: does not go with --planted"),
        (["--planted", "--choose-on", "val"], "--choose-on: does not go with --planted"),
        (["--planted", "--against", "."], "--against: does not go with --planted"),
        (["--planted", "--submission", "."], "--submission: does not go with --planted"),
        (["--planted", "--reader", "A=."], "--reader: does not go with --planted"),
        (["--per-bin", "3"], "--per-bin: means something with --planted alone"),
        (["--diameters", "3-5"], "--diameters: means something with --planted alone"),
        (["--contrast-hu", "-40"], "--contrast-hu: means something with --planted alone"),
        (["--seed", "0"], "--seed: means something with --planted alone"),
        (["--organs", "labels"], "--organs: means something with --planted alone"),
        (["--planted", "--diameters", "small"], "--diameters 'small': expected ranges in mm"),
        (["--planted", "--weights", "{w}", "-c", "colon_tumor"], "were not trained for colon_tumor"),
        (["--planted", "--weights", "{w}", "-c", "tumour of doom"], "E-CLASS"),
        (["--planted", "--weights", "{w}", "-c", "liver"], "'liver' cannot be planted"),
    ],
)
def test_refusals(evaluate: Evaluate, pristine: Path, tmp_path: Path, words: list[str], message: str) -> None:
    weights = write_small_weights(tmp_path / "w.safetensors")
    code, _, errors = evaluate(pristine, *(word.format(w=weights) for word in words), "-o", tmp_path / "out")
    assert code == 2
    assert message in errors
    assert len(errors.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_another_evaluation_is_kept(evaluate: Evaluate, pristine: Path, tmp_path: Path) -> None:
    (tmp_path / "summary.json").write_text("{}")
    code, _, errors = evaluate(pristine, "--planted", "-o", tmp_path)
    assert code == 1
    assert "holds an evaluation on labels" in errors


def test_ranges_of_diameters() -> None:
    assert bins_of("3-5, 5-10.5") == ((3, 5), (5, 10.5))
    for text in ("", "3", "3-4-5", "3-", "a-b", "3-5,"):
        with pytest.raises(ConfigError, match="expected ranges in mm"):
            bins_of(text)


def test_lines_without_any_look() -> None:
    from voxicon.evaluate.planted import summarize_planted

    empty = {"bins": ["3-5 mm"], "lesions": {"liver_tumor": summarize_planted([], [], ((3.0, 5.0),))}, "notes": ["x"]}
    shown = lines(empty)
    assert shown[1].split() == ["liver_tumor", "3-5", "mm", "-", "-", "-"]
    assert "threshold for specificity 0.8: none" in shown[-2]
    assert shown[-1] == "note: x"
