"""Statistics: textbook values, properties, and what happens with nothing or with one."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from voxicon.errors import UsageError
from voxicon.evaluate.statistics import (
    Estimate,
    PairedComparison,
    Proportion,
    cluster_bootstrap,
    holm,
    paired_wilcoxon,
    percentile_interval,
    wilson,
)

finite = st.floats(-1e3, 1e3)

# --- shares


def test_wilson_worked_by_hand():
    # z = 1.96, 8 of 10: center (0.8 + 0.19207) / 1.38415 = 0.71674,
    # half width 1.96 / 1.38415 · √(0.016 + 0.0096036) = 0.22658.
    found = wilson(8, 10)
    assert (found.count, found.total, found.value) == (8, 10, 0.8)
    assert (found.low, found.high) == pytest.approx((0.49016, 0.94332), abs=1e-5)


def test_wilson_at_the_ends():
    # 0 of n: from 0 to z² / (n + z²); for n = 10: 3.8415 / 13.8415.
    none, every = wilson(0, 10), wilson(10, 10)
    assert (none.low, none.high) == (0.0, pytest.approx(0.277533, abs=1e-5))
    assert (every.low, every.high) == (pytest.approx(1 - 0.277533, abs=1e-5), 1.0)
    # Here rounding alone would give -7e-18 and 1 + 2e-16.
    assert (wilson(0, 27).low, wilson(16, 16).high) == (0.0, 1.0)


def test_wilson_of_nothing():
    assert wilson(0, 0) == Proportion(0, 0, None, None, None)


@given(st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_holds_the_share_and_mirrors(pair):
    count, total = pair
    found, mirrored = wilson(count, total), wilson(total - count, total)
    assert 0 <= found.low <= count / total <= found.high <= 1
    assert found.low == pytest.approx(1 - mirrored.high)
    assert wilson(count, total, level=0.5).high <= found.high


def test_wilson_refusals():
    for count, total in ((-1, 3), (4, 3), (0, -1)):
        with pytest.raises(UsageError, match="no share"):
            wilson(count, total)
    for level in (0.0, 1.0, 95.0):
        with pytest.raises(UsageError, match="level"):
            wilson(1, 2, level)


# --- means


def test_bootstrap_mean_and_interval_of_two_patients():
    # Draws of two patients: both a (mean 0), both b (mean 1), or one each (0.5): 0 and 1 come up a quarter each.
    assert cluster_bootstrap([0, 0, 1, 1], ["a", "a", "b", "b"]) == Estimate(0.5, 0.0, 1.0, 4, 2)


def test_patients_are_drawn_with_all_their_values():
    # As four independent values the interval would be narrower than 0 to 1.
    apart = cluster_bootstrap([0, 0, 0, 0, 1, 1, 1, 1], list("abcdefgh"))
    together = cluster_bootstrap([0, 0, 0, 0, 1, 1, 1, 1], list("aaaabbbb"))
    assert apart.value == together.value == 0.5
    assert apart.high - apart.low < together.high - together.low
    assert (apart.patients, together.patients) == (8, 2)


def test_the_mean_is_of_values_not_of_patients():
    # a: 1, 1, 1; b: 0. Mean of values 3/4, of patients 1/2.
    assert cluster_bootstrap([1, 1, 1, 0], ["a", "a", "a", "b"]).value == 0.75


def test_bootstrap_width_is_that_of_the_normal_interval():
    # 400 patients, half 0 and half 1: standard error 0.5 / 20 = 0.025, so 0.5 ± 1.96 · 0.025 = 0.451 to 0.549.
    found = cluster_bootstrap([0.0, 1.0] * 200, [str(i) for i in range(400)])
    assert (found.low, found.high) == pytest.approx((0.451, 0.549), abs=0.004)


def test_bootstrap_of_nothing_and_of_one_patient():
    assert cluster_bootstrap([], []) == Estimate(None, None, None, 0, 0)
    assert cluster_bootstrap([0.5, 0.7], ["a", "a"]) == Estimate(0.6, None, None, 2, 1)


@given(st.lists(st.tuples(finite, st.sampled_from("abcd")), min_size=1, max_size=12), st.randoms())
def test_bootstrap_ignores_order_and_holds_values(rows, random):
    found = cluster_bootstrap([v for v, _ in rows], [p for _, p in rows], resamples=50)
    assert found == cluster_bootstrap([v for v, _ in rows], [p for _, p in rows], resamples=50)
    random.shuffle(rows)
    shuffled = cluster_bootstrap([v for v, _ in rows], [p for _, p in rows], resamples=50)
    assert shuffled.value == pytest.approx(found.value, abs=1e-9)
    if found.low is not None:
        assert (shuffled.low, shuffled.high) == pytest.approx((found.low, found.high), abs=1e-9)
        lowest, highest = min(v for v, _ in rows), max(v for v, _ in rows)
        assert lowest - 1e-9 <= found.low <= found.high <= highest + 1e-9


def test_another_seed_draws_otherwise():
    values, patients = [0.1, 0.5, 0.6, 0.9, 0.95], list("abcde")
    assert cluster_bootstrap(values, patients, resamples=20) != cluster_bootstrap(
        values, patients, resamples=20, seed=7
    )


def test_percentile_interval():
    assert percentile_interval([float(i) for i in range(101)], level=0.9) == pytest.approx((5.0, 95.0))


def test_bootstrap_refusals():
    with pytest.raises(UsageError, match="2 values for 1 patient"):
        cluster_bootstrap([1.0, 2.0], ["a"])
    for bad in ([float("nan")], [float("inf")], [[1.0]]):
        with pytest.raises(UsageError, match="finite numbers"):
            cluster_bootstrap(bad, ["a"])
    with pytest.raises(UsageError, match="level"):
        cluster_bootstrap([1.0], ["a"], level=1.0)


# --- pairs


def test_wilcoxon_worked_by_hand():
    # Differences 1, 2, 3, 4, -5: ranks 1 to 5, W+ = 10, W- = 5. Effect (10 - 5) / 15. Exactly, 32 sign patterns:
    # W- <= 5 has 1, 1, 1, 2, 2, 3 patterns for sums 0 to 5, ten in all; two-sided 2 · 10 / 32.
    found = paired_wilcoxon([2, 4, 6, 8, 0], [1, 2, 3, 4, 5])
    assert (found.n, found.median_difference) == (5, 2.0)
    assert found.effect_size == pytest.approx(1 / 3)
    assert found.p_value == pytest.approx(0.625)


def test_pairs_without_difference_carry_no_rank():
    with_zeros = paired_wilcoxon([2, 4, 6, 8, 0, 7, 7, 7, 7], [1, 2, 3, 4, 5, 7, 7, 7, 7])
    assert with_zeros.p_value == pytest.approx(0.625)
    assert with_zeros.effect_size == pytest.approx(1 / 3)
    assert (with_zeros.n, with_zeros.median_difference) == (9, 0.0)


def test_nothing_differs_and_nothing_there():
    assert paired_wilcoxon([0.5, 0.6], [0.5, 0.6]) == PairedComparison(2, 0.0, 0.0, 1.0)
    assert paired_wilcoxon([], []) == PairedComparison(0, None, None, None)
    assert paired_wilcoxon([1.0], [0.0]) == PairedComparison(1, 1.0, 1.0, 1.0)


@settings(max_examples=25)  # with ties scipy tries every sign of few pairs
@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=9))
def test_wilcoxon_changes_sign_when_the_methods_are_swapped(pairs):
    one, other = [a for a, _ in pairs], [b for _, b in pairs]
    found, swapped = paired_wilcoxon(one, other), paired_wilcoxon(other, one)
    assert found.median_difference == -swapped.median_difference
    assert found.effect_size == pytest.approx(-swapped.effect_size)
    assert found.p_value == pytest.approx(swapped.p_value)
    assert -1 <= found.effect_size <= 1
    assert 0 <= found.p_value <= 1


def test_wilcoxon_refusals():
    with pytest.raises(UsageError, match="2 scores against 1"):
        paired_wilcoxon([1.0, 2.0], [1.0])
    with pytest.raises(UsageError, match="second: expected a list of finite"):
        paired_wilcoxon([1.0], [float("nan")])


# --- several tests


def test_holm_worked_by_hand():
    # Sorted 0.01, 0.02, 0.03, 0.04, times 4, 3, 2, 1: 0.04, 0.06, 0.06, 0.04, none below a smaller one's.
    assert holm([0.04, 0.01, 0.03, 0.02]) == pytest.approx((0.06, 0.04, 0.06, 0.06))
    assert holm([0.6, 0.5]) == (1.0, 1.0)
    assert holm([0.03]) == (0.03,)
    assert holm([]) == ()


@given(st.lists(st.floats(0, 1), max_size=12))
def test_holm_is_monotone_and_never_below_the_raw_value(raw):
    adjusted = holm(raw)
    assert all(p <= q <= 1 for p, q in zip(raw, adjusted, strict=True))
    ordered = [q for _, q in sorted(zip(raw, adjusted, strict=True))]
    assert ordered == sorted(ordered)
    if raw:
        assert min(adjusted) == min(1.0, min(raw) * len(raw))


def test_holm_refusals():
    for bad in (-0.1, 1.1, float("nan")):
        with pytest.raises(UsageError, match="p values"):
            holm([0.5, bad])
