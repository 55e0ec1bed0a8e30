"""What chance may have added: intervals of shares and means, paired comparison, many comparisons at once.

Scans of one patient are not independent, so patients are resampled, never scans. Everything random starts from a
fixed seed: the same numbers in give the same interval.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from voxicon.errors import UsageError

LEVEL = 0.95
RESAMPLES = 2000
"""Twice the least that percentiles need. Source: Efron and Tibshirani, An Introduction to the Bootstrap, 1993."""
SEED = 0


@dataclass(frozen=True)
class Proportion:
    """A share with its interval.

    Attributes:
        count: How many of them.
        total: Out of how many.
        value: count / total; None when total is 0, and so are the bounds.
        low: Lower bound of the Wilson interval, in [0, value].
        high: Upper bound, in [value, 1].
    """

    count: int
    total: int
    value: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Estimate:
    """A number estimated from patients, with its interval.

    Attributes:
        value: None when there is nothing to estimate it from.
        low: Lower bound of the bootstrap interval; None where one patient cannot tell how patients differ.
        high: Upper bound, None likewise.
        n: Number of values.
        patients: Number of patients they come from.
    """

    value: float | None
    low: float | None
    high: float | None
    n: int
    patients: int


@dataclass(frozen=True)
class PairedComparison:
    """Two methods on the same patients.

    Attributes:
        n: Number of pairs.
        median_difference: Median of first minus second; None without pairs.
        effect_size: Matched-pairs rank-biserial correlation in [-1, 1]: the share of rank sum in favor of the first
            minus that in favor of the second; 0.0 when no pair differs.
        p_value: Two-sided; 1.0 when no pair differs.
    """

    n: int
    median_difference: float | None
    effect_size: float | None
    p_value: float | None


def wilson(count: int, total: int, level: float = LEVEL) -> Proportion:
    """A share with its Wilson score interval, which stays inside [0, 1] and is honest for few cases.

    The cases are taken as independent: for lesions of the same patients it is too narrow.

    Source: Wilson, J Am Stat Assoc 22 (1927); recommended by Brown, Cai and DasGupta, Stat Sci 16 (2001).

    Raises:
        UsageError: Not 0 <= count <= total, or the level is not in (0, 1).
    """
    _check_level(level)
    if not 0 <= count <= total:
        raise UsageError(f"{count} of {total} is no share; expected 0 <= count <= total")
    if total == 0:
        return Proportion(0, 0, None, None, None)
    z = float(stats.norm.ppf((1 + level) / 2))
    share = count / total
    scale = 1 + z**2 / total
    center = (share + z**2 / (2 * total)) / scale
    half = z / scale * math.sqrt(share * (1 - share) / total + z**2 / (4 * total**2))
    # At 0 and at all of them one bound is the share itself; rounding would put it just beyond.
    return Proportion(count, total, share, max(0.0, min(center - half, share)), min(1.0, max(center + half, share)))


def cluster_bootstrap(
    values: ArrayLike,
    patient_ids: Sequence[str],
    level: float = LEVEL,
    resamples: int = RESAMPLES,
    seed: int = SEED,
) -> Estimate:
    """The mean of all values, with a percentile interval from resampling patients with all their values.

    Without values everything is None; with one patient the interval is. The order of the values does not matter.

    Source: Field and Welsh, Bootstrapping clustered data, J R Stat Soc B 69 (2007), the cluster bootstrap.

    Args:
        values: (N,) finite numbers; leave out what was not scored.
        patient_ids: Whose value each is.
        level: Share of the interval.
        resamples: How many draws of patients.
        seed: Start of the draws.

    Raises:
        UsageError: Lengths differ, a value is not finite, or the level is not in (0, 1).
    """
    _check_level(level)
    numbers = _finite(values, "values")
    if len(numbers) != len(patient_ids):
        raise UsageError(f"{len(numbers)} values for {len(patient_ids)} patient ids; give each value its patient")
    if not len(numbers):
        return Estimate(None, None, None, 0, 0)
    _, owner = np.unique(np.asarray(patient_ids, dtype=str), return_inverse=True)
    sums, counts = np.bincount(owner, weights=numbers), np.bincount(owner)
    n, mean = len(sums), float(sums.sum() / counts.sum())
    if n == 1:
        return Estimate(mean, None, None, len(numbers), 1)
    rng = np.random.default_rng(seed)
    draws = (rng.integers(n, size=n) for _ in range(resamples))
    means = [float(sums[drawn].sum() / counts[drawn].sum()) for drawn in draws]
    low, high = percentile_interval(means, level)
    return Estimate(mean, low, high, len(numbers), n)


def percentile_interval(draws: Sequence[float], level: float = LEVEL) -> tuple[float, float]:
    """The middle `level` of bootstrap draws."""
    low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def paired_wilcoxon(first: ArrayLike, second: ArrayLike) -> PairedComparison:
    """Wilcoxon's signed-rank test of two methods on the same cases.

    Pairs that do not differ count in the median but carry no rank. Give one pair per patient (a patient's mean, for
    several scans): the test takes pairs as independent.

    Source: Wilcoxon, Biometrics Bulletin 1 (1945), zeros dropped as there, by scipy (exact for few pairs); effect
        size: Kerby, The simple difference formula, Comprehensive Psychology 3 (2014).

    Args:
        first: (N,) finite scores of one method.
        second: (N,) finite scores of the other, same order.

    Raises:
        UsageError: Lengths differ or a value is not finite.
    """
    one, other = _finite(first, "first"), _finite(second, "second")
    if len(one) != len(other):
        raise UsageError(f"{len(one)} scores against {len(other)}: expected pairs; keep the cases both methods have")
    if not len(one):
        return PairedComparison(0, None, None, None)
    differences = one - other
    median = float(np.median(differences))
    ranked = differences[differences != 0]
    if not len(ranked):
        return PairedComparison(len(one), median, 0.0, 1.0)
    ranks = stats.rankdata(np.abs(ranked))
    effect = float((ranks * np.sign(ranked)).sum() / ranks.sum())
    return PairedComparison(len(one), median, effect, float(stats.wilcoxon(ranked).pvalue))


def holm(p_values: Sequence[float]) -> tuple[float, ...]:
    """P values adjusted for being several, in the order given; compare them with the level as they are.

    The smallest is multiplied by their number, the next by one less, and so on; none may fall below a smaller one
    nor rise above 1. No values give no values.

    Source: Holm, Scand J Stat 6 (1979).

    Raises:
        UsageError: A value is not in [0, 1].
    """
    raw = np.asarray(p_values, dtype=float)
    if not ((raw >= 0) & (raw <= 1)).all():
        raise UsageError(f"p values {list(p_values)}: expected numbers from 0 to 1; leave out tests that were not made")
    order = np.argsort(raw, kind="stable")
    adjusted = np.empty(len(raw))
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(raw[order] * np.arange(len(raw), 0, -1)))
    return tuple(adjusted.tolist())


def _finite(values: ArrayLike, what: str) -> NDArray[np.float64]:
    numbers = np.asarray(values, dtype=float)
    if numbers.ndim != 1 or not np.isfinite(numbers).all():
        raise UsageError(f"{what}: expected a list of finite numbers; leave out what was not scored")
    return numbers


def _check_level(level: float) -> None:
    if not 0 < level < 1:
        raise UsageError(f"level {level}: expected a share between 0 and 1, such as {LEVEL}")
