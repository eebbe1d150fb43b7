r"""RISE: show random parts of the image, average the masks weighted by the score.

Petsiuk, Das, Saenko, *RISE: randomized input sampling for explanation of black-box models*,
BMVC 2018.
"""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import interpolate

from lib import copies
from lib.copies.baselines import resolve_baseline
from lib.core import draws

NORMALIZATIONS = ("coverage", "expectation")
_MASKS_AT_ONCE = 64


def rise(
    classifier,
    images: Float[Tensor, "n c h w"],
    targets: Int[Tensor, " n"],
    *,
    cells: int = 7,
    probability: float = 0.5,
    normalize: str = "coverage",
    seed: int = 0,
    **options,
) -> Float[Tensor, "n 1 h w"]:
    r"""$A(\lambda)=\sum_k f_c(x\odot M_k)\,M_k(\lambda)\Big/\sum_k M_k(\lambda)$: the mean score
    when pixel $\lambda$ is seen.

    Masks as in the paper (:func:`random_masks`): a grid of ``cells`` x ``cells``, each kept with
    ``probability``, enlarged bilinearly and shifted at random. Each is drawn for (``seed``,
    image, number of the mask), so every image has masks of its own. ``options`` (``masks``,
    ``baseline``, ``score``, ``batch_size``) are those of :func:`rise_scores`.
    ``normalize="coverage"`` divides every pixel by its own coverage, so that a constant model
    gives a flat map; ``"expectation"`` is the paper's $1/(N\,p)$. A pixel that no mask shows gets
    the mean score (nothing is known of it).

    ``classifier`` needs scores only: any function of images is one, see
    :func:`lib.networks.blackbox.as_classifier`.

    Raises ``ValueError`` for no masks, no cells, a probability outside (0, 1), an unknown option,
    and for scores that are not finite.
    """
    _check_normalization(normalize)
    drawn = {"cells": cells, "probability": probability, "seed": seed}
    scores = rise_scores(classifier, images, targets, **drawn, **options)
    return rise_maps(images, scores, normalize=normalize, **drawn)


def rise_scores(
    classifier,
    images: Float[Tensor, "n c h w"],
    targets: Int[Tensor, " n"],
    *,
    masks: int = 4000,
    cells: int = 7,
    probability: float = 0.5,
    baseline: str | float | Tensor = "black",
    score: str = "probability",
    seed: int = 0,
    batch_size: int | None = None,
) -> Float[Tensor, "n masks"]:
    """The score of every image under each of its masks: all that a RISE map needs to be made.

    Hidden pixels take ``baseline``: black, as the formula says; the authors' code masks normalized
    images, which hides under their mean color. ``score`` is ``probability`` (the paper) or
    ``logit``.
    """
    engine = copies.Engine(classifier, images, targets, batch_size, "rise")
    pixels = engine.pixels
    _check(masks, cells, probability)
    keys = draws.image_keys(images)
    hidden = resolve_baseline(baseline, images.detach()).to(pixels)
    difference = pixels - hidden

    def masked(row: Tensor, draw: Tensor) -> Tensor:
        pairs = [(keys[i], k) for i, k in zip(row.tolist(), draw.tolist(), strict=True)]
        size = pixels.shape[2], pixels.shape[3]
        shown = random_masks(seed, pairs, size, cells=cells, probability=probability).to(pixels)
        batch = torch.empty(len(row), *pixels.shape[1:]).to(pixels)
        numbers, counts = row.unique_consecutive(return_counts=True)
        start = 0
        for i, count in zip(numbers.tolist(), counts.tolist(), strict=True):
            own = slice(start, start + count)  # copies of one image lie side by side
            torch.mul(difference[i], shown[own, None], out=batch[own]).add_(hidden[i])
            start += count
        return batch

    return engine.scores(masked, masks, score)


