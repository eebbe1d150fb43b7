"""How well does a linear model of superpixels follow the classifier, and how far from the photo?"""

import time
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int
from torch import Tensor

from lib.attribution.grad_cam import grad_cam
from lib.attribution.lime import (
    SUPERPIXEL_MEAN,
    LimeExplanation,
    explain_lime,
    kernel,
    presence_rows,
    superpixel_scores,
)
from lib.core import draws
from lib.evaluation.correlation import correlation

COLUMNS = ["line", "network"]


def linear_fit(classifier, photos, pixels: Tensor, parameters: Mapping) -> pd.DataFrame:
    """Protocol for :mod:`lib.rows`: what LIME's line says of copies, and what the network says.

    The class is the one that the network predicts. ``parameters``: ``lime`` (options of
    :func:`lib.attribution.lime.explain_lime`), ``held_out`` (copies of LIME's own kind that the
    fit has not seen), ``off`` and ``ring`` (so many copies with exactly that share of superpixels
    off, for each share), and ``seed``.

    One row per image x kind (``fitted``, ``held out``, ``ring``) x copy with the columns of
    :func:`followed`, and the same in all rows of an image: ``superpixels``, and what LIME (with
    its superpixels) and Grad-CAM took, one after the other: ``seconds_lime``, ``seconds_grad_cam``.
    """
    options, seed = dict(parameters["lime"]), parameters["seed"]
    targets = classifier.scores(pixels.to(classifier.device)).argmax(1).cpu()
    score = {name: options[name] for name in ("score", "fill") if name in options}
    grad_cam(classifier, pixels[:1], targets[:1])  # a first pass takes longer
    frames = []
    for i in range(len(pixels)):
        given = (classifier, pixels[i : i + 1], targets[i : i + 1])
        began = time.perf_counter()
        found = explain_lime(*given, **options, seed=seed)
        middle = time.perf_counter()
        grad_cam(*given)
        cam_took = time.perf_counter() - middle
        seconds = {"seconds_lime": middle - began, "seconds_grad_cam": cam_took}
        size = len(found[0].weights)
        own = held_out_rows(given[1], [size], options["samples"], parameters["held_out"], seed)
        rings = rows_with_share_off(given[1], [size], parameters["off"], parameters["ring"], seed)
        seen = _frame(found[0], found[0].presence, found[0].predictions)
        kinds = {"held out": own, "ring": rings}
        new = {kind: followed(*given, found, rows, **score) for kind, rows in kinds.items()}
        for kind, frame in {"fitted": seen, **new}.items():
            facts = {"image": i, "kind": kind, "superpixels": size, **seconds}
            frames.append(frame.assign(**facts))
    return pd.concat(frames, ignore_index=True)


def followed(
    classifier,
    images: Float[Tensor, "n c h w"],
    targets: Int[Tensor, " n"],
    explanations: Sequence[LimeExplanation],
    presence: Sequence[Bool[np.ndarray, "m _"]],
    *,
    score: str = "probability",
    fill: str | float | Tensor = SUPERPIXEL_MEAN,
    batch_size: int | None = None,
) -> pd.DataFrame:
    """What each image's linear model says of the copies that show ``presence``, and what is true.

    One row per image x copy: ``image``, ``copy``, ``off`` (the share of superpixels that are),
    ``weight`` (the kernel's), ``line`` and ``network``. ``score`` and ``fill`` must be those of
    the explanations.
    """
    labels = [explanation.segments for explanation in explanations]
    options = {"score": score, "fill": fill, "batch_size": batch_size}
    scores = superpixel_scores(classifier, images, targets, labels, presence, **options)
    frames = [_frame(*each) for each in zip(explanations, presence, scores, strict=True)]
    return pd.concat([frame.assign(image=i) for i, frame in enumerate(frames)], ignore_index=True)


def _frame(explanation: LimeExplanation, rows: np.ndarray, scores: np.ndarray) -> pd.DataFrame:
    columns = {"copy": np.arange(len(rows)), "off": 1 - rows.mean(1), "weight": kernel(rows)[1]}
    return pd.DataFrame({**columns, "line": explanation.fitted(rows), "network": scores})


def correlation_by(frame: pd.DataFrame, by: Sequence[str] = ("image",)) -> pd.Series:
    """Pearson's correlation of line and network in each group of :func:`followed`.

    0 where one of the two does not vary. Unlike R^2 it has a lower bound, and what the line gets
    wrong by a constant does not count.
    """
    groups = frame.groupby(list(by), sort=False)[COLUMNS]
    return groups.apply(lambda group: float(correlation(group.to_numpy()))).rename("correlation")


def held_out_rows(
    images: Float[Tensor, "n c h w"],
    counts: Sequence[int],
    samples: int,
    held_out: int,
    seed: int = 0,
) -> list[Bool[np.ndarray, "m _"]]:
    """More rows of LIME's own kind than the ``samples`` that an explanation with ``seed`` saw."""
    return [rows[samples:] for rows in presence_rows(images, counts, samples + held_out, seed)]


def rows_with_share_off(
    images: Float[Tensor, "n c h w"],
    counts: Sequence[int],
    shares: Sequence[float],
    samples: int,
    seed: int = 0,
) -> list[Bool[np.ndarray, "m s"]]:
    """Per image, ``samples`` rows for each share: exactly that part of its superpixels is off.

    At least one is on and one off. Rows are drawn per image, share and row, apart from LIME's own.
    """
    if samples < 1 or not len(shares) or not all(0 < share < 1 for share in shares):
        raise ValueError(f"shares must lie in (0, 1) and samples be positive: {shares}, {samples}")
    found = []
    for key, count in zip(draws.image_keys(images), counts, strict=True):
        rows = np.ones((len(shares) * samples, count), dtype=bool)
        for j, share in enumerate(shares):
            off = min(count - 1, max(1, round(share * count)))
            for k in range(samples):
                chosen = draws.permutation(seed, (key, round(share * 1e6), k), count)[:off]
                rows[j * samples + k, chosen.numpy()] = False
        found.append(rows)
    return found
