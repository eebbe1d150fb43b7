"""What a channel is worth: exact before a linear rest, by hand elsewhere."""

import pytest
import torch
from support.networks import relative

from lib.evaluation.channel_ablation import channel_effects
from lib.networks.layers import LayerError


def test_before_pooling_and_a_linear_layer_all_three_agree(classifier, pixels, photos):
    x, t = pixels[:1, :, 64:160, 64:160], photos.targets[:1]
    effects = channel_effects(classifier, x, t)
    assert effects.measured.shape == (1, 1280)
    assert relative(effects.averaged, effects.measured) < 1e-3
    assert relative(effects.first_order, effects.measured) < 1e-3


@pytest.mark.slow
def test_measured_by_hand(classifier, pixels, photos):
    """One channel switched off with PyTorch's own hook."""
    x, t = pixels[:2, :, 64:160, 64:160], photos.targets[:2]
    name = "_blocks.11._depthwise_conv"
    effects = channel_effects(classifier, x, t, layer=name, batch_size=50)

    def switch_off(module, inputs, output):
        output = output.clone()
        output[:, 17] = 0
        return output

    hook = classifier.network.get_submodule(name).register_forward_hook(switch_off)
    try:
        without = classifier(x).gather(1, t[:, None])[:, 0]
    finally:
        hook.remove()
    fall = classifier(x).gather(1, t[:, None])[:, 0] - without
    assert torch.allclose(effects.measured[:, 17], fall, atol=1e-4)
    one = channel_effects(classifier, x[1:], t[1:], layer=name)
    assert torch.allclose(one.measured[0], effects.measured[1], atol=1e-4)


def test_a_layer_that_does_not_exist_is_named(classifier, pixels, photos):
    with pytest.raises(LayerError, match=r"'nothing' does not exist .* would work"):
        channel_effects(classifier, pixels[:1], photos.targets[:1], layer="nothing")
