r"""How grainy is a map? Its total variation (Rudin, Osher, Fatemi 1992), free of scale."""

from jaxtyping import Float
from torch import Tensor

from lib.evaluation.maps import check_maps, check_present


def total_variation(maps: Float[Tensor, "n h w"], *, empty: str = "raise") -> Float[Tensor, " n"]:
    r"""$\dfrac{\sum_{ij} |m_{i+1,j}-m_{ij}| + |m_{i,j+1}-m_{ij}|}{2\sum_{ij}|m_{ij}|}$.

    Between 0 (constant) and 2 (isolated pixels, a chessboard of ones and zeros); independent
    uniform values in [0, 1) give 2/3. Multiplying a map by a number changes nothing, so that maps
    of different methods compare; adding a constant does. The measure depends on the resolution:
    compare maps of one size.

    Raises ``ValueError`` for NaN and, unless ``empty`` is ``"nan"``, for a map of zeros.
    """
    check_maps(maps)
    m = maps.double()
    size = m.abs().sum((1, 2))
    check_present(size > 0, empty, "value other than zero")
    down, across = m.diff(dim=1).abs().sum((1, 2)), m.diff(dim=2).abs().sum((1, 2))
    return ((down + across) / (2 * size)).to(maps.dtype)
