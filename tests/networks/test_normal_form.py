"""The normal form changes how a network is written, never what it computes."""

import copy

import pytest
import torch
from support.networks import relative, small_network
from torch import nn
from torch.nn import functional as F

from lib.core.runtime import torchvision
from lib.networks.classifier import Classifier
from lib.networks.normal_form import NotTraceable, normal_form

BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)
FAMILIES = [
    "resnet18",
    "vgg11",
    "densenet121",
    "mobilenet_v2",
    "mobilenet_v3_small",
    "squeezenet1_1",
    "googlenet",
    "inception_v3",
    "shufflenet_v2_x0_5",
    "efficientnet_b0",
    "regnet_y_400mf",
    "mnasnet0_5",
    "alexnet",
    "convnext_tiny",
    "vit_b_16",
    "swin_t",
]
SIDE = {"inception_v3": 96, "alexnet": 64}


@torch.no_grad()
def lively(network: nn.Module, side: int = 32) -> nn.Module:
    """Batch norms that fit the data but for mild random changes, and a head that is not zero.

    With initial weights alone the signal fades, and any two networks would agree.
    """
    random = torch.Generator().manual_seed(0)
    norms = [m for m in network.eval().modules() if isinstance(m, BATCH_NORMS)]
    for norm in norms:
        norm.train().momentum = 1.0
    network(pictures(8, side))
    for norm in norms:
        norm.running_mean += 0.1 * torch.randn(norm.num_features, generator=random)
        norm.running_var *= 0.5 + torch.rand(norm.num_features, generator=random)
        nn.init.uniform_(norm.weight, 0.8, 1.2, generator=random)
        nn.init.normal_(norm.bias, 0, 0.1, generator=random)
    for module in network.modules():
        if isinstance(module, nn.Linear) and not module.weight.any():
            nn.init.normal_(module.weight, 0, 0.05, generator=random)
    return network.eval()


def family(name: str) -> nn.Module:
    options = {"num_classes": 5}
    if name in ("googlenet", "inception_v3"):
        options["init_weights"] = False
    if name == "vit_b_16":
        options["image_size"] = 32
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = torchvision().models.get_model(name, weights=None, **options)
    return lively(network, SIDE.get(name, 32))


def pictures(n: int, side: int, dtype=torch.float32) -> torch.Tensor:
    random = torch.Generator().manual_seed(1)
    return torch.rand(n, 3, side, side, generator=random, dtype=torch.float64).to(dtype)


@pytest.mark.slow
@torch.no_grad()
@pytest.mark.parametrize("name", FAMILIES)
def test_logits_are_unchanged_in_every_family(name):
    network = family(name)
    x = pictures(2, SIDE.get(name, 32))
    logits = network(x)
    assert logits.std(0).max() > 1e-4 * logits.abs().max()  # else equality would mean nothing
    graph = normal_form(network)
    single = graph(x)
    exact = network.double()(x.double())
    # a deep random network amplifies rounding: folding may not add to what it has of itself
    assert relative(single, exact) < 10 * relative(logits, exact) + 1e-6
    assert relative(normal_form(network)(x.double()), exact) < 1e-9

    left = [module for module in graph.modules() if isinstance(module, BATCH_NORMS)]
    # densenet normalizes before it convolves: what has no convolution in front stays
    assert not left or name == "densenet121"
    assert not [m for m in graph.modules() if isinstance(m, (nn.Dropout, nn.Identity))]
    assert not [m for m in graph.modules() if getattr(m, "inplace", False)]
    called = [node.target for node in graph.graph.nodes if node.op == "call_module"]
    assert len(called) == len(set(called))
    functions = {
        getattr(node.target, "__name__", node.target)
        for node in graph.graph.nodes
        if node.op in ("call_function", "call_method")
    }
    assert not functions & {"relu", "relu_", "dropout", "stochastic_depth", "hardtanh", "silu"}


@torch.no_grad()
def test_a_wrong_fold_would_be_seen():
    network, x = small_network().double(), pictures(2, 16, torch.float64)
    graph = normal_form(network)
    assert relative(graph(x), network(x)) < 1e-12
    wrong = copy.deepcopy(network)
    wrong.features[1].eps = 1e-3  # as if the fold had used another epsilon
    assert relative(graph(x), wrong(x)) > 1e-6


class Writing(nn.Module):
    """One network in several spellings of its activations."""

    def __init__(self, spelling: str):
        super().__init__()
        self.spelling = spelling
        random = torch.Generator().manual_seed(0)
        self.first, self.second = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        for parameter in self.parameters():
            nn.init.normal_(parameter, 0, 0.5, generator=random)
        self.one, self.two = nn.ReLU(), nn.ReLU()
        self.in_place = nn.ReLU(inplace=True)

    def activate(self, x, number: int):
        if self.spelling == "modules":
            return (self.one, self.two)[number](x)
        if self.spelling == "in place":
            return self.in_place(x)
        if self.spelling == "reused":
            return self.one(x)
        if self.spelling == "discarded":  # the result is the argument, overwritten
            F.relu(x, inplace=True)
            return x
        written = {
            "functional": lambda: F.relu(x),
            "functional in place": lambda: F.relu(x, True),
            "torch": lambda: torch.relu(x),
            "torch in place": lambda: torch.relu_(x),
            "method": lambda: x.relu(),
            "method in place": lambda: x.relu_(),
        }
        return written[self.spelling]()

    def forward(self, x):
        x = self.activate(self.norm(self.first(x)), 0)
        return self.activate(self.second(x), 1).sum((2, 3))


