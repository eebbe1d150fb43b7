r"""Nonnegative homogeneity: remove what breaks it, and measure what is left.

$F(\alpha x)=\alpha^kF(x)$ for $\alpha>0$ makes Integrated Gradients from the origin one gradient:
$x\odot\nabla F(x)/k$. Hesse, Schaub-Meyer, Roth, *Fast axiomatic attribution for neural networks*,
NeurIPS 2021, propositions 3.2 and 3.4; networks without biases are called X-DNNs there (k = 1).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor, fx, nn

from lib.networks.classifier import Classifier
from lib.networks.degrees import (
    Break,
    NotHomogeneous,
    drop_shift,
    layer_name,
    layer_type,
    read_degrees,
)
from lib.networks.normal_form import normal_form

ALPHAS = (0.1, 0.5, 2.0, 10.0)
_TO_RELU = (
    nn.ReLU6,
    nn.GELU,
    nn.SiLU,
    nn.Mish,
    nn.ELU,
    nn.CELU,
    nn.SELU,
    nn.Softplus,
    nn.Hardswish,
)


@dataclass(frozen=True)
class Conversion:
    """``network`` without its biases; what was ``removed``; what ``remains`` in the way, and why.

    ``notes`` says what homogeneity does not fix: where the origin lies.
    """

    network: nn.Module
    removed: tuple[Break, ...]
    remaining: tuple[Break, ...]
    notes: tuple[str, ...]


def to_x_dnn(network: nn.Module, *, replace: bool = False, strict: bool = True) -> Conversion:
    """A copy of ``network`` (or :class:`Classifier`) without any bias, in evaluation mode.

    Taken out: biases of convolutions and linear layers (with batch normalization folded in: its
    shift and running mean), shifts of what could not be folded, and added constants such as
    Fixup's scalars. ``replace=True`` also turns ReLU6, GELU, SiLU, ELU, Softplus and their like
    into ReLU. The weights stay: the copy has to be trained again, its accuracy measured. A plain
    network returns as a trainable graph, a classifier as a classifier with the same normalization,
    homogeneous around its mean color (see ``notes``).

    Raises ``NotHomogeneous`` naming every layer that is left in the way and why, unless
    ``strict=False``; ``ValueError`` for a network that torch.fx cannot trace.
    """
    source = network.network if isinstance(network, Classifier) else network
    graph = normal_form(source)
    if replace:
        _replace_activations(graph)
    before = read_degrees(graph).breaks
    _drop_biases(graph)
    graph.requires_grad_(True)
    remaining = read_degrees(graph).breaks
    left = {found.layer for found in remaining}
    removed = tuple(found for found in before if found.layer not in left)
    if strict and remaining:
        raise NotHomogeneous(f"no X-DNN can be made of it: {_named(remaining)}")
    notes = ()
    converted: nn.Module = graph
    if isinstance(network, Classifier):
        mean = network.mean.flatten().tolist()
        converted = Classifier(
            graph,
            name=f"X-{network.name}",
            categories=network.categories,
            input_size=network.input_size,
            mean=mean,
            std=network.std.flatten().tolist(),
            device=network.device,
        )
        notes = _origin(mean)
    return Conversion(converted, removed, remaining, notes)


def degree(classifier: nn.Module) -> float:
    """The degree k of the network after its normalization, read off its graph without running it.

    Raises ``NotHomogeneous`` naming every layer in the way, or saying that there is no graph.
    """
    network = getattr(classifier, "network", classifier)
    name = getattr(classifier, "name", type(classifier).__name__)
    if not isinstance(network, fx.GraphModule):
        raise NotHomogeneous(
            f"{name} cannot be traced, so its degree cannot be read off its layers"
        )
    reading = read_degrees(network)
    if reading.breaks:
        raise NotHomogeneous(f"{name} is not nonnegatively homogeneous: {_named(reading.breaks)}")
    if reading.degree <= 0:
        raise NotHomogeneous(
            f"{name} has degree {reading.degree:g}: its output does not grow with its input"
        )
    return reading.degree


@torch.no_grad()
def homogeneity(
    classifier: Classifier,
    images: Float[Tensor, "n c h w"],
    *,
    alphas: Sequence[float] = ALPHAS,
) -> pd.DataFrame:
    r"""Measured degree and error of every layer by itself, and of the network up to it.

    A layer f is fed $\alpha h$ in place of its input h, for each of ``alphas``. ``degree`` is the
    least-squares slope of $\log\lVert f(\alpha h)\rVert$ over $\log\alpha$; ``error`` the largest
    $\lVert f(\alpha h)-\alpha^kf(h)\rVert/\lVert\alpha^kf(h)\rVert$ with k the slope rounded to a
    whole number. ``degree_so_far`` and ``error_so_far`` are the same with the *network's* input
    scaled. A first row ``normalization`` is pixels -> (pixels - mean) / std, which moves the origin
    when the mean is not black; the network's input is what comes after it. A last row ``network``
    holds the logits. Memory grows with layers x images: a few images are enough.

    Raises ``ValueError`` for scales that are not positive or all 1, and without a graph.
    """
    if not alphas or min(alphas) <= 0 or all(alpha == 1 for alpha in alphas):
        raise ValueError(f"alphas must be positive scales other than 1, not {list(alphas)}")
    network = classifier.network
    if not isinstance(network, fx.GraphModule):
        raise ValueError(f"{classifier.name} cannot be traced: it has no layers to measure")
    start = classifier.normalize(images)
    alone = _Alone(network, alphas)
    logits = alone.run(start)
    base = _outputs(network, start)
    scaled = [_outputs(network, alpha * start) for alpha in alphas]
    first = _fit(start, [classifier.normalize(alpha * images) for alpha in alphas], alphas)
    rows = [("normalization", "normalization", *first, *first)]
    for node, kind, measured in alone.rows:
        so_far = _fit(base[node], [values[node] for values in scaled], alphas)
        rows.append((layer_name(node), kind, *measured, *so_far))
    whole = _fit(logits, [network(alpha * start) for alpha in alphas], alphas)
    rows.append(("network", "network", *whole, *whole))
    columns = ["layer", "type", "degree", "error", "degree_so_far", "error_so_far"]
    return pd.DataFrame(rows, columns=columns)


class _Alone(fx.Interpreter):
    """Runs a network and measures each layer on scaled copies of its own inputs."""

    def __init__(self, network: fx.GraphModule, alphas: Sequence[float]):
        super().__init__(network)
        self.network = network
        self.alphas = alphas
        self.rows: list[tuple[fx.Node, str, tuple[float, float]]] = []

    def run_node(self, node: fx.Node):
        moving = [
            n for n in node.all_input_nodes if n.op != "get_attr" and _is_float(self.env.get(n))
        ]
        measure = node.op.startswith("call_") and moving
        answers = [self._with_scaled(node, set(moving), a) for a in self.alphas] if measure else []
        value = super().run_node(node)
        if measure and _is_float(value):
            kind = layer_type(self.network, node)
            self.rows.append((node, kind, _fit(value, answers, self.alphas)))
        return value

    def _with_scaled(self, node: fx.Node, moving: set[fx.Node], alpha: float):
        def value(n: fx.Node):
            return self.env[n] * alpha if n in moving else self.env[n]

        args, kwargs = fx.map_arg(node.args, value), fx.map_arg(node.kwargs, value)
        return getattr(self, node.op)(node.target, args, kwargs)


class _Keep(fx.Interpreter):
    def __init__(self, network: fx.GraphModule):
        super().__init__(network)
        self.kept: dict[fx.Node, Tensor] = {}

    def run_node(self, node: fx.Node):
        value = super().run_node(node)
        if _is_float(value):
            self.kept[node] = value.clone()
        return value


def _outputs(network: fx.GraphModule, start: Tensor) -> dict[fx.Node, Tensor]:
    interpreter = _Keep(network)
    interpreter.run(start.clone())
    return interpreter.kept


def _fit(base: Tensor, scaled: Sequence[Tensor], alphas: Sequence[float]) -> tuple[float, float]:
    """Slope in log-log coordinates, and the largest relative error at the slope rounded."""
    size = float(base.double().norm())
    sizes = np.array([float(value.double().norm()) for value in scaled])
    if size == 0 or (sizes == 0).any():
        return float("nan"), 0.0 if size == sizes.max() else float("inf")
    logs = np.log(np.asarray(alphas, dtype=float))
    slope = float((logs * np.log(sizes / size)).sum() / (logs**2).sum())
    k = round(slope)
    errors = [
        float((value.double() - alpha**k * base.double()).norm()) / (alpha**k * size)
        for value, alpha in zip(scaled, alphas, strict=True)
    ]
    return slope, max(errors)


def _drop_biases(graph: fx.GraphModule) -> None:
    reading = read_degrees(graph)
    for node in list(graph.graph.nodes):
        if node.op == "call_module":
            module = graph.get_submodule(layer_name(node))
            if isinstance(mean := getattr(module, "running_mean", None), Tensor):
                mean.zero_()
            if isinstance(getattr(module, "bias", None), Tensor):
                module.register_parameter("bias", None)
        elif layer_name(node) in reading.shifts:
            drop_shift(node, reading.constants)
    graph.graph.eliminate_dead_code()
    graph.delete_all_unused_submodules()
    _delete_unused_parameters(graph)
    graph.recompile()


def _delete_unused_parameters(graph: fx.GraphModule) -> None:
    used = {str(node.target) for node in graph.graph.nodes if node.op == "get_attr"}
    called = {str(node.target) for node in graph.graph.nodes if node.op == "call_module"}
    for name, _ in list(graph.named_parameters()):
        owner, _, attribute = name.rpartition(".")
        if name not in used and owner not in called:
            delattr(graph.get_submodule(owner), attribute)


def _replace_activations(graph: fx.GraphModule) -> None:
    for name, module in list(graph.named_modules()):
        if isinstance(module, _TO_RELU):
            graph.set_submodule(name, nn.ReLU())


def _is_float(value) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point()


def _named(breaks: Sequence[Break], most: int = 6) -> str:
    parts = []
    for found in breaks[:most]:
        kind = "" if found.layer.startswith(found.type) else f"{found.type}: "  # add_1 is an add
        parts.append(f"{found.layer} ({kind}{found.reason})")
    more = f"; and {len(breaks) - most} more" if len(breaks) > most else ""
    return "; ".join(parts) + more


def _origin(mean: Sequence[float]) -> tuple[str, ...]:
    if not any(mean):
        return ()
    color = ", ".join(f"{value:.3g}" for value in mean)
    return (
        f"normalization subtracts the mean ({color}): the network is homogeneous around this "
        "color, not around black",
    )
