r"""Softmax (multinomial logistic) regression: the convex model, with everything in closed form.

With $\tilde x=(x,1)$, $p=\mathrm{softmax}(\Theta^\top\tilde x)$ and $e_y$ the one-hot label,

$$\nabla L=\tilde x(p-e_y)^\top,\quad
\nabla^2L=\tilde x\tilde x^\top\otimes(\mathrm{diag}\,p-pp^\top)$$

$\Theta$ is $(d+1)\times K$ and flattened by rows; the bias is penalized like the rest, so that the
minimum is unique.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import cross_entropy, one_hot

from lib.influence.functions import Objective
from lib.influence.minimize import minimize
from lib.influence.solvers import Factorization, NotConverged, Product


@dataclass(frozen=True, eq=False, repr=False)
class SoftmaxRegression(Objective):
    """An :class:`Objective` whose derivatives are written out; build it by `softmax_regression`."""

    classes: int = 2

    @cached_property
    def x(self) -> Float[Tensor, "n d1"]:
        return _with_one(self.inputs)

    @cached_property
    def y(self) -> Float[Tensor, "n k"]:
        return one_hot(self.labels, self.classes).to(self.inputs)

    @property
    def size(self) -> int:
        return self.x.shape[1] * self.classes

    def logits(self, theta: Float[Tensor, " p"], inputs: Tensor) -> Float[Tensor, "m k"]:
        return _with_one(inputs.to(theta)) @ theta.view(-1, self.classes)

    def probabilities(self, theta: Float[Tensor, " p"]) -> Float[Tensor, "n k"]:
        return (self.x @ theta.view(-1, self.classes)).softmax(1)

    def value(self, theta: Tensor, weights: Float[Tensor, " n"] | None = None) -> Tensor:
        logits = self.x @ theta.view(-1, self.classes)
        losses = cross_entropy(logits, self.labels, reduction="none")
        total = losses.sum() if weights is None else losses @ weights
        return total / len(self) + self.l2 / 2 * theta @ theta

    def value_and_gradient(
        self, theta: Tensor, weights: Float[Tensor, " n"] | None = None
    ) -> tuple[Tensor, Tensor]:
        return self.value(theta, weights), self.gradient(theta, weights)

    def gradient(self, theta: Tensor, weights: Float[Tensor, " n"] | None = None) -> Tensor:
        error = self.probabilities(theta) - self.y
        error = error if weights is None else error * weights[:, None]
        return (self.x.T @ error).flatten() / len(self) + self.l2 * theta

    def hessian_product(self, theta: Tensor) -> Product:
        x, p = self.x, self.probabilities(theta)
        return lambda vector: self._curvature(x, p, vector)

    def sampled_product(self, theta: Tensor, vector: Tensor, rows: Tensor) -> Tensor:
        x = self.x[rows]
        return self._curvature(x, (x @ theta.view(-1, self.classes)).softmax(1), vector)

    def _curvature(self, x: Tensor, p: Tensor, vector: Tensor) -> Float[Tensor, " p"]:
        change = x @ vector.view(-1, self.classes)
        change = p * (change - (p * change).sum(1, keepdim=True))
        return (x.T @ change).flatten() / len(x) + self.l2 * vector

    def example_gradient(self, theta: Tensor, example: Tensor, label: Tensor) -> Tensor:
        x = _with_one(example[None])
        error = (x @ theta.view(-1, self.classes)).softmax(1)
        error[0, label] -= 1
        return (x.T @ error).flatten()

    def slopes(self, theta: Tensor, vector: Tensor) -> Float[Tensor, " n"]:
        error = self.probabilities(theta) - self.y
        return (error * (self.x @ vector.view(-1, self.classes))).sum(1)

    def hessian(self, theta: Tensor, chunk: int = 0) -> Float[Tensor, "p p"]:
        p, k, d = self.probabilities(theta), self.classes, self.x.shape[1]
        hessian = torch.empty(d, k, d, k, dtype=theta.dtype, device=theta.device)
        for a in range(k):
            for b in range(a + 1):
                curvature = p[:, a] * (float(a == b) - p[:, b])
                block = self.x.T @ (self.x * curvature[:, None]) / len(self)
                hessian[:, a, :, b] = hessian[:, b, :, a] = block
        hessian = hessian.view(d * k, d * k)
        hessian.diagonal().add_(self.l2)
        return hessian

    def self_influence(
        self, theta: Tensor, factorization: Factorization, chunk: int = 1000
    ) -> Float[Tensor, " n"]:
        r"""$\nabla L(z_i)^\top(H+\delta I)^{-1}\nabla L(z_i)\ge0$ of every training example.

        Left out, its own loss rises by about 1/n of this.
        """
        error = self.probabilities(theta) - self.y
        parts = []
        for x, e in zip(self.x.split(chunk), error.split(chunk), strict=True):
            gradients = (x[:, :, None] * e[:, None, :]).flatten(1)
            parts.append(factorization.half_solve(gradients.T).square().sum(0))
        return torch.cat(parts)

    def predicted_change(
        self,
        theta: Float[Tensor, " p"],
        factorization: Factorization,
        solution: Float[Tensor, "p t"],
        rows: Sequence[int],
    ) -> Float[Tensor, "t rows"]:
        r"""The change of t test losses without each row, its curvature taken out of H as well.

        Influence keeps H as it is. The Hessian without example i is $H-\frac1nBAB^\top$ with
        $B=\tilde x_i\otimes I$ and $A=\mathrm{diag}\,p-pp^\top$, so one Newton step is
        $\frac1n H^{-1}B\,(I-\frac1nAS)^{-1}(p-e_y)$, $S=B^\top H^{-1}B$: for ridge regression the
        factor $1/(1-h_i)$ that makes it exact. ``solution`` holds $H^{-1}\nabla L(z_t)$.
        """
        p, k, n = self.probabilities(theta), self.classes, len(self)
        changes = []
        for i in rows:
            columns = torch.kron(self.x[i][:, None], torch.eye(k).to(theta))
            half = factorization.half_solve(columns)
            curvature = torch.diag(p[i]) - torch.outer(p[i], p[i])
            left = torch.eye(k).to(theta) - curvature @ (half.T @ half) / n
            error = torch.linalg.solve(left, p[i] - self.y[i])
            changes.append(solution.T @ (columns @ error) / n)
        return torch.stack(changes, 1)


def softmax_regression(
    inputs: Float[Tensor, "n ..."], labels: Int[Tensor, " n"], *, classes: int, l2: float
) -> SoftmaxRegression:
    """The objective on flattened inputs in float64. Raises ``ValueError`` for l2 = 0.

    Without a penalty the minimum is not unique (a constant added to all classes changes nothing):
    the Hessian is singular.
    """
    if not l2 > 0:
        raise ValueError(f"l2 must be positive, is {l2}: without it the Hessian is singular")
    if len(labels) and (int(labels.min()) < 0 or int(labels.max()) >= classes):
        raise ValueError(f"labels must lie in 0..{classes - 1}")

    def losses(theta: Tensor, inputs: Tensor, targets: Tensor) -> Tensor:
        logits = _with_one(inputs) @ theta.view(-1, classes)
        return cross_entropy(logits, targets, reduction="none")

    return SoftmaxRegression(losses, inputs.flatten(1).double(), labels.long(), l2, classes)


def fit(
    objective: SoftmaxRegression, start: Tensor | None = None, *, tolerance: float = 1e-6
) -> Float[Tensor, " p"]:
    """The minimum, to a gradient whose largest entry is below ``tolerance``."""
    if start is None:
        start = torch.zeros(objective.size, dtype=torch.float64, device=objective.inputs.device)
    return minimize(objective, start, tolerance=tolerance)


def refit_without(
    objective: SoftmaxRegression,
    theta: Float[Tensor, " p"],
    factorization: Factorization,
    groups: Sequence[Sequence[int]],
    *,
    tolerance: float = 1e-10,
    iterations: int = 100,
    chunk: int = 32,
) -> Float[Tensor, "groups p"]:
    r"""Retrain without each group of examples (their $w_i=0$), many at a time, to convergence.

    $\theta\leftarrow\theta-H^{-1}\nabla J_w(\theta)$ from $\hat\theta$ with the one factorization
    of $H(\hat\theta)$, until no entry of the gradient exceeds ``tolerance``. The objective is
    strictly convex: it has one minimum, wherever the search starts. An empty group refines
    $\hat\theta$.

    Raises :class:`NotConverged` after ``iterations``.
    """
    found = []
    for first in range(0, len(groups), chunk):
        part = groups[first : first + chunk]
        weights = torch.ones(len(part), len(objective)).to(theta)
        for row, group in zip(weights, part, strict=True):
            row[list(group)] = 0
        found.append(_refit(objective, theta, factorization, weights, tolerance, iterations))
    return torch.cat(found)


def _refit(objective, theta, factorization, weights, tolerance, iterations) -> Tensor:
    many, (x, y, k) = len(weights), (objective.x, objective.y, objective.classes)
    current = theta.repeat(many, 1)
    for _ in range(iterations):
        logits = x @ current.view(many, -1, k).permute(1, 0, 2).reshape(x.shape[1], -1)
        error = logits.view(-1, many, k).softmax(2) - y[:, None]
        error *= weights.T[:, :, None]
        gradient = (x.T @ error.flatten(1)).view(-1, many, k).permute(1, 0, 2).flatten(1)
        gradient = gradient / len(objective) + objective.l2 * current
        if float(gradient.abs().max()) <= tolerance:
            return current
        current = current - factorization.solve(gradient.T).T
    raise NotConverged(
        f"retraining: a gradient of {float(gradient.abs().max()):.1e} after {iterations} steps, "
        f"asked for {tolerance:g}: the groups left out are too large for one Hessian"
    )


def _with_one(inputs: Float[Tensor, "n d"]) -> Float[Tensor, "n d1"]:
    flat = inputs.flatten(1)
    return torch.cat([flat, flat.new_ones(len(flat), 1)], 1)
