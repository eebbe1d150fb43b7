"""From numbers to verdicts. The rule comes first, the number second.

An *ordering* is supported when its 95 % bootstrap interval lies wholly on the claimed side,
contradicted when wholly on the other, else inconclusive. An *identity* holds when its errors, all
or a share of them, stay within a tolerance, both declared beforehand. A claim of several parts is
supported when all of them are, contradicted when one of them is.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from lib.evaluation.correlation import rank_correlation

Verdict = Literal["supported", "contradicted", "inconclusive"]
LEVEL = 0.95
DRAWS = 10_000


@dataclass(frozen=True)
class Finding:
    """What was measured and what it says: ``rule`` is the sentence fixed before the number."""

    verdict: Verdict
    estimate: float
    interval: tuple[float, float]
    n: int
    unit: str
    rule: str
    threshold: float = 0.0  # what the rule holds the interval (or the error) against


def bootstrap(
    values: ArrayLike,
    statistic: Callable[..., np.ndarray] = np.mean,
    *,
    seed: int = 0,
    draws: int = DRAWS,
) -> tuple[float, tuple[float, float]]:
    """The statistic and its 95 % percentile interval over resampled rows of ``values``.

    ``statistic(rows, axis=0)`` reduces the first axis. One value gives an interval of no width;
    raises ``ValueError`` for none at all, NaN and infinity.
    """
    rows = np.asarray(values, dtype=float)
    if len(rows) == 0:
        raise ValueError("nothing to resample: no values")
    if not np.isfinite(rows).all():
        raise ValueError("values hold NaN or infinity: drop and count them before resampling")
    random = np.random.default_rng(seed)
    chunks = max(1, len(rows) * draws // 20_000_000)
    samples = [
        statistic(rows[random.integers(0, len(rows), (len(rows), draws // chunks))], axis=0)
        for _ in range(chunks)
    ]
    low, high = np.quantile(np.concatenate(samples), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(statistic(rows, axis=0)), (float(low), float(high))


def student(values: ArrayLike) -> tuple[float, float]:
    """Student's 95 % interval of the mean, NaN left out: m -+ t s / sqrt(n).

    Between a few trainings or masks the bootstrap's is too narrow. One value has no width.
    """
    rows = np.asarray(values, dtype=float).ravel()
    rows = rows[~np.isnan(rows)]
    if len(rows) < 2:
        return float(rows.mean()), float(rows.mean())
    half = stats.t.ppf((1 + LEVEL) / 2, len(rows) - 1) * rows.std(ddof=1) / math.sqrt(len(rows))
    return float(rows.mean() - half), float(rows.mean() + half)


def ordering(
    differences: ArrayLike,
    rule: str,
    *,
    above: float = 0.0,
    unit: str = "",
    seed: int = 0,
) -> Finding:
    """Is the mean of paired ``differences`` (one per image or training) above ``above``?

    Write the difference so that the claim says *greater*: to claim that a is below b, pass b - a.
    """
    estimate, interval = bootstrap(differences, seed=seed)
    low, high = interval
    verdict: Verdict = "inconclusive"
    if len(differences) > 1 and low > above:
        verdict = "supported"
    elif len(differences) > 1 and high < above:
        verdict = "contradicted"
    return Finding(verdict, estimate, interval, len(differences), unit, rule, above)


def identity(
    errors: ArrayLike,
    rule: str,
    *,
    tolerance: float,
    share: float = 1.0,
    unit: str = "",
) -> Finding:
    """Does the given ``share`` of ``errors`` stay within ``tolerance``?

    The estimate is the largest error of that share, the interval its range. Less than 1 is for
    networks with kinks: where two paths tie, rounding decides which gradient is taken.
    """
    size = np.sort(np.abs(np.asarray(errors, dtype=float)).ravel())
    if len(size) == 0 or np.isnan(size).any():
        raise ValueError("an identity needs errors that are numbers")
    if not 0 < share <= 1:
        raise ValueError(f"share must lie in (0, 1], not {share}")
    low, high = float(size[0]), float(size[math.ceil(share * len(size) - 1e-9) - 1])
    verdict: Verdict = "supported" if high <= tolerance else "contradicted"
    return Finding(verdict, high, (low, high), len(size), unit, rule, tolerance)


def all_of(parts: Sequence[Finding], rule: str) -> Finding:
    """A claim of several parts; its numbers are those of the part that decides it."""
    for verdict in ("contradicted", "inconclusive", "supported"):
        deciding = [part for part in parts if part.verdict == verdict]
        if deciding:
            weakest = min(deciding, key=lambda part: part.estimate / (_width(part) or 1.0))
            return replace(weakest, rule=rule)
    raise ValueError("a claim needs at least one part")


def _width(part: Finding) -> float:
    return part.interval[1] - part.interval[0]


def undecided(rule: str, *, unit: str = "") -> Finding:
    """The finding of a claim that the data at hand cannot speak to (no boxes, say): n = 0."""
    return Finding("inconclusive", float("nan"), (float("nan"), float("nan")), 0, unit, rule)


def goes_together(
    x: ArrayLike,
    y: ArrayLike,
    rule: str,
    *,
    sign: int = 1,
    unit: str = "rank correlation",
    seed: int = 0,
) -> Finding:
    """Is Spearman's correlation above 0 (``sign=-1``: below 0)? The estimate keeps its own sign.

    The interval is a 95 % bootstrap over pairs. Fewer than 8 pairs leave it undecided.
    """
    pairs = np.column_stack([x, y]).astype(float)
    estimate, (low, high) = bootstrap(pairs, rank_correlation, seed=seed)
    verdict = "inconclusive"
    if len(pairs) >= 8 and min(sign * low, sign * high) > 0:
        verdict = "supported"
    elif len(pairs) >= 8 and max(sign * low, sign * high) < 0:
        verdict = "contradicted"
    return Finding(verdict, estimate, (low, high), len(pairs), unit, rule)
