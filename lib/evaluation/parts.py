"""Which part of an animal does a map mark: the map in small windows at annotated points.

Fong, Vedaldi, *Interpretable explanations of black boxes by meaningful perturbation*, ICCV 2017,
section 5.4: the mean of the mask in a window of 5 x 5 pixels around each keypoint.
"""

from collections.abc import Mapping, Sequence

import pandas as pd
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from lib.evaluation.maps import asked_maps, check_maps, heat, no_rows

PARTS = ("eye", "foot")
Points = Mapping[str, Sequence[tuple[float, float]]]


def animal_parts(classifier, photos, pixels: Tensor, parameters: Mapping) -> pd.DataFrame:
    """Protocol for :mod:`lib.rows`: every map at an animal's eyes and at its feet.

    ``parameters``: ``methods`` and ``seed`` (:func:`lib.evaluation.maps.asked_maps`), ``window``,
    and ``center``, the label of a map in [0, 1]: beside it stands ``centered Gaussian``, which has
    the same mean (:func:`centered_gaussian`). One row per image with a point of both parts x
    method: ``eye`` and ``foot``, the means over windows of the map (:func:`heat`), and its
    ``mean`` and ``peak`` over the image.
    """
    chosen = have_both(photos.parts).nonzero()[:, 0]
    columns = ["image", "method", *PARTS, "mean", "peak"]
    if not len(chosen):
        return no_rows(columns)
    maps = asked_maps(classifier, pixels[chosen], photos.targets[chosen], parameters)
    maps = {label: heat(values).cpu() for label, values in maps.items()}
    shares = maps[parameters["center"]].mean((1, 2))
    maps["centered Gaussian"] = centered_gaussian(shares, *pixels.shape[2:])
    points = [photos.parts[i] for i in chosen.tolist()]
    frames = []
    for label, values in maps.items():
        means = paired_parts(part_windows(values, points, window=parameters["window"]))
        whole = {"mean": values.mean((1, 2)).numpy(), "peak": values.amax((1, 2)).numpy()}
        frames.append(means.assign(image=chosen.numpy(), method=label, **whole)[columns])
    return pd.concat(frames, ignore_index=True)


def centered_gaussian(
    shares: Float[Tensor, " n"], height: int, width: int
) -> Float[Tensor, "n h w"]:
    r"""$e^{-r^2/2\sigma^2}$ around the center, $\sigma$ such that each map's mean is its share.

    It knows nothing but that photographers put animals in the middle. Raises ``ValueError`` unless
    the shares lie between 0 and 1.
    """
    if not ((shares > 0) & (shares < 1)).all():
        raise ValueError("shares must lie between 0 and 1")
    y = (torch.arange(height, dtype=torch.float64) + 0.5 - height / 2).square()
    x = (torch.arange(width, dtype=torch.float64) + 0.5 - width / 2).square()

    def sides(sigma: Tensor) -> tuple[Tensor, Tensor]:
        spread = 2 * sigma.square()[:, None]
        return (-y / spread).exp(), (-x / spread).exp()

    low, high = torch.full((len(shares),), 1e-2).double(), torch.full((len(shares),), 1e4).double()
    for _ in range(60):
        middle = (low * high).sqrt()
        down, across = sides(middle)
        wide = down.mean(1) * across.mean(1) > shares.double()
        low, high = torch.where(wide, low, middle), torch.where(wide, middle, high)
    down, across = sides(low)
    return (down[:, :, None] * across[:, None]).to(shares.dtype)


def part_windows(
    maps: Float[Tensor, "n h w"],
    points: Sequence[Points],
    *,
    window: int = 5,
    parts: Sequence[str] = PARTS,
) -> pd.DataFrame:
    """The mean of each map in a window around each of its image's points.

    ``points[i]`` maps a part's name to its points (x, y) in image i. The window is centered on the
    pixel that holds the point and cut at the border. One row per point: ``image``, ``part``,
    ``x``, ``y``, ``value`` and ``inside``; a point outside the image has value NaN, so that such
    points can be counted.

    Raises ``ValueError`` for an even window, maps and points that differ in number, and a part
    that no image has.
    """
    if window < 1 or window % 2 == 0:
        raise ValueError(f"window must be an odd number of pixels, not {window}")
    check_maps(maps)
    if len(points) != len(maps):
        raise ValueError(f"{len(points)} lists of points for {len(maps)} maps")
    for part in parts:
        if not any(own.get(part) for own in points):
            raise ValueError(f"no image has a point for part {part!r}")
    height, width = maps.shape[1:]
    half, rows = window // 2, []
    for i, own in enumerate(points):
        for part in parts:
            for x, y in own.get(part, ()):
                inside = 0 <= x < width and 0 <= y < height
                value = float("nan")
                if inside:
                    column, row = int(x), int(y)
                    around = maps[i, max(row - half, 0) : row + half + 1]
                    around = around[:, max(column - half, 0) : column + half + 1]
                    value = float(around.double().mean())
                rows.append((i, part, float(x), float(y), value, inside))
    return pd.DataFrame(rows, columns=["image", "part", "x", "y", "value", "inside"])


def paired_parts(windows: pd.DataFrame, parts: tuple[str, str] = PARTS) -> pd.DataFrame:
    """The mean value of each part, one row per image that has a visible point of both.

    Columns are the parts; images that lack one, or whose points all lie outside, are left out.
    """
    means = windows[windows["inside"]].groupby(["image", "part"])["value"].mean().unstack()
    return means.reindex(columns=list(parts)).dropna()


def have_both(points: Sequence[Points], parts: tuple[str, str] = PARTS) -> Bool[Tensor, " n"]:
    """True for the images that have a point of both parts."""
    return torch.tensor([all(own.get(part) for part in parts) for own in points], dtype=torch.bool)
