"""Patient level: is a kind of lesion there or not, at which threshold, and what that threshold is worth."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from voxicon.errors import CheckpointError
from voxicon.findings.finding import Finding

CARD_KEY = "operating_points"
"""Where the card of a checkpoint keeps them, by class."""


@dataclass(frozen=True)
class Share(Finding):
    """A share of cases.

    Attributes:
        value: From 0 to 1.
        low: Lower end of its 95 % interval.
        high: Upper end.
        n: Cases.
    """

    value: float
    low: float
    high: float
    n: int


@dataclass(frozen=True)
class OperatingPoint(Finding):
    """A threshold on a patient's score, and what it was found to do.

    Attributes:
        threshold: A patient whose score is at least this has the lesion.
        specificity: Of patients without the lesion, those below it.
        sensitivity: By diameter in mm, such as "10-20", or "all": of patients or lesions that were there, those found.
        data: What that was measured on, in one line.
    """

    threshold: float
    specificity: Share | None
    sensitivity: Mapping[str, Share]
    data: str


@dataclass(frozen=True)
class Detection(Finding):
    """Whether a patient has a kind of lesion.

    Attributes:
        name: The class.
        detected: A score of at least the threshold; without a measured one, any voxel of the mask. Where the threshold
            lies below the mask's own, a score may reach it and the mask hold nothing.
        score: Largest probability anywhere that cleanup rules allow; None where masks were given or no scores are.
        threshold: What the score was held against; None likewise.
        measured: What is known of the threshold; None where nothing was measured, so that nobody knows what is missed.
        lesions: Pieces of the mask.
        volume_ml: Of all of them.
        by: ``weights``, or ``masks`` that somebody else made.
    """

    name: str
    detected: bool
    score: float | None
    threshold: float | None
    measured: OperatingPoint | None
    lesions: int
    volume_ml: float
    by: Literal["weights", "masks"] = field(default="weights")


def operating_points(card: Mapping[str, Any], name: str) -> dict[str, OperatingPoint]:
    """By class, what a checkpoint's card carries; empty where it has none.

    Args:
        card: Of the checkpoint.
        name: Of the weights, for messages.

    Raises:
        CheckpointError: An entry is damaged.
    """
    try:
        return {key: _point(entry) for key, entry in card.get(CARD_KEY, {}).items()}
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{name}: its operating points are damaged ({error!r}); fetch the file again") from error


def _point(entry: Mapping[str, Any]) -> OperatingPoint:
    threshold = float(entry["threshold"])
    if not 0 < threshold <= 1:
        raise ValueError(f"threshold {threshold:g}")
    specificity = entry["specificity"]
    return OperatingPoint(
        threshold=threshold,
        specificity=None if specificity is None else _share(specificity),
        sensitivity={str(size): _share(share) for size, share in entry["sensitivity"].items()},
        data=str(entry["data"]),
    )


def _share(entry: Mapping[str, Any]) -> Share:
    return Share(float(entry["value"]), float(entry["low"]), float(entry["high"]), int(entry["n"]))
