"""Many networks at once against one at a time, and the rules by which lambda is chosen."""

import math
from functools import partial

import pandas as pd
import pytest
import torch
from sklearn.metrics import roc_auc_score
from support.networks import relative
from support.one_network import train_one
from torch import nn

from lib.core import draws
from lib.data.survey import Splits
from lib.training import prior_experiment, priors
from lib.training.ensemble_gradients import ATTRIBUTIONS, EnsembleSettings
from lib.training.ensembles import Ensemble, initial, roc_auc, train_ensemble

SMALL = {"hidden": (16, 8, 4), "epochs": 12, "lr": 1e-2, "references": 2}


def data(networks=3, rows=20, d=7, dtype=torch.float32, seed=0):
    random = torch.Generator().manual_seed(seed)
    x, xv = (torch.randn(networks, rows, d, generator=random).to(dtype) for _ in range(2))
    y, yv = ((torch.rand(networks, rows, generator=random) < 0.4).to(dtype) for _ in range(2))
    return x, y, xv, yv


def same(one: Ensemble, two: Ensemble) -> bool:
    """Equal but for rounding: 1.2e-7 in each of 12 steps, where sums of 30 terms may cancel.

    Between instruction sets at most 2e-6 was seen; another prior moves weights by 0.3.
    """
    tensors = zip(one.weights + one.biases, two.weights + two.biases, strict=True)
    close = all(a is b is None or relative(a, b) < 1e-4 for a, b in tensors)
    return close and torch.allclose(one.validation_auc, two.validation_auc)


@pytest.mark.slow
@pytest.mark.parametrize("attribution", [None, *ATTRIBUTIONS])
@pytest.mark.parametrize("bias", [True, False])
def test_the_ensemble_equals_one_network_at_a_time(attribution, bias):
    x, y, xv, yv = data(dtype=torch.float64)
    strength = 0.0 if attribution is None else 1.0
    settings = EnsembleSettings(attribution=attribution, strength=strength, bias=bias, **SMALL)
    found = train_ensemble(x, y, xv, yv, settings)
    start = initial(7, settings, range(3), x)
    untrained = Ensemble(*start, found.validation_auc, found.epoch)
    for i in range(3):
        method = None if attribution is None else getattr(priors, attribution)
        if attribution == "expected_gradients":
            method = partial(expected_gradients_with_draws, epochs=iter(range(12)), key=i)
        best, curve = train_one(
            untrained.network(i), (x[i], y[i]), (xv[i], yv[i]),
            attribution=method, strength=strength, epochs=12, lr=1e-2,
        )  # fmt: skip
        assert found.validation_auc[i].tolist() == pytest.approx(curve, abs=1e-9)
        for a, b in zip(best.parameters(), found.network(i).parameters(), strict=True):
            torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-5)
        rows = torch.cat([xv[i], x[i]])
        torch.testing.assert_close(
            found.network(i)(rows).squeeze(-1), found.logits(rows.expand(3, -1, -1))[i]
        )


def expected_gradients_with_draws(score, rows, *, epochs, key):
    """Two references per row, drawn as the ensemble draws them."""
    epoch, n = next(epochs), len(rows)
    order = draws.permutation(0, (key, epoch, 2), 2 * n) % n
    alphas = draws.uniform(0, [(key, epoch, 3)], (2 * n,))[0].to(rows)
    return priors.expected_gradients(score, rows, rows[order].view(2, n, -1), alphas.view(2, n))


