"""The part of an evaluation's page about one lesion class: who was found, at what price, and how small."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from voxicon.report.curves import Band, Mark, froc, roc
from voxicon.report.page import decimal, drawn, interval
from voxicon.report.plots import Share, shares
from voxicon.report.svg import spoken

RATES = ("sensitivity", "specificity", "ppv", "npv")

Found = Mapping[str, Any]


def detection_card(name: str, found: Found) -> dict[str, Any]:
    """What the template shows of one class.

    Args:
        name: The class.
        found: As `voxicon.evaluate.tumors.detection` tells.
    """
    point = found.get("operating_point")
    lesions = found.get("lesions") or {}
    at_point = lesions.get("at_operating_point")
    return {
        "name": spoken(name),
        "found": found,
        "rows": _rows(found, point),
        "point": point,
        "roc": _roc(spoken(name), found, point),
        "froc": _froc(spoken(name), found, at_point),
        "sizes": _sizes(f"{spoken(name)}: lesions found, by diameter", lesions),
        "sizes_at_point": _sizes(f"{spoken(name)}: lesions found at the operating point", at_point or {}),
        "false_positives": lesions.get("false_positives_per_scan"),
        "notes": list(found.get("notes") or []),
    }


def _rows(found: Found, point: Found | None) -> list[tuple[str, Found]]:
    """What is called positive, and the counts of that."""
    rows = [("any voxel in the mask", found.get("any_voxel"))]
    if point:
        threshold = (
            "nobody" if point["threshold"] is None else f"{_score(found)} of at least {decimal(point['threshold'])}"
        )
        rows += [(f"{threshold}, judged here", point["reported"])]
        rows += [(f"{threshold}, on {point['chosen_on']} where it was chosen", point["chosen"])]
    return [(label, counts) for label, counts in rows if counts]


def _score(found: Found) -> str:
    return "volume in ml" if found.get("score") == "volume_ml" else "probability"


def _roc(name: str, found: Found, point: Found | None) -> Markup | None:
    curve = found.get("roc")
    if not curve:
        return None
    area = found.get("auc") or {}
    bounds = interval(area, 2)
    label = f"AUC {decimal(area.get('value'), 2)}" + (f" ({bounds})" if bounds else "")
    title = f"{name}: ROC curve over patients"
    band, mark = _band(found.get("sweep") or []), _patient_mark(point)
    return drawn(roc(title, curve["specificity"], curve["sensitivity"], band=band, mark=mark, label=label))


def _band(sweep: Sequence[Found]) -> Band | None:
    """The interval of sensitivity at each threshold of a sweep."""
    known = [
        one for one in sweep if one["sensitivity"]["value"] is not None and one["specificity"]["value"] is not None
    ]
    # Sensitivity second, so that a rise at one specificity is drawn upward.
    known.sort(key=lambda one: (1 - one["specificity"]["value"], one["sensitivity"]["value"]))
    if not known:
        return None
    x = [1 - one["specificity"]["value"] for one in known]
    return Band(x, *([one["sensitivity"][key] for one in known] for key in ("low", "high")))


def _patient_mark(point: Found | None) -> Mark | None:
    if not point or any(point["reported"][rate]["value"] is None for rate in RATES[:2]):
        return None
    sensitivity, specificity = (point["reported"][rate] for rate in RATES[:2])
    return Mark(
        1 - specificity["value"],
        sensitivity["value"],
        f"chosen on {point['chosen_on']}",
        (1 - specificity["high"], 1 - specificity["low"]),
        (sensitivity["low"], sensitivity["high"]),
    )


def _froc(name: str, found: Found, at_point: Found | None) -> Markup | None:
    curve = found.get("froc")
    if not curve:
        return None
    mark = None
    if at_point and at_point["sensitivity"]["all"]["value"] is not None:
        rate, share = at_point["false_positives_per_scan"], at_point["sensitivity"]["all"]
        if rate["value"] is not None:
            along = None if rate["low"] is None else (rate["low"], rate["high"])
            mark = Mark(rate["value"], share["value"], "at the operating point", along, (share["low"], share["high"]))
    title = f"{name}: FROC curve over lesions"
    rates, label = curve["false_positives_per_scan"], f"{curve['lesions']} lesions, {curve['scans']} scans"
    return drawn(froc(title, rates, curve["sensitivity"], mark=mark, label=label))


def _sizes(title: str, lesions: Found) -> Markup | None:
    strata = lesions.get("sensitivity")
    if not strata:
        return None
    return drawn(shares(title, [Share(name, **share) for name, share in strata.items()], unit="share of lesions found"))
