"""DeepLIFT: closed forms, completeness, Captum on the networks that its hooks can follow."""

import captum.attr
import pytest
import torch
from support.networks import relative
from torch import nn

from lib.attribution import METHODS, deeplift, input_x_gradient
from lib.evaluation import tiny
from lib.evaluation.axioms import attribution_of
from lib.networks import small as small_networks
from lib.networks.classifier import Classifier


def wrapped(network, channels=1):
    return Classifier(network.eval(), mean=[0.0] * channels, std=[1.0] * channels)


def conv_network(activation=nn.ReLU, pool=None):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(3, 6, 3, padding=1),
            activation(),
            pool or nn.MaxPool2d(2),
            nn.Conv2d(6, 8, 3, padding=1),
            activation(),
            nn.AdaptiveAvgPool2d(2),
            nn.Flatten(),
            nn.Linear(32, 4),
        ).double()


def gap(classifier, images, targets, baseline="black", **options):
    """How far the maps' sums are from the change of the scores, in the largest change."""
    maps = deeplift(classifier, images, targets, baseline=baseline, **options)
    start = torch.zeros_like(images) if baseline == "black" else baseline
    change = classifier(images) - classifier(start)
    change = change.gather(1, targets[:, None])[:, 0]
    return relative(maps.sum((1, 2, 3)), change)


def test_one_function_written_twice_has_the_two_answers_of_the_paper():
    f, g = tiny.SUBTRACTS  # Sundararajan et al. 2017, figure 7 there
    x = [3.0, 1.0]
    assert attribution_of(deeplift, f, x).tolist() == pytest.approx([1.5, -0.5])
    assert attribution_of(deeplift, g, x).tolist() == pytest.approx([2, -1])


def test_saturation_is_seen():
    assert attribution_of(deeplift, tiny.SATURATES, [2.0, 1.0]).tolist() == pytest.approx([1, 0])


@pytest.mark.parametrize("activation", [nn.ReLU, nn.Sigmoid, nn.Softplus])  # Captum knows these
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_captum_agrees(activation):
    network = conv_network(activation, nn.AvgPool2d(2))
    images, start = torch.rand(2, 3, 3, 8, 8, dtype=torch.float64)
    targets = torch.tensor([0, 3, 1])
    theirs = captum.attr.DeepLift(network, eps=1e-6).attribute(images, start, target=targets)
    ours = deeplift(wrapped(network, 3), images, targets, baseline=start)
    assert relative(ours, theirs) < 1e-9


@pytest.mark.parametrize("activation", [nn.ReLU6, nn.SiLU, nn.GELU, nn.Hardswish])
def test_any_activation_is_complete(activation):
    images, start = torch.rand(2, 2, 3, 8, 8, dtype=torch.float64)
    network = wrapped(conv_network(activation), 3)
    assert gap(network, images, torch.tensor([0, 3]), start) < 1e-9


# Captum 0.9 is no oracle here: it drops the reference's winner, and its sums miss the change
@pytest.mark.parametrize("pool", [nn.MaxPool2d(2), nn.MaxPool2d(3, 2), nn.AdaptiveMaxPool2d(3)])
def test_max_pooling_is_complete(pool):
    images, start = torch.rand(2, 2, 3, 8, 8, dtype=torch.float64)
    assert gap(wrapped(conv_network(pool=pool), 3), images, torch.tensor([0, 3]), start) < 1e-9


def test_near_the_reference_it_is_the_gradient():
    classifier = wrapped(conv_network(nn.SiLU), 3)
    images, targets = torch.rand(2, 3, 8, 8, dtype=torch.float64), torch.tensor([0, 3])
    near = images - 1e-3 * images
    ours = deeplift(classifier, images, targets, baseline=near)
    assert relative(ours / 1e-3, input_x_gradient(classifier, images, targets)) < 1e-2
    nothing = deeplift(classifier, images, targets, baseline=images)
    assert (nothing == 0).all()


@pytest.mark.parametrize("name", ["alexnet_like", "residual", "gap_network"])
def test_small_networks_are_complete(name):
    network = small_networks.build(getattr(small_networks, name))
    for parameter in network.parameters():  # Fixup starts at zero, which hides its branches
        nn.init.normal_(parameter, std=0.2) if parameter.abs().max() == 0 else None
    images = torch.rand(2, 1, 28, 28, dtype=torch.float64)
    assert gap(wrapped(network.double()), images, torch.tensor([1, 7])) < 1e-9


@pytest.mark.slow
def test_the_embedded_network_is_complete(classifier, pixels, photos):
    few, targets = pixels[:3], photos.targets[:3]
    assert gap(classifier, few, targets) < 1e-4  # float32, sums over 150,528 values
    ours = METHODS["deeplift"](classifier, few, targets, batch_size=2)
    assert relative(ours, deeplift(classifier, few, targets, batch_size=1)) < 1e-3
    assert not any(p.requires_grad for p in classifier.parameters())


class Gate(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.head = nn.Conv2d(1, 4, 3), nn.Linear(4, 2)

    def forward(self, x):
        x = self.conv(x)
        return self.head((x * torch.sigmoid(x)).mean((2, 3)))


class Square(nn.Module):
    def __init__(self, multiply):
        super().__init__()
        self.multiply, self.head = multiply, nn.Linear(784, 2)

    def forward(self, x):
        return self.head(self.multiply(x.flatten(1)))


@pytest.mark.parametrize(
    ("network", "named"),
    [
        (Gate(), r"operation mul\(conv, sigmoid\w*\)"),
        (Square(lambda x: x * x), r"operation mul\(flatten, flatten\)"),
        (Square(lambda x: torch.mul(x, other=x)), r"operation mul\(flatten, other=flatten\)"),
        (Square(lambda x: x.mul(x)), r"operation mul\(flatten, flatten\)"),
        (nn.Sequential(nn.Flatten(), nn.Linear(784, 4), nn.Softmax(1)), r"layer 2 \(Softmax\)"),
        (small_networks.vision_transformer(), r"operation eq\(getitem\w*, 28\)"),
    ],
)
def test_what_the_rule_does_not_cover_is_named(network, named):
    with pytest.raises(ValueError, match=f"^deeplift's rescale rule is not defined for {named}$"):
        deeplift(wrapped(network), torch.rand(1, 1, 28, 28), torch.tensor([0]))
