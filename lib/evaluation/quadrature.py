r"""How fast does Integrated Gradients converge with the number of steps?

One pass over a fine grid of the path serves every rule and step count whose nodes lie on that grid:
with $D$ intervals, the right Riemann sum of $m$ steps for $m$ dividing $D$, the trapezoid of $m+1$
nodes likewise, and the midpoint rule of $m$ steps for $2m$ dividing $D$.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor

from lib import copies
from lib.copies.baselines import resolve_baseline

GRID_RULES = ("right_riemann", "midpoint", "trapezoid")
METRICS = ("difference", "gap")


def grid_weights(rule: str, steps: int, intervals: int) -> np.ndarray:
    """The rule of ``steps`` intervals as weights on the ``intervals + 1`` nodes of the grid.

    The weights sum to 1. Raises ``ValueError`` when a node of the rule is not on the grid.
    """
    if rule not in GRID_RULES:
        raise ValueError(f"rule {rule!r} is unknown here; choose one of: {', '.join(GRID_RULES)}")
    if min(steps, intervals) < 1:
        raise ValueError(f"steps and intervals must be at least 1, not {steps} and {intervals}")
    stride, rest = divmod(intervals, steps if rule != "midpoint" else 2 * steps)
    if rest:
        raise ValueError(f"{rule} of {steps} steps does not lie on a grid of {intervals} intervals")
    weights = np.zeros(intervals + 1)
    if rule == "midpoint":
        weights[stride :: 2 * stride] = 1 / steps
    else:
        weights[stride::stride] = 1 / steps
    if rule == "trapezoid":
        weights[[0, -1]] = 0.5 / steps
    return weights


def on_grid(steps: Sequence[int], intervals: int) -> dict[tuple[str, int], np.ndarray]:
    """All rules and those step counts that lie on the grid, with their weights."""
    found = {}
    for rule in GRID_RULES:
        for m in steps:
            if m < 1 or intervals % (m if rule != "midpoint" else 2 * m) == 0:
                found[rule, m] = grid_weights(rule, m, intervals)
    return found


def convergence(
    classifier,
    images: Float[Tensor, "n c h w"],
    targets: Int[Tensor, " n"],
    *,
    steps: Sequence[int],
    intervals: int,
    reference: str = "trapezoid",
    baseline: str | float | Tensor = "black",
    batch_size: int | None = None,
) -> pd.DataFrame:
    r"""Error of Integrated Gradients by rule and number of steps, one row per image x rule x steps.

    ``difference`` is $\mathrm{mean}|A_m - A_D| / \mathrm{mean}|A_D|$, $A_D$ the rule ``reference``
    with all ``intervals`` steps of the grid; ``gap`` is the completeness error
    $|\sum_i A_m - (S(x)-S(x'))| / |S(x)-S(x')|$. Costs ``intervals + 1`` gradients per image. Step
    counts that are not on the grid for a rule are left out (see :func:`on_grid`).
    """
    engine = copies.Engine(classifier, images, targets, batch_size, "quadrature")
    pixels = engine.pixels
    rules = on_grid(steps, intervals)
    weights = np.stack([*rules.values(), grid_weights(reference, intervals, intervals)], 1)
    weights = torch.as_tensor(weights, dtype=pixels.dtype)
    start = resolve_baseline(baseline, images.detach()).to(pixels)
    path = pixels - start

    def point_on_path(row: Tensor, draw: Tensor) -> Tensor:
        alpha = (draw.to(pixels) / intervals).view(-1, 1, 1, 1)
        return start[row] + alpha * path[row]

    sums = torch.zeros(len(pixels), weights.shape[1], *pixels.shape[1:]).to(pixels)
    for batch in engine.run(point_on_path, intervals + 1, engine.gradient):
        for i in batch.row.unique().tolist():
            rows = batch.row == i
            weight = weights[batch.draw[rows]].to(pixels)
            used = weight.any(0)  # coarse rules have no node in most micro-batches
            part = weight[:, used].T @ batch.values[rows.to(pixels.device)].flatten(1)
            sums[i, used.nonzero().flatten()] += part.view(-1, *pixels.shape[1:])
    attributions = path[:, None] * sums
    rise = _rise(classifier, pixels, start, engine.targets)
    exact = attributions[:, -1:]
    difference = (attributions - exact).abs().mean((2, 3, 4)) / exact.abs().mean((2, 3, 4))
    gap = (attributions.sum((2, 3, 4)) - rise[:, None]).abs() / rise.abs()[:, None]
    index = pd.MultiIndex.from_tuples(
        [(i, rule, m) for i in range(len(pixels)) for rule, m in rules],
        names=["image", "rule", "steps"],
    )
    table = torch.stack([difference, gap], -1)[:, :-1].flatten(0, 1).cpu().numpy()
    return pd.DataFrame(table.astype(float), index, list(METRICS)).reset_index()


def _rise(classifier, pixels: Tensor, start: Tensor, classes: Tensor) -> Tensor:
    pairs = zip(pixels.split(1), start.split(1), strict=True)
    with torch.no_grad():
        gains = torch.cat([classifier(end) - classifier(begin) for end, begin in pairs])
    return copies.of_targets(gains, classes)


def slope(frame: pd.DataFrame, metric: str, *, least: int = 1, most: int | None = None) -> float:
    r"""The order of convergence: the slope of $\log$ error against $\log$ steps.

    Errors are averaged over images first; step counts outside ``least`` to ``most`` and errors of
    exactly zero are left out. Raises ``ValueError`` with fewer than two points.
    """
    mean = frame.groupby("steps")[metric].mean()
    mean = mean[(mean.index >= least) & (mean.index <= (most or mean.index.max())) & (mean > 0)]
    if len(mean) < 2:
        raise ValueError(f"a slope needs two step counts or more, found {len(mean)}")
    return float(np.polyfit(np.log(mean.index), np.log(mean.to_numpy()), 1)[0])
