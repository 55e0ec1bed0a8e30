"""Files of at most 400 lines, functions of at most 60: what outgrows that wants to be two things."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

FILE_LINES, FUNCTION_LINES = 400, 60


def too_long(path: Path) -> list[str]:
    """One line for every file or function in `path` that is too long."""
    text = path.read_text(encoding="utf8")
    found = []
    if text.count("\n") > FILE_LINES:
        found.append(f"{path}: {text.count(chr(10))} lines, at most {FILE_LINES}")
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            if lines > FUNCTION_LINES:
                found.append(f"{path}:{node.lineno}: {node.name} has {lines} lines, at most {FUNCTION_LINES}")
    return found


if __name__ == "__main__":
    problems = [
        p
        for folder in ("voxicon", "tests", "scripts", "benchmarks")
        for f in Path(folder).rglob("*.py")
        for p in too_long(f)
    ]
    print("\n".join(problems) or "files and functions are short enough")
    sys.exit(bool(problems))
