"""Excitation backprop: by hand, against Captum, conservation, refusals by name."""

import pytest
import torch
from captum.attr import LRP
from captum.attr._utils.lrp_rules import Alpha1_Beta0_Rule, EpsilonRule
from support.networks import relative
from torch import nn

from lib.attribution import METHODS
from lib.attribution.excitation_backprop import (
    contrastive_excitation_backprop,
    excitation_backprop,
    probabilities,
)
from lib.networks.classifier import Classifier, load_classifier


def wrapped(network, channels=1):
    return Classifier(network, mean=[0.0] * channels, std=[1.0] * channels)


def seeded(build, seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return build().eval()


def two_layers():
    network = nn.Sequential(nn.Flatten(), nn.Linear(3, 2), nn.ReLU(), nn.Linear(2, 2)).double()
    network[1].weight.data = torch.tensor([[1.0, -1, 1], [2, 1, -1]]).double()
    network[1].bias.data = torch.tensor([0.0, 1]).double()
    network[3].weight.data = torch.tensor([[1.0, 3], [-2, 1]]).double()
    return network


X = torch.tensor([1.0, 2, 3]).double().view(1, 1, 1, 3)


def test_two_layers_by_hand():
    # hidden (2, 2); class 0 excited by weights (1, 3): (1/4, 3/4); unit 0 by (1, 0, 1) x (1, 2, 3):
    # (1/4, 0, 3/4); unit 1 by (2, 1, 0) x (1, 2, 3): (1/2, 1/2, 0)
    classifier = wrapped(two_layers())
    hidden = probabilities(classifier, X, torch.tensor([0]), "2")
    assert torch.allclose(hidden, torch.tensor([[0.25, 0.75]]).double())
    inputs = probabilities(classifier, X, torch.tensor([0]), "0")
    assert torch.allclose(inputs, torch.tensor([[0.4375, 0.375, 0.1875]]).double())
    # class 1, weights (-2, 1): excited by unit 1, its opposite by unit 0
    contrast = probabilities(classifier, X, torch.tensor([1]), "0", contrast=True)
    assert torch.allclose(contrast, torch.tensor([[0.25, 0.5, -0.75]]).double())


def test_negating_the_class_weights_flips_the_contrast():
    network = two_layers()
    before = probabilities(wrapped(network), X, torch.tensor([1]), "0", contrast=True)
    network[3].weight.data[1] *= -1
    after = probabilities(wrapped(network), X, torch.tensor([1]), "0", contrast=True)
    assert torch.allclose(after, -before) and after.abs().sum() > 1


def test_zeros_and_dead_units_lose_their_mass_and_nothing_is_nan():
    network = two_layers()
    network[1].weight.data[1] = -network[1].weight.data[1].abs()
    network[1].bias.data[1] = 100  # active by its bias alone: nothing excites it
    inputs = probabilities(wrapped(network), X, torch.tensor([0]), "0")
    assert torch.isfinite(inputs).all() and 0 < inputs.sum() < 1
    nothing = probabilities(wrapped(two_layers()), 0 * X, torch.tensor([0]), "0")
    assert (nothing == 0).all()


def plain():
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1, bias=False),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(6, 8, 3, stride=2, padding=1, bias=False),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(8 * 16, 5, bias=False),
    )


def test_equal_to_captum_where_its_rule_is_the_same():
    network = seeded(plain).double()
    images = torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(0)).double()
    logits = network(images)
    targets = logits.argmax(1)
    ours = probabilities(wrapped(network, 3), images, targets, "0")
    for layer in (network[0], network[3], network[6]):
        layer.rule = Alpha1_Beta0_Rule(set_bias_to_zero=True)
    network[5].rule = EpsilonRule()
    # LRP with alpha = 1, beta = 0 starts at the logit; its relevance below the first ReLU is ours
    below = nn.Sequential(*network[1:])
    with torch.no_grad():
        features = network[0](images)
    theirs = LRP(below).attribute(features.requires_grad_(True), target=targets)
    assert relative(ours, theirs / logits.gather(1, targets.view(-1, 1)).view(-1, 1, 1, 1)) < 1e-6


