r"""LIME: switch superpixels off at random, fit a linear model of the score near the image.

Ribeiro, Singh, Guestrin, *"Why should I trust you?" Explaining the predictions of any classifier*,
2016. The defaults are those of the authors' image code: 1,000 samples, quickshift superpixels,
ridge regression with penalty 1, and a kernel on the cosine distance of *binary* vectors. Other
libraries call a kernel on pixels LIME; that is another explainer.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from lib import copies
from lib.copies.baselines import BASELINES, resolve_baseline
from lib.copies.superpixels import Segmenter, superpixels
from lib.core import draws

SUPERPIXEL_MEAN = "superpixel mean"  # the fill of LIME's authors: each piece's own mean color


@dataclass(frozen=True, eq=False, repr=False)
class LimeExplanation:
    r"""One image's linear model $g(z)=b+w^\top z$ of the score, with everything it was fitted to.

    ``segments`` numbers the superpixels 0..s-1; row k of ``presence`` says which of them copy k
    shows (row 0 shows all); ``predictions`` are the classifier's scores of the copies and
    ``kernel`` their weights in the fit; ``r2`` is the weighted R^2 of the fit.
    """

    segments: Int[Tensor, "h w"]
    weights: Float[np.ndarray, " s"]
    intercept: float
    r2: float
    presence: Bool[np.ndarray, "samples s"]
    predictions: Float[np.ndarray, " samples"]
    kernel: Float[np.ndarray, " samples"]

    @property
    def map(self) -> Float[Tensor, "1 h w"]:
        """The weight of the superpixel that each pixel belongs to."""
        return torch.from_numpy(self.weights).float()[self.segments][None]

    def fitted(self, presence: Bool[np.ndarray, "m s"] | None = None) -> Float[np.ndarray, " m"]:
        """What the linear model says of these rows of superpixels (default: its own samples)."""
        rows = self.presence if presence is None else np.asarray(presence)
        return rows @ self.weights + self.intercept


def lime(
    classifier,
    images: Float[Tensor, "n c h w"],
    targets: Int[Tensor, " n"],
    *,
    seed: int = 0,
    **options,
) -> Float[Tensor, "n 1 h w"]:
    """Each pixel's map value is the linear weight of its superpixel; see :func:`explain_lime`."""
    found = explain_lime(classifier, images, targets, seed=seed, **options)
    return torch.stack([explanation.map for explanation in found]).to(images)


def explain_lime(
    classifier,
    images: Float[Tensor, "n c h w"],
    targets: Int[Tensor, " n"],
    *,
    samples: int = 1000,
    segments: str | Segmenter | Sequence = "quickshift",
    width: float = 0.25,
    ridge: float = 1.0,
    score: str = "probability",
    fill: str | float | Tensor = SUPERPIXEL_MEAN,
    seed: int = 0,
    batch_size: int | None = None,
) -> list[LimeExplanation]:
    r"""$\min_{w,b}\sum_k\pi_k\big(f(x_k)-b-w^\top z_k\big)^2+\alpha\|w\|^2$, one fit per image.

    Row $z_0$ is all ones, the others switch each superpixel off with probability one half; copy
    $x_k$ shows ``fill`` where $z_k$ is off. $f$ is the target's probability or logit, $\alpha$
    ``ridge``, and the weight of a copy :func:`kernel` with ``width``.

    ``classifier`` needs only ``scores``: wrap any other function by
    :func:`lib.networks.blackbox.as_classifier`. ``segments`` is ``quickshift``, ``slic``, a
    function ``image (H, W, C) -> labels (H, W)``, or one label map per image; labels may be any
    integers. ``fill`` is ``superpixel mean``, or what :func:`resolve_baseline` takes.

    Raises ``ValueError`` for samples or ridge out of range, a single superpixel, and for scores
    that are not finite.
    """
    copies.check_inputs(classifier, images, targets)
    _check(samples, width, ridge)
    labels = superpixels(images, segments)
    rows = presence_rows(images, [int(label.max()) + 1 for label in labels], samples, seed)
    scores = superpixel_scores(
        classifier, images, targets, labels, rows, score=score, fill=fill, batch_size=batch_size
    )
    return [
        fit_linear(*image, width=width, ridge=ridge)
        for image in zip(labels, rows, scores, strict=True)
    ]


