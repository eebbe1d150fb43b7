"""CAM and Grad-CAM: the identities of the two papers, where a cell ends up, and what is refused."""

import captum.attr
import pytest
import torch
from support.networks import relative
from torch import nn

from lib.attribution import cam, grad_cam, guided_backprop, guided_grad_cam
from lib.attribution.cam import class_weights
from lib.networks.classifier import Classifier
from lib.networks.layers import LayerError


class OneCell(nn.Module):
    """Its feature map is the image averaged over 8 x 8 blocks: a bright block is one hot cell."""

    def __init__(self):
        super().__init__()
        self.blocks = nn.AvgPool2d(8)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(3, 2)

    def forward(self, x):
        return self.head(self.pool(self.blocks(x)).flatten(1))


def hot_block(row, column, height=64, width=96):
    image = torch.zeros(1, 3, height, width)
    image[..., 8 * row : 8 * row + 8, 8 * column : 8 * column + 8] = 1
    return image


@pytest.fixture(scope="module")
def blocks():
    network = OneCell()
    network.head.weight.data = torch.tensor([[1.0, 2.0, 3.0], [-1.0, -1.0, -1.0]])
    return Classifier(network, name="blocks", categories=["a", "b"])


@pytest.fixture(scope="module")
def no_pooling():
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 5, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(5 * 8 * 8, 4)
    )
    return Classifier(network, name="no pooling", categories=list("abcd"))


@pytest.mark.slow
def test_mean_of_cam_plus_bias_is_the_score(classifier, pixels, photos):
    _, bias = class_weights(classifier)
    maps = cam(classifier, pixels, photos.targets, upsample=False)
    scores = classifier.scores(pixels).gather(1, photos.targets[:, None])[:, 0]
    assert maps.shape == (20, 1, 7, 7)
    assert torch.allclose(maps.mean((1, 2, 3)) + bias[photos.targets], scores, atol=1e-4)


def test_grad_cam_before_relu_is_cam_over_the_cells(classifier, pixels, photos):
    x, t = pixels[:6], photos.targets[:6]
    ours = grad_cam(classifier, x, t, relu=False, upsample=False)
    assert relative(49 * ours, cam(classifier, x, t, upsample=False)) < 1e-5
    assert relative(49 * grad_cam(classifier, x, t, relu=False), cam(classifier, x, t)) < 1e-5


def test_enlarging_by_a_whole_factor_keeps_the_mean(classifier, pixels, photos):
    x, t = pixels[:3], photos.targets[:3]
    cells = cam(classifier, x, t, upsample=False).mean((1, 2, 3))
    assert torch.allclose(cam(classifier, x, t).mean((1, 2, 3)), cells, atol=1e-4)


@pytest.mark.parametrize("layer", ["_swish_1", "_blocks.10._project_conv", "_conv_stem"])
def test_captum_agrees_on_the_cells(classifier, pixels, photos, layer):
    module = classifier.network.get_submodule(layer)
    theirs = captum.attr.LayerGradCam(classifier, module).attribute(
        pixels[:2], photos.targets[:2], relu_attributions=True
    )
    ours = grad_cam(classifier, pixels[:2], photos.targets[:2], layer=layer, upsample=False)
    assert relative(ours, theirs.detach()) < 1e-4


def test_captum_agrees_without_pooling(no_pooling):
    images, targets = torch.rand(5, 3, 8, 8), torch.tensor([0, 1, 2, 3, 0])
    theirs = captum.attr.LayerGradCam(no_pooling, no_pooling.network.get_submodule("0")).attribute(
        images, targets
    )
    assert (
        relative(grad_cam(no_pooling, images, targets, layer="0", relu=False), theirs.detach())
        < 1e-5
    )


@pytest.mark.parametrize("row, column", [(3, 4), (1, 9), (6, 2)])
def test_peak_lies_at_the_center_of_its_cell(blocks, row, column):
    image = hot_block(row, column)
    for maps in (cam(blocks, image, torch.tensor([0])), grad_cam(blocks, image, torch.tensor([0]))):
        values = maps[0, 0].clamp_min(0)
        weights = (values == values.max()).double()  # the two middle rows share the maximum
        y = (weights.sum(1) * (torch.arange(64) + 0.5)).sum() / weights.sum()
        x = (weights.sum(0) * (torch.arange(96) + 0.5)).sum() / weights.sum()
        assert abs(y - (8 * row + 4)) <= 0.5 and abs(x - (8 * column + 4)) <= 0.5


