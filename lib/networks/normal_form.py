"""One normal form for every network, so that each method needs to know only one.

``normal_form`` traces a network (torch.fx) and rewrites it, its outputs unchanged, such that

* batch normalization is folded into the convolution before it,
* convolutions pad themselves: no explicit zero-padding layer is left in front of one,
* one library computes every convolution of a batch, so that its size and the number of threads
  change a result by rounding at most,
* dropout and identity layers are gone,
* every activation is a module of its own, out of place: none is functional,
* shapes are changed by ``reshape``, which takes any memory format,
* no layer is called twice.

Layers are then addressed by one unambiguous name, and a hook on a module sees each call once.
"""

import copy

import torch
from torch import fx, nn
from torch.fx.experimental.optimization import fuse

# function or method -> (its module, the options that may follow the input by position)
_FUNCTIONAL_ACTIVATIONS = {
    nn.functional.relu: (nn.ReLU, ()),
    nn.functional.relu6: (nn.ReLU6, ()),
    nn.functional.leaky_relu: (nn.LeakyReLU, ("negative_slope",)),
    nn.functional.elu: (nn.ELU, ("alpha",)),
    nn.functional.hardtanh: (nn.Hardtanh, ("min_val", "max_val")),
    nn.functional.hardswish: (nn.Hardswish, ()),
    nn.functional.hardsigmoid: (nn.Hardsigmoid, ()),
    nn.functional.silu: (nn.SiLU, ()),
    nn.functional.mish: (nn.Mish, ()),
    nn.functional.gelu: (nn.GELU, ()),
    nn.functional.softplus: (nn.Softplus, ("beta", "threshold")),
    **dict.fromkeys((torch.relu, torch.relu_, "relu", "relu_"), (nn.ReLU, ())),
    **dict.fromkeys((torch.sigmoid, nn.functional.sigmoid, "sigmoid"), (nn.Sigmoid, ())),
    **dict.fromkeys((torch.tanh, nn.functional.tanh, "tanh"), (nn.Tanh, ())),
}
_IN_PLACE = (torch.relu_, "relu_")


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
    _reshape_views(graph)
    graph = fuse(graph, inplace=True, no_trace=True)
    assert isinstance(graph, fx.GraphModule)
    _one_library(graph)
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
            (widen.shape[2], widen.shape[3]),
            conv.stride,  # pyright: ignore[reportArgumentType]
            (bottom, right),
            conv.dilation,  # pyright: ignore[reportArgumentType]
            conv.groups,
            bias=conv.bias is not None,
        )
        plain.weight = nn.Parameter(widen.contiguous())
        plain.bias = conv.bias
        parent, _, child = name.rpartition(".")
        setattr(network.get_submodule(parent), child, plain)
    return network.eval()


def _one_library(graph: fx.GraphModule) -> None:
    for module in graph.modules():
        if isinstance(module, nn.Conv2d) and module.kernel_size == (1, 1):
            module.register_forward_pre_hook(_stay_with_onednn)
            module.register_forward_hook(_as_built, always_call=True)


def _stay_with_onednn(conv: nn.Conv2d, inputs: tuple[torch.Tensor]) -> None:
    """Before a 1 x 1 convolution: let oneDNN compute it, as it computes all others.

    Where one thread sees fewer than 16 images, PyTorch gives these to another library, unless they
    are dilated: slower. A single weight has no neighbor to move away from. One image alone is left
    to PyTorch: oneDNN is not asked for small ones, and dilation would be slow there. Sums still
    round as the CPU, the threads and the batch have it: about 1e-6 of the largest logit.
    """
    conv.dilation = (2, 2) if len(inputs[0]) > 1 else (1, 1)


def _as_built(conv: nn.Conv2d, *_) -> None:
    """After it: a network that was used is the network that was loaded, for whoever hashes it."""
    conv.dilation = (1, 1)


def _drop_identities(graph: fx.GraphModule) -> None:
    modules = dict(graph.named_modules())
    layers = (nn.Identity, nn.modules.dropout._DropoutNd)
    functions = ("dropout", "dropout2d", "stochastic_depth")  # of PyTorch, the last of torchvision
    for node in list(graph.graph.nodes):
        is_layer = node.op == "call_module" and isinstance(modules[node.target], layers)
        name = getattr(node.target, "__name__", None)
        if is_layer or (node.op == "call_function" and name in functions):
            node.replace_all_uses_with(node.all_input_nodes[0])
            graph.graph.erase_node(node)


def _reshape_views(graph: fx.GraphModule) -> None:
    """``x.view(n, -1)`` fails on the channels-last tensors that run here, ``reshape`` does not."""
    for node in graph.graph.nodes:
        of_shape = not any(isinstance(option, torch.dtype) for option in node.args)
        if node.op == "call_method" and node.target == "view" and of_shape:
            node.target = "reshape"


def _own_activations(graph: fx.GraphModule) -> None:
    modules = dict(graph.named_modules())
    seen: set[str] = set()
    for node in list(graph.graph.nodes):
        if node.op == "call_module":
            # A layer called twice becomes two: else both calls share the batch norm folded into one
            module, reused = modules[node.target], node.target in seen
            in_place = getattr(module, "inplace", False)
            if in_place or reused:
                own = copy.deepcopy(module)
                if in_place:
                    own.inplace = False  # pyright: ignore[reportArgumentType]
                    _hand_over(node.args[0], node)
                if reused:
                    node.target = _free_name(graph, node.name)
                graph.add_submodule(node.target, own)
            seen.add(node.target)
        elif node.op in ("call_function", "call_method") and node.target in _FUNCTIONAL_ACTIVATIONS:
            activation, names = _FUNCTIONAL_ACTIVATIONS[node.target]
            options = dict(zip(("input", *names, "inplace"), node.args, strict=False))
            options |= node.kwargs
            source = options.pop("input")
            in_place = options.pop("inplace", False) or node.target in _IN_PLACE
            name = _free_name(graph, node.name)
            graph.add_submodule(name, activation(**options))
            with graph.graph.inserting_after(node):
                own = graph.graph.call_module(name, (source,))
            node.replace_all_uses_with(own)
            graph.graph.erase_node(node)
            if in_place:
                _hand_over(source, own)


def _hand_over(source: fx.Node, node: fx.Node) -> None:
    """Whoever reads ``source`` after ``node`` had overwritten it in place reads ``node``."""
    source.replace_all_uses_with(node, delete_user_cb=lambda user: user > node)


def _free_name(graph: fx.GraphModule, name: str) -> str:
    taken = {existing for existing, _ in graph.named_modules()}
    while name in taken:
        name += "_"
    return name
