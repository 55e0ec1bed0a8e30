"""Tables of words: five forms that mean the same, and a refusal for everything that is no table."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from voxicon.errors import ConfigError
from voxicon.model.tables import SUFFIXES, look_up, read_table, to_bytes
from voxicon.model.text import make_bank

NAMES, VECTORS = ("liver", "spleen"), np.array([[1.5, -2, 0], [0.1, 0, 3e-8]], dtype=np.float32)
MADE = {"names": list(NAMES), "prompts": ["a liver", "a spleen"], "encoder": "minilm"}


def write(folder: Path, suffix: str) -> Path:
    path = folder / f"words{suffix}"
    if suffix == ".npy":
        np.save(path, VECTORS)
        path.with_suffix(".txt").write_text("liver\nspleen\n")
    else:
        path.write_bytes(to_bytes(suffix, VECTORS, MADE))
    return path


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_every_form_gives_back_what_was_written(tmp_path: Path, suffix: str) -> None:
    names, vectors, made = read_table(write(tmp_path, suffix))
    assert names == NAMES
    np.testing.assert_array_equal(vectors, VECTORS)
    assert vectors.dtype == np.float32
    assert dict(made) == (MADE if suffix in {".json", ".safetensors"} else {})
    np.testing.assert_array_equal(look_up(tmp_path / f"words{suffix}", ["spleen"]), VECTORS[1:])


@pytest.mark.parametrize("suffix", [".csv", ".json", ".safetensors"])
@given(
    vectors=arrays(
        np.float32,
        array_shapes(min_dims=2, max_dims=2, max_side=6),
        elements=st.floats(width=32, allow_nan=False, allow_infinity=False),
    )
)
def test_numbers_come_back_bit_by_bit(tmp_path_factory: pytest.TempPathFactory, suffix: str, vectors: Any) -> None:
    vectors[:, 0] = 1  # a zero vector is refused
    names = [f'name, "{row}"' for row in range(len(vectors))]
    path = tmp_path_factory.mktemp("t") / f"t{suffix}"
    path.write_bytes(to_bytes(suffix, vectors, {"names": names}))
    found, read, _ = read_table(path)
    assert list(found) == names
    np.testing.assert_array_equal(read, vectors)


def test_a_csv_has_as_many_digits_as_it_takes(tmp_path: Path) -> None:
    # Eight digits would do for most numbers, so many are tried.
    vectors = np.random.default_rng(0).standard_normal((2, 2000)).astype(np.float32)
    (tmp_path / "t.csv").write_bytes(to_bytes(".csv", vectors, {"names": NAMES}))
    np.testing.assert_array_equal(read_table(tmp_path / "t.csv")[1], vectors)


def test_a_bank_made_of_a_written_bank_is_the_same(tmp_path: Path) -> None:
    bank = make_bank({"liver": "liver", "spleen": "spleen"}, encoder="random")
    (tmp_path / "b.safetensors").write_bytes(to_bytes(".safetensors", bank.vectors, bank.to_dict()))
    again = make_bank(
        {"spleen": "spleen", "liver": "liver"}, encoder="table", file=tmp_path / "b.safetensors", center=False
    )
    np.testing.assert_array_equal(again.vectors, bank.vectors[::-1])
    assert again.template is None


def test_a_csv_may_have_a_header_and_a_mark_of_its_encoding(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("\ufeffName,x,y\nliver , 1,2\n\n", encoding="utf8")
    assert read_table(tmp_path / "a.csv")[0] == ("liver",)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", r"0 names and vectors of shape \(0,\)"),
        ("name,x\n", "0 names"),
        ("liver\nspleen\n", r"2 names and vectors of shape \(2, 0\)"),
        ("liver,1,2\nspleen,1\n", "lines of 1 and of 2 numbers"),
        ("liver,1,two\n", "not a table of words .*'two'"),
        ("liver,1\nspleen,2\nliver,3\n", "liver is there more than once"),
        ("liver,1\nspleen,nan\n", "the vector of spleen holds what is no number"),
        ("liver,inf\n", "the vector of liver holds what is no number"),
        ("liver,0,0\nspleen,1,0\n", "the vector of liver is zero"),
    ],
)
def test_what_is_no_table_is_refused(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "t.csv").write_text(content)
    with pytest.raises(ConfigError, match=rf"t\.csv: .*{message}"):
        read_table(tmp_path / "t.csv")


def test_missing_names_are_named(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("liver,1\nspleen,2\n")
    with pytest.raises(ConfigError, match=r"no vector for aorta, colon; it holds 2 names: liver, spleen; add"):
        look_up(tmp_path / "t.csv", ["liver", "aorta", "colon"])
    many = [f"w{n}" for n in range(9)]
    with pytest.raises(ConfigError, match="w0, w1, w2, w3, w4 and 4 more"):
        look_up(tmp_path / "t.csv", many)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_absent_and_damaged_files_are_refused(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"t{suffix}"
    with pytest.raises(ConfigError, match=r"cannot be read \(No such file"):
        read_table(path)
    path.write_bytes(b"\xff\xfenothing")
    path.with_suffix(".txt").write_text("liver\n")
    with pytest.raises(ConfigError, match="not a table of words"):
        read_table(path)


class Opened:
    """Unpickled, it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def test_an_array_needs_as_many_names_and_no_code_is_run(tmp_path: Path) -> None:
    np.save(tmp_path / "t.npy", VECTORS)
    (tmp_path / "t.txt").write_text("liver\n")
    with pytest.raises(ConfigError, match=r"1 names and vectors of shape \(2, 3\)"):
        read_table(tmp_path / "t.npy")
    np.save(tmp_path / "o.npy", np.array([Opened(tmp_path / "ran")], dtype=object), allow_pickle=True)
    (tmp_path / "o.txt").write_text("liver\n")
    with pytest.raises(ConfigError, match="not a table of words"):
        read_table(tmp_path / "o.npy")
    assert not (tmp_path / "ran").exists()


def test_a_safetensors_of_something_else_is_refused(tmp_path: Path) -> None:
    from safetensors.numpy import save

    (tmp_path / "t.safetensors").write_bytes(save({"vectors": VECTORS}))
    with pytest.raises(ConfigError, match="not a table of words"):
        read_table(tmp_path / "t.safetensors")
    (tmp_path / "t.json").write_text(json.dumps({"names": ["a"]}))
    with pytest.raises(ConfigError, match="not a table of words"):
        read_table(tmp_path / "t.json")


def test_other_endings_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"expected \.csv, \.npy, \.json, \.safetensors"):
        read_table(tmp_path / "t.xlsx")
    with pytest.raises(ConfigError, match=r"\.npy: no table of words; expected \.safetensors, \.json or \.csv"):
        to_bytes(".npy", VECTORS, MADE)
