"""Does a mask delete evidence, or does it fool one perturbation? Apply it with another."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lib import copies
from lib.copies.baselines import blurred, imagenet_mean
from lib.core import draws
from lib.data.images import Images

PERTURBATIONS = ("blur", "constant", "noise")


def null_images(
    images: Float[Tensor, "n c h w"], perturbation: str, *, seed: int = 0
) -> Float[Tensor, "n c h w"]:
    """Images without information: blurred, of ImageNet's mean color (of their own, where they are
    not RGB), or uniform noise keyed by the image. ``ValueError`` for any other name."""
    if perturbation == "blur":
        return blurred(images)
    if perturbation == "constant":
        return imagenet_mean(images)
    if perturbation == "noise":
        keys = [(key,) for key in draws.image_keys(images)]
        return draws.uniform(seed, keys, images.shape[1:]).to(images)
    raise ValueError(f"perturbation {perturbation!r} is unknown; choose one of: {PERTURBATIONS}")


def scores_under(
    classifier,
    images: Float[Tensor, "n c h w"],
    targets: Int[Tensor, " n"],
    masks: Float[Tensor, "n 1 h w"],
    perturbation: str,
    *,
    seed: int = 0,
    batch_size: int | None = None,
) -> Float[Tensor, " n"]:
    r"""What remains of the target's probability under masks (1 keeps): $(p-p_b)/(p_0-p_b)$.

    $p_0$ is the score of the image, $p_b$ that of the fully perturbed one; cut to [0, 1], NaN where
    the perturbation does not lower the score.
    """
    engine = copies.Engine(
        classifier, images, targets, batch_size, "masks under another perturbation"
    )
    pixels = engine.pixels
    if masks.shape != (len(images), 1, *images.shape[2:]):
        raise ValueError(f"masks {tuple(masks.shape)} do not fit the images {tuple(images.shape)}")
    null = null_images(pixels, perturbation, seed=seed)
    weights = torch.stack([torch.ones_like(masks), torch.zeros_like(masks), masks], 1).to(pixels)

    def under_mask(row: Tensor, draw: Tensor) -> Tensor:
        kept = weights[row, draw]
        return kept * pixels[row] + (1 - kept) * null[row]

    intact, gone, left = engine.scores(under_mask, 3, "probability").unbind(1)
    remaining = ((left - gone) / (intact - gone)).clamp(0, 1)
    return torch.where(intact > gone, remaining, torch.nan)


def correctly_classified(classifier, photos: Images, chunk: int = 64) -> Images:
    """The photos whose label the classifier ranks first: the others have no score to delete.

    Raises ``ValueError`` when none is left.
    """
    right = [
        classifier.scores(pixels).argmax(1).cpu() == batch.targets
        for batch, pixels in photos.batches(chunk)
    ]
    kept = photos.subset(torch.cat(right))
    if len(kept) == 0:
        raise ValueError(f"{classifier.name} classifies none of the {len(photos)} photos correctly")
    return kept
