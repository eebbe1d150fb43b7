"""Do two measurements go together?"""

import numpy as np


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
    return correlation(ranks(rows, axis), axis)


def ranks(values: np.ndarray, axis: int = -1) -> np.ndarray:
    """The rank of each value along an axis, from 0, ties sharing their mean: float64.

    SciPy's ``rankdata`` less 1, in a third of its time: an order of equals does not matter here.
    There must be no NaN, which would rank above all numbers, one NaN above another.
    """
    lines = np.moveaxis(values, axis, -1)
    found = np.empty(lines.shape)
    for place in np.ndindex(lines.shape[:-1]):
        order = lines[place].argsort()
        ordered = lines[place][order]
        starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1], True])
        found[place][order] = np.repeat((starts[1:] + starts[:-1] - 1) / 2, np.diff(starts))
    return np.moveaxis(found, -1, axis)


def slope(rows: np.ndarray, axis: int = 0) -> np.ndarray | float:
    """The slope of the least-squares line of ``rows[..., 1]`` on ``rows[..., 0]``."""
    centered = rows - rows.mean(axis, keepdims=True)
    x, y = centered[..., 0], centered[..., 1]
    spread = (x**2).sum(axis)
    return (x * y).sum(axis) / np.where(spread > 1e-300, spread, np.inf)