SPELLINGS = [
    "modules",
    "in place",
    "reused",
    "discarded",
    "functional",
    "functional in place",
    "torch",
    "torch in place",
    "method",
    "method in place",
]


@torch.no_grad()
@pytest.mark.parametrize("spelling", SPELLINGS)
def test_every_spelling_gives_the_same_normal_form(spelling):
    network, x = Writing(spelling).eval(), pictures(2, 8)
    graph = normal_form(network)
    kinds = [
        type(graph.get_submodule(node.target)).__name__
        for node in graph.graph.nodes
        if node.op == "call_module"
    ]
    assert kinds == ["Conv2d", "ReLU", "Conv2d", "ReLU"]
    assert torch.allclose(graph(x), Writing("modules").eval()(x), atol=1e-5)
    seen = []
    for module in graph.modules():
        if isinstance(module, nn.ReLU):
            module.register_forward_hook(lambda module, given, result: seen.append(result.clone()))
    graph(x)
    assert len(seen) == 2 and seen[0].shape != seen[1].shape


@torch.no_grad()
def test_functional_options_survive():
    functions = [
        (lambda x: F.leaky_relu(x, 0.3), nn.LeakyReLU),
        (lambda x: F.leaky_relu(x, negative_slope=0.4, inplace=True), nn.LeakyReLU),
        (lambda x: F.elu(x, 0.5), nn.ELU),
        (lambda x: F.hardtanh(x, -0.2, 0.3), nn.Hardtanh),
        (lambda x: F.softplus(x, beta=3), nn.Softplus),
        (lambda x: F.gelu(x, approximate="tanh"), nn.GELU),
        (lambda x: F.relu6(x * 20), nn.ReLU6),
        (F.silu, nn.SiLU),
        (F.mish, nn.Mish),
        (F.hardswish, nn.Hardswish),
        (F.hardsigmoid, nn.Hardsigmoid),
        (torch.tanh, nn.Tanh),
        (lambda x: x.sigmoid(), nn.Sigmoid),
    ]

    class Applied(nn.Module):
        def __init__(self, function):
            super().__init__()
            self.function = function

        def forward(self, x):
            return self.function(x * 1)

    x = pictures(1, 6) - 0.5
    for function, kind in functions:
        graph = normal_form(Applied(function))
        torch.testing.assert_close(graph(x), function(x * 1), msg=str(kind))
        assert any(isinstance(module, kind) for module in graph.modules()), kind


@torch.no_grad()
def test_in_place_results_read_under_their_old_name():
    class Skip(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.relu = nn.Conv2d(3, 3, 3), nn.ReLU(inplace=True)

        def forward(self, x):
            x = self.conv(x)
            before = x * 1
            return self.relu(x) + x + before  # the second x has been rectified, too

    network, x = Skip(), pictures(2, 8) - 0.5
    assert torch.allclose(normal_form(network)(x), network(x))
    assert network.relu.inplace


@torch.no_grad()
def test_a_convolution_called_twice_keeps_its_weights():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.norm = nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3)

        def forward(self, x):
            return self.norm(self.conv(self.conv(x))).mean((2, 3))

    network, x = lively(Twice()), pictures(2, 8)
    assert torch.allclose(normal_form(network)(x), network(x), atol=1e-6)


@torch.no_grad()
def test_shared_batch_norm_and_branching_convolution():
    class Branch(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.norm = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)

        def forward(self, x):
            a, b = self.a(x), self.b(x)
            return self.norm(a) + self.norm(b) + b  # b is read twice: its norm cannot be folded

    network, x = lively(Branch()), pictures(2, 8)
    graph = normal_form(network)
    assert torch.allclose(graph(x), network(x), atol=1e-6)
    assert sum(isinstance(module, nn.BatchNorm2d) for module in graph.modules()) == 1


def test_the_network_given_is_left_alone():
    network = small_network().train()
    network.features[0].weight.requires_grad_(True)
    before = copy.deepcopy(network.state_dict())
    classifier = Classifier(network)
    assert network.training and network.features[1].training
    assert all(p.requires_grad for p in network.parameters())
    assert not any(p.requires_grad for p in classifier.parameters())
    for key, value in network.state_dict().items():
        assert torch.equal(value, before[key])


def test_what_cannot_be_traced_says_so():
    class Branching(nn.Module):
        def forward(self, x):
            return x if x.sum() > 0 else -x

    with pytest.raises(NotTraceable, match="Branching cannot be traced"):
        normal_form(Branching())


@torch.no_grad()
def test_threads_and_the_batch_change_no_more_than_rounding(classifier):
    x, threads = pictures(5, 224), torch.get_num_threads()
    logits = {}
    try:
        for n in (1, 2):
            torch.set_num_threads(n)
            logits[n] = classifier(x)
            logits[n, "in parts"] = torch.cat([classifier(x[:2]), classifier(x[2:])])
    finally:
        torch.set_num_threads(threads)
    logits["alone"] = torch.cat([classifier(image) for image in x.split(1)])  # another library
    # 50 layers round their sums at 1.2e-7 of their size: 6e-6 if no two errors cancel
    for other in logits.values():
        assert relative(other, logits[1]) < 1e-5
