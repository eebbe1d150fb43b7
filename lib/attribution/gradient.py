r"""The gradient of the class score, and the gradient times the input.

Simonyan, Vedaldi, Zisserman, *Deep inside convolutional networks*, 2013 (the gradient);
Shrikumar et al., *Not just a black box*, 2016 (input x gradient).
"""

from jaxtyping import Float, Int
from torch import Tensor

from lib import copies


def gradient(
    classifier,
    images: Float[Tensor, "n c h w"],
    targets: Int[Tensor, " n"],
    *,
    batch_size: int | None = None,
) -> Float[Tensor, "n c h w"]:
    r"""$A = \partial S_c/\partial x$ with $S_c$ the logit of the target: logits per pixel unit."""
    engine = copies.Engine(classifier, images, targets, batch_size, "gradient")
    return engine.single_pass(engine.gradient).to(images.device)


def input_x_gradient(
    classifier,
    images: Float[Tensor, "n c h w"],
    targets: Int[Tensor, " n"],
    *,
    batch_size: int | None = None,
) -> Float[Tensor, "n c h w"]:
    r"""$A_i = x_i\,\partial S_c/\partial x_i$, with $x$ in pixels, so that black is the origin."""
    return gradient(classifier, images, targets, batch_size=batch_size) * images.detach()
