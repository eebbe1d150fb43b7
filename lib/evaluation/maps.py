"""From an attribution to one number per pixel."""

import inspect
from collections.abc import Mapping

from jaxtyping import Float, Int
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


def maps_by_label(
    classifier,
    images: Float[Tensor, "n c h w"],
    targets: Int[Tensor, " n"],
    methods: Mapping[str, Mapping],
    *,
    seed: int = 0,
) -> dict[str, Float[Tensor, "n c h w"]]:
    """The map of each method, by label: ``methods`` is ``{label: {"method": name, **options}}``.

    A method that draws is given ``seed`` unless its options hold one. Raises ``ValueError`` for a
    name that is not in ``METHODS``.
    """
    from lib.attribution import METHODS

    chosen = {label: dict(options) for label, options in methods.items()}
    for label, options in chosen.items():
        if options.get("method", label) not in METHODS:
            raise ValueError(
                f"method {options.get('method', label)!r} is unknown; choose one of: "
                f"{', '.join(METHODS)}"
            )
    maps = {}
    for label, options in chosen.items():
        method = METHODS[options.pop("method", label)]
        if "seed" in inspect.signature(method).parameters:
            options.setdefault("seed", seed)
        maps[label] = method(classifier, images, targets, **options)
    return maps
