"""Training under an X-Gradient prior: many networks at once, against one after the other.

The paper's networks and people (random numbers in place of a survey), half of its 100 steps. The
rival is the loop that anybody would write first: a module, automatic differentiation twice, Adam,
scikit-learn's ROC-AUC in every step. The floor is the matrix products alone: no batching can be
faster than the loop by more than the floor is.

How much that allows: a network has 130,080 weights. A step multiplies each of them with 200 rows
(forward, with the validation people) and three times with 100 (to the inputs, back up, into the
weight's gradient): 130 MFLOP, or 0.5 ms on two cores of 130 GFLOP/s. The loop's step takes 5 to 8
ms on two such cores, so the products alone, with nothing around them, would be 10 to 16 times as
fast (the floor row measures it). What ours take beyond them goes to activations, Adam's moments,
the prior's own derivative and the ROC-AUC.
"""

from itertools import pairwise

import torch

from benchmarks.rivals import Rival
from benchmarks.timing import Row
from lib.training.ensemble_gradients import HIDDEN, EnsembleSettings
from lib.training.ensembles import CHUNK, train_ensemble

NETWORKS, STEPS, PEOPLE, INPUTS = 16, 50, 100, 118


def rows() -> list[Row]:
    random = torch.Generator().manual_seed(0)
    train, validation = (torch.randn(NETWORKS, PEOPLE, INPUTS, generator=random) for _ in range(2))
    labels = (torch.rand(2, NETWORKS, PEOPLE, generator=random) < 0.7).float()
    given = {"train": train, "validation": validation, "labels": labels, "steps": STEPS}
    given |= {"widths": [INPUTS, *HIDDEN, 1], "device": "cpu"}
    settings = EnsembleSettings("x_gradient", strength=1.0, bias=False, epochs=STEPS)
    return [
        Row(
            f"X-Gradient prior, {NETWORKS} networks, {STEPS} steps",
            ours=lambda: train_ensemble(train, labels[0], validation, labels[1], settings),
            rivals={"one by one": lambda: Rival("attribution_prior_loop", **given)},
            floor=products,
            targets={"one by one": 10},
            floor_target=None,
        )
    ]  # fmt: skip


def products() -> None:
    """Forward with validation rows, backward to the inputs, u forward, the weights' gradients."""
    widths = [INPUTS, *HIDDEN, 1]
    weights = [torch.ones(CHUNK, a, b) for a, b in pairwise(widths)]
    both = [torch.ones(CHUNK, 2 * PEOPLE, width) for width in widths]
    layers = [torch.ones(CHUNK, PEOPLE, width) for width in widths]
    for _ in range(STEPS * NETWORKS // CHUNK):  # one chunk after another, on every core
        for number, weight in enumerate(weights):
            torch.bmm(both[number], weight)
            torch.bmm(layers[number + 1], weight.mT)
            torch.bmm(layers[number], weight)
            torch.bmm(layers[number].mT, layers[number + 1])
