"""One row per case and class, and what the rows say together.

A class that a case annotates and nobody predicted is a row of its own, *not predicted*: it has no measure and is in no
mean, and it is counted wherever the class is shown. In means, a missed class and a false alarm have Dice and NSD 0; a
class that is rightly absent has neither. Distances in mm exist only where both masks have voxels.
"""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from voxicon.core.geometry import Geometry
from voxicon.errors import ConfigError
from voxicon.evaluate.overlap import overlap
from voxicon.evaluate.pair import Mask, State
from voxicon.evaluate.statistics import RESAMPLES, SEED, cluster_bootstrap, percentile_interval
from voxicon.evaluate.surface import surface_distances

Floats = NDArray[np.float64]
RowState = State | Literal["not_predicted"]

STATES: tuple[RowState, ...] = ("scored", "absent", "missed", "false_alarm", "not_predicted")
MEASURES = ("dice", "nsd", "hd95_mm", "volume_error_percent")
"""What is summarized over cases; the volume error keeps its sign, so that it shows bias."""


@dataclass(frozen=True, kw_only=True)
class Subject:
    """Whose scan it is and where it belongs; every row of the scan repeats it.

    Attributes:
        dataset: Id of the card.
        case: Case id within the dataset.
        patient: Scans with the same one are resampled together; copies of one scan in two datasets share it.
        split: ``train``, ``val`` or ``test``.
        labels_by: Who drew the labels. Agreement with machine labels is agreement, not accuracy.
    """

    dataset: str
    case: str
    patient: str
    split: str
    labels_by: str

    @property
    def id(self) -> str:
        """Unique among all datasets."""
        return f"{self.dataset}/{self.case}"


@dataclass(frozen=True, kw_only=True)
class CaseRow(Subject):
    """How good the mask of one class is in one case. Measures are None where they mean nothing in that state.

    Attributes:
        name: The class.
        state: What is there and what was predicted; see `voxicon.evaluate.pair.State`.
        dice: In [0, 1].
        nsd: At the tolerance of the whole table, in [0, 1].
        hd95_mm: 95th percentile of the Hausdorff distance.
        sensitivity: Share of the true voxels that were found.
        precision: Share of the found voxels that are true.
        truth_ml: Volume of the truth.
        predicted_ml: Volume of the prediction.
        volume_error_ml: Predicted minus true.
        volume_error_percent: The same in percent of the true volume.
    """

    name: str
    state: RowState
    dice: float | None = None
    nsd: float | None = None
    hd95_mm: float | None = None
    sensitivity: float | None = None
    precision: float | None = None
    truth_ml: float | None = None
    predicted_ml: float | None = None
    volume_error_ml: float | None = None
    volume_error_percent: float | None = None


_FIELDS = tuple(field.name for field in fields(CaseRow))
_NUMBERS = _FIELDS[_FIELDS.index("dice") :]
_COLUMN = {"name": "class"}
"""Field → column, where they differ: `class` is no name in Python."""
_COLUMNS = tuple(_COLUMN.get(field, field) for field in _FIELDS)


def score(
    subject: Subject, name: str, truth: Mask, predicted: Mask | None, geometry: Geometry, tolerance_mm: float
) -> CaseRow:
    """The row of one class in one case; None for a prediction means that nobody made one.

    Args:
        subject: Whose scan it is.
        name: The class.
        truth: (X, Y, Z) bool on `geometry`.
        predicted: The same, or None.
        geometry: The scan's own grid.
        tolerance_mm: Of the NSD.

    Raises:
        BadGeometry: The shapes differ.
        ConfigError: The tolerance is negative.
    """
    same = {field.name: getattr(subject, field.name) for field in fields(Subject)}
    if predicted is None:
        volume_ml = float(np.count_nonzero(truth)) * geometry.voxel_ml
        return CaseRow(**same, name=name, state="not_predicted", truth_ml=volume_ml)
    shared = overlap(truth, predicted, geometry.voxel_ml)
    surfaces = surface_distances(truth, predicted, geometry.spacing_mm)
    return CaseRow(**same, name=name, nsd=surfaces.nsd(tolerance_mm), hd95_mm=surfaces.hd(95), **asdict(shared))


