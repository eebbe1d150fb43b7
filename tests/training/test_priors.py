"""Attribution priors: closed forms, finite differences, and the attributions that they act on."""

import pytest
import torch
from torch import nn

from lib.training import ensemble_gradients, ensembles, priors

torch.manual_seed(0)
DOUBLE = torch.float64


def network(bias=True, inputs=6, seed=0):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layers = [nn.Linear(inputs, 8, bias), nn.ReLU(), nn.Linear(8, 4, bias), nn.ReLU()]
        return nn.Sequential(*layers, nn.Linear(4, 1, bias)).to(DOUBLE)


def score_of(net):
    return lambda rows: net(rows).squeeze(-1)


def test_gini_in_closed_form():
    assert priors.gini(torch.full((7,), 3.0)).item() == pytest.approx(0, abs=1e-6)
    one_hot = torch.eye(9)[4]
    assert priors.gini(one_hot).item() == pytest.approx(1 - 1 / 9)
    assert priors.gini(torch.zeros(5)).item() == 0
    values = torch.rand(3, 11, dtype=DOUBLE)
    pairs = (values[:, :, None] - values[:, None]).abs().mean((1, 2)) / (2 * values.mean(1))
    torch.testing.assert_close(priors.gini(values), pairs)
    torch.testing.assert_close(priors.gini(values * 1e-6), pairs)
    torch.testing.assert_close(priors.gini(values[:, torch.randperm(11)]), pairs)


def test_gini_and_its_gradient_are_finite_for_zeros():
    dead = torch.zeros(4, 5, requires_grad=True)
    priors.sparsity(dead).backward()
    assert torch.isfinite(dead.grad).all()


def test_the_gradient_of_the_x_gradient_prior_equals_finite_differences():
    net, rows = network(bias=False), torch.randn(10, 6, dtype=DOUBLE)

    def prior():
        return priors.sparsity(priors.x_gradient(score_of(net), rows))

    for weight in net.parameters():
        (exact,) = torch.autograd.grad(prior(), weight)
        assert exact.abs().max() > 1e-4
        numeric, flat, step = torch.zeros_like(weight).flatten(), weight.data.view(-1), 1e-6
        for i in range(len(flat)):
            kept = flat[i].item()
            flat[i] = kept + step
            above = prior().item()
            flat[i] = kept - step
            numeric[i] = (above - prior().item()) / (2 * step)
            flat[i] = kept
        torch.testing.assert_close(exact.flatten(), numeric, atol=1e-7, rtol=1e-5)


def test_linear_model_every_attribution_is_known():
    weight = torch.randn(5, dtype=DOUBLE)
    rows, references = torch.randn(4, 5, dtype=DOUBLE), torch.randn(3, 4, 5, dtype=DOUBLE)
    score = lambda x: x @ weight + 1.5  # noqa: E731
    torch.testing.assert_close(priors.gradient(score, rows), weight.expand(4, 5))
    torch.testing.assert_close(priors.x_gradient(score, rows), rows * weight)
    torch.testing.assert_close(priors.integrated_gradients(score, rows, steps=3), rows * weight)
    expected = priors.expected_gradients(score, rows, references, torch.rand(3, 4, dtype=DOUBLE))
    torch.testing.assert_close(expected, weight * (rows - references.mean(0)))
    reasons = (1 - 2 * torch.sigmoid(score(rows)))[:, None] * weight
    torch.testing.assert_close(priors.right_for_the_right_reasons(score, rows), reasons)


def test_without_biases_x_gradient_is_integrated_gradients_and_with_them_not():
    rows = torch.randn(10, 6, dtype=DOUBLE)
    for bias in (False, True):
        score = score_of(network(bias))
        whole = priors.integrated_gradients(score, rows, steps=200)
        close = torch.allclose(priors.x_gradient(score, rows), whole, atol=1e-12)
        assert close is not bias


@pytest.mark.slow
def test_expected_gradients_converges_to_integrated_gradients_averaged_over_references():
    score, rows = score_of(network()), torch.randn(5, 6, dtype=DOUBLE)
    people = torch.randn(7, 6, dtype=DOUBLE)
    parts = [
        priors.integrated_gradients(lambda x, p=p: score(x + p), rows - p, steps=200)
        for p in people
    ]
    average = torch.stack(parts).mean(0)
    generator, errors = torch.Generator().manual_seed(0), []
    for k in (35, 1400):  # every reference equally often, positions at random
        references = people.repeat(k // 7, 1)[:, None].expand(-1, 5, -1)
        positions = torch.rand(k, 5, dtype=DOUBLE, generator=generator)
        found = priors.expected_gradients(score, rows, references, positions)
        errors.append((found - average).square().mean().sqrt().item())
    assert errors[1] < 0.01 and errors[0] > 3 * errors[1]  # as 1/sqrt(k): a factor of 6.3


def test_one_reference_and_all_positions_is_integrated_gradients():
    score, rows = score_of(network()), torch.randn(5, 6, dtype=DOUBLE)
    middles = (torch.arange(50, dtype=DOUBLE) + 0.5)[:, None].expand(50, 5) / 50
    zero = torch.zeros(50, 5, 6, dtype=DOUBLE)
    torch.testing.assert_close(
        priors.expected_gradients(score, rows, zero, middles),
        priors.integrated_gradients(score, rows, steps=50),
    )


@pytest.mark.usefixtures("unchecked")
def test_references_that_do_not_fit():
    with pytest.raises(ValueError, match="do not fit inputs"):
        priors.expected_gradients(
            lambda x: x.sum(1), torch.ones(3, 2), torch.ones(4, 2, 2), torch.ones(4, 3)
        )


@pytest.mark.parametrize("attribution", ensemble_gradients.ATTRIBUTIONS)
@pytest.mark.parametrize("bias", [True, False])
def test_closed_form_gradient_of_loss_and_prior_equals_finite_differences(attribution, bias):
    random = torch.Generator().manual_seed(1)
    x = torch.randn(2, 9, 5, dtype=DOUBLE, generator=random)
    y = (torch.rand(2, 9, generator=random) < 0.5).to(DOUBLE)
    settings = ensemble_gradients.EnsembleSettings(
        attribution, strength=0.7, references=3, bias=bias, hidden=(7, 4)
    )
    weights, biases = ensembles.initial(5, settings, [0, 1], x)

    def objective():
        logits = ensemble_gradients.forward(weights, biases, x)[1]
        loss = nn.functional.binary_cross_entropy_with_logits(logits, y, reduction="sum") / 9
        score = lambda rows: ensemble_gradients.forward(weights, biases, rows)[1]  # noqa: E731
        if attribution in ("gradient", "right_for_the_right_reasons", "x_gradient"):
            found = getattr(priors, attribution)(score, x)
        else:
            points, factor = settings.points(x, 0, [0, 1])
            found = (factor * priors.gradient(score, points)).unflatten(1, (3, 9)).mean(1)
        return (loss + 0.7 * priors.sparsity(found).sum()).detach()

    layers, logits = ensemble_gradients.forward(weights, biases, x)
    ensemble_gradients.set_gradients(weights, biases, layers, logits, y, settings, [0, 1], 0)
    for parameter in [*weights, *(b for b in biases if b is not None)]:
        flat, step = parameter.view(-1), 1e-6
        for i in range(0, len(flat), 5):
            kept = flat[i].item()
            flat[i] = kept + step
            above = objective()
            flat[i] = kept - step
            numeric = (above - objective()) / (2 * step)
            flat[i] = kept
            torch.testing.assert_close(parameter.grad.view(-1)[i], numeric, atol=1e-7, rtol=1e-5)
