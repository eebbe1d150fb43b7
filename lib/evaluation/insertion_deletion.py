r"""Deletion and insertion: hide the most salient pixels, or show only them, and watch the score.

Petsiuk, Das, Saenko, *RISE*, BMVC 2018, and the authors' code: pixels go by decreasing saliency,
an equal number at each step. *Deletion* replaces them by the color that normalization maps to
zero; a good map makes the probability fall at once (small area). *Insertion* starts from the
photo blurred by an 11 x 11 Gaussian of sigma 5 and brings them back; a good map makes it rise at
once (large area). Both are removal curves: insertion at share q is removal of the *least* salient
1 - q.
"""

from collections.abc import Mapping

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor

from lib.copies.baselines import gaussian_blur
from lib.copies.fills import constant_fill
from lib.evaluation.removal import removal_curves

STEPS = 28  # of the authors' evaluation: 8 rows of 224 pixels each
BLUR_RADIUS, BLUR_SIGMA = 5, 5.0  # pixels


def insertion_deletion_curves(
    classifier,
    images: Float[Tensor, "n c h w"],
    targets: Int[Tensor, " n"],
    maps: Float[Tensor, "n h w"] | Mapping[str, Float[Tensor, "n h w"]],
    *,
    steps: int = STEPS,
    seed: int = 0,
    batch_size: int | None = None,
) -> pd.DataFrame:
    """Scores while the most salient pixels are deleted, and while they are inserted.

    ``targets`` is the class that is watched; the paper watches the one predicted for the intact
    image. One row per curve x image x share: ``curve`` (``deletion`` or ``insertion``), ``image``,
    ``fraction`` (deleted or inserted so far, 0 to 1 in ``steps`` steps), ``probability``,
    ``logit``, ``accuracy``; of maps by name also ``method``.

    Raises ``ValueError`` for less than one step and for maps that do not fit.
    """
    if not isinstance(steps, int) or steps < 1:
        raise ValueError(f"steps must be a whole number from 1, not {steps}")
    shares = np.linspace(0, 1, steps + 1)
    origin = getattr(classifier, "mean", torch.full((1, 1, 1, 1), 0.5))

    def color(batch: Tensor) -> Tensor:
        return origin.to(batch).expand_as(batch)

    given, options = (classifier, images, targets, maps), {"seed": seed, "batch_size": batch_size}
    hide, fade = constant_fill(color), constant_fill(lambda batch: blur(batch, color(batch)))
    deletion = removal_curves(*given, order="morf", fractions=shares, fill=hide, **options)
    insertion = removal_curves(*given, order="lerf", fractions=shares[::-1], fill=fade, **options)
    insertion["fraction"] = 1 - insertion["fraction"]
    curves = pd.concat([deletion.assign(curve="deletion"), insertion.assign(curve="insertion")])
    return curves.reset_index(drop=True)


def blur(
    images: Float[Tensor, "n c h w"], around: Float[Tensor, "n c h w"] | float = 0.0
) -> Float[Tensor, "n c h w"]:
    """The authors' blur: an 11 x 11 Gaussian of sigma 5, the image continued by ``around``."""
    away = images - around
    return gaussian_blur(away, BLUR_SIGMA, radius=BLUR_RADIUS, border="constant") + around
