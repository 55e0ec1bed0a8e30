"""Where real data lies, and fixtures shared by all tests."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

# No test is timed: a slow machine is not a wrong result. CI repeats the same examples, so that it fails
# for what changed and not by chance; elsewhere every run looks for new ones.
settings.register_profile("voxicon", deadline=None, derandomize=os.environ.get("CI") == "true")
settings.load_profile("voxicon")

_REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session", autouse=True)
def _home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test reads or leaves anything in the user's own cache; converted networks are shared by all tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VOXICON_HOME", str(tmp_path_factory.mktemp("home")))
        yield


def _folder(variable: str, default: Path) -> Path:
    folder = Path(os.environ.get(variable, default))
    if not folder.is_dir():
        pytest.skip(f"{folder} is absent (set {variable} to point at it)")
    return folder


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of real CT volumes; the test is skipped, with the reason printed, where it is absent."""
    return _folder("VOXICON_TEST_DATA", _REPOSITORY.parent / "shared" / "data")


@pytest.fixture(scope="session")
def reference_data() -> Path:
    """Folder of numbers from the original network; skipped with the reason where it is absent."""
    return _folder("VOXICON_TEST_REFERENCE", _REPOSITORY.parent / "shared" / "reference")
