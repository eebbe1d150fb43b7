"""Small networks for 28 x 28 images: the documents' architectures at a size that trains in seconds.

Each takes ``bias=False`` to become an X-DNN (Hesse et al., *Fast axiomatic attribution for neural
networks*, NeurIPS 2021): every bias is left out, so that F(a x) = a F(x) for all a >= 0. Build
one under a seed: ``build(alexnet_like, seed=0, bias=False)``.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from lib.core import runtime


def build(make: Callable[..., nn.Module], *, seed: int = 0, **options) -> nn.Module:
    """``make(**options)`` with its initial weights drawn from ``seed``; global draws untouched."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return make(**options)


def alexnet_like(bias: bool = True, classes: int = 10, channels: int = 1) -> nn.Module:
    """Large first kernels, overlapping max pooling, dropout between linear layers; no norm."""
    return nn.Sequential(
        *_conv(channels, 16, bias, kernel=5),
        nn.MaxPool2d(3, 2),
        *_conv(16, 32, bias),
        nn.MaxPool2d(3, 2),
        *_conv(32, 48, bias),
        nn.Flatten(),
        nn.Dropout(0.3),
        nn.Linear(48 * 6 * 6, 128, bias),
        nn.ReLU(),
        nn.Dropout(0.3),
        nn.Linear(128, classes, bias),
    )


def vgg_like(bias: bool = True, classes: int = 10, channels: int = 1) -> nn.Module:
    """Stacks of 3 x 3 convolutions with max pooling between them; no norm."""
    return nn.Sequential(
        *_conv(channels, 8, bias),
        *_conv(8, 8, bias),
        nn.MaxPool2d(2),
        *_conv(8, 16, bias),
        *_conv(16, 16, bias),
        nn.MaxPool2d(2),
        *_conv(16, 32, bias),
        *_conv(32, 32, bias),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Dropout(0.3),
        nn.Linear(32 * 3 * 3, 128, bias),
        nn.ReLU(),
        nn.Dropout(0.3),
        nn.Linear(128, classes, bias),
    )


def residual(bias: bool = True, classes: int = 10, channels: int = 1, blocks: int = 1) -> nn.Module:
    """A Fixup residual network (Zhang, Dauphin, Ma 2019): trains without normalization layers.

    Convolutions carry no bias; scalar biases and multipliers stand in for the norm. Without
    ``bias`` these scalars and the last layer's bias are gone, as in the X-ResNet.
    """
    widths = [16] * blocks + [32] * blocks
    first, last = nn.Conv2d(channels, 16, 5, stride=2, padding=2, bias=False), 16
    nn.init.kaiming_normal_(first.weight, nonlinearity="relu")
    layers: list[nn.Module] = [first, _Scalar(bias, scale=False), nn.ReLU()]
    for width in widths:
        layers.append(FixupBlock(last, width, bias, depth=len(widths)))
        last = width
    head = nn.Linear(last, classes, bias)
    nn.init.zeros_(head.weight)
    if bias:
        nn.init.zeros_(head.bias)
    pooled = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), _Scalar(bias, scale=False)]
    return nn.Sequential(*layers, *pooled, head)


class FixupBlock(nn.Module):
    """x + scale * conv(relu(conv(x + b1) + b2) + b3) + b4, strided where the width grows."""

    def __init__(self, channels: int, width: int, bias: bool, depth: int):
        super().__init__()
        stride = 1 if channels == width else 2
        first = nn.Conv2d(channels, width, 3, stride, 1, bias=False)
        second = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        nn.init.normal_(first.weight, std=math.sqrt(2 / (9 * channels)) / math.sqrt(depth))
        nn.init.zeros_(second.weight)
        self.branch = nn.Sequential(
            _Scalar(bias, scale=False),
            first,
            _Scalar(bias, scale=False),
            nn.ReLU(),
            _Scalar(bias, scale=False),
            second,
            _Scalar(bias, scale=True),
        )
        self.skip = nn.Identity()
        if stride > 1:
            widen = nn.Conv2d(channels, width, 1, bias=False)
            nn.init.kaiming_normal_(widen.weight, nonlinearity="relu")
            self.skip = nn.Sequential(nn.AvgPool2d(2), widen)
        self.out = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.skip(x) + self.branch(x))


