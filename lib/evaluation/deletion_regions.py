r"""What deleting the region of a map does to the score.

Fong, Vedaldi, *Interpretable explanations of black boxes by meaningful perturbation*, ICCV 2017,
sections 4.3 (boxes of equal area), 5.2 (thresholded masks under other perturbations) and 5.3
(smallest suppressing boxes). Scores are the softmax probability of the target; a box is
(x0, y0, x1, y1) in whole pixels, the last row and column not included.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor

from lib import copies
from lib.copies.baselines import blurred, gaussian_blur
from lib.evaluation.maps import check_maps
from lib.evaluation.transfer import PERTURBATIONS, null_images

LEVELS = (0.8, 0.9, 0.95, 0.99)


def threshold_boxes(
    maps: Float[Tensor, "n h w"], alphas: Sequence[float] | np.ndarray
) -> Int[Tensor, "n alphas 4"]:
    r"""The tightest box around $\{u: A_u - \min A \ge \alpha(\max A - \min A)\}$, for each alpha.

    The box shrinks as alpha grows; alpha = 0, and a constant map, give the whole image. Maps are
    not changed. Raises ``ValueError`` for NaN and for an alpha outside [0, 1].
    """
    check_maps(maps)
    if not len(alphas) or not all(0 <= alpha <= 1 for alpha in alphas):
        raise ValueError(f"alphas must lie in [0, 1], not {list(alphas)}")
    low, high = maps.amin((1, 2)), maps.amax((1, 2))
    columns, rows = maps.amax(1), maps.amax(2)
    boxes = torch.empty(len(maps), len(alphas), 4, dtype=torch.long)
    for k, alpha in enumerate(alphas):
        # the sum of two floats may exceed the maximum by a rounding
        level = torch.minimum(low + alpha * (high - low), high)[:, None]
        for line, (first, last) in ((columns, (0, 2)), (rows, (1, 3))):
            inside = (line >= level).int()
            boxes[:, k, first] = inside.argmax(1).cpu()
            boxes[:, k, last] = line.shape[1] - inside.flip(1).argmax(1).cpu()
    return boxes


def box_areas(boxes: Int[Tensor, "... 4"]) -> Int[Tensor, "..."]:
    """Pixels in each box."""
    return (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])


def box_scores(
    classifier,
    images: Float[Tensor, "n c h w"],
    targets: Int[Tensor, " n"],
    boxes: Int[Tensor, "n k 4"],
    *,
    batch_size: int | None = None,
) -> Float[Tensor, "n k"]:
    """The target's probability with each box of each image blurred (see ``blurred``)."""
    engine = copies.Engine(classifier, images, targets, batch_size, "blurred boxes")
    pixels = engine.pixels
    if boxes.ndim != 3 or boxes.shape[::2] != (len(pixels), 4):
        raise ValueError(f"boxes must be ({len(pixels)}, k, 4), not {tuple(boxes.shape)}")
    replacement = blurred(pixels)

    def with_box_blurred(row: Tensor, draw: Tensor) -> Tensor:
        copied = pixels[row]
        for copy, i, k in zip(copied, row.tolist(), draw.tolist(), strict=True):
            x0, y0, x1, y1 = boxes[i, k].tolist()
            copy[:, y0:y1, x0:x1] = replacement[i, :, y0:y1, x0:x1]
        return copied

    return engine.scores(with_box_blurred, boxes.shape[1], "probability")


def smallest_boxes(
    classifier,
    images: Float[Tensor, "n c h w"],
    targets: Int[Tensor, " n"],
    maps: Float[Tensor, "n h w"],
    *,
    levels: Sequence[float] | np.ndarray = LEVELS,
    alphas: Sequence[float] | np.ndarray = tuple(k / 100 for k in range(100)),
    batch_size: int | None = None,
) -> pd.DataFrame:
    r"""The smallest box of :func:`threshold_boxes` whose blur suppresses the score by each level.

    Suppression is $1-p'$ with $p'=(p-p_b)/(p_0-p_b)$, $p_0$ the score of the image and $p_b$ with
    all of it blurred. One row per image x level: ``image``, ``level``, ``area`` (pixels),
    ``alpha`` and ``suppression`` of the smallest box that reaches the level. ``outcome`` is
    ``reached``, ``whole`` (only blurring the whole image reaches it), ``missed`` (no alpha does;
    the area is NaN) or ``excluded`` ($p_0\le p_b$: the blur suppresses nothing; NaN).
    """
    if not len(levels) or not all(0 < level <= 1 for level in levels):
        raise ValueError(f"levels must lie in (0, 1], not {list(levels)}")
    check_maps(maps, images)
    boxes = threshold_boxes(maps, alphas)
    height, width = maps.shape[1:]
    ends = torch.tensor([[0, 0, 0, 0], [0, 0, width, height]]).expand(len(maps), 2, 4)
    # neighboring alphas often give one box: each is scored once, the rows padded by repetition
    distinct = [torch.unique(torch.cat(pair), dim=0) for pair in zip(ends, boxes, strict=True)]
    most = max(len(rows) for rows in distinct)
    padded = torch.stack([torch.cat([r, r[:1].expand(most - len(r), 4)]) for r in distinct])
    scores = box_scores(classifier, images, targets, padded, batch_size=batch_size).double()
    rows = []
    for i, (box, score) in enumerate(zip(padded, scores, strict=True)):
        known = {tuple(b): float(s) for b, s in zip(box.tolist(), score, strict=True)}
        intact, gone = known[0, 0, 0, 0], known[0, 0, width, height]
        found = [
            (int(box_areas(b)), alpha, 1 - (known[tuple(b.tolist())] - gone) / (intact - gone))
            for b, alpha in zip(boxes[i], alphas, strict=True)
            if intact > gone
        ]
        for level in levels:
            # the score of the whole blurred image is recomputed: 1e-9 covers its rounding
            able = [f for f in found if f[2] >= level - 1e-9]
            area, alpha, suppression = min(able, default=(np.nan,) * 3)
            outcome = "whole" if area == height * width else "reached"
            if not able:
                outcome = "missed" if found else "excluded"
            rows.append((i, level, area, alpha, suppression, outcome))
    columns = ["image", "level", "area", "alpha", "suppression", "outcome"]
    return pd.DataFrame(rows, columns=columns)


