"""The class maps of every layer: exact before pooling, by hand elsewhere."""

import pytest
import torch
from support.networks import relative
from torch import nn

from lib.attribution import cam, grad_cam
from lib.evaluation.class_maps import class_maps
from lib.networks.classifier import Classifier
from lib.networks.layers import activations_and_gradients, gradients_at, spatial_layers
from lib.networks.small import build, gap_network


class Photos:
    targets = torch.tensor([3, 0])


@pytest.fixture(scope="module")
def small():
    gray = {"input_size": 28, "mean": (0.0,), "std": (1.0,)}
    return Classifier(build(gap_network, seed=1), **gray)


PIXELS = torch.rand(2, 1, 28, 28, generator=torch.Generator().manual_seed(0))


def test_the_mean_of_the_map_is_the_score_in_the_last_layer_alone(small):
    layers = list(spatial_layers(small, (1, 28, 28)))
    rows = class_maps(small, Photos, PIXELS, {"layers": layers})
    assert len(rows) == 2 * len(layers)
    rows["error"] = (rows["mean"] + rows["bias"] - rows["score"]).abs()
    last = rows[rows["layer"] == layers[-1]]
    assert last["error"].max() < 1e-5 and last["gap"].max() < 1e-5
    assert (last["cells"] == 49).all()
    others = rows[rows["layer"] != layers[-1]]
    assert others["error"].min() > 1e-3 and others["cam"].isna().all()
    logits = small(PIXELS).gather(1, Photos.targets[:, None])[:, 0]
    torch.testing.assert_close(torch.tensor(last["score"].to_numpy()).float(), logits)


def test_each_layer_is_z_times_grad_cam(small):
    layer = next(iter(spatial_layers(small, (1, 28, 28))))
    rows = class_maps(small, Photos, PIXELS, {"layers": [layer]})
    map_ = grad_cam(small, PIXELS, Photos.targets, layer=layer, relu=False, upsample=False)
    expected = map_.mean((1, 2, 3)) * map_[0].numel()
    torch.testing.assert_close(torch.tensor(rows["mean"].to_numpy()).float(), expected)
    assert class_maps(small, Photos, PIXELS, {})["cam"].tolist() == pytest.approx(
        cam(small, PIXELS, Photos.targets, upsample=False).mean((1, 2, 3)).tolist(), rel=1e-5
    )


def test_all_layers_at_once_are_those_one_by_one(small):
    layers = list(spatial_layers(small, (1, 28, 28)))
    found, logits = gradients_at(small, PIXELS, Photos.targets, layers)
    assert list(found) == layers
    for layer in layers:
        values, slopes, alone = activations_and_gradients(small, PIXELS, Photos.targets, layer)
        assert relative(found[layer][0], values) < 1e-6
        assert relative(found[layer][1], slopes) < 1e-5
        assert torch.equal(logits, alone)


def test_a_network_without_pooling_has_no_class_map():
    flat = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(4 * 26 * 26, 10))
    classifier = Classifier(flat, input_size=28, mean=(0.0,), std=(1.0,))
    with pytest.raises(ValueError, match="cam needs a network that ends in global average"):
        class_maps(classifier, Photos, PIXELS, {})