@pytest.mark.parametrize("attribution", ["x_gradient", "expected_gradients"])
def test_neither_chunks_nor_threads_nor_company_change_a_network(attribution):
    x, y, xv, yv = data(networks=5, rows=30)
    settings = EnsembleSettings(attribution=attribution, strength=1.0, **SMALL)
    threads = torch.get_num_threads()
    whole = train_ensemble(x, y, xv, yv, settings)
    try:
        torch.set_num_threads(1)
        assert same(whole, train_ensemble(x, y, xv, yv, settings))
    finally:
        torch.set_num_threads(threads)
    assert torch.get_num_threads() == threads
    assert same(whole, train_ensemble(x, y, xv, yv, settings))
    shuffled = train_ensemble(*(t[[3, 0]] for t in (x, y, xv, yv)), settings, keys=[3, 0])
    torch.testing.assert_close(
        shuffled.logits(xv[[3, 0]]), whole.logits(xv)[[3, 0]], atol=1e-4, rtol=1e-3
    )
    apart = train_ensemble(x, y, xv, yv, settings, chunk=1)
    torch.testing.assert_close(apart.logits(xv), whole.logits(xv), atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("attribution", ATTRIBUTIONS)
def test_lambda_zero_is_unregularized_training(attribution):
    tensors = data()
    plain = train_ensemble(*tensors, EnsembleSettings(**SMALL))
    assert same(
        plain,
        train_ensemble(*tensors, EnsembleSettings(attribution=attribution, strength=0.0, **SMALL)),
    )
    tiny = train_ensemble(
        *tensors, EnsembleSettings(attribution=attribution, strength=1e-30, **SMALL)
    )
    torch.testing.assert_close(
        tiny.logits(tensors[2]), plain.logits(tensors[2]), atol=1e-4, rtol=1e-3
    )
    assert not same(
        plain,
        train_ensemble(*tensors, EnsembleSettings(attribution=attribution, strength=1.0, **SMALL)),
    )


def test_a_prior_makes_attributions_sparser_and_the_snapshot_is_the_best():
    tensors = data(rows=40, d=20)
    options = SMALL | {"epochs": 60}
    found = train_ensemble(
        *tensors, EnsembleSettings(attribution="x_gradient", strength=5.0, bias=False, **options)
    )
    plain = train_ensemble(*tensors, EnsembleSettings(bias=False, **options))
    best = found.validation_auc.max(1)
    assert torch.equal(found.epoch, best.indices)
    torch.testing.assert_close(roc_auc(found.logits(tensors[2]), tensors[3]), best.values)

    def sparsity(networks):
        return priors.sparsity(priors.x_gradient(networks.logits, tensors[0])).mean()

    assert sparsity(found) < sparsity(plain) - 0.1


def test_nothing_is_left_changed():
    tensors = data()
    before = [t.clone() for t in tensors]
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    train_ensemble(*tensors, EnsembleSettings(attribution="x_gradient", strength=1.0, **SMALL))

    def broken(attributions):
        raise RuntimeError("on purpose")

    with pytest.raises(RuntimeError, match="on purpose"):
        train_ensemble(
            *tensors,
            EnsembleSettings(attribution="gradient", strength=1.0, penalty=broken, **SMALL),
        )
    assert all(torch.equal(a, b) for a, b in zip(before, tensors, strict=True))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_num_threads() == threads and torch.is_grad_enabled()


def test_roc_auc_by_ranks():
    scores = torch.randint(0, 12, (20, 50)).float()  # many ties
    labels = (torch.rand(20, 50) < 0.3).float()
    labels[:, 0], labels[:, 1] = 0, 1
    expected = [roc_auc_score(a, b) for a, b in zip(labels.numpy(), scores.numpy(), strict=True)]
    assert roc_auc(scores, labels).tolist() == pytest.approx(expected)
    assert roc_auc(-scores, labels).tolist() == pytest.approx([1 - e for e in expected])
    assert roc_auc(torch.zeros(1, 4), torch.tensor([[0.0, 1, 1, 0]])).item() == 0.5


def test_test_labels_choose_nothing():
    x, y, xv, yv = data(networks=4, rows=24)
    xt, yt, _, _ = data(networks=4, rows=40, seed=5)

    def chosen(test_labels):
        splits = Splits([0, 1, 2, 3], x, y, xv, yv, xt, test_labels)
        runs = prior_experiment.run_grid(
            splits, ["x_gradient", "gradient", "unregularized"], (0.1, 1.0, 10.0), **SMALL
        )
        return runs, prior_experiment.choose(runs)

    (runs, strengths), (other, again) = chosen(yt), chosen(yt[:, torch.randperm(40)])
    assert strengths == again and strengths["unregularized"] == 0
    pd.testing.assert_frame_equal(runs.drop(columns="test"), other.drop(columns="test"))
    assert not runs["test"].equals(other["test"])


def test_an_unknown_method_is_refused_before_anything_is_trained():
    x, y, xv, yv = data()
    splits = Splits([0, 1, 2], x, y, xv, yv, xv, yv)
    with pytest.raises(ValueError, match="'x_grad' is not one of: x_gradient"):
        prior_experiment.run(splits, "x_grad", 1.0)
    with pytest.raises(ValueError, match="'lasso' is not one of"):  # not after hours
        prior_experiment.run_grid(splits, ["unregularized", "lasso"], epochs=10**9)


def test_shuffled_labels_keep_their_number_and_lose_their_place():
    x, y, xv, yv = data(networks=2, rows=60)
    splits = Splits([4, 7], x, y, xv, yv, xv, yv)
    mixed, again = prior_experiment.shuffled(splits), prior_experiment.shuffled(splits)
    for name in ("train_labels", "validation_labels"):
        before, after = getattr(splits, name), getattr(mixed, name)
        assert torch.equal(before.sum(1), after.sum(1)) and not torch.equal(before, after)
        assert torch.equal(after, getattr(again, name))
    assert mixed.train is splits.train and mixed.test_labels is splits.test_labels


def test_logistic_regression_finds_a_line():
    x, y, xv, yv = data(networks=2, rows=60)
    y, yv = (x[:, :, 0] > 0).float(), (xv[:, :, 0] > 0).float()
    splits = Splits([4, 7], x, y, xv, yv, xv, yv)
    found = prior_experiment.run_grid(splits, prior_experiment.OTHERS, (0.1, 1e6))
    line = found[found["method"] == "logistic_regression"]
    assert line["split"].tolist() == [4, 7] * 2 and found["test"].min() > 0.8
    assert line["strength"].tolist() == [0.1, 0.1, 1e6, 1e6] and len(found) == 6
    flipped = Splits([4, 7], x, y, xv, yv, xv, 1 - yv)
    again = prior_experiment.run(flipped, "logistic_regression", 0.1)
    assert again["test"].tolist() == pytest.approx((1 - line["test"][:2]).tolist())


def test_results_are_kept(monkeypatch):
    splits = Splits([0, 1, 2], *data(), *data()[2:])
    first = prior_experiment.run(splits, "x_gradient", 1.0, **SMALL)
    monkeypatch.setattr(prior_experiment, "train_ensemble", None)
    pd.testing.assert_frame_equal(first, prior_experiment.run(splits, "x_gradient", 1.0, **SMALL))
    with pytest.raises(TypeError):  # another strength is another training
        prior_experiment.run(splits, "x_gradient", 2.0, **SMALL)


def test_a_split_is_known_by_its_number_not_by_its_place():
    tensors = data(networks=3, rows=24)
    x, y, xv, yv = tensors
    both = Splits([5, 2, 9], x, y, xv, yv, xv, yv)
    alone = Splits([9], *(t[2:] for t in (x, y, xv, yv, xv, yv)))
    runs = [prior_experiment.run(s, "expected_gradients", 1.0, **SMALL) for s in (both, alone)]
    assert runs[0]["split"].tolist() == [5, 2, 9]
    assert runs[0]["test"].iloc[2] == pytest.approx(runs[1]["test"].iloc[0], abs=1e-3)


def test_lambda_is_the_best_by_mean_validation_score():
    runs = prior_experiment.pd.DataFrame(
        {
            "split": [0, 1] * 3,
            "method": "gradient",
            "strength": [0.1, 0.1, 1.0, 1.0, 10.0, 10.0],
            "validation": [0.6, 0.7, 0.9, 0.5, 0.3, 0.9],
            "test": [0.1, 0.2, 0.3, 0.4, 0.9, 0.9],
        }
    )
    assert prior_experiment.choose(runs) == {"gradient": 1.0}
    assert prior_experiment.at_strength(runs, {"gradient": 1.0})["gradient"].tolist() == [0.3, 0.4]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"strength": -0.1}, "must be 0 or more, not -0.1"),
        ({"strength": math.nan}, "must be 0 or more"),
        ({"strength": 1.0, "attribution": None}, "needs an attribution"),
        ({"attribution": "x_grad"}, "'x_grad' is not one of"),
        ({"references": 0}, "references must be 1 or more"),
        ({"epochs": 0}, "epochs must be 1 or more"),
        ({"hidden": ()}, "must be positive"),
    ],
)
def test_bad_options(change, message):
    with pytest.raises(ValueError, match=message):
        EnsembleSettings(**{"attribution": "x_gradient", **SMALL, **change})


@pytest.mark.usefixtures("unchecked")
def test_bad_data():
    x, y, xv, yv = data()
    for tensors, message in (
        ((x, y[:, :-1], xv, yv), "one label per row"),
        ((x, y * 2, xv, yv), "training labels must be 0 or 1"),
        ((x, y, xv, torch.ones_like(yv)), "validation labels of a network are all of one class"),
        ((x.index_fill(2, torch.tensor(0), math.nan), y, xv, yv), "training rows hold NaN"),
        ((x, y, xv[:, :, :3], yv), "not of the same networks and inputs"),
        ((x[:0], y[:0], xv[:0], yv[:0]), "one label per row"),
    ):
        with pytest.raises(ValueError, match=message):
            train_ensemble(*tensors, EnsembleSettings(**SMALL))
    with pytest.raises(ValueError, match="1 keys for 3 networks"):
        train_ensemble(x, y, xv, yv, keys=[1])


def test_a_network_comes_out_as_a_module():
    x, y, xv, yv = data()
    found = train_ensemble(x, y, xv, yv, EnsembleSettings(**SMALL))
    assert isinstance(found.network(0), nn.Sequential) and len(found) == 3
