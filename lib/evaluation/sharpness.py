r"""How grainy is a map? Its total variation (Rudin, Osher, Fatemi 1992), free of scale."""

from collections.abc import Mapping

import pandas as pd
from jaxtyping import Float
from torch import Tensor

from lib.evaluation.maps import asked_maps, check_maps, check_present, magnitude
from lib.evaluation.removal import areas, removal_curves


def sharpness(classifier, photos, pixels: Tensor, parameters: Mapping) -> pd.DataFrame:
    """Protocol for :mod:`lib.rows`: how grainy each map is, and how slowly LeRF hurts.

    ``parameters``: ``methods`` and ``seed`` (:func:`lib.evaluation.maps.asked_maps`), and
    ``fractions`` and ``fill`` of :func:`lib.evaluation.removal.removal_curves`, without which
    nothing is removed. One row per image x method: ``variation``, and ``lerf``, the area under the
    probability.
    """
    given = (classifier, pixels, photos.targets)
    maps = {label: magnitude(map_) for label, map_ in asked_maps(*given, parameters).items()}
    frames = [
        pd.DataFrame({"variation": total_variation(map_, empty="nan").cpu()}).assign(method=label)
        for label, map_ in maps.items()
    ]
    rows = pd.concat(frames).reset_index(names="image")
    options = {
        name: parameters[name] for name in ("fractions", "fill", "seed") if name in parameters
    }
    if "fractions" not in options:
        return rows
    curves = removal_curves(*given, maps, order="lerf", **options)
    area = areas(curves, "probability", ["image", "method"]).rename(columns={"area": "lerf"})
    return rows.merge(area, on=["image", "method"])


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
