"""The attribution-prior experiment of Hesse et al., NeurIPS 2021, section 4.3: which prior helps?

For every split and every strength lambda a network is trained; its snapshot is the epoch with the
best validation ROC-AUC; a method's lambda is the one with the best *mean* validation ROC-AUC over
splits. Test rows are looked at once, for the figures.
"""

from collections.abc import Sequence

import pandas as pd
import torch
from sklearn.linear_model import LogisticRegression

from lib.core import draws
from lib.data.survey import Splits
from lib.training import priors
from lib.training.ensemble_gradients import EnsembleSettings
from lib.training.ensembles import Ensemble, roc_auc, train_ensemble

STRENGTHS = (1e-2, 1e-1, 1e0, 1e1, 1e2)
# name -> (attribution that the prior acts on, has the network biases?)
METHODS: dict[str, tuple[str | None, bool]] = {
    "x_gradient": ("x_gradient", False),
    "expected_gradients": ("expected_gradients", True),
    "gradient": ("gradient", True),
    "right_for_the_right_reasons": ("right_for_the_right_reasons", True),
    "unregularized": (None, True),
    "unregularized_without_bias": (None, False),
    "integrated_gradients": ("integrated_gradients", True),
}
YARDSTICK_STEPS = 4


def run(
    data: Splits, method: str, strength: float = 0.0, *, label: str = "training", **options
) -> pd.DataFrame:
    """One row per split: method, strength, validation and test ROC-AUC, sparsity, epoch.

    ``sparsity`` is the Gini coefficient of the mean absolute Integrated Gradients (from zero, the
    mean person) of the validation rows, whatever the method's own attribution: one yardstick for
    all. ``options`` are those of :class:`lib.training.ensemble_gradients.EnsembleSettings`.
    """
    _check([method])
    attribution, bias = METHODS[method]
    networks = train_ensemble(
        data.train,
        data.train_labels,
        data.validation,
        data.validation_labels,
        EnsembleSettings(attribution=attribution, strength=strength, bias=bias, **options),
        keys=data.numbers,
        label=label,
    )
    return pd.DataFrame(
        {
            "split": data.numbers,
            "method": method,
            "strength": strength,
            "validation": networks.validation_auc.max(1).values.tolist(),
            "test": roc_auc(networks.logits(data.test), data.test_labels).tolist(),
            "sparsity": sparsity_of(networks, data).tolist(),
            "epoch": networks.epoch.tolist(),
        }
    )


def run_grid(
    data: Splits, methods: Sequence[str], strengths: Sequence[float] = STRENGTHS, **options
) -> pd.DataFrame:
    """:func:`run` for every method at every strength (once, at 0, for those without a prior)."""
    _check(methods)
    return pd.concat(
        [
            run(data, method, strength, label=method.replace("_", " "), **options)
            for method in methods
            for strength in (strengths if METHODS[method][0] else [0.0])
        ],
        ignore_index=True,
    )


def choose(runs: pd.DataFrame) -> dict[str, float]:
    """The strength of every method with the best mean validation ROC-AUC; the smaller at a tie."""
    means = runs.groupby(["method", "strength"])["validation"].mean().round(12)
    return {method: by.idxmax()[1] for method, by in means.groupby("method")}


def at_strength(runs: pd.DataFrame, chosen: dict[str, float], value: str = "test") -> pd.DataFrame:
    """Rows are splits, columns methods: ``value`` at each method's chosen strength."""
    kept = runs[runs["strength"] == runs["method"].map(chosen)]
    return kept.pivot(index="split", columns="method", values=value)


def sparsity_of(networks: Ensemble, data: Splits) -> torch.Tensor:
    """The yardstick of :func:`run` for every network."""
    maps = priors.integrated_gradients(networks.logits, data.validation, steps=YARDSTICK_STEPS)
    return -priors.sparsity(maps).detach()


def logistic_regression(data: Splits, strengths: Sequence[float] = STRENGTHS) -> pd.Series:
    """Test ROC-AUC per split of a linear model whose ridge penalty is chosen like every lambda."""
    validation, test = [], []
    for strength in strengths:
        scores = []
        for x, y, xv, xt in zip(
            data.train, data.train_labels, data.validation, data.test, strict=True
        ):
            model = LogisticRegression(C=1 / strength, max_iter=1000).fit(x.numpy(), y.numpy())
            scores.append([torch.from_numpy(model.decision_function(r.numpy())) for r in (xv, xt)])
        validation.append(roc_auc(torch.stack([s[0] for s in scores]), data.validation_labels))
        test.append(roc_auc(torch.stack([s[1] for s in scores]), data.test_labels))
    best = int(torch.stack(validation).mean(1).argmax())
    return pd.Series(test[best].tolist(), index=data.numbers, name="test")


def shuffled(data: Splits, seed: int = 0) -> Splits:
    """The same splits with training and validation labels in a random order: nothing to learn."""

    def permuted(labels: torch.Tensor, part: int) -> torch.Tensor:
        orders = [draws.permutation(seed, (n, part), labels.shape[1]) for n in data.numbers]
        return torch.stack([row[order] for row, order in zip(labels, orders, strict=True)])

    return Splits(
        data.numbers,
        data.train,
        permuted(data.train_labels, 0),
        data.validation,
        permuted(data.validation_labels, 1),
        data.test,
        data.test_labels,
    )


def _check(methods: Sequence[str]) -> None:
    for method in methods:
        if method not in METHODS:
            raise ValueError(f"{method!r} is not one of: {', '.join(METHODS)}")
