r"""What a class activation map adds up to: the score in front of pooling, and nowhere else.

With $A_k$ the output of a layer, Z its cells and $\alpha_k$ the averaged gradient of the logit, Z
times Grad-CAM before its ReLU has the mean $\sum_k\alpha_k\sum_{yx}A_k$. Before averaging pooling
and a linear layer the map is CAM (Zhou et al., CVPR 2016) and its mean the logit without its bias.
"""

from collections.abc import Mapping

import pandas as pd
import torch
from torch import Tensor

from lib.attribution.cam import cam, class_weights
from lib.networks.layers import cam_layer, gradients_at


def class_maps(classifier, photos, pixels: Tensor, parameters: Mapping) -> pd.DataFrame:
    """Protocol for :mod:`lib.rows`: the mean of the map that each layer gives, beside the score.

    ``parameters``: ``layers``, their names; without them the layer that CAM reads. One row per
    image x layer: ``cells`` per map, ``mean`` of Z times Grad-CAM before the ReLU, ``score``, the
    logit, and ``bias`` of the class. In the layer that CAM reads also ``cam``, the mean of CAM,
    and ``gap``, the largest difference of the two maps over the largest value of CAM; else NaN.
    """
    last = cam_layer(classifier, tuple(pixels.shape[1:]))
    layers = list(parameters.get("layers") or [last])
    bias = class_weights(classifier)[1].cpu()
    rows = []
    for image, (one, target) in enumerate(
        zip(pixels.split(1), photos.targets.split(1), strict=True)
    ):
        found, logits = gradients_at(classifier, one, target, layers)
        by_weight = cam(classifier, one, target, upsample=False)[0, 0]
        for layer, (features, slopes) in found.items():
            by_gradient = torch.einsum("k,khw->hw", slopes.sum((2, 3))[0], features[0]).cpu()
            row = {"image": image, "layer": layer, "cells": by_gradient.numel()}
            row |= {"mean": float(by_gradient.mean()), "score": float(logits[0, target])}
            row |= {"bias": float(bias[target]), "cam": torch.nan, "gap": torch.nan}
            if layer == last:
                gap = (by_gradient - by_weight.cpu()).abs().max() / by_weight.abs().max().cpu()
                row |= {"cam": float(by_weight.mean()), "gap": float(gap)}
            rows.append(row)
    return pd.DataFrame(rows)
