"""Gradient, input x gradient and Integrated Gradients: closed forms, axioms, Captum."""

import captum.attr
import numpy as np
import pytest
import torch
from captum.attr._utils.approximation_methods import approximation_parameters
from support.networks import relative, small_network

from lib.attribution import METHODS, gradient, input_x_gradient, integrated_gradients
from lib.attribution.integrated_gradients import RULES, gauss_legendre, right_riemann
from lib.networks.classifier import Classifier

ZERO = torch.zeros(1, dtype=torch.long)


def point(*values: float) -> torch.Tensor:
    """One image of 1 x len(values) pixels."""
    return torch.tensor(values, dtype=torch.float64).view(1, 1, 1, -1)


def columns(x):
    return x.flatten(1).unbind(1)


def ig(classifier, x, **options) -> np.ndarray:
    return integrated_gradients(classifier, x, ZERO, **options).flatten().numpy()


@pytest.fixture(scope="module")
def linear(exact):
    weights = torch.randn(48, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    network = exact(lambda x: x.flatten(1) @ weights + 2.0, channels=3)
    return network, weights


@pytest.fixture(scope="module")
def images64():
    random = torch.Generator().manual_seed(1)
    return torch.rand(3, 3, 4, 4, generator=random, dtype=torch.float64)


# --- quadrature ----------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("steps", [1, 2, 3, 25, 50, 300])
def test_weights_sum_to_one_and_nodes_lie_on_the_path(rule, steps):
    nodes, weights = RULES[rule](steps)
    assert len(nodes) == len(weights) == steps
    assert abs(weights.sum() - 1) < 1e-12 and weights.min() > 0
    assert nodes.min() >= 0 and nodes.max() <= 1 and (np.diff(nodes) > 0).all()


def test_captums_trapezoid_weights_do_not_sum_to_one():
    """Why it is no oracle for that rule: its sum is (n - 1) / n."""
    sizes, _ = approximation_parameters("riemann_trapezoid")
    assert sum(sizes(50)) == pytest.approx(0.98)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("steps", [2, 3, 10])
def test_a_linear_model_is_complete_at_any_number_of_steps(rule, steps, linear, images64):
    network, weights = linear
    targets = torch.tensor([0, 2, 1])
    baseline = images64.flip(0) * 0.5
    maps = integrated_gradients(
        network, images64, targets, steps=steps, rule=rule, baseline=baseline
    )
    expected = weights.T[targets].view_as(images64) * (images64 - baseline)
    assert torch.allclose(maps, expected, atol=1e-12)
    with torch.no_grad():
        gap = network(images64) - network(baseline)
    gap = gap.gather(1, targets.view(-1, 1)).view(-1)
    assert torch.allclose(maps.sum((1, 2, 3)), gap, atol=1e-6)


def test_a_cubic_tells_the_rules_apart(exact):
    cubic = exact(lambda x: (x**3).flatten(1))
    one = point(1.0)
    for steps, value in ((25, 1.0608), (50, 1.0302), (128, 1.0117)):
        assert ig(cubic, one, rule="right_riemann", steps=steps)[0] == pytest.approx(
            value, abs=5e-5
        )
    assert ig(cubic, one, rule="gauss_legendre", steps=2)[0] == pytest.approx(1, abs=1e-12)
    assert ig(cubic, one, rule="trapezoid", steps=2)[0] == pytest.approx(1.5)
    assert ig(cubic, one, rule="midpoint", steps=1)[0] == pytest.approx(0.75)
    assert ig(cubic, one, rule="trapezoid", steps=1)[0] == pytest.approx(0.75)


def test_the_completeness_gap_shrinks_at_the_rules_order(small64, images64):
    targets = torch.tensor([0, 1, 3])
    with torch.no_grad():
        difference = small64(images64) - small64(torch.zeros_like(images64))
    difference = difference.gather(1, targets.view(-1, 1)).view(-1)

    def gap(rule, steps):
        maps = integrated_gradients(small64, images64, targets, rule=rule, steps=steps)
        return (maps.sum((1, 2, 3)) - difference).abs()

    for rule, factor, steps in (("midpoint", 4, 16), ("right_riemann", 2, 64)):
        ratio = gap(rule, steps) / gap(rule, 2 * steps)
        assert ((ratio - factor).abs() < 0.1 * factor).all(), (rule, ratio)
    ratio = gap("trapezoid", 17) / gap("trapezoid", 33)  # 16 and 32 intervals
    assert ((ratio - 4).abs() < 0.4).all()
    assert (gap("gauss_legendre", 12) < 1e-6).all()


# --- the papers' counterexamples and axioms ------------------------------------------------------


def test_saturation(exact):
    saturated = exact(lambda x: 1 - torch.relu(1 - x.flatten(1)))
    assert gradient(saturated, point(2.0), ZERO).item() == 0
    assert ig(saturated, point(2.0), steps=10)[0] == pytest.approx(1, abs=1e-12)


def test_two_implementations_of_one_function(exact):
    def f(x):
        a, b = columns(x)
        return torch.relu(torch.relu(a) - 1 - torch.relu(b))[:, None]

    def g(x):
        a, b = columns(x)
        return torch.relu(torch.relu(a - 1) - torch.relu(b))[:, None]

    for function in (f, g):
        assert ig(exact(function), point(3, 1), steps=10) == pytest.approx([1.5, -0.5], abs=1e-12)


def test_the_minimum_goes_to_the_smaller(exact):
    def minimum(x):
        return torch.minimum(*columns(x))[:, None]

    assert ig(exact(minimum), point(1, 3), steps=7) == pytest.approx([1, 0], abs=1e-12)


def test_symmetry_dummy_and_linearity(exact):
    def f(x):  # symmetric in the first two pixels, blind to the fourth
        a, b, c, _ = columns(x)
        return (torch.sin(a * b) + c * torch.exp(a + b))[:, None]

    def g(x):
        a, _, c, d = columns(x)
        return (a**3 * c - torch.tanh(d))[:, None]

    def both(x):
        return 2 * f(x) - 3 * g(x)

    x, baseline = point(0.7, 0.7, 0.2, 0.9), point(0.1, 0.1, 0.5, 0.3)
    options = {"steps": 9, "baseline": baseline}
    of_f, of_g = ig(exact(f), x, **options), ig(exact(g), x, **options)
    assert of_f[0] == pytest.approx(of_f[1], abs=1e-14) and of_f[3] == 0
    assert of_g[1] == 0
    assert ig(exact(both), x, **options) == pytest.approx(2 * of_f - 3 * of_g, abs=1e-13)


def test_gradients_match_finite_differences(small64, images64):
    targets = torch.tensor([1, 0, 2])
    maps = gradient(small64, images64, targets)
    step, random = 1e-5, torch.Generator().manual_seed(2)
    for _ in range(3):
        way = torch.randn(images64.shape, generator=random, dtype=torch.float64)
        with torch.no_grad():
            rise = (small64(images64 + step * way) - small64(images64 - step * way)) / (2 * step)
        slope = (maps * way).sum((1, 2, 3))
        assert torch.allclose(slope, rise.gather(1, targets.view(-1, 1)).view(-1), rtol=1e-6)
    torch.testing.assert_close(input_x_gradient(small64, images64, targets), images64 * maps)


def test_black_pixels_are_the_origin(images64):
    """Normalization lies inside: zero in normalized space is gray, not black."""
    network = Classifier(small_network().double(), mean=[0.5] * 3, std=[0.25] * 3)
    targets, black = torch.tensor([0, 1, 2]), torch.zeros_like(images64)
    with torch.no_grad():
        gap = (network(images64) - network(black)).gather(1, targets.view(-1, 1)).view(-1)
    options = {"steps": 30, "rule": "gauss_legendre"}
    maps = integrated_gradients(network, images64, targets, **options)
    assert torch.allclose(maps.sum((1, 2, 3)), gap, rtol=1e-6)
    gray = integrated_gradients(network, images64, targets, baseline=0.5, **options)
    assert not torch.allclose(gray.sum((1, 2, 3)), gap, rtol=1e-2)


# --- Captum --------------------------------------------------------------------------------------

CAPTUM = {
    "midpoint": "riemann_middle",
    "right_riemann": "riemann_right",
    "gauss_legendre": "gausslegendre",
}


def test_captum_agrees_on_a_small_network(small, images64):
    images, targets = images64.float(), torch.tensor([3, 0, 1])
    saliency = captum.attr.Saliency(small).attribute(images, target=targets, abs=False)
    assert relative(gradient(small, images, targets), saliency) < 1e-4
    product = captum.attr.InputXGradient(small).attribute(images, target=targets)
    assert relative(input_x_gradient(small, images, targets), product) < 1e-4
    theirs = captum.attr.IntegratedGradients(small, multiply_by_inputs=True)
    baseline = images.flip(0)
    for rule, name in CAPTUM.items():
        for steps in (2, 7):
            expected = theirs.attribute(
                images, baseline, target=targets, n_steps=steps, method=name
            ).float()
            options = {"steps": steps, "rule": rule, "baseline": baseline}
            ours = integrated_gradients(small, images, targets, **options)
            assert relative(ours, expected) < 1e-4, (rule, steps)
    left = theirs.attribute(images, baseline, target=targets, n_steps=7, method="riemann_left")
    right = integrated_gradients(small, images, targets, rule="right_riemann", steps=7)
    assert relative(right, left.float()) > 1e-3


@pytest.mark.slow
def test_captum_agrees_on_the_embedded_network(classifier, photos, pixels):
    images, targets = pixels[:2], photos.targets[:2]
    saliency = captum.attr.Saliency(classifier).attribute(images, target=targets, abs=False)
    assert relative(gradient(classifier, images, targets), saliency) < 1e-4
    theirs = captum.attr.IntegratedGradients(classifier)
    expected = theirs.attribute(images, target=targets, n_steps=4, method="gausslegendre")
    ours = integrated_gradients(classifier, images, targets, steps=4, rule="gauss_legendre")
    assert relative(ours, expected.float()) < 1e-4


# --- options -------------------------------------------------------------------------------------


def test_baselines_by_name_level_and_tensor(small64, images64):
    targets = torch.tensor([0, 1, 2])

    def maps(baseline):
        return integrated_gradients(small64, images64, targets, steps=3, baseline=baseline)

    torch.testing.assert_close(maps("black"), maps(0))
    torch.testing.assert_close(maps("white"), maps(1.0))
    torch.testing.assert_close(maps(0.25), maps(torch.full((1, 3, 1, 1), 0.25)))
    torch.testing.assert_close(maps("mean"), maps(images64.mean((2, 3), keepdim=True)))
    assert not torch.allclose(maps("blur"), maps("mean"))
    assert maps(images64).abs().max() == 0


@pytest.mark.usefixtures("unchecked")
def test_bad_options_are_one_clear_error(small64, images64):
    bad = [
        ({"steps": 0}, "steps must be at least 1"),
        ({"rule": "simpson"}, "rule 'simpson' is unknown; choose one of: midpoint"),
        ({"baseline": "gray"}, "baseline 'gray' is unknown; choose one of: black"),
        ({"baseline": 1.5}, "not a gray level"),
        ({"baseline": float("nan")}, "not a gray level"),
        ({"baseline": None}, "not a gray level"),
        ({"baseline": torch.zeros(2, 3, 4, 4)}, "does not broadcast"),
        ({"baseline": torch.zeros(1, dtype=torch.uint8)}, "must be finite floats in pixel units"),
        ({"baseline": torch.full((1,), float("nan"))}, "must be finite floats in pixel units"),
        ({"baseline": torch.zeros(1, device="meta")}, "baseline is on meta, the images on cpu"),
    ]
    for options, message in bad:
        with pytest.raises(ValueError, match=message):
            integrated_gradients(small64, images64, torch.tensor([0, 1, 2]), **options)


def test_methods_are_named(small64):
    assert {"gradient", "input_x_gradient", "integrated_gradients", "smoothgrad"} <= set(METHODS)
    assert {"random", "edges"} <= set(METHODS)
    assert gauss_legendre(1)[0][0] == 0.5 and right_riemann(1)[0][0] == 1
