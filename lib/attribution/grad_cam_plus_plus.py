r"""Grad-CAM++: Grad-CAM whose channel weights count the cells that push the score up.

Chattopadhay, Sarkar, Howlader, Balasubramanian, *Grad-CAM++: generalized gradient-based visual
explanations for deep convolutional networks*, WACV 2018, equations 5, 6 and 19.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lib import copies
from lib.attribution.cam import enlarge
from lib.networks.layers import activations_and_gradients, find_layer


def grad_cam_plus_plus(
    classifier,
    images: Float[Tensor, "n c h w"],
    targets: Int[Tensor, " n"],
    *,
    layer: str | None = None,
    upsample: bool = True,
    batch_size: int | None = None,
) -> Float[Tensor, "n 1 y x"]:
    r"""$L_c=\mathrm{ReLU}\big(\sum_kw_kA_k\big)$, $w_k=\sum_{yx}\frac{g^+}{2+g\sum A_k}$ with
    $g=\partial S_c/\partial A_k(y,x)$.

    That is the paper's $\alpha=Y''/(2Y''+\sum A\,Y''')$ times $(\partial Y/\partial A)^+$ for
    $Y=e^{S_c}$, ``S_c`` the target's logit, whose derivatives are powers of g where $S_c$ is linear
    in the layer piece by piece; the factor $e^{S_c}$, one number per image, is left out. ``layer``
    and ``upsample`` are those of :func:`lib.attribution.grad_cam.grad_cam`. Made for a layer after
    a ReLU: of negative outputs the denominator may vanish, and such cells count nothing.

    Raises ``LayerError`` (a ``ValueError``) that names layers that would work.
    """
    engine = copies.Engine(classifier, images, targets, batch_size, "grad_cam_plus_plus")
    name = find_layer(classifier, layer, tuple(images.shape[1:]))

    def answer(batch: Tensor, wanted: Tensor) -> Tensor:
        features, slopes, _ = activations_and_gradients(classifier, batch, wanted, name)
        below = 2 + slopes * features.sum((2, 3), keepdim=True)
        weights = torch.where(below == 0, 0, slopes.relu() / below).sum((2, 3))
        maps = torch.einsum("bk,bkhw->bhw", weights, features)[:, None].relu()
        return enlarge(maps, images.shape[2:]) if upsample else maps

    return engine.single_pass(answer).to(images.device)
