"""Detection: counts and curves worked by hand, operating points on unseen patients, FROC, every empty case."""

from __future__ import annotations

from math import inf

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from voxicon.errors import ConfigError, UsageError
from voxicon.evaluate.detection import (
    Patients,
    at_threshold,
    auc,
    by_patient,
    choose_threshold,
    froc,
    lesion_sensitivity,
    roc,
    sweep,
)
from voxicon.evaluate.lesions import LesionMatch, PredictedLesion, TrueLesion, stratum_of
from voxicon.evaluate.statistics import Estimate, Proportion, wilson


def patients(diseased: list[float], healthy: list[float]) -> Patients:
    scores = [*diseased, *healthy]
    ids = [f"p{i:03}" for i in range(len(scores))]
    return by_patient(ids, scores, [True] * len(diseased) + [False] * len(healthy))


TEN = patients([0.9, 0.8, 0.5, 0.2], [0.8, 0.4, 0.3, 0.2, 0.1, 0.1])

tied_scores = st.lists(st.integers(-5, 5).map(float), min_size=1, max_size=12)

# --- scans to patients


def test_a_patient_is_the_worst_of_the_scans():
    found = by_patient(["b", "a", "b", "c"], [0.7, 0.4, 0.1, 0.2], [True, False, False, False])
    assert found.ids == ("a", "b", "c")
    assert found.scores.tolist() == [0.4, 0.7, 0.2]
    assert found.truth.tolist() == [False, True, False]


def test_no_scans_are_no_patients():
    nobody = by_patient([], [], [])
    assert nobody.ids == ()
    assert at_threshold(nobody, 0.5).sensitivity == Proportion(0, 0, None, None, None)
    assert [counts.threshold for counts in sweep(nobody)] == [inf]
    assert roc(nobody) is None
    assert auc(nobody) == Estimate(None, None, None, 0, 0)


def test_patients_refusals():
    with pytest.raises(UsageError, match="1 patient ids, 2 scores, 1 truths"):
        by_patient(["a"], [0.1, 0.2], [True])
    with pytest.raises(UsageError, match="scores: expected finite"):
        by_patient(["a"], [float("nan")], [True])
    with pytest.raises(UsageError, match="truth: expected true or false"):
        by_patient(["a"], [0.1], [2])


# --- counts


def test_counts_worked_by_hand():
    found = at_threshold(TEN, 0.4)  # at least 0.4: 0.9, 0.8, 0.5 of the diseased, 0.8, 0.4 of the healthy
    assert (found.threshold, found.true_positives, found.false_negatives) == (0.4, 3, 1)
    assert (found.true_negatives, found.false_positives) == (4, 2)
    assert (found.sensitivity, found.specificity) == (wilson(3, 4), wilson(4, 6))
    assert (found.ppv, found.npv) == (wilson(3, 5), wilson(4, 5))


def test_nobody_called_positive_has_no_ppv():
    found = at_threshold(TEN, inf)
    assert (found.sensitivity.value, found.specificity.value, found.ppv.value) == (0.0, 1.0, None)
    everybody = at_threshold(TEN, -inf)
    assert (everybody.sensitivity.value, everybody.specificity.value, everybody.npv.value) == (1.0, 0.0, None)


def test_sweep_goes_down_every_score_or_those_named():
    assert [counts.threshold for counts in sweep(TEN)] == [inf, 0.9, 0.8, 0.5, 0.4, 0.3, 0.2, 0.1]
    assert [counts.true_positives for counts in sweep(TEN)] == [0, 1, 2, 3, 3, 3, 4, 4]
    assert sweep(TEN, [0.4, 0.6]) == (at_threshold(TEN, 0.4), at_threshold(TEN, 0.6))


# --- ROC


def test_roc_worked_by_hand():
    curve = roc(TEN)
    assert curve.thresholds.tolist() == [inf, 0.9, 0.8, 0.5, 0.4, 0.3, 0.2, 0.1]
    assert curve.sensitivity.tolist() == [0, 0.25, 0.5, 0.75, 0.75, 0.75, 1, 1]
    assert curve.specificity == pytest.approx(np.array([6, 6, 5, 5, 4, 3, 2, 0]) / 6)


def test_auc_worked_by_hand():
    # Wins over 0.8, 0.4, 0.3, 0.2, 0.1, 0.1: 0.9 has 6; 0.8 has 5.5; 0.5 has 5; 0.2 has 2.5. Sum 19 of 24.
    found = auc(TEN)
    assert found.value == pytest.approx(19 / 24)
    assert (found.n, found.patients) == (10, 10)
    assert 0 <= found.low < found.value < found.high <= 1
    assert found == auc(TEN)
    assert found != auc(TEN, seed=5, resamples=30)


