r"""Read off a network's graph how it answers to scale: $F(\alpha x)=\alpha^kF(x)$ for $\alpha>0$.

Every layer has a rule: a convolution keeps the degree of its input, a product adds degrees, a sum
needs equal ones. Layers for which no degree exists are collected with the reason, all of them: what
follows one is read as if it had been repaired.
"""

import operator
from dataclasses import dataclass

import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from lib.networks import operations as ops

# fmt: off
_KEEP = (
    nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d, nn.Linear, nn.ReLU, nn.LeakyReLU,
    nn.PReLU, nn.AvgPool1d, nn.AvgPool2d, nn.MaxPool1d, nn.MaxPool2d, nn.AdaptiveAvgPool1d,
    nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d, nn.LPPool2d, nn.Flatten, nn.Unflatten, nn.Identity,
    nn.modules.dropout._DropoutNd, nn.ZeroPad2d, nn.ReflectionPad2d, nn.ReplicationPad2d,
    nn.CircularPad2d, nn.Upsample, nn.PixelShuffle, nn.PixelUnshuffle, nn.ChannelShuffle,
    nn.BatchNorm1d, nn.BatchNorm2d, nn.ConstantPad2d,
)
_RECTIFIERS = (nn.GELU, nn.SiLU, nn.Mish, nn.ELU, nn.CELU, nn.SELU, nn.Softplus, nn.Hardswish)
_SQUASHING = (nn.Sigmoid, nn.Tanh, nn.Hardsigmoid, nn.Softmax, nn.LogSoftmax, nn.Softsign,
              nn.LogSigmoid)
_NORMS = (nn.LayerNorm, nn.GroupNorm, nn.InstanceNorm2d, nn.LocalResponseNorm)
_SUMS = ops.SUMS | {operator.sub, operator.isub, torch.sub, "sub", "sub_"}
_SAME = {torch.cat, torch.concat, torch.stack, torch.maximum, torch.minimum, torch.max, torch.min,
         "maximum", "minimum", "max", "min", "amax", "amin", torch.amax, torch.amin}
_PRODUCTS = {operator.mul, operator.imul, torch.mul, operator.matmul, torch.matmul, torch.bmm,
             torch.einsum, "mul", "mul_", "matmul", "bmm"}
_QUOTIENTS = {operator.truediv, torch.div, "div", "div_"}
_POWERS = {operator.pow, torch.pow, "pow", "pow_"}
_FIXED_POWERS = {torch.square: 2.0, "square": 2.0, torch.sqrt: 0.5, "sqrt": 0.5}
_LINEAR_CALLS = {functional.conv2d, torch.conv2d, functional.linear}
_KEEP_CALLS = {
    operator.neg, torch.neg, operator.getitem, torch.flatten, torch.reshape, torch.permute,
    torch.transpose, torch.squeeze, torch.unsqueeze, torch.chunk, torch.split, torch.mean,
    torch.sum, torch.abs, functional.avg_pool2d, functional.max_pool2d, torch.max_pool2d,
    functional.adaptive_avg_pool2d, functional.adaptive_max_pool2d, functional.interpolate,
    functional.pad, functional.relu, torch.relu, functional.leaky_relu,
    "view", "reshape", "flatten", "permute", "transpose", "t", "squeeze", "unsqueeze", "chunk",
    "split", "mean", "sum", "abs", "neg", "expand", "expand_as", "contiguous", "clone", "float",
    "double", "to", "type_as", "detach", "relu",
}
_NUMBERS = {"size", "dim", "numel", getattr}
# fmt: on


@dataclass(frozen=True)
class Break:
    """A layer without a degree. ``kind``: ``shift`` (a bias), ``shape``, ``norm``, ``unknown``."""

    layer: str
    type: str
    kind: str
    reason: str


