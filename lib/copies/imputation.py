r"""ROAD's noisy linear imputation: fill removed pixels from their neighbors.

Rong et al., *A consistent and efficient evaluation strategy for attribution methods*, 2022. Each
removed pixel is the weighted mean of its eight neighbors (direct 1/6, diagonal 1/12, renormalized
at the border), all of them solved for jointly, plus noise.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate, pad

DIRECT, DIAGONAL = 1 / 6, 1 / 12


def linear_imputation(
    images: Float[Tensor, "b c h w"],
    removed: Bool[Tensor, "b h w"],
    *,
    tolerance: float = 1e-4,
    max_iterations: int = 500,
) -> Float[Tensor, "b c h w"]:
    r"""Solve $x_i=\sum_j w_{ij}x_j/\sum_j w_{ij}$ for every removed pixel i; keep the others.

    With $D=\mathrm{diag}(\sum_j w_{ij})$ this is the grid's graph Laplacian $(D-W)$ restricted to
    the removed pixels: symmetric and positive definite, solved by conjugate gradients. The
    preconditioner sums corrections over a pyramid of resolutions (Bramble, Pasciak, Xu 1990), so
    that large holes need few more iterations than scattered pixels. ``tolerance`` bounds every
    pixel's residual in [0, 1] pixel units. With the default, a hundredth of the noise that ROAD
    adds, the error deep inside a large hole stays below that noise.

    An image without a single kept pixel becomes its own mean color: nothing is left to impute
    from. Raises ``ArithmeticError`` when ``max_iterations`` are not enough.
    """
    solved = [
        _solve(image[:, None], hole[None, None].to(image), tolerance, max_iterations)
        for image, hole in zip(images, removed.to(images.device), strict=True)
    ]  # one image at a time: its planes fit the cache, and each stops when it is done
    return torch.stack(solved)[:, :, 0]


def _solve(
    planes: Float[Tensor, "c 1 h w"], hole: Tensor, tolerance: float, max_iterations: int
) -> Float[Tensor, "c 1 h w"]:
    if hole.all():
        return planes.mean((2, 3), keepdim=True).expand_as(planes)
    degree = _neighbor_sum(torch.ones_like(hole))
    weights = _pyramid_weights(hole, degree)
    known = planes * (1 - hole)
    x = hole * _pyramid_average(known, 1 - hole)
    residual = hole * (_neighbor_sum(known + x) - degree * x)
    direction, rho = torch.zeros_like(residual), 1.0
    for _ in range(max_iterations):
        if (residual / degree).abs().max() <= tolerance:
            return known + x
        z = _precondition(residual, hole, weights)
        rho, previous = (residual * z).sum((2, 3), keepdim=True), rho
        direction = z + direction * (rho / previous)
        image = hole * (degree * direction - _neighbor_sum(direction))
        # a channel that is solved exactly has nothing left to move along
        step = rho / (direction * image).sum((2, 3), keepdim=True).clamp_min(1e-30)
        x += step * direction
        residual -= step * image
        rho = rho.clamp_min(1e-30)
    raise ArithmeticError(f"imputation: residual above {tolerance} after {max_iterations} steps")


def _pyramid_average(known: Tensor, kept: Tensor) -> Tensor:
    """A first guess: each removed pixel takes the mean of the smallest block that kept any."""
    sums, counts = [known], [kept]
    while counts[-1].min() == 0:
        sums.append(avg_pool2d(sums[-1], 2, ceil_mode=True, divisor_override=1))
        counts.append(avg_pool2d(counts[-1], 2, ceil_mode=True, divisor_override=1))
    guess = sums[-1] / counts[-1]
    for total, count in zip(sums[-2::-1], counts[-2::-1], strict=True):
        guess = interpolate(guess, scale_factor=2.0, mode="nearest")
        guess = guess[..., : total.shape[2], : total.shape[3]]
        guess = torch.where(count > 0, total / count.clamp_min(1), guess)
    return guess


def _neighbor_sum(x: Tensor) -> Tensor:
    """The weighted sum over the eight neighbors; none beyond the border."""
    rows = pad(x, (1, 1))
    across = rows[..., :-2] + rows[..., 2:]
    outer = pad(DIAGONAL * across + DIRECT * x, (0, 0, 1, 1))
    return DIRECT * across + outer[..., :-2, :] + outer[..., 2:, :]


def _pyramid_weights(hole: Tensor, degree: Tensor) -> list[Tensor]:
    """A correction's weight at each resolution, in cells of which most pixels are removed.

    A cell of side $2^l$ is tied to its surroundings by a number of neighbors that grows like its
    perimeter: its diagonal entry grows, and its weight falls, by a factor of 2 per level.
    """
    weights = [hole / degree]
    share = hole
    while min(share.shape[2:]) > 2:
        share = avg_pool2d(share, 2, ceil_mode=True, count_include_pad=False)
        weights.append((share >= 0.75).to(hole.dtype) * 0.5 ** len(weights))
    return weights


def _precondition(residual: Tensor, hole: Tensor, weights: list[Tensor]) -> Tensor:
    """The sum over resolutions of (restrict, weigh, prolong): symmetric, so that CG converges."""
    sums = [residual]
    for _ in weights[1:]:
        sums.append(avg_pool2d(sums[-1], 2, ceil_mode=True, divisor_override=1))
    total = torch.zeros_like(sums[-1])
    for level, coarse in zip(reversed(weights), reversed(sums), strict=True):
        total = interpolate(total, scale_factor=2.0, mode="nearest")
        h, w = coarse.shape[2:]
        total = total[..., :h, :w] + level * coarse
    return hole * total
