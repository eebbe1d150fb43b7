"""How fast does Integrated Gradients converge with the number of steps?

The gradients at all nodes of all rules are taken once: rules and step counts whose nodes coincide,
such as the right Riemann sums of the divisors of 300 steps, cost no more than the largest of them.
"""

from collections.abc import Mapping

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from lib import copies
from lib.attribution.integrated_gradients import RULES

SAME_NODE = 12  # decimals


def convergence(classifier, photos, pixels: Tensor, parameters: Mapping) -> pd.DataFrame:
    r"""Protocol for :mod:`lib.rows`: the error of Integrated Gradients, by rule and step count.

    ``parameters``: ``rules``, ``{rule: [steps, ...]}`` (rules of ``RULES``; a step is one interval
    of the path, so that a trapezoid of m steps has m + 1 nodes), and ``reference``, the steps of
    the right Riemann sum $A_R$ to compare with. One row per image x rule x steps: ``difference``,
    $\mathrm{mean}|A_m - A_R| / \mathrm{mean}|A_R|$, and ``gap``, the completeness error
    $|\sum_i A_m - (S(x)-S(0))| / |S(x)-S(0)|$. The baseline is black.
    """
    chosen = [(rule, int(m)) for rule, steps in parameters["rules"].items() for m in steps]
    nodes, weights = shared_nodes([*chosen, ("right_riemann", int(parameters["reference"]))])
    frames = []
    for i, image in enumerate(pixels):
        maps = _maps(classifier, image[None], photos.targets[i : i + 1], nodes, weights)
        ends = classifier.scores(torch.stack([torch.zeros_like(image), image]))
        black, full = ends[:, int(photos.targets[i])].tolist()
        exact, rise = maps[-1:], full - black
        rows = {
            "image": i,
            "rule": [rule for rule, _ in chosen],
            "steps": [m for _, m in chosen],
            "difference": ((maps - exact).abs().mean(1) / exact.abs().mean())[:-1].tolist(),
            "gap": ((maps.sum(1) - rise).abs() / abs(rise))[:-1].tolist(),
        }
        frames.append(pd.DataFrame(rows))
    return pd.concat(frames, ignore_index=True)


def shared_nodes(chosen: list[tuple[str, int]]) -> tuple[np.ndarray, np.ndarray]:
    """All nodes of these rules and step counts, and the weights (nodes, rules) on them.

    Each rule's weights sum to 1. Raises ``ValueError`` for an unknown rule or less than one step.
    """
    rules = []
    for rule, steps in chosen:
        if rule not in RULES:
            raise ValueError(f"rule {rule!r} is unknown; choose one of: {', '.join(RULES)}")
        if steps < 1:
            raise ValueError(f"steps must be at least 1, not {steps}")
        nodes, weights = RULES[rule](steps + 1 if rule == "trapezoid" else steps)
        rules.append((np.round(nodes, SAME_NODE), weights))
    every = np.unique(np.concatenate([nodes for nodes, _ in rules]))
    table = np.zeros((len(every), len(rules)))
    for column, (nodes, weights) in enumerate(rules):
        table[np.searchsorted(every, nodes), column] = weights
    return every, table


def _maps(classifier, image: Tensor, target: Tensor, nodes, weights) -> Tensor:
    """One map per column of ``weights``, flat, in float64 on the CPU."""
    engine = copies.Engine(classifier, image, target, label="convergence")
    pixels, alphas = engine.pixels, torch.as_tensor(nodes).to(engine.pixels)
    table = torch.as_tensor(weights).to(pixels)
    sums = torch.zeros(table.shape[1], pixels[0].numel()).to(pixels)

    def on_path(row: Tensor, draw: Tensor) -> Tensor:
        return alphas[draw].view(-1, 1, 1, 1) * pixels[row]

    for batch in engine.run(on_path, len(nodes), engine.gradient):
        sums += table[batch.draw].T @ batch.values.flatten(1)
    return (pixels.flatten() * sums).double().cpu()