def boxes_of_area(
    maps: Float[Tensor, "n h w"], areas: Sequence[int] | Tensor
) -> Int[Tensor, "n 4"]:
    """A box around each map's strongest region, with (nearly) the area asked for.

    The tightest box whose area comes nearest, over 200 thresholds, is scaled about its center,
    with its shape where the image allows. Rounding to whole pixels leaves under 2 % at 50 x 50.
    """
    height, width = maps.shape[1:]
    boxes = threshold_boxes(maps, [k / 200 for k in range(201)])
    chosen = []
    for candidates, area in zip(boxes, areas, strict=True):
        if not 0 < area <= height * width:
            raise ValueError(f"an area of {area} px does not fit in {width} x {height}")
        nearest = candidates[(box_areas(candidates) - area).abs().argmin()]
        x0, y0, x1, y1 = nearest.tolist()
        scale = (float(area) / ((x1 - x0) * (y1 - y0))) ** 0.5
        across = min(max(round((x1 - x0) * scale), 1), width)
        down = min(max(round(float(area) / across), 1), height)
        across = min(max(round(float(area) / down), 1), width)
        left = min(max(round((x0 + x1 - across) / 2), 0), width - across)
        top = min(max(round((y0 + y1 - down) / 2), 0), height - down)
        chosen.append([left, top, left + across, top + down])
    return torch.tensor(chosen)


def thresholded_deletion(
    classifier,
    images: Float[Tensor, "n c h w"],
    targets: Int[Tensor, " n"],
    masks: Float[Tensor, "n h w"],
    *,
    thresholds: Sequence[float] = tuple(k / 20 for k in range(20)),
    perturbations: Sequence[str] = PERTURBATIONS,
    blur_sigma: float = 10.0,
    seed: int = 0,
    batch_size: int | None = None,
) -> pd.DataFrame:
    r"""The score when the pixels whose (blurred) mask lies below a threshold are deleted.

    The mask is blurred by ``blur_sigma`` and stretched to [0, 1], as in the authors' program; a
    constant one becomes ones, which delete nothing. Deleted pixels are taken from the ``blur``, a
    ``constant`` color (ImageNet's mean) or uniform ``noise``.

    One row per image x perturbation x threshold: ``image``, ``perturbation``, ``threshold``,
    ``share`` (of pixels deleted), ``probability``, and two readings of it, both cut to [0, 1]:
    ``remaining`` $(p-p_m)/(p_0-p_m)$ with $p_m$ the score under the learned mask itself (the
    authors' program: 0 is as good as the mask), and ``suppressed`` $(p_0-p)/(p_0-p_b)$ with $p_b$
    the score of the fully perturbed image (the paper's footnote). NaN where a denominator is not
    positive: drop and count these.
    """
    engine = copies.Engine(classifier, images, targets, batch_size, "thresholded deletion")
    pixels = engine.pixels
    check_maps(masks, images)
    if not perturbations:
        raise ValueError(f"perturbations must be some of: {', '.join(PERTURBATIONS)}")
    masks = masks.to(pixels)
    stretched = _stretched(gaussian_blur(masks[:, None], blur_sigma))
    fills = {name: null_images(pixels, name, seed=seed) for name in {"blur", *perturbations}}
    # copies 0 and 1: the intact image and the learned mask; then for each perturbation the fully
    # perturbed image and one copy per threshold
    cuts = [2.0, *thresholds]

    def altered(row: Tensor, draw: Tensor) -> Tensor:
        chosen = []
        for i, k in zip(row.tolist(), draw.tolist(), strict=True):
            if k < 2:
                keep, fill = (torch.ones_like(masks[i]) if k == 0 else masks[i]), fills["blur"][i]
            else:
                keep = (stretched[i, 0] >= cuts[(k - 2) % len(cuts)]).to(pixels)
                fill = fills[perturbations[(k - 2) // len(cuts)]][i]
            chosen.append(keep * pixels[i] + (1 - keep) * fill)
        return torch.stack(chosen)

    count = 2 + len(perturbations) * len(cuts)
    scores = engine.scores(altered, count, "probability").double().numpy()
    rows = []
    for i, score in enumerate(scores):
        intact, learned = score[:2]
        for name, part in zip(perturbations, np.split(score[2:], len(perturbations)), strict=True):
            for cut, p in zip(thresholds, part[1:], strict=True):
                remaining = _clipped(p - learned, intact - learned)
                suppressed = _clipped(intact - p, intact - part[0])
                share = float((stretched[i] < cut).float().mean())
                rows.append((i, name, cut, share, p, remaining, suppressed))
    columns = ["image", "perturbation", "threshold", "share", "probability"]
    return pd.DataFrame(rows, columns=[*columns, "remaining", "suppressed"])


def _stretched(masks: Tensor) -> Tensor:
    low, high = masks.amin((2, 3), keepdim=True), masks.amax((2, 3), keepdim=True)
    return torch.where(high > low, (masks - low) / (high - low), 1.0)


def _clipped(part: float, whole: float) -> float:
    return float(np.clip(part / whole, 0, 1)) if whole > 0 else float("nan")
