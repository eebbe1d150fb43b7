r"""Expected Gradients: Integrated Gradients averaged over reference images, one point of each path.

Erion, Janizek, Sturmfels, Lundberg, Lee, *Improving performance of deep learning models with
axiomatic attribution priors and expected gradients*, Nature Machine Intelligence 2021, section 3.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lib import copies
from lib.core import draws

GRAY_LEVELS = 16  # of the default references


def expected_gradients(
    classifier,
    images: Float[Tensor, "n c h w"],
    targets: Int[Tensor, " n"],
    *,
    references: Float[Tensor, "r c h w"] | None = None,
    samples: int = 100,
    seed: int = 0,
    batch_size: int | None = None,
) -> Float[Tensor, "n c h w"]:
    r"""$A_i=\frac1n\sum_k(x_i-x'_{k,i})\,\partial_iS_c\big(x'_k+\alpha_k(x-x'_k)\big)$, in logits.

    $x'_k$ is drawn from ``references`` for each (image, draw), without replacement until all have
    been used; $\alpha_k\sim U(0,1)$, one per (image, draw). The paper takes one draw while
    training and 100 to 200 (``samples``) to explain. References should be training images, not
    the ones explained. ``None`` stands for 16 uniform gray images from black to white: a
    distribution that needs no data and knows none. In expectation
    $\sum_i A_i=S_c(x)-\mathbb E_{x'}S_c(x')$.

    Raises ``ValueError`` for samples < 1, and for references that are empty or do not fit.
    """
    engine = copies.Engine(classifier, images, targets, batch_size, "expected gradients")
    pixels = engine.pixels
    if samples < 1:
        raise ValueError(f"samples must be at least 1, not {samples}")
    if references is None:
        references = gray_images(pixels)
    _check_references(references, pixels)
    chosen, alphas = drawn(images, len(references), samples, seed)
    alphas = alphas.to(pixels)

    def reference(row: Tensor, draw: Tensor) -> Tensor:
        return references[chosen[row, draw].to(references.device)].to(pixels)

    def path(row: Tensor, draw: Tensor) -> Tensor:
        return pixels[row] - reference(row, draw)

    def on_path(row: Tensor, draw: Tensor) -> Tensor:
        return reference(row, draw) + alphas[row, draw].view(-1, 1, 1, 1) * path(row, draw)

    weights = torch.full((samples,), 1 / samples, dtype=pixels.dtype)
    return engine.mean_gradient(on_path, weights, times=path).to(images.device)


def drawn(
    images: Float[Tensor, "n c h w"], references: int, samples: int, seed: int = 0
) -> tuple[Int[Tensor, "n samples"], Float[Tensor, "n samples"]]:
    """Which reference and which alpha each (image, draw) takes, keyed by the image's pixels.

    A draw is the same however many follow it, and the same in any batch.
    """
    rounds = -(-samples // references)
    chosen, alphas = [], []
    for key in draws.image_keys(images):
        orders = [draws.permutation(seed, (key, r), references) for r in range(rounds)]
        chosen.append(torch.cat(orders)[:samples])
        alphas.append(draws.uniform(seed, [(key, -1)], (samples,))[0])
    return torch.stack(chosen), torch.stack(alphas)


def gray_images(images: Float[Tensor, "n c h w"]) -> Float[Tensor, "16 c h w"]:
    """Uniform gray images from black to white, of the images' shape, without taking memory."""
    levels = torch.linspace(0, 1, GRAY_LEVELS, dtype=images.dtype).view(-1, 1, 1, 1)
    return levels.to(images.device).expand(-1, *images.shape[1:])


def _check_references(references, pixels: Tensor) -> None:
    if not isinstance(references, Tensor) or not references.is_floating_point():
        raise ValueError("references must be a float tensor (R, C, H, W) in [0, 1]")
    if references.ndim != 4 or len(references) == 0:
        raise ValueError(
            f"references must hold at least one image (R, C, H, W), not {tuple(references.shape)}"
        )
    if references.shape[1:] != pixels.shape[1:]:
        raise ValueError(
            f"references {tuple(references.shape)} do not fit the images {tuple(pixels.shape)}"
        )
    if not torch.isfinite(references).all():
        raise ValueError("references hold NaN or infinite values")