def test_auc_interval_is_as_wide_as_theory_says():
    # Hanley and McNeil for A = 0.75, 100 against 100: Q1 = A/(2-A) = 0.6, Q2 = 2A²/(1+A) = 0.642857,
    # variance (A(1-A) + 99(Q1 - A²) + 99(Q2 - A²)) / 10⁴ = (0.1875 + 3.7125 + 7.9554) / 10⁴, error 0.0344.
    # Their model: exponential scores, here with rates 1 and 3, so that A = 3 / (1 + 3).
    quantiles = -np.log((np.arange(100) + 0.5) / 100)
    found = auc(patients(quantiles.tolist(), (quantiles / 3).tolist()))
    assert found.value == pytest.approx(0.75, abs=0.005)
    assert (found.high - found.low) / (2 * 1.96) == pytest.approx(0.0344, abs=0.003)


def test_auc_of_separate_groups_and_of_too_few():
    assert auc(patients([0.9, 0.8], [0.1, 0.2])) == Estimate(1.0, 1.0, 1.0, 4, 4)
    assert auc(patients([0.9], [0.1, 0.95])) == Estimate(0.5, None, None, 3, 3)
    assert auc(patients([0.9, 0.8], [])) == Estimate(None, None, None, 2, 2)
    assert auc(patients([], [0.8])) == Estimate(None, None, None, 1, 1)


def test_roc_of_one_kind_of_patient_is_none():
    assert roc(patients([0.9], [])) is None
    assert roc(patients([], [0.9])) is None


@given(tied_scores, tied_scores)
def test_roc_is_monotone_and_holds_the_auc(diseased, healthy):
    group = patients(diseased, healthy)
    curve = roc(group)
    assert (curve.sensitivity[0], curve.specificity[0]) == (0, 1)
    assert (curve.sensitivity[-1], curve.specificity[-1]) == (1, 0)
    assert (np.diff(curve.thresholds[1:]) < 0).all()
    assert (np.diff(curve.sensitivity) >= 0).all()
    assert (np.diff(curve.specificity) <= 0).all()
    area = np.trapezoid(curve.sensitivity, 1 - curve.specificity)
    assert auc(group, resamples=2).value == pytest.approx(area)
    for counts, sensitivity, specificity in zip(sweep(group), curve.sensitivity, curve.specificity, strict=True):
        assert (counts.sensitivity.value, counts.specificity.value) == (sensitivity, specificity)


@given(tied_scores, tied_scores)
def test_auc_is_blind_to_the_scale_and_mirrors(diseased, healthy):
    found = auc(patients(diseased, healthy), resamples=20)
    bent = auc(patients([np.exp(s) for s in diseased], [np.exp(s) for s in healthy]), resamples=20)
    assert bent == found
    swapped = auc(patients([-s for s in diseased], [-s for s in healthy]), resamples=2)
    assert swapped.value == pytest.approx(1 - found.value)


# --- operating points


def test_youden_worked_by_hand():
    # Sensitivity + specificity is largest at 0.5: 0.75 + 5/6.
    assert choose_threshold(TEN) == 0.5


def test_highest_sensitivity_at_a_specificity():
    assert choose_threshold(TEN, min_specificity=1.0) == 0.9
    assert choose_threshold(TEN, min_specificity=5 / 6) == 0.5
    assert choose_threshold(TEN, min_specificity=0.5) == 0.5  # 0.4 and 0.3 find no more, and alarm more
    assert choose_threshold(TEN, min_specificity=0.3) == 0.2
    assert choose_threshold(TEN, min_specificity=0.0) == 0.2


def test_a_specificity_met_exactly_counts():
    twenty = patients([0.5], [0.5, *[0.1] * 19])
    assert choose_threshold(twenty, min_specificity=0.95) == 0.5


def test_of_equal_thresholds_the_highest():
    # 0.9: 1/3 + 1; 0.6: 2/3 + 2/3; 0.3: 1 + 1/3. All 4/3.
    assert choose_threshold(patients([0.9, 0.6, 0.3], [0.6, 0.3, 0.1])) == 0.9
    # 0.9: 1/3 + 8/9; 0.5: 2/3 + 5/9. Both 11/9 on paper, in floating point the second is larger in the last bit.
    assert choose_threshold(patients([0.9, 0.5, 0.01], [0.95, *[0.5] * 3, *[0.05] * 5])) == 0.9


def test_useless_scores_call_nobody_positive():
    assert choose_threshold(patients([0.1], [0.9])) == inf
    assert choose_threshold(patients([0.1], [0.9]), min_specificity=1.0) == inf


