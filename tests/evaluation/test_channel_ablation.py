"""What a channel is worth: exact before a linear rest, by hand elsewhere."""

import numpy as np
import pytest

from lib.evaluation.channel_ablation import channel_ablation
from lib.networks.layers import LayerError, cam_layer


class Photos:
    def __init__(self, targets):
        self.targets = targets


def test_before_pooling_and_a_linear_layer_the_promise_is_kept(classifier, pixels, photos):
    x, t = pixels[:1, :, 64:160, 64:160], Photos(photos.targets[:1])
    last = cam_layer(classifier, (3, 96, 96))
    rows = channel_ablation(classifier, t, x, {"layers": [last], "channels": 30})
    assert len(rows) == 30 and rows["channel"].is_unique
    np.testing.assert_allclose(rows["promised"], rows["fall"], atol=1e-3)
    assert (rows["weight"].abs().diff().dropna() <= 0).all()  # the strongest first
    assert not (rows["weight"] * rows["fall"] < -1e-6).any()


def test_measured_by_hand(classifier, pixels, photos):
    """Channels switched off with PyTorch's own hook."""
    x, t = pixels[:2, :, 64:160, 64:160], photos.targets[:2]
    name = "_blocks.11._depthwise_conv"
    rows = channel_ablation(classifier, Photos(t), x, {"layers": [name], "channels": 3})
    assert rows["image"].tolist() == [0] * 3 + [1] * 3

    for row in rows.itertuples():

        def switch_off(module, inputs, output, channel=row.channel):
            output = output.clone()
            output[:, channel] = 0
            return output

        one, target = x[[row.image]], int(t[row.image])
        hook = classifier.network.get_submodule(name).register_forward_hook(switch_off)
        try:
            without = classifier(one)[0, target]
        finally:
            hook.remove()
        assert row.fall == pytest.approx(float(classifier(one)[0, target] - without), abs=1e-4)


def test_a_layer_that_does_not_exist_is_named(classifier, pixels, photos):
    with pytest.raises(LayerError, match="'nothing' does not exist"):
        some = Photos(photos.targets[:1])
        channel_ablation(classifier, some, pixels[:1], {"layers": ["nothing"], "channels": 3})
