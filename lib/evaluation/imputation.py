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
    the removed pixels: symmetric and positive definite, solved for all images at once by
    conjugate gradients. The preconditioner sums corrections over a pyramid of resolutions
    (Bramble, Pasciak, Xu 1990), so that large holes need few more iterations than scattered
    pixels. ``tolerance`` bounds every pixel's residual in [0, 1] pixel units; the default is a
    hundredth of the noise that ROAD adds.

    An image without a single kept pixel becomes its own mean color: nothing is left to impute
    from. Raises ``ArithmeticError`` when ``max_iterations`` are not enough.
    """
    n, c, h, w = images.shape
    hole = removed.to(images.device).view(n, 1, h, w).to(images.dtype)
    mean = images.mean((2, 3), keepdim=True)
    empty = hole.mean((1, 2, 3)) == 1
    known = images * (1 - hole)
    degree = _neighbor_sum(torch.ones_like(hole))
    right = hole * _neighbor_sum(known)
    scale = _pyramid_scales(hole, degree)

    def apply(x: Tensor) -> Tensor:
        return hole * (degree * x - _neighbor_sum(x))

    x = hole * mean
    residual = right - apply(x)
    residual[empty] = 0
    direction = z = _precondition(residual, hole, scale)
    rho = _dot(residual, z)
    for _ in range(max_iterations):
        if (residual / degree).abs().max() <= tolerance:
            return known + x
        image = apply(direction)
        step = rho / _dot(direction, image).clamp_min(1e-30)
        x = x + step * direction
        residual = residual - step * image
        z = _precondition(residual, hole, scale)
        rho, previous = _dot(residual, z), rho
        direction = z + (rho / previous.clamp_min(1e-30)) * direction
    raise ArithmeticError(f"imputation: residual above {tolerance} after {max_iterations} steps")


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).sum((2, 3), keepdim=True)


def _neighbor_sum(x: Tensor) -> Tensor:
    """The weighted sum over the eight neighbors; none beyond the border."""
    rows = pad(x, (1, 1))
    across = rows[..., :-2] + rows[..., 2:]
    outer = pad(DIAGONAL * across + DIRECT * x, (0, 0, 1, 1))
    return DIRECT * across + outer[..., :-2, :] + outer[..., 2:, :]


def _pyramid_scales(hole: Tensor, degree: Tensor) -> list[Tensor]:
    """A correction's weight at each resolution, in cells of which most pixels are removed.

    A cell of side $2^l$ is tied to its surroundings by a number of neighbors that grows like its
    perimeter: its diagonal entry grows, and its weight falls, by a factor of 2 per level.
    """
    scales = [hole / degree]
    share = hole
    while min(share.shape[2:]) > 2:
        share = avg_pool2d(share, 2, ceil_mode=True, count_include_pad=False)
        scales.append((share >= 0.75).to(hole.dtype) * 0.5 ** len(scales))
    return scales


def _precondition(residual: Tensor, hole: Tensor, scale: list[Tensor]) -> Tensor:
    """The sum over resolutions of (restrict, scale, prolong): symmetric, so that CG converges."""
    sums = [residual]
    for _ in scale[1:]:
        sums.append(avg_pool2d(sums[-1], 2, ceil_mode=True, divisor_override=1))
    total = torch.zeros_like(sums[-1])
    for level, coarse in zip(reversed(scale), reversed(sums), strict=True):
        total = interpolate(total, scale_factor=2.0, mode="nearest")
        h, w = coarse.shape[2:]
        total = total[..., :h, :w] + level * coarse
    return hole * total
