"""How far is one attribution from another of the same image?"""

from collections.abc import Mapping

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor

from lib.attribution.gradient import gradient
from lib.attribution.smoothgrad import smoothgrad
from lib.core import draws
from lib.evaluation.correlation import rank_correlation
from lib.evaluation.maps import check_maps, check_present, magnitude
from lib.evaluation.sharpness import total_variation


def small_step(classifier, photos, pixels: Tensor, parameters: Mapping) -> pd.DataFrame:
    r"""Protocol for :mod:`lib.rows`: what a small random step does to prediction and gradient.

    ``parameters``: ``sigma``, the standard deviation of the step $\epsilon$ in pixel units, and
    ``seed``. One row per image: ``same`` (the predicted class stays), ``probability`` (the change
    of the target's, absolute) and ``gradient``, $\|g(x+\epsilon)-g(x)\| / \|g(x)\|$ of the
    target's logit.
    """
    keys = [(key, 0) for key in draws.image_keys(pixels)]
    step = parameters["sigma"] * draws.normal(parameters["seed"], keys, pixels.shape[1:])
    moved, every = pixels + step.to(pixels), range(len(pixels))
    before, after = (gradient(classifier, x, photos.targets) for x in (pixels, moved))
    scores = [classifier.scores(x).cpu().softmax(1) for x in (pixels, moved)]
    chances = [p[every, photos.targets] for p in scores]
    length = before.flatten(1).norm(dim=1)
    return pd.DataFrame(
        {
            "image": every,
            "same": (scores[0].argmax(1) == scores[1].argmax(1)).numpy(),
            "probability": (chances[1] - chances[0]).abs().numpy(),
            "gradient": ((after - before).flatten(1).norm(dim=1) / length).cpu().numpy(),
        }
    )


def copy_convergence(classifier, photos, pixels: Tensor, parameters: Mapping) -> pd.DataFrame:
    """Protocol for :mod:`lib.rows`: how SmoothGrad's map settles as copies are added.

    ``parameters``: ``counts`` of copies, rising; ``reference``, the copies of an independent map;
    ``noise`` and ``seed``. One row per image x count: ``copies``, ``correlation``, the rank
    correlation with the independent map, and ``variation``, the total variation; of magnitudes.
    The copies of a count are among those of the next.
    """
    counts, options = parameters["counts"], {"noise": parameters["noise"]}
    if counts != sorted(set(counts)):
        raise ValueError(f"counts {counts} must rise")

    def mean(samples: int, stream: int) -> Tensor:
        seed = parameters["seed"] + 1000 * (stream + 1)
        given = (classifier, pixels, photos.targets)
        return smoothgrad(*given, samples=samples, seed=seed, **options)

    reference = magnitude(mean(parameters["reference"], len(counts)))
    total, before, frames = torch.zeros_like(pixels), 0, []
    for stream, count in enumerate(counts):
        total, before = total + (count - before) * mean(count - before, stream), count
        map_ = magnitude(total / count)
        found = {
            "correlation": map_correlation(map_, reference),
            "variation": total_variation(map_),
        }
        frame = {name: values.cpu() for name, values in found.items()}
        frames.append(pd.DataFrame({"image": range(len(pixels)), "copies": count} | frame))
    return pd.concat(frames, ignore_index=True)


def relative_difference(
    reference: Float[Tensor, "n ..."], other: Float[Tensor, "n ..."]
) -> Float[Tensor, " n"]:
    r"""$\mathrm{mean}|r-o|\,/\,(\mathrm{mean}|r|+10^{-7})$ for each image, over its values.

    Hesse et al. 2021 (the authors' evaluation code), there over a batch instead of an image.
    """
    _check_shapes(reference, other)
    difference = (reference - other).abs().flatten(1).mean(1)
    return difference / (reference.abs().flatten(1).mean(1) + 1e-7)


def map_correlation(
    one: Float[Tensor, "n h w"], other: Float[Tensor, "n h w"]
) -> Float[Tensor, " n"]:
    """Spearman's rank correlation of two maps, pixel by pixel; ties share their mean rank.

    1 for maps that rank pixels alike, 0 in expectation for independent ones. Raises
    ``ValueError`` for maps of different shape, NaN, infinity, and a constant map, which ranks
    nothing.
    """
    _check_shapes(one, other)
    for maps in (one, other):
        check_maps(maps)
        varies = maps.amax((1, 2)) > maps.amin((1, 2))
        check_present(varies, "raise", "ranks: it is constant")
    values = [maps.detach().flatten(1).cpu().numpy() for maps in (one, other)]
    return torch.from_numpy(rank_correlation(np.stack(values, -1), axis=1)).float()


def next_of_class(labels: Int[Tensor, " n"]) -> Int[Tensor, " n"]:
    """For every image the number of the next one of its class, the first after the last.

    The partner of a control: maps that agree across images of a class agree about the class.
    """
    partner = torch.empty_like(labels)
    for label in labels.unique():
        rows = (labels == label).nonzero()[:, 0]
        partner[rows] = rows.roll(-1)
    return partner


def _check_shapes(one: Tensor, other: Tensor) -> None:
    if one.shape != other.shape:
        raise ValueError(f"maps {tuple(one.shape)} and {tuple(other.shape)} do not match")
