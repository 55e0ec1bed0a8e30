"""The page of ``voxicon assembly check``: what is there, what is rare, what is wrong, what is twice, who trains."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from voxicon.report.page import Figure, count, drawn, render
from voxicon.report.plots import Bar, bars
from voxicon.report.svg import COLORS, color, legend, spoken

SPLITS = ("train", "val", "test", "excluded")

_OTHERS = "other datasets"
_DARKEST = 45
"""Per cent of the accent color behind the largest number of the table, so that print on it stays legible."""


def assembly_page(found: Mapping[str, Any]) -> str:
    """One HTML file from what `voxicon.assembly.summary` tells; an assembly without datasets gives a page too.

    Args:
        found: Keys ``datasets``, ``splits``, ``copies``, ``conflicts``, ``counts``.
    """
    return render(
        "assembly.html",
        "Assembly of datasets",
        figures=_figures(found),
        untrained=_untrained(found["counts"]),
        long_tail=drawn(_long_tail(found)),
        long_tail_legend=drawn(legend(_dataset_keys(found))),
        split_plot=drawn(_split_plot(found)),
        split_legend=drawn(legend([(f"split-{name}", name) for name in SPLITS if found["splits"].get(name)])),
        split_names=SPLITS,
        table=_table(found),
        dataset_ids=[dataset["id"] for dataset in found["datasets"]],
        copies_between=_copies_between(found["copies"]),
        **{key: found[key] for key in ("datasets", "splits", "copies", "conflicts")},
    )


def _figures(found: Mapping[str, Any]) -> list[Figure]:
    datasets, splits = found["datasets"], found["splits"]
    failed, warned = (sum(len(dataset[key]) for dataset in datasets) for key in ("failed", "warnings"))
    kinds = Counter(copy["kind"] for copy in found["copies"])
    untrained = len(_untrained(found["counts"]))
    dealt = ", ".join(f"{count(splits[name])} {name}" for name in ("val", "test") if splits.get(name))
    figures = [
        Figure(count(len(datasets)), _plural(len(datasets), "dataset")),
        Figure(
            count(sum(dataset["scans"] for dataset in datasets)),
            "labeled scans",
            f"{count(splits.get('train', 0))} train" + (f", {dealt}" if dealt else ""),
        ),
        Figure(
            count(len(found["counts"])),
            _plural(len(found["counts"]), "class", "classes"),
            f"{count(untrained)} without a scan to learn from" if untrained else "each with scans to learn from",
            "warn" if untrained else "",
        ),
        Figure(
            count(kinds["same"]),
            _plural(kinds["same"], "copy", "copies") + " of a scan",
            f"and {count(kinds['suspected'])} that look alike; kept on one side" if found["copies"] else "none found",
        ),
        Figure(
            count(failed),
            _plural(failed, "scan") + " that cannot be used",
            f"{count(warned)} with warnings",
            "bad" if failed else "good",
        ),
    ]
    if found["conflicts"]:
        figures.append(
            Figure(
                count(len(found["conflicts"])),
                _plural(len(found["conflicts"]), "split conflict"),
                "official splits disagree",
                "warn",
            )
        )
    return figures


def _plural(n: int, one: str, many: str = "") -> str:
    return one if n == 1 else many or f"{one}s"


def _untrained(counts: Mapping[str, Mapping[str, Mapping[str, int]]]) -> list[str]:
    return [spoken(name) for name, cells in counts.items() if not _total(cells, "training")]


def _total(cells: Mapping[str, Mapping[str, int]], key: str) -> int:
    return sum(cell[key] for cell in cells.values())


def _colored(found: Mapping[str, Any]) -> list[str]:
    """Datasets that have a color of their own; the smallest of too many share one."""
    largest = sorted(found["datasets"], key=lambda dataset: -dataset["scans"])
    ids = {dataset["id"] for dataset in (largest if len(largest) <= COLORS else largest[: COLORS - 1])}
    return [dataset["id"] for dataset in found["datasets"] if dataset["id"] in ids]


def _dataset_keys(found: Mapping[str, Any]) -> list[tuple[str, str]]:
    own = _colored(found)
    keys = [(color(index), name) for index, name in enumerate(own)]
    return keys if len(own) == len(found["datasets"]) else [*keys, (color(len(own)), _OTHERS)]


def _long_tail(found: Mapping[str, Any]) -> str:
    own = _colored(found)
    rows = []
    for name, cells in found["counts"].items():
        parts: Counter[str] = Counter()
        for dataset, cell in cells.items():
            parts[dataset if dataset in own else _OTHERS] += cell["present"]
        present, annotated = _total(cells, "present"), _total(cells, "annotated")
        rows.append((present, annotated, Bar(spoken(name), parts, annotated)))
    rows.sort(key=lambda row: (-row[0], -row[1], row[2].name))
    return bars("Scans that show each class, by dataset", [row[2] for row in rows], [*own, _OTHERS], unit="scans")


def _split_plot(found: Mapping[str, Any]) -> str:
    rows = [Bar(dataset["id"], dataset["splits"]) for dataset in found["datasets"]]
    rows.sort(key=lambda row: -sum(row.parts.values()))
    fills = [f"split-{name}" for name in SPLITS]
    return bars("Scans of each dataset, by split", rows, SPLITS, unit="scans", fills=fills)


def _table(found: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A row per class: its name, a cell or None per dataset, and its totals."""
    counts = found["counts"]
    most = max((cell["present"] for cells in counts.values() for cell in cells.values()), default=0)
    ids = [dataset["id"] for dataset in found["datasets"]]
    return [
        {
            "name": name,
            "cells": [_cell(cells.get(dataset), most) for dataset in ids],
            **{key: _total(cells, key) for key in ("annotated", "present", "training")},
        }
        for name, cells in counts.items()
    ]


def _cell(cell: Mapping[str, int] | None, most: int) -> dict[str, int] | None:
    if cell is None:
        return None
    # By logarithm: one dataset of thousands must not leave all others white.
    heat = math.log1p(cell["present"]) / math.log1p(most) if most else 0.0
    return {**cell, "heat": round(_DARKEST * heat)}


def _copies_between(copies: Sequence[Mapping[str, Any]]) -> list[tuple[str, str, int, int]]:
    """Pairs of datasets, with how many pairs of scans are the same and how many look alike; the most first."""
    kinds: dict[tuple[str, str], Counter[str]] = {}
    for copy in copies:
        a, b = sorted(str(copy[side]).split("/", 1)[0] for side in ("a", "b"))
        kinds.setdefault((a, b), Counter())[copy["kind"]] += 1
    rows = [(a, b, found["same"], found["suspected"]) for (a, b), found in kinds.items()]
    return sorted(rows, key=lambda row: (-row[2] - row[3], row[0], row[1]))
