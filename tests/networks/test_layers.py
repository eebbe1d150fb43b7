"""Layers by name: found, captured, cut open; and the classifier stays as it was."""

import pytest
import torch
from support.networks import relative
from torch import nn

from lib.networks.classifier import Classifier, load_classifier
from lib.networks.layers import (
    LayerError,
    activations_and_gradients,
    cam_layer,
    find_layer,
    gradients_at,
    spatial_layers,
    split,
)

SHAPE = (3, 224, 224)


class Awkward(nn.Module):
    """Works in place after the layer, skips around it, reuses a ReLU, and asks for its batch."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3, padding=1)
        self.second = nn.Conv2d(4, 4, 3, padding=1)
        self.relu = nn.ReLU(inplace=True)
        self.head = nn.Linear(4 * 6 * 8, 3)

    def forward(self, x):
        batch = x.size(0)
        a = self.relu(self.first(x))
        b = self.second(a)
        b.add_(a)
        b = self.relu(b)
        b = b * 2
        return self.head(b.view(batch, -1))


@pytest.fixture(scope="module")
def awkward():
    torch.manual_seed(0)
    return Classifier(Awkward().double().eval(), name="awkward", categories=list("abc"))


@pytest.fixture
def six():
    random = torch.Generator().manual_seed(1)
    return torch.rand(4, 3, 6, 8, generator=random, dtype=torch.float64)


def snapshot(classifier):
    hooks = [len(m._forward_hooks) + len(m._backward_hooks) for m in classifier.modules()]
    return (
        {k: v.clone() for k, v in classifier.state_dict().items()},
        [(p.requires_grad, p.grad) for p in classifier.parameters()],
        [m.training for m in classifier.modules()],
        hooks,
        torch.get_rng_state(),
    )


def assert_same(before, after):
    for key, value in before[0].items():
        assert torch.equal(value, after[0][key]), key
    assert before[1:4] == after[1:4]
    assert torch.equal(before[4], after[4])


def test_list_names_every_spatial_layer_with_its_size(classifier):
    layers = spatial_layers(classifier, SHAPE)
    assert layers["_conv_stem"] == (32, 112, 112)
    assert layers["_blocks.5._depthwise_conv"] == (240, 14, 14)
    assert cam_layer(classifier, SHAPE) == list(layers)[-1] == "_swish_1"
    assert layers["_swish_1"] == (1280, 7, 7)
    assert "_avg_pooling" not in layers and "_fc" not in layers


def test_sizes_follow_the_image(classifier):
    assert spatial_layers(classifier, (3, 96, 160))["_swish_1"] == (1280, 3, 5)


def test_a_layer_by_module_by_node_and_by_block(classifier):
    assert find_layer(classifier, "_blocks.5._project_conv", SHAPE) == "_blocks.5._project_conv"
    assert find_layer(classifier, "_blocks_5__project_conv", SHAPE) == "_blocks.5._project_conv"
    assert find_layer(classifier, "add_8", SHAPE) == "add_8"
    assert find_layer(classifier, "_blocks.5", SHAPE) == "_blocks.5._project_conv"
    assert find_layer(classifier, None, SHAPE) == "_swish_1"


def test_a_block_of_resnet_means_its_last_layer_not_its_last_module():
    resnet = load_classifier("resnet18", weights="random", device="cpu")
    name = find_layer(resnet, "layer3", SHAPE)
    assert spatial_layers(resnet, SHAPE)[name] == (256, 14, 14)
    after = list(spatial_layers(resnet, SHAPE))
    assert after[after.index(name) + 1].startswith("layer4")


@pytest.mark.parametrize("layer", ["_block.5", "nothing", ""])
def test_a_layer_that_does_not_exist(classifier, layer):
    with pytest.raises(LayerError, match=r"does not exist.*would work.*_swish_1 \(7 x 7\)") as info:
        find_layer(classifier, layer, SHAPE)
    assert "\n" not in str(info.value)


@pytest.mark.parametrize("layer", ["_fc", "_avg_pooling", "view"])
def test_a_layer_without_spatial_output(classifier, layer):
    with pytest.raises(LayerError, match=r"no spatial output.*would work.*_swish_1") as info:
        find_layer(classifier, layer, SHAPE)
    assert "\n" not in str(info.value)


def test_a_network_without_spatial_layers():
    flat = Classifier(nn.Sequential(nn.Flatten(), nn.Linear(12, 2)), name="flat")
    with pytest.raises(LayerError, match="flat has no layer with a spatial output"):
        cam_layer(flat, (3, 2, 2))


def test_a_network_that_is_no_graph(exact):
    branching = exact(lambda x: x.mean((2, 3)) if x.sum() > 0 else x.amax((2, 3)))
    assert not branching.is_graph
    with pytest.raises(LayerError, match="cannot be addressed"):
        spatial_layers(branching, (1, 4, 4))


def test_logits_are_those_of_the_network(classifier, pixels):
    for layer in ("_blocks.0", "add_3", "_swish_1"):
        _, _, logits = activations_and_gradients(
            classifier, pixels[:2], torch.tensor([1, 2]), layer
        )
        assert relative(logits, classifier(pixels[:2])) < 1e-6


def test_gradient_agrees_with_hooks(classifier, pixels, photos):
    """The same two tensors by PyTorch's hooks on the module."""
    seen = {}
    module = classifier.network.get_submodule("_blocks.7._project_conv")
    hook = module.register_forward_hook(lambda m, i, o: seen.update(out=o) or o.retain_grad())
    try:
        x = pixels[:2].clone().requires_grad_(True)
        logits = classifier(x)
        logits.gather(1, photos.targets[:2, None]).sum().backward()
    finally:
        hook.remove()
    ours = activations_and_gradients(
        classifier, pixels[:2], photos.targets[:2], "_blocks.7._project_conv"
    )
    assert relative(ours[0], seen["out"].detach()) < 1e-6
    assert relative(ours[1], seen["out"].grad) < 1e-5


