r"""Removal curves: take pixels away in the order of an attribution and watch the score.

MoRF removes the most relevant first (a good map makes the score fall fast), LeRF the least
relevant first (it should stay high). Samek et al., *Evaluating the visualization of what a deep
neural network has learned*, 2016; by fractions of pixels as in Jeon et al., *Distilled gradient
aggregation*, 2022.
"""

from collections.abc import Hashable, Mapping, Sequence
from itertools import product

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from lib import copies
from lib.copies.fills import FILLS, Fill
from lib.core import draws
from lib.evaluation.boxes import inside_boxes
from lib.evaluation.maps import REDUCTIONS, asked_maps, check_maps

ORDERS = ("morf", "lerf")
SCORES = ("probability", "logit", "accuracy")


def removal(classifier, photos, pixels: Tensor, parameters: Mapping) -> pd.DataFrame:
    """Protocol for :mod:`lib.rows`: the removal curves of many maps, fills and orders.

    ``parameters``: ``methods`` and ``seed`` (:func:`lib.evaluation.maps.asked_maps`),
    ``fractions``, and ``conventions``, ``{name of REDUCTIONS: [label, ...]}`` (default: all are
    signed), and ``fills`` (default black). One row per image x method x order x convention x fill
    x fraction with the columns of :func:`removal_curves`; ``outside`` is that of the photo's boxes.
    """
    default = {"conventions": {"signed": [*parameters["methods"]]}, "fills": ["black"]}
    asked = {**default, **parameters}
    given, seed = (classifier, pixels, photos.targets), parameters["seed"]
    maps = asked_maps(*given, parameters)
    # LeRF of a map is MoRF of its negative: both orders are one call, which scores the ends once
    ranked = {
        (label, order, convention): sign * REDUCTIONS[convention](maps[label])
        for convention, labels in asked["conventions"].items()
        for (order, sign), label in product((("morf", 1), ("lerf", -1)), labels)
    }
    options = {"order": "morf", "fractions": asked["fractions"], "seed": seed}
    options["inside"] = inside_boxes(photos.instances, *pixels.shape[2:])
    frames = [
        removal_curves(*given, ranked, fill=fill, **options).assign(fill=fill)
        for fill in asked["fills"]
    ]
    rows = pd.concat(frames, ignore_index=True)
    rows[["method", "order", "convention"]] = rows["method"].tolist()
    return rows


def removal_order(
    maps: Float[Tensor, "n h w"], order: str, keys: Sequence[int], seed: int = 0
) -> Int[Tensor, "n hw"]:
    """The rank (0 = removed first) of each pixel under ``morf`` or ``lerf``.

    Equal values are ranked by a permutation drawn per image, so that no direction of the image is
    favored; LeRF of a map is MoRF of its negative. Raises ``ValueError`` for NaN or a bad order.
    """
    if order not in ORDERS:
        raise ValueError(f"order {order!r} is unknown; choose one of: {ORDERS}")
    values = maps.flatten(1)
    if torch.isnan(values).any():
        raise ValueError("the attribution map holds NaN: its pixels cannot be ranked")
    ranks = torch.empty(values.shape, dtype=torch.long)
    for row, value, key in zip(ranks, values.cpu(), keys, strict=True):
        shuffle = draws.permutation(seed, (key,), len(value))
        sorted_ = torch.sort(value[shuffle], stable=True, descending=order == "morf").indices
        row[shuffle[sorted_]] = torch.arange(len(value))
    return ranks


def removal_counts(fractions: Sequence[float] | np.ndarray, pixels: int) -> list[int]:
    """``round(fraction * pixels)`` for each fraction; ``ValueError`` outside [0, 1]."""
    if not len(fractions) or not all(0 <= f <= 1 for f in fractions):
        raise ValueError(f"fractions must be numbers in [0, 1], not {list(fractions)}")
    return [round(float(fraction) * pixels) for fraction in fractions]


def remove(
    images: Float[Tensor, "n c h w"],
    maps: Float[Tensor, "n h w"],
    fraction: float,
    *,
    order: str,
    fill: str = "black",
    seed: int = 0,
) -> Float[Tensor, "n c h w"]:
    """The images with one ``fraction`` of their pixels removed: what a removal curve looks at."""
    keys = draws.image_keys(images)
    ranks = removal_order(maps, order, keys, seed)
    (count,) = removal_counts([fraction], ranks.shape[1])
    removed = (ranks < count).view(maps.shape).to(images.device)
    return _fill(fill)(images, removed, [(seed, key, count) for key in keys])


