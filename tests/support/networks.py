"""Small networks whose answers are known, and how far two tensors are apart."""

import torch
from torch import nn


class Exact(nn.Module):
    """A function of pixels in float64 as a network: the closed forms of the papers."""

    def __init__(self, function):
        super().__init__()
        self.function = function
        self.one = nn.Parameter(torch.ones((), dtype=torch.float64))

    def forward(self, x):
        return self.function(x * self.one)


class SmallNetwork(nn.Module):
    """Convolution, batch norm, SiLU: smooth, and of any image size."""

    def __init__(self, classes: int = 4):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.SiLU()
        )
        self.head = nn.Linear(8, classes)

    def forward(self, x):
        return self.head(self.features(x).square().mean((2, 3)))


def small_network(seed: int = 0, classes: int = 4) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = SmallNetwork(classes)
        network.features[1].running_mean.normal_(0, 0.2)
        network.features[1].running_var.uniform_(0.5, 1.5)
        network.head.weight.data *= 10
    return network.eval()


def relative(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    """The largest difference over the largest value."""
    ours, theirs = ours.detach(), theirs.detach()
    return float((ours - theirs).abs().max() / theirs.abs().max())
