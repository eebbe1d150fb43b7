"""From numbers to verdicts. The rule comes first, the number second.

An *ordering* is supported when its 95 % bootstrap interval lies wholly on the claimed side,
contradicted when wholly on the other, else inconclusive. An *identity* holds when its largest
error stays within a tolerance declared beforehand. A claim of several parts is supported when
all of them are, contradicted when one of them is.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

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


def bootstrap(
    values: Sequence[float] | np.ndarray,
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


def ordering(
    differences: Sequence[float] | np.ndarray,
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
    return Finding(verdict, estimate, interval, len(differences), unit, rule)


def identity(
    errors: Sequence[float] | np.ndarray, rule: str, *, tolerance: float, unit: str = ""
) -> Finding:
    """Does the largest of ``errors`` stay within ``tolerance``? The interval is their range."""
    size = np.abs(np.asarray(errors, dtype=float)).ravel()
    if len(size) == 0 or np.isnan(size).any():
        raise ValueError("an identity needs errors that are numbers")
    verdict: Verdict = "supported" if size.max() <= tolerance else "contradicted"
    return Finding(
        verdict, float(size.max()), (float(size.min()), float(size.max())), len(size), unit, rule
    )


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
    x: Sequence[float],
    y: Sequence[float],
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
