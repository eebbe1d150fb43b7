"""Relevance: the score of a class, shared out backwards through a network's graph.

A rule says how the relevance at the outputs of a layer is shared among its inputs. The walk itself
is autograd's, with relevance in the place of the gradient: branches meet by adding, and reading at
a layer is ``torch.autograd.grad`` at that layer's node. ReLU, ReLU6 and what only changes shapes
have one input to an output: relevance passes them as it is, whatever the rule.
"""

import copy
import operator
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, fx, nn

from lib.networks import operations as ops

Function = Callable[..., Tensor]
# rule(what, function, inputs, arrived) -> the share of each input; ``function(*inputs)`` is the
# output, ``what`` the layer itself, or the operation as the graph names it
Rule = Callable[[Any, Function, Sequence[Tensor], Tensor], Sequence[Tensor]]

UNITS = (nn.ReLU, nn.ReLU6, *ops.SHAPES)
_LAYERS = {*UNITS, *ops.WEIGHTED, *ops.POOLS}
_OWN_PLACE = {operator.iadd: operator.add, "add_": "add"}  # a sum must not overwrite its terms


class Walk(fx.Interpreter):
    """Runs a graph that :func:`covered` admits; a gradient of what it returns is relevance.

    ``env`` keeps the value of every node.
    """

    def __init__(self, network: fx.GraphModule, rule: Rule):
        super().__init__(network, garbage_collect_values=False)
        self.rule = rule

    def run_node(self, n: fx.Node):
        sources = [source for source in n.all_input_nodes if isinstance(self.env[source], Tensor)]
        if n.op == "output" or not sources or n.target in ops.SIZES:
            return super().run_node(n)
        what = _OWN_PLACE.get(n.target, n.target)
        if n.op == "call_module":
            what = self.fetch_attr(str(n.target))
        numbers = {source: self.env[source] for source in n.all_input_nodes}
        numbers = {source: value for source, value in numbers.items() if source not in sources}

        def function(*inputs: Tensor) -> Tensor:
            given = numbers | dict(zip(sources, inputs, strict=True))
            args, kwargs = fx.map_arg((n.args, n.kwargs), given.__getitem__)
            call = getattr(args[0], what) if n.op == "call_method" else what
            return call(*(args[1:] if n.op == "call_method" else args), **kwargs)

        unit = isinstance(what, UNITS) or what in ops.REARRANGE
        share = partial(_as_it_is if unit else self.rule, what, function)
        return _Layer.apply(share, function, *(self.env[source] for source in sources))


class _Layer(torch.autograd.Function):
    """A layer whose gradient is the share of the relevance that arrives at it."""

    @staticmethod
    def forward(ctx, share, function, *inputs: Tensor) -> Tensor:
        ctx.share = share
        ctx.save_for_backward(*inputs)
        return function(*inputs)

    @staticmethod
    def backward(ctx, arrived: Tensor):
        return None, None, *ctx.share(ctx.saved_tensors, arrived)


def _as_it_is(what, function, inputs: Sequence[Tensor], arrived: Tensor) -> list[Tensor]:
    return [arrived.reshape(inputs[0].shape)]


def in_proportion(
    function: Function, inputs: Sequence[Tensor], arrived: Tensor, epsilon: float = 0.0
) -> list[Tensor]:
    r"""$x_j\sum_i w_{ij}\,p_i/(z_i+\epsilon\,\mathrm{sign}\,z_i)$ with $z=$ ``function(*inputs)``.

    For any ``function`` that is linear, but for a constant (max pooling: locally). Relevance at
    outputs that are zero is lost.
    """
    with torch.enable_grad():
        terms = [x.detach().requires_grad_(True) for x in inputs]
        total = function(*terms)
        z = total.detach()
        rate = torch.where(z == 0, 0, arrived / torch.where(z == 0, 1, z + epsilon * z.sign()))
        slopes = torch.autograd.grad(total, terms, rate)
    return [(x * slope).detach() for x, slope in zip(terms, slopes, strict=True)]


def positive(layer: nn.Module, sign: int = 1) -> nn.Module:
    """The layer with the positive part of ``sign`` times its weights, and no bias."""
    part = copy.copy(layer)
    part._parameters = dict(layer._parameters)
    weight = (sign * layer.get_parameter("weight").detach()).clamp(min=0)
    part._parameters["weight"] = nn.Parameter(weight, requires_grad=False)
    part._parameters["bias"] = None
    return part


def covered(classifier, method: str) -> fx.GraphModule:
    """The classifier's graph, or one line that names what ``method`` does not cover."""
    if not classifier.is_graph:
        raise ValueError(f"{method} needs a graph; torch.fx has none of {classifier.name}")
    other = ops.first_other(classifier.network, _covers)
    if other is not None:
        raise ValueError(
            f"{method} is defined for convolution, linear layers, pooling, ReLU and sums, "
            f"not for {other}"
        )
    return classifier.network


def _covers(node: fx.Node, layer: nn.Module | None) -> bool:
    if layer is not None:
        return type(layer) in _LAYERS and getattr(layer, "padding_mode", "zeros") == "zeros"
    number = node.target in ops.SUMS and any(isinstance(a, (int, float)) for a in node.args)
    return node.target in ops.CALLS | ops.SIZES and not number
