"""Does a mask delete evidence, or does it fool one perturbation? Apply it with another."""

from collections.abc import Mapping
from itertools import product

import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor

from lib import copies
from lib.attribution.meaningful_perturbation import PERTURBATIONS, MaskSettings, learn_masks
from lib.copies.baselines import blurred, imagenet_mean
from lib.core import draws
from lib.evaluation.sharpness import total_variation


def carry_over(classifier, photos, pixels: Tensor, parameters: Mapping) -> pd.DataFrame:
    """Protocol for :mod:`lib.rows`: does what a mask deletes matter under other perturbations too?

    ``parameters``: ``variants``, ``{label: options of MaskSettings}``, and ``seed``. One row per
    image x perturbation that a mask was learned with x variant: ``fall``, the share of the
    probability that is lost under that perturbation; ``carried``, the share of this drop that is
    also lost when the same pixels are perturbed otherwise, cut to [0, 1] and averaged over the two
    others (NaN without a drop); ``deleted``, the mean of 1 - mask, and ``grain``, its variation.
    """
    frames, seed, targets = [], parameters["seed"], photos.targets
    for kind, (label, options) in product(PERTURBATIONS, parameters["variants"].items()):
        settings = MaskSettings(**{"perturbation": kind, "seed": seed, **options})
        masks = learn_masks(classifier, pixels, targets, settings).masks
        under = {
            name: _probabilities(classifier, pixels, targets, masks, name, seed).double()
            for name in PERTURBATIONS
        }
        intact, _, own = under[kind].unbind(1)
        others = torch.stack([under[name][:, 2] for name in PERTURBATIONS if name != kind])
        carried = ((intact - others) / (intact - own)).clamp(0, 1).mean(0)
        rows = {
            "image": range(len(pixels)),
            "perturbation": kind,
            "variant": label,
            "fall": (1 - own / intact).numpy(),
            "carried": carried.where(own < intact, torch.nan).numpy(),
            "deleted": (1 - masks).mean((1, 2, 3)).cpu().numpy(),
            "grain": total_variation(1 - masks[:, 0].cpu(), empty="nan").numpy(),
        }
        frames.append(pd.DataFrame(rows))
    return pd.concat(frames, ignore_index=True)


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
    intact, gone, left = _probabilities(
        classifier, images, targets, masks, perturbation, seed, batch_size
    ).unbind(1)
    remaining = ((left - gone) / (intact - gone)).clamp(0, 1)
    return torch.where(intact > gone, remaining, torch.nan)


def _probabilities(classifier, images, targets, masks, perturbation, seed, batch_size=None):
    """The target's probability intact, fully perturbed and under the mask: (n, 3)."""
    label = "masks under another perturbation"
    engine = copies.Engine(classifier, images, targets, batch_size, label)
    pixels = engine.pixels
    if masks.shape != (len(images), 1, *images.shape[2:]):
        raise ValueError(f"masks {tuple(masks.shape)} do not fit the images {tuple(images.shape)}")
    null = null_images(pixels, perturbation, seed=seed)
    weights = torch.stack([torch.ones_like(masks), torch.zeros_like(masks), masks], 1).to(pixels)

    def under_mask(row: Tensor, draw: Tensor) -> Tensor:
        kept = weights[row, draw]
        return kept * pixels[row] + (1 - kept) * null[row]

    return engine.scores(under_mask, 3, "probability")
