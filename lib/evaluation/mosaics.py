r"""Mosaics: several photos of different classes in one image.

The classes' maps should differ, each staying in its own cell. With the positive part of a map as
its mass (:func:`lib.evaluation.localization.energy_in_box`, the cell as the object) this is the
grid pointing game of Böhle, Fritz, Schiele 2021, in the form of Rao, Böhle, Schiele 2022: the
network sees the whole grid at once. Chance is one over the number of cells.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import interpolate

from lib.core import draws
from lib.evaluation.localization import energy_in_box, pointing_game
from lib.evaluation.maps import maps_by_label, signed

_TRIES = 1000  # drawings without a new mosaic before the photos count as used up


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


def make_mosaics(
    images: Float[Tensor, "n c h w"],
    targets: Int[Tensor, " n"],
    *,
    rows: int = 1,
    columns: int = 2,
    count: int = 8,
    size: int | None = None,
    seed: int = 0,
) -> Mosaics:
    """Mosaics of photos drawn by ``seed``, classes all different within one.

    ``size`` is the side in pixels that each (square) photo is resized to; without it photos keep
    their size. No two mosaics hold the same set of photos; a larger ``count`` begins with the
    mosaics of a smaller one. ``members`` holds the photo's index for every cell.

    Raises ``ValueError`` when ``count`` different mosaics cannot be made of the classes given.
    """
    cells = rows * columns
    if min(rows, columns, count) < 1 or cells < 2:
        raise ValueError(
            f"a mosaic needs two cells or more, and a count from 1: {rows} x {columns}"
        )
    if len(targets) != len(images):
        raise ValueError(f"{len(images)} images, {len(targets)} targets")
    members = torch.tensor(_draw(targets, cells, count, seed))
    if size is not None:
        images = interpolate(images, (size, size), mode="bilinear", antialias=True).clamp(0, 1)
    return tile(images, targets, members, rows, columns)


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
    on; what does not fill a mosaic is left out. No photo is in two mosaics.
    """
    rounds: list[list[int]] = []
    seen: dict[int, int] = {}
    for photo, target in enumerate(int(target) for target in targets):
        seen[target] = seen.get(target, -1) + 1
        if seen[target] == len(rounds):
            rounds.append([])
        rounds[seen[target]].append(photo)
    return [photo for photos in rounds for photo in photos[: len(photos) // cells * cells]]


def own_cell(classifier, photos, pixels: Tensor, parameters: Mapping) -> pd.DataFrame:
    """Protocol for :mod:`lib.rows`: does each class's map lie in its own cell of a mosaic?

    ``parameters``: ``methods`` (:func:`lib.evaluation.maps.maps_by_label`), ``grid`` (rows,
    columns) and ``seed``. Each rows x columns photos in a row are one mosaic (`in_cells` puts them
    in order), so a chunk must hold whole mosaics. One row per mosaic x cell x method: ``image``
    (the photo in the cell), ``mosaic`` (its first photo's name), ``positive`` and ``absolute``,
    the share of that mass in the own cell, and ``hit`` of the peak. NaN for a map without mass.
    """
    rows, columns = parameters["grid"]
    if len(pixels) % (rows * columns):
        raise ValueError(f"{len(pixels)} photos are no whole mosaics of {rows} x {columns} cells")
    members = torch.arange(len(pixels)).view(-1, rows * columns)
    mosaics = tile(pixels, photos.targets, members, rows, columns)
    frames = []
    for cell in range(rows * columns):
        inside = mosaics.inside(cell)
        maps = maps_by_label(
            classifier,
            mosaics.pixels,
            mosaics.targets[:, cell],
            parameters["methods"],
            seed=parameters["seed"],
        )
        for label, map_ in maps.items():
            values = signed(map_).cpu()
            frame = {
                "image": members[:, cell].numpy(),
                "mosaic": np.array(photos.names, dtype=object)[members[:, 0].numpy()],
                "method": label,
                "cell": cell,
                "positive": energy_in_box(values, inside, mass="positive", empty="nan").numpy(),
                "absolute": energy_in_box(values, inside, empty="nan").numpy(),
                "hit": pointing_game(values, inside, tolerance=0, empty="nan").numpy(),
            }
            frames.append(pd.DataFrame(frame))
    return pd.concat(frames, ignore_index=True)


def _draw(targets: Tensor, cells: int, count: int, seed: int) -> list[list[int]]:
    labels, drawn, chosen = targets.tolist(), set(), []
    for attempt in range(count + _TRIES):
        members: list[int] = []
        for i in draws.permutation(seed, (attempt,), len(labels)).tolist():
            if labels[i] not in [labels[j] for j in members]:
                members.append(i)
            if len(members) == cells:
                break
        if len(members) == cells and frozenset(members) not in drawn:
            drawn.add(frozenset(members))
            chosen.append(members)
        if len(chosen) == count:
            return chosen
    raise ValueError(
        f"{len(labels)} photos of {len(set(labels))} classes do not give {count} different mosaics "
        f"of {cells} cells"
    )


def separation(
    first: Float[Tensor, "m h w"],
    second: Float[Tensor, "m h w"],
    cells: tuple[Bool[Tensor, "m h w"], Bool[Tensor, "m h w"]],
) -> Float[Tensor, " m"]:
    r"""How well the difference of two class maps tells their objects apart, from -1 to 1.

    With $d = m_1/\bar m_1 - m_2/\bar m_2$ for nonnegative maps (each divided by its mean, so that
    neither wins by its scale),
    $\big(\sum_{C_1} d - \sum_{C_2} d\big) / \sum |d|$ over the cells $C_1, C_2$ of the two objects.
    1 means that $d$ is positive all over the first cell and negative all over the second; equal
    maps give 0.

    Raises ``ValueError`` for negative values and for a map without any mass.
    """
    for m in (first, second):
        if not (m >= 0).all() or not (m.flatten(1).sum(1) > 0).all():
            raise ValueError("separation needs maps that are nonnegative and not zero everywhere")
    first, second = first.double(), second.double()
    d = first / first.mean((1, 2), keepdim=True) - second / second.mean((1, 2), keepdim=True)
    agreement = (d * cells[0]).sum((1, 2)) - (d * cells[1]).sum((1, 2))
    total = d.abs().sum((1, 2))
    different = total > 1e-6 * d[0].numel()  # below that d is rounding
    return torch.where(different, agreement / total.clamp(min=1e-30), 0.0).float()
