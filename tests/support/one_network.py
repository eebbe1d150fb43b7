"""One network at a time: what the trainings of many at once are checked with."""

import copy
from collections.abc import Callable

import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn

from lib.training import priors


def train_one(
    network: nn.Module,
    train: tuple[Tensor, Tensor],
    validation: tuple[Tensor, Tensor],
    *,
    attribution: Callable[[priors.Score, Tensor], Tensor] | None = None,
    strength: float = 0.0,
    epochs: int = 100,
    lr: float = 1e-3,
) -> tuple[nn.Module, list[float]]:
    """The paper's training of one network: the snapshot with the best validation ROC-AUC.

    Adam on all rows at once, binary cross-entropy on the logit plus ``strength`` times the
    sparsity prior of ``attribution(score, inputs)``. Snapshots are taken before each step, as in
    the authors' code. Returns the snapshot and the validation ROC-AUC of every epoch.
    """

    def score(rows: Tensor) -> Tensor:
        return network(rows).squeeze(-1)

    inputs, labels = train
    optimizer = torch.optim.Adam(network.parameters(), lr=lr)
    best, curve = network, []
    for _ in range(epochs):
        loss = nn.functional.binary_cross_entropy_with_logits(score(inputs), labels)
        if attribution is not None and strength > 0:
            loss = loss + strength * priors.sparsity(attribution(score, inputs))
        with torch.no_grad():
            area = roc_auc_score(validation[1].numpy(), score(validation[0]).numpy())
        curve.append(round(float(area), 12))  # a tie stays a tie
        if curve[-1] > max(curve[:-1], default=-1):
            best = copy.deepcopy(network)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return best, curve
