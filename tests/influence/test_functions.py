"""Influence functions against closed forms, exact solves and real retraining."""

import pytest
import torch
from torch import nn
from torch.func import hessian as full_hessian

from lib.data.digits import load_digits
from lib.influence.functions import (
    Anchored,
    Influence,
    Objective,
    network_objective,
    predicted_change,
    retrain,
    train,
)
from lib.influence.minimize import minimize
from lib.influence.softmax_regression import fit, refit_without, softmax_regression
from lib.influence.solvers import (
    Factorization,
    NotConverged,
    NotPositiveDefinite,
    conjugate_gradients,
    lissa,
)


def ridge(n: int = 30, p: int = 5, l2: float = 0.1):
    """Half squared loss: everything about leaving one out is known in closed form."""
    random = torch.Generator().manual_seed(3)
    x = torch.randn(n, p, generator=random, dtype=torch.float64)
    y = x @ torch.randn(p, generator=random, dtype=torch.float64)
    y += torch.randn(n, generator=random, dtype=torch.float64)
    objective = Objective(lambda theta, x, y: (x @ theta - y).square() / 2, x, y, l2)
    gram = x.T @ x / n + l2 * torch.eye(p, dtype=torch.float64)
    return objective, torch.linalg.solve(gram, x.T @ y / n), gram


def small_digits(n: int = 150, side: int = 7):
    digits = load_digits()
    shrink = nn.AdaptiveAvgPool2d(side)
    return (
        shrink(digits.train_images[:n]).double(),
        digits.train_labels[:n],
        shrink(digits.test_images[:4]).double(),
        digits.test_labels[:4],
    )


@pytest.fixture(scope="module")
def regression():
    images, labels, test_images, test_labels = small_digits()
    objective = softmax_regression(images, labels, classes=10, l2=0.01)
    theta = fit(objective)
    factorization = Factorization(objective.hessian(theta))
    theta = refit_without(objective, theta, factorization, [[]])[0]
    return objective, theta, test_images.flatten(1), test_labels


@pytest.fixture(scope="module")
def network():
    """A small smooth network at a minimum of its penalized loss, in float64."""
    images, labels, test_images, test_labels = small_digits(n=60)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = nn.Sequential(
            nn.Conv2d(1, 2, 3, stride=2), nn.Tanh(), nn.Flatten(), nn.Linear(18, 10)
        ).double()
    objective, start = network_objective(net, images, labels, l2=0.01)
    theta = minimize(objective, start, tolerance=1e-7)
    return objective, theta, test_images, test_labels, net


@pytest.mark.slow
def test_ridge_leave_one_out_is_the_prediction_over_one_minus_leverage():
    objective, theta, gram = ridge()
    x, y, n = objective.inputs, objective.labels, len(objective)
    solved = Factorization(objective.hessian(theta)).solve(x.T)
    for i in range(n):
        keep = torch.arange(n) != i
        left_out = torch.linalg.solve(gram - x[i, None].T @ x[i, None] / n, x[keep].T @ y[keep] / n)
        leverage = x[i] @ torch.linalg.solve(gram, x[i]) / n
        gradient = objective.example_gradient(theta, x[i], y[i])
        predicted = Factorization(objective.hessian(theta)).solve(gradient) / n
        assert (left_out - theta - predicted / (1 - leverage)).abs().max() < 1e-10
        assert leverage > 0.005  # the factor matters
        assert torch.allclose(leverage, x[i] @ solved[:, i] / n)


@pytest.mark.slow
def test_ridge_sign_and_scale_of_the_predicted_change_of_a_test_loss():
    objective, theta, gram = ridge(n=3000)  # leverages below 1 %
    x, y, n = objective.inputs, objective.labels, len(objective)
    test_x, test_y = torch.ones(1, 5, dtype=torch.float64), torch.tensor([1.0]).double()
    predicted = predicted_change(Influence(objective, theta)(test_x, test_y))[0]
    assert predicted.shape == (n,)

    def loss(theta):
        return float(objective.losses(theta, test_x, test_y)[0])

    for i in predicted.abs().argsort(descending=True)[:5].tolist():
        left_out = torch.linalg.solve(
            gram - x[i, None].T @ x[i, None] / n, (x.T @ y - x[i] * y[i]) / n
        )
        assert float(predicted[i]) == pytest.approx(loss(left_out) - loss(theta), rel=0.05)


