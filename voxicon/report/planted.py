"""The page of ``voxicon evaluate --planted``: how small a lesion may be and still be found, and at what price.

It takes what `voxicon.planted.summary` makes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from voxicon.report.curves import Mark, roc
from voxicon.report.page import Figure, count, drawn, interval, percent, render
from voxicon.report.plots import Share, shares
from voxicon.report.svg import spoken

_POINT = "0.8"
"""Specificity at which the second plot is drawn."""

Found = Mapping[str, Any]


def planted_page(found: Found) -> str:
    """One HTML file from what a study of planted lesions found; one without lesions gives a page too."""
    weights = found["weights"]["name"]
    return render(
        "planted.html",
        f"Planted lesions, weights {weights}",
        figures=_figures(found),
        found=found,
        cards=[_card(name, one) for name, one in found["lesions"].items()],
    )


def _figures(found: Found) -> list[Figure]:
    kinds = found["lesions"].values()
    figures = [
        Figure(count(sum(one["n_lesions"] for one in kinds)), "lesions planted", f"seed {found['seed']}"),
        Figure(count(len(found["scans"])), "scans", f"split {found['split']}, each in several variations"),
    ]
    for name, one in list(found["lesions"].items())[:2]:
        point = one["at_specificity"][_POINT]
        if point:
            best = point["sensitivity"]["all"]
            note = f"at specificity {_POINT}; 95% interval {interval(best, 0, '%') or '–'}"
            figures.append(Figure(percent(best["value"]), f"of {spoken(name)}s found", note))
    if found["failed"]:
        figures.append(Figure(count(len(found["failed"])), "scans not used", "they are in no number", "bad"))
    return figures


def _card(name: str, one: Found) -> dict[str, Any]:
    """What the template shows of one class."""
    title, point = spoken(name), one["at_specificity"][_POINT]
    return {
        "name": title,
        "one": one,
        "sizes": _shares(f"{title}: planted lesions found, by diameter", one["as_delivered"]["sensitivity"]),
        "point": point,
        "sizes_at_point": point and _shares(f"{title}: found at specificity {_POINT}", point["sensitivity"]),
        "contrast": _shares(
            f"{title}: planted lesions found, by contrast",
            {label: share for label, share in one["by_contrast"].items() if share["total"]},
        ),
        "curve": _curve(title, one, point),
        "points": [(least, at) for least, at in one["at_specificity"].items() if at],
        "bins": list(one["as_delivered"]["sensitivity"]),
    }


def _shares(title: str, found: Found) -> Markup:
    rows: Sequence[Share] = [Share(name, **share) for name, share in found.items()]
    return drawn(shares(title, rows, unit="share of planted lesions found"))


def _curve(title: str, one: Found, point: Found | None) -> Markup | None:
    """Lesions of all sizes over false alarms; None where one of both is unknown."""
    specificity, sensitivity = one["curve"]["specificity"], one["curve"]["sensitivity"]["all"]
    if not one["n_lesions"] or not one["n_untouched"]:
        return None
    mark = None
    if point:
        found, quiet = point["sensitivity"]["all"], point["specificity"]
        mark = Mark(
            1 - quiet["value"],
            found["value"],
            f"specificity {_POINT} or more",
            (1 - quiet["high"], 1 - quiet["low"]),
            (found["low"], found["high"]),
        )
    label = f"{one['n_lesions']} lesions, {one['n_untouched']} untouched"
    return drawn(roc(f"{title}: lesions found over false alarms", specificity, sensitivity, mark=mark, label=label))
