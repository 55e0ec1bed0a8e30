"""``voxicon export``: weights out, one line about them, and refusals."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.weights_on_disk import write_small_weights
from voxicon.cli.main import main


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    return write_small_weights(tmp_path / "w.safetensors")


def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *words: object) -> tuple[int, str, str]:
    monkeypatch.setattr("sys.argv", ["voxicon", "export", *map(str, words)])
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        main()
    return (int(stop.value.code or 0), *capsys.readouterr())


def test_it_says_where_it_is_and_how_far_it_differs(
    weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    words = (weights, "--to", "onnx", "-o", out, "-c", "liver, right kidney", "-c", "1")
    code, told, aside = run(capsys, monkeypatch, *words)
    assert (code, told) == (0, f"{out}\n")
    assert "onnxruntime" in aside
    assert "differs from torch by up to" in aside
    described = json.loads((out / "voxicon.json").read_text())
    assert [each["name"] for each in described["classes"]] == ["liver", "kidney_right", "spleen"]
    assert described["weights"]["name"] == "w"
    code, _, aside = run(capsys, monkeypatch, *words)
    assert code == 2
    assert "is already there; use --overwrite" in aside
    assert run(capsys, monkeypatch, *words, "--overwrite", "-q") == (0, f"{out}\n", "")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--to", "torchscript"), "torchscript"),
        (("--to", "onnx", "-c", "livr"), "did you mean liver"),
        (("--to", "onnx", "-c", ","), "no class to export"),
        ((), "--to"),
    ],
)
def test_refusals_are_one_line(
    weights: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    words: tuple[str, ...],
    message: str,
) -> None:
    code, _, aside = run(capsys, monkeypatch, weights, "-o", tmp_path / "out", *words)
    assert code == 2
    assert message in aside
    assert aside.count("\n") == 1
    assert not (tmp_path / "out").exists()