def test_relu_keeps_only_evidence_for_the_class(blocks):
    against = grad_cam(blocks, hot_block(3, 4), torch.tensor([1]))
    assert against.min() == against.max() == 0
    assert grad_cam(blocks, hot_block(3, 4), torch.tensor([1]), relu=False).min() < 0


def test_two_batches_in_a_row_are_two_fresh_calls(classifier, pixels, photos):
    first = grad_cam(classifier, pixels[:3], photos.targets[:3])
    second = grad_cam(classifier, pixels[3:6], photos.targets[3:6])
    both = grad_cam(classifier, pixels[:6], photos.targets[:6])
    assert relative(torch.cat([first, second]), both) < 1e-5
    assert second.amax((1, 2, 3)).min() > 0


@pytest.mark.slow
def test_batch_size_and_order_do_not_matter(classifier, pixels, photos):
    x, t = pixels[:5, :, 32:160, 32:192], photos.targets[:5]
    order = torch.tensor([3, 0, 4, 1, 2])
    for method in (cam, grad_cam, guided_grad_cam):
        whole = method(classifier, x, t)
        assert relative(method(classifier, x, t, batch_size=1), whole) < 1e-4
        assert relative(method(classifier, x[order], t[order], batch_size=3), whole[order]) < 1e-4


def test_guided_grad_cam_is_the_product(classifier, pixels, photos):
    x, t = pixels[:2], photos.targets[:2]
    product = guided_backprop(classifier, x, t) * grad_cam(classifier, x, t)
    assert relative(guided_grad_cam(classifier, x, t), product) < 1e-6


def test_gray_images_and_another_size(classifier):
    images = torch.rand(2, 3, 96, 160)
    assert cam(classifier, images, torch.tensor([1, 2])).shape == (2, 1, 96, 160)
    assert grad_cam(classifier, images, torch.tensor([1, 2]), layer="add").shape == (2, 1, 96, 160)


def test_a_network_without_a_bias():
    network = nn.Sequential(
        nn.Conv2d(1, 3, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2, bias=False)
    )
    plain = Classifier(network, mean=(0.0,), std=(1.0,), categories=["a", "b"])
    images = torch.rand(2, 1, 7, 9)
    maps = cam(plain, images, torch.tensor([0, 1]), upsample=False)
    assert torch.allclose(maps.mean((1, 2, 3)), plain(images)[[0, 1], [0, 1]], atol=1e-6)


def test_cam_is_refused_without_global_pooling(no_pooling):
    with pytest.raises(
        ValueError, match=r"cam needs .* global average pooling .* no pooling does not"
    ):
        cam(no_pooling, torch.rand(1, 3, 8, 8), torch.tensor([0]))
    # as many channels as weights, but pooled by the maximum
    largest = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(4, 2)
    )
    with pytest.raises(ValueError, match="global average pooling"):
        cam(Classifier(largest, name="max"), torch.rand(1, 3, 8, 8), torch.tensor([0]))
    no_head = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    with pytest.raises(ValueError, match="global average pooling"):
        cam(Classifier(no_head, name="no head"), torch.rand(1, 3, 8, 8), torch.tensor([0]))


def test_bad_layers_are_named_with_ones_that_work(classifier, pixels, photos):
    x, t = pixels[:1], photos.targets[:1]
    with pytest.raises(LayerError, match=r"'layer4' does not exist .* would work: _swish_1"):
        grad_cam(classifier, x, t, layer="layer4")
    with pytest.raises(LayerError, match=r"'_fc' .* no spatial output; .* _swish_1 \(7 x 7\)"):
        grad_cam(classifier, x, t, layer="_fc")


def test_a_target_without_a_logit_is_refused(no_pooling):
    unnamed = Classifier(no_pooling.network, name="unnamed")
    with pytest.raises(ValueError, match="target 4 does not exist: there are 4 classes"):
        grad_cam(unnamed, torch.rand(1, 3, 8, 8), torch.tensor([4]))
