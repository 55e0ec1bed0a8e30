"""``voxicon correct``: what is printed, and exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.correction.phantom import save
from voxicon.cli.main import main


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    save(tmp_path / "case")

    def one(text: str, *words: str) -> tuple[int, str, str]:
        (tmp_path / "report.txt").write_text(text)
        paths = [str(tmp_path / "case"), "--report", str(tmp_path / "report.txt")]
        monkeypatch.setattr("sys.argv", ["voxicon", "correct", *paths, *words])
        capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            main()
        return (int(stop.value.code or 0), *capsys.readouterr())

    return one


def test_one_line_for_each_decision_and_a_count(run) -> None:
    code, out, err = run("The liver is normal. 2 cm pancreatic mass. Metastasis of the spleen. Nothing else.")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0] == (
        'flagged: liver_tumor 1 (0.768 ml at 17, -13, 24.5 mm): liver is said to be normal: "The liver is normal."'
    )
    assert lines[-3] == (
        "missing, to be annotated: pancreas_tumor: it is said to be in pancreas and no piece lies there: "
        '"2 cm pancreatic mass."'
    )
    assert lines[-2].startswith("not looked for, to be annotated: tumor: it is said to be in spleen")
    assert lines[-1] == (
        "2 flagged, 1 missing, 1 not looked for, 3 not mentioned; statements read: 3, sentences not understood: 1"
    )


def test_removing_says_what_it_deleted_and_the_second_time_that_nothing_is_left(run) -> None:
    code, out, err = run("The liver is normal.", "--remove")
    assert code == 0
    assert out.startswith("removed: liver_tumor 1")
    assert "preview.png" in err
    assert err.count("\n") == 1
    code, out, err = run("The liver is normal.", "--remove")
    assert (code, err) == (0, "")
    assert out.endswith("nothing is left to do\n")


def test_flagging_again_says_that_nothing_is_left(run) -> None:
    assert "nothing is left" not in run("The liver is normal.")[1]
    assert run("The liver is normal.")[1].endswith("nothing is left to do\n")


def test_json_is_the_document(run, tmp_path: Path) -> None:
    code, out, _ = run("The liver is normal.", "--json")
    assert code == 0
    assert json.loads(out) == json.loads((tmp_path / "case" / "corrections.json").read_text())


def test_refusals_are_one_line(run, tmp_path: Path) -> None:
    code, out, err = run(" ")
    assert (code, out) == (1, "")
    assert err.startswith("voxicon: error [E-FORMAT] ")
    assert err.count("\n") == 1
    (tmp_path / "case" / "preview.png").unlink()
    code, _, err = run("Normal liver.")
    assert code == 1
    assert "is missing from the result" in err
