"""Which part of an animal does a map mark: the map in small windows at annotated points.

Fong, Vedaldi, *Interpretable explanations of black boxes by meaningful perturbation*, ICCV 2017,
section 5.4: the mean of the mask in a window of 5 x 5 pixels around each keypoint.
"""

import csv
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from lib.data.files import dimensions
from lib.data.images import Images
from lib.evaluation.maps import check_maps

PARTS = ("eye", "foot")
COLUMNS = ("file", "part", "x", "y")
Points = Mapping[str, Sequence[tuple[float, float]]]


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


def read_keypoints(
    path: str | Path, photos: Images, parts: Sequence[str] = PARTS
) -> tuple[list[dict[str, list[tuple[float, float]]]], dict[str, int]]:
    """Points of ``photos`` from a csv ``file,part,x,y`` (pixels of the original images).

    A file is named as in ``photos.names``, or by its last part where that is unique. Returns one
    dict per photo, in coordinates of the crop, and a count of what was left out: ``outside`` (of
    the crop), ``other_part`` (not in ``parts``) and ``unknown_file``.

    Raises ``ValueError`` in one line for a file that is missing or has other columns, a coordinate
    that is no number, a point outside the original image (such as one in other units), and when no
    photo has any point.
    """
    points = [{part: [] for part in parts} for _ in range(len(photos))]
    lookup = _rows_by_name(photos)
    sizes: dict[int, tuple[int, int]] = {}
    left_out = Counter(outside=0, other_part=0, unknown_file=0)
    for line, entry in _read(Path(path)):
        if entry["part"] not in parts:
            left_out["other_part"] += 1
            continue
        row = lookup.get(entry["file"])
        if row is None:
            left_out["unknown_file"] += 1
            continue
        try:
            x, y = float(entry["x"]), float(entry["y"])
        except ValueError:
            raise ValueError(
                f"{path}, line {line}: ({entry['x']}, {entry['y']}) is no point"
            ) from None
        if row not in sizes:
            sizes[row] = dimensions(photos.photos[row].path)
        width, height = sizes[row]
        if not (0 <= x <= width and 0 <= y <= height):
            raise ValueError(
                f"{path}, line {line}: point ({x:g}, {y:g}) lies outside {entry['file']}, "
                f"which has {width} x {height} pixels"
            )
        point = photos.crop.point(x, y, width, height)
        if point is None:
            left_out["outside"] += 1
        else:
            points[row][entry["part"]].append(point)
    if not any(own[part] for own in points for part in parts):
        raise ValueError(f"{path}: no point of {', '.join(parts)} lies in any of the photos")
    return points, dict(left_out)


def have_both(points: Sequence[Points], parts: tuple[str, str] = PARTS) -> Tensor:
    """True for the images that have a point of both parts."""
    return torch.tensor([all(own.get(part) for part in parts) for own in points], dtype=torch.bool)


def _rows_by_name(photos: Images) -> dict[str, int]:
    rows = {name: i for i, name in enumerate(photos.names)}
    short = Counter(Path(name).name for name in photos.names)
    for i, name in enumerate(photos.names):
        if short[Path(name).name] == 1:
            rows.setdefault(Path(name).name, i)
    return rows


def _read(path: Path):
    if not path.is_file():
        raise ValueError(f"no such file of keypoints: {path}")
    with open(path, newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        if reader.fieldnames is None or not set(COLUMNS) <= set(reader.fieldnames):
            raise ValueError(f"{path}: expected the columns {','.join(COLUMNS)}")
        for line, entry in enumerate(reader, 2):
            if any(entry[column] is None for column in COLUMNS):
                raise ValueError(f"{path}, line {line}: a value is missing")
            yield line, entry
