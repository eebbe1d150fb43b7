"""One normal form for every network, so that each method needs to know only one.

``normal_form`` traces a network (torch.fx) and rewrites it, its outputs unchanged, such that

* batch normalization is folded into the convolution before it,
* convolutions pad themselves: no explicit zero-padding layer is left in front of one,
* dropout and identity layers are gone,
* every activation is a module of its own, out of place: none is functional, none is called twice.

Layers are then addressed by one unambiguous name, and a hook on a module sees each call once.
"""

import copy
import operator

import torch
from torch import fx, nn
from torch.fx.experimental.optimization import fuse

_FUNCTIONAL_ACTIVATIONS = {
    nn.functional.relu: nn.ReLU,
    nn.functional.relu6: nn.ReLU6,
    nn.functional.leaky_relu: nn.LeakyReLU,
    nn.functional.hardswish: nn.Hardswish,
    nn.functional.hardsigmoid: nn.Hardsigmoid,
    nn.functional.silu: nn.SiLU,
    nn.functional.gelu: nn.GELU,
    torch.relu: nn.ReLU,
    torch.sigmoid: nn.Sigmoid,
    torch.tanh: nn.Tanh,
    "relu": nn.ReLU,
    "relu_": nn.ReLU,
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
}
_ACTIVATION_OPTIONS = ("negative_slope", "approximate")


class NotTraceable(ValueError):
    """The network's control flow depends on its data: torch.fx cannot see it as a graph."""


def normal_form(network: nn.Module) -> fx.GraphModule:
    """An equivalent graph of ``network`` in evaluation mode; the network itself is left alone.

    Raises :class:`NotTraceable` for networks that torch.fx cannot trace.
    """
    network = _absorb_padding(copy.deepcopy(network).eval())
    try:
        graph = fx.symbolic_trace(network)
    except Exception as error:  # fx raises many kinds, all meaning the same
        raise NotTraceable(f"{type(network).__name__} cannot be traced: {error}") from error
    _drop_identities(graph)
    _own_activations(graph)
    graph = fuse(graph, inplace=True, no_trace=True)
    graph.delete_all_unused_submodules()
    graph.graph.lint()
    graph.recompile()
    return graph.eval()


def _absorb_padding(network: nn.Module) -> nn.Module:
    """Let convolutions that carry a ``static_padding`` layer (TensorFlow's SAME) pad themselves.

    With stride 2 that padding is uneven, (p, p + 1): a kernel widened by a row and a column of
    zeros at the top and left, under even padding p + 1, reads the same pixels.
    """
    for name, conv in list(network.named_modules()):
        if not isinstance(conv, nn.Conv2d) or not hasattr(conv, "static_padding"):
            continue
        left, right, top, bottom = getattr(conv.static_padding, "padding", (0, 0, 0, 0))
        widen = nn.functional.pad(conv.weight.detach(), (right - left, 0, bottom - top, 0))
        plain = nn.Conv2d(
            conv.in_channels,
            conv.out_channels,
            tuple(widen.shape[2:]),
            conv.stride,
            (bottom, right),
            conv.dilation,
            conv.groups,
            bias=conv.bias is not None,
        )
        plain.weight = nn.Parameter(widen.contiguous())
        plain.bias = conv.bias
        parent, _, child = name.rpartition(".")
        setattr(network.get_submodule(parent), child, plain)
    return network.eval()


def _drop_identities(graph: fx.GraphModule) -> None:
    modules = dict(graph.named_modules())
    dropouts = (nn.functional.dropout, nn.functional.dropout2d)
    for node in list(graph.graph.nodes):
        is_module = node.op == "call_module" and isinstance(
            modules[node.target], (nn.Identity, nn.Dropout, nn.Dropout2d)
        )
        # torchvision's stochastic depth traces to a module that does nothing in evaluation mode
        is_module |= (
            node.op == "call_module" and type(modules[node.target]).__name__ == "StochasticDepth"
        )
        if is_module or (node.op == "call_function" and node.target in dropouts):
            node.replace_all_uses_with(node.args[0])
            graph.graph.erase_node(node)


def _own_activations(graph: fx.GraphModule) -> None:
    modules = dict(graph.named_modules())
    seen: set[str] = set()
    for node in list(graph.graph.nodes):
        if node.op == "call_module":
            module = modules[node.target]
            if any(True for _ in module.parameters()) or any(True for _ in module.children()):
                continue
            if hasattr(module, "inplace") or node.target in seen:
                own = copy.deepcopy(module)
                if hasattr(own, "inplace"):
                    own.inplace = False
                if node.target in seen:
                    node.target = _free_name(graph, node.name)
                graph.add_submodule(node.target, own)
            seen.add(node.target)
        elif node.op in ("call_function", "call_method") and node.target in _FUNCTIONAL_ACTIVATIONS:
            options = {k: v for k, v in node.kwargs.items() if k in _ACTIVATION_OPTIONS}
            if node.target is nn.functional.leaky_relu and len(node.args) > 1:
                options["negative_slope"] = node.args[1]
            name = _free_name(graph, node.name)
            graph.add_submodule(name, _FUNCTIONAL_ACTIVATIONS[node.target](**options))
            with graph.graph.inserting_after(node):
                own = graph.graph.call_module(name, (node.args[0],))
            node.replace_all_uses_with(own)
            graph.graph.erase_node(node)
        elif node.op == "call_function" and node.target in (operator.iadd, operator.imul):
            # `x += y` would overwrite a tensor that a hook may hold
            node.target = operator.add if node.target is operator.iadd else operator.mul


def _free_name(graph: fx.GraphModule, name: str) -> str:
    taken = {existing for existing, _ in graph.named_modules()}
    while name in taken:
        name += "_"
    return name
