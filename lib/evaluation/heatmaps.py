"""Maps of several methods made comparable: one nonnegative number per pixel.

The settings of the comparison in Fong, Vedaldi 2017 (``heatmaps.py`` and ``occlusion_mask.py`` of
the authors' program): gradients by their largest magnitude over the color channels, maps by their
positive part.
"""

from collections.abc import Mapping, Sequence

from jaxtyping import Float, Int
from torch import Tensor

from lib.attribution import METHODS
from lib.evaluation.maps import heat

# Windows of 35 x 35 pixels filled with ImageNet's mean color, of an image of 224 x 224
PAPER_OPTIONS: dict[str, dict] = {
    "occlusion": {"window": 35, "stride": 8, "baseline": "imagenet", "score": "probability"}
}


def check_methods(names: Sequence[str]) -> None:
    """``ValueError`` for a name that is not in ``METHODS``: before the work, not after it."""
    for name in names:
        if name not in METHODS:
            raise ValueError(f"method {name!r} is unknown; choose from: {', '.join(METHODS)}")


def heatmaps(
    classifier,
    images: Float[Tensor, "n c h w"],
    targets: Int[Tensor, " n"],
    methods: Sequence[str],
    options: Mapping[str, dict] | None = None,
) -> dict[str, Float[Tensor, "n h w"]]:
    """One heat map per method name of ``METHODS``, larger = more relevant.

    ``options`` are keyword arguments by method, on top of ``PAPER_OPTIONS``. Raises
    ``ValueError`` for a method that does not exist.
    """
    options = options or {}
    check_methods([*methods, *options])
    chosen = {name: {**PAPER_OPTIONS.get(name, {}), **options.get(name, {})} for name in methods}
    return {
        name: heat(METHODS[name](classifier, images, targets, **own))
        for name, own in chosen.items()
    }
