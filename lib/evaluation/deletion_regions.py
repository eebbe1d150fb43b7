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
from torch.nn.utils.rnn import pad_sequence

from lib import copies
from lib.attribution.meaningful_perturbation import PERTURBATIONS
from lib.copies.baselines import blurred, gaussian_blur
from lib.core import draws
from lib.evaluation.boxes import box_areas
from lib.evaluation.maps import asked_maps, check_maps, heat, maps_by_label
from lib.evaluation.removal import removal_order
from lib.evaluation.transfer import null_images

LEVELS = (0.8, 0.9, 0.95, 0.99)
ALPHAS = tuple(k / 100 for k in range(101))


def blurred_boxes(classifier, photos, pixels: Tensor, parameters: Mapping) -> pd.DataFrame:
    """Protocol for :mod:`lib.rows`: the boxes of each map and what their blur does.

    ``parameters``: ``methods`` and ``seed`` (:func:`lib.evaluation.maps.asked_maps`), ``shares`` of
    the image and ``alphas`` (default ``ALPHAS``). One row per image x method x box, with the
    columns of :func:`suppressions`.
    """
    given = (classifier, pixels, photos.targets)
    levels = (parameters.get("alphas", ALPHAS), parameters["shares"])
    found = [
        suppressions(*given, heat(map_).cpu(), *levels).assign(method=label)
        for label, map_ in asked_maps(*given, parameters).items()
    ]
    return pd.concat(found, ignore_index=True)


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

    ``score`` is one or several of ``copies.SCORES``, as for ``Engine.scores``. Equal boxes of an
    image are scored once.
    """
    engine = copies.Engine(classifier, images, targets, batch_size, "blurred boxes")
    pixels = engine.pixels
    if boxes.ndim != 3 or boxes.shape[::2] != (len(pixels), 4):
        raise ValueError(f"boxes must be ({len(pixels)}, k, 4), not {tuple(boxes.shape)}")
    replacement = blurred(pixels)
    unique = [torch.unique(own, dim=0, return_inverse=True) for own in boxes]
    distinct = pad_sequence([own for own, _ in unique], batch_first=True)  # by empty boxes

    def with_box_blurred(row: Tensor, draw: Tensor) -> Tensor:
        copied = pixels[row]
        for copy, i, k in zip(copied, row.tolist(), draw.tolist(), strict=True):
            x0, y0, x1, y1 = distinct[i, k].tolist()
            copy[:, y0:y1, x0:x1] = replacement[i, :, y0:y1, x0:x1]
        return copied

    scores = engine.scores(with_box_blurred, distinct.shape[1], score)
    return torch.stack([own[place] for own, (_, place) in zip(scores, unique, strict=True)])


def suppressions(
    classifier,
    images: Float[Tensor, "n c h w"],
    targets: Int[Tensor, " n"],
    maps: Float[Tensor, "n h w"],
    alphas: Sequence[float] = ALPHAS,
    shares: Sequence[float] = (),
) -> pd.DataFrame:
    r"""How far blurring the boxes of a map suppresses the score of its image.

    They are those of :func:`threshold_boxes` for each alpha and of :func:`boxes_of_area` for each
    share of the image. Suppression is $1-p'$ with $p'=(p-p_b)/(p_0-p_b)$, $p_0$ the probability of
    the image and $p_b$ with all of it blurred. One row per image x box: ``image``, ``alpha`` or
    ``share`` (the other is NaN), ``x0, y0, x1, y1``, ``area`` (the box's share of the image),
    ``logit``, ``probability``, and ``suppression``, NaN where $p_0\le p_b$: there the blur
    suppresses nothing.
    """
    check_maps(maps, images)
    height, width = maps.shape[1:]
    ends = torch.tensor([[0, 0, 0, 0], [0, 0, width, height]]).expand(len(maps), 2, 4)
    equal = [boxes_of_area(maps, round(share * height * width))[:, None] for share in shares]
    boxes = torch.cat([ends, threshold_boxes(maps, alphas), *equal], 1)
    names = ["logit", "probability"]
    scores = box_scores(classifier, images, targets, boxes, score=names).double()
    intact, gone, left = scores[..., 1].split([1, 1, boxes.shape[1] - 2], 1)
    suppressed = torch.where(intact > gone, (intact - left) / (intact - gone), torch.nan)
    areas = box_areas(boxes).double()[:, 2:, None] / (height * width)
    table = torch.cat([boxes[:, 2:], areas, scores[:, 2:], suppressed[..., None]], 2)
    frame = pd.DataFrame(
        table.flatten(0, 1).numpy(), columns=["x0", "y0", "x1", "y1", "area", *names, "suppression"]
    )
    which = [(alpha, np.nan) for alpha in alphas] + [(np.nan, share) for share in shares]
    frame[["alpha", "share"]] = which * len(maps)
    return frame.assign(image=np.repeat(range(len(maps)), len(which)))


def smallest_boxes(rows: pd.DataFrame, levels: Sequence[float] = LEVELS) -> pd.DataFrame:
    """From rows of :func:`suppressions` the area of the smallest box that suppresses by each level.

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


def boxes_of_area(maps: Float[Tensor, "n h w"], area: int) -> Int[Tensor, "n 4"]:
    """A box around each map's strongest region, with (nearly) the area asked for, in pixels.

    The tightest box whose area comes nearest, over 200 thresholds, is scaled about its center,
    with its shape where the image allows. Rounding to whole pixels leaves under 2 % at 50 x 50.
    Raises ``ValueError`` for an area that does not fit.
    """
    height, width = maps.shape[1:]
    if not 0 < area <= height * width:
        raise ValueError(f"an area of {area} px does not fit in {width} x {height}")
    chosen = []
    for candidates in threshold_boxes(maps, [k / 200 for k in range(201)]):
        nearest = candidates[(box_areas(candidates) - area).abs().argmin()]
        x0, y0, x1, y1 = nearest.tolist()
        scale = (area / int(box_areas(nearest))) ** 0.5
        across = min(max(round((x1 - x0) * scale), 1), width)
        down = min(max(round(area / across), 1), height)
        across = min(max(round(area / down), 1), width)
        left = min(max(round((x0 + x1 - across) / 2), 0), width - across)
        top = min(max(round((y0 + y1 - down) / 2), 0), height - down)
        chosen.append([left, top, left + across, top + down])
    return torch.tensor(chosen)


def thresholded(classifier, photos, pixels: Tensor, parameters: Mapping) -> pd.DataFrame:
    r"""Protocol for :mod:`lib.rows`: a mask is cut at thresholds; what is below is deleted.

    ``parameters``: ``mask``, the ``method`` whose map is one minus the mask, and its options;
    ``thresholds``, ``most``, ``seed``, and ``blur_sigma`` (default 10 pixels). The mask is blurred
    and stretched to [0, 1], as in the authors' program; a constant one becomes ones, which delete
    nothing. Deleted pixels are taken from the ``blur``, a ``constant`` color (ImageNet's mean) or
    uniform ``noise``.

    One row per image x perturbation x place x threshold: ``place`` is ``own`` or ``moved``, the
    same region rolled around the image to a place drawn by ``seed`` and the image; ``share`` (of
    pixels deleted) and ``remaining`` $(p-p_m)/(p_0-p_m)$ cut to [0, 1], with $p_m$ the score
    under the mask itself: 0 is as good as the mask. NaN where $p_0\le p_m$: drop and count these.
    The row without a threshold (NaN) deletes what the last one does, but no more than the share
    ``most``, beginning where the mask is lowest.
    """
    thresholds, seed = parameters["thresholds"], parameters["seed"]
    engine = copies.Engine(classifier, pixels, photos.targets, label="thresholded deletion")
    images = engine.pixels
    named = {"mask": parameters["mask"]}
    (maps,) = maps_by_label(classifier, pixels, photos.targets, named, seed=seed).values()
    masks = 1 - maps[:, 0].to(images)
    stretched = _stretched(gaussian_blur(masks[:, None], parameters.get("blur_sigma", 10.0)))[:, 0]
    keys = draws.image_keys(images)
    cuts = torch.tensor(thresholds).to(images).view(-1, 1, 1)
    regions = stretched[:, None] < cuts  # (n, thresholds, h, w)
    ranks = removal_order(stretched, "lerf", keys, seed).view(masks.shape).to(images.device)
    capped = regions[:, -1] & (ranks < round(parameters["most"] * masks[0].numel()))
    own = torch.cat([regions, capped[:, None]], 1)
    sides = torch.tensor(masks.shape[1:])
    shifts = (draws.uniform(seed, [(key, 0) for key in keys], (2,)) * sides).long().tolist()
    moved = torch.stack([r.roll(s, (1, 2)) for r, s in zip(own, shifts, strict=True)])
    places = {"own": own, "moved": moved}
    fills = {name: null_images(images, name, seed=seed) for name in PERTURBATIONS}
    tried = list(product(PERTURBATIONS, places, range(own.shape[1])))

    def altered(row: Tensor, draw: Tensor) -> Tensor:
        """Copies 0 and 1 are the intact image and the learned mask."""
        chosen = []
        for i, k in zip(row.tolist(), draw.tolist(), strict=True):
            name, place, cut = tried[k - 2] if k > 1 else ("blur", "own", 0)
            keep = 1 - places[place][i, cut].to(images) if k > 1 else masks[i] if k else 1.0
            chosen.append(keep * images[i] + (1 - keep) * fills[name][i])
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