def test_softmax_regression_derivatives_equal_automatic_ones(regression):
    objective, theta, _, _ = regression
    plain = Objective(objective.losses, objective.inputs, objective.labels, objective.l2)
    random = torch.Generator().manual_seed(0)
    theta = theta + 0.1 * torch.randn(theta.shape, generator=random, dtype=torch.float64)
    v = torch.randn(theta.shape, generator=random, dtype=torch.float64)
    weights = torch.rand(len(objective), generator=random, dtype=torch.float64)
    example = objective.inputs[3], objective.labels[3]
    pairs = [
        (objective.value(theta, weights), plain.value(theta, weights)),
        (objective.gradient(theta), plain.gradient(theta)),
        (objective.gradient(theta, weights), plain.gradient(theta, weights)),
        (objective.hessian_product(theta)(v), plain.hessian_product(theta)(v)),
        (objective.slopes(theta, v), plain.slopes(theta, v)),
        (
            objective.sampled_product(theta, v, torch.tensor([5, 5, 9])),
            plain.sampled_product(theta, v, torch.tensor([5, 5, 9])),
        ),
        (objective.example_gradient(theta, *example), plain.example_gradient(theta, *example)),
        (objective.hessian(theta), full_hessian(plain.value)(theta)),
    ]
    for ours, automatic in pairs:
        assert torch.allclose(ours, automatic, atol=1e-12)


def test_training_and_retraining_end_where_the_closed_form_says():
    objective, theta, _ = ridge()
    x, y, n = objective.inputs, objective.labels, len(objective)
    assert torch.allclose(train(objective, torch.zeros_like(theta)), theta, atol=1e-7)
    for taken, tie in ((1.0, 0.0), (0.25, 0.0), (1.0, 2.0)):
        ends = retrain(objective, theta, [4, 11], taken=taken, tie=tie)
        for row, end in zip((4, 11), ends, strict=True):
            weights = torch.ones(n, dtype=torch.float64)
            weights[row] = 1 - taken
            hessian = x.T @ (weights[:, None] * x) / n + 0.1 * torch.eye(5) + tie * torch.eye(5)
            expected = torch.linalg.solve(hessian, x.T @ (weights * y) / n + tie * theta)
            assert torch.allclose(end, expected, atol=1e-7)