class _Scalar(nn.Module):
    """Fixup's scalars, scale * x + bias; without ``present`` the identity."""

    def __init__(self, present: bool, scale: bool):
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(1)) if present else None
        self.scale = nn.Parameter(torch.ones(1)) if present and scale else None

    def forward(self, x: Tensor) -> Tensor:
        if self.scale is not None:
            x = x * self.scale
        return x if self.bias is None else x + self.bias


def gap_network(bias: bool = True, classes: int = 10, channels: int = 1) -> nn.Module:
    """Convolutions, global average pooling and one linear layer: the network that CAM needs.

    The last feature map has 64 channels of 7 x 7 cells for 28 x 28 images.
    """
    return nn.Sequential(
        *_conv(channels, 16, bias),
        nn.MaxPool2d(2),
        *_conv(16, 32, bias),
        nn.MaxPool2d(2),
        *_conv(32, 64, bias),
        *_conv(64, 64, bias),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(64, classes, bias),
    )


def fully_connected(bias: bool = True, classes: int = 10, channels: int = 1) -> nn.Module:
    """Two linear layers: no layer of it knows a place."""
    first, last = nn.Linear(channels * 28 * 28, 64, bias), nn.Linear(64, classes, bias)
    return nn.Sequential(nn.Flatten(), first, nn.ReLU(), last)


def vision_transformer(bias: bool = True, classes: int = 10, channels: int = 1) -> nn.Module:
    """torchvision's, small: 7 x 7 patches as tokens, two layers of attention.

    Raises ``ValueError`` without ``bias``: its normalization shifts anyway.
    """
    if not bias:
        raise ValueError("a transformer normalizes its layers: it has no form without biases")
    sizes = {"image_size": 28, "patch_size": 4, "num_layers": 2, "num_heads": 2}
    widths = {"hidden_dim": 32, "mlp_dim": 64, "num_classes": classes}
    network = runtime.torchvision().models.VisionTransformer(**sizes, **widths)
    network.conv_proj = nn.Conv2d(channels, 32, 4, stride=4)
    return network


class ReLUSquared(nn.Module):
    """max(0, x)^2, nonnegatively homogeneous of degree 2."""

    def forward(self, x: Tensor) -> Tensor:
        positive = torch.relu(x)
        return positive * positive


def relu_power(
    depth: int = 1,
    classes: int = 10,
    channels: int = 1,
    width: int = 12,
    layers: int = 4,
    scaled: bool = True,
) -> nn.Module:
    r"""A bias-free network with ReLU^2 in its last ``depth`` of ``layers`` activations.

    Its degree is 2^depth: F(a x) = a^(2^depth) F(x) for a >= 0. Convolutions with average pooling;
    weights drawn such that every layer's values start with mean square 1 (for z ~ N(0, 1),
    E max(0, z)^2 = 1/2 and E max(0, z)^4 = 3/2); ``scaled=False`` leaves PyTorch's own weights, too
    small for high degrees: what is small is squared again and again.

    Raises ``ValueError`` unless 0 <= depth <= layers.
    """
    if not 0 <= depth <= layers:
        raise ValueError(f"depth must lie in 0..{layers}, not {depth}")
    mean_square = 0.1  # of a digit's pixels
    modules: list[nn.Module] = []
    for layer in range(layers):
        outputs = width * 2 ** min(layer, 2)
        conv = nn.Conv2d(channels, outputs, 3, padding=1, bias=False)
        if scaled:
            nn.init.normal_(conv.weight, std=1 / math.sqrt(9 * channels * mean_square))
        squared = layer >= layers - depth
        mean_square = 1.5 if squared else 0.5
        modules += [conv, ReLUSquared() if squared else nn.ReLU()]
        if layer < 2:
            modules.append(nn.AvgPool2d(2))
        channels = outputs
    head = nn.Linear(channels * 7 * 7, classes, bias=False)
    if scaled:
        nn.init.normal_(head.weight, std=0.1 / math.sqrt(channels * 49 * mean_square))
    return nn.Sequential(*modules, nn.Flatten(), head)


def _conv(inputs: int, outputs: int, bias: bool, kernel: int = 3) -> tuple[nn.Module, nn.Module]:
    conv = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=bias)
    nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)
    return conv, nn.ReLU()
