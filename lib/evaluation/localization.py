r"""Is the map where the object is? Energy in the box, and the pointing game.

Energy: Wang et al., *Score-CAM*, 2020 (there in one box, here in the union of the boxes of all
objects of the class). Pointing game: Zhang et al., *Top-down neural attention by excitation
backprop*, 2016, with the tolerance of 15 pixels that TorchRay uses. On a mosaic, with a cell as the
object, the energy of the positive part is the grid pointing game of Böhle, Fritz, Schiele,
*Convolutional dynamic alignment networks*, 2021.
"""

from collections.abc import Mapping
from itertools import product

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float
from scipy.ndimage import distance_transform_edt
from torch import Tensor

from lib.evaluation.boxes import inside_boxes
from lib.evaluation.maps import (
    REDUCTIONS,
    asked_maps,
    check_maps,
    check_present,
    first,
    no_rows,
)

MASSES = {"absolute": torch.abs, "positive": torch.relu}  # "positive": evidence for the class
TOLERANCE = 15.0  # pixels in an image of 224 x 224


def localization(classifier, photos, pixels: Tensor, parameters: Mapping) -> pd.DataFrame:
    """Protocol for :mod:`lib.rows`: where the mass and the peak of each map lie.

    ``parameters``: ``methods`` and ``seed`` (:func:`lib.evaluation.maps.asked_maps`), and
    ``convention`` (of ``REDUCTIONS``, default signed). One row per image with a box x method x
    mass: ``energy`` inside, ``hit`` of the peak, and ``area``, the share of the image that is
    inside, which a uniform map gives. ``energy`` and ``hit`` are NaN for a map without mass.
    """
    inside = inside_boxes(photos.instances, *pixels.shape[2:])
    boxed = inside.flatten(1).any(1).nonzero()[:, 0]
    columns = ["image", "method", "mass", "energy", "hit", "area"]
    if not len(boxed):
        return no_rows(columns)
    maps = asked_maps(classifier, pixels[boxed], photos.targets[boxed], parameters)
    frames, reduce = [], REDUCTIONS[parameters.get("convention", "signed")]
    for label, mass in product(maps, MASSES):
        values = MASSES[mass](reduce(maps[label]).cpu())
        rows = {
            "image": boxed.numpy(),
            "method": label,
            "mass": mass,
            "energy": energy_in_box(values, inside[boxed], empty="nan").numpy(),
            "hit": pointing_game(values, inside[boxed], empty="nan").numpy(),
            "area": inside[boxed].float().mean((1, 2)).numpy(),
        }
        frames.append(pd.DataFrame(rows, columns=columns))
    return pd.concat(frames, ignore_index=True)


def energy_in_box(
    maps: Float[Tensor, "n h w"],
    inside: Bool[Tensor, "n h w"],
    *,
    mass: str = "absolute",
    empty: str = "raise",
) -> Float[Tensor, " n"]:
    r"""The share of a map's mass inside the object: $\sum_{p\in B} m_p / \sum_p m_p$.

    ``mass`` $m$ is ``absolute`` ($|A|$) or ``positive`` ($\max(A, 0)$).
    ``inside`` marks the object (:func:`lib.evaluation.boxes.inside_boxes`). A uniform map gives
    the object's share of the image.

    Raises ``ValueError`` for NaN, an image without an object, an unknown mass and, unless ``empty``
    is ``"nan"``, for a map without any mass.
    """
    if mass not in MASSES:
        raise ValueError(f"mass {mass!r} is unknown; choose one of: {', '.join(MASSES)}")
    inside = _check(maps, inside)
    values = MASSES[mass](maps).double()
    total = values.sum((1, 2))
    check_present(total > 0, empty, f"{mass} mass")
    return ((values * inside).sum((1, 2)) / total).to(maps.dtype)  # 0 / 0 is NaN


def pointing_game(
    maps: Float[Tensor, "n h w"],
    inside: Bool[Tensor, "n h w"],
    *,
    tolerance: float = TOLERANCE,
    empty: str = "raise",
) -> Float[Tensor, " n"]:
    """1 where the map's largest value lies on the object or within ``tolerance`` pixels of it.

    The distance is Euclidean, between the centers of the peak and of the nearest pixel inside; a
    peak at exactly ``tolerance`` hits. Several equal peaks count by the share of them that hits,
    so that a constant map scores what a random point would. The sign counts: pass a magnitude
    (:mod:`lib.evaluation.maps`) where it should not.

    Raises ``ValueError`` for NaN, an image without an object, a negative tolerance and, unless
    ``empty`` is ``"nan"``, for a map that is zero everywhere.
    """
    near = within(_check(maps, inside), tolerance)
    nonzero = (maps != 0).flatten(1).any(1)
    check_present(nonzero, empty, "value other than zero")
    peaks = maps == maps.amax((1, 2), keepdim=True)
    hits = (peaks & near).sum((1, 2)) / peaks.sum((1, 2))
    return torch.where(nonzero, hits.to(maps.dtype), torch.nan)


def within(inside: Bool[Tensor, "n h w"], tolerance: float) -> Bool[Tensor, "n h w"]:
    """The object grown by ``tolerance`` pixels; its share of the image is the chance of a hit."""
    if not 0 <= tolerance < float("inf"):
        raise ValueError(f"tolerance must be a number of pixels from 0, not {tolerance}")
    _check_objects(inside)
    distance = [distance_transform_edt(~mask) for mask in inside.cpu().numpy()]
    return torch.from_numpy(np.stack(distance) <= tolerance).to(inside.device)


def _check(maps: Tensor, inside: Tensor) -> Tensor:
    check_maps(maps)
    if maps.shape != inside.shape:
        raise ValueError(
            f"maps and inside must have one shape, not {tuple(maps.shape)} and "
            f"{tuple(inside.shape)}"
        )
    _check_objects(inside)
    return inside.to(maps.device)


def _check_objects(inside: Tensor) -> None:
    if inside.dtype != torch.bool:
        raise ValueError(f"inside must be Boolean, not {inside.dtype}")
    present = inside.flatten(1).any(1)
    if not present.all():
        raise ValueError(f"image {first(~present)} has no object: leave it out")