class Residual(nn.Module):
    """In-place and functional operations, a sum and a concatenation."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, padding=1)
        self.branch = nn.Conv2d(6, 6, 3, padding=1)
        self.side = nn.Conv2d(6, 4, 1)
        self.head = nn.Linear(10, 4)

    def forward(self, x):
        x = torch.relu(self.stem(x))
        out = self.branch(x)
        out += x
        out = nn.functional.relu6(out, inplace=True)
        both = torch.cat([out, torch.relu(self.side(x))], 1)
        return self.head(both.mean((2, 3)))


@pytest.mark.parametrize("name", ["relu", "stem"])
def test_mass_is_conserved_through_sums_and_concatenations(name):
    network = seeded(Residual)
    network.head.weight.data.abs_()
    for layer in (network.branch, network.side):
        layer.weight.data.abs_()
        layer.bias.data.zero_()  # a unit that only its bias excites would end a walk
    classifier = wrapped(network, 3)
    images = torch.rand(2, 3, 12, 10, generator=torch.Generator().manual_seed(0))
    arrived = probabilities(classifier, images, torch.tensor([0, 3]), name)
    assert (arrived >= 0).all()
    assert torch.allclose(arrived.sum((1, 2, 3)), torch.ones(2), atol=1e-5)
    assert torch.allclose(classifier(images), network(images), atol=1e-6)


def test_a_sum_splits_in_proportion():
    class Sum(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False)
            self.head = nn.Linear(1, 1, bias=False)
            for layer, value in ((self.a, 3.0), (self.b, 1.0), (self.head, 1.0)):
                layer.weight.data.fill_(value)

        def forward(self, x):
            x = x.flatten(1)
            return self.head(torch.relu(self.a(x)) + torch.relu(self.b(x)))

    one = torch.ones(1, 1, 1, 1)
    for name, share in (("a", 0.75), ("b", 0.25)):
        arrived = probabilities(wrapped(Sum()), one, torch.tensor([0]), name)
        assert arrived.item() == pytest.approx(share)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet18", "alexnet", "googlenet"])
def test_networks_of_torchvision(name, pixels):
    network = load_classifier(name, weights="random")
    targets = torch.tensor([3, 500])
    cells = excitation_backprop(network, pixels[:2], targets, upsample=False)
    assert cells.shape[2:] == ((27, 27) if name == "alexnet" else (28, 28)) and (cells >= 0).all()
    assert torch.allclose(cells.sum((1, 2, 3)), torch.ones(2), atol=1e-3)
    signed = contrastive_excitation_backprop(
        network, pixels[:2], targets, upsample=False, clamp=False
    )
    assert (signed.sum((1, 2, 3)).abs() < 1e-3).all()  # both walks carry 1


@pytest.mark.slow
def test_the_embedded_network_and_its_photos(classifier, pixels, photos):
    few, targets = pixels[:3], photos.targets[:3]
    both = METHODS["excitation_backprop"](classifier, few, targets)
    assert (
        both.shape == (3, 1, 224, 224) and (both >= 0).all() and both.flatten(1).amax(1).min() > 0
    )
    alone = torch.cat(
        [excitation_backprop(classifier, few[[i]], targets[[i]]) for i in (2, 1, 0)]
    ).flip(0)
    assert relative(alone, both) < 1e-4
    other = (targets + 100) % 1000
    assert relative(excitation_backprop(classifier, few, other), both) > 0.01
    contrast = METHODS["contrastive_excitation_backprop"](classifier, few, targets)
    assert (contrast >= 0).all() and not any(p.requires_grad for p in classifier.parameters())


class Odd(nn.Module):
    def __init__(self, operation):
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 4, 3, padding=1), nn.Linear(4, 2)
        self.operation = operation

    def forward(self, x):
        return self.head(self.operation(torch.relu(self.conv(x))).mean((2, 3)))


@pytest.mark.parametrize(
    ("network", "named"),
    [
        (Odd(lambda x: x * x), r"not for operation mul\(relu\w*, relu\w*\)$"),
        (Odd(lambda x: x - 1), r"not for operation sub\(relu\w*, 1\)$"),
        (Odd(lambda x: x + 1), r"not for operation add\(relu\w*, 1\)$"),
        (Odd(nn.GELU()), r"layer operation \(GELU\)"),
        (Odd(nn.BatchNorm2d(4)), "BatchNorm2d"),
        (Odd(nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect")), "Conv2d"),
    ],
)
def test_what_the_rule_does_not_cover_is_named(network, named):
    with pytest.raises(ValueError, match=named):
        excitation_backprop(wrapped(network, 3), torch.rand(1, 3, 16, 16), torch.tensor([0]))


@pytest.mark.usefixtures("unchecked")
def test_other_bad_input(small):
    images, targets = torch.rand(1, 3, 16, 16), torch.tensor([0])
    with pytest.raises(ValueError, match="SiLU"):
        excitation_backprop(small, images, targets)
    no_head = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    with pytest.raises(ValueError, match="does not end in a linear layer"):
        contrastive_excitation_backprop(wrapped(no_head, 3), images, targets)
    with pytest.raises(ValueError, match="'nowhere' does not exist"):
        excitation_backprop(wrapped(seeded(Residual), 3), images, targets, layer="nowhere")
    with pytest.raises(ValueError, match="targets"):
        excitation_backprop(wrapped(seeded(Residual), 3), images, torch.tensor([0, 1]))
    for contrast in (False, True):
        with pytest.raises(ValueError, match="target 2 does not exist: there are 2 classes"):
            probabilities(wrapped(two_layers()), X, torch.tensor([2]), "0", contrast=contrast)