def superpixel_scores(
    classifier,
    images: Float[Tensor, "n c h w"],
    targets: Int[Tensor, " n"],
    labels: Sequence[Int[Tensor, "h w"]],
    presence: Sequence[Bool[np.ndarray, "m _"]],
    *,
    score: str = "probability",
    fill: str | float | Tensor = SUPERPIXEL_MEAN,
    batch_size: int | None = None,
) -> Float[np.ndarray, "n m"]:
    """The target's score of copy k of image i, which shows the superpixels of ``presence[i][k]``.

    ``labels`` come from :func:`lib.copies.superpixels.superpixels`; every image has the same
    number of rows. Raises ``ValueError`` for scores that are not finite.
    """
    engine = copies.Engine(classifier, images, targets, batch_size, "superpixels")
    pixels = engine.pixels
    off = _filled(images.detach(), labels, fill).to(pixels)
    widest, samples = max(rows.shape[1] for rows in presence), len(presence[0])
    shown = torch.zeros(len(images), samples, widest, dtype=torch.bool)
    for i, rows in enumerate(presence):
        shown[i, :, : rows.shape[1]] = torch.from_numpy(rows)
    shown, flat = shown.to(pixels.device), torch.stack(list(labels)).flatten(1).to(pixels.device)

    def switched(row: Tensor, draw: Tensor) -> Tensor:
        visible = shown[row, draw].gather(1, flat[row]).view(len(row), 1, *pixels.shape[2:])
        return torch.where(visible, pixels[row], off[row])

    return engine.scores(switched, samples, score).double().numpy()


def kernel(
    presence: Bool[np.ndarray, "m s"], width: float = 0.25
) -> tuple[Float[np.ndarray, " m"], Float[np.ndarray, " m"]]:
    r"""The distance of each row from the whole image and its weight in the fit.

    $d=1-\cos(z,\mathbf 1)=1-\sqrt{q}$ with $q$ the share of superpixels shown (1 for a row that
    shows none), and $\pi=\sqrt{\exp(-d^2/\text{width}^2)}$: half of them off gives 0.293 and 0.503.
    """
    distance = 1 - np.sqrt(np.asarray(presence).mean(1))
    return distance, np.sqrt(np.exp(-(distance**2) / width**2))


def presence_rows(
    images: Float[Tensor, "n c h w"], counts: Sequence[int], samples: int, seed: int = 0
) -> list[Bool[np.ndarray, "samples s"]]:
    """Which superpixels each copy shows: row 0 all, the others each with probability one half."""
    rows = []
    for key, count in zip(draws.image_keys(images), counts, strict=True):
        keys = [(key, draw) for draw in range(samples)]
        shown = (draws.uniform(seed, keys, (count,)) < 0.5).numpy()
        shown[0] = True
        rows.append(shown)
    return rows


def weighted_r2(actual: np.ndarray, fitted: np.ndarray, weights: np.ndarray) -> float:
    r"""$1-\sum\pi(f-g)^2/\sum\pi(f-\bar f)^2$; 0 for scores that are all equal (nothing to fit)."""
    mean = np.average(actual, weights=weights)
    spread = np.average((actual - mean) ** 2, weights=weights)
    error = np.average((actual - fitted) ** 2, weights=weights)
    return float(1 - error / spread) if spread > 1e-20 else 0.0


def fit_linear(
    segments: Int[Tensor, "h w"],
    presence: Bool[np.ndarray, "m s"],
    scores: Float[np.ndarray, " m"],
    *,
    width: float = 0.25,
    ridge: float = 1.0,
) -> LimeExplanation:
    """The weighted ridge regression of the scores on the presence of superpixels."""
    from sklearn.linear_model import Ridge

    _, weights = kernel(presence, width)
    model = Ridge(alpha=ridge).fit(presence, scores, sample_weight=weights)
    fitted = presence @ model.coef_ + model.intercept_
    r2 = weighted_r2(scores, fitted, weights)
    return LimeExplanation(
        segments, model.coef_, float(model.intercept_), r2, presence, scores, weights
    )


def _filled(
    pixels: Float[Tensor, "n c h w"], labels: Sequence[Tensor], fill: str | float | Tensor
) -> Float[Tensor, "n c h w"]:
    if not isinstance(fill, str) or fill in BASELINES:
        return resolve_baseline(fill, pixels)
    if fill != SUPERPIXEL_MEAN:
        known = ", ".join([SUPERPIXEL_MEAN, *BASELINES])
        raise ValueError(f"fill {fill!r} is unknown; choose one of: {known}")
    off = torch.empty_like(pixels)
    for i, label in enumerate(labels):
        flat, image = label.flatten().to(pixels.device), pixels[i].flatten(1).double()
        size = torch.bincount(flat)
        sums = torch.zeros(len(image), len(size), dtype=torch.float64, device=pixels.device)
        means = sums.index_add_(1, flat, image) / size
        off[i] = means[:, flat].view_as(pixels[i]).to(pixels)
    return off


def _check(samples: int, width: float, ridge: float) -> None:
    if not isinstance(samples, int | np.integer) or isinstance(samples, bool) or samples < 1:
        raise ValueError(f"samples must be a whole number from 1, not {samples}")
    if not 0 < width < float("inf"):
        raise ValueError(f"width must be positive and finite, is {width}")
    if not 0 <= ridge < float("inf"):
        raise ValueError(f"ridge must be finite and not negative, is {ridge}")
