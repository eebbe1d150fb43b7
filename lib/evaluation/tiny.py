r"""Networks of a few weights, written by hand: where axioms can be checked with a pencil.

An image of these networks is one row of pixels, ``x1, x2, ...``; its baseline is black. The pair
``SUBTRACTS`` and the counterexample ``SATURATES`` are Sundararajan, Taly, Yan 2017, section 2 and
figure 2 there; the rest is ours. ``homogeneous`` networks have no bias: they are X-DNNs.
"""

import copy

import torch
from torch import Tensor, nn

Layer = tuple[list[list[float]], list[float] | None]


class Tiny(nn.Module):
    """Linear layers ``(weight, bias)``, a ReLU after all but the last; plus a linear ``skip``."""

    def __init__(self, *layers: Layer, skip: list[float] | None = None):
        super().__init__()
        parts: list[nn.Module] = [nn.Flatten()]
        for weight, bias in layers:
            parts += [_linear(weight, bias), nn.ReLU()]
        self.layers = nn.Sequential(*parts[:-1])
        self.skip = nn.Sequential(nn.Flatten(), _linear([skip], None)) if skip else None

    def forward(self, x: Tensor) -> Tensor:
        y = self.layers(x)
        return y + self.skip(x) if self.skip is not None else y

    def scaled(self, factor: float) -> "Tiny":
        r"""The network $\alpha F$."""
        network = copy.deepcopy(self)
        last = [network.layers[-1]] + ([] if network.skip is None else [network.skip[-1]])
        for layer in last:
            for parameter in layer.parameters():
                parameter.data *= factor
        return network


class Sum(nn.Module):
    """F + G."""

    def __init__(self, first: nn.Module, second: nn.Module):
        super().__init__()
        self.first, self.second = first, second

    def forward(self, x: Tensor) -> Tensor:
        return self.first(x) + self.second(x)


def _linear(weight: list[list[float]], bias: list[float] | None) -> nn.Linear:
    layer = nn.Linear(len(weight[0]), len(weight), bias=bias is not None, dtype=torch.float64)
    layer.weight.data = torch.tensor(weight, dtype=torch.float64)
    if bias is not None:
        layer.bias.data = torch.tensor(bias, dtype=torch.float64)
    return layer


# f = 1 - ReLU(1 - x1): rises from 0 to 1 and stays there. x2 is not used.
SATURATES = Tiny(([[-1, 0]], [1]), ([[-1]], [1]))

# One function written twice: f = ReLU(ReLU(x1) - 1 - ReLU(x2)), g = ReLU(ReLU(x1 - 1) - ReLU(x2))
SUBTRACTS = (
    Tiny(([[1, 0], [0, 1]], [0, 0]), ([[1, -1]], [-1]), ([[1]], None)),
    Tiny(([[1, 0], [0, 1]], [-1, 0]), ([[1, -1]], [0]), ([[1]], None)),
)

# ReLU(x1) - x2, with x2 wired past the ReLUs, and with x2 = ReLU(x2) - ReLU(-x2)
PASSES_BY = (
    Tiny(([[1, 0]], None), ([[1]], None), skip=[0, -1]),
    Tiny(([[1, 0], [0, 1], [0, -1]], None), ([[1, -1, 1]], None)),
)

# ReLU(x1) - ReLU(x2): no bias, one unit against the class
OPPOSES = Tiny(([[1, 0], [0, 1]], None), ([[1, -1]], None))

# ReLU(2 - ReLU(x2)), and x1 not used: falls as x2 rises
FALLS = Tiny(([[0, 1]], [0]), ([[-1]], [2]), ([[1]], None))

# ReLU(x1) + ReLU(x2) - ReLU(x2): x2 is wired in and cancels
CANCELS = Tiny(([[1, 0], [0, 1], [0, 1]], None), ([[1, 1, -1]], None))

# 2 x1 + 3 ReLU(x1 - x2): two layers, no bias
RISES = Tiny(([[1, -1]], None), ([[3]], None), skip=[2, 0])

# h(x1) + h(x2) with h(x) = ReLU(x - x3) + 2 ReLU(x - 1.2 x3) + 5 ReLU(x - 0.8 x3): symmetric
SYMMETRIC = Tiny(
    ([[i, 1 - i, -c, 0] for i in (1, 0) for c in (1, 1.2, 0.8)], None), ([[1, 2, 5] * 2], None)
)

# -x1 - x2, symmetric, with x1 = ReLU(x1) - ReLU(-x1) and x2 wired past the ReLUs
LOPSIDED = Tiny(([[1, 0, 0], [-1, 0, 0]], None), ([[-1, 1]], None), skip=[0, -1, 0])


def homogeneous(network: nn.Module) -> bool:
    """No bias in any layer, or none that is not zero: F(a x) = a F(x) for a >= 0."""
    layers = [m for m in network.modules() if isinstance(m, nn.Linear)]
    return all(m.bias is None or not m.bias.any() for m in layers)
