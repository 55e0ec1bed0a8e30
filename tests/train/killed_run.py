"""A training run in a process of its own that ends itself with SIGKILL right after a step was logged."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.train.phantoms import LONG, judge, make_trainer


def main(folder: Path, last_step: int) -> None:
    def report(row: Mapping[str, Any]) -> None:
        if row["step"] == last_step:
            os.kill(os.getpid(), signal.SIGKILL)

    make_trainer(folder, validate=judge, **LONG).run(report)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
