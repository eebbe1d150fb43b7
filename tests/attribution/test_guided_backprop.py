"""Guided backprop against hand-made gradients, Captum, and networks it has to refuse."""

import pytest
import torch
from captum.attr import GuidedBackprop
from torch import nn
from torch.nn import functional

from lib.attribution import METHODS, gradient, guided_backprop, smoothgrad
from lib.networks.classifier import Classifier


@pytest.fixture(autouse=True)
def same_numbers_every_time():
    torch.manual_seed(0)


def classifier_of(network, channels=1):
    return Classifier(network, mean=(0.0,) * channels, std=(1.0,) * channels)


class Functional(nn.Module):
    """One convolutional network, its ReLUs written in a way of choice."""

    def __init__(self, style):
        super().__init__()
        self.style = style
        torch.manual_seed(0)
        self.first, self.second = nn.Conv2d(3, 6, 3), nn.Conv2d(6, 6, 3)
        self.head = nn.Linear(6, 4)
        self.relu, self.other = nn.ReLU(inplace=style == "in-place"), nn.ReLU()

    def activation(self, x, which):
        if self.style == "module":
            return (self.relu, self.other)[which](x)
        return {
            "reused": self.relu,
            "in-place": self.relu,
            "functional": functional.relu,
            "functional in-place": functional.relu_,
            "method": lambda y: y.relu(),
        }[self.style](x)

    def forward(self, x):
        x = self.activation(self.first(x), 0)
        x = self.activation(self.second(x), 1)
        return self.head(x.mean((2, 3)))


class Wired(nn.Module):
    """Two pixels to three units and on to one logit, by hand."""

    def __init__(self, activation):
        super().__init__()
        self.first = nn.Linear(2, 3, bias=False)
        self.second = nn.Linear(3, 1, bias=False)
        self.activation = activation
        self.first.weight.data = torch.tensor([[1.0, 2.0], [1.0, -1.0], [2.0, -1.0]])
        self.second.weight.data = torch.tensor([[3.0, -5.0, 7.0]])

    def forward(self, x):
        return self.second(self.activation(self.first(x.flatten(1))))


def row(*values):
    return torch.tensor(values).view(1, 1, 1, -1)


def test_hand_computed_gradients():
    # At (1, 0.5): units 2, 0.5, 1.5, all active; the gradient -5 at the second is blocked
    network, zero = classifier_of(Wired(nn.ReLU())), torch.tensor([0])
    expected = row(3.0 * 1 + 7 * 2, 3.0 * 2 - 7 * 1)
    torch.testing.assert_close(guided_backprop(network, row(1.0, 0.5), zero), expected)
    # At (0.5, 1): units 2.5, -0.5 (negative), 0 (exactly zero): only the first passes
    torch.testing.assert_close(guided_backprop(network, row(0.5, 1.0), zero), row(3.0, 6.0))


def test_relu6_passes_only_strictly_between_0_and_6():
    network, zero = classifier_of(Wired(nn.ReLU6())), torch.tensor([0])
    # At (4, 1): units 6 (exactly), 3 (gradient -5), 7 (above): nothing passes
    assert guided_backprop(network, row(4.0, 1.0), zero).abs().sum() == 0
    # At (2, 1): units 4, 1, 3
    torch.testing.assert_close(guided_backprop(network, row(2.0, 1.0), zero), row(17.0, -1.0))


@pytest.mark.parametrize(
    "style", ["functional", "functional in-place", "method", "in-place", "reused"]
)
def test_every_way_to_write_a_relu_gives_one_map(style):
    images, targets = torch.rand(3, 3, 12, 9), torch.tensor([0, 3, 1])
    expected = guided_backprop(classifier_of(Functional("module"), 3), images, targets)
    found = guided_backprop(classifier_of(Functional(style), 3), images, targets)
    torch.testing.assert_close(found, expected)
    assert not torch.allclose(found, gradient(classifier_of(Functional(style), 3), images, targets))


@pytest.mark.filterwarnings("ignore:Setting backward hooks")
def test_equals_captum_on_a_network_that_captum_handles():
    network, images, targets = Functional("module"), torch.rand(4, 3, 16, 16), torch.arange(4)
    found = guided_backprop(classifier_of(network, 3), images, targets)
    expected = GuidedBackprop(network.eval()).attribute(images.requires_grad_(), target=targets)
    torch.testing.assert_close(found, expected.detach(), rtol=1e-4, atol=1e-7)


