r"""X-Gradient: the input times the gradient of a homogeneous network is Integrated Gradients.

Hesse, Schaub-Meyer, Roth, *Fast axiomatic attribution for neural networks*, NeurIPS 2021,
proposition 3.2 and definition 3.5. If $S(\alpha z)=\alpha^kS(z)$ for $\alpha>0$, then along the
line from the origin $\partial_iS(\alpha z)=\alpha^{k-1}\partial_iS(z)$, and the integral is

$$\mathrm{IG}_i = z_i\,\partial_iS(z)\int_0^1\alpha^{k-1}d\alpha = \frac1k\,z_i\,\partial_iS(z).$$
"""

from jaxtyping import Float, Int
from torch import Tensor

from lib.attribution.gradient import gradient
from lib.networks import homogeneity


def x_gradient(
    classifier,
    images: Float[Tensor, "n c h w"],
    targets: Int[Tensor, " n"],
    *,
    degree: float | None = None,
    batch_size: int | None = None,
) -> Float[Tensor, "n c h w"]:
    r"""$A_i=(x_i-m_i)\,\partial S_c/\partial x_i\,/\,k$, one gradient per image, in logits.

    x are pixels and m the mean color that the classifier subtracts: the network is homogeneous in
    $z=(x-m)/s$, and $z_i\,\partial S/\partial z_i=(x_i-m_i)\,\partial S/\partial x_i$. The result
    is Integrated Gradients with ``baseline`` m (black where m = 0), and sums to $S_c(x)$.

    ``degree`` is k. ``None`` reads it off the layers and refuses a network that has none; a number
    is taken as given, also for a network that is not homogeneous: then it is only a product.

    Raises ``NotHomogeneous`` (a ``ValueError``) naming the layers in the way, and ``ValueError``
    for a degree that is not positive.
    """
    if degree is None:
        degree = homogeneity.degree(classifier)
    elif not 0 < degree < float("inf"):
        raise ValueError(f"degree must be a positive number, not {degree}")
    origin = getattr(classifier, "mean", 0.0)
    slope = gradient(classifier, images, targets, batch_size=batch_size)  # checks the images
    moved = images.detach() - (origin.to(images) if isinstance(origin, Tensor) else origin)
    return moved * slope / degree
