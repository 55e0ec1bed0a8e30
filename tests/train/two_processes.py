"""What `test_processes` starts twice: runs that two processes share, and what they must agree on."""

from __future__ import annotations

import shutil
import sys
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from tests.train.phantoms import CPU, judge, make_case, make_trainer
from voxicon.errors import CheckpointError
from voxicon.model.network import UniversalNetwork
from voxicon.train.processes import Processes, processes
from voxicon.train.store import CaseStore

SHARED: dict[str, Any] = {
    "steps": 3, "batch": 1, "learning_rate": 1e-4, "save_every": 2, "log_every": 2, "validate_every": 2,
}  # fmt: skip


class _Stopped(Exception):
    pass


def main(root: Path) -> None:
    with processes(CPU) as (shared, device):
        assert (shared.count, device) == (2, CPU)
        assert shared.totals([1.0, shared.rank], device) == [2.0, 1.0]
        assert shared.gather({"rank": shared.rank}) == [{"rank": 0}, {"rank": 1}]
        CaseStore(root / "cache").get("key", make_case)  # both at once
        if not shared.is_first:
            sys.addaudithook(partial(_refuse_writing, str(root)))
        stop_and_go_on(root / "resumed", shared)
        make_trainer(root / "accumulated", processes=shared, accumulate=2, **SHARED).run()
        machines_that_share_no_folder(root, shared)


def stop_and_go_on(folder: Path, shared: Processes) -> None:
    """Stopped in the third step, after the save of the second."""
    asked: list[UniversalNetwork] = []

    def stopping(network: UniversalNetwork) -> dict[str, float | None]:
        asked.append(network)
        if len(asked) == 2:
            raise _Stopped
        return judge(network)

    with suppress(_Stopped):
        make_trainer(folder, processes=shared, validate=stopping, **SHARED).run()
    again = make_trainer(folder, processes=shared, validate=judge, **SHARED)
    assert again.step == 2
    again.run()


def machines_that_share_no_folder(root: Path, shared: Processes) -> None:
    if shared.is_first:
        shutil.copytree(root / "resumed", root / "here")
    try:
        make_trainer(root / ("here" if shared.is_first else "there"), processes=shared, **SHARED)
    except CheckpointError as error:
        assert "all machines share" in str(error)  # noqa: PT017  no pytest here
    else:
        raise AssertionError("a state that one process does not see was not noticed")


def _refuse_writing(root: str, event: str, arguments: tuple[Any, ...]) -> None:
    if event == "open" and isinstance(arguments[1], str) and set(arguments[1]) & set("wax+"):
        assert not str(arguments[0]).startswith(root), f"the second process writes {arguments[0]}"


if __name__ == "__main__":
    main(Path(sys.argv[1]))
