"""LRP: by hand, against zennit, and the identities of its two rules."""

import pytest
import torch
from support.networks import relative
from torch import nn

from lib.attribution import METHODS, gradient, lrp_epsilon, lrp_z_plus
from lib.attribution.excitation_backprop import probabilities
from lib.attribution.lrp import STABILIZER
from lib.core import runtime
from lib.networks import small as small_networks
from lib.networks.classifier import Classifier, load_classifier

MEAN, STD = [0.4, 0.5, 0.3], [0.2, 0.3, 0.25]


class Residual(nn.Module):
    """ReLU6, a sum with a linear bottleneck, max and average pooling."""

    def __init__(self, bias=True, activation=nn.ReLU6, add=None):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1, bias=bias), activation())
        self.wide = nn.Sequential(nn.Conv2d(6, 12, 3, padding=1, bias=bias), activation())
        self.narrow = nn.Conv2d(12, 6, 1, bias=bias)
        self.pool = nn.Sequential(nn.MaxPool2d(2), nn.AdaptiveAvgPool2d(2), nn.Flatten())
        self.head = nn.Linear(24, 4, bias=bias)
        self.add = add

    def forward(self, x):
        x = self.stem(x)
        y = self.narrow(self.wide(x))
        x = self.add(torch.stack([x, y], -1)) if self.add is not None else x + y
        return self.head(self.pool(x))


def double(make, **options):
    return small_networks.build(make, **options).double().eval()


def classified(network, mean=MEAN, std=STD):
    return Classifier(network, mean=mean, std=std)


@pytest.fixture
def images():
    return torch.rand(3, 3, 8, 8, dtype=torch.float64)


TARGETS = torch.tensor([0, 3, 1])


def of_zennit(network, images, rule, sums: float):
    """Zennit's answer: ``rule`` for weights, its Norm for averages and sums, Pass for ReLUs."""
    runtime.torchvision()  # zennit imports it
    from zennit import rules
    from zennit.core import Composite
    from zennit.layer import Sum

    def hooks(ctx, name, module):
        if isinstance(module, nn.Conv2d | nn.Linear):
            return getattr(rules, rule[0])(**rule[1])
        if isinstance(module, nn.ReLU | nn.ReLU6):
            return rules.Pass()
        if isinstance(module, Sum | nn.AdaptiveAvgPool2d):
            return rules.Norm(stabilizer=sums if isinstance(module, Sum) else 1e-15)
        return None

    network.add = Sum(dim=-1)
    mean, std = (torch.tensor(v, dtype=torch.float64).view(1, 3, 1, 1) for v in (MEAN, STD))
    pixels = ((images - mean) / std).requires_grad_(True)
    with Composite(hooks).context(network):
        logits = network(pixels)
        start = logits.detach() * nn.functional.one_hot(TARGETS, 4)
        return torch.autograd.grad(logits, pixels, start)[0]


@pytest.mark.parametrize("epsilon", [1e-6, 0.1])
def test_zennit_agrees_on_the_epsilon_rule(images, epsilon):
    theirs = of_zennit(double(Residual), images, ("Epsilon", {"epsilon": epsilon}), epsilon)
    ours = lrp_epsilon(classified(double(Residual)), images, TARGETS, epsilon=epsilon)
    assert relative(ours, theirs) < 1e-9


def test_zennit_agrees_on_z_plus(images):
    without = {"stabilizer": 1e-15, "zero_params": ["bias"]}
    theirs = of_zennit(double(Residual), images, ("ZPlus", without), STABILIZER)
    ours = lrp_z_plus(classified(double(Residual)), images, TARGETS)
    assert relative(ours, theirs) < 1e-9


