"""The list of words: first what the weights can find, then what else is known."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.weights_on_disk import CLASSES, write_small_weights
from voxicon.cli.main import main
from voxicon.core.concepts import Vocabulary

VOCABULARY = Vocabulary.default()


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    def one(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["voxicon", "classes", *words])
        with pytest.raises(SystemExit) as stop:
            main()
        return (int(stop.value.code or 0), *capsys.readouterr())

    return one


def names_in(block: str) -> list[str]:
    return [line.split()[1] for line in block.splitlines()[1:]]


def test_what_the_weights_can_find_comes_first(run, tmp_path: Path) -> None:
    weights = write_small_weights(tmp_path / "w.safetensors")
    code, out, _ = run("--weights", str(weights))
    found, others = out.split("\n\n")
    assert code == 0
    assert found.startswith(f"5 classes that the weights '{weights}' can find:\n")
    assert names_in(found) == list(CLASSES)
    assert others.startswith("129 known words that these weights were not trained for:\n")  # 134 - 5
    assert names_in(others) == [name for name in VOCABULARY.names if name not in CLASSES]


def test_a_line_holds_id_name_kind_and_other_words(run) -> None:
    lines = run()[1].splitlines()
    assert " 11  pancreas                       organ" in lines
    assert "  3  kidney_left                    organ   left kidney, l kidney" in lines
    assert " 49  vertebrae_L1                   organ   L1 vertebra, L1, vertebra L1" in lines


def test_the_starter_is_asked_when_no_weights_are_named(run) -> None:
    out = run()[1]
    assert out.startswith("22 classes that the weights 'starter' can find:\n")
    assert out == run("--weights", "starter")[1]


def test_weights_that_know_every_word_leave_no_second_list(run, tmp_path: Path) -> None:
    weights = write_small_weights(tmp_path / "w.safetensors", VOCABULARY.names)
    out = run("--weights", str(weights))[1]
    assert names_in(out.rstrip("\n")) == list(VOCABULARY.names)


def test_json_is_one_list_of_all_words(run, tmp_path: Path) -> None:
    weights = write_small_weights(tmp_path / "w.safetensors")
    rows = json.loads(run("--weights", str(weights), "--json")[1])
    assert [row["id"] for row in rows] == [concept.id for concept in VOCABULARY]
    assert [row["name"] for row in rows if row["trained"]] == list(CLASSES)
    assert {key: rows[5][key] for key in ("name", "display_name", "kind")} == {
        "name": "liver", "display_name": "liver", "kind": "organ",
    }  # fmt: skip


def test_weights_that_are_not_there_are_refused(run) -> None:
    code, out, err = run("--weights", "nowhere")
    assert (code, out) == (2, "")
    assert "[E-WEIGHTS] nowhere: no such weights" in err
