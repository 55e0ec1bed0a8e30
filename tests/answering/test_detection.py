"""Operating points from a card, and verdicts on patients with and without them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tests.answering.findings import POINT
from tests.answering.phantom import SHAPE, VOCABULARY, box, geometry, scene, volume
from voxicon.answering.detection import CARD_KEY, Detection, OperatingPoint, operating_points
from voxicon.core.masks import MaskSet
from voxicon.errors import CheckpointError
from voxicon.inquiry import _detected, _Joined
from voxicon.result import Result

ENTRY: dict[str, Any] = {
    "threshold": 0.3,
    "specificity": {"value": 0.95, "low": 0.901, "high": 0.98, "n": 100},
    "sensitivity": {
        "10-20": {"value": 0.8, "low": 0.7, "high": 0.88, "n": 50},
        "all": {"value": 0.874, "low": 0.8, "high": 0.92, "n": 120},
    },
    "data": "220 scans of a hospital",
}


def test_what_a_card_says() -> None:
    assert operating_points({CARD_KEY: {"pancreas_tumor": ENTRY}}, "w") == {"pancreas_tumor": POINT}
    bare = ENTRY | {"specificity": None, "sensitivity": {}}
    (point,) = operating_points({CARD_KEY: {"liver_tumor": bare}}, "w").values()
    assert (point.specificity, point.sensitivity, point.threshold) == (None, {}, 0.3)
    assert operating_points({CARD_KEY: {"liver_tumor": ENTRY | {"threshold": 1}}}, "w")["liver_tumor"].threshold == 1


def test_a_card_without_any() -> None:
    assert operating_points({}, "w") == operating_points({CARD_KEY: {}}, "w") == {}


def _without(key: str) -> dict[str, Any]:
    return {name: value for name, value in ENTRY.items() if name != key}


DAMAGED = [
    [], "text", {"liver_tumor": None}, {"liver_tumor": []}, {"liver_tumor": 0.5},
    *({"liver_tumor": _without(key)} for key in ENTRY),
    *({"liver_tumor": ENTRY | {"threshold": odd}} for odd in (0, -0.1, 1.01, float("nan"), "high", None)),
    {"liver_tumor": ENTRY | {"specificity": {"value": 0.9}}},
    {"liver_tumor": ENTRY | {"specificity": 0.9}},
    {"liver_tumor": ENTRY | {"sensitivity": None}},
    {"liver_tumor": ENTRY | {"sensitivity": {"all": 0.9}}},
    {"liver_tumor": ENTRY | {"sensitivity": {"all": {"value": 0.9, "low": 0.8, "high": 1, "n": "many"}}}},
]  # fmt: skip


@pytest.mark.parametrize("points", DAMAGED, ids=range(len(DAMAGED)))
def test_damaged_ones_are_refused(points: Any) -> None:
    with pytest.raises(CheckpointError, match=r"^w: its operating points are damaged") as caught:
        operating_points({CARD_KEY: points}, "w")
    assert "\n" not in str(caught.value)


TUMOR = box((34, 40), (8, 12), (20, 23))
NOTHING = np.zeros(SHAPE, dtype=bool)


def judged(
    levels: np.ndarray | None, mask: np.ndarray, point: OperatingPoint | None = None, name: str = "liver_tumor",
    given: bool = False, cut_at: float = 0.5,
) -> Detection:  # fmt: skip
    """The verdict on one class from its mask and its map of bytes."""
    belly = scene("kidney_cyst", **{name: mask})
    nobody = Result(MaskSet.empty((), geometry()), volume(), {}, {}, vocabulary=VOCABULARY)
    found = nobody if levels is None else replace(nobody, probabilities={name: levels.astype(np.uint8)})
    belly.decisions = {name: cut_at}
    joined = _Joined(belly.masks, found, belly.masks if given else None, "masks" if given else None)
    (verdict,) = _detected((name,), belly, joined, {} if point is None else {name: point})
    assert verdict.name == name
    return verdict


def point(threshold: float) -> OperatingPoint:
    return replace(POINT, threshold=threshold)


def test_without_a_point_the_mask_decides() -> None:
    there = judged(TUMOR * 204, TUMOR)
    assert there == Detection("liver_tumor", True, 0.8, 0.5, None, 1, there.volume_ml, "weights")
    assert there.volume_ml == pytest.approx(72 * 0.016)
    assert not judged(TUMOR * 204, NOTHING).detected
    assert judged(TUMOR * 51, TUMOR).detected
    none = judged(TUMOR * 51, NOTHING, cut_at=0.4)
    assert none == Detection("liver_tumor", False, 0.2, 0.4, None, 0, 0.0, "weights")


@pytest.mark.parametrize(("threshold", "detected"), [(0.79, True), (0.8, True), (0.81, False)])
def test_with_a_point_the_score_decides(threshold: float, detected: bool) -> None:
    found = judged(TUMOR * 204, TUMOR, point(threshold))
    assert (found.detected, found.score, found.threshold) == (detected, 0.8, threshold)
    assert found.measured == point(threshold)
    assert found.lesions == 1


def test_a_score_may_reach_a_point_below_the_masks_threshold() -> None:
    found = judged(TUMOR * 102, NOTHING, point(0.3))
    assert (found.detected, found.score, found.lesions, found.volume_ml) == (True, 0.4, 0, 0.0)


def test_the_score_is_the_highest_that_cleanup_leaves() -> None:
    # Farther than 3 mm from the liver, a probability is nobody's.
    far = box((2, 5), (20, 24), (20, 24))
    found = judged(TUMOR * 102 + far * 255, TUMOR, point(0.9))
    assert (found.score, found.detected) == (0.4, False)
    # Below what counts as a candidate there is no score.
    assert judged(TUMOR * 25, NOTHING).score == 0
    assert judged(TUMOR * 26, NOTHING).score == pytest.approx(26 / 255)
    assert judged(NOTHING * 1, NOTHING).score == 0


def test_given_masks_have_no_score_and_no_threshold() -> None:
    # A point of the weights says nothing of somebody else's masks.
    there = judged(None, TUMOR, point(0.3), given=True)
    assert there == Detection("liver_tumor", True, None, None, None, 1, there.volume_ml, "masks")
    none = judged(None, NOTHING, point(0.3), given=True)
    assert none == Detection("liver_tumor", False, None, None, None, 0, 0.0, "masks")


def test_every_kind_is_judged_by_its_own_map() -> None:
    belly = scene()
    maps = {
        "liver_tumor": (TUMOR * 204).astype(np.uint8),
        "pancreas_tumor": (box((9, 11), (20, 22), (14, 16)) * 102).astype(np.uint8),
    }
    belly.decisions = dict.fromkeys(maps, 0.5)
    nobody = Result(MaskSet.empty((), geometry()), volume(), {}, {}, vocabulary=VOCABULARY, probabilities=maps)
    joined = _Joined(belly.masks, nobody, belly.masks, "masks")
    names = ("pancreas_tumor", "kidney_tumor", "liver_tumor")
    verdicts = _detected(names, belly, joined, {"pancreas_tumor": point(0.5)})
    assert [(v.name, v.score, v.by, v.detected) for v in verdicts] == [
        ("pancreas_tumor", 0.4, "weights", False),
        ("kidney_tumor", None, "masks", True),
        ("liver_tumor", 0.8, "weights", True),
    ]
    assert _detected((), belly, joined, {}) == ()
