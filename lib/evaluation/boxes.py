"""Boxes (x0, y0, x1, y1): as masks, and their size."""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Real
from torch import Tensor


def inside_boxes(
    instances: Sequence[Float[Tensor, "_ 4"]], height: int, width: int
) -> Bool[Tensor, "n h w"]:
    """True where a pixel's center lies in one of its image's boxes (x0, y0, x1, y1).

    Coordinates are continuous: pixel (row, column) covers [column, column + 1) x [row, row + 1).
    An image without boxes is False everywhere.
    """
    y = torch.arange(height).view(-1, 1) + 0.5
    x = torch.arange(width).view(1, -1) + 0.5
    masks = torch.zeros(len(instances), height, width, dtype=torch.bool)
    for mask, boxes in zip(masks, instances, strict=True):
        for x0, y0, x1, y1 in boxes.tolist():
            mask |= (x >= x0) & (x < x1) & (y >= y0) & (y < y1)
    return masks


def box_areas(boxes: Real[Tensor, "... 4"]) -> Real[Tensor, "..."]:
    """Width times height of each box; NaN of one that is."""
    return (boxes[..., 2:] - boxes[..., :2]).clamp_min(0).prod(-1)