def test_without_biases_the_epsilon_rule_is_input_times_gradient(images):
    network = classified(double(Residual, bias=False, activation=nn.ReLU))
    ours = lrp_epsilon(network, images, TARGETS, epsilon=0)
    product = gradient(network, images, TARGETS) * (images - network.mean)
    assert relative(ours, product) < 1e-12
    scores = network(images).gather(1, TARGETS[:, None])[:, 0]
    assert relative(ours.sum((1, 2, 3)), scores) < 1e-12
    # where a ReLU6 is cut, relevance passes and the gradient does not
    cut = classified(double(Residual, bias=False), std=[0.01] * 3)
    passed = lrp_epsilon(cut, images, TARGETS, epsilon=0)
    assert relative(gradient(cut, images, TARGETS) * (images - cut.mean), passed) > 0.1


def test_epsilon_takes_its_part(images):
    network = classified(double(Residual, bias=False, activation=nn.ReLU))
    mass = [lrp_epsilon(network, images, TARGETS, epsilon=e).abs().sum() for e in (0, 0.1, 10)]
    assert mass[0] > mass[1] > 10 * mass[2] > 0


def test_two_layers_by_hand():
    network = nn.Sequential(nn.Flatten(), nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 1)).double()
    network[1].weight.data = torch.tensor([[1.0, -2], [3, 1]]).double()
    network[1].bias.data = torch.tensor([4.0, -1]).double()
    network[3].weight.data, network[3].bias.data = (
        torch.tensor([[2.0, 1]]).double(),
        torch.zeros(1).double(),
    )
    x = torch.tensor([2.0, 1]).double().view(1, 1, 1, 2)
    plain = classified(network, [0.0], [1.0])
    # hidden (2 - 2 + 4, 6 + 1 - 1) = (4, 6); logit 8 + 6 = 14: relevance (8, 6)
    found = lrp_epsilon(plain, x, torch.tensor([0]), epsilon=0).flatten()
    assert found.tolist() == pytest.approx([8 * 2 / 4 + 6 * 6 / 6, 8 * -2 / 4 + 6 * 1 / 6])
    # positive terms: 2 of unit 0; 6 and 1 of unit 1
    found = lrp_z_plus(plain, x, torch.tensor([0])).flatten()
    assert found.tolist() == pytest.approx([8 + 6 * 6 / 7, 6 * 1 / 7])


def test_z_plus_is_excitation_times_the_logit_where_nothing_is_negative(images):
    network = double(small_networks.vgg_like, channels=1)
    plain = classified(network, [0.0], [1.0])
    digits, targets = torch.rand(2, 1, 28, 28, dtype=torch.float64), torch.tensor([3, 8])
    scores = plain(digits).gather(1, targets[:, None]).view(-1, 1, 1, 1)
    image = next(iter(plain.network.graph.nodes)).name
    expected = scores * probabilities(plain, digits, targets, image)
    assert relative(lrp_z_plus(plain, digits, targets), expected) < 1e-9


@pytest.mark.slow
@pytest.mark.parametrize("name", ["lrp_epsilon", "lrp_z_plus"])
def test_the_embedded_network_and_one_of_torchvision(name, classifier, pixels, photos):
    few, targets = pixels[:2], photos.targets[:2]
    for network in (classifier, load_classifier("resnet18", weights="random")):
        maps = METHODS[name](network, few, targets)
        assert maps.shape == few.shape and maps.isfinite().all()
        alone = METHODS[name](network, few[1:], targets[1:], batch_size=1)
        assert torch.corrcoef(torch.stack([alone[0].flatten(), maps[1].flatten()]))[0, 1] > 0.99


@pytest.mark.usefixtures("unchecked")
def test_bad_input_is_one_line(small, images):
    for method in (lrp_epsilon, lrp_z_plus):
        with pytest.raises(ValueError, match=r"^lrp is defined for .* not for layer .*SiLU"):
            method(small, images.float(), TARGETS)
        with pytest.raises(ValueError, match="target 4 does not exist: there are 4 classes"):
            method(classified(double(Residual)), images, torch.tensor([0, 4, 1]))
    with pytest.raises(ValueError, match="epsilon must be finite and not negative, is -1"):
        lrp_epsilon(classified(double(Residual)), images, TARGETS, epsilon=-1)
