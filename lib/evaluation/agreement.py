"""How far is one attribution from another of the same image?"""

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from lib.evaluation.correlation import rank_correlation
from lib.evaluation.maps import check_maps, check_present


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
    values = [maps.detach().double().flatten(1).cpu().numpy() for maps in (one, other)]
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
