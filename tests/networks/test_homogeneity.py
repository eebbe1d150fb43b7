"""Which layers scale, measured against closed forms; what the converter takes out and what not."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from lib.networks.classifier import Classifier
from lib.networks.degrees import NotHomogeneous, read_degrees, why_not
from lib.networks.homogeneity import degree, homogeneity, to_x_dnn
from lib.networks.normal_form import normal_form
from lib.networks.small import alexnet_like, build, gap_network, relu_power, residual, vgg_like

MAKERS = (alexnet_like, vgg_like, residual, gap_network)
IMAGES = torch.rand(3, 1, 28, 28, generator=torch.Generator().manual_seed(0))
HOMOGENEOUS = [
    nn.ReLU(), nn.LeakyReLU(0.2), nn.PReLU(), nn.AvgPool2d(2), nn.MaxPool2d(2),
    nn.AdaptiveAvgPool2d(2), nn.AdaptiveMaxPool2d(2), nn.LPPool2d(2, 2), nn.Flatten(),
    nn.Dropout(0.5), nn.ZeroPad2d(1), nn.ReflectionPad2d(1), nn.ConstantPad2d(1, 0.0),
    nn.Upsample(scale_factor=2), nn.Conv2d(2, 3, 3, bias=False), nn.PixelShuffle(1),
    nn.Conv2d(2, 3, 3, padding=1, padding_mode="reflect", bias=False), nn.BatchNorm2d(2),
]  # fmt: skip
OTHERS = [
    nn.ReLU6(), nn.Hardtanh(), nn.Sigmoid(), nn.Tanh(), nn.GELU(), nn.SiLU(), nn.ELU(), nn.SELU(),
    nn.Softplus(), nn.Softmax(1), nn.Hardswish(), nn.Conv2d(2, 3, 3), nn.ConstantPad2d(1, 0.5),
    nn.GroupNorm(1, 2), nn.LayerNorm(8), nn.LocalResponseNorm(2), nn.InstanceNorm2d(2),
]  # fmt: skip


class Function(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function
        self.shift = nn.Parameter(torch.full((1,), 0.3))

    def forward(self, x):
        return self.function(x, self.shift)


def wrap(network, channels=1, mean=0.0):
    return Classifier(network, mean=[mean] * channels, std=[0.5] * channels)


def perturbed(make, **options):
    """Biases of a trained network are not zero; those of a new one may be."""
    network = build(make, **options)
    generator = torch.Generator().manual_seed(1)
    for p in network.parameters():
        p.data += 0.02 * torch.randn(p.shape, generator=generator)
    return network


@pytest.mark.parametrize("layer", HOMOGENEOUS, ids=lambda layer: type(layer).__name__)
def test_homogeneous_layers_are_read_and_measured_as_such(layer):
    layer = layer.eval()
    h = 10 * torch.randn(2, 2, 8, 8)
    assert why_not(layer) is None
    for alpha in (0.0, 0.1, 7.0):
        torch.testing.assert_close(layer(alpha * h), alpha * layer(h), rtol=1e-5, atol=1e-5)
    if not isinstance(layer, nn.Dropout):  # the normal form drops it
        frame = homogeneity(wrap(nn.Sequential(layer, nn.Flatten()), 2), h)
        assert frame["error"].max() < 1e-5
        assert frame["degree"].to_numpy() == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("layer", OTHERS, ids=lambda layer: type(layer).__name__)
def test_other_layers_are_named_and_measured_as_such(layer):
    layer = layer.eval()
    h = 10 * torch.randn(2, 2, 8, 8)
    assert why_not(layer) is not None
    classifier = wrap(nn.Sequential(layer, nn.Flatten()), 2)
    with pytest.raises(NotHomogeneous, match=rf"0 \({type(layer).__name__}: "):
        degree(classifier)
    row = homogeneity(classifier, h).set_index("layer").loc["0"]
    assert row["error"] > 1e-3 or row["degree"] < 0.01  # a norm has degree 0


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (lambda x, b: x + x, 1), (lambda x, b: x * x, 2), (lambda x, b: x * b, 1),
        (lambda x, b: x / b, 1), (lambda x, b: torch.square(x) * x, 3), (lambda x, b: x**4, 4),
        (lambda x, b: x.pow(2).mean((2, 3)).sqrt(), 1), (lambda x, b: torch.cat([x, x], 1), 1),
        (lambda x, b: torch.relu(x).pow(3).flatten(1), 3), (lambda x, b: -x.abs(), 1),
        (lambda x, b: x.reshape(x.size(0), -1) @ x.reshape(x.size(0), -1).t(), 2),
        (lambda x, b: x * x / (x.abs().amax() * 2), 1), (lambda x, b: functional.pad(x, (1, 1)), 1),
        (lambda x, b: x**3 * (2 / x), 2), (lambda x, b: torch.pow(x, exponent=3), 3),
        (lambda x, b: torch.mul(input=x, other=x), 2), (lambda x, b: x + x.div(other=b), 1),
        (lambda x, b: x[:, :, : x.shape[2] // 2], 1),
    ],
)  # fmt: skip
def test_degrees_of_operations(function, expected):
    graph = normal_form(Function(function))
    assert read_degrees(graph).breaks == ()
    assert read_degrees(graph).degree == expected
    x = torch.rand(2, 3, 4, 4) + 0.1
    torch.testing.assert_close(graph(3 * x), 3.0**expected * graph(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("function", "kind"),
    [
        (lambda x, b: x + b, "shift"), (lambda x, b: x + 1, "shift"), (lambda x, b: x - b, "shift"),
        (lambda x, b: b + x, "shift"), (lambda x, b: x.add(b), "shift"),
        (lambda x, b: x + x * x, "shape"), (lambda x, b: torch.cat([x, x * x], 1), "shape"),
        (lambda x, b: torch.exp(x), "unknown"), (lambda x, b: 1 - x, "unknown"),
        (lambda x, b: torch.clamp(x, max=1), "unknown"), (lambda x, b: b - x, "unknown"),
        (lambda x, b: torch.sub(b, x), "unknown"), (lambda x, b: b.sub(x), "unknown"),
        (lambda x, b: torch.add(x, other=1), "shift"), (lambda x, b: x.sub(other=b), "shift"),
        (lambda x, b: torch.sub(input=b, other=x), "unknown"), (lambda x, b: x**b, "unknown"),
        (lambda x, b: x + 5 * x // 1, "unknown"),
        (lambda x, b: torch.div(5 * x, 1, rounding_mode="floor"), "unknown"),
        (lambda x, b: functional.pad(x, (1, 1), "constant", 1.0), "shape"),
    ],
)  # fmt: skip
def test_operations_without_a_degree(function, kind):
    graph = normal_form(Function(function))
    assert [found.kind for found in read_degrees(graph).breaks] == [kind]
    x = torch.rand(2, 3, 4, 4) + 0.1
    assert not torch.allclose(graph(3 * x), 3 * graph(x))
    if kind == "shift":
        conversion = to_x_dnn(Function(function))
        torch.testing.assert_close(conversion.network(3 * x), 3 * conversion.network(x))
        assert dict(conversion.network.named_parameters()) == {}
        assert [found.kind for found in conversion.removed] == ["shift"]
    else:
        with pytest.raises(NotHomogeneous):
            to_x_dnn(Function(function))


def test_every_culprit_is_named_not_only_the_first():
    network = nn.Sequential(
        nn.Conv2d(1, 2, 3), nn.ReLU6(), nn.Conv2d(2, 2, 3, bias=False), nn.Sigmoid(), nn.Flatten()
    )
    reading = read_degrees(normal_form(network))
    assert [(found.layer, found.kind) for found in reading.breaks] == [
        ("0", "shift"), ("1", "shape"), ("3", "shape"),
    ]  # fmt: skip
    assert "cut off at 6" in reading.breaks[1].reason
    with pytest.raises(NotHomogeneous, match=r"1 \(ReLU6: cut off at 6.*3 \(Sigmoid"):
        to_x_dnn(network)
    conversion = to_x_dnn(network, strict=False)
    assert [found.layer for found in conversion.removed] == ["0"]
    assert [found.layer for found in conversion.remaining] == ["1", "3"]


@pytest.mark.slow
@pytest.mark.parametrize("make", MAKERS)
def test_conversion_removes_every_bias_and_nothing_else(make):
    network = perturbed(make)
    before = {name: p.clone() for name, p in network.named_parameters()}
    conversion = to_x_dnn(network)
    bare = conversion.network
    assert not any("bias" in name for name, _ in bare.named_parameters())
    kept = {name: p for name, p in before.items() if "bias" not in name}
    assert {name for name, _ in bare.named_parameters()} == set(kept)
    for name, p in bare.named_parameters():
        assert torch.equal(p, kept[name]) and p.requires_grad
    assert {name for name, _ in network.named_parameters()} == set(before)
    for name, p in network.named_parameters():
        assert torch.equal(p, before[name])
    for alpha in (0.0, 0.1, 1.0, 7.0):
        torch.testing.assert_close(bare(alpha * IMAGES), alpha * bare(IMAGES), rtol=1e-4, atol=1e-5)
    assert len(conversion.removed) > 0 and conversion.remaining == ()
    assert degree(wrap(bare)) == 1
    with pytest.raises(NotHomogeneous):
        degree(wrap(network))
    frame = homogeneity(wrap(bare), IMAGES).set_index("layer")
    assert frame.drop("normalization")["error_so_far"].max() < 1e-5
    biased = homogeneity(wrap(network), IMAGES).set_index("layer")
    assert biased.loc["network", "error"] > 1e-2


def test_conversion_equals_the_same_network_built_without_biases():
    network, bare = perturbed(alexnet_like), build(alexnet_like, bias=False)
    bare.load_state_dict({k: v for k, v in network.state_dict().items() if "bias" not in k})
    converted = to_x_dnn(network).network
    torch.testing.assert_close(converted(IMAGES), bare.eval()(IMAGES))


def test_scalar_biases_break_homogeneity_once_they_are_not_zero_and_leave_either_way():
    network = build(residual)  # Fixup starts from biases of zero
    assert degree(wrap(network)) == 1
    assert not any("bias" in n for n, _ in to_x_dnn(network).network.named_parameters())
    network[1].bias.data.fill_(0.1)
    with pytest.raises(NotHomogeneous, match=r"add(_\d)? \(adds the constant"):
        degree(wrap(network))
    assert not any("bias" in n for n, _ in to_x_dnn(network).network.named_parameters())


def test_batch_normalization_loses_its_shift_folded_or_not():
    def body():
        network = nn.Sequential(
            nn.BatchNorm2d(1), nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten()
        )
        for module in (network[0], network[2]):
            module.running_mean.fill_(0.3)
            module.running_var.fill_(2.0)
            nn.init.constant_(module.bias, 0.7)
        return network.eval()

    network = body()
    with pytest.raises(NotHomogeneous, match=r"0 \(BatchNorm2d: batch normalization adds"):
        degree(wrap(network))
    bare = to_x_dnn(network).network
    torch.testing.assert_close(bare(5 * IMAGES), 5 * bare(IMAGES))
    assert degree(wrap(bare)) == 1
    scale = 1 / (2.0 + network[0].eps) ** 0.5
    expected = functional.conv2d(IMAGES * scale, network[1].weight * scale)
    torch.testing.assert_close(bare(IMAGES), torch.relu(expected).flatten(1), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("depth", [0, 1, 2, 3])
def test_degree_of_squared_networks(depth):
    classifier = wrap(build(relu_power, depth=depth))
    assert degree(classifier) == 2**depth
    frame = homogeneity(classifier, IMAGES, alphas=[0.5, 2]).set_index("layer")
    assert frame.loc["network", "degree"] == pytest.approx(2**depth, abs=1e-3)
    assert frame.loc["network", "error"] < 1e-4
    assert (frame[frame["type"] == "mul"]["degree"] - 2).abs().max() < 1e-3 or depth == 0


def test_mean_subtraction_moves_the_origin_and_is_said():
    network = to_x_dnn(perturbed(gap_network)).network
    shifted = wrap(network, mean=0.4)
    frame = homogeneity(shifted, IMAGES).set_index("layer")
    assert frame.loc["normalization", "error"] > 0.1
    assert frame.loc["network", "error"] < 1e-5
    assert homogeneity(wrap(network), IMAGES)["error"].iloc[0] < 1e-6
    notes = to_x_dnn(wrap(perturbed(gap_network), mean=0.4)).notes
    assert len(notes) == 1 and "0.4" in notes[0] and "not around black" in notes[0]
    assert to_x_dnn(wrap(perturbed(gap_network))).notes == ()


@pytest.mark.slow
def test_the_embedded_network(classifier, pixels):
    conversion = to_x_dnn(classifier, strict=False)
    assert len(conversion.removed) == 50  # 49 convolutions and the linear layer
    assert len(conversion.remaining) == 33
    assert {found.type for found in conversion.remaining} == {"ReLU6"}
    with pytest.raises(NotHomogeneous, match=r"ReLU6.*and 27 more"):
        to_x_dnn(classifier)
    bare = to_x_dnn(classifier, replace=True).network
    assert degree(bare) == 1 and bare.categories == classifier.categories
    frame = homogeneity(bare, pixels[:2], alphas=[0.5, 2.0]).set_index("layer")
    assert frame.loc["network", "error"] < 1e-4
    assert not any(p.requires_grad for p in bare.parameters())
    measured = homogeneity(classifier, pixels[:1], alphas=[0.5, 2.0])
    assert measured[measured["type"] == "Conv2d"]["error"].min() > 1e-4
    assert measured[measured["type"] == "ReLU6"]["error"].max() > 1e-2


def test_measuring_leaves_network_and_images_alone():
    classifier, images = wrap(perturbed(residual)), IMAGES.clone()
    before = {k: v.clone() for k, v in classifier.state_dict().items()}
    hooks = [list(m._forward_hooks) for m in classifier.modules()]
    homogeneity(classifier, images)
    assert torch.equal(images, IMAGES)
    assert all(torch.equal(before[k], v) for k, v in classifier.state_dict().items())
    assert [list(m._forward_hooks) for m in classifier.modules()] == hooks


class Branching(nn.Module):
    def __init__(self):
        super().__init__()
        self.head = nn.Linear(784, 10)

    def forward(self, x):
        return self.head(x.flatten(1)) if x.sum() > 0 else x.flatten(1)[:, :10]


def test_bad_input():
    untraceable = wrap(Branching())
    with pytest.raises(NotHomogeneous, match="cannot be traced"):
        degree(untraceable)
    with pytest.raises(ValueError, match="cannot be traced"):
        homogeneity(untraceable, IMAGES)
    with pytest.raises(ValueError, match="cannot be traced"):
        to_x_dnn(Branching())
    for alphas in ([], [0.0, 2.0], [1.0]):
        with pytest.raises(ValueError, match="alphas"):
            homogeneity(wrap(build(gap_network)), IMAGES, alphas=alphas)
    with pytest.raises(NotHomogeneous, match="degree 0"):
        degree(wrap(Function(lambda x, b: x.flatten(1) / x.flatten(1).abs().amax())))
    assert read_degrees(normal_form(Function(lambda x, b: x.reshape(x.size(0), -1)))).breaks == ()
