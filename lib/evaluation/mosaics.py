r"""Mosaics: several photos of different classes in one image.

The classes' maps should differ, each staying in its own cell. With the positive part of a map as
its mass (:func:`lib.evaluation.localization.energy_in_box`, the cell as the object) this is the
grid pointing game of Böhle, Fritz, Schiele 2021, in the form of Rao, Böhle, Schiele 2022: the
network sees the whole grid at once. Chance is one over the number of cells.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import count, product

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from lib.evaluation.localization import energy_in_box, pointing_game
from lib.evaluation.maps import asked_maps, magnitude, signed


@dataclass(frozen=True, eq=False)
class Mosaics:
    """``count`` images of rows x columns cells; cells are numbered row by row."""

    pixels: Float[Tensor, "m c h w"]
    targets: Int[Tensor, "m cells"]
    members: Int[Tensor, "m cells"]
    cells: Bool[Tensor, "cells h w"]

    def __len__(self) -> int:
        return len(self.pixels)

    def inside(self, cell: int) -> Bool[Tensor, "m h w"]:
        """The cell as the object of each mosaic."""
        return self.cells[cell].expand(len(self), -1, -1)


def tile(
    images: Float[Tensor, "n c h w"],
    targets: Int[Tensor, " n"],
    members: Int[Tensor, "m cells"],
    rows: int,
    columns: int,
) -> Mosaics:
    """The mosaics of the photos whose numbers ``members`` holds, a row for each mosaic."""
    c, h, w = images.shape[1:]
    parts = images[members].view(len(members), rows, columns, c, h, w)
    pixels = parts.permute(0, 3, 1, 4, 2, 5).reshape(len(members), c, rows * h, columns * w)
    number = torch.arange(rows * columns).view(rows, columns)
    number = number.repeat_interleave(h, 0).repeat_interleave(w, 1)
    inside = number == torch.arange(rows * columns).view(-1, 1, 1)
    return Mosaics(pixels.contiguous(), targets[members], members, inside.to(images.device))


def in_cells(targets: Sequence[int], cells: int) -> list[int]:
    """An order of photos in which every ``cells`` in a row are of different classes.

    Photos are taken in their order, a class's second one after the first of all classes, and so
    on, each into the first mosaic that lacks its class; what does not fill a mosaic is left out.
    No photo is in two mosaics.
    """
    classes = [int(target) for target in targets]
    seen = defaultdict(count)
    turns = [next(seen[target]) for target in classes]
    full: list[int] = []
    waiting: list[list[int]] = []
    for photo in sorted(range(len(classes)), key=turns.__getitem__):
        found = [m for m in waiting if classes[photo] not in [classes[other] for other in m]]
        mosaic = found[0] if found else []
        if not found:
            waiting.append(mosaic)
        mosaic.append(photo)
        if len(mosaic) == cells:
            waiting.remove(mosaic)
            full += mosaic
    return full


def own_cell(classifier, photos, pixels: Tensor, parameters: Mapping) -> pd.DataFrame:
    """Protocol for :mod:`lib.rows`: does each class's map lie in its own cell of a mosaic?

    ``parameters``: ``methods`` and ``seed`` (:func:`lib.evaluation.maps.asked_maps`), and ``grid``
    (rows, columns). Each rows x columns photos in a row are one mosaic (`in_cells` puts them
    in order), so a chunk must hold whole mosaics. One row per mosaic x cell x method: ``image``
    (the photo in the cell), ``mosaic`` (its first photo's name), ``positive`` and ``absolute``,
    the share of that mass in the own cell, ``hit`` of the peak, and ``apart``, the
    :func:`right_share` of its difference from another cell's map, their mean over the others. NaN
    for a map without mass.
    """
    rows, columns = parameters["grid"]
    if len(pixels) % (rows * columns):
        raise ValueError(f"{len(pixels)} photos are no whole mosaics of {rows} x {columns} cells")
    members = torch.arange(len(pixels)).view(-1, rows * columns)
    mosaics = tile(pixels, photos.targets, members, rows, columns)
    maps = [
        asked_maps(classifier, mosaics.pixels, targets, parameters) for targets in mosaics.targets.T
    ]
    frames = []
    for cell, label in product(range(rows * columns), parameters["methods"]):
        sizes, inside = [magnitude(each[label]).cpu() for each in maps], mosaics.inside(cell)
        apart = [
            right_share(sizes[cell], sizes[other], inside, mosaics.inside(other))
            for other in range(rows * columns)
            if other != cell
        ]
        values = signed(maps[cell][label]).cpu()
        frame = {
            "image": members[:, cell].numpy(),
            "mosaic": np.array(photos.names, dtype=object)[members[:, 0].numpy()],
            "method": label,
            "cell": cell,
            "positive": energy_in_box(values, inside, mass="positive", empty="nan").numpy(),
            "absolute": energy_in_box(values, inside, empty="nan").numpy(),
            "hit": pointing_game(values, inside, tolerance=0, empty="nan").numpy(),
            "apart": torch.stack(apart).mean(0).numpy(),
        }
        frames.append(pd.DataFrame(frame))
    return pd.concat(frames, ignore_index=True)


def right_share(
    first: Float[Tensor, "m h w"],
    second: Float[Tensor, "m h w"],
    own: Bool[Tensor, "m h w"],
    other: Bool[Tensor, "m h w"],
) -> Float[Tensor, " m"]:
    r"""The share of the difference of two class maps that has the right sign in the right cell.

    With $d = m_1/\bar m_1 - m_2/\bar m_2$ for nonnegative maps (each divided by its mean, so that
    neither wins by its scale), $\big(\sum_{C_1} d^+ + \sum_{C_2} d^-\big) / \sum |d|$ over the
    cells $C_1, C_2$ of the two classes. What lies in further cells is wrong. NaN for equal maps.
    """
    first, second = (m.double() / m.double().mean((1, 2), keepdim=True) for m in (first, second))
    d = first - second
    right = (d.clamp(min=0) * own + (-d).clamp(min=0) * other).sum((1, 2))
    total = d.abs().sum((1, 2))
    different = total > 1e-6 * d[0].numel()  # below that d is rounding
    return torch.where(different, right / total, torch.nan).float()
