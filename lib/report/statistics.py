"""The intervals and tests behind every verdict: closed form, no draws, no seed.

A mean m of n independent values with standard error se = s / sqrt(n) and skewness g (1/n moments)
has on each side the wider of Student's t and Hall's (1992) skewness-corrected t. With
k = g / sqrt(n) and h(t) = 3/k (cbrt(1 + k (t - k/6)) - 1) the limits are

    m - max(t, h(t)) se    and    m - min(-t, h(-t)) se.

Two independent groups: Welch's t, each group's own reach guarded in this way before the two are
added in quadrature. Shares are exact binomial. The plans at the end answer what an undecided
number leaves open: how many units would decide it, and what these could have shown.
"""

from bisect import bisect_left
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import optimize, special, stats

LEVEL = 0.95
LEAST = 10  # independent units from which a mean may decide
POWER = 0.8
NEVER = 10_000  # no more units than this are ever asked for
Numbers = np.ndarray | float


@dataclass(frozen=True)
class Mean:
    """A mean, or the difference of two. Fields may be arrays: one mean for each of their entries.

    ``se`` and ``skew`` (k) have one row per group, (G, ...), the subtracted group's k negated.
    """

    estimate: Numbers
    se: Numbers
    skew: Numbers
    df: Numbers
    sd: Numbers  # in which the standardized effect is counted
    n: int  # units; of the smaller group if there are two

    def interval(self, level: float = LEVEL) -> tuple[Numbers, Numbers]:
        """Both limits, each missing the mean in (1 - level) / 2 of all samples."""
        t = special.stdtrit(self.df, (1 + level) / 2)
        return self.estimate - self._reach(t, 1), self.estimate + self._reach(t, -1)

    def p_between(self, low: float, high: float) -> tuple[float, float]:
        """One-sided p that the mean lies between two thresholds, and that it lies beyond one.

        The least levels at which the limits exclude them (one mean, no arrays; one threshold may
        be infinite).
        """
        t = min(self._t(low), -self._t(high))
        return float(special.stdtr(self.df, -t)), float(special.stdtr(self.df, t))

    def _t(self, threshold: float) -> float:
        """The t whose limit reaches ``threshold``; > 0 where the estimate is above it."""
        side = 1 if self.estimate > threshold else -1
        distance = abs(self.estimate - threshold)
        if distance <= self._reach(0.0, side) or np.isinf(distance):
            return side * distance if np.isinf(distance) else 0.0
        # the guard only widens: Student's t is the upper end for the root
        student = distance / np.sqrt(np.square(self.se).sum(0)) * (1 + 1e-9)
        return side * optimize.brentq(lambda t: self._reach(t, side) - distance, 0, student)

    def _reach(self, t, side: int) -> Numbers:
        """Distance from the estimate to its lower (``side=1``) or upper (-1) limit."""
        return np.sqrt(np.square(np.maximum(t, hall(t, side * self.skew)) * self.se).sum(0))


def hall(t: Numbers, k: Numbers) -> Numbers:
    """Hall's (1992) correction of Student's ``t`` for a mean of skewness ``k``."""
    symmetric = np.abs(k) < 1e-6
    k = np.where(symmetric, 1.0, k)
    return np.where(symmetric, t, 3 / k * (np.cbrt(1 + k * (t - k / 6)) - 1))


def mean_of(values: ArrayLike) -> Mean:
    """The mean over the first axis of ``values``, (n, ...); ``sd`` 0 if none beyond rounding."""
    values = np.asarray(values, dtype=float)
    n, estimate, sd = len(values), values.mean(0), values.std(0)
    sd = np.where(sd > 1e-12 * np.abs(estimate) + 1e-100, sd, 0.0)
    third = (((values - estimate) / np.where(sd > 0, sd, 1.0)) ** 3).mean(0)
    df = max(n - 1.0, 1.0)
    sd = sd * (n / df) ** 0.5
    return Mean(estimate, sd[None] / n**0.5, third[None] / n**0.5, np.array(df), sd, n)


def difference_of(a: ArrayLike, b: ArrayLike) -> Mean:
    """Mean of group ``a`` - mean of group ``b`` (first axes), Welch's degrees of freedom."""
    a, b = mean_of(a), mean_of(b)
    se = np.concatenate([a.se, b.se])
    variance, own = np.square(se), np.array([a.df, b.df]).reshape(-1, *[1] * (se.ndim - 1))
    with np.errstate(invalid="ignore"):  # no spread in either group
        df = variance.sum(0) ** 2 / (variance**2 / own).sum(0)
    sd = np.sqrt((a.sd**2 + b.sd**2) / 2)
    return Mean(
        a.estimate - b.estimate, se, np.concatenate([a.skew, -b.skew]), df, sd, min(a.n, b.n)
    )


def _critical(n, alpha: float) -> tuple[Numbers, Numbers]:
    """Center and spread, in units of the noncentrality, of a guarded t test's decision.

    Student's t is widened by what the guard costs on average where the truth is normal: there
    k ~ N(0, 6 / n^2), and h(t) - t = -k (2 t^2 + 1) / 6 to first order.
    """
    df = np.asarray(n) - 1.0
    t = special.stdtrit(df, 1 - alpha)
    t = t + (2 * t**2 + 1) / 6 * np.sqrt(6) / n / np.sqrt(2 * np.pi)
    return t * (1 - 1 / (4 * df)), np.sqrt(1 + t**2 / (2 * df))


def needed_n(*effects: float, alpha: float = (1 - LEVEL) / 2) -> int | None:
    """Least n >= 10 that decides, with 80 % power, a mean ``effects`` sd inside each of its bounds.

    Returns ``None`` beyond 10,000: never here.
    """

    def enough(n: int) -> bool:
        center, spread = _critical(n, alpha)
        misses = special.ndtr((center - np.array(effects) * n**0.5) / spread)
        return bool(misses.sum() <= 1 - POWER)

    n = bisect_left(range(NEVER + 1), True, lo=LEAST, key=enough)
    return n if n <= NEVER else None


def smallest_effect(n: int, bounds: int = 1, alpha: float = (1 - LEVEL) / 2) -> float:
    """How many sd inside each of its ``bounds`` a mean must lie for ``n`` units to show it."""
    center, spread = _critical(n, alpha)
    return float((center + special.ndtri(1 - (1 - POWER) / bounds) * spread) / n**0.5)


def needed_share(share: float, above: float, alpha: float = (1 - LEVEL) / 2) -> int | None:
    """Least n from which on an exact binomial test tells ``share`` from ``above`` (80 % power)."""
    n = np.arange(1, NEVER + 1)
    short = np.flatnonzero(stats.binom.sf(stats.binom.isf(alpha, n, above), n, share) < POWER)
    least = int(short[-1]) + 2 if len(short) else 1
    return least if least <= NEVER else None


def smallest_share(n: int, above: float, alpha: float = (1 - LEVEL) / 2) -> float | None:
    """The share that ``n`` units would have told from ``above`` with 80 % power, if any."""
    successes = stats.binom.isf(alpha, n, above) + 1
    return float(stats.beta.ppf(POWER, successes, n - successes + 1)) if successes <= n else None
