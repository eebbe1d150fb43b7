r"""Guided backpropagation: a gradient that ReLUs pass only where input and gradient are positive.

Springenberg, Dosovitskiy, Brox, Riedmiller, *Striving for simplicity: the all convolutional net*,
2015, section 3.4. With $x$ the input of a ReLU and $p$ the gradient at its output,

$$p \mapsto p\,[p>0]\,[x>0], \qquad\text{for ReLU6}\quad p \mapsto p\,[p>0]\,[0<x<6].$$

The rule belongs to the layers, so every activation has to be known. In the normal form of
:mod:`lib.networks.normal_form` each one, functional, in-place or reused, is a module of its own;
the graph is run with the rule in place of these modules, and the network is never altered.
"""

import operator
from functools import partial

import torch
from jaxtyping import Float, Int
from torch import Tensor, fx, nn
from torch.nn import functional

from lib import copies
from lib.networks.operations import first_other

# What passes a gradient on as it is. Anything else that is not a ReLU is refused.
# fmt: off
_LAYERS = {
    nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d, nn.Linear, nn.Flatten, nn.Unflatten,
    nn.AvgPool2d, nn.MaxPool2d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d, nn.LPPool2d,
    nn.ZeroPad2d, nn.ReflectionPad2d, nn.ReplicationPad2d, nn.ConstantPad2d, nn.Upsample,
    nn.BatchNorm1d, nn.BatchNorm2d, nn.GroupNorm, nn.InstanceNorm2d, nn.LocalResponseNorm,
    nn.Identity, nn.Dropout, nn.Dropout2d, nn.PixelShuffle, nn.ChannelShuffle,
}
_FUNCTIONS = {
    operator.add, operator.iadd, operator.sub, operator.isub, operator.mul, operator.imul,
    operator.truediv, operator.floordiv, operator.neg, operator.getitem, operator.matmul, getattr,
    torch.add, torch.sub, torch.mul, torch.div, torch.neg, torch.cat, torch.concat, torch.stack,
    torch.flatten, torch.reshape, torch.transpose, torch.permute, torch.squeeze, torch.unsqueeze,
    torch.chunk, torch.split, torch.mean, torch.sum, torch.matmul, functional.linear,
    functional.conv2d, functional.pad, functional.interpolate, functional.batch_norm,
    functional.avg_pool2d, functional.max_pool2d, torch.max_pool2d, functional.adaptive_avg_pool2d,
    functional.adaptive_max_pool2d,
}
_METHODS = {
    "add", "add_", "sub", "sub_", "mul", "mul_", "div", "div_", "neg", "size", "dim", "view",
    "reshape", "flatten", "squeeze", "unsqueeze", "mean", "sum", "permute", "transpose", "t",
    "contiguous", "chunk", "split", "expand", "expand_as", "matmul", "float", "to", "clone",
}
# fmt: on


class _GuidedReLU(torch.autograd.Function):
    """ReLU, or ReLU6 when ``top`` is 6, with the guided rule on the way back."""

    @staticmethod
    def forward(ctx, x: Tensor, top: float) -> Tensor:
        ctx.top = top
        y = x.clamp(0, top)
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx, p: Tensor):
        (y,) = ctx.saved_tensors
        passed = torch.ops.aten.hardtanh_backward(p, y, 0.0, ctx.top)  # p where 0 < y < top
        return passed.clamp_(min=0), None


class _Guided(fx.Interpreter):
    """Runs a network's graph with the guided rule in place of its ReLUs."""

    def call_module(self, target, args, kwargs):
        layer = self.fetch_attr(str(target))
        top = _top(layer)
        if top is None:
            return super().call_module(target, args, kwargs)
        return _GuidedReLU.apply(args[0] if args else kwargs["input"], top)


def guided_backprop(
    classifier,
    images: Float[Tensor, "n c h w"],
    targets: Int[Tensor, " n"],
    *,
    batch_size: int | None = None,
) -> Float[Tensor, "n c h w"]:
    """The guided gradient of the target's logit: logits per pixel unit, of either sign.

    The rule is Springenberg's at every ReLU and ReLU6 and the plain gradient elsewhere (max
    pooling, normalization, sums). Equality with zero blocks, as it does for the gradient.

    Raises ``ValueError`` naming what stands in the way: a network that cannot be traced, one
    without any ReLU, or an activation or operation for which the rule is not defined (GELU, SiLU,
    LeakyReLU, a sigmoid, a clamp ...). It never falls back on the plain gradient.
    """
    engine = copies.Engine(classifier, images, targets, batch_size, "guided backprop")
    check_guidable(classifier)
    # Garbage collection of values would only save what autograd keeps anyway
    network = _Guided(classifier.network, garbage_collect_values=False)

    def guided(batch: Tensor) -> Tensor:
        pixels = batch.contiguous(memory_format=torch.channels_last)
        return network.run((pixels - classifier.mean) / classifier.std)

    return engine.single_pass(partial(copies.target_gradient, guided)).to(images.device)


def check_guidable(classifier) -> None:
    """Raise ``ValueError``, with the layer's name, unless the guided rule covers the network."""
    if not classifier.is_graph:
        raise ValueError(
            f"guided backprop: {classifier.name} cannot be traced, so its ReLUs cannot be found"
        )
    other = first_other(classifier.network, _covers)
    if other is not None:
        raise ValueError(f"guided backprop is defined for ReLU and ReLU6, not for {other}")
    if not any(_top(layer) for layer in classifier.network.modules()):
        raise ValueError(
            f"guided backprop: {classifier.name} has no ReLU or ReLU6; the result would be its "
            "plain gradient"
        )


def _covers(node: fx.Node, layer: nn.Module | None) -> bool:
    if layer is not None:
        return _top(layer) is not None or type(layer) in _LAYERS
    return node.op == "get_attr" or node.target in _FUNCTIONS | _METHODS


def _top(layer: nn.Module) -> float | None:
    """Where the activation is cut: infinity for ReLU, 6 for ReLU6, None for any other layer."""
    return {nn.ReLU: float("inf"), nn.ReLU6: 6.0}.get(type(layer))
