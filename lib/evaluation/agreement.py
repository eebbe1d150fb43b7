"""How far one attribution is from another that it should equal."""

from jaxtyping import Float
from torch import Tensor


def relative_difference(
    reference: Float[Tensor, "n ..."], other: Float[Tensor, "n ..."]
) -> Float[Tensor, " n"]:
    r"""$\mathrm{mean}|r-o|\,/\,(\mathrm{mean}|r|+10^{-7})$ for each image, over its values.

    Hesse et al. 2021 (the authors' evaluation code), there over a batch instead of an image.
    """
    if reference.shape != other.shape:
        raise ValueError(f"maps {tuple(reference.shape)} and {tuple(other.shape)} do not match")
    difference = (reference - other).abs().flatten(1).mean(1)
    return difference / (reference.abs().flatten(1).mean(1) + 1e-7)
