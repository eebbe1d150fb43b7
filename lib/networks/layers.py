"""Layers by name: what a layer puts out, how the score depends on it, what altering it does.

A layer is a node of the classifier's graph (:mod:`lib.networks.normal_form`): a module by its name
(``layer4.1.conv2``), the result of a function by its node's name (``add_7``), or a block of modules
by the block's name (``layer4``), which means the last layer in it. Nothing is hooked: the graph is
interpreted node by node, so the classifier stays as it is whatever happens.
"""

from collections.abc import Callable, Sequence
from difflib import get_close_matches
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Float, Int
from torch import Tensor, fx

from lib.networks.classifier import of_targets
from lib.networks.degrees import layer_name

_SHAPES: WeakKeyDictionary = WeakKeyDictionary()


class LayerError(ValueError):
    """A layer that does not exist, or that has no spatial output, and which ones would do."""


def spatial_layers(classifier, shape: tuple[int, ...]) -> dict[str, tuple[int, int, int]]:
    """Name -> ``(C, h, w)`` of every layer with a spatial output, first to last.

    ``shape`` is ``(C, H, W)`` of one image. Spatial: ``(N, C, h, w)`` with more than one cell and
    no more than the image has.
    """
    network = _graph(classifier)
    known = _SHAPES.setdefault(network, {})
    if tuple(shape) not in known:
        found: dict[str, tuple[int, int, int]] = {}

        class Record(fx.Interpreter):
            def run_node(self, node: fx.Node):
                value = super().run_node(node)
                if node.op not in ("placeholder", "output") and _is_spatial(value, shape):
                    found[layer_name(node)] = tuple(value.shape[1:])
                return value

        blank = torch.zeros(1, *shape, dtype=classifier.dtype, device=classifier.device)
        with torch.no_grad():
            Record(network).run(classifier.normalize(blank))
        known[tuple(shape)] = found
    return known[tuple(shape)]


def last_of_each_size(classifier, shape: tuple[int, ...]) -> dict[tuple[int, int], str]:
    """``(h, w)`` -> the last layer of that resolution, finest first."""
    last = {size[1:]: name for name, size in spatial_layers(classifier, shape).items()}
    return dict(sorted(last.items(), reverse=True))


def cam_layer(classifier, shape: tuple[int, ...]) -> str:
    """The layer that CAM methods read by default: the last one with a spatial output."""
    layers = spatial_layers(classifier, shape)
    if not layers:
        raise LayerError(f"{classifier.name} has no layer with a spatial output")
    return list(layers)[-1]


def find_layer(classifier, layer: str | None, shape: tuple[int, ...]) -> str:
    """The full name of ``layer`` (``None``: the default one of :func:`cam_layer`).

    Raises ``LayerError`` in one line when it does not exist or has no spatial output; the line
    names layers that would work.
    """
    spatial = spatial_layers(classifier, shape)
    if layer is None:
        return cam_layer(classifier, shape)
    node = _find(classifier, layer)
    if node is None:
        raise LayerError(
            f"layer {layer!r} does not exist in {classifier.name}; {_would_work(spatial, layer)}"
        )
    if layer_name(node) not in spatial:
        raise LayerError(
            f"layer {layer!r} of {classifier.name} has no spatial output; "
            f"{_would_work(spatial, layer)}"
        )
    return layer_name(node)


def activations_and_gradients(
    classifier, images: Float[Tensor, "n c h w"], targets: Int[Tensor, " n"], layer: str
) -> tuple[Tensor, Tensor, Float[Tensor, "n k"]]:
    r"""$A$, $\partial S_c/\partial A$ and all logits, ``S_c`` the logit of each image's target.

    One pass forward, and back only as far as the layer. For any layer whose output is a tensor.
    """
    found, logits = gradients_at(classifier, images, targets, [layer])
    return *found[layer], logits