def rise_maps(
    images: Float[Tensor, "n c h w"],
    scores: Float[Tensor, "n masks"],
    *,
    which: range | None = None,
    cells: int = 7,
    probability: float = 0.5,
    normalize: str = "coverage",
    seed: int = 0,
) -> Float[Tensor, "n 1 h w"]:
    """The map that follows from :func:`rise_scores` with the same options, or from some of it.

    ``which`` names masks by number (default: all): ``range(100)`` gives the map of the first 100,
    two disjoint ranges give independent maps. The masks are drawn again, not stored.
    """
    _check(scores.shape[1], cells, probability)
    _check_normalization(normalize)
    chosen = range(scores.shape[1]) if which is None else which
    if len(chosen) == 0 or min(chosen) < 0 or max(chosen) >= scores.shape[1]:
        raise ValueError(f"which {chosen} does not lie in the {scores.shape[1]} masks")
    drawn = {"cells": cells, "probability": probability, "seed": seed}
    maps = []
    for image, known in zip(images, scores.cpu(), strict=True):
        weighted, coverage = rise_sums(image, known, which=chosen, **drawn)
        if normalize == "expectation":
            maps.append(weighted / (len(chosen) * probability))
        else:
            mean = known[list(chosen)].mean()
            maps.append(torch.where(coverage > 1e-6, weighted / coverage.clamp_min(1e-6), mean))
    return torch.stack(maps)[:, None].to(images.device)


def rise_sums(
    image: Float[Tensor, "c h w"],
    scores: Float[Tensor, " masks"],
    *,
    which: range,
    cells: int = 7,
    probability: float = 0.5,
    seed: int = 0,
) -> Float[Tensor, "2 h w"]:
    r"""$\sum_k f_k M_k$ and $\sum_k M_k$ over the masks ``which`` of one image: parts add up."""
    (key,), size = draws.image_keys(image[None]), (image.shape[1], image.shape[2])
    sums = torch.zeros(2, size[0] * size[1], dtype=scores.dtype)
    for start in range(0, len(which), _MASKS_AT_ONCE):
        part = list(which[start : start + _MASKS_AT_ONCE])
        pairs = [(key, k) for k in part]
        shown = random_masks(seed, pairs, size, cells=cells, probability=probability)
        weights = torch.stack([scores[part], torch.ones(len(part)).to(scores)])
        sums += weights @ shown.flatten(1).to(scores)
    return sums.view(2, *size)


def random_masks(
    seed: int,
    keys: Sequence[tuple[int, ...]],
    size: tuple[int, int],
    *,
    cells: int = 7,
    probability: float = 0.5,
) -> Float[Tensor, "k h w"]:
    r"""Smooth masks in [0, 1], one per key; the expectation is ``probability`` at every pixel.

    As in the authors' code: $s\times s$ cells, each 1 with ``probability``; enlarged bilinearly
    to $(s+1)\lceil H/s\rceil$; cut to $H\times W$ from a corner drawn uniformly within one cell.
    """
    numbers = draws.uniform(seed, keys, (cells * cells + 2,))
    grids = (numbers[:, 2:] < probability).float().view(-1, cells, cells)
    down, across = (
        _enlargement(full, cells)[_rows(numbers[:, axis], full, cells)]
        for axis, full in enumerate(size)
    )
    return down @ grids @ across.transpose(1, 2)


def _enlargement(full: int, cells: int) -> Float[Tensor, "up s"]:
    """The matrix of bilinear interpolation from ``cells`` to (cells + 1) * ceil(full / cells)."""
    up = (cells + 1) * math.ceil(full / cells)
    return interpolate(torch.eye(cells)[None], up, mode="linear", align_corners=False)[0].T


def _rows(uniform: Float[Tensor, " k"], full: int, cells: int) -> Int[Tensor, "k full"]:
    """The rows that remain of each mask: ``full`` of them from a random offset within a cell."""
    cell = math.ceil(full / cells)
    offset = (uniform * cell).long().clamp_max(cell - 1)
    return offset[:, None] + torch.arange(full)


def _check_normalization(normalize: str) -> None:
    if normalize not in NORMALIZATIONS:
        raise ValueError(f"normalize {normalize!r} is unknown; choose one of: {NORMALIZATIONS}")


def _check(masks: int, cells: int, probability: float) -> None:
    for name, value in (("masks", masks), ("cells", cells)):
        if not isinstance(value, int) or value < 1:
            raise ValueError(f"{name} must be a whole number from 1, not {value}")
    if not 0 < probability < 1:
        raise ValueError(
            f"probability must lie between 0 and 1, both excluded, not {probability}: all masks "
            "would be the same"
        )
