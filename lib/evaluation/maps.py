"""From an attribution to one number per pixel."""

from jaxtyping import Float
from torch import Tensor


def signed(attribution: Float[Tensor, "n c h w"]) -> Float[Tensor, "n h w"]:
    """The sum over color channels: evidence for minus evidence against."""
    return attribution.sum(1)


def magnitude(attribution: Float[Tensor, "n c h w"]) -> Float[Tensor, "n h w"]:
    """The sum of absolute values over color channels: how much a pixel matters, either way.

    SmoothGrad's rule for photographs, where the sign of a gradient depends on the context.
    """
    return attribution.abs().sum(1)


REDUCTIONS = {"signed": signed, "magnitude": magnitude}
