"""Baselines: images that stand for "no signal"."""

import math
from numbers import Real

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import conv2d, pad

BLUR_SIGMA = 10.0  # pixels in an image of 224 x 224
IMAGENET_MEAN = (123 / 255, 117 / 255, 104 / 255)  # zero in Caffe's mean-subtracted space


def gaussian_blur(
    images: Float[Tensor, "n c h w"],
    sigma: float,
    *,
    radius: int | None = None,
    border: str = "replicate",
) -> Float[Tensor, "n c h w"]:
    """Gaussian blur with ``sigma`` in pixels, cut at ``radius`` pixels (default: 4 sigma).

    ``border`` continues the image: by its edge (``replicate``), by its mirror image (``reflect``)
    or by zeros (``constant``). Raises ``ValueError`` for a negative sigma; sigma = 0 returns the
    images.
    """
    if not sigma >= 0:
        raise ValueError(f"sigma must not be negative, is {sigma}")
    if sigma == 0:
        return images.clone()
    radius = radius or max(1, math.ceil(4 * sigma))
    offsets = torch.arange(-radius, radius + 1).to(images)
    kernel = torch.exp(-0.5 * (offsets / sigma).square())
    kernel /= kernel.sum()
    n, c, h, w = images.shape
    planes = images.reshape(n * c, 1, h, w)
    planes = conv2d(pad(planes, (radius, radius, 0, 0), border), kernel.view(1, 1, 1, -1))
    planes = conv2d(pad(planes, (0, 0, radius, radius), border), kernel.view(1, 1, -1, 1))
    return planes.view(n, c, h, w)


def blurred(images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
    """The blur used as "no signal": sigma is 10 pixels at 224, scaled with the image's side."""
    return gaussian_blur(images, BLUR_SIGMA * images.shape[-1] / 224)


def mean_color(images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
    """Each image's own mean color everywhere."""
    return images.mean((2, 3), keepdim=True).expand_as(images).clone()


def imagenet_mean(images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
    """ImageNet's mean color everywhere, or the images' own where they are not RGB."""
    if images.shape[1] != 3:
        return mean_color(images)
    return torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1).to(images).expand_as(images).clone()


BASELINES = {
    "black": torch.zeros_like,
    "white": torch.ones_like,
    "mean": mean_color,
    "blur": blurred,
    "imagenet": imagenet_mean,
}


def resolve_baseline(
    baseline: str | float | Tensor, images: Float[Tensor, "n c h w"]
) -> Float[Tensor, "n c h w"]:
    """The baseline images for a name of ``BASELINES``, a gray level, or a tensor that broadcasts.

    Raises ``ValueError`` naming what does not fit: the name, the level, the shape or the device.
    """
    if isinstance(baseline, Tensor):
        if baseline.device != images.device:
            raise ValueError(f"baseline is on {baseline.device}, the images on {images.device}")
        if not baseline.is_floating_point() or not torch.isfinite(baseline).all():
            raise ValueError("baseline must be finite floats in pixel units, black 0 and white 1")
        try:
            return baseline.to(images.dtype).expand_as(images).clone()
        except RuntimeError as error:
            raise ValueError(
                f"baseline of shape {tuple(baseline.shape)} does not broadcast to the images' "
                f"{tuple(images.shape)}"
            ) from error
    if isinstance(baseline, str):
        if baseline not in BASELINES:
            known = ", ".join(BASELINES)
            raise ValueError(f"baseline {baseline!r} is unknown; choose one of: {known}")
        return BASELINES[baseline](images)
    if not isinstance(baseline, Real) or not 0 <= baseline <= 1:
        raise ValueError(f"baseline {baseline} is not a gray level in [0, 1]")
    return torch.full_like(images, float(baseline))