@dataclass(frozen=True)
class Reading:
    """``degree`` of the whole network (as if repaired) and every ``Break`` in it, in order.

    ``constants`` names the nodes that do not depend on the input; ``shifts`` those that add one of
    these to what does, zero or not: a scalar bias that is zero now breaks nothing until it learns.
    """

    degree: float
    breaks: tuple[Break, ...]
    constants: frozenset[str]
    shifts: frozenset[str]


class NotHomogeneous(ValueError):
    """The network has no degree; the message names the layers."""


def read_degrees(network: fx.GraphModule) -> Reading:
    """The degree of a traced network from input to output, and every layer that breaks it."""
    breaks: list[Break] = []
    degree: dict[fx.Node, float | None] = {}  # None: a number or a shape, not a tensor
    constant: set[fx.Node] = set()
    shifts: set[str] = set()
    result = 1.0

    def known(node: fx.Node) -> list[float]:
        return [d for n in node.all_input_nodes if (d := degree[n]) is not None]

    def broken(node: fx.Node, kind: str, reason: str) -> None:
        if kind == "shift":
            shifts.add(layer_name(node))
            if _adds_zero(network, node, constant):
                return
        breaks.append(Break(layer_name(node), layer_type(network, node), kind, reason))

    for node in network.graph.nodes:
        inputs = known(node) if node.op not in ("placeholder", "get_attr") else []
        if node.op == "placeholder":
            degree[node] = 1.0
        elif node.op == "get_attr":
            degree[node] = 0.0
            constant.add(node)
        elif node.op == "output":
            result = max(inputs, default=0.0)
        elif node.op == "call_module":
            degree[node] = max(inputs)
            found = why_not(network.get_submodule(layer_name(node)))
            if found is not None:
                broken(node, *found)
        elif node.target in _NUMBERS or not inputs:
            degree[node] = None
        else:
            degree[node] = _call(node, inputs, degree, constant, broken)
        if node.op != "get_attr" and node.all_input_nodes:
            tensors = [n for n in node.all_input_nodes if degree.get(n) is not None]
            if tensors and all(n in constant for n in tensors):
                constant.add(node)
    return Reading(result, tuple(breaks), frozenset(n.name for n in constant), frozenset(shifts))


def why_not(layer: nn.Module) -> tuple[str, str] | None:
    """``None`` for a nonnegatively homogeneous layer, else what is in the way: (kind, reason)."""
    if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
        if layer.running_mean is None:
            return "norm", "divides by the spread of its own input, which grows with the input"
        if _any(layer.running_mean) or _any(layer.bias):
            return "shift", "batch normalization adds a constant (its shift and running mean)"
        return None
    if isinstance(layer, nn.ConstantPad2d) and layer.value != 0:
        return "shape", f"pads with the constant {layer.value}, which does not scale"
    if isinstance(layer, _KEEP) and not isinstance(layer, nn.ReLU6):
        if not isinstance(layer, nn.PReLU) and _any(getattr(layer, "bias", None)):
            return "shift", "its bias is a constant that does not scale with the input"
        return None
    if isinstance(layer, nn.ReLU6 | nn.Hardtanh):
        return "shape", f"cut off at {layer.max_val:g}: beyond that it no longer grows"
    if isinstance(layer, _RECTIFIERS):
        return "shape", "curved near zero: its shape depends on the scale of its input"
    if isinstance(layer, _SQUASHING):
        return "shape", "squashes: bounded, or exponential, at any scale of its input"
    if isinstance(layer, _NORMS):
        return "norm", "divides by the size of its own input: scale is lost (degree 0)"
    return "unknown", "no rule is known for this layer"


def layer_name(node: fx.Node) -> str:
    """The module's path, else the node's name."""
    return str(node.target) if node.op == "call_module" else node.name


def drop_shift(node: fx.Node, constants: frozenset[str]) -> None:
    """Take the constant out of a function or method that a ``shift`` was found in."""
    if node.target in _LINEAR_CALLS:
        node.args = node.args[:2]
        node.kwargs = {k: v for k, v in node.kwargs.items() if k != "bias"}
        return
    moving = [n for n in node.all_input_nodes if n.name not in constants]
    node.replace_all_uses_with(moving[0])
    node.graph.erase_node(node)


