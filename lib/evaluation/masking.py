r"""KPM, KNM, KAM, RAM: show or hide pixels by their attribution, on a heavily blurred copy.

Lundberg et al., *From local explanations to global understanding with explainable AI for trees*,
2020 (the metrics); Hesse, Schaub-Meyer, Roth, *Fast axiomatic attribution for neural networks*,
NeurIPS 2021, section 4.2 and the authors' code (the protocol for images, followed here).

Pixels are ranked by $v=a$ (positive), $-a$ (negative) or $|a|$ (absolute), and pixels with
$v\le0$ are always masked. Of the P others, $K=\min(\lfloor pHW\rfloor,P)$ are shown: the K largest
(*keep*) or the K smallest (*remove*). So keeping positive pixels saturates at $p=P/HW$. That is how
the authors' code reads the protocol ("coded"). As the text describes it ("described"), all pixels
are ranked alike: $P=HW$.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from lib import copies
from lib.copies.baselines import gaussian_blur
from lib.core import draws
from lib.evaluation.maps import asked_maps, check_maps, signed
from lib.evaluation.removal import areas, removal_order

FRACTIONS = tuple(float(p) for p in np.geomspace(0.01, 1, 16))
BLUR_SIZE, BLUR_SIGMA = 51, 41.0  # pixels
BLURS = ("coded", "published")
READINGS = ("coded", "described")
# metric -> (what it is made of, the score it reads, whether larger is better)
METRICS = {
    "KPM": ("keep_positive", "logit", True),
    "KNM": ("keep_negative", "logit", False),
    "KAM": ("keep_absolute", "accuracy", True),
    "RAM": ("remove_absolute", "accuracy", False),
}
KINDS = tuple(kind for kind, _, _ in METRICS.values())


def masking(classifier, photos, pixels: Tensor, parameters: Mapping) -> pd.DataFrame:
    """Protocol for :mod:`lib.rows`: the curves of :func:`masking_curves` for many maps.

    ``parameters``: ``methods`` and ``seed`` (:func:`lib.evaluation.maps.asked_maps`; the signed
    sums over the channels are ranked), and ``blur`` (default coded). One row per image x method x
    kind x fraction, with the columns of :func:`masking_curves`.
    """
    given = (classifier, pixels, photos.targets)
    options = {"blur": parameters.get("blur", "coded"), "seed": parameters["seed"]}
    frames = [
        masking_curves(*given, signed(map_), **options).assign(method=label)
        for label, map_ in asked_maps(*given, parameters).items()
    ]
    return pd.concat(frames, ignore_index=True)


def masking_curves(
    classifier,
    images: Float[Tensor, "n c h w"],
    targets: Int[Tensor, " n"],
    maps: Float[Tensor, "n h w"],
    *,
    kinds: Sequence[str] = KINDS,
    fractions: Sequence[float] = FRACTIONS,
    blur: str = "coded",
    reading: str = "coded",
    seed: int = 0,
    batch_size: int | None = None,
) -> pd.DataFrame:
    """Logit and accuracy of the target while pixels are kept or removed by their attribution.

    ``maps`` holds one signed value per pixel; the protocol takes the mean over channels, which
    ranks as :func:`lib.evaluation.maps.signed` does. Masked pixels come, in all channels, from
    the image blurred by ``blurred_copy``. Equal values are ranked by a permutation per image.
    ``reading`` says whether values that are not positive are always masked ("coded") or ranked
    like the others ("described").

    One row per image x kind x fraction: ``image`` (position in ``images``), ``kind``,
    ``fraction``, ``shown`` (pixels), ``logit``, ``accuracy`` (1 if the target ranks first). Call
    it on one batch of a stream after another: nothing is shared between images.

    Raises ``ValueError`` for maps that do not fit or hold NaN, an unknown kind, blur or reading,
    fractions outside [0, 1], and images too small for the blur.
    """
    engine = copies.Engine(classifier, images, targets, batch_size, "masking metrics")
    pixels = engine.pixels
    check_maps(maps, images)
    unknown = [kind for kind in kinds if kind not in KINDS]
    if unknown or not kinds:
        raise ValueError(f"kinds {list(kinds)} must be some of: {', '.join(KINDS)}")
    if not len(fractions) or not all(0 <= f <= 1 for f in fractions):
        raise ValueError(f"fractions must be numbers in [0, 1], not {list(fractions)}")
    hidden = blurred_copy(pixels, blur)
    keys = draws.image_keys(images)
    ranked = {kind: _ranked(kind, maps, keys, seed, reading) for kind in kinds}
    settings = [(kind, float(fraction)) for kind in kinds for fraction in fractions]

    def masked(row: Tensor, draw: Tensor) -> Tensor:
        shown = []
        for i, k in zip(row.tolist(), draw.tolist(), strict=True):
            kind, fraction = settings[k]
            shown.append(_shown(kind, *(part[i] for part in ranked[kind]), fraction))
        keep = torch.stack(shown)[:, None].to(pixels.device)
        return torch.where(keep, pixels[row], hidden[row])

    scores = engine.scores(masked, len(settings), ("logit", "accuracy"))
    area = maps[0].numel()
    counts = [
        [min(math.floor(p * area), int(ranked[kind][1][i])) for kind, p in settings]
        for i in range(len(pixels))
    ]
    frame = pd.DataFrame(
        [(i, kind, p) for i in range(len(pixels)) for kind, p in settings],
        columns=["image", "kind", "fraction"],
    )
    frame["shown"] = np.ravel(counts)
    frame[["logit", "accuracy"]] = scores.double().flatten(0, 1).numpy()
    return frame


def masking_metrics(curves: pd.DataFrame, by: Sequence[str] = ("image",)) -> pd.DataFrame:
    """The four areas, one row per group in ``by``: columns KPM, KNM (logits), KAM, RAM (percent).

    Trapezoids over the fraction on its linear axis, *not* divided by its length 0.99, as the
    authors' code does: a constant logit of 10 has area 9.9. The mean over images of these areas is
    the area under the mean curve.
    """
    columns = {}
    for metric, (kind, score, _) in METRICS.items():
        part = areas(curves[curves["kind"] == kind], score, list(by)).set_index(list(by))["area"]
        columns[metric] = part * (100 if score == "accuracy" else 1)
    return pd.DataFrame(columns).reset_index()


def visible(
    maps: Float[Tensor, "n h w"],
    kind: str,
    fraction: float,
    *,
    keys: Sequence[int],
    seed: int = 0,
) -> Bool[Tensor, "n h w"]:
    """Which pixels are shown: what :func:`masking_curves` looks at, for pictures."""
    if kind not in KINDS:
        raise ValueError(f"kind {kind!r} is unknown; choose one of: {', '.join(KINDS)}")
    parts = zip(*_ranked(kind, maps, keys, seed), strict=True)
    return torch.stack([_shown(kind, ranks, count, fraction) for ranks, count in parts])


def blurred_copy(
    images: Float[Tensor, "n c h w"], blur: str = "coded", size: int = BLUR_SIZE
) -> Float[Tensor, "n c h w"]:
    r"""What masked pixels show: a 51 x 51 Gaussian of nominal sigma 41, reflected at the border.

    ``coded`` is the authors' code, whose exponent is $-((d/(2\sigma))^2)$: its true sigma is
    $41\sqrt2\approx58$ pixels, nearly a box. ``published`` is a Gaussian of sigma 41. The kernel
    sums to 1, so that blurring before or after normalization is the same.
    """
    if blur not in BLURS:
        raise ValueError(f"blur {blur!r} is unknown; choose one of: {', '.join(BLURS)}")
    radius = size // 2
    if min(images.shape[2:]) <= radius:
        raise ValueError(
            f"images of {images.shape[2]} x {images.shape[3]} are too small to be reflected by "
            f"{radius} pixels, as the {size} x {size} blur needs"
        )
    sigma = BLUR_SIGMA * (math.sqrt(2) if blur == "coded" else 1)
    return gaussian_blur(images, sigma, radius=radius, border="reflect")


def _ranked(
    kind: str, maps: Float[Tensor, "n h w"], keys: Sequence[int], seed: int, reading="coded"
) -> tuple[Int[Tensor, "n h w"], Int[Tensor, " n"]]:
    """The rank of each pixel by decreasing value, and how many may be shown."""
    if reading not in READINGS:
        raise ValueError(f"reading {reading!r} is unknown; choose one of: {', '.join(READINGS)}")
    values = {"positive": maps, "negative": -maps, "absolute": maps.abs()}[kind.split("_")[1]]
    ranks = removal_order(values, "morf", keys, seed).view(values.shape)
    may = values > 0 if reading == "coded" else torch.ones_like(values, dtype=torch.bool)
    return ranks, may.sum((1, 2)).cpu()


def _shown(
    kind: str, ranks: Int[Tensor, "h w"], positive: Tensor, fraction: float
) -> Bool[Tensor, "h w"]:
    count = min(math.floor(fraction * ranks.numel()), int(positive))
    if kind.startswith("keep"):
        return ranks < count
    return (ranks < positive) & (ranks >= positive - count)
