"""Readers and machine: every two of them, the same cases for all."""

from __future__ import annotations

import numpy as np
import pytest

from tests.evaluate.shapes import box, empty
from tests.evaluate.test_table import WHO
from voxicon.errors import BadGeometry
from voxicon.evaluate.agreement import agree, summarize_agreement

SHAPE = (10, 4, 4)
WHOLE, LEFT, RIGHT = (box(SHAPE, (x, (0, 4), (0, 4))) for x in ((0, 8), (0, 4), (4, 8)))


def test_pairs_by_hand() -> None:
    scores = agree(WHO, "liver", {"AI": WHOLE, "R1": LEFT, "R2": RIGHT})
    # Half of the whole: 2 * 4 / (8 + 4); the halves share nothing.
    expected = {("AI", "R1"): 2 / 3, ("AI", "R2"): 2 / 3, ("R1", "R2"): 0}
    assert {score.pair: score.dice for score in scores} == pytest.approx(expected)
    found = summarize_agreement(scores, ("R1", "R2"))
    assert (found["names"], found["n_cases"], found["n_patients"]) == (["R1", "R2"], 1, 1)
    assert list(found["classes"]["liver"]) == ["AI-R1", "AI-R2", "R1-R2"]
    one = found["classes"]["liver"]["AI-R1"]
    assert (one["mean"], one["low"], one["n"], one["patients"]) == (pytest.approx(2 / 3), None, 1, 1)


def test_a_class_that_two_call_absent_is_counted_not_averaged() -> None:
    nothing = empty(SHAPE)
    found = summarize_agreement(agree(WHO, "tumor", {"AI": LEFT, "R1": nothing, "R2": nothing}), ("R1", "R2"))
    pairs = found["classes"]["tumor"]
    assert (pairs["AI-R1"]["mean"], pairs["AI-R1"]["n_both_absent"]) == (0, 0)
    assert (pairs["R1-R2"]["mean"], pairs["R1-R2"]["n"], pairs["R1-R2"]["n_both_absent"]) == (None, 0, 1)


def test_no_scores() -> None:
    assert summarize_agreement((), ("A", "B")) == {"names": ["A", "B"], "n_cases": 0, "n_patients": 0, "classes": {}}


def test_masks_of_different_shapes() -> None:
    with pytest.raises(BadGeometry, match="of one shape"):
        agree(WHO, "liver", {"AI": WHOLE, "R1": np.ones((3, 3, 3), dtype=bool)})