@pytest.mark.filterwarnings("ignore:Setting backward hooks")
def test_equals_captum_on_resnet18():
    from lib.core.runtime import torchvision
    from lib.networks.classifier import load_classifier

    classifier = load_classifier("resnet18", weights="random", device="cpu", seed=3)
    with torch.random.fork_rng():
        torch.manual_seed(3)
        plain = torchvision().models.resnet18(weights=None).eval()
    for block in plain.modules():  # Captum needs one module for each ReLU
        if isinstance(block, torchvision().models.resnet.BasicBlock):
            block.relu, block.last = nn.ReLU(), nn.ReLU()
            block.forward = residual_forward.__get__(block)
    plain.relu = nn.ReLU()
    images, targets = torch.rand(1, 3, 64, 64), torch.tensor([5])
    inputs = ((images - classifier.mean) / classifier.std).requires_grad_()
    expected = GuidedBackprop(plain).attribute(inputs, target=targets) / classifier.std
    found = guided_backprop(classifier, images, targets)
    assert (found - expected).abs().max() <= 1e-4 * expected.abs().max()


def residual_forward(block, x):
    out = block.bn2(block.conv2(block.relu(block.bn1(block.conv1(x)))))
    return block.last(out + (x if block.downsample is None else block.downsample(x)))


class Clamped(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(4, 4)

    def forward(self, x):
        return torch.clamp(functional.relu(self.inner(x.flatten(1))), max=2)


class Untraceable(nn.Module):
    def forward(self, x):
        return functional.relu(x.flatten(1)) if x.sum() > 0 else x.flatten(1)


@pytest.mark.parametrize(
    ("network", "named"),
    [
        (nn.Sequential(nn.Flatten(), nn.Linear(4, 2)), "no ReLU"),
        (nn.Sequential(nn.Flatten(), nn.Linear(4, 2), nn.ReLU(), nn.GELU()), r"3 \(GELU\)"),
        (nn.Sequential(nn.Flatten(), nn.ReLU(), nn.SiLU()), r"2 \(SiLU\)"),
        (nn.Sequential(nn.Flatten(), nn.ReLU(), nn.LeakyReLU()), r"2 \(LeakyReLU\)"),
        (nn.Sequential(nn.Flatten(), nn.ReLU(), nn.Softmax(1)), r"2 \(Softmax\)"),
        (Clamped(), r"not for operation clamp\(relu\w*, max=2\)$"),
        (Untraceable(), "custom cannot be traced"),
    ],
)
def test_refuses_by_name_and_never_returns_a_plain_gradient(network, named):
    with pytest.raises(ValueError, match=named):
        guided_backprop(classifier_of(network), torch.rand(1, 1, 2, 2), torch.tensor([0]))


def state(classifier):
    hooks = [len(m._forward_hooks) + len(m._backward_hooks) for m in classifier.modules()]
    grads = [p.requires_grad for p in classifier.parameters()]
    training = [m.training for m in classifier.modules()]
    return hooks, grads, training, [type(m) for m in classifier.modules()]


def test_leaves_the_classifier_and_the_images_alone_also_after_a_failure():
    network = classifier_of(Functional("in-place"), 3)
    images, targets = torch.rand(2, 3, 8, 8), torch.tensor([0, 1])
    wrong = torch.rand(2, 3, 1, 1)  # smaller than the first kernel
    before, copy = state(network), images.clone()
    weights = {name: value.clone() for name, value in network.state_dict().items()}
    plain, random_state = gradient(network, images, targets), torch.get_rng_state()
    guided_backprop(network, images, targets)
    with pytest.raises(RuntimeError):
        guided_backprop(network, wrong, targets)  # fails inside
    assert state(network) == before
    assert all(
        torch.equal(a, b)
        for a, b in zip(weights.values(), network.state_dict().values(), strict=True)
    )
    assert torch.equal(images, copy) and torch.equal(torch.get_rng_state(), random_state)
    torch.testing.assert_close(gradient(network, images, targets), plain)


def test_batches_and_order_do_not_matter():
    network = classifier_of(Functional("functional"), 3)
    images, targets = torch.rand(5, 3, 9, 8), torch.tensor([0, 1, 2, 3, 0])
    whole = guided_backprop(network, images, targets)
    order = torch.tensor([3, 0, 4, 1, 2])
    for size in (1, 3):
        torch.testing.assert_close(
            guided_backprop(network, images, targets, batch_size=size), whole
        )
    torch.testing.assert_close(
        guided_backprop(network, images[order], targets[order]), whole[order]
    )


def test_on_the_embedded_network_and_smoothed(classifier, photos):
    images, targets = photos.subset([0, 4]).pixels(), photos.targets[[0, 4]]
    guided = METHODS["guided_backprop"](classifier, images, targets)
    assert torch.isfinite(guided).all() and not guided.allclose(
        gradient(classifier, images, targets)
    )
    still = smoothgrad(classifier, images, targets, method=guided_backprop, noise=0, samples=2)
    torch.testing.assert_close(still, guided, rtol=1e-3, atol=1e-4 * float(guided.abs().max()))
