"""What the README tells people to type does what it says."""

from __future__ import annotations

import ast
import re
import shutil
from pathlib import Path

import pytest
from typer.main import get_command

from voxicon.cli.main import app

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf8")


def test_the_python_example_runs_and_prints_what_it_says(
    real_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    [example] = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    shutil.copy(real_data / "chest_abdomen" / "ct.nii.gz", tmp_path)
    monkeypatch.chdir(tmp_path)
    exec(compile(example, "README.md", "exec"), {})
    promised = ast.literal_eval(re.findall(r"# (\{.*\})", example)[0])
    printed = ast.literal_eval(capsys.readouterr().out)
    assert printed.keys() == promised.keys()
    # Other processors round differently: a voxel here and there.
    assert all(abs(printed[name] - promised[name]) <= 0.02 * promised[name] for name in promised)
    assert (tmp_path / "out" / "ct" / "case.json").is_file()


def test_every_command_and_file_it_names_exists() -> None:
    commands = get_command(app).commands  # type: ignore[attr-defined]
    assert set(re.findall(r"voxicon (\w+)", README)) <= set(commands)
    for target in re.findall(r"make (\w+)", README):
        assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE), target
    for link in re.findall(r"\]\((?!http)([^)]+)\)", README):
        assert (ROOT / link).exists(), link


def test_the_tour_leads_to_files_that_exist() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf8")
    tour = re.findall(r"`(voxicon/[\w/.]+)`", text)
    assert len(tour) >= 6
    assert [path for path in tour if not (ROOT / path).is_file()] == []
