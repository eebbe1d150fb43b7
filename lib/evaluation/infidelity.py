r"""Infidelity and max-sensitivity: does a map foretell the score, and does it hold still?

Yeh, Hsieh, Suggala, Inouye, Ravikumar, *On the (in)fidelity and sensitivity of explanations*,
NeurIPS 2019; squares, scaling and norm as in the authors' program, of 28 pixels a side there.
Squares are removed one at a time (Quantus 0.6 leaves one open while it goes on to the next), and a
step's change is divided by the map's norm once (their program divides the running maximum again at
every step, so that the last ones count most).
"""

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from lib import copies
from lib.copies.baselines import resolve_baseline
from lib.core import draws
from lib.evaluation.maps import check_maps, check_present

SIDES = (1 / 28, 10 / 28)  # of the squares, as shares of the image's shorter side
RADIUS = 0.02  # of a step, in pixel units: Captum's default


def squares(
    images: Float[Tensor, "n c h w"], count: int, seed: int = 0
) -> Bool[Tensor, "n count h w"]:
    """``count`` squares of random size (`SIDES`) and place in each image, drawn by its pixels."""
    if count < 1:
        raise ValueError(f"the number of squares must be at least 1, not {count}")
    height, width = images.shape[2:]
    keys = [(key, k) for key in draws.image_keys(images) for k in range(count)]
    size, down, across = draws.uniform(seed, keys, (3,)).view(len(images), count, 3, 1).unbind(2)
    side = (SIDES[0] + size * (SIDES[1] - SIDES[0])) * min(height, width)
    side = side.round().clamp(min=1)
    top, left = ((u * (n - side + 1)).floor() for u, n in ((down, height), (across, width)))
    y, x = torch.arange(height), torch.arange(width)
    rows, columns = (y >= top) & (y < top + side), (x >= left) & (x < left + side)
    return rows[..., :, None] & columns[..., None, :]


def score_changes(
    classifier,
    images: Float[Tensor, "n c h w"],
    targets: Int[Tensor, " n"],
    removed: Bool[Tensor, "n count h w"],
    *,
    baseline: str | float | Tensor = "black",
    score: str = "logit",
    batch_size: int | None = None,
) -> Float[Tensor, "n count"]:
    r"""$S_c(x)-S_c(x-I)$, the fall of the score when each set of pixels takes ``baseline``.

    $I=(x-x_0)\odot m$ with $m$ the set and $x_0$ the baseline. One score per set and one of the
    image.
    """
    engine = copies.Engine(classifier, images, targets, batch_size, "infidelity")
    nothing = torch.zeros_like(removed[:, :1])
    masks = torch.cat([nothing, removed], 1).to(engine.pixels.device)
    replacement = resolve_baseline(baseline, images.detach()).to(engine.pixels)

    def without(row: Tensor, draw: Tensor) -> Tensor:
        return torch.where(masks[row, draw][:, None], replacement[row], engine.pixels[row])

    scores = engine.scores(without, masks.shape[1], score)
    return scores[:, :1] - scores[:, 1:]


def infidelity(
    maps: Float[Tensor, "n h w"],
    removed: Bool[Tensor, "n count h w"],
    changes: Float[Tensor, "n count"],
    *,
    scaled: bool = True,
) -> Float[Tensor, " n"]:
    r"""$\mathbb E_I\big(\beta\,I^\top\Phi-(S_c(x)-S_c(x-I))\big)^2$, in scores squared.

    ``maps`` hold each pixel's contribution, so that $I^\top\Phi$ is their sum over the pixels
    removed: of a sensitivity (a gradient) pass it times $x-x_0$, summed over the colors.
    ``changes`` are those of `score_changes`. ``scaled`` takes the best factor
    $\beta=\mathbb E[I^\top\Phi\,\Delta]/\mathbb E[(I^\top\Phi)^2]$ for each image, without which a
    map would win by its unit; else $\beta=1$. Raises ``ValueError`` for maps that do not fit or
    are not finite.
    """
    check_maps(maps)
    if maps.shape != (len(removed), *removed.shape[2:]) or changes.shape != removed.shape[:2]:
        raise ValueError(
            f"maps {tuple(maps.shape)}, removed {tuple(removed.shape)} and changes "
            f"{tuple(changes.shape)} do not fit"
        )
    change = changes.double()
    told = torch.einsum("nkp,np->nk", removed.flatten(2).double(), maps.flatten(1).double().cpu())
    if scaled:
        size = told.square().sum(1, keepdim=True)
        told = told * ((told * change).sum(1, keepdim=True) / size.clamp_min(1e-300))
    return (told - change).square().mean(1).float()


def max_sensitivity(
    explain: Callable[[Tensor], Tensor],
    images: Float[Tensor, "n c h w"],
    *,
    maps: Tensor | None = None,
    radius: float = RADIUS,
    steps: int = 10,
    seed: int = 0,
    empty: str = "raise",
) -> Float[Tensor, " n"]:
    r"""$\max_k \lVert\Phi(x+\delta_k)-\Phi(x)\rVert_2/\lVert\Phi(x)\rVert_2$ over ``steps`` steps.

    $\delta_k$ is uniform in $[-r,r]$ for every pixel, $r$ = ``radius`` in pixel units, drawn by
    (``seed``, image, k); the more steps, the closer to the maximum, from below. ``explain(images)``
    gives maps ``(n, c, h, w)``; ``maps`` are those of ``images``, where they are known. A method
    that draws by the image's pixels draws anew after each step: its chance counts as sensitivity.

    Raises ``ValueError`` for less than one step, a negative radius and, unless ``empty`` is
    ``"nan"``, for a map that is zero everywhere.
    """
    if steps < 1 or not 0 <= radius < float("inf"):
        raise ValueError(f"steps must be at least 1 and radius not negative: {steps}, {radius}")
    map_ = (explain(images) if maps is None else maps).flatten(1)
    keys = draws.image_keys(images)
    size = map_.norm(dim=1)
    check_present(size > 0, empty, "value other than zero")
    moved = []
    for k in range(steps):
        step = radius * (2 * draws.uniform(seed, [(key, k) for key in keys], images.shape[1:]) - 1)
        moved.append((explain(images + step.to(images)).flatten(1) - map_).norm(dim=1))
    return torch.where(size > 0, torch.stack(moved).amax(0) / size, torch.nan)
