"""X-Gradient is Integrated Gradients from the origin, on homogeneous networks and only there."""

import pytest
import torch
from torch import nn

from lib.attribution import METHODS
from lib.attribution.gradient import gradient, input_x_gradient
from lib.attribution.integrated_gradients import integrated_gradients
from lib.attribution.x_gradient import x_gradient
from lib.networks.classifier import Classifier
from lib.networks.homogeneity import NotHomogeneous, to_x_dnn
from lib.networks.small import alexnet_like, build, gap_network, relu_power, residual, vgg_like

IMAGES = torch.rand(4, 1, 28, 28, generator=torch.Generator().manual_seed(0))
TARGETS = torch.tensor([3, 1, 4, 1])
MAKERS = (alexnet_like, vgg_like, residual, gap_network)


def wrap(network, mean=0.0, std=1.0):
    return Classifier(
        network, categories=[str(k) for k in range(10)], input_size=28, mean=(mean,), std=(std,)
    )


def bare(make, **options):
    network = build(make, bias=False, **options)
    generator = torch.Generator().manual_seed(1)
    for p in network.parameters():
        p.data += 0.02 * torch.randn(p.shape, generator=generator)
    return network


def relative_difference(ig, other):
    """The paper's measure: mean |IG - other| over mean |IG|."""
    return float((ig - other).abs().mean() / (ig.abs().mean() + 1e-7))


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize("mean", [0.0, 0.4])
def test_equals_integrated_gradients_from_the_origin_in_float64(make, mean):
    classifier = wrap(bare(make).double(), mean, 0.5)
    images = IMAGES.double()
    ours = x_gradient(classifier, images, TARGETS)
    for rule, steps in (("midpoint", 1), ("midpoint", 7), ("gauss_legendre", 5)):
        ig = integrated_gradients(
            classifier, images, TARGETS, steps=steps, rule=rule, baseline=mean
        )
        torch.testing.assert_close(ours, ig, rtol=1e-9, atol=1e-12)
    logit = classifier(images).gather(1, TARGETS.view(-1, 1))[:, 0]
    torch.testing.assert_close(ours.sum((1, 2, 3)), logit, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("make", MAKERS)
def test_identity_holds_in_float32_and_fails_with_biases(make):
    network = bare(make)
    ig = integrated_gradients(wrap(network), IMAGES, TARGETS, steps=20)
    assert relative_difference(ig, x_gradient(wrap(network), IMAGES, TARGETS)) < 1e-4
    biased = build(make)
    for name, p in biased.named_parameters():
        p.data += 0.1 * torch.randn(p.shape, generator=torch.Generator().manual_seed(len(name)))
    ig = integrated_gradients(wrap(biased), IMAGES, TARGETS, steps=20)
    product = x_gradient(wrap(biased), IMAGES, TARGETS, degree=1)
    assert relative_difference(ig, product) > 0.01


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_degree_two_to_the_depth_needs_the_factor(depth):
    k = 2**depth
    classifier = wrap(build(relu_power, depth=depth).double())
    images = IMAGES.double()
    ours = x_gradient(classifier, images, TARGETS)
    exact = integrated_gradients(
        classifier, images, TARGETS, steps=max(1, k // 2), rule="gauss_legendre"
    )  # a polynomial of degree k - 1 in alpha
    torch.testing.assert_close(ours, exact, rtol=1e-8, atol=1e-12)
    product = input_x_gradient(classifier, images, TARGETS)
    torch.testing.assert_close(ours, product / k, rtol=1e-12, atol=0)
    logit = classifier(images).gather(1, TARGETS.view(-1, 1))[:, 0]
    torch.testing.assert_close(product.sum((1, 2, 3)), k * logit, rtol=1e-9, atol=1e-12)  # Euler


def test_closed_form_of_two_squared_layers(exact):
    classifier = exact(lambda x: torch.relu(torch.relu(x.flatten(1)) ** 2) ** 2)
    images = torch.tensor([[0.5, 0.8]], dtype=torch.float64).view(1, 1, 1, 2)
    for target, value in ((0, 0.5**4), (1, 0.8**4)):
        expected = torch.zeros(2, dtype=torch.float64)
        expected[target] = value
        ours = x_gradient(classifier, images, torch.tensor([target]))
        torch.testing.assert_close(ours.flatten(), expected)


def test_sums_and_argmax_survive_contrast():
    classifier = wrap(bare(alexnet_like))
    whole = classifier(IMAGES)
    ours = x_gradient(classifier, IMAGES, TARGETS)
    for alpha in (0.1, 0.5, 1.0):
        logits = classifier(alpha * IMAGES)
        torch.testing.assert_close(logits, alpha * whole, rtol=1e-4, atol=1e-5)
        assert torch.equal(logits.argmax(1), whole.argmax(1))
        scaled = x_gradient(classifier, alpha * IMAGES, TARGETS)
        torch.testing.assert_close(scaled, alpha * ours, rtol=1e-3, atol=1e-5)


def test_mean_subtraction_takes_the_products_origin_along():
    classifier = wrap(bare(gap_network), mean=0.4, std=0.25)
    ours = x_gradient(classifier, IMAGES, TARGETS)
    plain = (IMAGES - 0.4) * gradient(classifier, IMAGES, TARGETS)
    torch.testing.assert_close(ours, plain)
    assert relative_difference(ours, input_x_gradient(classifier, IMAGES, TARGETS)) > 0.1


def test_refuses_a_network_that_is_not_homogeneous_unless_told_to(classifier, pixels, photos):
    with pytest.raises(NotHomogeneous, match=r"efficientnet-lite0 is not .* \(Conv2d: its bias"):
        x_gradient(classifier, pixels[:1], photos.targets[:1])
    told = x_gradient(classifier, pixels[:1], photos.targets[:1], degree=1)
    product = (pixels[:1] - 0.5) * gradient(classifier, pixels[:1], photos.targets[:1])
    torch.testing.assert_close(told, product)
    half = x_gradient(classifier, pixels[:1], photos.targets[:1], degree=2)
    torch.testing.assert_close(half, told / 2)
    assert METHODS["x_gradient"] is x_gradient


@pytest.mark.slow
def test_embedded_network_without_biases_fulfils_the_identity(classifier, pixels, photos):
    network = to_x_dnn(classifier, replace=True).network
    few, targets = pixels[:2], photos.targets[:2]
    ig = integrated_gradients(network, few, targets, steps=8, baseline=0.5)
    assert relative_difference(ig, x_gradient(network, few, targets)) < 1e-4


def test_batches_and_order_do_not_matter():
    classifier = wrap(bare(vgg_like))
    whole = x_gradient(classifier, IMAGES, TARGETS)
    for size in (1, 3, 4):
        torch.testing.assert_close(
            x_gradient(classifier, IMAGES, TARGETS, batch_size=size), whole, rtol=1e-4, atol=1e-6
        )
    order = [2, 0, 3, 1]
    shuffled = x_gradient(classifier, IMAGES[order], TARGETS[order])
    torch.testing.assert_close(shuffled, whole[order], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("bad", [0, -1, float("nan"), float("inf")])
def test_bad_degree(bad):
    with pytest.raises(ValueError, match="degree must be a positive number"):
        x_gradient(wrap(bare(gap_network)), IMAGES, TARGETS, degree=bad)


@pytest.mark.usefixtures("unchecked")
def test_images_are_checked_before_the_product():
    for bad in (IMAGES.numpy(), (IMAGES * 255).byte(), IMAGES[0]):
        with pytest.raises(ValueError, match="must be a float tensor"):
            x_gradient(wrap(bare(gap_network)), bad, TARGETS)


def test_softmax_on_top_is_refused():
    network = nn.Sequential(bare(gap_network), nn.Softmax(1))
    with pytest.raises(NotHomogeneous, match="Softmax: squashes"):
        x_gradient(wrap(network), IMAGES, TARGETS)
