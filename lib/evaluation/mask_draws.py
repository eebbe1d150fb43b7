"""How much of a map is its draw of masks: RISE and LIME, two draws of each, by number of copies.

Whoever explains by random copies gets another map from other copies. Two maps that share no copy
agree in what is signal and differ in the rest, so that no true map is needed.
"""

import time
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from lib.attribution.lime import explain_lime, fit_linear
from lib.attribution.rise import rise_maps, rise_scores, rise_sums
from lib.evaluation.correlation import rank_correlation
from lib.evaluation.insertion_deletion import insertion_deletion_curves
from lib.evaluation.maps import asked_maps, magnitude, signed

EVERY = 4  # rows and columns of a map that are compared: maps of both methods are coarse


def mask_draws(classifier, photos, pixels: Tensor, parameters: Mapping) -> pd.DataFrame:
    """Protocol for :mod:`lib.rows`: RISE's masks, scored once, and all that is asked of them.

    The class is the one that the network predicts. ``parameters``:

        rise: options of :func:`lib.attribution.rise.rise_scores`; ``masks`` of them make the map.
        lime: options of :func:`lib.attribution.lime.explain_lime`; ``samples`` make the map.
        sizes: numbers of copies at which two draws are compared: the first one times 2, 4, 8 ...
            Twice the largest is scored (LIME: as far as ``samples``).
        methods, seed: other maps (:func:`lib.evaluation.maps.asked_maps`).
        magnitude: those of them that are ranked by magnitude; default none.
        steps: of the insertion and deletion curves; 0 draws none.

    One row per image x method x measure x ``at``, with its ``value``: ``agreement`` of two draws
    of ``at`` copies each; probability during ``insertion`` and ``deletion`` of the share ``at``;
    ``seconds`` that the map of ``at`` copies took (RISE's scores by their share of all scored), in
    a column of that name.
    """
    seed, steps = parameters["seed"], parameters["steps"]
    targets = classifier.scores(pixels.to(classifier.device)).argmax(1).cpu()
    found = _rise(classifier, pixels, targets, parameters["rise"], parameters["sizes"], seed)
    other = _lime(classifier, pixels, targets, parameters["lime"], parameters["sizes"], seed)
    maps = {"rise": found.pop("map"), "lime": other.pop("map")}
    rows = [
        pd.DataFrame(values, columns=["image", "at", column]).assign(method=name, measure=measure)
        for name, measures in (("rise", found), ("lime", other))
        for measure, values in measures.items()
        for column in ["seconds" if measure == "seconds" else "value"]
    ]
    if steps:
        for label, map_ in asked_maps(classifier, pixels, targets, parameters).items():
            reduce = magnitude if label in parameters.get("magnitude", ()) else signed
            maps[label] = reduce(map_).cpu()
        curves = insertion_deletion_curves(
            classifier, pixels, targets, maps, steps=steps, seed=seed
        )
        names = {"curve": "measure", "fraction": "at", "probability": "value"}
        rows.append(curves.rename(columns=names)[["image", "at", "value", "method", "measure"]])
    return pd.concat(rows, ignore_index=True)


def copies_until(agreement: pd.Series, level: float, most: float) -> float:
    """The copies at which two draws agree to ``level``: between two numbers, along the logarithm.

    ``agreement`` has the numbers of copies as its index. Only those up to ``most`` count; it is
    the answer where ``level`` is not reached, and the least number where it always is.
    """
    known = agreement[agreement.index <= most].sort_index()
    enough = np.flatnonzero(known.to_numpy() >= level)
    if not len(enough):
        return float(most)
    k = int(enough[0])
    if k == 0:
        return float(known.index[0])
    part = (level - known.iloc[k - 1]) / (known.iloc[k] - known.iloc[k - 1])
    low, high = np.log(known.index[k - 1]), np.log(known.index[k])
    return float(np.exp(low + part * (high - low)))


def _agreement(one: Tensor, other: Tensor) -> float:
    pair = torch.stack([one.flatten(), other.flatten()], -1).double().numpy()
    return float(rank_correlation(pair))


def _rise(classifier, pixels, targets, options: Mapping, sizes: Sequence[int], seed: int) -> dict:
    """The map of the first masks, and rows of agreement and seconds."""
    options = {**options, "seed": seed}
    masks = options.pop("masks")
    count = 2 * max(*sizes, (masks + 1) // 2)
    began = time.perf_counter()
    scores = rise_scores(classifier, pixels, targets, masks=count, **options)
    per_mask = (time.perf_counter() - began) / count / len(pixels)
    drawn = {name: options[name] for name in ("cells", "probability", "seed") if name in options}
    began = time.perf_counter()
    maps = rise_maps(pixels, scores, which=range(masks), **drawn)[:, 0].cpu()
    per_map = (time.perf_counter() - began) / len(pixels)
    agreement = []
    for i in range(len(pixels)):
        agreement += [(i, *pair) for pair in _pairs(pixels[i], scores[i], sizes, drawn)]
    seconds = [(i, masks, masks * per_mask + per_map) for i in range(len(pixels))]
    return {"map": maps, "agreement": agreement, "seconds": seconds}


def _pairs(image: Tensor, scores: Tensor, sizes: Sequence[int], drawn: Mapping):
    """Of each size the agreement of two draws, averaged over all pairs that share no mask."""
    block = sizes[0]
    parts = [range(k, k + block) for k in range(0, len(scores) - block + 1, block)]
    sums = [rise_sums(image, scores, which=part, **drawn)[:, ::EVERY, ::EVERY] for part in parts]
    weighted, coverage = torch.stack(sums, 1)
    for size in sizes:
        n, found = size // block, []
        for start in range(0, len(parts) - 2 * n + 1, 2 * n):
            pair = [slice(start, start + n), slice(start + n, start + 2 * n)]
            maps = [weighted[own].sum(0) / coverage[own].sum(0).clamp_min(1e-6) for own in pair]
            found.append(_agreement(*maps))
        yield size, float(np.mean(found))


def _lime(classifier, pixels, targets, options: Mapping, sizes: Sequence[int], seed: int) -> dict:
    """The map of the first draw, and rows of agreement and seconds."""
    fit = {name: options[name] for name in ("width", "ridge") if name in options}
    agreement, seconds, maps = [], [], []
    for i in range(len(pixels)):
        given = (classifier, pixels[i : i + 1], targets[i : i + 1])
        began = time.perf_counter()
        (first,) = explain_lime(*given, **options, seed=seed)
        seconds.append((i, options["samples"], time.perf_counter() - began))
        again = {**options, "segments": [first.segments.numpy()], "seed": seed + 1}
        (second,) = explain_lime(*given, **again)
        maps.append(first.map[0])
        for size in [size for size in sizes if size <= options["samples"]]:
            pair = [
                fit_linear(whole.segments, whole.presence[:size], whole.predictions[:size], **fit)
                for whole in (first, second)
            ]
            one, other = (part.map[0, ::EVERY, ::EVERY] for part in pair)
            agreement.append((i, size, _agreement(one, other)))
    return {"map": torch.stack(maps), "agreement": agreement, "seconds": seconds}
