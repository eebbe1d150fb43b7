r"""Removal curves: take pixels away in the order of an attribution and watch the score.

MoRF removes the most relevant first (a good map makes the score fall fast), LeRF the least
relevant first (it should stay high). Samek et al., *Evaluating the visualization of what a deep
neural network has learned*, 2016; by fractions of pixels as in Jeon et al., *Distilled gradient
aggregation*, 2022.
"""

from collections.abc import Mapping, Sequence
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
from lib.evaluation.maps import REDUCTIONS, check_maps, maps_by_label

ORDERS = ("morf", "lerf")
SCORES = ("probability", "logit", "accuracy")


def removal(classifier, photos, pixels: Tensor, parameters: Mapping) -> pd.DataFrame:
    """Protocol for :mod:`lib.rows`: the removal curves of many maps, fills and orders.

    ``parameters``: ``methods`` (:func:`lib.evaluation.maps.maps_by_label`), ``fractions``,
    ``seed``, and ``conventions`` (of ``REDUCTIONS``, default signed), ``orders`` (default both),
    ``fills`` (default black). One row per image x method x order x convention x fill x fraction
    with the columns of :func:`removal_curves`.
    """
    given = {"conventions": ["signed"], "orders": ORDERS, "fills": ["black"], **parameters}
    seed, fractions = given["seed"], given["fractions"]
    maps = maps_by_label(classifier, pixels, photos.targets, given["methods"], seed=seed)
    frames = []
    for convention in given["conventions"]:
        values = {label: REDUCTIONS[convention](map_) for label, map_ in maps.items()}
        for order, fill in product(given["orders"], given["fills"]):
            curves = removal_curves(
                classifier,
                pixels,
                photos.targets,
                values,
                order=order,
                fractions=fractions,
                fill=fill,
                seed=seed,
            )
            frames.append(curves.assign(order=order, convention=convention, fill=fill))
    return pd.concat(frames, ignore_index=True)


