"""Many partly labeled datasets looked over as one: what is there, what is wrong, what is twice, who trains, who tests.

``voxicon assembly check`` reads every scan once and leaves a folder from which training can start:
``assembly.yaml`` (a recipe), ``manifest.csv`` (split, fold and checksum of every scan), ``checks.jsonl``
(everything found, which also lets an interrupted check go on), ``summary.json`` and ``report.html``.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from voxicon.data.card import load_card
from voxicon.data.check import CaseReport, check_case
from voxicon.data.content import ContentHashes
from voxicon.data.fingerprint import Match, duplicate_groups, find_duplicates
from voxicon.data.layout import Dataset, find_dataset, recognize
from voxicon.data.manifest import ManifestRow, write_manifest
from voxicon.data.splits import Scan, Splits, join, make_splits, scan_groups
from voxicon.errors import ConfigError
from voxicon.io.atomic import write_text
from voxicon.plan import extended_vocabulary

Told = Callable[[str, int, int], None]

_SHOWN = 5
"""Lines of one kind on a terminal; the report has all."""


@dataclass(frozen=True, kw_only=True)
class SplitOptions:
    """How scans without an official split are dealt."""

    seed: int = 0
    val_fraction: float = 0.1
    test_fraction: float = 0.2
    n_folds: int = 5
    keep_official: bool = True


@dataclass(frozen=True)
class Assembly:
    """What a check found.

    Attributes:
        datasets: In the order given.
        reports: One per labeled scan.
        matches: Pairs of scans that are, or may be, the same.
        splits: Where every usable scan belongs.
        rows: The manifest.
    """

    datasets: tuple[Dataset, ...]
    reports: Mapping[str, CaseReport]
    matches: Mapping[tuple[str, str], Match]
    splits: Splits
    rows: tuple[ManifestRow, ...]

    @property
    def n_failed(self) -> int:
        """Scans that cannot be used."""
        return sum(bool(report.error) for report in self.reports.values())


def gather(sources: Sequence[str]) -> tuple[Dataset, ...]:
    """Datasets from the command line: folders, ``CARD=FOLDER`` pairs, or the ``assembly.yaml`` of an earlier check.

    Raises:
        CardError: A folder holds no dataset that a card describes.
        ConfigError: The same dataset twice, or a file that names no datasets.
    """
    datasets: list[Dataset] = []
    for source in sources:
        path = Path(source)
        card, sign, folder = source.partition("=")
        if sign and not path.exists():
            datasets.append(find_dataset(load_card(card), Path(folder), card))
        elif path.suffix in {".yaml", ".yml"}:
            datasets.extend(_listed(path))
        else:
            datasets.append(recognize(path))
    repeated = [name for name, n in Counter(dataset.card.id for dataset in datasets).items() if n > 1]
    if repeated:
        raise ConfigError(f"dataset {', '.join(repeated)} is given more than once; give every dataset one folder")
    if not datasets:
        raise ConfigError("no dataset given; name folders, CARD=FOLDER pairs, or an assembly.yaml")
    return tuple(datasets)


def _listed(path: Path) -> list[Dataset]:
    try:
        values = yaml.safe_load(path.read_text(encoding="utf8"))
        entries = [(str(entry["card"]), Path(entry.get("folder", "."))) for entry in values["datasets"]]
    except (OSError, yaml.YAMLError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(
            f"{path}: names no datasets ({error}); expected a list 'datasets' of card and folder"
        ) from error
    base = path.parent
    own = [(str(base / c) if c.endswith((".yaml", ".yml")) else c, base / f) for c, f in entries]
    return [find_dataset(load_card(card), folder, card) for card, folder in own]


def check(
    datasets: Sequence[Dataset],
    folder: Path,
    options: SplitOptions = SplitOptions(),
    told: Told = lambda what, done, total: None,
) -> Assembly:
    """Read every scan, find copies, make splits. What an earlier check into `folder` has read is not read again.

    Args:
        datasets: As `gather` gives them.
        folder: Where ``checks.jsonl`` lies or will lie.
        options: How scans are dealt.
        told: Hears of the progress.
    """
    extended_vocabulary([dataset.card for dataset in datasets])
    hashes = ContentHashes(folder / "hashes.jsonl")
    remembered = _remember(folder / "checks.jsonl")
    reports: dict[str, CaseReport] = {}
    cases = [case for dataset in datasets for case in dataset.cases]
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "checks.jsonl").open("a", encoding="utf8") as log:
        for index, case in enumerate(cases):
            told(f"checking {case.id}", index, len(cases))
            key = case.id, hashes.of(case.image), hashes.of_labels(case), tuple(sorted(case.annotates))
            report = remembered.get(key)
            if report is None:
                report = check_case(case, hashes)
                log.write(report.to_json() + "\n")
                log.flush()
            reports[case.id] = report
    matches = find_duplicates({name: r.fingerprint for name, r in reports.items() if r.fingerprint is not None})
    usable = [case for case in cases if not reports[case.id].error]
    scans = [Scan(case.id, case.card.id, case.patient, case.split) for case in usable]
    names = {scan.id for scan in scans}
    # A copy that cannot be used still ties its copies together.
    groups = [group & names for group in duplicate_groups(matches)]
    splits = make_splits(
        scans, groups, options.seed, options.val_fraction, options.test_fraction, options.n_folds, options.keep_official
    )
    rows = _rows(datasets, reports, splits, scans, groups, matches)
    return Assembly(tuple(datasets), reports, matches, splits, rows)


def _remember(path: Path) -> dict[tuple[str, str, str, tuple[str, ...]], CaseReport]:
    lines = path.read_text(encoding="utf8").splitlines() if path.is_file() else []
    reports = [report for report in map(CaseReport.from_json, lines) if report is not None and not report.error]
    return {(r.id, r.image_sha256, r.labels_sha256, tuple(sorted(r.volume_ml))): r for r in reports}


def _rows(
    datasets: Sequence[Dataset],
    reports: Mapping[str, CaseReport],
    splits: Splits,
    scans: Sequence[Scan],
    groups: Sequence[frozenset[str]],
    matches: Mapping[tuple[str, str], Match],
) -> tuple[ManifestRow, ...]:
    group_of = {name: min(group) for group in scan_groups(scans, groups) for name in group}
    copies = join({a, b} for (a, b), match in matches.items() if match.kind == "same")
    first_of = {name: min(group) for group in copies for name in group}
    rows = []
    for case in (case for dataset in datasets for case in dataset.cases):
        report = reports[case.id]
        first = first_of.get(case.id, case.id)
        rows.append(
            ManifestRow(
                id=case.id,
                patient=case.patient,
                split="excluded" if report.error else splits.split[case.id],
                fold=splits.fold.get(case.id, -1),
                group=group_of.get(case.id, case.id),
                copy_of="" if first == case.id else first,
                image_sha256=report.image_sha256,
                labels_sha256=report.labels_sha256,
                shape="x".join(map(str, report.shape)),
                spacing_mm="x".join(f"{s:.2f}" for s in report.spacing_mm),
                problem=report.error or "; ".join(report.warnings),
            )
        )
    return tuple(rows)


def counts(assembly: Assembly) -> dict[str, dict[str, dict[str, int]]]:
    """Class → dataset → how many scans annotate it, show it, and train on it; classes in order of id."""
    vocabulary = extended_vocabulary([dataset.card for dataset in assembly.datasets])
    split = {row.id: row.split for row in assembly.rows}
    table: dict[str, dict[str, dict[str, int]]] = {}
    for name in vocabulary.names:
        for dataset in assembly.datasets:
            known = [r for c in dataset.cases if name in (r := assembly.reports[c.id]).volume_ml]
            if known:
                shown = [r for r in known if r.volume_ml[name] > 0]
                training = sum(split[r.id] == "train" for r in shown)
                cell = {"annotated": len(known), "present": len(shown), "training": training}
                table.setdefault(name, {})[dataset.card.id] = cell
    return table


def summary(assembly: Assembly) -> dict[str, Any]:
    """Everything a page or a program wants to know, as plain data."""
    split = Counter(row.split for row in assembly.rows)
    per_dataset = []
    for dataset in assembly.datasets:
        reports = [assembly.reports[case.id] for case in dataset.cases]
        own = [row.split for row in assembly.rows if row.id.startswith(f"{dataset.card.id}/")]
        per_dataset.append(
            {
                "id": dataset.card.id,
                "title": dataset.card.title,
                "folder": str(dataset.folder),
                "terms": dataset.card.terms,
                "labels_by": dataset.card.labels_by,
                "pitfalls": list(dataset.card.pitfalls),
                "scans": len(reports),
                "unlabeled": [path.name for path in dataset.unlabeled],
                "orphan_labels": [path.name for path in dataset.orphans],
                "failed": {r.id: r.error for r in reports if r.error},
                "warnings": {r.id: list(r.warnings) for r in reports if r.warnings},
                "splits": dict(Counter(own)),
            }
        )
    return {
        "datasets": per_dataset,
        "splits": dict(split),
        "copies": [
            {"a": a, "b": b, "kind": m.kind, "common_share": m.common_share, "correlation": m.correlation}
            for (a, b), m in assembly.matches.items()
        ],
        "conflicts": [str(conflict) for conflict in assembly.splits.conflicts],
        "counts": counts(assembly),
    }


def lines(found: Mapping[str, Any]) -> list[str]:
    """A summary in a few lines for a terminal."""
    shown = []
    for dataset in found["datasets"]:
        splits = ", ".join(f"{n} {name}" for name, n in sorted(dataset["splits"].items()))
        notes = [
            f"{len(dataset[key])} {words}"
            for key, words in (
                ("failed", "cannot be used"),
                ("warnings", "with warnings"),
                ("unlabeled", "without labels"),
                ("orphan_labels", "labels without a scan"),
            )
            if dataset[key]
        ]
        shown.append(f"{dataset['id']:24} {dataset['scans']:>5} scans: {splits}" + "".join(f"; {n}" for n in notes))
        shown.extend(f"  {name}: {error}" for name, error in list(dataset["failed"].items())[:_SHOWN])
    kinds = Counter(copy["kind"] for copy in found["copies"])
    if kinds:
        shown.append(f"copies: {kinds['same']} pairs are the same scan, {kinds['suspected']} look alike; kept together")
    shown.extend(found["conflicts"][:_SHOWN])
    return shown


def save(assembly: Assembly, folder: Path, name: str, preset: str) -> None:
    """Write ``assembly.yaml``, ``manifest.csv``, ``summary.json`` and ``report.html`` into a folder.

    An ``assembly.yaml`` that is there already keeps everything but its list of datasets, so settings made by
    hand survive a new check.

    Raises:
        OutputError: The folder cannot be written.
    """
    from voxicon.report.assembly import assembly_page

    write_manifest(folder / "manifest.csv", assembly.rows)
    found = summary(assembly)
    write_text(folder / "summary.json", json.dumps(found, indent=1))
    write_text(folder / "report.html", assembly_page(found))
    path = folder / "assembly.yaml"
    recipe: dict[str, Any] = {"name": name, "preset": preset, "manifest": "manifest.csv"}
    if path.is_file():
        recipe |= yaml.safe_load(path.read_text(encoding="utf8"))
    recipe["datasets"] = [_entry(dataset) for dataset in assembly.datasets]
    write_text(path, _HEADER + yaml.safe_dump(recipe, sort_keys=False, allow_unicode=True))


_HEADER = """\
# A recipe made by 'voxicon assembly check'. Train with: voxicon train assembly.yaml
# preset: paper needs a large GPU, laptop trains on a CPU; any field of a recipe can be added below.
"""


def _entry(dataset: Dataset) -> dict[str, str]:
    # Whole paths: the folder of a check may move, the downloads stay where they are.
    own = dataset.origin if dataset.origin and Path(dataset.origin).suffix else ""
    return {"card": str(Path(own).resolve()) if own else dataset.card.id, "folder": str(dataset.folder.resolve())}
