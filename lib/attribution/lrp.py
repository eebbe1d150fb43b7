r"""Layer-wise relevance propagation: the logit itself, shared out layer by layer.

Bach, Binder, Montavon, Klauschen, Müller, Samek, *On pixel-wise explanations for non-linear
classifier decisions by layer-wise relevance propagation*, PLoS ONE 2015, section 2.3: with $x$ the
input of a layer, $w$ its weights, $b$ its biases and $R$ the relevance at its outputs

$$R_j=\sum_i\frac{x_jw_{ij}}{z_i+\epsilon\,\mathrm{sign}\,z_i}R_i,\quad z_i=b_i+\sum_kx_kw_{ik}
\qquad\text{and}\qquad R_j=\sum_i\frac{(x_jw_{ij})^+}{\sum_k(x_kw_{ik})^+}R_i.$$

Which rule for which layer: one of these for convolutions and linear layers, linear bottlenecks
among them; the first for sums, which with the second would lose all that arrives where both terms
are negative; in proportion for averages, to the winner in max pooling. ReLU and ReLU6 pass
relevance as it is.
"""

from functools import partial

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from lib import copies
from lib.attribution.relevance import Rule, Walk, covered, in_proportion, positive
from lib.networks import operations as ops

STABILIZER = 1e-6  # epsilon for sums under the second rule


def lrp_epsilon(
    classifier,
    images: Float[Tensor, "n c h w"],
    targets: Int[Tensor, " n"],
    *,
    epsilon: float = 1e-6,
    batch_size: int | None = None,
) -> Float[Tensor, "n c h w"]:
    r"""The epsilon rule: logits per pixel, of either sign.

    The map sums to $S_c$ less what biases and ``epsilon``, in units of the layers' outputs, take.
    It explains the network's own input $u=(x-\mathrm{mean})/\mathrm{std}$, whose origin is the mean
    color. With ReLUs, without biases, and as $\epsilon\to0$ it is $u\odot\partial S_c/\partial u$.

    Raises ``ValueError`` for a negative epsilon, and naming the first layer or operation that is
    not convolution, linear, pooling, ReLU, ReLU6, sum, average or concatenation.
    """
    if not 0 <= epsilon < float("inf"):
        raise ValueError(f"epsilon must be finite and not negative, is {epsilon}")
    return _relevance(classifier, images, targets, partial(_epsilon, epsilon), batch_size)


def lrp_z_plus(
    classifier,
    images: Float[Tensor, "n c h w"],
    targets: Int[Tensor, " n"],
    *,
    batch_size: int | None = None,
) -> Float[Tensor, "n c h w"]:
    r"""The $z^+$ rule ($\alpha=1,\beta=0$): logits per pixel; without sums, of the logit's sign.

    Biases take nothing: the map sums to $S_c$, less what reaches units that nothing excites. Where
    no input is negative it is excitation backprop times the logit. See :func:`lrp_epsilon`.
    """
    return _relevance(classifier, images, targets, _z_plus, batch_size)


def _epsilon(epsilon: float, what, function, inputs, arrived: Tensor) -> list[Tensor]:
    ruled = isinstance(what, ops.WEIGHTED) or what in ops.SUMS
    return in_proportion(function, inputs, arrived, epsilon if ruled else 0.0)


def _z_plus(what, function, inputs, arrived: Tensor) -> list[Tensor]:
    if not isinstance(what, ops.WEIGHTED):
        return _epsilon(STABILIZER, what, function, inputs, arrived)
    rising, falling = positive(what), positive(what, -1)
    both = [inputs[0].clamp(min=0), (-inputs[0]).clamp(min=0)]
    up, down = in_proportion(lambda x, y: rising(x) + falling(y), both, arrived)
    return [up + down]


def _relevance(classifier, images, targets, rule: Rule, batch_size: int | None) -> Tensor:
    engine = copies.Engine(classifier, images, targets, batch_size, "lrp")
    walk = Walk(covered(classifier, "lrp"), rule)

    def answer(batch: Tensor, wanted: Tensor) -> Tensor:
        with torch.enable_grad():
            pixels = classifier.normalize(batch).requires_grad_(True)
            logits = walk.run(pixels)
            copies.of_targets(logits, wanted)  # refuses a target that does not exist
            start = logits.detach() * functional.one_hot(wanted, logits.shape[1])
            return torch.autograd.grad(logits, pixels, start)[0]

    return engine.single_pass(answer).to(images.device)
