"""``voxicon evaluate`` in this process, and an assembly to run it on."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.assemblies import write_assembly
from voxicon.cli.main import main

Evaluate = Callable[..., tuple[int, str, str]]


@pytest.fixture
def evaluate(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Evaluate:
    def one(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["voxicon", "evaluate", *map(str, words)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            main()
        return (int(stop.value.code or 0), *capsys.readouterr())

    return one


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_assembly(tmp_path_factory.mktemp("assembly"))


@pytest.fixture
def assembly(pristine: Path, tmp_path: Path) -> Path:
    """A copy to break."""
    shutil.copytree(pristine.parent, tmp_path / "data")
    return tmp_path / "data" / "assembly.yaml"
