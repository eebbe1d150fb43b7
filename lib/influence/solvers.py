r"""Solve $(H+\delta I)\,s=v$: exactly, by conjugate gradients, or by LiSSA; damping is explicit.

None of the three keeps anything between calls: an answer belongs to the damping it was asked for.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

Product = Callable[[Tensor], Tensor]  # v -> Hv


class NotPositiveDefinite(ValueError):
    """The damped Hessian is singular or has a negative direction: there is no minimum to expand."""


class NotConverged(ValueError):
    """An iteration diverged, or stopped short of the tolerance."""


@dataclass(frozen=True, eq=False)
class Solution:
    """``vector`` is s; ``residual`` is |(H + damping) s - v| / |v|, measured on all the data.

    ``products`` counts the passes over one training example: a full Hessian-vector product costs
    as many as there are examples.
    """

    vector: Float[Tensor, " p"]
    residual: float
    products: int


class Factorization:
    """The Cholesky factor of H + damping I: factor once, solve for as many vectors as you like.

    Raises :class:`NotPositiveDefinite` when there is none, or when it exists by rounding only.
    """

    def __init__(self, hessian: Float[Tensor, "p p"], damping: float = 0.0):
        check_damping(damping)
        damped = hessian
        if damping > 0:
            damped = hessian.clone()
            damped.diagonal().add_(damping)
        factor, failed = torch.linalg.cholesky_ex(damped)
        pivots = factor.diagonal()
        floor = 10 * len(hessian) * torch.finfo(hessian.dtype).eps
        if int(failed) or not float(pivots.min() / pivots.max()) ** 2 > floor:
            raise NotPositiveDefinite(
                f"the Hessian with damping {damping:g} is singular or not positive definite: add "
                "damping or a penalty (l2), or train until the parameters are at a minimum"
            )
        self.factor, self.damping = factor, damping

    def solve(self, vectors: Float[Tensor, "p ..."]) -> Float[Tensor, "p ..."]:
        r"""$(H+\delta I)^{-1}v$ for a vector, or for every column of a matrix."""
        columns = vectors if vectors.ndim == 2 else vectors[:, None]
        # two triangular solves: cholesky_solve copies the factor and takes twenty times as long
        return self.half_solve_transposed(self.half_solve(columns)).view_as(vectors)

    def half_solve(self, vectors: Float[Tensor, "p m"]) -> Float[Tensor, "p m"]:
        r"""$R^{-1}v$, $RR^\top=H+\delta I$: its squared norm is $v^\top(H+\delta I)^{-1}v$."""
        return torch.linalg.solve_triangular(self.factor, vectors, upper=False)

    def half_solve_transposed(self, vectors: Float[Tensor, "p ..."]) -> Float[Tensor, "p ..."]:
        r"""$R^{-\top}v$ for a vector, or for every column of a matrix."""
        columns = vectors if vectors.ndim == 2 else vectors[:, None]
        solved = torch.linalg.solve_triangular(self.factor.T, columns, upper=True)
        return solved.view_as(vectors)


def conjugate_gradients(
    product: Product,
    vector: Float[Tensor, " p"],
    *,
    damping: float = 0.0,
    tolerance: float = 1e-6,
    iterations: int = 1000,
    examples: int = 1,
) -> Solution:
    """Conjugate gradients (Hestenes, Stiefel 1952) until the residual is below ``tolerance`` |v|.

    ``examples`` is what one ``product`` costs. Raises :class:`NotPositiveDefinite` on a direction
    of no or negative curvature, :class:`NotConverged` after ``iterations``.
    """
    check_damping(damping)
    size = float(vector.norm())
    s, rest = torch.zeros_like(vector), vector.clone()
    direction, square = rest.clone(), float(rest @ rest)
    done = 0
    while not math.sqrt(square) <= tolerance * size:  # NaN is no answer
        if done == iterations:
            raise NotConverged(
                f"conjugate gradients: residual {math.sqrt(square) / size:.1e} after {iterations} "
                f"iterations, asked for {tolerance:g}: allow more iterations or add damping"
            )
        image = product(direction) + damping * direction
        curvature = float(direction @ image)
        floor = 10 * torch.finfo(vector.dtype).eps * float(direction.norm() * image.norm())
        if not curvature > floor:
            raise NotPositiveDefinite(
                f"conjugate gradients met a direction of curvature {curvature:.1e} with damping "
                f"{damping:g}: the Hessian is singular or not positive definite; add damping"
            )
        step = square / curvature
        s += step * direction
        rest -= step * image
        square, last = float(rest @ rest), square
        direction = rest + square / last * direction
        done += 1
    return Solution(s, residual(product, s, vector, damping), done * examples)


def lissa(
    sampled_product: Callable[[Tensor, int, int], Tensor],
    product: Product,
    vector: Float[Tensor, " p"],
    *,
    scale: float,
    depth: int,
    repeats: int = 1,
    damping: float = 0.0,
    batch: int = 1,
) -> Solution:
    r"""LiSSA (Agarwal, Bullins, Hazan 2017): $h_j=v+\big(I-(H_{s_j}+\delta I)/c\big)h_{j-1}$.

    The answer is $h/c$ at depth j, averaged over ``repeats``; $c$ is ``scale``, and $H_{s_j}$ the
    Hessian of a sample, ``sampled_product(v, repeat, j)`` of ``batch`` examples. (The authors'
    code multiplies its damping by the scale; here it is the same $\delta$ as in the other solvers.)

    While no $I-(H_s+\delta I)/c$ stretches, $|h_j|\le(j+1)|v|$. Raises :class:`NotConverged` when
    that bound is broken: the scale is too small, or the Hessian has a negative direction.
    """
    check_damping(damping)
    if not scale > 0:
        raise ValueError(f"scale must be positive, is {scale}")
    if depth < 1 or repeats < 1:
        raise ValueError(f"depth and repeats must be at least 1, not {depth} and {repeats}")
    size, total = float(vector.norm()), torch.zeros_like(vector)
    for repeat in range(repeats):
        h = vector.clone()
        for j in range(1, depth + 1):
            h = vector + h - (sampled_product(h, repeat, j - 1) + damping * h) / scale
            if not float(h.norm()) <= (j + 1) * size * (1 + 1e-9):
                raise NotConverged(
                    f"LiSSA diverges at depth {j} with scale {scale:g}: choose a larger scale (it "
                    "has to exceed the largest eigenvalue of a sample's Hessian) or add damping"
                )
        total += h / (scale * repeats)
    return Solution(total, residual(product, total, vector, damping), repeats * depth * batch)


def check_damping(damping: float) -> None:
    if not 0 <= damping < math.inf:
        raise ValueError(f"damping must be finite and not negative, is {damping}")


def residual(product: Product, s: Tensor, vector: Tensor, damping: float) -> float:
    r"""$|(H+\delta I)s-v|/|v|$."""
    size = float(vector.norm())
    return float((product(s) + damping * s - vector).norm()) / size if size != 0 else 0.0
