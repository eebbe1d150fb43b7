r"""What is a channel worth? Switch it off and measure, against what its gradient promised.

Grad-CAM weighs channel k by its averaged gradient $\alpha_k=\frac1Z\sum_{yx}\partial S_c/\partial
A_k$ (Selvaraju et al., ICCV 2017). Its share of the map's total is $\alpha_k\sum_{yx}A_k$; without
averaging, the first-order estimate is $\sum_{yx}A_k\,\partial S_c/\partial A_k$; what happens is
$S_c(x)-S_c(x\mid A_k=0)$.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lib import copies
from lib.networks.layers import activations_and_gradients, find_layer, split


@dataclass(frozen=True)
class ChannelEffects:
    """Per image and channel, in logits. ``weight`` is per unit of activation, summed over cells."""

    weight: Float[Tensor, "n k"]
    averaged: Float[Tensor, "n k"]
    first_order: Float[Tensor, "n k"]
    measured: Float[Tensor, "n k"]


def channel_effects(
    classifier,
    images: Float[Tensor, "n c h w"],
    targets: Int[Tensor, " n"],
    *,
    layer: str | None = None,
    batch_size: int | None = None,
) -> ChannelEffects:
    """The fall of the target's logit when a channel of ``layer`` is set to 0, for each channel.

    ``weight`` is Grad-CAM's; ``averaged``, ``first_order`` and ``measured`` as above, one column
    per channel; positive: the channel supports the class. Runs the network once per image up to
    the layer, and once per channel from there.
    """
    pixels, classes = copies.check_inputs(classifier, images, targets)
    name = find_layer(classifier, layer, tuple(pixels.shape[1:]))
    rows = []
    for one, target in zip(pixels.split(1), classes.split(1), strict=True):
        engine = copies.Engine(classifier, one, target, batch_size, "channel ablation")
        features, slopes, logits = activations_and_gradients(classifier, one, target, name)
        _, rest = split(classifier, one, name)

        def without(row: Tensor, channel: Tensor, features: Tensor = features) -> Tensor:
            altered = features[row.to(features.device)]
            altered[torch.arange(len(channel)), channel] = 0
            return altered

        def answer(altered: Tensor, wanted: Tensor, rest=rest) -> Tensor:
            return copies.of_targets(rest(altered, torch.zeros_like(wanted)), wanted)

        batches = engine.run(without, features.shape[1], answer)
        left = torch.cat([batch.values for batch in batches])
        weight = slopes.mean((2, 3))[0]
        rows.append(
            (
                weight,
                weight * features.sum((2, 3))[0],
                (slopes * features).sum((2, 3))[0],
                logits[0, target[0]] - left,
            )
        )
    return ChannelEffects(
        *(torch.stack(part).to(images.device) for part in zip(*rows, strict=True))
    )
