r"""What deleting the region of a map does to the score.

Fong, Vedaldi, *Interpretable explanations of black boxes by meaningful perturbation*, ICCV 2017,
sections 4.3 (boxes of equal area), 5.2 (thresholded masks under other perturbations) and 5.3
(smallest suppressing boxes). Scores are the softmax probability of the target; a box is
(x0, y0, x1, y1) in whole pixels, the last row and column not included.
"""

from collections.abc import Mapping, Sequence
from itertools import product

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor

from lib import copies
from lib.attribution.meaningful_perturbation import MaskSettings, learn_masks
from lib.copies.baselines import blurred, gaussian_blur
from lib.core import draws
from lib.evaluation.maps import check_maps, heat, maps_by_label
from lib.evaluation.removal import removal_order
from lib.evaluation.transfer import PERTURBATIONS, null_images

LEVELS = (0.8, 0.9, 0.95, 0.99)
ALPHAS = tuple(k / 100 for k in range(101))


def shrinking_boxes(classifier, photos, pixels: Tensor, parameters: Mapping) -> pd.DataFrame:
    """Protocol for :mod:`lib.rows`: the box of each threshold and what its blur does.

    ``parameters``: ``methods`` (:func:`lib.evaluation.maps.maps_by_label`), ``seed`` and
    ``alphas`` (default ``ALPHAS``). One row per image x method x alpha: :func:`suppressions`.
    """
    alphas = parameters.get("alphas", ALPHAS)
    given = (classifier, pixels, photos.targets)
    maps = maps_by_label(*given, parameters["methods"], seed=parameters["seed"])
    found = [
        suppressions(*given, heat(map_).cpu(), alphas).assign(method=label)
        for label, map_ in maps.items()
    ]
    return pd.concat(found, ignore_index=True)


def equal_boxes(classifier, photos, pixels: Tensor, parameters: Mapping) -> pd.DataFrame:
    """Protocol for :mod:`lib.rows`: scores after blurring boxes of one area around each map.

    ``parameters``: ``methods`` (:func:`lib.evaluation.maps.maps_by_label`), ``shares`` of the
    image and ``seed``. One row per image x method x share: ``logit`` and ``probability`` of the
    target with the box of :func:`boxes_of_area` blurred, and its corners ``x0, y0, x1, y1``.
    """
    given, shares = (classifier, pixels, photos.targets), parameters["shares"]
    maps = maps_by_label(*given, parameters["methods"], seed=parameters["seed"])
    frames = []
    for label, map_ in maps.items():
        areas = [[round(share * map_[0, 0].numel())] * len(pixels) for share in shares]
        boxes = torch.stack([boxes_of_area(heat(map_).cpu(), area) for area in areas], 1)
        scores = box_scores(*given, boxes, score=("logit", "probability"))
        rows = pd.MultiIndex.from_product([range(len(pixels)), shares], names=["image", "share"])
        found = torch.cat([scores.double(), boxes], 2).flatten(0, 1).numpy()
        names = ["logit", "probability", "x0", "y0", "x1", "y1"]
        frames.append(pd.DataFrame(found, rows, names).reset_index().assign(method=label))
    return pd.concat(frames, ignore_index=True)


def thresholded(classifier, photos, pixels: Tensor, parameters: Mapping) -> pd.DataFrame:
    """Protocol for :mod:`lib.rows`: learned masks cut at thresholds and deleted in several ways.

    ``parameters``: ``mask`` (options of ``MaskSettings``), ``thresholds``, ``most`` and ``seed``;
    rows as of :func:`thresholded_deletion`.
    """
    settings = MaskSettings(**{"seed": parameters["seed"], **parameters["mask"]})
    masks = learn_masks(classifier, pixels, photos.targets, settings).masks[:, 0]
    options = {name: parameters[name] for name in ("thresholds", "most", "seed")}
    return thresholded_deletion(classifier, pixels, photos.targets, masks, **options)


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
    score: str | Sequence[str] = "probability",
    batch_size: int | None = None,
) -> Float[Tensor, "n k *s"]:
    """The target's score with each box of each image blurred (see ``blurred``).

    ``score`` is one or several of ``copies.SCORES``, as for ``Engine.scores``.
    """
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

    return engine.scores(with_box_blurred, boxes.shape[1], score)


def suppressions(
    classifier,
    images: Float[Tensor, "n c h w"],
    targets: Int[Tensor, " n"],
    maps: Float[Tensor, "n h w"],
    alphas: Sequence[float] | np.ndarray = ALPHAS,
) -> pd.DataFrame:
    r"""How far blurring the box of :func:`threshold_boxes` suppresses the score, for each alpha.

    Suppression is $1-p'$ with $p'=(p-p_b)/(p_0-p_b)$, $p_0$ the score of the image and $p_b$ with
    all of it blurred. One row per image x alpha: ``image``, ``alpha``, ``area`` (of the box, a
    share of the image) and ``suppression``, NaN where $p_0\le p_b$: there the blur suppresses
    nothing.
    """
    check_maps(maps, images)
    boxes = threshold_boxes(maps, alphas)
    height, width = maps.shape[1:]
    ends = torch.tensor([[0, 0, 0, 0], [0, 0, width, height]]).expand(len(maps), 2, 4)
    # neighboring alphas often give one box: each is scored once, the rows padded by repetition
    distinct = [torch.unique(torch.cat(pair), dim=0) for pair in zip(ends, boxes, strict=True)]
    most = max(len(rows) for rows in distinct)
    padded = torch.stack([torch.cat([r, r[:1].expand(most - len(r), 4)]) for r in distinct])
    scores = box_scores(classifier, images, targets, padded).double()
    rows = []
    for i, (box, score) in enumerate(zip(padded, scores, strict=True)):
        known = {tuple(b): float(s) for b, s in zip(box.tolist(), score, strict=True)}
        intact, gone = known[0, 0, 0, 0], known[0, 0, width, height]
        for b, alpha in zip(boxes[i], alphas, strict=True):
            lost = intact - known[tuple(b.tolist())]
            suppression = lost / (intact - gone) if intact > gone else np.nan
            rows.append((i, alpha, int(box_areas(b)) / (height * width), suppression))
    return pd.DataFrame(rows, columns=["image", "alpha", "area", "suppression"])


