r"""Occlusion: cover a window, slide it, and watch the score fall.

Zeiler, Fergus, *Visualizing and understanding convolutional networks*, ECCV 2014.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import conv_transpose2d

from lib import copies
from lib.copies.baselines import resolve_baseline


def occlusion(
    classifier,
    images: Float[Tensor, "n c h w"],
    targets: Int[Tensor, " n"],
    *,
    window: int | tuple[int, int] = 32,
    stride: int | tuple[int, int] = 16,
    baseline: str | float | Tensor = "black",
    score: str = "logit",
    batch_size: int | None = None,
) -> Float[Tensor, "n 1 h w"]:
    r"""$A(\lambda)=\frac1{|W_\lambda|}\sum_{w\in W_\lambda}\big(S_c(x)-S_c(x_{\setminus w})\big)$,
    with $W_\lambda$ the windows that cover pixel $\lambda$ and $x_{\setminus w}$ the image with
    window w replaced by ``baseline``: the mean fall of the score, in its units.

    ``window`` and ``stride`` are pixels, one number or (height, width). Windows start at
    multiples of the stride until the image is covered; the last ones are cut at its border. Each
    pixel is divided by the number of windows that cover it. ``score`` is ``logit`` or
    ``probability``. One score per window and one of the image itself.

    Raises ``ValueError`` for a window or stride below 1, a stride larger than the window (pixels
    would be left out), and for scores that are not finite.
    """
    engine = copies.Engine(classifier, images, targets, batch_size, "occlusion")
    pixels, size = engine.pixels, images.shape[2:]
    windows, steps = _pair(window, "window"), _pair(stride, "stride")
    if steps[0] > windows[0] or steps[1] > windows[1]:
        raise ValueError(f"stride {stride} is larger than window {window}: pixels are left out")
    sides = min(windows[0], size[0]), min(windows[1], size[1])
    tops, lefts = (range(0, size[k] - sides[k] + steps[k], steps[k]) for k in (0, 1))
    corners = [(y, x) for y in tops for x in lefts]
    replacement = resolve_baseline(baseline, images.detach()).to(pixels)

    def occluded(row: Tensor, draw: Tensor) -> Tensor:
        copied = pixels[row]
        for copy, i, k in zip(copied, row.tolist(), draw.tolist(), strict=True):
            if k > 0:  # copy 0 is the image itself
                y, x = corners[k - 1]
                covered = slice(None), slice(y, y + sides[0]), slice(x, x + sides[1])
                copy[covered] = replacement[i][covered]
        return copied

    scores = engine.scores(occluded, 1 + len(corners), score)
    falls = (scores[:, :1] - scores[:, 1:]).view(-1, 1, len(tops), len(lefts))
    covering = torch.ones(1, 1, *sides).to(falls)
    total = conv_transpose2d(falls, covering, stride=steps)
    coverage = conv_transpose2d(torch.ones_like(falls[:1]), covering, stride=steps)
    return (total / coverage)[..., : size[0], : size[1]].to(images.device)


def _pair(value: int | tuple[int, int], name: str) -> tuple[int, int]:
    pair = value if isinstance(value, tuple | list) else (value, value)
    if len(pair) != 2 or not all(isinstance(v, int) and v >= 1 for v in pair):
        raise ValueError(f"{name} must be one or two whole numbers from 1, not {value}")
    return pair[0], pair[1]