def gradients_at(
    classifier, images: Float[Tensor, "n c h w"], targets: Int[Tensor, " n"], layers: Sequence[str]
) -> tuple[dict[str, tuple[Tensor, Tensor]], Float[Tensor, "n k"]]:
    r"""The same of many layers at once: by layer $A$ and $\partial S_c/\partial A$; all logits."""
    names = {_existing(classifier, layer): layer for layer in layers}
    captured: dict[str, Tensor] = {}

    class Tap(fx.Interpreter):
        def run_node(self, n: fx.Node):
            value = super().run_node(n)
            if n not in names:
                return value
            # a layer beside the ones before it has nothing to come from: it starts anew
            captured[names[n]] = value if value.requires_grad else value.detach().requires_grad_()
            # What follows may work in place: it gets a copy of its own.
            return captured[names[n]].clone()

    with torch.enable_grad():
        pixels = classifier.normalize(images.detach())
        logits = Tap(_graph(classifier), garbage_collect_values=True).run(pixels)
        score = of_targets(logits, targets).sum()
        slopes = torch.autograd.grad(score, list(captured.values()))
    pairs = zip(captured.items(), slopes, strict=True)
    return {name: (value.detach(), slope) for (name, value), slope in pairs}, logits.detach()


@torch.no_grad()
def split(
    classifier, images: Float[Tensor, "n c h w"], layer: str
) -> tuple[Tensor, Callable[[Tensor, Tensor], Tensor]]:
    """The layer's output ``A`` for ``images``, and the rest of the network as a function.

    ``rest(altered, row)`` returns the logits ``(b, K)`` that follow when image number
    ``row[j]`` has the output ``altered[j]`` at this layer. Values that bypass the layer (skip
    connections around it) keep those of their image; only they are held in memory.
    """
    node = _existing(classifier, layer)
    network = _graph(classifier)
    head = fx.Interpreter(network, garbage_collect_values=False)
    value = _run_until(head, node, classifier.normalize(images))
    before = set(head.env)
    held: dict[fx.Node, Tensor] = {}
    again: set[fx.Node] = set()
    pending = [n for n in before if n is not node and any(user not in before for user in n.users)]
    while pending:  # sizes and parameters are read again, from held tensors: batches differ
        current = pending.pop()
        if current in held or current in again or current is node:
            continue
        if isinstance(head.env[current], Tensor) and current.op != "get_attr":
            held[current] = head.env[current]
        else:
            again.add(current)
            pending.extend(current.all_input_nodes)

    @torch.no_grad()
    def rest(altered: Tensor, row: Int[Tensor, " b"]) -> Tensor:
        given: dict[fx.Node, Tensor | None] = dict.fromkeys(before - again)
        for kept, values in held.items():
            per_image = len(values) == len(images)
            given[kept] = values[row.to(values.device)] if per_image else values
        given[node] = altered.clone()
        return fx.Interpreter(network).run(initial_env=given)

    return value, rest


def _run_until(head: fx.Interpreter, last: fx.Node, pixels: Tensor) -> Tensor:
    """Interpret the graph up to and including ``last``; the values stay in ``head.env``."""
    head.args_iter = iter([pixels])
    for node in last.graph.nodes:
        head.env[node] = head.run_node(node)
        if node is last:
            return head.env[node].clone()
    raise LayerError(f"{last} is not in the graph")


def _graph(classifier) -> fx.GraphModule:
    if not getattr(classifier, "is_graph", False):
        raise LayerError(
            f"the layers of {classifier.name} cannot be addressed: torch.fx has no graph of it"
        )
    return classifier.network


def _find(classifier, layer: str) -> fx.Node | None:
    """The node of this name, else the last one in the block of this name."""
    inside = None
    for node in _graph(classifier).graph.nodes:
        if node.op in ("placeholder", "output"):
            continue
        if layer in (layer_name(node), node.name):
            return node
        blocks = [str(path) for path, _ in node.meta.get("nn_module_stack", {}).values()]
        if layer in blocks or layer_name(node).startswith(layer + "."):
            inside = node
    return inside


def _existing(classifier, layer: str) -> fx.Node:
    node = _find(classifier, layer)
    if node is None:
        raise LayerError(f"layer {layer!r} does not exist in {classifier.name}")
    return node


def _is_spatial(value, shape: tuple[int, ...]) -> bool:
    if not isinstance(value, Tensor) or value.ndim != 4:
        return False
    height, width = value.shape[2:]
    return height * width > 1 and height <= shape[1] and width <= shape[2]


def _would_work(spatial: dict[str, tuple[int, int, int]], layer: str) -> str:
    """The nearest names first, then the last layer of each resolution."""
    last = {size[1:]: name for name, size in spatial.items()}
    names = dict.fromkeys([*get_close_matches(layer, spatial, 2), *reversed(last.values())])
    sizes = [f"{name} ({spatial[name][1]} x {spatial[name][2]})" for name in list(names)[:6]]
    return "layers that would work: " + (", ".join(sizes) or "none")
