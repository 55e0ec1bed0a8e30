"""What a scan is, told by its bytes: hashes that survive renaming and are computed once."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from voxicon.data.layout import Case
from voxicon.io.atomic import file_sha256


class ContentHashes:
    """SHA-256 of files and folders, remembered by path, size and time of change.

    Args:
        memo: File the hashes are remembered in; nothing is remembered without one.
    """

    def __init__(self, memo: Path | None = None) -> None:
        self.memo = memo
        self._known: dict[str, str] = {}
        if memo is not None and memo.is_file():
            for line in memo.read_text(encoding="utf8").splitlines():
                try:
                    stamp, digest = json.loads(line)
                except ValueError:  # a line cut off by a kill
                    continue
                self._known[stamp] = digest

    def of(self, path: Path) -> str:
        """Hash of a file's bytes, or of the names and hashes of all files in a folder."""
        if path.is_dir():
            files = sorted(p for p in path.rglob("*") if p.is_file() and not p.name.startswith("."))
            return _combined([f"{p.relative_to(path).as_posix()} {self.of(p)}" for p in files])
        status = path.stat()
        stamp = f"{path.resolve()} {status.st_size} {status.st_mtime_ns}"
        if stamp not in self._known:
            self._known[stamp] = file_sha256(path)
            if self.memo is not None:
                self.memo.parent.mkdir(parents=True, exist_ok=True)
                with self.memo.open("a", encoding="utf8") as file:
                    file.write(json.dumps([stamp, self._known[stamp]]) + "\n")
        return self._known[stamp]

    def of_labels(self, case: Case) -> str:
        """Hash of all label files of a case."""
        if case.label is not None:
            return self.of(case.label)
        return _combined([f"{name} {self.of(path)}" for name in sorted(case.masks) for path in case.masks[name]])


def _combined(lines: list[str]) -> str:
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
