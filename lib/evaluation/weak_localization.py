r"""Boxes from maps: where does a map that never saw a box put the object?

Zhou et al., *Learning deep features for discriminative localization*, CVPR 2016, section 3.2: keep
what exceeds 20 % of the map's maximum, take the largest connected component, and the tightest box
around it. Its overlap with a true box is the intersection over union (IoU).

Boxes are x0, y0, x1, y1 in pixels, half-open: a box around one pixel has area 1.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from scipy.ndimage import find_objects, label
from torch import Tensor

from lib.core import draws
from lib.evaluation.boxes import box_areas
from lib.evaluation.maps import asked_maps, check_maps, no_rows, signed

THRESHOLD = 0.2  # of the maximum; Grad-CAM's paper uses 0.15
_NEIGHBORS = np.ones((3, 3))  # pixels that touch at a corner belong together


def box_overlap(classifier, photos, pixels: Tensor, parameters: Mapping) -> pd.DataFrame:
    """Protocol for :mod:`lib.rows`: IoU of each map's box with the object, and of it moved.

    ``parameters``: ``methods`` and ``seed`` (:func:`lib.evaluation.maps.asked_maps`), ``threshold``
    and ``places``. One row per image with a box x method: ``iou``, and of the same box
    ``centered`` and ``elsewhere``, the mean over so many random places.
    """
    boxed = [image for image, known in enumerate(photos.instances) if len(known)]
    if not boxed:
        return no_rows(["image", "method", "iou", "centered", "elsewhere"])
    some, known = pixels[boxed], [photos.instances[image] for image in boxed]
    size, drawn = some.shape[2:], {"keys": draws.image_keys(some), "seed": parameters["seed"]}
    frames = []
    for method, map_ in asked_maps(classifier, some, photos.targets[boxed], parameters).items():
        box = boxes_from_maps(signed(map_), threshold=parameters["threshold"])
        away = scattered(box, *size, count=parameters["places"], **drawn)
        places = {"iou": box, "centered": centered(box, *size)}
        overlap = {name: best_iou(place, known).numpy() for name, place in places.items()}
        elsewhere = torch.stack([best_iou(moved, known) for moved in away]).mean(0).numpy()
        rows = {"image": boxed, "method": method, **overlap, "elsewhere": elsewhere}
        frames.append(pd.DataFrame(rows))
    return pd.concat(frames, ignore_index=True)


def boxes_from_maps(
    maps: Float[Tensor, "n h w"], *, threshold: float = THRESHOLD
) -> Float[Tensor, "n 4"]:
    """The box around the largest component above ``threshold`` times the maximum, per map.

    NaN for a map without a positive value: it points nowhere. Of components of equal size the
    first in reading order counts. Raises ``ValueError`` for NaN, infinity and a threshold outside
    [0, 1).
    """
    check_maps(maps)
    if not 0 <= threshold < 1:
        raise ValueError(f"threshold must lie in [0, 1), not {threshold}")
    boxes = torch.full((len(maps), 4), torch.nan)
    for row, values in enumerate(maps.detach().cpu().numpy()):
        if values.max() <= 0:
            continue
        components, _ = label(values > threshold * values.max(), _NEIGHBORS)
        largest = int(np.bincount(components.ravel())[1:].argmax())
        down, across = find_objects(components)[largest]
        boxes[row] = torch.tensor([across.start, down.start, across.stop, down.stop])
    return boxes


def iou(one: Float[Tensor, "... 4"], other: Float[Tensor, "... 4"]) -> Float[Tensor, "..."]:
    """Intersection over union of boxes, broadcast; 0 where a box is NaN."""
    low = torch.maximum(one[..., :2], other[..., :2])
    high = torch.minimum(one[..., 2:], other[..., 2:])
    both = (high - low).clamp_min(0).prod(-1)
    union = box_areas(one) + box_areas(other) - both
    return torch.nan_to_num(both / union, nan=0.0)


def best_iou(
    boxes: Float[Tensor, "n 4"], instances: Sequence[Float[Tensor, "_ 4"]]
) -> Float[Tensor, " n"]:
    """IoU with the instance that fits best, as in ILSVRC's localization task.

    Raises ``ValueError`` for an image without an instance: leave it out.
    """
    if len(boxes) != len(instances):
        raise ValueError(f"{len(boxes)} boxes for {len(instances)} images")
    for number, known in enumerate(instances):
        if len(known) == 0:
            raise ValueError(f"image {number} has no box: leave it out")
    return torch.stack([iou(box, known).max() for box, known in zip(boxes, instances, strict=True)])


def centered(boxes: Float[Tensor, "n 4"], height: int, width: int) -> Float[Tensor, "n 4"]:
    """The same boxes, moved to the center of the image: what a map adds beyond its box's size."""
    side = boxes[:, 2:] - boxes[:, :2]
    corner = (torch.tensor([width, height]) - side) / 2
    return torch.cat([corner, corner + side], 1)


def scattered(
    boxes: Float[Tensor, "n 4"],
    height: int,
    width: int,
    *,
    keys: Sequence[int],
    count: int = 100,
    seed: int = 0,
) -> Float[Tensor, "count n 4"]:
    """The same boxes at uniformly random places within the image, drawn per (seed, key, place)."""
    pairs = [(key, number) for number in range(count) for key in keys]
    place = draws.uniform(seed, pairs, (2,)).view(count, len(boxes), 2)
    side = boxes[:, 2:] - boxes[:, :2]
    corner = place * (torch.tensor([width, height]) - side)
    return torch.cat([corner, corner + side], 2)