def smallest_boxes(rows: pd.DataFrame, levels: Sequence[float] = LEVELS) -> pd.DataFrame:
    """From rows of `shrinking_boxes` the area of the smallest box that suppresses by each level.

    One row per image x method, one column per level: a share of the image, 1 where no smaller box
    reaches the level. Images whose score the blur does not lower are left out. Raises
    ``ValueError`` for a level outside (0, 1].
    """
    if not len(levels) or not all(0 < level <= 1 for level in levels):
        raise ValueError(f"levels must lie in (0, 1], not {list(levels)}")
    rows = rows.dropna(subset="suppression")
    areas = {
        level: rows["area"].where(rows["suppression"] >= level, 1.0).rename(level)
        for level in levels
    }
    return pd.DataFrame(areas).groupby([rows["image"], rows["method"]]).min()


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
    most: float = 0.3,
    blur_sigma: float = 10.0,
    seed: int = 0,
    batch_size: int | None = None,
) -> pd.DataFrame:
    r"""The score when the pixels whose (blurred) mask lies below a threshold are deleted.

    The mask is blurred by ``blur_sigma`` and stretched to [0, 1], as in the authors' program; a
    constant one becomes ones, which delete nothing. Deleted pixels are taken from the ``blur``, a
    ``constant`` color (ImageNet's mean) or uniform ``noise``.

    One row per image x perturbation x place x threshold: ``place`` is ``own`` or ``moved``, the
    same region rolled around the image to a place drawn by ``seed`` and the image; ``share`` (of
    pixels deleted) and ``remaining`` $(p-p_m)/(p_0-p_m)$ cut to [0, 1], with $p_m$ the score
    under the learned mask itself: 0 is as good as the mask. NaN where $p_0\le p_m$: drop and
    count these. The row without a threshold (NaN) deletes what the last one does, but no more than
    the share ``most``, beginning where the mask is lowest.
    """
    engine = copies.Engine(classifier, images, targets, batch_size, "thresholded deletion")
    pixels = engine.pixels
    check_maps(masks, images)
    masks = masks.to(pixels)
    stretched = _stretched(gaussian_blur(masks[:, None], blur_sigma))[:, 0]
    keys = draws.image_keys(pixels)
    cuts = torch.tensor(list(thresholds)).to(pixels).view(-1, 1, 1)
    regions = stretched[:, None] < cuts  # (n, thresholds, h, w)
    ranks = removal_order(stretched, "lerf", keys, seed).view(masks.shape).to(pixels.device)
    capped = regions[:, -1] & (ranks < round(most * masks[0].numel()))
    own = torch.cat([regions, capped[:, None]], 1)
    sides = torch.tensor(masks.shape[1:])
    shifts = (draws.uniform(seed, [(key, 0) for key in keys], (2,)) * sides).long().tolist()
    moved = torch.stack([r.roll(s, (1, 2)) for r, s in zip(own, shifts, strict=True)])
    places = {"own": own, "moved": moved}
    fills = {name: null_images(pixels, name, seed=seed) for name in PERTURBATIONS}
    tried = list(product(PERTURBATIONS, places, range(own.shape[1])))

    def altered(row: Tensor, draw: Tensor) -> Tensor:
        """Copies 0 and 1 are the intact image and the learned mask."""
        chosen = []
        for i, k in zip(row.tolist(), draw.tolist(), strict=True):
            name, place, cut = tried[k - 2] if k > 1 else ("blur", "own", 0)
            keep = 1 - places[place][i, cut].to(pixels) if k > 1 else masks[i] if k else 1.0
            chosen.append(keep * pixels[i] + (1 - keep) * fills[name][i])
        return torch.stack(chosen)

    scores = engine.scores(altered, 2 + len(tried), "probability").double().numpy()
    rows, values = [], [*thresholds, float("nan")]
    for i, (intact, learned, *rest) in enumerate(scores):
        for (name, place, cut), p in zip(tried, rest, strict=True):
            share = float(places[place][i, cut].double().mean())
            whole = intact - learned
            remaining = float(np.clip((p - learned) / whole, 0, 1)) if whole > 0 else np.nan
            rows.append((i, name, place, values[cut], share, remaining))
    columns = ["image", "perturbation", "place", "threshold", "share", "remaining"]
    return pd.DataFrame(rows, columns=columns)


def _stretched(masks: Tensor) -> Tensor:
    low, high = masks.amin((2, 3), keepdim=True), masks.amax((2, 3), keepdim=True)
    return torch.where(high > low, (masks - low) / (high - low), 1.0)
