"""Maps by name, one number per pixel from each, and what such a map must be to be measured."""

import inspect
from collections.abc import Mapping, Sequence

import pandas as pd
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


def signed(attribution: Float[Tensor, "n c h w"]) -> Float[Tensor, "n h w"]:
    """The sum over color channels: evidence for minus evidence against."""
    return attribution.sum(1)


def magnitude(attribution: Float[Tensor, "n c h w"]) -> Float[Tensor, "n h w"]:
    """The sum of absolute values over color channels: how much a pixel matters, either way.

    SmoothGrad's rule for photographs, where the sign of a gradient depends on the context.
    """
    return attribution.abs().sum(1)


def heat(attribution: Float[Tensor, "n c h w"]) -> Float[Tensor, "n h w"]:
    """``max_c |A_c|`` of a map with color channels, ``max(A, 0)`` of a map with one.

    The rule of the comparison in Fong, Vedaldi 2017 (the authors' program).
    """
    if attribution.shape[1] > 1:
        return attribution.abs().amax(1)
    return attribution[:, 0].clamp(min=0)


def check_maps(maps: Tensor, images: Tensor | None = None) -> None:
    """``ValueError`` unless ``maps`` are finite, ``(N, H, W)``, and fit the images, if given."""
    if images is not None and maps.shape != (len(images), *images.shape[2:]):
        raise ValueError(f"maps {tuple(maps.shape)} do not fit the images {tuple(images.shape)}")
    if maps.ndim != 3:
        raise ValueError(f"maps must be (N, H, W), not {tuple(maps.shape)}")
    finite = torch.isfinite(maps).flatten(1).all(1)
    if not finite.all():
        raise ValueError(f"the map of image {first(~finite)} holds NaN or infinity")


def check_present(present: Bool[Tensor, " n"], empty: str, what: str) -> None:
    """``ValueError`` for a map without ``what``, unless ``empty`` is ``"nan"``: a missing value."""
    if empty not in ("raise", "nan"):
        raise ValueError(f"empty must be 'raise' or 'nan', not {empty!r}")
    if empty == "raise" and not present.all():
        raise ValueError(f"the map of image {first(~present)} has no {what}")


def first(flags: Bool[Tensor, " n"]) -> int:
    """The first image that is flagged."""
    return int(flags.nonzero()[0])


REDUCTIONS = {"signed": signed, "magnitude": magnitude, "heat": heat}


def maps_by_label(
    classifier,
    images: Float[Tensor, "n c h w"],
    targets: Int[Tensor, " n"],
    methods: Mapping[str, Mapping],
    *,
    seed: int = 0,
) -> dict[str, Float[Tensor, "n _ h w"]]:
    """The map of each method, by label: ``methods`` is ``{label: {"method": name, **options}}``.

    A method that draws is given ``seed`` unless its options hold one; one that averages another
    over noise takes that one's name as ``inner``; ``{"times_input": label}`` is the map of a label
    before it, multiplied by the image. Raises ``ValueError`` for a name that is not in ``METHODS``.
    """
    from lib.attribution import METHODS

    chosen = {label: dict(options) for label, options in methods.items()}
    for label, options in chosen.items():
        if "times_input" in options:
            continue
        for name in (options.get("method", label), options.get("inner", label)):
            if name not in METHODS and not (name == label and "method" in options):
                known = ", ".join(METHODS)
                raise ValueError(f"method {name!r} is unknown; choose one of: {known}")
    maps = {}
    for label, options in chosen.items():
        if "times_input" in options:
            maps[label] = images.detach() * maps[options["times_input"]]
            continue
        method = METHODS[options.pop("method", label)]
        if "seed" in inspect.signature(method).parameters:
            options.setdefault("seed", seed)
        if "inner" in options:
            options["method"] = METHODS[options.pop("inner")]
        maps[label] = method(classifier, images, targets, **options)
    return maps


def asked_maps(
    classifier, images: Tensor, targets: Tensor, parameters: Mapping
) -> dict[str, Float[Tensor, "n _ h w"]]:
    """The maps that a protocol's parameters ask for: ``methods`` by label, and their ``seed``."""
    methods, seed = parameters["methods"], parameters["seed"]
    return maps_by_label(classifier, images, targets, methods, seed=seed)


def no_rows(columns: Sequence[str]) -> pd.DataFrame:
    """What a protocol answers where it can measure no photo."""
    return pd.DataFrame({name: [] for name in columns}).astype({"image": int})
