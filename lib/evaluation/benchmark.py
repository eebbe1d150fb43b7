"""Many measures of the same maps, which are made once: what report 17 ranks methods by."""

from collections.abc import Iterator, Mapping
from itertools import product

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from lib.evaluation.boxes import inside_boxes
from lib.evaluation.correlation import rank_correlation
from lib.evaluation.infidelity import infidelity, max_sensitivity, score_changes, squares
from lib.evaluation.insertion_deletion import insertion_deletion_curves
from lib.evaluation.localization import energy_in_box, pointing_game
from lib.evaluation.maps import magnitude, maps_by_label, signed
from lib.evaluation.masking import METRICS, masking_curves, masking_metrics
from lib.evaluation.removal import ORDERS, areas, removal_curves

Values = Iterator[tuple[str, str, Tensor | np.ndarray]]  # method, measure, one number per image


def benchmark(classifier, photos, pixels: Tensor, parameters: Mapping) -> pd.DataFrame:
    """Protocol for :mod:`lib.rows`: every measure of every method on the same photos.

    ``parameters``:

        methods: by label (:func:`lib.evaluation.maps.maps_by_label`), each on its own: none that
            is ``times_input`` of another.
        magnitude: those of them that are sensitivities: ranked by magnitude, and times the pixels
            where a contribution is asked. The others are contributions, signed.
        drawn: those of them that draw random numbers.
        fills, fractions: of the removal curves; the fractions above 0 are those of masking, too.
        deletion_steps: of insertion and deletion.
        squares: removed for the infidelity.
        radius, steps: of max-sensitivity.
        seed

    One row per image x method x measure, with its ``value``: ``morf`` and ``lerf`` with each fill,
    ``deletion`` and ``insertion`` (areas under the probability), ``KPM`` to ``RAM``, ``pointing``
    and ``energy`` (images with a box), ``infidelity``, ``max-sensitivity``, and ``redrawn``, the
    rank correlation with the map of another seed, 1 for a method that draws nothing. Where a map is
    zero everywhere the last two, ``pointing`` and ``energy`` are NaN.
    """
    seed, drawn = parameters["seed"], parameters["drawn"]
    methods = parameters["methods"]

    def explain(images: Tensor, chosen: Mapping) -> dict[str, Tensor]:
        return maps_by_label(classifier, images, photos.targets, chosen, seed=seed)

    def values(map_: Tensor, label: str) -> Tensor:
        return (magnitude if label in parameters["magnitude"] else signed)(map_).cpu()

    maps = explain(pixels, methods)
    ranked = {m: values(map_, m) for m, map_ in maps.items()}
    given = (classifier, pixels, photos.targets)
    found = [*_removed(given, ranked, parameters), *_masked(given, maps, parameters)]
    found += _foretold(given, maps, parameters)
    others = {m: {**methods[m], "seed": methods[m].get("seed", seed) + 1} for m in drawn}
    again = explain(pixels, others)
    shaken = {name: parameters[name] for name in ("radius", "steps", "seed")}
    for m, map_ in maps.items():

        def alone(images: Tensor, m=m) -> Tensor:
            return explain(images, {m: methods[m]})[m]

        moved = max_sensitivity(alone, pixels, maps=map_, empty="nan", **shaken)
        found.append((m, "max-sensitivity", moved))
        same = np.ones(len(pixels))
        if m in drawn:
            pair = torch.stack([ranked[m], values(again[m], m)], -1).flatten(1, 2)
            same = rank_correlation(pair.numpy(), axis=1)
        found.append((m, "redrawn", np.where(map_.flatten(1).any(1).cpu(), same, np.nan)))
    inside = inside_boxes(photos.instances, *pixels.shape[2:])
    boxed = inside.flatten(1).any(1)
    for m, map_ in ranked.items() if boxed.any() else ():
        for name, share in (("pointing", pointing_game), ("energy", _energy)):
            value = torch.full((len(pixels),), torch.nan)
            value[boxed] = share(map_[boxed], inside[boxed], empty="nan")
            found.append((m, name, value))
    frames = [
        pd.DataFrame({"image": range(len(pixels)), "method": m, "measure": name, "value": value})
        for m, name, value in ((m, name, np.asarray(value, float)) for m, name, value in found)
    ]
    return pd.concat(frames, ignore_index=True)


def _energy(maps: Tensor, inside: Tensor, empty: str) -> Tensor:
    return energy_in_box(maps, inside, mass="positive", empty=empty)


def _removed(given: tuple, ranked: dict[str, Tensor], parameters: Mapping) -> Values:
    """Areas under the removal curves, under deletion and under insertion."""
    seed, by = parameters["seed"], ["method", "image"]
    for order, fill in product(ORDERS, parameters["fills"]):
        options = {"order": order, "fill": fill, "fractions": parameters["fractions"], "seed": seed}
        area = areas(removal_curves(*given, ranked, **options), "probability", by)
        yield from _by_method(area, "area", f"{order} {fill}")
    steps = parameters["deletion_steps"]
    curves = insertion_deletion_curves(*given, ranked, steps=steps, seed=seed)
    for name, curve in curves.groupby("curve"):
        yield from _by_method(areas(curve, "probability", by), "area", str(name))


def _masked(given: tuple, maps: dict[str, Tensor], parameters: Mapping) -> Values:
    options = {"fractions": [f for f in parameters["fractions"] if f], "seed": parameters["seed"]}
    curves = [
        masking_curves(*given, signed(map_), **options).assign(method=m) for m, map_ in maps.items()
    ]
    metrics = masking_metrics(pd.concat(curves), ["method", "image"])
    for name in METRICS:
        yield from _by_method(metrics, name, name)


def _foretold(given: tuple, maps: dict[str, Tensor], parameters: Mapping) -> Values:
    pixels = given[1]
    removed = squares(pixels, parameters["squares"], parameters["seed"])
    changes = score_changes(*given, removed)
    for m, map_ in maps.items():
        told = map_ * pixels.to(map_) if m in parameters["magnitude"] else map_
        yield m, "infidelity", infidelity(signed(told).cpu(), removed, changes)


def _by_method(frame: pd.DataFrame, column: str, measure: str) -> Values:
    for m, part in frame.groupby("method", sort=False):
        yield str(m), measure, part.sort_values("image")[column].to_numpy()
