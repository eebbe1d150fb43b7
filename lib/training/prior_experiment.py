"""The attribution-prior experiment of Hesse et al., NeurIPS 2021, section 4.3: which prior helps?

For every split and every strength lambda a network is trained; its snapshot is the epoch with the
best validation ROC-AUC; a method's lambda is the one with the best *mean* validation ROC-AUC over
splits. Test rows are looked at once, for the figures.
"""

from collections.abc import Sequence

import pandas as pd
import sklearn
import torch
from sklearn.ensemble import GradientBoostingClassifier
from sklearn.linear_model import LogisticRegression

from lib.core import draws, store
from lib.data.survey import Splits
from lib.training import ensemble_gradients, ensembles, priors
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
}
OTHERS = ("logistic_regression", "gradient_boosting")  # no networks: scikit-learn's
YARDSTICK_STEPS = 4
_FILES = (ensembles, ensemble_gradients, priors, draws)
_CODE = store.code(__file__, *(str(module.__file__) for module in _FILES))


def run(
    data: Splits, method: str, strength: float = 0.0, *, label: str = "training", **options
) -> pd.DataFrame:
    """One row per split: method, strength, validation and test ROC-AUC, sparsity, epoch.

    ``sparsity`` is the Gini coefficient of the mean absolute Integrated Gradients (from zero, the
    mean person) of the validation rows, whatever the method's own attribution: one yardstick for
    all. ``options`` are those of :class:`lib.training.ensemble_gradients.EnsembleSettings`. The
    strength of a logistic regression is that of its ridge penalty; gradient boosting has
    scikit-learn's settings. Both have no sparsity and no epoch. Results are kept in the cache.
    """
    _check([method])
    like = {name: torch.zeros(len(data), dtype=torch.float64) for name in _COLUMNS}
    versions = [_CODE, sklearn.__version__]
    key = store.key(versions, list(vars(data).values()), method, float(strength), options)
    found = store.read_tensors("priors", key, like)
    if found is None:
        learn = _scikit if method in OTHERS else _networks
        found = dict(zip(_COLUMNS, learn(data, method, strength, label, options), strict=True))
        store.write_tensors("priors", key, found)
    values = {name: found[name].tolist() for name in _COLUMNS}
    return pd.DataFrame({"split": data.numbers, "method": method, "strength": strength, **values})


_COLUMNS = ("validation", "test", "sparsity", "epoch")


def _networks(data: Splits, method: str, strength: float, label: str, options) -> list:
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
    validation = networks.validation_auc.max(1).values
    test = roc_auc(networks.logits(data.test), data.test_labels)
    sparsity = sparsity_of(networks, data)
    return [value.double() for value in (validation, test, sparsity, networks.epoch)]


def _scikit(data: Splits, method: str, strength: float, label: str, options) -> list:
    scores = []
    for x, y, *others in zip(
        data.train, data.train_labels, data.validation, data.test, strict=True
    ):
        model = GradientBoostingClassifier(random_state=0)
        if method == "logistic_regression":
            model = LogisticRegression(C=1 / strength, max_iter=1000)
        model.fit(x.numpy(), y.numpy())
        scores.append([torch.from_numpy(model.decision_function(r.numpy())) for r in others])
    validation, test = (torch.stack(column) for column in zip(*scores, strict=True))
    nothing = torch.full((len(data),), torch.nan, dtype=torch.float64)
    areas = roc_auc(validation, data.validation_labels), roc_auc(test, data.test_labels)
    return [*areas, nothing, nothing]


def run_grid(
    data: Splits, methods: Sequence[str], strengths: Sequence[float] = STRENGTHS, **options
) -> pd.DataFrame:
    """:func:`run` for every method at every strength (once, at 0, for those without one)."""
    _check(methods)
    return pd.concat(
        [
            run(data, method, strength, label=method.replace("_", " "), **options)
            for method in methods
            for strength in (strengths if has_strength(method) else [0.0])
        ],
        ignore_index=True,
    )


def has_strength(method: str) -> bool:
    """Whether there is a strength to choose: not without a prior, nor for boosting."""
    return method == "logistic_regression" or METHODS.get(method, (None, True))[0] is not None


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
        if method not in (*METHODS, *OTHERS):
            raise ValueError(f"{method!r} is not one of: {', '.join((*METHODS, *OTHERS))}")
