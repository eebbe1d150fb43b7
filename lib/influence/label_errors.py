"""Plant wrong labels, then look for them: by self-influence, by loss, at random.

Koh, Liang 2017, section 5.4.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor

from lib.core import draws
from lib.influence.softmax_regression import fit, softmax_regression
from lib.influence.solvers import Factorization

ORDERS = ("self_influence", "loss", "random")


def plant_label_errors(
    labels: Int[Tensor, " n"], share: float, *, classes: int, seed: int
) -> tuple[Int[Tensor, " n"], Int[Tensor, " m"]]:
    """Labels of which ``round(share * n)``, drawn by ``seed``, are another class; and which."""
    count = round(share * len(labels))
    if not 0 < count < len(labels):
        raise ValueError(f"a share of {share} of {len(labels)} labels is {count}: none or all")
    wrong = draws.permutation(seed, (0,), len(labels))[:count]
    shift = torch.randint(1, classes, (count,), generator=draws.generator(seed, 1))
    noisy = labels.clone()
    noisy[wrong] = (labels[wrong] + shift) % classes
    return noisy, wrong


def find_label_errors(
    inputs: Float[Tensor, "n d"],
    labels: Int[Tensor, " n"],
    *,
    classes: int,
    share: float = 0.1,
    checked: Sequence[float] = (0.05, 0.1, 0.2, 0.3),
    l2: float = 0.01,
    seed: int = 0,
) -> pd.DataFrame:
    """One row per order x share checked: ``order``, ``checked``, ``found``.

    ``found`` is the share of the planted errors among the examples checked. Self-influence is the
    rise of an example's own loss when it is left out, largest first; loss, the training loss.
    """
    noisy, wrong = plant_label_errors(labels, share, classes=classes, seed=seed)
    objective = softmax_regression(inputs, noisy, classes=classes, l2=l2)
    theta = fit(objective)
    factorization = Factorization(objective.hessian(theta))
    suspicion = {
        "self_influence": objective.self_influence(theta, factorization),
        "loss": objective.losses(theta, objective.inputs, objective.labels),
        "random": -draws.permutation(seed, (2,), len(labels)).double(),
    }
    rows = []
    for order in ORDERS:
        ranked = suspicion[order].argsort(descending=True, stable=True).cpu()
        for part in checked:
            found = np.isin(wrong, ranked[: round(part * len(labels))]).mean()
            rows.append({"order": order, "checked": part, "found": float(found)})
    return pd.DataFrame(rows)
