"""Do two measurements go together?"""

import numpy as np
from scipy.stats import rankdata


def correlation(rows: np.ndarray, axis: int = 0) -> np.ndarray | float:
    """Pearson's correlation of ``rows[..., 0]`` and ``rows[..., 1]`` along the first axis.

    0 where one of the two does not vary.
    """
    centered = rows - rows.mean(axis, keepdims=True)
    x, y = centered[..., 0], centered[..., 1]
    size = np.sqrt((x**2).sum(axis) * (y**2).sum(axis))
    return (x * y).sum(axis) / np.where(size > 1e-300, size, np.inf)


def rank_correlation(rows: np.ndarray, axis: int = 0) -> np.ndarray | float:
    """Spearman's: the same of the ranks, ties sharing theirs."""
    return correlation(rankdata(rows, axis=axis), axis)


def slope(rows: np.ndarray, axis: int = 0) -> np.ndarray | float:
    """The slope of the least-squares line of ``rows[..., 1]`` on ``rows[..., 0]``."""
    centered = rows - rows.mean(axis, keepdims=True)
    x, y = centered[..., 0], centered[..., 1]
    spread = (x**2).sum(axis)
    return (x * y).sum(axis) / np.where(spread > 1e-300, spread, np.inf)
