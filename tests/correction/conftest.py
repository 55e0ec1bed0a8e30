"""The result folder of ``phantom.py``, fresh for every test, and a report to check it against."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.correction.phantom import save
from voxicon.correction import Corrections, correct


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("saved") / "case", notes=("liver: a crumb removed",))


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    return shutil.copytree(saved, tmp_path / "case")


@pytest.fixture
def run(folder: Path):
    def one(text: str, *, remove: bool = False) -> Corrections:
        report = folder.parent / "report.txt"
        report.write_text(text)
        return correct(folder, report, remove=remove)

    return one
