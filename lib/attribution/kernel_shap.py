r"""KernelSHAP: the Shapley values of superpixels, from a line fitted to scores as LIME fits its.

Lundberg, Lee, *A unified approach to interpreting model predictions*, NeurIPS 2017, theorem 2.
The game $v(z)$ is the score of the copy that shows the superpixels $z$, s of them in all. Its
Shapley values are the weights of the line that passes through $v(\mathbf 0)$ and $v(\mathbf 1)$ and
fits all other $z$ by

$$\pi(z)=\frac{s-1}{\binom s{|z|}\,|z|\,(s-|z|)}.$$

Copies that are drawn come in pairs, $z$ and $\mathbf 1-z$, which takes noise away (Covert, Lee,
*Improving KernelSHAP*, AISTATS 2021).
"""

from collections.abc import Sequence
from math import comb

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from lib import copies
from lib.attribution.lime import SUPERPIXEL_MEAN, LimeExplanation, superpixel_scores, weighted_r2
from lib.copies.superpixels import Segmenter, superpixels
from lib.core import draws


def kernel_shap(
    classifier,
    images: Float[Tensor, "n c h w"],
    targets: Int[Tensor, " n"],
    *,
    seed: int = 0,
    **options,
) -> Float[Tensor, "n 1 h w"]:
    """Each pixel's map value is its superpixel's Shapley value; see :func:`explain_kernel_shap`."""
    found = explain_kernel_shap(classifier, images, targets, seed=seed, **options)
    return torch.stack([explanation.map for explanation in found]).to(images)


def explain_kernel_shap(
    classifier,
    images: Float[Tensor, "n c h w"],
    targets: Int[Tensor, " n"],
    *,
    samples: int = 1000,
    segments: str | Segmenter | Sequence = "quickshift",
    score: str = "probability",
    fill: str | float | Tensor = SUPERPIXEL_MEAN,
    seed: int = 0,
    batch_size: int | None = None,
) -> list[LimeExplanation]:
    r"""$\min_w\sum_z\pi(z)\big(v(z)-v(\mathbf 0)-w^\top z\big)^2$ with $\sum_jw_j=v(\mathbf
    1)-v(\mathbf 0)$, one fit per image.

    Exact where ``samples`` copies are enough to show every subset ($2^s$); else sizes are drawn by
    $\pi$, subsets of a size uniformly, and completeness alone is exact. Superpixels, fill and score
    are those of :func:`lib.attribution.lime.explain_lime`. In what is returned the intercept is
    $v(\mathbf 0)$, rows 0 and 1 of ``presence`` show everything and nothing, and ``kernel`` is zero
    for them: they are met, not fitted.

    Raises ``ValueError`` for fewer than 4 samples, a single superpixel, and scores that are not
    finite.
    """
    copies.check_inputs(classifier, images, targets)
    if not isinstance(samples, int | np.integer) or isinstance(samples, bool) or samples < 4:
        raise ValueError(f"samples must be a whole number from 4, not {samples}")
    labels = superpixels(images, segments)
    counts = [int(label.max()) + 1 for label in labels]
    rows = min(samples, 2 ** max(counts))
    keys = draws.image_keys(images)
    drawn = [coalitions(s, rows, seed, key) for s, key in zip(counts, keys, strict=True)]
    presence = [shown for shown, _ in drawn]
    scores = superpixel_scores(
        classifier, images, targets, labels, presence, score=score, fill=fill, batch_size=batch_size
    )
    return [
        _fit(label, *shown_and_weight, values)
        for label, shown_and_weight, values in zip(labels, drawn, scores, strict=True)
    ]


def coalitions(
    s: int, rows: int, seed: int = 0, key: int = 0
) -> tuple[Bool[np.ndarray, "rows {s}"], Float[np.ndarray, " rows"]]:
    """Which of ``s`` superpixels each of ``rows`` copies shows, and its weight in the fit.

    All, nothing, then every other subset with its kernel where they fit in, else pairs of draws
    with equal weights. Rows left over show all and weigh nothing.
    """
    shown, weight = np.ones((rows, s), bool), np.zeros(rows)
    shown[1] = False
    if 2**s <= rows:
        numbers = np.arange(1, 2**s - 1)
        shown[2 : 2**s] = numbers[:, None] >> np.arange(s) & 1
        sizes = shown[2 : 2**s].sum(1).tolist()
        weight[2 : 2**s] = [(s - 1) / (comb(s, k) * k * (s - k)) for k in sizes]
        return shown, weight
    pairs = (rows - 1) // 2
    uniform = draws.uniform(seed, [(key, pair) for pair in range(pairs)], (s + 1,)).numpy()
    sizes = np.arange(1, s)
    chance = np.cumsum(1 / (sizes * (s - sizes)))
    size = 1 + np.searchsorted(chance / chance[-1], uniform[:, 0], side="right").clip(max=s - 2)
    rank = uniform[:, 1:].argsort(1).argsort(1)
    first = rank < size[:, None]
    shown[2:] = np.stack([first, ~first], 1).reshape(-1, s)[: rows - 2]
    weight[2:] = 1
    return shown, weight


def _fit(segments, presence, weight, scores) -> LimeExplanation:
    """The fit with its constraint: what is left once every superpixel has its equal share."""
    whole, nothing = scores[:2]
    share = presence.mean(1, keepdims=True)
    left = scores - nothing - share[:, 0] * (whole - nothing)
    root = np.sqrt(weight)
    own, *_ = np.linalg.lstsq(root[:, None] * (presence - share), root * left, rcond=None)
    weights = own + (whole - nothing) / len(own)
    r2 = weighted_r2(scores, nothing + presence @ weights, weight)
    return LimeExplanation(segments, weights, float(nothing), r2, presence, scores, weight)