def test_chosen_on_one_split_applied_to_another():
    test_split = patients([0.7, 0.45], [0.6, 0.1])
    found = at_threshold(test_split, choose_threshold(TEN))
    assert (found.threshold, found.true_positives, found.false_positives) == (0.5, 1, 1)


def test_choosing_needs_both_kinds_and_a_share():
    with pytest.raises(UsageError, match="1 of 1 patients are diseased"):
        choose_threshold(patients([0.9], []))
    with pytest.raises(UsageError, match="0 of 2 patients"):
        choose_threshold(patients([], [0.9, 0.8]))
    for share in (-0.1, 95, float("nan")):
        with pytest.raises(ConfigError, match="min_specificity"):
            choose_threshold(TEN, min_specificity=share)


@given(tied_scores, tied_scores, st.floats(0, 1))
def test_the_chosen_point_keeps_the_specificity_and_none_is_better(diseased, healthy, share):
    group = patients(diseased, healthy)
    chosen = at_threshold(group, choose_threshold(group, min_specificity=share))
    assert chosen.specificity.value >= share
    allowed = [counts for counts in sweep(group) if counts.specificity.value >= share]
    assert chosen.sensitivity.value == max(counts.sensitivity.value for counts in allowed)


# --- lesions


def true(diameter_mm: float, score: float | None, hit: bool | None = None) -> TrueLesion:
    found = score is not None if hit is None else hit
    return TrueLesion(1, 1.0, diameter_mm, diameter_mm, stratum_of(diameter_mm), found, 0.5, 0.5, score, (1,) * found)


def finding(score: float | None, right: bool) -> PredictedLesion:
    return PredictedLesion(1, 1.0, 5.0, score, (1,) if right else (), not right)


SCANS = (
    LesionMatch((true(4, 0.9), true(12, 0.6)), (finding(0.9, True), finding(0.6, True), finding(0.7, False))),
    LesionMatch((true(8, None), true(25, 0.3)), (finding(0.3, True), finding(0.3, False))),
    LesionMatch((), (finding(0.8, False),)),
    LesionMatch((), ()),
    LesionMatch((), ()),
)


def test_froc_worked_by_hand():
    curve = froc(SCANS)
    assert (curve.lesions, curve.scans) == (4, 5)
    assert curve.thresholds.tolist() == [inf, 0.9, 0.8, 0.7, 0.6, 0.3]
    assert curve.sensitivity.tolist() == [0, 0.25, 0.25, 0.25, 0.5, 0.75]  # the missed one is never found
    assert curve.false_positives_per_scan.tolist() == [0, 0, 0.2, 0.4, 0.4, 0.6]
    assert [curve.sensitivity_at(rate) for rate in (0, 0.2, 0.4, 0.59, 0.6, 8)] == [0.25, 0.25, 0.5, 0.5, 0.75, 0.75]


def test_froc_without_lesions_or_findings():
    assert froc([]) is None
    assert froc([LesionMatch((), (finding(0.5, False),))]) is None
    curve = froc([LesionMatch((true(4, None),), ())])
    assert (curve.thresholds.tolist(), curve.sensitivity.tolist()) == ([inf], [0.0])
    assert curve.sensitivity_at(1.0) == 0.0


def test_froc_needs_scores():
    with pytest.raises(UsageError, match="no score"):
        froc([LesionMatch((true(4, None, hit=True),), (finding(None, True),))])


def test_strata_worked_by_hand():
    assert lesion_sensitivity(SCANS) == {
        "all": wilson(3, 4),
        "0-5 mm": wilson(1, 1),
        "5-10 mm": wilson(0, 1),
        "10-20 mm": wilson(1, 1),
        "20+ mm": wilson(1, 1),
    }


def test_strata_at_a_threshold():
    found = lesion_sensitivity(SCANS, threshold=0.6)
    assert (found["all"], found["10-20 mm"], found["20+ mm"]) == (wilson(2, 4), wilson(1, 1), wilson(0, 1))


def test_strata_without_lesions_are_all_there():
    found = lesion_sensitivity([LesionMatch((), ())])
    assert list(found) == ["all", "0-5 mm", "5-10 mm", "10-20 mm", "20+ mm"]
    assert set(found.values()) == {Proportion(0, 0, None, None, None)}


def test_strata_at_a_threshold_need_scores():
    scans = [LesionMatch((true(4, None, hit=True),), (finding(None, True),))]
    assert lesion_sensitivity(scans)["all"].count == 1
    with pytest.raises(UsageError, match="no score"):
        lesion_sensitivity(scans, threshold=0.5)