def _call(node, inputs, degree, constant, broken) -> float:
    """The degree of a function's or method's result; ``broken`` is told when there is none."""
    target, top = node.target, max(inputs)
    if target in _SUMS:
        terms = [a for a in _operands(node) if not (isinstance(a, fx.Node) and degree[a] is None)]
        fixed = [a for a in terms if not isinstance(a, fx.Node) or a in constant]
        if fixed and len(fixed) < len(terms):
            minuend = not isinstance(terms[0], fx.Node) or terms[0] in constant
            if minuend and target not in ops.SUMS:  # 1 - x: no shift to leave out
                broken(node, "unknown", "subtracts its input from a constant")
            else:
                broken(node, "shift", f"adds the constant {fixed[0]}, which does not scale")
            return top
        return _equal(node, inputs, broken)
    if target in _SAME:
        return _equal(node, inputs, broken)
    if target in _PRODUCTS:
        return sum(degree.get(a) or 0 for a in _operands(node) if isinstance(a, fx.Node))
    if target in _QUOTIENTS:
        if node.kwargs.get("rounding_mode") is not None:
            broken(node, "unknown", "rounds")
        above, below = (degree.get(a) or 0 for a in _operands(node))  # a number has degree 0
        return above - below
    exponent = node.args[1] if len(node.args) > 1 else node.kwargs.get("exponent")
    if target in _POWERS and isinstance(exponent, int | float) and exponent > 0:
        return top * float(exponent)
    if target in _FIXED_POWERS:
        return top * _FIXED_POWERS[target]
    if target in _LINEAR_CALLS:
        if (node.args[2] if len(node.args) > 2 else node.kwargs.get("bias")) is not None:
            broken(node, "shift", "its bias is a constant that does not scale with the input")
        return degree[node.args[0]]
    if target is functional.pad and (node.kwargs.get("value") or (list(node.args) + [0] * 4)[3]):
        broken(node, "shape", "pads with a constant that does not scale")
        return top
    if target in _KEEP_CALLS:
        return top
    broken(node, "unknown", "no rule is known for this operation")
    return top


def _operands(node: fx.Node) -> list:
    """What a sum, product or quotient takes, also by name: ``torch.add(x, other=1)``."""
    named = (node.kwargs[key] for key in ("input", "other") if key in node.kwargs)
    return [*node.args, *named]


def _adds_zero(network: fx.GraphModule, node: fx.Node, constant: set[fx.Node]) -> bool:
    """Whether the constants that a sum adds are all zero as they stand."""
    if node.op == "call_module" or node.target not in _SUMS:
        return False
    added = [a for a in _operands(node) if not isinstance(a, fx.Node) or a in constant]
    return all(
        a == 0 if not isinstance(a, fx.Node) else a.op == "get_attr" and _is_zero(network, a)
        for a in added
    )


def _is_zero(network: fx.GraphModule, node: fx.Node) -> bool:
    owner, _, attribute = str(node.target).rpartition(".")
    return not _any(getattr(network.get_submodule(owner), attribute))


def _equal(node, inputs, broken) -> float:
    if len(set(inputs)) > 1:
        found = " and ".join(f"{d:g}" for d in sorted(set(inputs)))
        broken(node, "shape", f"joins terms of degree {found}")
    return max(inputs)


def _any(values: Tensor | None) -> bool:
    return isinstance(values, Tensor) and bool((values != 0).any())


def layer_type(network: fx.GraphModule, node: fx.Node) -> str:
    """The module's class, else the name of the function or method."""
    if node.op == "call_module":
        return type(network.get_submodule(layer_name(node))).__name__
    return str(getattr(node.target, "__name__", node.target))
