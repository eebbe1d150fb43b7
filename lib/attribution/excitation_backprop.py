r"""Excitation backprop: winners pass their probability on to what excited them.

Zhang, Lin, Brandt, Shen, Sclaroff, *Top-down neural attention by excitation backprop*, ECCV 2016,
equations 3 and 10. With $x \ge 0$ the input of a layer, $w^+$ the positive part of its weights and
$p$ the probability at its output,

$$p_j \mapsto x_j \sum_i w^+_{ij}\,\frac{p_i}{\sum_k w^+_{ik} x_k}.$$

Biases excite nothing, nor do negative responses: the image itself and linear bottlenecks, which
no ReLU follows, have them, and they count as zero. The rule belongs to the layers, so the graph of
:mod:`lib.networks.normal_form` is read node by node; the network is never altered.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor, fx, nn
from torch.nn import functional

from lib import copies
from lib.attribution.cam import enlarge
from lib.attribution.relevance import Walk, covered, in_proportion, positive
from lib.networks import operations as ops
from lib.networks.degrees import layer_name
from lib.networks.layers import find_layer, spatial_layers

STRIDE = 8  # the default layer's cells, in pixels: GoogLeNet's pool2, which the paper reads
_METHOD = "excitation backprop"


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
    network = covered(classifier, _METHOD)
    walk = Walk(network, _rule)
    end = network.graph.output_node().all_input_nodes[0]
    with torch.enable_grad():
        logits = walk.run(classifier.normalize(images.detach()).requires_grad_(True))
    copies.of_targets(logits, targets)  # refuses a target that does not exist
    top, start = logits, functional.one_hot(targets, logits.shape[1]).to(logits)
    if contrast:
        last = network.get_submodule(str(end.target)) if end.op == "call_module" else None
        if not isinstance(last, nn.Linear):
            raise ValueError(f"{classifier.name} does not end in a linear layer: no contrast")
        top = walk.env[end.all_input_nodes[0]]
        excited = [top.detach().clamp(min=0)]
        for_, against = (in_proportion(positive(last, k), excited, start)[0] for k in (1, -1))
        start = for_ - against
    place = next((node for node in walk.env if layer_name(node) == layer), None)
    if place is not None:
        (arrived,) = torch.autograd.grad(top, walk.env[place], start, allow_unused=True)
        if arrived is not None:
            return arrived
    raise ValueError(f"layer {layer!r} of {classifier.name} is not on the way to the score")


def _rule(what, function, inputs, arrived: Tensor) -> list[Tensor]:
    function = positive(what) if isinstance(what, ops.WEIGHTED) else function
    return in_proportion(function, [x.clamp(min=0) for x in inputs], arrived)


def _attribute(classifier, images, targets, contrast, layer, upsample, batch_size) -> Tensor:
    engine = copies.Engine(classifier, images, targets, batch_size, "excitation")
    shape = tuple(images.shape[1:])
    network = covered(classifier, _METHOD)
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
            activation = isinstance(network.get_submodule(name), (nn.ReLU, nn.ReLU6, *ops.POOLS))
            if activation and size[1] * STRIDE <= shape[1] and size[2] * STRIDE <= shape[2]:
                return name
            last = name if activation else last
        if node.target not in ops.SIZES:  # a size read early and used late carries no signal
            signal = (user for user in node.users if user.target not in ops.SIZES)
            reach = max([reach, *(place[user] for user in signal)])
    if last is None:
        raise ValueError(f"{classifier.name} has no layer to read excitation at: name one")
    return last
