"""How small is the region that holds a map's mass?"""

import torch
from jaxtyping import Float
from torch import Tensor

from lib.evaluation.maps import check_maps, check_present


def area_of_mass(
    maps: Float[Tensor, "n h w"], share: float = 0.5, *, empty: str = "raise"
) -> Float[Tensor, " n"]:
    r"""The smallest share of pixels that holds ``share`` of $\sum_u |A_u|$.

    Between 1 / (H W), all mass in one pixel, and ``share`` (rounded up to a pixel), a constant
    map. Raises ``ValueError`` for NaN, a share outside (0, 1] and, unless ``empty`` is ``"nan"``,
    for a map of zeros.
    """
    if not 0 < share <= 1:
        raise ValueError(f"share must lie in (0, 1], is {share}")
    check_maps(maps)
    mass = maps.abs().flatten(1).double().sort(1, descending=True).values.cumsum(1)
    total = mass[:, -1:]
    check_present(total[:, 0] > 0, empty, "mass")
    # a constant map's k pixels hold k / n of its mass but for the rounding of the sum
    pixels = (mass < share * total * (1 - 1e-12)).sum(1) + 1
    return torch.where(total[:, 0] > 0, pixels / mass.shape[1], torch.nan).to(maps.dtype)
