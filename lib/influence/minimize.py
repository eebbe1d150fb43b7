"""Find a minimum to high precision: what leave-one-out retraining needs to tell 1e-5 from noise."""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from lib.influence.solvers import Factorization, NotConverged


def minimize(
    objective,
    start: Float[Tensor, " p"],
    *,
    weights: Float[Tensor, " n"] | None = None,
    tolerance: float = 1e-6,
    iterations: int = 5000,
    preconditioner: Factorization | None = None,
) -> Float[Tensor, " p"]:
    r"""L-BFGS (SciPy) on ``objective.value`` from ``start``, full batch, in float64.

    Stops when no entry of the gradient exceeds ``tolerance``; where the objective is not convex
    that is the minimum whose basin the search entered. ``preconditioner``, the factor
    $RR^\top$ of a Hessian nearby, makes it search in $u$ with $\theta=\theta_0+R^{-\top}u$: the
    same minimum in a tenth of the iterations. Raises :class:`NotConverged` when it stops short of
    ``tolerance`` (rounding sets a floor near 1e-8).
    """
    from scipy.optimize import minimize as scipy_minimize

    origin, largest = start.double(), np.inf

    def position(u: np.ndarray) -> Tensor:
        step = torch.from_numpy(u)
        return origin + (preconditioner.half_solve_transposed(step) if preconditioner else step)

    def value_and_gradient(u: np.ndarray) -> tuple[float, np.ndarray]:
        nonlocal largest
        value, gradient = objective.value_and_gradient(position(u).to(start), weights)
        largest = float(gradient.abs().max())
        gradient = gradient.double()
        if preconditioner:
            gradient = preconditioner.half_solve(gradient[:, None])[:, 0]
        return float(value), gradient.cpu().numpy()

    def stop_when_flat(_: np.ndarray) -> None:  # called after each accepted step
        if largest <= tolerance:
            raise StopIteration

    if float(objective.gradient(start, weights).abs().max()) <= tolerance:
        return start.clone()
    found = scipy_minimize(
        value_and_gradient,
        np.zeros(len(start)),
        jac=True,
        method="L-BFGS-B",
        callback=stop_when_flat,
        options={
            "maxiter": iterations,
            "maxfun": 2 * iterations,
            "ftol": 0,
            "gtol": 0,
            "maxcor": 30,
        },
    )
    theta = position(found.x).to(start)
    largest = float(objective.gradient(theta, weights).abs().max())
    if not largest <= tolerance:
        raise NotConverged(
            f"training stopped at a gradient of {largest:.1e} after {found.nit} iterations, asked "
            f"for {tolerance:g} ({found.message})"
        )
    return theta
