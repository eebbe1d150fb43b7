r"""Grad-CAM: the feature maps of any layer, weighted by the averaged gradient of the score.

Selvaraju, Cogswell, Das, Vedantam, Parikh, Batra, *Grad-CAM: visual explanations from deep
networks via gradient-based localization*, ICCV 2017.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lib import copies
from lib.attribution.cam import enlarge
from lib.attribution.guided_backprop import guided_backprop
from lib.networks.layers import activations_and_gradients, find_layer


def grad_cam(
    classifier,
    images: Float[Tensor, "n c h w"],
    targets: Int[Tensor, " n"],
    *,
    layer: str | None = None,
    relu: bool = True,
    upsample: bool = True,
    batch_size: int | None = None,
) -> Float[Tensor, "n 1 y x"]:
    r"""$L_c=\mathrm{ReLU}\big(\sum_k\alpha_k A_k\big)$, $\alpha_k=\frac1Z\sum_{yx}\partial
    S_c/\partial A_k(y,x)$, with $A_k$ the output of ``layer`` and Z its number of cells.

    ``S_c`` is the target's logit. ``layer`` is any layer with a spatial output, by its name in
    :func:`lib.networks.layers.spatial_layers` (default: the last one). ``relu=False`` keeps
    evidence against the class. ``upsample=False`` gives the layer's cells ``(N, 1, h, w)``, else
    they are enlarged to the images (bilinear, ``align_corners=False``).

    Where the layer is followed by averaging pooling and one linear layer, $\alpha_k=w_k^c/Z$ and
    the map before the ReLU is CAM divided by Z.

    Raises ``LayerError`` (a ``ValueError``) that names layers that would work.
    """
    engine = copies.Engine(classifier, images, targets, batch_size, "grad_cam")
    name = find_layer(classifier, layer, tuple(images.shape[1:]))

    def answer(batch: Tensor, wanted: Tensor) -> Tensor:
        features, slopes, _ = activations_and_gradients(classifier, batch, wanted, name)
        maps = torch.einsum("bk,bkhw->bhw", slopes.mean((2, 3)), features)[:, None]
        maps = maps.relu() if relu else maps
        return enlarge(maps, images.shape[2:]) if upsample else maps

    return engine.single_pass(answer).to(images.device)


def guided_grad_cam(
    classifier,
    images: Float[Tensor, "n c h w"],
    targets: Int[Tensor, " n"],
    *,
    layer: str | None = None,
    batch_size: int | None = None,
) -> Float[Tensor, "n c h w"]:
    r"""$G_c \odot L_c$: guided backpropagation times the enlarged Grad-CAM map, as in the paper."""
    place = grad_cam(classifier, images, targets, layer=layer, batch_size=batch_size)
    return guided_backprop(classifier, images, targets, batch_size=batch_size) * place
