"""Commands run as a user would, where a test wants their files and not what they print."""

from __future__ import annotations

import pytest

from voxicon.cli.main import main


def run(*words: object) -> None:
    """Run ``voxicon`` with some words; fails if it does."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["voxicon", *map(str, words)])
        with pytest.raises(SystemExit) as stop:
            main()
    assert not stop.value.code, words
