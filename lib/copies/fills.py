"""What a removed pixel is replaced by.

A fill is ``fill(images, removed, keys) -> images``: images ``(b, C, H, W)``, removed a Boolean
mask ``(b, H, W)``, keys one tuple of integers per image for random draws. Black, mean, blur and
uniform noise ignore what else is removed; ROAD's imputation does not.
"""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from lib.copies.baselines import BASELINES
from lib.copies.imputation import linear_imputation
from lib.core import draws

ROAD_NOISE = 0.01
Fill = Callable[[Tensor, Tensor, Sequence[tuple[int, ...]]], Tensor]


def constant_fill(replacement: Callable[[Tensor], Tensor]) -> Fill:
    """Removed pixels come from ``replacement(images)``."""

    def fill(images: Tensor, removed: Tensor, keys: Sequence[tuple[int, ...]]) -> Tensor:
        return torch.where(removed[:, None], replacement(images), images)

    return fill


def uniform_noise(
    images: Float[Tensor, "b c h w"], removed: Bool[Tensor, "b h w"], keys
) -> Float[Tensor, "b c h w"]:
    """Each removed pixel is drawn uniformly from [0, 1), in each channel."""
    noise = draws.uniform(0, keys, images.shape[1:]).to(images)
    return torch.where(removed[:, None], noise, images)


def road(
    images: Float[Tensor, "b c h w"], removed: Bool[Tensor, "b h w"], keys
) -> Float[Tensor, "b c h w"]:
    """ROAD: linear imputation from the remaining neighbors, plus N(0, 0.01^2) noise."""
    noise = draws.normal(0, keys, images.shape[1:]).to(images)
    return linear_imputation(images, removed) + ROAD_NOISE * noise * removed[:, None]


FILLS: dict[str, Fill] = {
    **{name: constant_fill(replacement) for name, replacement in BASELINES.items()},
    "uniform": uniform_noise,
    "road": road,
}
