"""Does a map change when the network forgets? Similarity of maps before and after.

Adebayo et al., *Sanity checks for saliency maps*, NeurIPS 2018, with their four measures. Another
class in place of other weights is the test of Sixt, Granz, Landgraf, *When explanations lie*, ICML
2020. Hedström et al., *A fresh look at sanity checks for saliency maps*, 2024: a map that is mostly
noise passes as well, hence a step of the photo that nobody sees.
"""

from collections.abc import Iterator, Mapping
from functools import partial

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from skimage.feature import hog
from skimage.metrics import structural_similarity
from torch import Tensor

from lib.core import draws
from lib.evaluation.correlation import correlation, ranks
from lib.evaluation.maps import magnitude, maps_by_label, signed
from lib.networks.randomize import randomized, weighted_layers

MEASURES = ("absolute", "signed", "ssim", "hog")
CELLS = 14  # of HOG along each side: of 16 pixels where the side is 224


def randomization(classifier, photos, pixels: Tensor, parameters: Mapping) -> pd.DataFrame:
    """Protocol for :mod:`lib.rows`: how alike maps are before and after a change.

    ``parameters``:

        methods: as in :func:`lib.evaluation.maps.maps_by_label`.
        ranges: [start, stop) of layers with weights, counted from the last one, that are drawn
            anew, the rest untouched: from 0 it is cascading randomization.
        draw: of :func:`lib.networks.randomize.randomized`; default ``shuffle``.
        controls: of ``class`` (any other class is explained), ``step`` (the photo is moved by
            normal noise of 0.01) and ``chance`` (a random map takes the map's place).
        seed: of weights and of what methods draw: the same before and after.

    One row per image x method x change: ``change`` is ``layers`` or a control, ``start`` and
    ``stop`` its range (0 for a control); columns :data:`MEASURES`. Raises ``ValueError`` for a
    range that the network has not and an unknown control.
    """
    chosen, seed = parameters["methods"], parameters["seed"]
    explain = partial(maps_by_label, methods=chosen, seed=seed)
    before = {m: views(a) for m, a in explain(classifier, pixels, photos.targets).items()}
    frames = []
    for change, start, stop, after in _changed(classifier, photos, pixels, parameters, explain):
        for method in chosen:
            about = {"image": range(len(pixels)), "method": method, "change": change}
            found = similarity(before[method], views(after[method]))
            frames.append(pd.DataFrame({**about, "start": start, "stop": stop, **found}))
    return pd.concat(frames, ignore_index=True)


def _changed(
    classifier, photos, pixels: Tensor, parameters: Mapping, explain
) -> Iterator[tuple[str, int, int, Mapping[str, Tensor]]]:
    seed, keys = parameters["seed"], [(key, 1) for key in draws.image_keys(pixels)]
    names = weighted_layers(classifier)[::-1]
    for start, stop in parameters.get("ranges", ()):
        if not 0 <= start <= stop <= len(names):
            raise ValueError(f"range [{start}, {stop}) does not lie in {len(names)} layers")
        broken = randomized(classifier, names[start:stop], seed, parameters.get("draw", "shuffle"))
        yield "layers", start, stop, explain(broken, pixels, photos.targets)
    for control in parameters.get("controls", ()):
        if control == "class":
            with torch.no_grad():
                classes = classifier(pixels[:1]).shape[1]
            further = 1 + (draws.uniform(seed, keys, ()) * (classes - 1)).long()
            after = explain(classifier, pixels, (photos.targets + further) % classes)
        elif control == "step":
            moved = pixels + 0.01 * draws.normal(seed, keys, pixels.shape[1:]).to(pixels)
            after = explain(classifier, moved, photos.targets)
        elif control == "chance":
            noise = draws.uniform(seed, keys, (1, *pixels.shape[2:])) - 0.5
            after = dict.fromkeys(parameters["methods"], noise)
        else:
            raise ValueError(f"control {control!r} is unknown; choose of: class, step, chance")
        yield control, 0, 0, after


def views(attribution: Float[Tensor, "n c h w"]) -> dict[str, np.ndarray]:
    """What :func:`similarity` compares of maps: made once for a map that is compared often.

    Ranks of magnitudes and of signed values, and HOG; ``ssim`` is the signed map over the 99th
    percentile of its size, within [-1, 1].
    """
    values = {"absolute": magnitude(attribution), "signed": signed(attribution)}
    flat = {name: maps.flatten(1).cpu().numpy() for name, maps in values.items()}
    made = {name: ranks(maps) for name, maps in flat.items()}
    maps = values["signed"].cpu().numpy()
    size = np.percentile(np.abs(maps), 99, axis=(1, 2), keepdims=True)
    made["ssim"] = np.clip(maps / np.where(size > 0, size, 1), -1, 1).astype(float)
    cell = {"pixels_per_cell": [max(side // CELLS, 1) for side in maps.shape[1:]]}
    made["hog"] = np.stack([hog(picture, **cell) for picture in made["ssim"]])
    return made


def similarity(
    one: Mapping[str, np.ndarray], other: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """The four measures of two sets of maps, map by map, from their :func:`views`.

    ``absolute`` and ``signed``: Spearman's rank correlation, pixel by pixel; ``ssim``: structural
    similarity in windows of 7 pixels (Wang et al. 2004); ``hog``: Pearson's correlation of
    histograms of oriented gradients. 1 for the same maps. A map that is constant ranks nothing,
    and is like none: its correlations are 0.
    """
    flat = {name: np.stack([one[name], other[name]]) for name in ("absolute", "signed", "hog")}
    found = {name: correlation(np.moveaxis(both, 0, -1), axis=1) for name, both in flat.items()}
    pairs = zip(one["ssim"], other["ssim"], strict=True)
    alike = [structural_similarity(a, b, data_range=2.0) for a, b in pairs]
    return {name: found.get(name, np.array(alike)) for name in MEASURES}