def test_captured_before_it_is_overwritten(awkward, six):
    """In-place work after the layer must reach neither the activations nor the gradient."""
    features, slopes, logits = activations_and_gradients(
        awkward, six, torch.tensor([0, 1, 2, 0]), "second"
    )
    second = awkward.network.second(awkward.network.relu(awkward.network.first(six)))
    assert torch.allclose(features, second, atol=1e-6)
    assert torch.allclose(logits, awkward(six), atol=1e-6)
    step = torch.randn(features.shape, generator=torch.Generator().manual_seed(2)).double()
    _, rest = split(awkward, six, "second")
    image = torch.arange(4)
    moved = rest(features + 1e-7 * step, image) - rest(features - 1e-7 * step, image)
    moved = moved.gather(1, torch.tensor([[0], [1], [2], [0]]))[:, 0] / 2e-7
    assert torch.allclose((slopes * step).sum((1, 2, 3)), moved, atol=1e-6)


@pytest.mark.parametrize("layer", ["first", "second", "relu", "head"])
def test_rest_of_the_network_follows_from_the_layer(awkward, six, layer):
    features, rest = split(awkward, six, layer)
    image = torch.tensor([2, 0, 3, 3, 1, 2, 0])  # another batch size than the split's
    assert torch.allclose(rest(features[image], image), awkward(six)[image], atol=1e-6)
    # and once more: the first call must not have altered what is held
    assert torch.allclose(rest(features[image], image), awkward(six)[image], atol=1e-6)


def test_rest_of_the_embedded_network(classifier, pixels):
    for layer in ("_conv_stem", "_blocks.6._expand_conv", "add_5"):
        features, rest = split(classifier, pixels[:2], layer)
        image = torch.tensor([1, 0, 1])
        assert relative(rest(features[image], image), classifier(pixels[:2])[image]) < 1e-5


def test_classifier_and_images_are_left_alone(awkward, six):
    targets, before, images = torch.tensor([0, 1, 2, 0]), snapshot(awkward), six.clone()
    activations_and_gradients(awkward, six, targets, "second")
    split(awkward, six, "second")[1](torch.ones(2, 4, 6, 8).double(), torch.tensor([0, 1]))
    spatial_layers(awkward, (3, 6, 8))
    assert_same(before, snapshot(awkward))
    assert torch.equal(six, images)


def test_classifier_is_left_alone_after_an_exception(awkward, six):
    before = snapshot(awkward)
    with pytest.raises(RuntimeError):  # the linear layer does not fit this size
        activations_and_gradients(awkward, six[..., :7], torch.tensor([0, 1, 2, 0]), "second")
    with pytest.raises(LayerError, match="does not exist"):
        split(awkward, six, "third")
    assert_same(before, snapshot(awkward))


def test_gradients_of_layers_beside_one_another():
    class Branches(nn.Module):
        """Two convolutions of the same input, one after another in the graph, not in the flow."""

        def __init__(self):
            super().__init__()
            self.one, self.two = nn.Conv2d(3, 2, 3), nn.Conv2d(3, 2, 3)

        def forward(self, x):
            return (self.one(x) + 3 * self.two(x)).flatten(2).mean(2)

    made = Classifier(Branches(), categories=["a", "b"])
    found, _ = gradients_at(made, torch.rand(2, 3, 6, 6), torch.tensor([0, 1]), ["one", "two"])
    (_, one), (_, two) = found["one"], found["two"]
    assert torch.allclose(one[0, 0], torch.full((4, 4), 1 / 16))
    assert torch.allclose(two[0, 0], torch.full((4, 4), 3 / 16))
    assert not one[0, 1].any() and not two[1, 0].any()