@pytest.mark.slow
def test_network_hessian_equals_automatic_one(network):
    objective, theta, *_ = network
    assert torch.allclose(objective.hessian(theta), full_hessian(objective.value)(theta), atol=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("model", ["regression", "network"])
def test_conjugate_gradients_and_lissa_agree_with_the_exact_solve(model, request):
    objective, theta, test_images, test_labels = request.getfixturevalue(model)[:4]
    damping, depth = (0.0, 2000) if model == "regression" else (0.2, 150)
    exact = Influence(objective, theta, damping)(test_images, test_labels)
    cg = Influence(objective, theta, damping, "cg", {"tolerance": 1e-10})
    assert torch.allclose(cg(test_images, test_labels), exact, rtol=1e-5, atol=1e-8)
    sampled = {"scale": 10.0, "depth": depth, "repeats": 3, "batch": 8}
    estimate = Influence(objective, theta, damping, "lissa", sampled)(
        test_images[:1], test_labels[:1]
    )
    assert float(torch.corrcoef(torch.stack([estimate[0], exact[0]]))[0, 1]) > 0.97
    assert float((estimate[0] - exact[0]).norm() / exact[0].norm()) < 0.2


def test_lissa_on_all_the_data_converges_to_the_exact_solve(regression):
    objective, theta, test_images, test_labels = regression
    product = objective.hessian_product(theta)
    v = objective.example_gradient(theta, test_images[0], test_labels[0])
    found = lissa(lambda h, repeat, step: product(h), product, v, scale=3, depth=4000, damping=0.01)
    exact = Factorization(objective.hessian(theta), 0.01).solve(v)
    assert torch.allclose(found.vector, exact, rtol=1e-6, atol=1e-9)
    assert found.residual < 1e-8


def test_lissa_draws_do_not_depend_on_anything_but_the_seed(regression):
    objective, theta, test_images, test_labels = regression
    options = {"scale": 10.0, "depth": 20}
    influence = Influence(objective, theta, solver="lissa", options=options)
    both = influence(test_images[:2], test_labels[:2])
    torch.manual_seed(17)
    alone = influence(test_images[1:2], test_labels[1:2])
    torch.testing.assert_close(both[1], alone[0])
    other = Influence(objective, theta, solver="lissa", options=options | {"seed": 1})
    assert not torch.equal(other(test_images[1:2], test_labels[1:2]), alone)


def test_lissa_with_too_small_a_scale_raises(regression):
    objective, theta, test_images, test_labels = regression
    options = {"scale": 0.1, "depth": 500}
    with pytest.raises(NotConverged, match="larger scale"):
        Influence(objective, theta, solver="lissa", options=options)(test_images, test_labels)


def test_damping_changes_the_answer_and_nothing_stale_is_reused(regression):
    objective, theta, test_images, test_labels = regression
    for solver in ("exact", "cg"):
        plain, damped, again = (
            Influence(objective, theta, damping, solver)(test_images[:1], test_labels[:1])
            for damping in (0.0, 0.1, 0.0)
        )
        assert float((plain - damped).norm() / plain.norm()) > 0.1
        torch.testing.assert_close(plain, again)


def test_influence_predicts_leave_one_out_retraining(regression):
    objective, theta, test_images, test_labels = regression
    influence = Influence(objective, theta)
    predicted = predicted_change(influence(test_images, test_labels))
    rows = list(range(0, 150, 5))
    left_out = refit_without(objective, theta, influence.factorization, [[i] for i in rows])
    before = objective.losses(theta, test_images, test_labels)
    actual = torch.stack([objective.losses(t, test_images, test_labels) - before for t in left_out])
    for test in range(len(test_images)):
        pair = torch.stack([actual[:, test], predicted[test, rows]])
        assert float(torch.corrcoef(pair)[0, 1]) > 0.95


def test_own_curvature_taken_out_is_one_newton_step_without_the_example(regression):
    objective, theta, test_images, test_labels = regression
    hessian, n = objective.hessian(theta), len(objective)
    factorization = Factorization(hessian)
    slopes = torch.stack(
        [
            objective.example_gradient(theta, *pair)
            for pair in zip(test_images, test_labels, strict=True)
        ],
        1,
    )
    rows = [3, 77]
    solved = factorization.solve(slopes)
    ours = objective.predicted_change(theta, factorization, solved, rows)
    for column, i in zip(ours.T, rows, strict=True):
        example = objective.inputs[i : i + 1], objective.labels[i : i + 1]
        own = full_hessian(lambda t, e=example: objective.losses(t, *e)[0])(theta)
        gradient = objective.example_gradient(theta, example[0][0], example[1][0])
        step = torch.linalg.solve(hessian - own / n, gradient) / n
        assert torch.allclose(column, slopes.T @ step, rtol=1e-8, atol=1e-12)
        plain = slopes.T @ factorization.solve(gradient) / n
        assert float((column - plain).norm() / plain.norm()) > 0.01  # what influence leaves in


@pytest.mark.slow
def test_damped_influence_is_the_derivative_of_a_tied_retraining(network):
    objective, theta, test_images, test_labels, _ = network
    damping, part, i = 0.1, 1e-2, 7
    predicted = predicted_change(Influence(objective, theta, damping)(test_images, test_labels))
    everyone = torch.ones(len(objective), dtype=torch.float64)
    weights = everyone.clone()
    weights[i] -= part

    def change(tie: float):
        goal = Anchored(objective, theta, tie)
        with_it, without = (
            objective.losses(
                minimize(goal, theta, weights=w, tolerance=1e-8), test_images, test_labels
            )
            for w in (everyone, weights)
        )
        return (without - with_it) / part

    def miss(actual):
        return float((actual - predicted[:, i]).norm() / predicted[:, i].norm())

    assert miss(change(damping)) < 0.02
    assert miss(change(0.0)) > 0.2  # an untied retraining goes farther
    tied = Anchored(objective, theta, damping)
    value, slope = tied.value_and_gradient(theta + 0.1, weights)
    assert value == pytest.approx(
        float(objective.value(theta + 0.1, weights) + damping / 2 * 0.01 * len(theta))
    )
    assert torch.allclose(slope, tied.gradient(theta + 0.1, weights))


@pytest.mark.slow
def test_refitting_reaches_the_minimum_that_another_optimizer_finds_from_zero(regression):
    objective, theta, *_ = regression
    factorization = Factorization(objective.hessian(theta))
    groups = [[4], [7, 8, 9], []]
    found = refit_without(objective, theta, factorization, groups)
    assert torch.allclose(found[2], theta, atol=1e-8)
    for group, ours in zip(groups, found, strict=True):
        weights = torch.ones(len(objective), dtype=torch.float64)
        weights[group] = 0
        other = minimize(objective, torch.zeros_like(theta), weights=weights, tolerance=1e-8)
        assert torch.allclose(ours, other, atol=1e-5)
    alone = refit_without(objective, theta, factorization, groups[1:2], chunk=1)
    assert torch.allclose(alone[0], found[1], atol=1e-8)


def test_self_influence_is_the_influence_of_each_example_on_itself(regression):
    objective, theta, *_ = regression
    influence = Influence(objective, theta)
    own = objective.self_influence(theta, influence.factorization, chunk=40)
    pairwise = influence(objective.inputs[:5], objective.labels[:5])[:, :5].diagonal()
    assert torch.allclose(own[:5], -pairwise)
    assert (own >= 0).all()


def test_the_network_stays_as_it_was(network):
    _, _, test_images, test_labels, net = network
    before = {name: value.clone() for name, value in net.state_dict().items()}
    objective, start = network_objective(net, test_images, test_labels, l2=0.01)
    with pytest.raises(NotPositiveDefinite):
        Influence(objective, start)(test_images, test_labels)
    for name, value in net.state_dict().items():
        assert torch.equal(value, before[name])
    assert all(p.requires_grad and p.grad is None for p in net.parameters())
    assert torch.equal(start, torch.cat([p.detach().flatten() for p in net.parameters()]))


@pytest.mark.parametrize("solver", ["exact", "cg"])
def test_a_singular_hessian_is_one_clear_error(solver):
    x = torch.randn(20, 6, generator=torch.Generator().manual_seed(0)).double()
    x[:, 5] = x[:, 4]
    objective = Objective(lambda t, x, y: (x @ t - y).square() / 2, x, x[:, 0].clone())
    theta = torch.zeros(6, dtype=torch.float64)
    test = x[:1] + torch.arange(6), torch.ones(1).double()  # a direction that the data lacks
    with pytest.raises((NotPositiveDefinite, NotConverged), match="damping"):
        Influence(objective, theta, solver=solver)(*test)
    assert Influence(objective, theta, 0.1, solver)(*test).isfinite().all()


def test_indefinite_hessians_are_refused():
    v = torch.tensor([1.0, 1.0], dtype=torch.float64)
    matrix = torch.diag(torch.tensor([1.0, -0.5], dtype=torch.float64))
    with pytest.raises(NotPositiveDefinite):
        Factorization(matrix)
    with pytest.raises(NotPositiveDefinite):
        conjugate_gradients(lambda u: matrix @ u, v)
    assert torch.allclose(Factorization(matrix, 1.0).solve(v), v / torch.tensor([2.0, 0.5]))


@pytest.mark.parametrize("where", ["vector", "product"])
def test_numbers_that_are_none_never_become_an_answer(where):
    v = torch.ones(3, dtype=torch.float64)
    broken = v * torch.nan if where == "vector" else v
    product = (lambda u: u * torch.nan) if where == "product" else (lambda u: u)
    with pytest.raises((NotPositiveDefinite, NotConverged)):
        conjugate_gradients(product, broken)
    with pytest.raises(NotConverged):
        lissa(lambda h, repeat, step: product(h), product, broken, scale=2, depth=3)


def test_an_unconverged_solution_is_refused():
    matrix = torch.diag(torch.logspace(0, -6, 50, dtype=torch.float64))
    v = torch.ones(50, dtype=torch.float64)
    with pytest.raises(NotConverged, match="after 3 iterations"):
        conjugate_gradients(lambda u: matrix @ u, v, iterations=3)
    found = conjugate_gradients(lambda u: matrix @ u, v, tolerance=1e-8, examples=7)
    assert found.residual < 1e-7
    assert found.products % 7 == 0


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda o, t: Influence(o, t, solver="newton"), "solver 'newton' is unknown"),
        (lambda o, t: Influence(o, t, -1.0)(o.inputs[:1], o.labels[:1]), "damping must be finite"),
        (lambda o, t: Objective(o.losses, o.inputs, o.labels[:3]), "3 labels for 30"),
        (lambda o, t: Objective(o.losses, o.inputs, o.labels, -1.0), "l2 must be finite"),
        (lambda o, t: lissa(None, None, t, scale=0, depth=1), "scale must be positive"),
        (lambda o, t: lissa(None, None, t, scale=1, depth=0), "depth and repeats"),
        (
            lambda o, t: softmax_regression(o.inputs, torch.zeros(30).long(), classes=2, l2=0),
            "l2 must be positive",
        ),
        (
            lambda o, t: softmax_regression(o.inputs, torch.full((30,), 2), classes=2, l2=1),
            "labels must lie in 0..1",
        ),
        (
            lambda o, t: softmax_regression(o.inputs[:0], torch.zeros(0).long(), classes=2, l2=1),
            "0 labels for 0 training examples",
        ),
        (lambda o, t: Anchored(o, t, float("nan")), "damping must be finite"),
        (lambda o, t: minimize(o, t + 1, iterations=1, tolerance=1e-12), "training stopped at"),
    ],
)
def test_bad_input_is_one_clear_error(call, message):
    objective, theta, _ = ridge()
    with pytest.raises(ValueError, match=message):
        call(objective, theta)
