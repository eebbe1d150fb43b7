"""ROAD's linear imputation against its own equations and a direct sparse solver."""

import numpy as np
import pytest
import scipy.sparse
import scipy.sparse.linalg
import torch

from lib.copies.fills import FILLS, ROAD_NOISE
from lib.copies.imputation import linear_imputation

SHIFTS = [(dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1) if dy or dx]


def weight(dy: int, dx: int, diagonal: float = 1 / 12) -> float:
    return diagonal if dy and dx else 1 / 6


def neighbors_mean(image: torch.Tensor, diagonal: float = 1 / 12) -> torch.Tensor:
    """The weighted mean of each pixel's neighbors, written pixel by pixel: (C, H, W)."""
    c, h, w = image.shape
    total, norm = torch.zeros(c, h, w, dtype=image.dtype), torch.zeros(h, w, dtype=image.dtype)
    for dy, dx in SHIFTS:
        to = slice(max(0, -dy), h - max(0, dy)), slice(max(0, -dx), w - max(0, dx))
        source = slice(max(0, dy), h - max(0, -dy)), slice(max(0, dx), w - max(0, -dx))
        total[:, *to] += weight(dy, dx, diagonal) * image[:, *source]
        norm[to] += weight(dy, dx, diagonal)
    return total / norm


def direct(image: torch.Tensor, removed: torch.Tensor) -> torch.Tensor:
    """The same system assembled as a sparse matrix and factorized."""
    (c, h, w), known, hole = image.shape, image.numpy(), removed.numpy()
    number = np.where(hole, np.cumsum(hole).reshape(h, w) - 1, -1)
    rows, columns, values, right = [], [], [], np.zeros((hole.sum(), c))
    for y, x in zip(*np.nonzero(hole), strict=True):
        i, norm = number[y, x], 0.0
        for dy, dx in SHIFTS:
            if 0 <= y + dy < h and 0 <= x + dx < w:
                norm += weight(dy, dx)
                if hole[y + dy, x + dx]:
                    rows.append(i), columns.append(number[y + dy, x + dx])
                    values.append(-weight(dy, dx))
                else:
                    right[i] += weight(dy, dx) * known[:, y + dy, x + dx]
        rows.append(i), columns.append(i), values.append(norm)
    matrix = scipy.sparse.csc_matrix((values, (rows, columns)))
    solved = known.copy()
    solved[:, hole] = scipy.sparse.linalg.spsolve(matrix, right).reshape(-1, c).T
    return torch.from_numpy(solved)


