"""Do two measurements go together? Correlations with an interval, as findings."""

from collections.abc import Sequence

import numpy as np
from scipy.stats import rankdata

from lib.report.claims import Finding, bootstrap


def correlation(rows: np.ndarray, axis: int = 0) -> np.ndarray:
    """Pearson's correlation of ``rows[..., 0]`` and ``rows[..., 1]`` along the first axis.

    0 where one of the two does not vary.
    """
    centered = rows - rows.mean(axis, keepdims=True)
    x, y = centered[..., 0], centered[..., 1]
    size = np.sqrt((x**2).sum(axis) * (y**2).sum(axis))
    return (x * y).sum(axis) / np.where(size > 1e-300, size, np.inf)


def rank_correlation(rows: np.ndarray, axis: int = 0) -> np.ndarray:
    """Spearman's: the same of the ranks, ties sharing theirs."""
    return correlation(rankdata(rows, axis=axis), axis)


def slope(rows: np.ndarray, axis: int = 0) -> np.ndarray:
    """The slope of the least-squares line of ``rows[..., 1]`` on ``rows[..., 0]``."""
    centered = rows - rows.mean(axis, keepdims=True)
    x, y = centered[..., 0], centered[..., 1]
    spread = (x**2).sum(axis)
    return (x * y).sum(axis) / np.where(spread > 1e-300, spread, np.inf)


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