def background_first(classifier, photos, pixels: Tensor, parameters: Mapping) -> pd.DataFrame:
    """Protocol for :mod:`lib.rows`: how much of what LeRF removes first lies outside the boxes?

    ``parameters``: ``methods`` (:func:`lib.evaluation.maps.maps_by_label`), ``fraction`` and
    ``seed``, and ``convention`` (of ``REDUCTIONS``, default magnitude). One row per image with a
    box x method: ``outside``, and ``chance``, the share of the image that lies outside.
    """
    inside = inside_boxes(photos.instances, *pixels.shape[2:])
    boxed = inside.flatten(1).any(1).nonzero()[:, 0]
    some, seed = pixels[boxed], parameters["seed"]
    if not len(boxed):
        columns = ["image", "method", "outside", "chance"]
        return pd.DataFrame({name: [] for name in columns}).astype({"image": int})
    targets, reduce = photos.targets[boxed], REDUCTIONS[parameters.get("convention", "magnitude")]
    maps = maps_by_label(classifier, some, targets, parameters["methods"], seed=seed)
    keys, chance = draws.image_keys(some), 1 - inside[boxed].float().mean((1, 2))
    frames = []
    for label, map_ in maps.items():
        given = (reduce(map_).cpu(), inside[boxed], parameters["fraction"])
        outside = share_outside(*given, keys=keys, seed=seed).numpy()
        rows = {"image": boxed.numpy(), "method": label, "outside": outside, "chance": chance}
        frames.append(pd.DataFrame(rows))
    return pd.concat(frames, ignore_index=True)


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
    maps: Float[Tensor, "n h w"] | Mapping[str, Float[Tensor, "n h w"]],
    *,
    order: str,
    fractions: Sequence[float] | np.ndarray,
    fill: str | Fill = "black",
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
    pixel or every pixel is removed all maps agree: scored once per image.
    """
    if isinstance(maps, Mapping):
        options = {"order": order, "fill": fill, "seed": seed, "batch_size": batch_size}
        return _curves_by_method(classifier, images, targets, maps, fractions, options)
    label = f"removal ({order}, {fill if isinstance(fill, str) else 'own fill'})"
    engine = copies.Engine(classifier, images, targets, batch_size, label)
    pixels = engine.pixels
    check_maps(maps, images)
    keys = draws.image_keys(images)
    ranks = removal_order(maps, order, keys, seed).view(maps.shape).to(pixels.device)
    counts = removal_counts(fractions, maps[0].numel())
    replace = _fill(fill)

    def with_pixels_removed(row: Tensor, draw: Tensor) -> Tensor:
        count = torch.tensor([counts[k] for k in draw.tolist()], device=pixels.device)
        removed = ranks[row] < count.view(-1, 1, 1)
        pairs = zip(row.tolist(), draw.tolist(), strict=True)
        return replace(pixels[row], removed, [(seed, keys[i], counts[k]) for i, k in pairs])

    scores = engine.scores(with_pixels_removed, len(counts), SCORES)
    index = pd.MultiIndex.from_product(
        [range(len(images)), [float(f) for f in fractions]], names=["image", "fraction"]
    )
    values = scores.double().flatten(0, 1).numpy()
    return pd.DataFrame(values, index, list(SCORES)).reset_index()


def _curves_by_method(
    classifier,
    images,
    targets,
    maps: Mapping[str, Tensor],
    fractions: Sequence[float] | np.ndarray,
    options,
) -> pd.DataFrame:
    if not maps:
        raise ValueError("there is no map to remove pixels by")
    pixels = images.shape[-2] * images.shape[-1]
    counts = removal_counts(fractions, pixels)
    shared = [f for f, count in zip(fractions, counts, strict=True) if count in (0, pixels)]
    own = [f for f, count in zip(fractions, counts, strict=True) if count not in (0, pixels)]

    def curves(method: str, some: list[float]) -> list[pd.DataFrame]:
        given = (classifier, images, targets, maps[method])
        return [removal_curves(*given, fractions=some, **options)] if some else []

    ends = curves(next(iter(maps)), shared)
    frames = [pd.concat([*ends, *curves(name, own)]).assign(method=name) for name in maps]
    place = {float(fraction): k for k, fraction in enumerate(fractions)}
    order = {"key": lambda c: c.map(place) if c.name == "fraction" else c, "kind": "stable"}
    return pd.concat(
        [f.sort_values(["image", "fraction"], **order) for f in frames], ignore_index=True
    )


def areas(curves: pd.DataFrame, score: str, by: Sequence[str]) -> pd.DataFrame:
    """The area under each curve: trapezoids over the fraction, one row per group in ``by``."""

    def area(curve: pd.DataFrame) -> float:
        curve = curve.sort_values("fraction")
        return float(np.trapezoid(curve[score], curve["fraction"]))

    grouped = curves.groupby(list(by), observed=True, sort=False)[["fraction", score]]
    return grouped.apply(area).rename("area").reset_index()


def share_outside(
    maps: Float[Tensor, "n h w"],
    inside: Bool[Tensor, "n h w"],
    fraction: float,
    *,
    keys: Sequence[int],
    order: str = "lerf",
    seed: int = 0,
) -> Float[Tensor, " n"]:
    """Of the first ``fraction`` of pixels removed, the share that lies outside the object.

    ``inside`` marks the object (:func:`lib.evaluation.boxes.inside_boxes`). A map that knows
    nothing gives the share of the whole image that lies outside.
    """
    (count,) = removal_counts([fraction], maps[0].numel())
    if count == 0:
        raise ValueError(f"fraction {fraction} removes no pixel")
    first = removal_order(maps, order, keys, seed).view(maps.shape) < count
    return (first & ~inside).sum((1, 2)) / count


def _fill(name: str | Fill) -> Fill:
    if callable(name):
        return name
    if name not in FILLS:
        raise ValueError(f"fill {name!r} is unknown; choose one of: {', '.join(FILLS)}")
    return FILLS[name]
