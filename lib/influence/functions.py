r"""Influence functions: what a prediction would be without one training example.

Koh, Liang, *Understanding black-box predictions via influence functions*, 2017. The objective is

$$J(\theta)=\frac1n\sum_i w_i\,L(z_i,\theta)+\frac\lambda2\|\theta\|^2$$

with all $w_i=1$ in training. To leave example i out is to set $w_i=0$; n and the penalty stay as
they are. With $H=\nabla^2J(\hat\theta)$, penalty included, and damping $\delta$,

$$\mathcal I(z_i,z_t)=-\nabla L(z_t)^\top(H+\delta I)^{-1}\nabla L(z_i)$$

is the derivative of the test loss by $\varepsilon$ when $z_i$ is weighted up by $\varepsilon$.
**Sign:** positive = harmful (more weight raises the test loss, removal lowers it), negative =
helpful. **1/n:** removal is $\varepsilon=-1/n$, so the test loss changes by about
$-\mathcal I/n$ (:func:`predicted_change`).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.func import functional_call, grad, grad_and_value, jvp, vmap

from lib.core import draws
from lib.influence.minimize import minimize
from lib.influence.solvers import (
    Factorization,
    Product,
    Solution,
    check_damping,
    conjugate_gradients,
    lissa,
    residual,
)

Losses = Callable[[Tensor, Tensor, Tensor], Tensor]


@dataclass(frozen=True, eq=False, repr=False)
class Objective:
    """J above: ``losses(parameters, inputs, labels) -> (m,)`` is one loss per example.

    ``parameters`` is one flat vector. The losses have to be twice differentiable by ``torch.func``
    and must not mix examples (no batch statistics).
    """

    losses: Losses
    inputs: Float[Tensor, "n ..."]
    labels: Tensor
    l2: float = 0.0

    def __post_init__(self):
        if len(self.inputs) == 0 or len(self.inputs) != len(self.labels):
            raise ValueError(f"{len(self.labels)} labels for {len(self.inputs)} training examples")
        if not 0 <= self.l2 < float("inf"):
            raise ValueError(f"l2 must be finite and not negative, is {self.l2}")

    def __len__(self) -> int:
        return len(self.inputs)

    def value(self, theta: Tensor, weights: Float[Tensor, " n"] | None = None) -> Tensor:
        """J, with the weights $w_i$ (default: all 1)."""
        losses = self.losses(theta, self.inputs, self.labels)
        total = losses.sum() if weights is None else losses @ weights
        return total / len(self) + self.l2 / 2 * theta @ theta

    def gradient(self, theta: Tensor, weights: Float[Tensor, " n"] | None = None) -> Tensor:
        return grad(self.value)(theta, weights)

    def value_and_gradient(
        self, theta: Tensor, weights: Float[Tensor, " n"] | None = None
    ) -> tuple[Tensor, Float[Tensor, " p"]]:
        gradient, value = grad_and_value(self.value)(theta, weights)
        return value, gradient

    def hessian_product(self, theta: Tensor) -> Product:
        """``v -> Hv``, the derivative of the gradient along v: no Hessian is formed."""
        return lambda vector: jvp(grad(self.value), (theta,), (vector,))[1]

    def example_gradient(self, theta: Tensor, example: Tensor, label: Tensor) -> Tensor:
        r"""$\nabla L$ of any one example, without the penalty."""
        return grad(lambda t: self.losses(t, example[None], label[None])[0])(theta)

    def sampled_product(self, theta: Tensor, vector: Tensor, rows: Tensor) -> Float[Tensor, " p"]:
        """$Hv$ with the mean over these examples instead of all."""

        def value(theta: Tensor) -> Tensor:
            losses = self.losses(theta, self.inputs[rows], self.labels[rows])
            return losses.mean() + self.l2 / 2 * theta @ theta

        return jvp(grad(value), (theta,), (vector,))[1]

    def slopes(self, theta: Tensor, vector: Tensor) -> Float[Tensor, " n"]:
        r"""$\nabla L(z_i)^\top v$ for all i at once: one derivative of n losses along v."""
        return jvp(lambda t: self.losses(t, self.inputs, self.labels), (theta,), (vector,))[1]

    def hessian(self, theta: Tensor, chunk: int = 64) -> Float[Tensor, "p p"]:
        """All of H, column by column: for a few thousand parameters at most."""
        columns = torch.eye(len(theta), dtype=theta.dtype, device=theta.device)
        hessian = vmap(self.hessian_product(theta), chunk_size=chunk)(columns)
        return (hessian + hessian.T) / 2


@dataclass(frozen=True, eq=False, repr=False)
class Anchored:
    r"""$J(\theta)+\frac\delta2\|\theta-\theta_0\|^2$, for :func:`lib.influence.minimize.minimize`.

    At the minimum $\theta_0$ of J its Hessian is $H+\delta I$: damped influence is exact, to first
    order, for a retraining that is tied to $\theta_0$ like this. ``damping`` 0 is J itself.
    """

    objective: Objective
    center: Float[Tensor, " p"]
    damping: float

    def __post_init__(self):
        check_damping(self.damping)

    def gradient(self, theta: Tensor, weights: Float[Tensor, " n"] | None = None) -> Tensor:
        return self.objective.gradient(theta, weights) + self.damping * (theta - self.center)

    def value_and_gradient(
        self, theta: Tensor, weights: Float[Tensor, " n"] | None = None
    ) -> tuple[Tensor, Float[Tensor, " p"]]:
        value, gradient = self.objective.value_and_gradient(theta, weights)
        away = theta - self.center
        return value + self.damping / 2 * away @ away, gradient + self.damping * away


def network_objective(
    network: nn.Module, images: Float[Tensor, "n c h w"], labels: Int[Tensor, " n"], l2: float
) -> tuple[Objective, Float[Tensor, " p"]]:
    """The cross-entropy of a network as an :class:`Objective`, and its parameters as one vector.

    ``network`` is used as it is (put it into evaluation mode) and stays so.
    """
    named = {name: p.detach() for name, p in network.named_parameters()}
    sizes = [p.numel() for p in named.values()]

    def losses(theta: Tensor, inputs: Tensor, targets: Tensor) -> Tensor:
        parts = zip(named.items(), theta.split(sizes), strict=True)
        weights = {name: part.view_as(like) for (name, like), part in parts}
        logits = functional_call(network, weights, (inputs,))
        return nn.functional.cross_entropy(logits, targets, reduction="none")

    theta = torch.cat([p.flatten() for p in named.values()])
    return Objective(losses, images.to(theta), labels, l2), theta


@dataclass(frozen=True, eq=False, repr=False)
class Influence:
    """Influence of every training example at the parameters ``theta``, which must be a minimum.

    ``solver`` is ``exact``, ``cg`` or ``lissa``; ``options`` are those of
    :mod:`lib.influence.solvers` (LiSSA: ``scale``, ``depth``, ``repeats``, ``batch``, ``seed``).
    """

    objective: Objective
    theta: Float[Tensor, " p"]
    damping: float = 0.0
    solver: str = "exact"
    options: dict | None = None

    def __post_init__(self):
        if self.solver not in SOLVERS:
            raise ValueError(f"solver {self.solver!r} is unknown; choose one of: {list(SOLVERS)}")

    @cached_property
    def factorization(self) -> Factorization:
        return Factorization(self.objective.hessian(self.theta), self.damping)

    def solve(self, vector: Float[Tensor, " p"]) -> Solution:
        r"""$(H+\delta I)^{-1}v$ with its residual and its cost."""
        return SOLVERS[self.solver](self, vector, **(self.options or {}))

    def __call__(self, inputs: Float[Tensor, "t ..."], labels: Tensor) -> Float[Tensor, "t n"]:
        r"""$\mathcal I(z_i,z_t)$ of every training example on every test example."""
        rows = []
        for example, label in zip(inputs.to(self.theta), labels, strict=True):
            solution = self.solve(self.objective.example_gradient(self.theta, example, label))
            rows.append(-self.objective.slopes(self.theta, solution.vector))
        return torch.stack(rows)


def train(
    objective: Objective, start: Float[Tensor, " p"], tolerance: float = 1e-8
) -> Float[Tensor, " p"]:
    """The minimum whose basin the search from ``start`` enters: roughly, then to ``tolerance``."""
    rough = minimize(objective, start, tolerance=1e-4)
    near = _nearby(objective, rough, 1e-3)
    return minimize(objective, rough, tolerance=tolerance, preconditioner=near)


def retrain(
    objective: Objective,
    theta: Float[Tensor, " p"],
    rows: Sequence[int],
    *,
    taken: float = 1.0,
    tie: float = 0.0,
    tolerance: float = 1e-8,
) -> Float[Tensor, "rows p"]:
    """For each of ``rows`` the minimum near ``theta`` when ``taken`` of that example is taken away.

    ``tie`` is the damping of :class:`Anchored`: it holds the parameters near ``theta``.
    """
    goal, ends = Anchored(objective, theta, tie), []
    near = _nearby(objective, theta, max(tie, 1e-4))
    given = {"tolerance": tolerance, "preconditioner": near}
    for row in rows:
        weights = torch.ones(len(objective)).to(theta)
        weights[row] = 1 - taken
        ends.append(minimize(goal, theta, weights=weights, **given))
    return torch.stack(ends)


def _nearby(objective: Objective, theta: Tensor, damping: float) -> Factorization:
    """A preconditioner: it changes how fast a search ends, not where."""
    hessian = objective.hessian(theta)
    return Factorization(hessian, max(damping, -2 * float(torch.linalg.eigvalsh(hessian)[0])))


def predicted_change(influence: Float[Tensor, "t n"]) -> Float[Tensor, "t n"]:
    r"""$-\mathcal I/n$: how much each test loss changes when a training example is left out."""
    return -influence / influence.shape[-1]


def _exact(influence: Influence, vector: Tensor) -> Solution:
    s = influence.factorization.solve(vector)
    product = influence.objective.hessian_product(influence.theta)
    return Solution(s, residual(product, s, vector, influence.damping), 0)


def _cg(influence: Influence, vector: Tensor, **options) -> Solution:
    return conjugate_gradients(
        influence.objective.hessian_product(influence.theta),
        vector,
        damping=influence.damping,
        examples=len(influence.objective),
        **options,
    )


def _lissa(influence: Influence, vector: Tensor, *, batch: int = 1, seed: int = 0, **options):
    objective, theta = influence.objective, influence.theta
    streams: dict[int, torch.Generator] = {}

    def sampled(v: Tensor, repeat: int, step: int) -> Tensor:
        if step == 0:
            streams[repeat] = draws.generator(seed, repeat)
        rows = torch.randint(len(objective), (batch,), generator=streams[repeat])
        return objective.sampled_product(theta, v, rows)

    return lissa(
        sampled,
        objective.hessian_product(theta),
        vector,
        damping=influence.damping,
        batch=batch,
        **options,
    )


SOLVERS = {"exact": _exact, "cg": _cg, "lissa": _lissa}
