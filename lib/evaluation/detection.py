"""Can a map tell an adversarial image from a clean one? And does its mask bring the label back?

Fong, Vedaldi, *Interpretable explanations of black boxes by meaningful perturbation*, ICCV 2017,
section 5.5, which gives the idea and few settings: those of the detector are ours.
"""

from collections.abc import Mapping, Sequence

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

from lib.attribution.meaningful_perturbation import meaningful_perturbation
from lib.copies.baselines import blurred
from lib.core import draws
from lib.evaluation.adversarial import attack
from lib.evaluation.maps import asked_maps, check_maps, heat, no_rows


def detection(classifier, photos, pixels: Tensor, parameters: Mapping) -> pd.DataFrame:
    """Protocol for :mod:`lib.rows`: maps before and after an attack, in the cells of a detector.

    ``parameters``: ``methods`` and ``seed`` (:func:`lib.evaluation.maps.asked_maps`), ``attack``
    (options of :func:`lib.evaluation.adversarial.attack`) and ``cells``. Explained is the class
    that the network gives to the image; its map (:func:`heat`) becomes :func:`cell_shares`. One row
    per image that was fooled x method x side (``clean``, ``adversarial``), with columns
    ``cell 0`` ...
    """
    found = attack(
        classifier, pixels, photos.targets, seed=parameters["seed"], **parameters["attack"]
    )
    won, cells = found.success.nonzero()[:, 0], parameters["cells"]
    names = [f"cell {k}" for k in range(cells**2)]
    columns = ["image", "method", "side", *names]
    if not len(won):
        return no_rows(columns)
    frames = []
    sides = {"clean": (pixels, found.before), "adversarial": (found.images, found.after)}
    for side, (images, given) in sides.items():
        for label, values in asked_maps(classifier, images[won], given[won], parameters).items():
            frame = pd.DataFrame(cell_shares(heat(values).cpu(), cells).numpy(), columns=names)
            frame = frame.assign(image=won.cpu().numpy(), method=label, side=side)
            frames.append(frame[columns])
    return pd.concat(frames, ignore_index=True)


def cell_shares(maps: Float[Tensor, "n h w"], cells: int) -> Float[Tensor, "n k"]:
    """Maps averaged into cells x cells, row by row, and divided by their mass; zeros without any.

    Raises ``ValueError`` for NaN.
    """
    check_maps(maps)
    pooled = adaptive_avg_pool2d(maps[:, None].double(), (cells, cells)).flatten(1)
    mass = pooled.abs().sum(1, keepdim=True)
    return torch.where(mass > 0, pooled / mass, 0.0)


def restoration(classifier, photos, pixels: Tensor, parameters: Mapping) -> pd.DataFrame:
    """Protocol for :mod:`lib.rows`: does blurring an adversarial image bring its label back?

    ``parameters``: ``attack`` (options of :func:`lib.evaluation.adversarial.attack`), ``mask``
    (options of ``meaningful_perturbation``) and ``seed``. One row per image that was fooled x
    ``repair`` (:func:`repairs`): ``top1`` and ``top5``, whether the original label is back, and
    the share ``blurred``.
    """
    seed = parameters["seed"]
    found = attack(classifier, pixels, photos.targets, seed=seed, **parameters["attack"])
    won = found.success.nonzero()[:, 0]
    columns = ["image", "repair", "top1", "top5", "blurred"]
    if not len(won):
        return no_rows(columns)
    images, options = found.images[won], {"seed": seed, **parameters["mask"]}
    deleted = meaningful_perturbation(classifier, images, found.after[won], **options)
    frames = []
    for name, mask in repairs(1 - deleted).items():
        logits = classifier.scores(apply_mask(images, mask)).cpu()
        rows = restored(logits, found.before[won].cpu())
        area = (1 - mask).mean((1, 2, 3)).cpu().numpy()
        rows = rows.assign(image=won.cpu().numpy(), repair=name, blurred=area)
        frames.append(rows[columns])
    return pd.concat(frames, ignore_index=True)


def repairs(masks: Float[Tensor, "n 1 h w"]) -> dict[str, Float[Tensor, "n 1 h w"]]:
    """An image's own ``mask`` (0 blurs) and what it must beat.

    A centered ``box`` and ``disc`` of its area, blurring ``everything``, and ``nothing``.
    """
    shapes = shapes_of_area((1 - masks).mean((1, 2, 3)), *masks.shape[2:])
    shapes = {name: mask.to(masks) for name, mask in shapes.items()}
    ends = {"everything": torch.zeros_like(masks), "nothing": torch.ones_like(masks)}
    return {"mask": masks, **shapes, **ends}


def apply_mask(
    images: Float[Tensor, "n c h w"], masks: Float[Tensor, "n 1 h w"]
) -> Float[Tensor, "n c h w"]:
    r"""$m\odot x+(1-m)\odot\mu$, with $\mu$ the blurred image."""
    return masks * images + (1 - masks) * blurred(images)


def detection_accuracy(rows: pd.DataFrame, *, folds: int = 5, seed: int = 0) -> pd.DataFrame:
    """Per image and method, the share (0, 1/2 or 1) of its two maps that a detector places right.

    ``rows`` are those of :func:`detection`. Cells are standardized; the detector is a logistic
    regression (C = 1). It is cross-validated in ``folds`` folds of *images*: both maps of an image
    are always in the same fold, so that the detector never sees the picture it is tested on. An
    image's number decides its fold: with one more or less, nearly all others stay where they are.

    Raises ``ValueError`` for sides that do not pair up, fewer images than folds, and NaN.
    """
    cells = [name for name in rows if str(name).startswith("cell ")]
    images = sorted(rows["image"].unique().tolist())
    if folds < 2 or len(images) < folds:
        raise ValueError(f"{len(images)} images cannot be split into {folds} folds of images")
    fold, labels = np.tile(_folds(images, folds, seed), 2), np.repeat([0, 1], len(images))
    found = {}
    for method, part in rows.groupby("method", sort=False):
        table = part.set_index(["side", "image"])[cells].sort_index()
        pairs = [table.loc[side] for side in ("clean", "adversarial")]
        if not all(np.array_equal(side.index, images) for side in pairs):
            raise ValueError(f"{method}: clean and adversarial images must be pairs")
        features, right = np.concatenate(pairs), np.zeros(2 * len(images))
        for train, test in LeaveOneGroupOut().split(features, labels, fold):
            detector = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
            right[test] = detector.fit(features[train], labels[train]).predict(features[test])
        found[method] = (right == labels).reshape(2, -1).mean(0)
    return pd.DataFrame(found, index=pd.Index(images, name="image"))


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
