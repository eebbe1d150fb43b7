r"""Excitation backprop: winners pass their probability on to what excited them.

Zhang, Lin, Brandt, Shen, Sclaroff, *Top-down neural attention by excitation backprop*, ECCV 2016,
equations 3 and 10. With $x \ge 0$ the input of a layer, $w^+$ the positive part of its weights and
$p$ the probability at its output,

$$p_j \mapsto x_j \sum_i w^+_{ij}\,\frac{p_i}{\sum_k w^+_{ik} x_k}.$$

Biases excite nothing, nor do negative responses: the image itself and linear bottlenecks, which
no ReLU follows, have them, and they count as zero. The rule belongs to the layers, so the graph of
:mod:`lib.networks.normal_form` is read node by node; the network is never altered.
"""

import copy
import operator
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, fx, nn
from torch.nn import functional

from lib import copies
from lib.attribution.cam import enlarge
from lib.networks.degrees import layer_name
from lib.networks.layers import find_layer, spatial_layers

STRIDE = 8  # the default layer's cells, in pixels: GoogLeNet's pool2, which the paper reads
# One input unit, one output unit: the probability passes as it is.
_UNITS = (nn.ReLU, nn.ReLU6, nn.Flatten, nn.Identity, nn.Dropout)
_WEIGHTED = (nn.Conv2d, nn.Linear)
_POOLS = (nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.MaxPool2d, nn.AdaptiveMaxPool2d)
_FUNCTIONS = {
    operator.add, operator.iadd, torch.add, torch.cat, torch.concat, torch.flatten, torch.mean,
    torch.reshape, torch.squeeze, functional.avg_pool2d, functional.adaptive_avg_pool2d,
    functional.max_pool2d, torch.max_pool2d,
}  # fmt: skip
_METHODS = {"add", "add_", "flatten", "mean", "reshape", "view", "squeeze", "contiguous"}
_OWN_PLACE = {operator.iadd: operator.add, "add_": "add"}
_SIZES = {operator.getitem, getattr, "size", "dim"}  # numbers that shapes are made of


def excitation_backprop(
    classifier,
    images: Float[Tensor, "n c h w"],
    targets: Int[Tensor, " n"],
    *,
    layer: str | None = None,
    upsample: bool = True,
    batch_size: int | None = None,
) -> Float[Tensor, "n 1 y x"]:
    """The marginal winning probability of the cells of ``layer``, summed over its channels.

    The walk starts with probability 1 at the target's logit. ``layer`` is a layer's name, by
    default the first one with cells of 8 x 8 pixels that the whole signal passes through.
    ``upsample=False`` gives its cells ``(N, 1, h, w)``, else they are enlarged to the images
    (bilinear). Cells sum to 1, less what reached units that nothing excited.

    Raises ``ValueError`` naming the first layer or operation that the rule does not cover (it
    covers convolution, linear layers, pooling, ReLU, ReLU6, sums and concatenations).
    """
    return _attribute(classifier, images, targets, False, layer, upsample, batch_size)


def contrastive_excitation_backprop(
    classifier,
    images: Float[Tensor, "n c h w"],
    targets: Int[Tensor, " n"],
    *,
    layer: str | None = None,
    clamp: bool = True,
    upsample: bool = True,
    batch_size: int | None = None,
) -> Float[Tensor, "n 1 y x"]:
    """Excitation of the target minus excitation of its opposite, the negative part cut off.

    The opposite is a unit whose weights in the last layer are negated; both walks meet below that
    layer, where their difference walks on. ``clamp=False`` keeps the sign. See
    :func:`excitation_backprop` for the rest.

    Raises ``ValueError`` also when the network does not end in a linear layer.
    """
    maps = _attribute(classifier, images, targets, True, layer, upsample, batch_size)
    return maps.clamp(min=0) if clamp else maps


def probabilities(
    classifier,
    images: Float[Tensor, "n c h w"],
    targets: Int[Tensor, " n"],
    layer: str,
    *,
    contrast: bool = False,
) -> Float[Tensor, "n ..."]:
    """What arrives at each unit of ``layer``: the maps above before any sum or clamp."""
    network = _covered(classifier)
    values = _forward(network, classifier.normalize(images.detach()))
    nodes = list(network.graph.nodes)
    end = next(node for node in reversed(nodes) if node.op == "output").args[0]
    copies.of_targets(values[end], targets)  # refuses a target that does not exist
    start = functional.one_hot(targets, values[end].shape[1]).to(values[end])
    arrived: dict[fx.Node, Tensor] = {}
    if contrast:
        first = network.get_submodule(end.target) if end.op == "call_module" else None
        if not isinstance(first, nn.Linear):
            raise ValueError(f"{classifier.name} does not end in a linear layer: no contrast")
        for_, against = (
            _share(_positive(first, sign), values[end.args[0]], start) for sign in (1, -1)
        )
        arrived[end.args[0]] = for_ - against
    else:
        arrived[end] = start
    for node in reversed(nodes):
        if node not in arrived:
            continue
        if layer == layer_name(node):
            return arrived[node]
        for source, part in _step(network, node, values, arrived.pop(node)):
            arrived[source] = arrived[source] + part if source in arrived else part
    raise ValueError(f"layer {layer!r} of {classifier.name} is not on the way to the score")


def _attribute(classifier, images, targets, contrast, layer, upsample, batch_size) -> Tensor:
    engine = copies.Engine(classifier, images, targets, batch_size, "excitation")
    shape = tuple(images.shape[1:])
    network = _covered(classifier)
    name = find_layer(classifier, layer, shape) if layer else _default(classifier, network, shape)

    def answer(batch: Tensor, wanted: Tensor) -> Tensor:
        arrived = probabilities(classifier, batch, wanted, name, contrast=contrast)
        maps = arrived.sum(1, keepdim=True)
        return enlarge(maps, images.shape[2:]) if upsample else maps

    return engine.single_pass(answer).to(images.device)


