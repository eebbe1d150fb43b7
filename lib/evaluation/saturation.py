r"""The score and the size of its gradient while a photo is turned up from black.

Sundararajan, Taly, Yan, *Axiomatic attribution for deep networks*, 2017, and the figure of
"interesting" and "uninteresting" gradients that Hesse et al. 2021 reprint.
"""

from collections.abc import Mapping

import pandas as pd
import torch
from torch import Tensor

from lib import copies
from lib.evaluation.boxes import inside_boxes

SCORES = ("probability", "logit")


def saturation(classifier, photos, pixels: Tensor, parameters: Mapping) -> pd.DataFrame:
    r"""Protocol for :mod:`lib.rows`: score and gradient at $\alpha x$, for each of ``alphas``.

    One row per image x alpha x score (probability, logit; of the image's class $c$): its ``value``
    $S_c(\alpha x)$, ``size``, the mean over pixels of the gradient's magnitude
    $\sum_{rgb} |\partial S_c(\alpha x)|$, and ``in_box``, the same over the pixels in the object's
    boxes; NaN for an image without a box.
    """
    alphas = [float(alpha) for alpha in parameters["alphas"]]
    engine = copies.Engine(classifier, pixels, photos.targets, label="saturation")
    levels = torch.tensor(alphas).to(engine.pixels)
    inside = inside_boxes(photos.instances, *pixels.shape[2:]).to(engine.pixels)

    def dimmed(row: Tensor, draw: Tensor) -> Tensor:
        return levels[draw].view(-1, 1, 1, 1) * engine.pixels[row]

    values = engine.scores(dimmed, len(alphas), SCORES)
    rows = []
    for batch in engine.run(dimmed, len(alphas), lambda x, c: gradient_sizes(classifier, x, c)):
        boxes = inside[batch.row, None]
        whole = batch.values.mean((2, 3))
        boxed = (batch.values * boxes).sum((2, 3)) / boxes.sum((2, 3))  # 0 / 0 is NaN
        for k, (i, draw) in enumerate(zip(batch.row.tolist(), batch.draw.tolist(), strict=True)):
            found = zip(SCORES, values[i, draw], whole[k], boxed[k], strict=True)
            rows += [(i, alphas[draw], name, *map(float, rest)) for name, *rest in found]
    return pd.DataFrame(rows, columns=["image", "alpha", "score", "value", "size", "in_box"])


def gradient_sizes(classifier, images: Tensor, targets: Tensor) -> Tensor:
    r"""$\sum_{rgb}|\partial S_c/\partial x|$ of the probability and the logit, ``(N, 2, H, W)``."""
    with torch.enable_grad():
        pixels = images.detach().requires_grad_(True)
        logits = classifier(pixels)
        scores = [copies.SCORES[name](logits, targets).sum() for name in SCORES]
        gradients = [torch.autograd.grad(s, pixels, retain_graph=True)[0] for s in scores]
    return torch.stack([gradient.abs().sum(1) for gradient in gradients], 1)
