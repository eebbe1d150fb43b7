r"""Integrated Gradients: the gradient averaged along a straight line from a baseline.

Sundararajan, Taly, Yan, *Axiomatic attribution for deep networks*, 2017, equations 1 and 3.
"""

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from lib import copies
from lib.copies.baselines import resolve_baseline

Rule = Callable[[int], tuple[np.ndarray, np.ndarray]]


def midpoint(steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Nodes in the middle of equal intervals: error O(1/steps^2)."""
    return (np.arange(steps) + 0.5) / steps, np.full(steps, 1 / steps)


def right_riemann(steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Nodes at the right ends, the paper's equation 3: error O(1/steps)."""
    return (np.arange(steps) + 1.0) / steps, np.full(steps, 1 / steps)


def trapezoid(steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Both ends included at half weight; one step is the midpoint rule: error O(1/steps^2)."""
    if steps == 1:
        return midpoint(1)
    weights = np.full(steps, 1 / (steps - 1))
    weights[[0, -1]] /= 2
    return np.linspace(0, 1, steps), weights


def gauss_legendre(steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Exact for polynomials in alpha up to degree 2 steps - 1."""
    nodes, weights = np.polynomial.legendre.leggauss(steps)
    return (nodes + 1) / 2, weights / 2


RULES: dict[str, Rule] = {
    "midpoint": midpoint,
    "trapezoid": trapezoid,
    "right_riemann": right_riemann,
    "gauss_legendre": gauss_legendre,
}


def integrated_gradients(
    classifier,
    images: Float[Tensor, "n c h w"],
    targets: Int[Tensor, " n"],
    *,
    steps: int = 50,
    rule: str = "midpoint",
    baseline: str | float | Tensor = "black",
    batch_size: int | None = None,
) -> Float[Tensor, "n c h w"]:
    r"""$A_i=(x_i-x'_i)\sum_k w_k\,\partial_i S_c\big(x'+\alpha_k(x-x')\big)$, in logits.

    ``steps`` gradients per image at the nodes $\alpha_k$ and weights $w_k$ of ``rule`` (see
    ``RULES``; every rule's weights sum to 1). ``baseline`` is $x'$: ``black``, ``white``, ``mean``
    (each image's mean color), ``blur``, a gray level in [0, 1], or a tensor that broadcasts to the
    images. Completeness: $\sum_i A_i = S_c(x) - S_c(x')$ up to the rule's error.

    Raises ``ValueError`` for steps < 1, an unknown rule, or a baseline that does not fit.
    """
    engine = copies.Engine(classifier, images, targets, batch_size, "integrated gradients")
    if steps < 1:
        raise ValueError(f"steps must be at least 1, not {steps}")
    if rule not in RULES:
        raise ValueError(f"rule {rule!r} is unknown; choose one of: {', '.join(RULES)}")
    nodes, weights = (torch.from_numpy(part).to(engine.pixels) for part in RULES[rule](steps))
    start = resolve_baseline(baseline, images.detach()).to(engine.pixels)
    path = engine.pixels - start

    def on_path(row: Tensor, draw: Tensor) -> Tensor:
        return start[row] + nodes[draw].view(-1, 1, 1, 1) * path[row]

    return (path * engine.mean_gradient(on_path, weights)).to(images.device)
