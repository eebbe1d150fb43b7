"""A spurious cue, planted: a white square that goes with a class in training and means nothing.

The setting of the Grad-CAM paper's bias experiment (Selvaraju et al., ICCV 2017, section 6.3), in
which 78 % of the training doctors were men and 93 % of the nurses women.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from lib.core import draws

CORNER, SIDE = (1, 1), 4  # top left pixel (row, column) and side of the square


def plant_cue(
    images: Float[Tensor, "n c h w"],
    labels: Int[Tensor, " n"],
    shares: Sequence[float],
    *,
    seed: int = 0,
) -> tuple[Float[Tensor, "n c h w"], Bool[Tensor, " n"]]:
    """Copies with a white square in the top left corner of ``shares[c]`` of each class c.

    Exactly ``round(share * count)`` images of a class get it, drawn by ``seed``. Returns the
    copies and which of them carry the cue. Raises ``ValueError`` for shares outside [0, 1] and
    labels without a share.
    """
    fits = len(labels) and int(labels.min()) >= 0 and int(labels.max()) < len(shares)
    if not fits or not all(0 <= share <= 1 for share in shares):
        raise ValueError(f"shares must be one number in [0, 1] per class, not {list(shares)}")
    carries = torch.zeros(len(images), dtype=torch.bool)
    for c, share in enumerate(shares):
        rows = (labels == c).nonzero()[:, 0]
        order = draws.permutation(seed, (c,), len(rows))
        carries[rows[order[: round(share * len(rows))]]] = True
    planted = images.clone()
    planted[
        carries.nonzero()[:, 0], :, CORNER[0] : CORNER[0] + SIDE, CORNER[1] : CORNER[1] + SIDE
    ] = 1
    return planted, carries


def near_cue(height: int, width: int, margin: int = 0) -> Bool[Tensor, "h w"]:
    """The square grown by ``margin`` pixels, as a mask."""
    mask = torch.zeros(height, width, dtype=torch.bool)
    rows, columns = (slice(max(0, start - margin), start + SIDE + margin) for start in CORNER)
    mask[rows, columns] = True
    return mask
