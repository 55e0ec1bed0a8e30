"""Two models on the same cases: differences and tests by hand, and what is no pair."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.evaluate.test_table import row
from voxicon.errors import UsageError
from voxicon.evaluate.against import compare

FIRST = [row("liver", dice, f"p{i}", nsd=dice, truth_ml=100.0) for i, dice in enumerate((0.9, 0.8, 0.7, 0.9, 0.6))]
SECOND = [replace(one, dice=one.dice - 0.1, nsd=one.nsd) for one in FIRST]  # type: ignore[operator]


def test_differences_by_hand() -> None:
    found = compare(FIRST, SECOND)["classes"]["liver"]
    assert found["dice"]["difference"] == pytest.approx(0.1)
    assert (found["dice"]["mean_here"], found["dice"]["mean_there"]) == (pytest.approx(0.78), pytest.approx(0.68))
    assert (found["dice"]["n"], found["dice"]["patients"], found["dice"]["effect_size"]) == (5, 5, 1.0)
    assert found["dice"]["p"] == pytest.approx(2 / 32)  # five patients, all better: two of 2^5 signs
    assert found["dice"]["p_holm"] == found["dice"]["p"]  # one class is no multitude
    assert (found["nsd"]["difference"], found["nsd"]["p"]) == (0, 1)


def test_swapping_the_models_swaps_the_sign() -> None:
    there, back = compare(FIRST, SECOND)["classes"]["liver"]["dice"], compare(SECOND, FIRST)["classes"]["liver"]["dice"]
    assert there["difference"] == -back["difference"]
    assert there["low"] == pytest.approx(-back["high"])
    assert there["p"] == back["p"]


def test_patients_are_tested_not_scans() -> None:
    again = [replace(one, case=f"{one.case}b") for one in FIRST]
    others = [replace(one, case=f"{one.case}b") for one in SECOND]
    found = compare([*FIRST, *again], [*SECOND, *others])["classes"]["liver"]["dice"]
    assert (found["n"], found["patients"], found["p"]) == (10, 5, pytest.approx(2 / 32))


def test_holm_over_the_classes() -> None:
    names = ("liver", "spleen", "aorta")
    first = [replace(one, name=name) for name in names for one in FIRST]
    second = [replace(one, name=name) for name in names for one in (FIRST if name == "aorta" else SECOND)]
    found = {name: one["dice"] for name, one in compare(first, second)["classes"].items()}
    # Sorted: 1/16, 1/16, 1 -> times 3, 2, 1.
    assert [found[name]["p_holm"] for name in names] == [pytest.approx(3 / 16), pytest.approx(3 / 16), 1]


def test_what_only_one_can_score_is_left_out_and_counted() -> None:
    alarm = row("liver", 0.0, "x", state="false_alarm", truth_ml=0.0)
    silent = row("liver", None, "x", state="absent", truth_ml=0.0)
    unmade = row("liver", None, "y", state="not_predicted", truth_ml=5.0)
    made = row("liver", 0.9, "y", truth_ml=5.0)
    found = compare([*FIRST, silent, unmade], [*SECOND, alarm, made])
    dice = found["classes"]["liver"]["dice"]
    assert (dice["n"], dice["n_one_sided"], dice["difference"]) == (5, 1, pytest.approx(0.1))
    assert (found["n_pairs"], found["n_only_here"], found["n_only_there"], found["n_cases"]) == (6, 0, 1, 6)


def test_a_class_that_nobody_can_score() -> None:
    silent = row("liver", None, "x", state="absent", truth_ml=0.0)
    found = compare(
        [silent, *(replace(one, name="spleen") for one in FIRST)],
        [silent, *(replace(one, name="spleen") for one in SECOND)],
    )
    liver = found["classes"]["liver"]["dice"]
    assert (liver["n"], liver["difference"], liver["p"], liver["p_holm"]) == (0, None, None, None)
    assert found["classes"]["spleen"]["dice"]["p_holm"] == pytest.approx(2 / 32)


def test_refusals() -> None:
    with pytest.raises(UsageError, match="no case and class in common"):
        compare(FIRST, [replace(one, case="other") for one in SECOND])
    changed = [replace(SECOND[0], truth_ml=100.1), *SECOND[1:]]
    with pytest.raises(UsageError, match=r"1 rows were judged by other labels, such as d/p0 liver"):
        compare(FIRST, changed)
