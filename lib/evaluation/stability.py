"""How alike are two maps of one image? Spearman's rank correlation, pixel by pixel."""

import torch
from jaxtyping import Float
from scipy.stats import rankdata
from torch import Tensor


def rank_correlation(
    one: Float[Tensor, "n h w"], other: Float[Tensor, "n h w"]
) -> Float[Tensor, " n"]:
    """Spearman's correlation of two maps, per image; ties share their mean rank.

    1 for maps that rank pixels alike, 0 in expectation for independent ones. Raises
    ``ValueError`` for maps of different shape, NaN, and a constant map, which ranks nothing.
    """
    if one.shape != other.shape or one.ndim != 3:
        raise ValueError(f"maps must share a shape (N, H, W): {one.shape}, {other.shape}")
    ranks = []
    for maps in (one, other):
        values = maps.detach().double().flatten(1).cpu().numpy()
        if (values != values).any():
            raise ValueError("a map holds NaN: its pixels cannot be ranked")
        rank = torch.from_numpy(rankdata(values, axis=1))
        ranks.append(rank - rank.mean(1, keepdim=True))
    size = [rank.square().sum(1).sqrt() for rank in ranks]
    if min(part.min() for part in size) == 0:
        raise ValueError("a map is constant: its pixels have no ranks")
    return ((ranks[0] * ranks[1]).sum(1) / (size[0] * size[1])).float()
