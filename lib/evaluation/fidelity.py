"""How well does a linear model of superpixels follow the classifier, where, and how surely?"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int
from torch import Tensor

from lib.attribution.lime import LimeExplanation, fit_linear, kernel, superpixel_scores, weighted_r2
from lib.core import draws
from lib.evaluation.correlation import rank_correlation


def rows_with_share_off(
    images: Float[Tensor, "n c h w"],
    counts: Sequence[int],
    shares: Sequence[float],
    samples: int,
    seed: int = 0,
) -> list[Bool[np.ndarray, "m s"]]:
    """Per image, ``samples`` rows for each share: exactly that part of its superpixels is off.

    At least one is on and one off. Rows are drawn per image, share and row, apart from LIME's own.
    """
    if samples < 1 or not len(shares) or not all(0 < share < 1 for share in shares):
        raise ValueError(f"shares must lie in (0, 1) and samples be positive: {shares}, {samples}")
    found = []
    for key, count in zip(draws.image_keys(images), counts, strict=True):
        rows = np.ones((len(shares) * samples, count), dtype=bool)
        for j, share in enumerate(shares):
            off = min(count - 1, max(1, round(share * count)))
            for k in range(samples):
                chosen = draws.permutation(seed, (key, round(share * 1e6), k), count)[:off]
                rows[j * samples + k, chosen.numpy()] = False
        found.append(rows)
    return found


def fidelity_by_distance(
    classifier,
    images: Float[Tensor, "n c h w"],
    targets: Int[Tensor, " n"],
    explanations: Sequence[LimeExplanation],
    *,
    off: Sequence[float] = (0.1, 0.3, 0.5, 0.7, 0.9),
    samples: int = 30,
    score: str = "probability",
    fill="superpixel mean",
    seed: int = 0,
    batch_size: int | None = None,
) -> pd.DataFrame:
    """New copies with an exact share of superpixels off: what the model says, and what is true.

    One row per image x share x copy: ``image``, ``off``, ``distance`` (the kernel's), ``weight``,
    ``actual``, ``fitted``. ``score`` and ``fill`` must be those of the explanations.
    """
    counts = [len(explanation.weights) for explanation in explanations]
    rows = rows_with_share_off(images, counts, off, samples, seed)
    labels = [explanation.segments for explanation in explanations]
    actual = superpixel_scores(
        classifier, images, targets, labels, rows, score=score, fill=fill, batch_size=batch_size
    )
    parts = []
    for i, explanation in enumerate(explanations):
        distance, weight = kernel(rows[i])
        columns = {"distance": distance, "weight": weight, "actual": actual[i]}
        columns["fitted"] = explanation.fitted(rows[i])
        parts.append(pd.DataFrame(columns).assign(image=i, off=np.repeat(off, samples)))
    return pd.concat(parts, ignore_index=True)


def r2_by(frame: pd.DataFrame, by: Sequence[str], floor: float = -1.0) -> pd.DataFrame:
    """R^2 and the mean absolute error of the fit in each group of :func:`fidelity_by_distance`.

    R^2 is cut off at ``floor``: far from the photo the score hardly varies, and one group with
    nothing to explain would outweigh all others.
    """

    def measure(group: pd.DataFrame) -> pd.Series:
        ones = np.ones(len(group))
        r2 = weighted_r2(group["actual"].to_numpy(), group["fitted"].to_numpy(), ones)
        error = (group["actual"] - group["fitted"]).abs().mean()
        return pd.Series({"r2": max(r2, floor), "error": error, "spread": group["actual"].std()})

    columns = ["actual", "fitted"]
    return frame.groupby(list(by), sort=True)[columns].apply(measure).reset_index()


def fidelity_by_samples(
    explanations: Sequence[LimeExplanation], sizes: Sequence[int], held_out: int, **options
) -> pd.DataFrame:
    """Refit to the first copies only; judge on the last ``held_out``, which no fit has seen.

    One row per image x size: ``image``, ``samples``, ``r2_fitted`` (of the copies used) and
    ``r2_held_out``, both weighted by the kernel.
    """
    rows = []
    for i, whole in enumerate(explanations):
        if max(sizes) + held_out > len(whole.predictions) or held_out < 2:
            raise ValueError(
                f"{max(sizes)} copies to fit and {held_out} (at least 2) to judge by are more than "
                f"the {len(whole.predictions)} of the explanation"
            )
        test = slice(len(whole.predictions) - held_out, None)
        for size in sizes:
            part = _refit(whole, slice(0, size), options)
            fitted = part.fitted(whole.presence[test])
            r2 = weighted_r2(whole.predictions[test], fitted, whole.kernel[test])
            rows.append({"image": i, "samples": size, "r2_fitted": part.r2, "r2_held_out": r2})
    return pd.DataFrame(rows)


def stability(
    explanations: Sequence[LimeExplanation], sizes: Sequence[int], **options
) -> pd.DataFrame:
    """Two fits to disjoint copies, ``size`` each: do they rank the superpixels alike?

    One row per image x size: ``image``, ``samples`` and Spearman's ``correlation`` of the weights,
    0 where one of the two fits is flat.
    """
    rows = []
    for i, whole in enumerate(explanations):
        if 2 * max(sizes) > len(whole.predictions):
            raise ValueError(
                f"two times {max(sizes)} copies are more than the {len(whole.predictions)} at hand"
            )
        for size in sizes:
            one = _refit(whole, slice(0, size), options)
            other = _refit(whole, slice(size, 2 * size), options)
            correlation = rank_correlation(np.column_stack([one.weights, other.weights]))
            rows.append({"image": i, "samples": size, "correlation": float(correlation)})
    return pd.DataFrame(rows)


def interaction(
    classifier,
    images: Float[Tensor, "n c h w"],
    targets: Int[Tensor, " n"],
    explanations: Sequence[LimeExplanation],
    *,
    pairs: int = 20,
    score: str = "probability",
    fill="superpixel mean",
    seed: int = 0,
    batch_size: int | None = None,
) -> Float[np.ndarray, " n"]:
    r"""How far the classifier is from any linear model of the superpixels, without fitting one.

    A linear score obeys $f(z)+f(1-z)=f(\mathbf 1)+f(\mathbf 0)$. Returns the mean absolute gap over
    ``pairs`` of random halves z, divided by $|f(\mathbf 1)-f(\mathbf 0)|$: 0 for a linear model.
    """
    rows = []
    for key, explanation in zip(draws.image_keys(images), explanations, strict=True):
        count = len(explanation.weights)
        keys = [(key, 1, pair) for pair in range(pairs)]
        half = (draws.uniform(seed, keys, (count,)) < 0.5).numpy()
        ends = np.array([[True], [False]]).repeat(count, 1)
        rows.append(np.concatenate([ends, half, ~half]))
    labels = [explanation.segments for explanation in explanations]
    scores = superpixel_scores(
        classifier, images, targets, labels, rows, score=score, fill=fill, batch_size=batch_size
    )
    whole, none = scores[:, 0], scores[:, 1]
    sums = scores[:, 2 : 2 + pairs] + scores[:, 2 + pairs :]
    gap = np.abs(sums - (whole + none)[:, None]).mean(1)
    return gap / np.maximum(np.abs(whole - none), 1e-12)


def _refit(whole: LimeExplanation, rows: slice, options: dict) -> LimeExplanation:
    return fit_linear(whole.segments, whole.presence[rows], whole.predictions[rows], **options)
