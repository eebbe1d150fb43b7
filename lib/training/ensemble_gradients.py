r"""The gradient of loss and attribution prior of many networks at once, in closed form.

For linear layers and ReLUs: let $M_l$ be the ReLU masks at a row x, $d_l$ the backward pass from
the logit with seed 1, $g = d_1W_1^T$ the gradient by the input, $G$ the derivative of
$\lambda\Omega$ by $g$, and $\dot z$ that of the loss by the logit. Masks are constant almost
everywhere, so loss and prior share one forward-like pass that starts from u in place of x:

    u_0 = G + dz x,   u_l = M_l (u_{l-1} W_l + dz b_l),   dW_l = u_{l-1}^T d_l,   db_l = dz d_l

with dz for $\dot z$. Four products per layer, where automatic differentiation of a gradient makes
seven. Only Omega, a function of the attributions, is left to autograd. The priors are those of
:mod:`lib.training.priors`, in which one network at a time says the same in fewer words.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from lib.core import draws
from lib.training import priors

HIDDEN = (512, 128, 32)
ATTRIBUTIONS = (
    "gradient",
    "right_for_the_right_reasons",
    "x_gradient",
    "expected_gradients",
)


def forward(weights, biases, rows: Tensor) -> tuple[list[Tensor], Tensor]:
    """The inputs of every layer, and the logits ``(E, n)``, of rows ``(E, n, d)``."""
    layers = [rows]
    for weight, bias in zip(weights[:-1], biases[:-1], strict=True):
        layers.append(_linear(layers[-1], weight, bias).relu_())
    return layers, _linear(layers[-1], weights[-1], biases[-1])[..., 0]


@dataclass(frozen=True)
class EnsembleSettings:
    r"""How the networks of an ensemble look, and what they are trained for, by Adam on all rows.

    Binary cross-entropy plus ``strength`` times ``penalty(attributions (e, n, d)) -> (e,)`` of the
    ``attribution``, a name of ``ATTRIBUTIONS`` or ``None``. ``references``: rows drawn from the
    training rows for Expected Gradients, anew in every step, without replacement as in the authors'
    code.

    Raises ``ValueError`` for unknown attributions and settings out of range.
    """

    attribution: str | None = None
    strength: float = 0.0
    penalty: Callable[[Tensor], Tensor] = priors.sparsity
    references: int = 1
    bias: bool = True
    hidden: Sequence[int] = HIDDEN
    epochs: int = 100
    lr: float = 1e-3
    seed: int = 0

    def __post_init__(self):
        if self.attribution is not None and self.attribution not in ATTRIBUTIONS:
            known = ", ".join(ATTRIBUTIONS)
            raise ValueError(f"attribution {self.attribution!r} is not one of: {known}")
        if not 0 <= self.strength < math.inf:
            raise ValueError(
                f"the prior's strength (lambda) must be 0 or more, not {self.strength}"
            )
        if self.strength > 0 and self.attribution is None:
            raise ValueError("a prior's strength needs an attribution to be applied to")
        for name in ("references", "epochs"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be 1 or more, not {getattr(self, name)}")
        if not self.hidden or min(self.hidden) < 1 or not self.lr > 0:
            widths = tuple(self.hidden)
            raise ValueError(f"hidden widths {widths} and lr {self.lr} must be positive")

    @property
    def at_the_inputs(self) -> bool:
        """Whether the prior, if there is one, looks where the loss looks."""
        return self.attribution != "expected_gradients"

    def points(self, x: Tensor, epoch: int, keys: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Rows ``(E, r * n, d)`` where gradients are taken, and the factors of these."""
        rows = x.shape[1] * self.references
        order = torch.stack(
            [draws.permutation(self.seed, (key, epoch, 2), rows) % x.shape[1] for key in keys]
        )
        alphas = draws.uniform(self.seed, [(key, epoch, 3) for key in keys], (rows, 1)).to(x)
        chosen = torch.take_along_dim(x, order.to(x.device)[..., None], 1)
        factor = x.repeat(1, self.references, 1) - chosen
        return torch.addcmul(chosen, alphas, factor), factor

    def derivative(self, terms: Tensor, n: int) -> Tensor:
        """Of strength * penalty(mean of terms over r) by every one of terms ``(E, r * n, d)``."""
        repeats = terms.shape[1] // n
        with torch.enable_grad():
            attributions = terms.unflatten(1, (repeats, n)).mean(1).requires_grad_()
            value = self.strength * self.penalty(attributions).sum()
            by_attribution = torch.autograd.grad(value, attributions)[0] / repeats
        return by_attribution.repeat(1, repeats, 1)