def _default(classifier, network: fx.GraphModule, shape: tuple[int, ...]) -> str:
    """The first layer at stride 8 or coarser that no connection goes around, after a ReLU."""
    spatial = spatial_layers(classifier, shape)
    nodes = list(network.graph.nodes)
    place = {node: k for k, node in enumerate(nodes)}
    reach = 0  # how far connections from earlier nodes go
    last = None
    for k, node in enumerate(nodes):
        name = layer_name(node)
        size = spatial.get(name)
        if reach <= k and size and node.op == "call_module":
            activation = isinstance(network.get_submodule(name), (nn.ReLU, nn.ReLU6, *_POOLS))
            if activation and size[1] * STRIDE <= shape[1] and size[2] * STRIDE <= shape[2]:
                return name
            last = name if activation else last
        if node.target not in _SIZES:  # a size read early and used late carries no signal
            signal = (user for user in node.users if user.target not in _SIZES)
            reach = max([reach, *(place[user] for user in signal)])
    if last is None:
        raise ValueError(f"{classifier.name} has no layer to read excitation at: name one")
    return last


class _OutOfPlace(fx.Interpreter):
    """Keeps every value: a sum that overwrites one of its terms gets a place of its own."""

    def call_function(self, target, args, kwargs):
        return super().call_function(_OWN_PLACE.get(target, target), args, kwargs)

    def call_method(self, target, args, kwargs):
        return super().call_method(_OWN_PLACE.get(target, target), args, kwargs)


@torch.no_grad()
def _forward(network: fx.GraphModule, pixels: Tensor) -> dict[fx.Node, Any]:
    interpreter = _OutOfPlace(network, garbage_collect_values=False)
    interpreter.run(pixels)
    return dict(interpreter.env)


def _step(network: fx.GraphModule, node: fx.Node, values: dict, arrived: Tensor):
    """Where the probability at ``node`` goes: pairs (node, probability)."""
    if node.op == "placeholder":
        return []
    sources = [source for source in node.all_input_nodes if isinstance(values[source], Tensor)]
    if node.op == "call_module":
        module = network.get_submodule(layer_name(node))
        if isinstance(module, _UNITS):
            return [(sources[0], arrived.reshape(values[sources[0]].shape))]
        function = _positive(module, 1) if isinstance(module, _WEIGHTED) else module
        return [(sources[0], _share(function, values[sources[0]], arrived))]

    def function(*inputs: Tensor) -> Tensor:
        given = {
            **{n: values[n] for n in node.all_input_nodes},
            **dict(zip(sources, inputs, strict=True)),
        }
        args, kwargs = fx.map_arg((node.args, node.kwargs), lambda n: given[n])
        target = _OWN_PLACE.get(node.target, node.target)
        if node.op == "call_method":
            return getattr(args[0], target)(*args[1:], **kwargs)
        return target(*args, **kwargs)

    parts = _shares(function, [values[source] for source in sources], arrived)
    return list(zip(sources, parts, strict=True))


def _share(function: Callable[[Tensor], Tensor], x: Tensor, arrived: Tensor) -> Tensor:
    return _shares(function, [x], arrived)[0]


def _shares(function: Callable[..., Tensor], inputs: list[Tensor], arrived: Tensor) -> list[Tensor]:
    """The rule for any ``function`` that is linear with weights >= 0 (max pooling: locally)."""
    with torch.enable_grad():
        excited = [x.detach().clamp(min=0).requires_grad_(True) for x in inputs]
        total = function(*excited)
        rate = torch.where(total > 0, arrived / total.detach().clamp(min=1e-30), 0)
        slopes = torch.autograd.grad(total, excited, rate.to(total))
    return [(x * slope).detach() for x, slope in zip(excited, slopes, strict=True)]


def _positive(module: nn.Conv2d | nn.Linear, sign: int) -> nn.Module:
    positive = copy.copy(module)
    positive._parameters = dict(module._parameters)
    positive._parameters["weight"] = nn.Parameter(
        (sign * module.weight.detach()).clamp(min=0), requires_grad=False
    )
    positive._parameters["bias"] = None
    return positive


def _covered(classifier) -> fx.GraphModule:
    """The classifier's graph, or one line that names what the rule does not cover."""
    if not classifier.is_graph:
        raise ValueError(
            f"excitation backprop needs a graph; torch.fx has none of {classifier.name}"
        )
    network = classifier.network
    for node in network.graph.nodes:
        if node.op == "call_module":
            module = network.get_submodule(layer_name(node))
            padded = getattr(module, "padding_mode", "zeros") != "zeros"
            if type(module) not in (*_UNITS, *_WEIGHTED, *_POOLS) or padded:
                _refuse(f"layer {node.target} ({type(module).__name__})")
        elif node.op == "get_attr":
            _refuse(f"the constant {node.target}")
        elif node.op in ("call_function", "call_method"):
            known = _FUNCTIONS if node.op == "call_function" else _METHODS
            tensors = [a for a in node.all_input_nodes if a.op != "get_attr"]
            number = any(isinstance(a, (int, float)) for a in node.args) and _adds(node)
            if (node.target not in known and node.target not in _SIZES) or number or not tensors:
                _refuse(f"operation {node.name} ({getattr(node.target, '__name__', node.target)})")
    return network


def _adds(node: fx.Node) -> bool:
    return node.target in (operator.add, operator.iadd, torch.add, "add", "add_")


def _refuse(what: str) -> None:
    raise ValueError(
        "excitation backprop is defined for convolution, linear layers, pooling, ReLU and sums, "
        f"not for {what}"
    )