def removal_curves(
    classifier,
    images: Float[Tensor, "n c h w"],
    targets: Int[Tensor, " n"],
    maps: Float[Tensor, "n h w"] | Mapping[Hashable, Float[Tensor, "n h w"]],
    *,
    order: str,
    fractions: Sequence[float] | np.ndarray,
    fill: str | Fill = "black",
    inside: Bool[Tensor, "n h w"] | None = None,
    seed: int = 0,
    batch_size: int | None = None,
) -> pd.DataFrame:
    """Scores after removing each fraction of pixels in the order of ``maps``.

    ``maps`` holds one value per pixel (see :mod:`lib.evaluation.maps`); a pixel is removed in all
    channels, exactly ``round(fraction * H * W)`` of them, and replaced by ``fill``: a name of
    ``FILLS`` or a function like one of them.
    Include 0 and 1 in ``fractions`` to see the intact image and the fill alone.

    Returns one row per image x fraction: ``image`` (its position in ``images``), ``fraction``,
    ``probability`` and ``logit`` of the target, and ``accuracy`` (1 if the target ranks first).
    Of maps by name the curves follow one another, told apart by the column ``method``. Where no
    pixel or every pixel is removed all maps agree: scored once per image. With ``inside``, which
    marks the object, also ``outside``: of the pixels removed, the share outside it; NaN where
    nothing is removed or there is no object.
    """
    named = maps if isinstance(maps, Mapping) else {None: maps}
    if not named:
        raise ValueError("there is no map to remove pixels by")
    label = f"removal ({fill if isinstance(fill, str) else 'own fill'})"
    engine = copies.Engine(classifier, images, targets, batch_size, label)
    pixels, replace, keys = engine.pixels, _fill(fill), draws.image_keys(images)
    for values in named.values():
        check_maps(values, images)
    ranks = torch.stack([removal_order(v, order, keys, seed) for v in named.values()], 1)
    ranked = ranks.unflatten(2, images.shape[2:]).to(pixels.device)  # (n, maps, h, w)
    size = ranks.shape[2]
    counts = removal_counts(fractions, size)
    wanted = [(k * (0 < count < size), count) for k in range(len(named)) for count in counts]
    tried = list(dict.fromkeys(wanted))

    def with_pixels_removed(row: Tensor, draw: Tensor) -> Tensor:
        which, count = torch.tensor([tried[k] for k in draw.tolist()], device=pixels.device).T
        removed = ranked[row, which] < count.view(-1, 1, 1)
        drawn = zip(row.tolist(), count.tolist(), strict=True)
        return replace(pixels[row], removed, [(seed, keys[i], n) for i, n in drawn])

    scores = engine.scores(with_pixels_removed, len(tried), SCORES).double()
    scores = scores[:, [tried.index(pair) for pair in wanted]].unflatten(1, (len(named), -1))
    index = pd.MultiIndex.from_product(
        [range(len(named)), range(len(images)), map(float, fractions)],
        names=["method", "image", "fraction"],
    )
    values = scores.transpose(0, 1).flatten(0, 2).numpy()
    frame = pd.DataFrame(values, index, list(SCORES)).reset_index()
    if inside is not None:
        shares = _shares_outside(ranks, inside.flatten(1), counts)
        frame["outside"] = shares.transpose(0, 1).flatten().numpy()
    names = frame.pop("method").map(dict(enumerate(named)))
    return frame.assign(method=names) if isinstance(maps, Mapping) else frame


def _shares_outside(
    ranks: Int[Tensor, "n maps hw"], inside: Bool[Tensor, "n hw"], counts: Sequence[int]
) -> Float[Tensor, "n maps counts"]:
    outside = (~inside).double()[:, None].expand(ranks.shape)
    so_far = torch.zeros_like(outside).scatter(2, ranks, outside).cumsum(2)
    first = torch.tensor(counts)
    shares = so_far[..., first - 1] / first
    known = inside.any(1)[:, None, None] & (first > 0)
    return torch.where(known, shares, torch.nan)


def areas(curves: pd.DataFrame, score: str, by: Sequence[str]) -> pd.DataFrame:
    """The area under each curve: trapezoids over the fraction, one row per group in ``by``."""

    def area(curve: pd.DataFrame) -> float:
        curve = curve.sort_values("fraction")
        return float(np.trapezoid(curve[score], curve["fraction"]))

    grouped = curves.groupby(list(by), observed=True, sort=False)[["fraction", score]]
    return grouped.apply(area).rename("area").reset_index()


def _fill(name: str | Fill) -> Fill:
    if callable(name):
        return name
    if name not in FILLS:
        raise ValueError(f"fill {name!r} is unknown; choose one of: {', '.join(FILLS)}")
    return FILLS[name]
