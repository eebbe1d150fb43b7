"""Controls: maps that must lose. A method that does not beat them has not explained anything."""

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import conv2d, pad

from lib import copies
from lib.core import draws


def random(
    classifier,
    images: Float[Tensor, "n c h w"],
    targets: Int[Tensor, " n"],
    *,
    seed: int = 0,
) -> Float[Tensor, "n 1 h w"]:
    """A map drawn uniformly from [-0.5, 0.5), without looking at the classifier."""
    copies.check_inputs(classifier, images, targets)
    keys = [(key, 0) for key in draws.image_keys(images)]
    noise = draws.uniform(seed, keys, (1, *images.shape[2:])) - 0.5
    return noise.to(images)


def edges(
    classifier, images: Float[Tensor, "n c h w"], targets: Int[Tensor, " n"]
) -> Float[Tensor, "n 1 h w"]:
    r"""Sobel edge strength $\sqrt{g_x^2+g_y^2}$ of the gray image, without the classifier."""
    copies.check_inputs(classifier, images, targets)
    gray = pad(images.mean(1, keepdim=True), (1, 1, 1, 1), mode="replicate")
    sobel = torch.tensor([[-1.0, 0, 1], [-2, 0, 2], [-1, 0, 1]]).to(images) / 8
    across = conv2d(gray, sobel.view(1, 1, 3, 3))
    down = conv2d(gray, sobel.T.reshape(1, 1, 3, 3))
    return (across.square() + down.square()).sqrt()
