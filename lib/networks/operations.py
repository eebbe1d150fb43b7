"""What a network's graph is made of, for rules that belong to layers: which of it is linear."""

import operator
from collections.abc import Collection

import torch
from torch import fx, nn
from torch.nn import functional

from lib.networks.normal_form import ACTIVATIONS

WEIGHTED = (nn.Conv2d, nn.Linear)
SHAPES = (nn.Flatten, nn.Identity, nn.Dropout)  # each output unit is one input unit
MAX_POOLS = (nn.MaxPool2d, nn.AdaptiveMaxPool2d)
POOLS = (nn.AvgPool2d, nn.AdaptiveAvgPool2d, *MAX_POOLS)
ELEMENTWISE = tuple(dict.fromkeys(kind for kind, _ in ACTIVATIONS.values()))
SUMS = {operator.add, operator.iadd, torch.add, "add", "add_"}
# sums, means, pooling, and what only rearranges; functions, and methods by name
CALLS = SUMS | {
    torch.cat, torch.concat, torch.flatten, torch.mean, torch.reshape, torch.squeeze,
    functional.avg_pool2d, functional.adaptive_avg_pool2d, functional.max_pool2d, torch.max_pool2d,
    "flatten", "mean", "reshape", "view", "squeeze", "contiguous",
}  # fmt: skip
SIZES = {operator.getitem, getattr, "size", "dim"}  # numbers that shapes are made of


def first_other(
    network: fx.GraphModule, layers: Collection[type], calls: Collection
) -> str | None:
    """The first layer or operation in the graph that is none of these, as a reader knows it."""
    for node in network.graph.nodes:
        if node.op == "call_module":
            kind = type(network.get_submodule(str(node.target)))
            if kind not in layers:
                return f"layer {node.target} ({kind.__name__})"
        elif node.op in ("call_function", "call_method") and node.target not in calls:
            return f"operation {node.name} ({getattr(node.target, '__name__', node.target)})"
    return None
