"""Can a map tell an adversarial image from a clean one? And does its mask bring the label back?

Fong, Vedaldi, *Interpretable explanations of black boxes by meaningful perturbation*, ICCV 2017,
section 5.5, which gives the idea and few settings: those of the detector are ours.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import LeaveOneGroupOut
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from lib.core import draws
from lib.evaluation.maps import check_maps


def detection_accuracy(
    clean: Float[Tensor, "n h w"],
    adversarial: Float[Tensor, "n h w"],
    *,
    cells: int = 7,
    folds: int = 5,
    seed: int = 0,
    keys: Sequence[int] | None = None,
) -> np.ndarray:
    """Per image, the share (0, 1/2 or 1) of its two maps that a detector tells apart correctly.

    Each map is averaged into ``cells`` x ``cells`` cells and divided by its mass (a map without
    any becomes zeros), then standardized; the detector is a logistic regression (C = 1). It is
    cross-validated in ``folds`` folds of *images*: both maps of an image are always in the same
    fold, so that the detector never sees the picture it is tested on. ``keys``, one per image
    (:func:`lib.draws.image_keys`; its place by default), decide its fold: with one image more or
    less, nearly all others stay where they are.

    Raises ``ValueError`` for maps that do not pair up, fewer images than folds, and NaN.
    """
    if clean.shape != adversarial.shape:
        raise ValueError(f"maps {tuple(clean.shape)}, {tuple(adversarial.shape)} must be pairs")
    if folds < 2 or len(clean) < folds:
        raise ValueError(f"{len(clean)} images cannot be split into {folds} folds of images")
    count = len(clean)
    features = _features(torch.cat([clean, adversarial]).cpu(), cells)
    labels = np.repeat([0, 1], count)
    images = np.tile(np.arange(count), 2)
    fold = _folds(range(count) if keys is None else keys, folds, seed)[images]
    right = np.zeros(2 * count)
    for train, test in LeaveOneGroupOut().split(features, labels, fold):
        detector = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
        right[test] = detector.fit(features[train], labels[train]).predict(features[test])
    right = right == labels
    return (right[:count].astype(float) + right[count:]) / 2


def _folds(keys: Sequence[int], folds: int, seed: int) -> np.ndarray:
    """Every image draws a number by its key; equal parts of their order are the folds."""
    drawn = draws.uniform(seed, [(key,) for key in keys], (1,))[:, 0]
    return (drawn.argsort().argsort() * folds // len(drawn)).numpy()


def restored(
    logits: Float[Tensor, "n k"], originals: Tensor, *, top: tuple[int, ...] = (1, 5)
) -> pd.DataFrame:
    """Per image, 1 where the original label is among the ``top`` classes: columns ``top1`` ...

    Raises ``ValueError`` for logits that are not finite: NaN would rank first.
    """
    if not torch.isfinite(logits).all():
        raise ValueError("logits hold NaN or infinite values")
    ranks = (logits > logits.gather(1, originals.view(-1, 1).to(logits.device))).sum(1).cpu()
    return pd.DataFrame({f"top{k}": (ranks < k).double().numpy() for k in top})


def shapes_of_area(
    shares: Float[Tensor, " n"], height: int, width: int
) -> dict[str, Float[Tensor, "n 1 h w"]]:
    """Masks (0 deletes) of a centered ``box`` and ``disc`` that delete ``shares`` of the image.

    Exactly ``round(share * H * W)`` pixels are deleted: those nearest to the center, by the
    largest (box, of the image's shape) or the Euclidean (disc) distance.
    """
    if not ((shares >= 0) & (shares <= 1)).all():
        raise ValueError("shares must lie in [0, 1]")
    y = (torch.arange(height) + 0.5 - height / 2).view(-1, 1)
    x = (torch.arange(width) + 0.5 - width / 2).view(1, -1)
    distances = {
        "box": torch.maximum((y / height).abs(), (x / width).abs()),
        "disc": (y.square() + x.square()).sqrt(),
    }
    counts = (shares.cpu().double() * height * width).round().long()
    masks = {}
    for name, distance in distances.items():
        order = torch.sort(distance.flatten(), stable=True).indices
        ranks = torch.empty_like(order)
        ranks[order] = torch.arange(len(order))
        masks[name] = (ranks[None] >= counts[:, None]).float().view(-1, 1, height, width)
    return masks


def _features(maps: Tensor, cells: int) -> np.ndarray:
    check_maps(maps)
    pooled = adaptive_avg_pool2d(maps[:, None].double(), (cells, cells)).flatten(1)
    mass = pooled.abs().sum(1, keepdim=True)
    return torch.where(mass > 0, pooled / mass, 0.0).numpy()
