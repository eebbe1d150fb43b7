"""Grad-CAM++: its closed form under global pooling, and the paper's derivatives by autograd."""

import pytest
import torch
from support.networks import relative
from torch import nn

from lib.attribution import METHODS, grad_cam, grad_cam_plus_plus
from lib.networks import small as small_networks
from lib.networks.classifier import Classifier
from lib.networks.layers import LayerError


def classified(network):
    return Classifier(network.double().eval(), mean=(0.0,), std=(1.0,), categories=list("abcd"))


@pytest.fixture
def images():
    return torch.rand(2, 1, 28, 28, dtype=torch.float64)


TARGETS = torch.tensor([1, 3])


def test_pooling_and_a_linear_layer_have_a_closed_form(images):
    network = small_networks.build(small_networks.gap_network, classes=4)
    cells = grad_cam_plus_plus(classified(network), images, TARGETS, upsample=False)
    with torch.no_grad():
        features = network[:-3](images)
    weight = network[-1].weight[TARGETS].detach()
    weights = weight.relu() / (2 + weight * features.mean((2, 3)))  # g = w / Z in every cell
    expected = torch.einsum("bk,bkhw->bhw", weights, features).relu()[:, None]
    assert relative(cells, expected) < 1e-9


def test_the_derivatives_of_the_paper(images):
    """Y = exp(S), its second and third derivatives in every single cell, by autograd."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        above = nn.Sequential(nn.Flatten(), nn.Linear(3 * 16, 8), nn.ReLU(), nn.Linear(8, 4))
        network = nn.Sequential(nn.Conv2d(1, 3, 7, stride=7), nn.ReLU(), above).double()
    image, c = images[:1], 2
    features = network[:2](image).detach()
    weights = torch.zeros(3, dtype=torch.float64)
    for k, y, x in torch.cartesian_prod(torch.arange(3), torch.arange(4), torch.arange(4)):
        value = features[0, k, y, x].clone().requires_grad_(True)
        altered = features.clone()
        altered[0, k, y, x] = value
        derivative = above(altered)[0, c].exp()
        derivatives = []
        for _ in range(3):
            (derivative,) = torch.autograd.grad(derivative, value, create_graph=True)
            derivatives.append(derivative.detach())
        first, second, third = derivatives
        below = 2 * second + features[0, k].sum() * third
        weights[k] += second / below * first.relu() if second > 0 else 0
    maps = torch.einsum("k,khw->hw", weights, features[0]).relu()
    ours = grad_cam_plus_plus(
        classified(network), image, torch.tensor([c]), layer="1", upsample=False
    )
    assert relative(ours[0, 0] * above(features)[0, c].exp(), maps) < 1e-9


def test_the_embedded_network(classifier, pixels, photos):
    few, targets = pixels[:2], photos.targets[:2]
    maps = METHODS["grad_cam_plus_plus"](classifier, few, targets)
    plain = grad_cam(classifier, few, targets)
    assert maps.shape == (2, 1, 224, 224) and (maps >= 0).all()
    for ours, other in zip(maps, plain, strict=True):
        assert 0.5 < torch.corrcoef(torch.stack([ours.flatten(), other.flatten()]))[0, 1] < 0.999


def test_bad_layers_are_named_with_ones_that_work(classifier, pixels, photos):
    with pytest.raises(LayerError, match=r"'_fc' .* no spatial output; .* _swish_1 \(7 x 7\)"):
        grad_cam_plus_plus(classifier, pixels[:1], photos.targets[:1], layer="_fc")