def masks(h: int, w: int) -> dict[str, torch.Tensor]:
    random = torch.Generator().manual_seed(0)
    chance = torch.rand(h, w, generator=random)
    hole = torch.zeros(h, w, dtype=torch.bool)
    hole[3:-2, 2:-4] = True
    corner = torch.zeros(h, w, dtype=torch.bool)
    corner[: h // 2, : w // 2] = True
    one_left = torch.ones(h, w, dtype=torch.bool)
    one_left[h // 3, w // 2] = False
    half = torch.zeros(h, w, dtype=torch.bool)
    half[:, w // 3 :] = True
    return {
        "few": chance < 0.1,
        "half": chance < 0.5,
        "most": chance < 0.97,
        "hole": hole,
        "corner": corner,
        "side": half,
        "one left": one_left,
        "none": torch.zeros(h, w, dtype=torch.bool),
    }


def pictures(n: int, h: int, w: int, dtype=torch.float64) -> torch.Tensor:
    random = torch.Generator().manual_seed(1)
    return torch.rand(n, 3, h, w, generator=random, dtype=torch.float64).to(dtype)


@pytest.mark.parametrize(("h", "w"), [(32, 32), (37, 22), (5, 61), (1, 9), (2, 2)])
def test_equations_and_direct_solution(h, w):
    image = pictures(1, h, w)[0]
    for name, removed in masks(h, w).items():
        if removed.all():
            continue
        imputed = linear_imputation(image[None], removed[None], tolerance=1e-9)[0]
        assert torch.equal(imputed[:, ~removed], image[:, ~removed]), name
        if removed.any():
            error = (imputed - neighbors_mean(imputed))[:, removed].abs().max()
            assert error < 1e-6, name
            assert torch.allclose(imputed, direct(image, removed), atol=1e-6), name
        assert imputed.min() >= image.min() - 1e-6 and imputed.max() <= image.max() + 1e-6


def test_wrong_weights_would_be_seen():
    image, removed = pictures(1, 20, 24)[0], masks(20, 24)["half"]
    imputed = linear_imputation(image[None], removed[None], tolerance=1e-9)[0]
    assert (imputed - neighbors_mean(imputed, diagonal=1 / 6))[:, removed].abs().max() > 1e-3
    shifted = imputed + 1e-4 * removed * torch.rand(20, 24)
    assert (shifted - neighbors_mean(shifted))[:, removed].abs().max() > 1e-6


def test_at_full_size_in_float32():
    """As removal curves use it: the error, largest far inside a hole, is below ROAD's noise."""
    image = pictures(1, 28, 28)
    image = torch.nn.functional.interpolate(image, scale_factor=4, mode="bicubic").clamp(0, 1)
    for name, removed in masks(112, 112).items():
        if name in ("most", "hole", "side"):
            fast = linear_imputation(image.float(), removed[None])[0]
            residual = (fast - neighbors_mean(fast))[:, removed].abs().max()
            assert residual < 1.1e-4, name
            exact = direct(image[0], removed)
            assert (fast - exact).abs().max() < ROAD_NOISE, name


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_constant_image_stays_constant(dtype):
    gray = torch.full((1, 3, 19, 31), 0.37, dtype=dtype)
    for name, removed in masks(19, 31).items():
        assert torch.allclose(linear_imputation(gray, removed[None]), gray, atol=2e-4), name
        tight = linear_imputation(gray.double(), removed[None], tolerance=1e-10)
        assert torch.allclose(tight, gray.double(), atol=1e-8), name


def test_an_image_removed_whole_becomes_its_mean_color():
    images = pictures(2, 9, 13)
    removed = torch.ones(2, 9, 13, dtype=torch.bool)
    removed[1, 4, 4] = False
    imputed = linear_imputation(images, removed, tolerance=1e-10)
    assert torch.allclose(imputed[0], images[0].mean((1, 2), keepdim=True).expand(3, 9, 13))
    # one kept pixel spreads everywhere
    assert torch.allclose(imputed[1], images[1, :, 4, 4].view(3, 1, 1).expand(3, 9, 13), atol=1e-6)


def test_images_do_not_depend_on_their_batch():
    images = pictures(8, 24, 30, torch.float32)
    images[3] = 0.5  # solved at once, beside images that take long
    removed = torch.stack(list(masks(24, 30).values()))
    removed[5] = True
    before = images.clone(), removed.clone()
    together = linear_imputation(images, removed)
    assert torch.equal(images, before[0]) and torch.equal(removed, before[1])
    for i in range(8):
        alone = linear_imputation(images[i : i + 1], removed[i : i + 1])
        assert torch.allclose(together[i], alone[0], atol=1e-5), i
    channels = linear_imputation(images[:, :1], removed)
    assert torch.allclose(channels[:, 0], together[:, 0], atol=2e-3)


def test_too_few_iterations_are_an_error():
    images, removed = pictures(1, 24, 30), masks(24, 30)["hole"][None]
    with pytest.raises(ArithmeticError, match="residual above 1e-09 after 2 steps"):
        linear_imputation(images, removed, tolerance=1e-9, max_iterations=2)


def test_road_adds_its_noise_to_removed_pixels_only():
    image, removed = torch.full((1, 3, 64, 64), 0.5), torch.zeros(1, 64, 64, dtype=torch.bool)
    removed[:, 10:50] = True
    filled = FILLS["road"](image, removed, [(1, 2)])
    assert torch.equal(filled[0, :, ~removed[0]], image[0, :, ~removed[0]])
    noise = filled[0, :, removed[0]] - 0.5
    count = noise.numel()
    assert abs(noise.mean()) < 4 * ROAD_NOISE / count**0.5
    assert abs(noise.std() / ROAD_NOISE - 1) < 4 / (2 * count) ** 0.5
    assert torch.equal(filled, FILLS["road"](image, removed, [(1, 2)]))
    assert not torch.equal(filled, FILLS["road"](image, removed, [(1, 3)]))
