r"""DeepLIFT, rescale rule: a gradient in which every activation has its slope from a reference.

Shrikumar, Greenside, Kundaje, *Learning important features through propagating activation
differences*, ICML 2017, section 3.5. With $x$ the input of an activation $f$ and $x'$ what it gets
when the network sees the reference, the factor $f'(x)$ of the chain rule becomes

$$\frac{f(x)-f(x')}{x-x'}.$$

Max pooling has a winner in each of the two: of the way from $y'$ to $y$, up to $\max(y,y')$ belongs
to the image's winner, the rest to the reference's. The graph of :mod:`lib.networks.normal_form` is
run with the rule in place of its activations; the network is never altered.
"""

import operator

import torch
from jaxtyping import Float, Int
from torch import Tensor, fx, nn

from lib import copies
from lib.copies.baselines import resolve_baseline
from lib.networks import operations as ops

NEAR = 1e-6  # where an input is no farther from its reference, the slope is the gradient
_RULED = (*ops.ELEMENTWISE, *ops.MAX_POOLS)
_LAYERS = {*_RULED, *ops.WEIGHTED, *ops.SHAPES, *ops.POOLS, nn.BatchNorm1d, nn.BatchNorm2d}
_MAXIMA = {torch.max_pool2d, nn.functional.max_pool2d}
_CALLS = ops.CALLS - _MAXIMA | ops.SIZES | {operator.sub, torch.sub, "sub"}
_PRODUCTS = {operator.mul, torch.mul, "mul"}  # with a constant; two signals have no rule


class _Rescale(torch.autograd.Function):
    """A layer on images and, after them, their references; on the way back, the rule."""

    @staticmethod
    def forward(ctx, both: Tensor, layer: nn.Module) -> Tensor:
        ctx.layer = layer
        y = layer(both)
        ctx.save_for_backward(both, y)
        return y

    @staticmethod
    def backward(ctx, p: Tensor):
        both, y = ctx.saved_tensors
        (x, x0), (y, y0), (p, none) = both.chunk(2), y.chunk(2), p.chunk(2)
        with torch.enable_grad():
            inputs = both.detach().requires_grad_(True)
            outputs = ctx.layer(inputs)

        def back(of_image: Tensor, of_reference: Tensor) -> tuple[Tensor, ...]:
            parts = torch.cat([of_image, of_reference])
            return torch.autograd.grad(outputs, inputs, parts, retain_graph=True)[0].chunk(2)

        if isinstance(ctx.layer, ops.MAX_POOLS):
            top = torch.maximum(y, y0)
            change = sum(back(p * (top - y0), p * (y - top)))
        else:
            change = p * (y - y0)
        slope, _ = back(p, none)
        near = (x - x0).abs() <= NEAR
        rule = torch.where(near, slope, change / torch.where(near, 1, x - x0))
        return torch.cat([rule, torch.zeros_like(rule)]), None


class _Rescaled(fx.Interpreter):
    """Runs a network's graph with the rule in place of its activations and max pooling."""

    def call_module(self, target, args, kwargs):
        layer = self.fetch_attr(str(target))
        if isinstance(layer, _RULED):
            return _Rescale.apply(args[0] if args else kwargs["input"], layer)
        return super().call_module(target, args, kwargs)


def deeplift(
    classifier,
    images: Float[Tensor, "n c h w"],
    targets: Int[Tensor, " n"],
    *,
    baseline: str | float | Tensor = "black",
    batch_size: int | None = None,
) -> Float[Tensor, "n c h w"]:
    r"""$A_i=(x_i-x'_i)\,m_i$ with $m_i$ the multiplier that the rescale rule carries to pixel i.

    In logits, for one pass over image and reference together. ``baseline`` is the reference $x'$,
    as for :func:`lib.attribution.integrated_gradients.integrated_gradients`. Completeness is exact:
    $\sum_i A_i=S_c(x)-S_c(x')$. The rule is one for every activation of a single input (ReLU,
    ReLU6, SiLU, GELU, a sigmoid ...); what is linear passes multipliers as it passes gradients.

    Raises ``ValueError`` naming the first layer or operation that the rule does not cover: a
    product or quotient of two signals, normalization within a layer, attention, a softmax.
    """
    engine = copies.Engine(classifier, images, targets, batch_size, "deeplift")
    _check(classifier)
    start = resolve_baseline(baseline, images.detach()).to(engine.pixels)
    network = _Rescaled(classifier.network, garbage_collect_values=False)

    def answer(pair: Tensor, wanted: Tensor) -> Tensor:
        x, reference = pair.chunk(2, 1)
        with torch.enable_grad():
            both = torch.cat([x, reference]).requires_grad_(True)
            logits = network.run(classifier.normalize(both))[: len(x)]
            scores = copies.of_targets(logits, wanted)
            (multipliers,) = torch.autograd.grad(scores.sum(), both)
        return (x - reference) * multipliers[: len(x)]

    def pairs(row: Tensor, draw: Tensor) -> Tensor:
        return torch.cat([engine.pixels[row], start[row]], 1)

    answers = engine.run(pairs, 1, answer)
    return torch.cat([batch.values for batch in answers]).to(images.device)


def _check(classifier) -> None:
    if not classifier.is_graph:
        raise ValueError(f"deeplift needs a graph; torch.fx has none of {classifier.name}")
    other = ops.first_other(classifier.network, _covers)
    if other is not None:
        raise ValueError(f"deeplift's rescale rule is not defined for {other}")


def _covers(node: fx.Node, layer: nn.Module | None) -> bool:
    if layer is not None or node.op == "get_attr":
        return layer is None or type(layer) in _LAYERS
    given = (*node.args, *node.kwargs.values())  # x * x twice: all_input_nodes names it once
    signals = [value for value in given if isinstance(value, fx.Node) and value.op != "get_attr"]
    return node.target in _CALLS or (node.target in _PRODUCTS and len(signals) == 1)
