"""What a study found, written down.

``voxicon evaluate`` leaves a folder: ``predictions/`` (one result per scan, from which an interrupted evaluation goes
on), ``cases.csv`` (one line per case and class), ``lesions.csv``, ``summary.json`` and ``report.html``.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from voxicon.errors import UsageError
from voxicon.evaluate.against import MEASURES, compare
from voxicon.evaluate.agreement import summarize_agreement
from voxicon.evaluate.table import CaseRow, summarize, to_csv
from voxicon.evaluate.tumors import detection, lesions_csv
from voxicon.io.atomic import write_text
from voxicon.result import DISCLAIMER
from voxicon.study import Study
from voxicon.version import __version__


def summary(study: Study, command: str = "") -> dict[str, Any]:
    """Everything a page or a program wants to know, as plain data for JSON.

    ``classes`` → name → ``all`` → ``dice`` → ``mean`` is where most readers look; see
    `voxicon.evaluate.table.summarize`, and `detection`, `summarize_agreement` and `compare` for the other parts.

    Args:
        study: After `voxicon.study.run_study`.
        command: How to get these numbers again.
    """
    config = study.config
    rows = [row for row in study.rows if row.split == config.split]
    against, problem = _comparison(study, rows)
    return {
        "voxicon": __version__,
        "notice": DISCLAIMER,
        "name": study.plan.recipe.name,
        "command": command,
        "split": config.split,
        "choose_on": config.choose_on,
        "tolerance_mm": config.tolerance_mm,
        **study.predictions.describe(),
        "n_cases": len({row.id for row in rows}),
        "n_patients": len({row.patient for row in rows}),
        "datasets": _datasets(study, rows),
        **summarize(rows),
        "not_predicted": dict(Counter(row.name for row in rows if row.state == "not_predicted")),
        "detection": _detections(study),
        "readers": summarize_agreement(study.agreements, tuple(config.readers)) if config.readers else None,
        "against": against,
        "submission": {"folder": str(config.submission), "files": study.submitted} if config.submission else None,
        "failed": study.failed,
        "seen_in_training": study.seen,
        "notes": [*_notes(study, rows), *problem],
    }


def _datasets(study: Study, rows: Sequence[CaseRow]) -> dict[str, dict[str, Any]]:
    """Where labels come from, for every dataset that was judged."""
    judged = {row.dataset for row in rows}
    return {
        card.id: {
            "title": card.title,
            "labels_by": card.labels_by,
            "phase": card.phase,
            "terms": card.terms,
            "n_cases": len({row.id for row in rows if row.dataset == card.id}),
            "n_patients": len({row.patient for row in rows if row.dataset == card.id}),
        }
        for card in (dataset.card for dataset in study.plan.datasets)
        if card.id in judged
    }


def _detections(study: Study) -> dict[str, Any]:
    config = study.config
    found = {}
    for name in dict.fromkeys(scan.name for scan in study.lesions if scan.split == config.split):
        own = [scan for scan in study.lesions if scan.name == name]
        judged = [scan for scan in own if scan.split == config.split]
        found[name] = detection(judged, [scan for scan in own if scan.split == config.choose_on], config.choose_on)
    return found


def _comparison(study: Study, rows: Sequence[CaseRow]) -> tuple[dict[str, Any] | None, list[str]]:
    """The paired comparison, and why it is not whole."""
    folder = study.config.against
    if folder is None:
        return None, []
    other = _read_summary(folder)
    tolerance_mm, problem = other.get("tolerance_mm"), []
    measures = tuple(MEASURES)
    if tolerance_mm != study.config.tolerance_mm:
        measures = tuple(measure for measure in MEASURES if measure != "nsd")
        problem.append(f"NSD is not compared: {folder} has a tolerance of {tolerance_mm} mm")
    try:
        found = compare(rows, study.others, measures)
    except UsageError as error:
        return None, [f"no comparison with {folder}: {error}"]
    return {"folder": str(folder), "weights": other.get("weights"), "name": other.get("name"), **found}, problem


def _read_summary(folder: Path) -> dict[str, Any]:
    try:
        values = json.loads((folder / "summary.json").read_text(encoding="utf8"))
    except (OSError, ValueError):
        return {}
    return values if isinstance(values, dict) else {}


def _notes(study: Study, rows: Sequence[CaseRow]) -> list[str]:
    """One line each: what a reader of the numbers should know."""
    notes = []
    if study.seen:
        notes.append(
            f"{len(study.seen)} of the scans judged are among those the weights learned from: this is fit, not accuracy"
        )
    by_machine = sorted({row.dataset for row in rows if row.labels_by != "human"})
    if by_machine:
        notes.append(f"not all labels of {', '.join(by_machine)} are by people: scores are agreement, not accuracy")
    missing = sorted({row.name for row in rows if row.state == "not_predicted"})
    if missing:
        notes.append(f"annotated but not predicted, and in no mean: {', '.join(missing)}")
    if study.failed:
        notes.append(f"{len(study.failed)} scan(s) could not be judged and are in no number")
    return notes


def save(study: Study, folder: Path, command: str = "") -> dict[str, Any]:
    """Write ``cases.csv``, ``lesions.csv``, ``summary.json`` and ``report.html`` into a folder; returns the summary.

    ``cases.csv`` and ``lesions.csv`` also hold the split that operating points were chosen on.

    Raises:
        OutputError: The folder cannot be written.
    """
    from voxicon.report.evaluation import evaluation_page

    write_text(folder / "cases.csv", to_csv(study.rows))
    write_text(folder / "lesions.csv", lesions_csv(study.lesions))
    found = summary(study, command)
    write_text(folder / "summary.json", json.dumps(found, indent=1, allow_nan=False) + "\n")
    write_text(folder / "report.html", evaluation_page(with_cases(found, study)))
    return found


def with_cases(found: Mapping[str, Any], study: Study) -> dict[str, Any]:
    """A summary with the rows of the split judged, under ``cases``: what plots of single cases are drawn from."""
    return {**found, "cases": [asdict(row) for row in study.rows if row.split == study.config.split]}
