r"""Attribution priors: train a network for its labels and for the shape of its explanation.

    theta* = argmin_theta  mean loss(F_theta(x), y) + lambda * Omega(A(F_theta, x))

Sources: Erion et al., *Improving performance of deep learning models with axiomatic attribution
priors and expected gradients*, 2021 (the Gini prior); Ross, Hughes, Doshi-Velez, *Right for the
right reasons*, 2017 (RRR); Hesse et al., *Fast axiomatic attribution for neural networks*, NeurIPS
2021, section 4.3 (X-Gradient, the experiment). Every function is differentiable, so that a
penalty on an attribution can be trained by backpropagation. ``score`` maps inputs ``(n, ...)`` to
one number per row, a logit unless stated; attributions have the shape of the inputs.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn

Score = Callable[[Tensor], Tensor]


def gini(values: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch"]:
    r"""How unequal nonnegative numbers are: $\frac{\frac1{d^2}\sum_{ij}|v_i-v_j|}{2\bar v}$.

    0 when all are equal, 1 - 1/d when only one is not zero; scale makes no difference; 0 for
    zeros. Sorted, the double sum is $2\sum_i(2i-d-1)\,v_{(i)}$.
    """
    d = values.shape[-1]
    rank = torch.arange(1, d + 1, dtype=values.dtype, device=values.device)
    differences = ((2 * rank - d - 1) * values.sort(-1).values).sum(-1) * 2 / d**2
    return differences / (2 * values.mean(-1)).clamp_min(torch.finfo(values.dtype).tiny ** 0.5)


def sparsity(attributions: Float[Tensor, "*batch n d"]) -> Float[Tensor, "*batch"]:
    r"""The sparsity prior $-G(\bar a)$, $\bar a_i = \frac1n\sum_x|A_i(x)|$: few inputs matter."""
    return -gini(attributions.abs().mean(-2))


def gradient(score: Score, inputs: Tensor) -> Tensor:
    r"""$\partial F/\partial x$, part of the graph: it can be differentiated again."""
    with torch.enable_grad():
        x = inputs.detach().requires_grad_()
        return torch.autograd.grad(score(x).sum(), x, create_graph=True)[0]


def right_for_the_right_reasons(score: Score, inputs: Tensor) -> Tensor:
    r"""RRR for two classes: the gradient of $\log\sigma(z)+\log\sigma(-z) = 2\log\sigma(z)-z$."""
    return gradient(lambda x: _both_log_probabilities(score(x)), inputs)


def _both_log_probabilities(logits: Tensor) -> Tensor:
    return 2 * nn.functional.logsigmoid(logits) - logits


def x_gradient(score: Score, inputs: Tensor) -> Tensor:
    r"""$x\odot\partial F/\partial x$: on a network without biases this *is* IG from zero."""
    return inputs * gradient(score, inputs)


def integrated_gradients(score: Score, inputs: Tensor, *, steps: int = 10) -> Tensor:
    """IG from zero by the midpoint rule: ``steps`` gradients for every row."""
    middles = (torch.arange(steps, dtype=inputs.dtype, device=inputs.device) + 0.5) / steps
    return inputs * torch.stack([gradient(score, inputs * alpha) for alpha in middles]).mean(0)


def expected_gradients(
    score: Score,
    inputs: Float[Tensor, "n ..."],
    references: Float[Tensor, "k n ..."],
    positions: Float[Tensor, "k n"],
) -> Float[Tensor, "n ..."]:
    r"""$\frac1k\sum_r (x-x'_r)\,\partial F(x'_r+\alpha_r(x-x'_r))/\partial x$.

    ``references`` holds k reference rows for every input, ``positions`` their $\alpha$ in [0, 1].
    """
    if references.shape[1:] != inputs.shape or positions.shape != references.shape[:2]:
        raise ValueError(
            f"references {tuple(references.shape)} and positions {tuple(positions.shape)} "
            f"do not fit inputs {tuple(inputs.shape)}"
        )
    alphas = positions.reshape(*positions.shape, *[1] * (inputs.ndim - 1))
    terms = [
        (inputs - reference) * gradient(score, reference + alpha * (inputs - reference))
        for reference, alpha in zip(references, alphas, strict=True)
    ]
    return torch.stack(terms).mean(0)
