r"""What is a channel worth? Switch it off and measure, against what its gradient promised.

Grad-CAM weighs channel k by its averaged gradient $\alpha_k=\frac1Z\sum_{yx}\partial S_c/\partial
A_k$ (Selvaraju et al., ICCV 2017), so that the channel's share of the map's total is
$\alpha_k\sum_{yx}A_k$. What happens is $S_c(x)-S_c(x\mid A_k=0)$.
"""

from collections.abc import Mapping

import pandas as pd
import torch
from torch import Tensor

from lib import copies
from lib.networks.layers import gradients_at, split


def channel_ablation(classifier, photos, pixels: Tensor, parameters: Mapping) -> pd.DataFrame:
    """Protocol for :mod:`lib.rows`: the fall of the logit when a channel is set to 0.

    ``parameters``: ``layers``, their names, and ``channels``, how many of each are tried: those of
    the largest ``|weight|``. One row per image x layer x channel: ``weight``, Grad-CAM's,
    ``promised``, its share of the map's total, and ``fall``, in logits; positive: the channel
    supports the class. Runs the network once per image, and once per channel from its layer on.
    """
    frames = []
    for image, (one, target) in enumerate(
        zip(pixels.split(1), photos.targets.split(1), strict=True)
    ):
        engine = copies.Engine(classifier, one, target, None, "channel ablation")
        found, logits = gradients_at(classifier, one, target, parameters["layers"])
        for layer, (features, slopes) in found.items():
            weight = slopes.mean((2, 3))[0]
            largest = weight.abs().topk(min(parameters["channels"], len(weight))).indices
            _, rest = split(classifier, one, layer)

            def without(row, number, features=features, largest=largest):
                altered = features[row.to(features.device)]
                altered[torch.arange(len(number)), largest[number.to(largest.device)]] = 0
                return altered

            def answer(altered, wanted, rest=rest):
                return copies.of_targets(rest(altered, torch.zeros_like(wanted)), wanted)

            left = torch.cat([b.values for b in engine.run(without, len(largest), answer)]).cpu()
            promised = (weight * features.sum((2, 3))[0])[largest].cpu()
            frame = {"image": image, "layer": layer, "channel": largest.cpu().numpy()}
            frame |= {"weight": weight[largest].cpu().numpy(), "promised": promised.numpy()}
            frames.append(pd.DataFrame(frame | {"fall": (logits[0, target].cpu() - left).numpy()}))
    return pd.concat(frames, ignore_index=True)
