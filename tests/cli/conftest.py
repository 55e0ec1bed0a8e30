"""Commands in this process, and an assembly to run ``voxicon evaluate`` on."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from tests.assemblies import write_assembly
from voxicon.cli.main import main

Call = Callable[..., tuple[int, str, str]]
Evaluate = Call


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Call:
    """``voxicon WORDS...`` in this process: its exit code, stdout and stderr."""

    def one(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["voxicon", *map(str, words)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            main()
        return (int(stop.value.code or 0), *capsys.readouterr())

    return one


@pytest.fixture
def evaluate(call: Call) -> Evaluate:
    return partial(call, "evaluate")


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_assembly(tmp_path_factory.mktemp("assembly"))


@pytest.fixture
def assembly(pristine: Path, tmp_path: Path) -> Path:
    """A copy to break."""
    shutil.copytree(pristine.parent, tmp_path / "data")
    return tmp_path / "data" / "assembly.yaml"
