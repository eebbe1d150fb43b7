"""Rollout and Grad-CAM on tokens: by hand on a small transformer, and who is refused."""

import pytest
import torch
from support.networks import relative

from lib.attribution import METHODS, attention_rollout, token_grad_cam
from lib.attribution.cam import enlarge
from lib.data.tasks import load_task
from lib.networks import small as small_networks
from lib.networks.classifier import Classifier, load_classifier
from lib.training import recipes
from lib.training.train import accuracy

TARGETS = torch.tensor([1, 3])


def transformer():
    network = small_networks.build(small_networks.vision_transformer).double().eval()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for parameter in network.parameters():  # its last layer starts at zero, and sees nothing
            parameter.data.add_(0.3 * torch.randn_like(parameter))
    return network


@pytest.fixture(scope="module")
def network():
    return transformer()


@pytest.fixture(scope="module")
def classifier_(network):
    return Classifier(network, name="vit", mean=[0.0], std=[1.0])


@pytest.fixture
def images():
    return torch.rand(2, 1, 28, 28, dtype=torch.float64)


def read(network, images, name):
    """What the layer puts out, by a hook: with the logits, ready for gradients."""
    kept = []
    handle = network.get_submodule(name).register_forward_hook(lambda *a: kept.append(a[2]))
    logits = network(images)
    handle.remove()
    return kept[0], logits


def test_rollout_is_the_product_of_the_softmaxes(network, classifier_, images):
    flow = torch.eye(50, dtype=torch.float64)
    for k in range(2):
        block = f"encoder.layers.encoder_layer_{k}"
        tokens, _ = read(network, images, f"{block}.ln_1")
        attention = network.get_submodule(f"{block}.self_attention")
        q, keys, _ = (
            (tokens @ w.T + b).view(2, 50, 2, 16).transpose(1, 2)
            for w, b in zip(
                attention.in_proj_weight.chunk(3), attention.in_proj_bias.chunk(3), strict=True
            )
        )
        mean = (q @ keys.transpose(2, 3) / 4).softmax(-1).mean(1)
        flow = (mean + torch.eye(50)) / 2 @ flow
    cells = attention_rollout(classifier_, images, TARGETS, upsample=False)
    assert relative(cells, flow[:, 0, 1:].reshape(2, 1, 7, 7)) < 1e-9
    assert (cells >= 0).all() and (cells.sum((1, 2, 3)) > 0).all() and cells.sum() < 2
    assert torch.equal(
        cells, attention_rollout(classifier_, images, 1 - TARGETS + 4, upsample=False)
    )


def test_equal_attention_has_a_closed_form(images):
    network = transformer()
    for name, parameter in network.named_parameters():
        if "in_proj" in name:
            parameter.data.zero_()
    plain = Classifier(network, mean=[0.0], std=[1.0])
    cells = attention_rollout(plain, images, TARGETS, upsample=False)
    # (U/50 + I)/2 twice, with U all ones: (3 U/50 + I)/4
    assert relative(cells, torch.full_like(cells, 3 / 200)) < 1e-9


@pytest.mark.parametrize("layer", [None, "encoder.layers.encoder_layer_0"])
def test_grad_cam_on_tokens_is_that_of_hooks(network, classifier_, images, layer):
    name = layer or "encoder.layers.encoder_layer_1.ln_1"
    tokens, logits = read(network, images, name)
    score = logits[[0, 1], TARGETS].sum()
    (slopes,) = torch.autograd.grad(score, tokens)
    expected = (tokens[:, 1:] * slopes[:, 1:].mean(1, keepdim=True)).sum(2).view(2, 1, 7, 7)
    options = {"layer": layer, "upsample": False}
    signed = token_grad_cam(classifier_, images, TARGETS, relu=False, **options)
    assert relative(signed, expected.detach()) < 1e-9 and signed.min() < 0 < signed.max()
    ours = token_grad_cam(classifier_, images, TARGETS, batch_size=1, **options)
    assert relative(ours, signed.relu()) < 1e-9


def test_maps_are_the_cells_enlarged(classifier_, images):
    for method in (attention_rollout, token_grad_cam):
        cells = method(classifier_, images, TARGETS, upsample=False)
        assert relative(method(classifier_, images, TARGETS), enlarge(cells, (28, 28))) < 1e-9


@pytest.mark.parametrize("method", [attention_rollout, token_grad_cam])
def test_a_second_map_costs_one_pass(method, classifier_, images, monkeypatch):
    first = method(classifier_, images, TARGETS)
    passed, run = [], torch.fx.Interpreter.run
    monkeypatch.setattr(
        torch.fx.Interpreter, "run", lambda *a, **k: passed.append(len(a[1])) or run(*a, **k)
    )
    assert relative(method(classifier_, images, TARGETS), first) < 1e-9
    assert passed == [len(images)]


@pytest.mark.slow
def test_a_transformer_trained_on_the_digits():
    task = load_task()
    trained = recipes.trained("vision_transformer", task)
    assert accuracy(trained, task.test_images, task.test_labels) > 0.8
    digits, labels = task.test_batch(50)
    maps = token_grad_cam(trained, digits, labels, upsample=False)
    others = token_grad_cam(trained, digits, (labels + 1) % 10, upsample=False)
    assert relative(others, maps) > 0.1  # it knows the class


@pytest.mark.slow
@pytest.mark.parametrize("name", ["attention_rollout", "token_grad_cam"])
def test_a_transformer_of_torchvision(name, pixels):
    network = load_classifier("vit_b_32", weights="random")
    cells = METHODS[name](network, pixels[:1], torch.tensor([3]), upsample=False)
    assert cells.shape == (1, 1, 7, 7) and cells.isfinite().all()


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("cam", "cam needs a network that ends in global average pooling .* which vit does not"),
        ("guided_backprop", "guided backprop is defined for ReLU and ReLU6, not for"),
        ("guided_grad_cam", "guided backprop is defined for ReLU and ReLU6, not for"),
        ("excitation_backprop", "excitation backprop is defined for convolution, .* not for"),
        ("lrp_epsilon", "lrp is defined for convolution, .* not for"),
        ("lrp_z_plus", "lrp is defined for convolution, .* not for"),
        ("deeplift", "deeplift's rescale rule is not defined for"),
        ("x_gradient", r"vit is not nonnegatively homogeneous: conv_proj \(Conv2d: its bias is a"),
    ],
)
def test_methods_that_a_transformer_is_not_for_say_so(classifier_, images, name, said):
    with pytest.raises(ValueError, match=said) as refused:
        METHODS[name](classifier_, images, TARGETS)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("method", [attention_rollout, token_grad_cam])
def test_networks_that_are_no_transformers_are_refused(method, small, images):
    few = images.float().expand(-1, 3, -1, -1)
    with pytest.raises(ValueError, match=r"needs a vision transformer, .* which custom is not"):
        method(small, few, TARGETS)


def test_other_bad_input(classifier_, images):
    with pytest.raises(ValueError, match=r"'heads' puts out \(10,\), no tokens"):
        token_grad_cam(classifier_, images, TARGETS, layer="heads")
    with pytest.raises(ValueError, match="'nowhere' does not exist"):
        token_grad_cam(classifier_, images, TARGETS, layer="nowhere")
    for method in (attention_rollout, token_grad_cam):
        with pytest.raises(ValueError, match="target 10 does not exist: there are 10 classes"):
            method(classifier_, images, torch.tensor([0, 10]))