def set_gradients(
    weights: list[Tensor],
    biases: list[Tensor | None],
    layers: list[Tensor],
    logits: Float[Tensor, "e n"],
    labels: Float[Tensor, "e n"],
    settings: EnsembleSettings,
    keys: Sequence[int],
    epoch: int,
) -> None:
    """``.grad`` of every weight and bias: mean binary cross-entropy plus the prior.

    ``layers, logits = forward(weights, biases, training rows)``.
    """
    n = labels.shape[1]
    dz = (torch.sigmoid(logits) - labels)[..., None] / n
    prior = settings.strength > 0
    if not prior or not settings.at_the_inputs:
        _backward(weights, biases, layers, dz)
    if prior:
        _prior_backward(weights, biases, layers, logits, dz, settings, keys, epoch)


def _backward(weights, biases, layers, dz) -> None:
    """Ordinary backpropagation of the loss into ``.grad``."""
    d = dz
    for number in reversed(range(len(weights))):
        weights[number].grad = torch.bmm(layers[number].mT, d)
        if biases[number] is not None:
            biases[number].grad = d.sum(1, keepdim=True)
        if number:
            d = _masked(torch.bmm(d, weights[number].mT), layers[number])


def _prior_backward(weights, biases, layers, z, dz, settings, keys, epoch: int) -> None:
    """The gradient of the prior, and of the loss where both look at the same rows."""
    x, n, loss = layers[0], layers[0].shape[1], dz
    probability = torch.sigmoid(z)[..., None]
    if settings.attribution == "x_gradient":
        factor: Tensor | float = x
    elif settings.attribution == "right_for_the_right_reasons":
        factor = 1 - 2 * probability
    elif settings.attribution == "gradient":
        factor = 1.0
    else:
        points, factor = settings.points(x, epoch, keys)
        layers, loss = forward(weights, biases, points)[0], None
    active = layers[1:]
    d = [torch.ones_like(active[-1][..., :1])]  # the seed of the backward pass
    for weight, layer in zip(reversed(weights[1:]), reversed(active), strict=True):
        d.insert(0, _masked(torch.bmm(d[0], weight.mT), layer))
    g = torch.bmm(d[0], weights[0].mT)
    by_terms = settings.derivative(factor * g, n)
    by_g = by_terms * factor
    if settings.attribution == "right_for_the_right_reasons":  # its factor depends on the logit
        slope = -2 * probability * (1 - probability)
        loss = dz + (by_terms * g).sum(-1, keepdim=True) * slope
    u = by_g if loss is None else torch.addcmul(by_g, loss, x)
    for number, weight in enumerate(weights):
        step = torch.bmm(u.mT, d[number])
        weight.grad = step if loss is not None else weight.grad.add_(step)
        bias = biases[number]
        if bias is not None and loss is not None:
            bias.grad = (loss * d[number]).sum(1, keepdim=True)
        if number < len(active):
            u = torch.bmm(u, weight)
            if bias is not None and loss is not None:
                u = torch.addcmul(u, loss, bias)
            u = _masked(u, active[number])


def _linear(rows: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return torch.bmm(rows, weight) if bias is None else torch.baddbmm(bias, rows, weight)


def _masked(values: Tensor, layer: Tensor) -> Tensor:
    """``values``, in place, where the ReLU is active: its backward pass."""
    return torch.ops.aten.threshold_backward.grad_input(values, layer, 0, grad_input=values)
