r"""SmoothGrad: average a gradient map over noisy copies of the image.

Smilkov et al., *SmoothGrad: removing noise by adding noise*, 2017. Averaging squares instead
(SmoothGrad-Squared) is the default of the authors' library; Hooker et al., *A benchmark for
interpretability methods*, 2019, names it and the variance (VarGrad, Adebayo et al. 2018).
"""

from collections.abc import Callable
from functools import partial

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lib import copies
from lib.attribution.gradient import gradient
from lib.core import draws

STATISTICS = ("mean", "squared", "variance")


def smoothgrad(
    classifier,
    images: Float[Tensor, "n c h w"],
    targets: Int[Tensor, " n"],
    *,
    statistic: str = "mean",
    seed: int = 0,
    **options,
) -> Float[Tensor, "n ..."]:
    r"""$A=\frac1n\sum_k M\big(x+\sigma\varepsilon_k\big)$, $\varepsilon_k\sim\mathcal N(0,I)$.

    ``statistic`` is ``mean`` (the paper), ``squared`` ($\frac1n\sum M^2$) or ``variance``
    ($\frac1n\sum (M-\bar M)^2$); ``options`` (``samples``, ``noise``, ``method`` ...) are those of
    :func:`noisy_moments`. Raises ``ValueError`` for an unknown statistic.
    """
    if statistic not in STATISTICS:
        raise ValueError(f"statistic {statistic!r} is unknown; choose one of: {STATISTICS}")
    moments = noisy_moments(classifier, images, targets, seed=seed, **options)
    return moments[STATISTICS.index(statistic)]


def noisy_moments(
    classifier,
    images: Float[Tensor, "n c h w"],
    targets: Int[Tensor, " n"],
    *,
    samples: int = 50,
    noise: float = 0.15,
    method: Callable | None = None,
    seed: int = 0,
    batch_size: int | None = None,
    **options,
) -> tuple[Tensor, Tensor, Tensor]:
    r"""All three statistics of :func:`smoothgrad` from the same noisy copies, at one price.

    ``noise`` is $\sigma/(x_{\max}-x_{\min})$, the range taken over each image. ``method`` is $M$:
    any function of this package (default: the gradient), ``options`` are its options. Noisy copies
    are not clipped, as in the paper. The variance is merged from micro-batches by a rule that
    cannot turn negative (Chan, Golub, LeVeque 1983).

    Raises ``ValueError`` for samples < 1 and negative noise.
    """
    engine = copies.Engine(classifier, images, targets, batch_size, "smoothgrad")
    pixels = engine.pixels
    if samples < 1:
        raise ValueError(f"samples must be at least 1, not {samples}")
    if not 0 <= noise < float("inf"):
        raise ValueError(f"noise must be a finite fraction that is not negative, is {noise}")
    sigma = noise * (pixels.amax((1, 2, 3)) - pixels.amin((1, 2, 3))).view(-1, 1, 1, 1)
    keys = draws.image_keys(images)

    def noisy(row: Tensor, draw: Tensor) -> Tensor:
        pairs = [(keys[i], k) for i, k in zip(row.tolist(), draw.tolist(), strict=True)]
        epsilon = draws.normal(seed, pairs, pixels.shape[1:]).to(pixels)
        return pixels[row] + sigma[row] * epsilon

    if method is None or method is gradient:
        method = copies.target_gradient  # an engine within the engine would check every batch again
    answer = partial(method, classifier, **options)
    mean = spread = torch.empty(0)
    for batch in engine.run(noisy, samples, answer):
        if len(mean) == 0:
            mean = torch.zeros(len(pixels), *batch.values.shape[1:]).to(pixels)
            spread = torch.zeros_like(mean)
        for i in batch.row.unique().tolist():
            rows = batch.row == i
            seen, new = int(batch.draw[rows][0]), int(rows.sum())
            values = batch.values if new == len(rows) else batch.values[rows]
            chunk = values.mean(0)
            delta = chunk - mean[i]
            spread[i] += (values - chunk).square_().sum(0) + delta**2 * (seen * new / (seen + new))
            mean[i] += delta * (new / (seen + new))
    variance = spread / samples
    squared = variance + mean.square()
    return mean.to(images.device), squared.to(images.device), variance.to(images.device)