def to_csv(rows: Iterable[CaseRow]) -> str:
    """Rows as CSV text, numbers in full; empty cells for measures that mean nothing. No rows leave the header."""
    text = io.StringIO()
    writer = csv.DictWriter(text, _COLUMNS, lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({_COLUMN.get(key, key): value for key, value in asdict(row).items()})
    return text.getvalue()


def read_csv(path: Path) -> tuple[CaseRow, ...]:
    """Rows that `to_csv` wrote. Columns that are not ours are ignored.

    Raises:
        ConfigError: Missing, a column is missing, or a value makes no sense; names file and line.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise ConfigError(
            f"{path}: cannot be read ({error.strerror}); expected the cases.csv of 'voxicon evaluate'"
        ) from error
    reader = csv.DictReader(io.StringIO(text))
    missing = [column for column in _COLUMNS if column not in (reader.fieldnames or ())]
    if missing:
        raise ConfigError(f"{path}:1: has no column {', '.join(missing)}; expected the cases.csv of 'voxicon evaluate'")
    return tuple(_row(values, f"{path}:{reader.line_num}") for values in reader)


def _row(values: Mapping[str, str | None], place: str) -> CaseRow:
    given: dict[str, Any] = {field: values[_COLUMN.get(field, field)] or "" for field in _FIELDS}
    if given["state"] not in STATES:
        raise ConfigError(f"{place}: state is {given['state']!r}; expected {', '.join(STATES)}")
    try:
        numbers = {key: float(given[key]) if given[key] else None for key in _NUMBERS}
    except ValueError as error:
        raise ConfigError(f"{place}: a measure is no number ({error}); evaluate again") from error
    return CaseRow(**{**given, **numbers})


def summarize(rows: Sequence[CaseRow]) -> dict[str, Any]:
    """Each class over all cases and per dataset, and the mean over classes; plain data for JSON.

    Returns:
        ``classes``: name → ``all`` and ``per_dataset`` (card id → the same), each with `MEASURES` as ``mean``, ``low``,
        ``high``, ``median``, ``n`` and ``patients``, counts ``n_<state>``, and ``labels_by``. Intervals are 95 %,
        from resampling patients; None with fewer than two of them. ``mean``: the same without states, each class
        weighing the same however many cases it has; ``n`` then counts classes. No rows give no classes.
    """
    names = dict.fromkeys(row.name for row in rows)
    classes = {name: _with_datasets([row for row in rows if row.name == name], _cell) for name in names}
    return {"classes": classes, "mean": _with_datasets(rows, _mean_over_classes)}


def _with_datasets(rows: Sequence[CaseRow], summary: Any) -> dict[str, Any]:
    datasets = dict.fromkeys(row.dataset for row in rows)
    per_dataset = {name: summary([row for row in rows if row.dataset == name]) for name in datasets}
    return {"all": summary(rows), "per_dataset": per_dataset}


def _cell(rows: Sequence[CaseRow]) -> dict[str, Any]:
    cell: dict[str, Any] = {measure: _estimate(rows, measure) for measure in MEASURES}
    counts = Counter(row.state for row in rows)
    cell |= {f"n_{state}": counts[state] for state in STATES}
    return cell | _origin(rows)


def _origin(rows: Sequence[CaseRow]) -> dict[str, Any]:
    return {
        "n_cases": len({row.id for row in rows}),
        "n_patients": len({row.patient for row in rows}),
        "labels_by": sorted({row.labels_by for row in rows}),
    }


def _estimate(rows: Sequence[CaseRow], measure: str) -> dict[str, Any]:
    measured = [row for row in rows if getattr(row, measure) is not None]
    values = [float(getattr(row, measure)) for row in measured]
    found = cluster_bootstrap(values, [row.patient for row in measured])
    median = float(np.median(values)) if values else None
    bounds = {"mean": found.value, "low": found.low, "high": found.high, "median": median}
    return {**bounds, "n": found.n, "patients": found.patients}


def _mean_over_classes(rows: Sequence[CaseRow]) -> dict[str, Any]:
    return {measure: _macro(rows, measure) for measure in MEASURES} | _origin(rows)


def _macro(rows: Sequence[CaseRow], measure: str) -> dict[str, Any]:
    """Mean of the classes' means; patients are drawn with all their classes.

    A draw that holds no case of a class takes that class's mean over all: left out, a hard class that few patients
    have would make the draw look good.
    """
    measured = [row for row in rows if getattr(row, measure) is not None]
    if not measured:
        return dict.fromkeys(("mean", "low", "high", "median")) | {"n": 0, "patients": 0}
    patients, owner = np.unique([row.patient for row in measured], return_inverse=True)
    names, kind = np.unique([row.name for row in measured], return_inverse=True)
    sums, counts = np.zeros((len(patients), len(names))), np.zeros((len(patients), len(names)))
    np.add.at(sums, (owner, kind), [getattr(row, measure) for row in measured])
    np.add.at(counts, (owner, kind), 1)
    means = sums.sum(axis=0) / counts.sum(axis=0)
    low, high = _macro_interval(sums, counts, means) if len(patients) > 1 else (None, None)
    bounds = {"mean": float(means.mean()), "low": low, "high": high, "median": float(np.median(means))}
    return {**bounds, "n": len(names), "patients": len(patients)}


def _macro_interval(sums: Floats, counts: Floats, means: Floats) -> tuple[float, float]:
    """From (patients, classes) sums and counts, and the mean of each class."""
    n = len(sums)
    drawn = np.random.default_rng(SEED).multinomial(n, np.full(n, 1 / n), size=RESAMPLES)
    total, number = drawn @ sums, drawn @ counts
    per_class = np.divide(total, number, out=np.broadcast_to(means, total.shape).copy(), where=number > 0)
    return percentile_interval(per_class.mean(axis=1).tolist())
