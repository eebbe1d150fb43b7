r"""Class activation maps (CAM): the feature maps of the last layer, weighted as the class does.

Zhou, Khosla, Lapedriza, Oliva, Torralba, *Learning deep features for discriminative
localization*, CVPR 2016.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from lib import copies
from lib.networks.layers import activations_and_gradients, cam_layer

TOLERANCE = 1e-3  # of the largest logit, between the network and pooling + linear layer


def cam(
    classifier,
    images: Float[Tensor, "n c h w"],
    targets: Int[Tensor, " n"],
    *,
    upsample: bool = True,
    batch_size: int | None = None,
) -> Float[Tensor, "n 1 y x"]:
    r"""$M_c(y,x)=\sum_k w^c_k f_k(y,x)$, $f_k$ the last feature maps, $w^c$ the class's weights.

    In logits. The mean of the map over the layer's cells plus the class's bias is the logit:
    $S_c = b_c + \frac1Z\sum_{yx} M_c(y,x)$. The bias has no place and is not in the map.
    ``upsample=False`` gives the layer's own cells ``(N, 1, h, w)``, for which this is exact. So it
    is enlarged to the images (bilinear, ``align_corners=False``) by a whole factor; by a broken
    one the mean changes a little.

    Raises ``ValueError`` unless the network ends in global average pooling and one linear layer.
    """
    engine = copies.Engine(classifier, images, targets, batch_size, "cam")
    layer = cam_layer(classifier, tuple(images.shape[1:]))
    weight, bias = class_weights(classifier)

    def answer(batch: Tensor, wanted: Tensor) -> Tensor:
        features, _, logits = activations_and_gradients(classifier, batch, wanted, layer)
        pooled = features.mean((2, 3))
        fits = pooled.shape[1] == weight.shape[1]
        if not fits or _gap(pooled @ weight.T + bias, logits) > TOLERANCE:
            raise ValueError(_NO_CAM.format(classifier.name))
        maps = torch.einsum("bk,bkhw->bhw", weight[wanted], features)[:, None]
        return enlarge(maps, images.shape[2:]) if upsample else maps

    return engine.single_pass(answer).to(images.device)


def class_weights(classifier) -> tuple[Float[Tensor, "k c"], Float[Tensor, " k"]]:
    """The weights and biases of the linear layer that ends the network (zeros without a bias).

    Raises ``ValueError`` when the last layer is not linear.
    """
    last = None
    if getattr(classifier, "is_graph", False):
        output = next(n for n in reversed(classifier.network.graph.nodes) if n.op == "output")
        (node,) = output.all_input_nodes[:1] or (None,)
        if node is not None and node.op == "call_module":
            last = classifier.network.get_submodule(node.target)
    if not isinstance(last, nn.Linear):
        raise ValueError(_NO_CAM.format(classifier.name))
    bias = last.bias if last.bias is not None else last.weight.new_zeros(len(last.weight))
    return last.weight.detach(), bias.detach()


def enlarge(maps: Float[Tensor, "n 1 h w"], size) -> Float[Tensor, "n 1 H W"]:
    """Bilinear, ``align_corners=False``: a cell's value lies at the cell's center."""
    return nn.functional.interpolate(maps, tuple(size), mode="bilinear", align_corners=False)


def _gap(ours: Tensor, theirs: Tensor) -> float:
    return float((ours - theirs).abs().max() / theirs.abs().max().clamp_min(1e-12))


_NO_CAM = (
    "cam needs a network that ends in global average pooling and one linear layer, which {} does "
    "not; grad_cam needs no pooling"
)
