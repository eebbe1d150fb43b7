"""What a network's graph is made of, for rules that belong to layers: which of it is linear."""

import operator
from collections.abc import Callable

import torch
from torch import fx, nn
from torch.nn import functional

WEIGHTED = (nn.Conv2d, nn.Linear)
SHAPES = (nn.Flatten, nn.Identity, nn.Dropout)
MAX_POOLS = (nn.MaxPool2d, nn.AdaptiveMaxPool2d)
POOLS = (nn.AvgPool2d, nn.AdaptiveAvgPool2d, *MAX_POOLS)
ELEMENTWISE = (
    nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.SELU, nn.CELU, nn.Hardtanh, nn.Hardswish,
    nn.Hardsigmoid, nn.SiLU, nn.Mish, nn.GELU, nn.Softplus, nn.Sigmoid, nn.Tanh, nn.Softsign,
)  # fmt: skip
SUMS = {operator.add, operator.iadd, torch.add, "add", "add_"}
REARRANGE = {  # one input unit to an output unit; functions, and methods by name
    torch.flatten, torch.reshape, torch.squeeze,
    "flatten", "reshape", "view", "squeeze", "contiguous",
}  # fmt: skip
CALLS = SUMS | REARRANGE | {
    torch.cat, torch.concat, torch.mean, functional.avg_pool2d, functional.adaptive_avg_pool2d,
    functional.max_pool2d, torch.max_pool2d, "mean",
}  # fmt: skip
SIZES = {operator.getitem, getattr, "size", "dim"}  # numbers that shapes are made of


def first_other(
    network: fx.GraphModule, covers: Callable[[fx.Node, nn.Module | None], bool]
) -> str | None:
    """The first part of the graph that ``covers(node, layer)`` does not admit, as readers know it.

    ``layer`` is the module that the node calls, if it calls one. An operation is told with what it
    is given: a sum of two signals may be covered, and one with a number not.
    """
    for node in network.graph.nodes:
        layer = network.get_submodule(str(node.target)) if node.op == "call_module" else None
        if node.op in ("placeholder", "output") or covers(node, layer):
            continue
        if layer is not None:
            return f"layer {node.target} ({type(layer).__name__})"
        if node.op == "get_attr":
            return f"the constant {node.target}"
        given = [str(a) for a in node.args] + [f"{k}={a}" for k, a in node.kwargs.items()]
        return f"operation {getattr(node.target, '__name__', node.target)}({', '.join(given)})"
    return None
