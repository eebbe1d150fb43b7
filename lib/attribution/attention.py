r"""Transformers: where attention flows, and Grad-CAM on tokens folded back to places.

Abnar, Zuidema, *Quantifying attention flow in transformers*, ACL 2020 (rollout); Grad-CAM is
:mod:`lib.attribution.grad_cam`'s. Both are for vision transformers as in Dosovitskiy et al., *An
image is worth 16 x 16 words*, 2021: every token attends to all, a class token stands before one
token for each cell of a grid of patches, and the class is read from it. In the graph, attention is
``nn.MultiheadAttention`` and the grid the last spatial output of the network.
"""

from dataclasses import dataclass
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Float, Int
from torch import Tensor, fx, nn

from lib import copies
from lib.attribution.cam import enlarge
from lib.networks.layers import activations_and_gradients, spatial_layers

_KNOWN: WeakKeyDictionary = WeakKeyDictionary()  # graph -> {shape of an image: its tokens or None}


@dataclass(frozen=True)
class Tokens:
    """The names of a network's attention layers, first to last, and its grid of patches."""

    layers: tuple[str, ...]
    grid: tuple[int, int]


def attention_rollout(
    classifier,
    images: Float[Tensor, "n c h w"],
    targets: Int[Tensor, " n"],
    *,
    upsample: bool = True,
    batch_size: int | None = None,
) -> Float[Tensor, "n 1 y x"]:
    r"""The class token's row of $\tilde A_L\cdots\tilde A_1$, $\tilde A=\tfrac12(A+I)$.

    $A$ is a layer's attention, averaged over heads; the identity stands for the connection around
    it. What remains with the class token is left out, so that the cells sum to less than 1. The map
    is the same for every target: attention does not know the class. ``upsample=False`` gives the
    grid's cells ``(N, 1, h, w)``, else they are enlarged to the images (bilinear).

    Raises ``ValueError`` for a network that is no vision transformer of this kind.
    """
    engine = copies.Engine(classifier, images, targets, batch_size, "attention_rollout")
    tokens = tokens_of(classifier, tuple(images.shape[1:]), "attention_rollout")

    def answer(batch: Tensor, wanted: Tensor) -> Tensor:
        attention, logits = attention_weights(classifier, batch, tokens.layers)
        copies.of_targets(logits, wanted)  # refuses a target that does not exist
        flow = around = torch.eye(attention[0].shape[1]).to(attention[0])
        for weights in attention:
            flow = (weights + around) / 2 @ flow
        maps = flow[:, 0, 1:].reshape(-1, 1, *tokens.grid)
        return enlarge(maps, images.shape[2:]) if upsample else maps

    return engine.single_pass(answer).to(images.device)


def token_grad_cam(
    classifier,
    images: Float[Tensor, "n c h w"],
    targets: Int[Tensor, " n"],
    *,
    layer: str | None = None,
    relu: bool = True,
    upsample: bool = True,
    batch_size: int | None = None,
) -> Float[Tensor, "n 1 y x"]:
    r"""Grad-CAM with the tokens of ``layer`` as $A_k(y,x)$, the class token left out.

    ``layer`` is any layer that puts out tokens ``(N, 1 + h w, D)``, by name; by default what the
    last attention layer reads. (What comes after it reaches the class at the class token alone: the
    gradient of every patch is zero there, and so is the map.) See
    :func:`lib.attribution.grad_cam.grad_cam` for the rest, and :func:`attention_rollout` for what
    is refused.
    """
    engine = copies.Engine(classifier, images, targets, batch_size, "token_grad_cam")
    tokens = tokens_of(classifier, tuple(images.shape[1:]), "token_grad_cam")
    by_name = {node.target: node for node in classifier.network.graph.nodes}
    name = layer or by_name[tokens.layers[-1]].all_input_nodes[0].name

    def answer(batch: Tensor, wanted: Tensor) -> Tensor:
        features, slopes, _ = activations_and_gradients(classifier, batch, wanted, name)
        height, width = tokens.grid
        if features.ndim != 3 or features.shape[1] != 1 + height * width:
            raise ValueError(f"layer {name!r} puts out {tuple(features.shape[1:])}, no tokens")
        alpha = slopes[:, 1:].mean(1)
        maps = torch.einsum("btd,bd->bt", features[:, 1:], alpha).reshape(-1, 1, height, width)
        maps = maps.relu() if relu else maps
        return enlarge(maps, images.shape[2:]) if upsample else maps

    return engine.single_pass(answer).to(images.device)


def attention_weights(
    classifier, images: Float[Tensor, "n c h w"], layers: tuple[str, ...]
) -> tuple[list[Float[Tensor, "n t t"]], Float[Tensor, "n k"]]:
    """Each layer's attention from (row) to (column) tokens, averaged over heads; and all logits."""
    found = []

    class Watch(fx.Interpreter):
        def call_module(self, target, args, kwargs):
            if target not in layers:
                return super().call_module(target, args, kwargs)
            output = super().call_module(target, args, {**kwargs, "need_weights": True})
            found.append(output[1].detach())
            return output

    with torch.no_grad():
        logits = Watch(classifier.network).run(classifier.normalize(images))
    return found, logits


def tokens_of(classifier, shape: tuple[int, ...], method: str) -> Tokens:
    """The transformer's layers and grid for images of ``shape``, or one line that refuses.

    A blank image passes the network once for each shape, not at each call.
    """
    if classifier.is_graph:
        known = _KNOWN.setdefault(classifier.network, {})
        if shape not in known:
            known[shape] = _find(classifier, shape)
        if known[shape] is not None:
            return known[shape]
    raise ValueError(
        f"{method} needs a vision transformer, in which a class token and a grid of patches attend "
        f"to one another (torchvision's vit_*), which {classifier.name} is not"
    )


def _find(classifier, shape: tuple[int, ...]) -> Tokens | None:
    nodes = classifier.network.graph.nodes
    layers = tuple(str(node.target) for node in nodes if _attends(classifier.network, node))
    if layers and (spatial := spatial_layers(classifier, shape)):
        _, height, width = list(spatial.values())[-1]
        blank = torch.zeros(1, *shape, dtype=classifier.dtype, device=classifier.device)
        (first, *_), _ = attention_weights(classifier, blank, layers)
        if first.shape[1] == 1 + height * width:
            return Tokens(layers, (height, width))
    return None


def _attends(network: fx.GraphModule, node: fx.Node) -> bool:
    module = network.get_submodule(str(node.target)) if node.op == "call_module" else None
    return isinstance(module, nn.MultiheadAttention)
