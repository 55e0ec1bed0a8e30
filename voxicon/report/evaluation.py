"""The page of ``voxicon evaluate``: how good, how sure, where it fails.

It takes what `voxicon.evaluation.with_cases` makes. Only ``classes`` and ``mean`` are needed; any other part may be
missing, None or empty, and its section is then left out:

* ``name``, ``weights`` (``name``, ``sha256``), ``split``, ``choose_on``, ``tolerance_mm``, ``command``, ``n_cases``,
  ``n_patients``, ``notes``, ``failed`` (id → why), ``datasets`` (id → ``title``, ``labels_by``, ``terms``, counts)
* ``classes``: name → ``all`` and ``per_dataset`` (id → the same): measures ``dice``, ``nsd``, ``hd95_mm``,
  ``volume_error_percent`` with ``mean``, ``low``, ``high``, ``median``, ``n``; counts ``n_<state>``. ``mean``: the
  same without counts
* ``cases``: rows of `voxicon.evaluate.table.CaseRow`, for plots of single cases and the list of the worst
* ``detection``: class → as `voxicon.evaluate.tumors.detection` tells
* ``readers``: as `voxicon.evaluate.agreement.summarize_agreement` tells
* ``against``: as `voxicon.evaluate.against.compare` tells, with ``name`` and ``weights`` of the other
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from markupsafe import Markup

from voxicon.report.curves import volumes
from voxicon.report.detection import detection_card
from voxicon.report.page import Figure, count, decimal, drawn, interval, render
from voxicon.report.plots import Dot, Strip, dots, strips
from voxicon.report.svg import shape_legend, spoken

STATES = ("scored", "absent", "missed", "false_alarm", "not_predicted")

_PARTS = (
    "name", "weights", "split", "tolerance_mm", "command", "n_cases", "n_patients", "notes", "failed", "datasets",
    "seen_in_training", "cases", "detection", "readers", "against",
)  # fmt: skip
_WORST = 20
_FINE = 0.05
_LEAST_REACH = 0.02
_NARROWEST = 0.2
"""Least part of 0 to 1 that a plot of Dice shows: a thousandth must not look like a gulf."""

Found = Mapping[str, Any]


def evaluation_page(found: Found) -> str:
    """One HTML file from what an evaluation found; one without classes gives a page too.

    Args:
        found: See the head of this module.
    """
    found = {**dict.fromkeys(_PARTS), **found}
    cases, against, tolerance = found["cases"] or [], found["against"] or {}, found["tolerance_mm"]
    return render(
        "evaluation.html",
        f"Evaluation of {found['name'] or _weights(found) or 'masks'}",
        figures=_figures(found),
        found=found,
        weights=_weights(found),
        states=[
            s
            for s in STATES
            if s != "not_predicted" or any(one["all"].get("n_" + s) for one in found["classes"].values())
        ],
        nsd_name="NSD" if tolerance is None else f"NSD at {tolerance:g} mm",
        class_plot=_class_plot(found["classes"]),
        dataset_plot=_dataset_plot(found),
        case_plot=_case_plot(cases, found["classes"]),
        volume_plots=_volume_plots(cases),
        worst=_worst(cases),
        detections=[detection_card(name, one) for name, one in (found["detection"] or {}).items()],
        readers=_readers(found["readers"] or {}),
        against=against,
        other=against.get("name") or _weights(against) or "the other",
        difference_plot=_difference_plot(against),
    )


def _weights(found: Found) -> str:
    return str((found.get("weights") or {}).get("name") or "")


def _figures(found: Found) -> list[Figure]:
    classes, mean = found["classes"], found["mean"]["all"]
    dice, nsd = (mean[measure] for measure in ("dice", "nsd"))
    missed, alarms = (sum(one["all"][f"n_{state}"] for one in classes.values()) for state in STATES[2:4])
    tolerance = found["tolerance_mm"]
    figures = [
        Figure(
            decimal(dice["mean"]),
            f"mean Dice of {count(len(classes))} class{'es' if len(classes) != 1 else ''}",
            _sure(dice),
        ),
        Figure(
            decimal(nsd["mean"]),
            "mean NSD" + (f" at {tolerance:g} mm" if tolerance is not None else ""),
            _sure(nsd),
        ),
    ]
    if found["n_cases"] is not None:
        split = f", split {found['split']}" if found["split"] else ""
        figures.append(Figure(count(found["n_cases"]), "scans", f"{count(found['n_patients'])} patients{split}"))
    figures.append(
        Figure(count(missed), "masks missed", "the class is there, nothing was found", "warn" if missed else "good")
    )
    figures.append(
        Figure(count(alarms), "false alarms", "something was found, nothing is there", "warn" if alarms else "good")
    )
    if found["failed"]:
        figures.append(Figure(count(len(found["failed"])), "scans not judged", "they are in no number", "bad"))
    return figures


def _sure(estimate: Found) -> str:
    bounds = interval(estimate)
    return f"95% interval {bounds}" if bounds else "too few patients for an interval"


def _dot(estimate: Found | None, key: str = "mean", name: str = "") -> Dot:
    one = estimate or {}
    told = f"{name}: {decimal(one.get(key))} ({interval(one) or 'no interval'}), n = {one.get('n', 0)}"
    return Dot(one.get(key), one.get("low"), one.get("high"), told)


def _start(values: Iterable[float | None]) -> float:
    """Start of a scale of shares that ends at 1: below all values, on a round number."""
    low = min((v for v in values if v is not None and math.isfinite(v)), default=0.0)
    return max(0.0, min(1 - _NARROWEST, math.floor((low - 0.01) / _FINE) * _FINE))


def _share_plot(title: str, rows: Sequence[tuple[str, Sequence[Dot]]], unit: str) -> Markup:
    low = _start(v for _, row in rows for dot in row for v in (dot.value, dot.low))
    return drawn(dots(title, rows, low=low, high=1.0, unit=unit))


def _class_plot(classes: Found) -> Markup:
    ranked = sorted(classes.items(), key=lambda item: -(item[1]["all"]["dice"]["mean"] or 0))
    rows = [(spoken(name), [_dot(one["all"]["dice"], name=spoken(name))]) for name, one in ranked]
    return _share_plot("Mean Dice of each class with its interval", rows, "mean Dice")


def _dataset_plot(found: Found) -> Markup | None:
    datasets = found["mean"].get("per_dataset") or {}
    if len(datasets) < 2:
        return None
    rows = [(name, [_dot(one["dice"], name=name)]) for name, one in datasets.items()]
    return _share_plot("Mean Dice over classes in each dataset", rows, "mean Dice over the classes it annotates")


def _case_plot(cases: Sequence[Found], classes: Found) -> Markup | None:
    own: dict[str, list[Found]] = {name: [] for name in classes}
    for case in cases:
        if case["dice"] is not None:
            own.setdefault(case["name"], []).append(case)
    rows = [
        Strip(spoken(name), [case["dice"] for case in of], [_case_id(case) for case in of])
        for name, of in sorted(own.items(), key=lambda item: -_median([case["dice"] for case in item[1]]))
    ]
    return drawn(strips("Dice of every case, by class", rows, low=0.0, high=1.0, unit="Dice")) if cases else None


def _median(values: Sequence[float]) -> float:
    return sorted(values)[len(values) // 2] if values else 0.0


def _case_id(case: Found) -> str:
    return f"{case['dataset']}/{case['case']}"


def _volume_plots(cases: Sequence[Found]) -> list[tuple[str, Markup]]:
    """A plot per class in which some case has a volume on either side."""
    own: dict[str, list[tuple[float, float, str]]] = {}
    for case in cases:
        truth, predicted = case["truth_ml"], case["predicted_ml"]
        if truth is not None and predicted is not None and truth + predicted > 0:
            own.setdefault(case["name"], []).append((truth, predicted, _case_id(case)))
    return [(spoken(name), drawn(volumes(f"Volume of {spoken(name)}", of))) for name, of in own.items()]


def _worst(cases: Sequence[Found]) -> list[dict[str, Any]]:
    scored = [case for case in cases if case["dice"] is not None]
    # Among those with Dice 0 the one where the most is at stake comes first.
    scored.sort(key=lambda case: (case["dice"], -(case["truth_ml"] or 0) - (case["predicted_ml"] or 0)))
    return [{**case, "id": _case_id(case)} for case in scored[:_WORST]]


def _readers(readers: Found) -> dict[str, Any] | None:
    """A plot with one series per pair, its legend, and the pairs in order."""
    classes: Mapping[str, Mapping[str, Found]] = readers.get("classes") or {}
    pairs = list(dict.fromkeys(pair for one in classes.values() for pair in one))
    if not pairs:
        return None
    rows = [
        (spoken(name), [_dot(one.get(pair), name=f"{spoken(name)}, {pair}") for pair in pairs])
        for name, one in classes.items()
    ]
    return {
        "pairs": pairs,
        "classes": classes,
        "plot": _share_plot("Agreement of machine and readers", rows, "mean Dice of the two"),
        "legend": drawn(shape_legend(pairs)),
        **{key: readers.get(key) for key in ("n_cases", "n_patients")},
    }


def _difference_plot(against: Found) -> Markup | None:
    classes = against.get("classes") or {}
    rows = [
        (spoken(name), [_dot(one.get("dice"), "difference", spoken(name))])
        for name, one in sorted(classes.items(), key=lambda item: -((item[1].get("dice") or {}).get("difference") or 0))
    ]
    bounds = [abs(v) for _, row in rows for dot in row for v in (dot.value, dot.low, dot.high) if v is not None]
    reach = math.ceil(max(bounds, default=0.0) / _LEAST_REACH + 1e-9) * _LEAST_REACH
    title = "Difference in Dice of each class with its interval"
    return drawn(dots(title, rows, low=-reach, high=reach, unit="difference in Dice", reference=0.0)) if rows else None
