r"""Mosaics: several photos of different classes in one image.

The classes' maps should differ, each staying in its own cell. With the positive part of a map as
its mass (:func:`lib.evaluation.localization.energy_in_box`, the cell as the object) this is the
grid pointing game of Böhle, Fritz, Schiele 2021, in the form of Rao, Böhle, Schiele 2022: the
network sees the whole grid at once. Chance is one over the number of cells.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import interpolate

from lib.core import draws

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
    c, h, w = images.shape[1:]
    parts = images[members].view(count, rows, columns, c, h, w)
    pixels = parts.permute(0, 3, 1, 4, 2, 5).reshape(count, c, rows * h, columns * w)
    number = torch.arange(cells).view(rows, columns)
    number = number.repeat_interleave(h, 0).repeat_interleave(w, 1)
    inside = number == torch.arange(cells).view(-1, 1, 1)
    return Mosaics(pixels.contiguous(), targets[members], members, inside.to(images.device))


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
