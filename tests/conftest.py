"""What every test shares: silence, threads, the embedded network and photos, exact toys."""

import os

os.environ["REPORT_PROGRESS"] = "off"
os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # before PyTorch loads: threads do not spin

WORKERS = min(4, os.cpu_count() or 1)  # of pytest-xdist; each has a share of the cores
_THREADS = 1 if "PYTEST_XDIST_WORKER" in os.environ else min(4, os.cpu_count() or 1)
os.environ.setdefault("OMP_NUM_THREADS", str(_THREADS))

import resource
from contextlib import contextmanager

import pytest
import torch
from torch import nn

from lib.data.images import load_images
from lib.networks.classifier import Classifier, load_classifier

torch.set_num_threads(_THREADS)


def pytest_xdist_auto_num_workers() -> int:
    return WORKERS


@pytest.fixture
def small_disk():
    """``with small_disk(n)``: no file can grow beyond n bytes, as on a disk that is full."""

    @contextmanager
    def limited(size: int):
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)

    return limited


@pytest.fixture(autouse=True)
def same_draws():
    """A test draws the same numbers whichever tests ran before it."""
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def classifier() -> Classifier:
    """The embedded network on the CPU; a test that alters it breaks the others."""
    return load_classifier(device="cpu")


@pytest.fixture(scope="session")
def photos():
    """The 20 embedded photos."""
    return load_images()


@pytest.fixture(scope="session")
def pixels(photos) -> torch.Tensor:
    return photos.pixels()


class Exact(nn.Module):
    """A function of pixels in float64 as a network: the closed forms of the papers."""

    def __init__(self, function):
        super().__init__()
        self.function = function
        self.one = nn.Parameter(torch.ones((), dtype=torch.float64))

    def forward(self, x):
        return self.function(x * self.one)


@pytest.fixture(scope="session")
def exact():
    """``exact(function)``: a classifier whose logits are ``function(x)`` of float64 images."""

    def build(function, channels: int = 1) -> Classifier:
        return Classifier(Exact(function), mean=[0.0] * channels, std=[1.0] * channels)

    return build


class SmallNetwork(nn.Module):
    """Convolution, batch norm, SiLU: smooth, and of any image size."""

    def __init__(self, classes: int = 4):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.SiLU()
        )
        self.head = nn.Linear(8, classes)

    def forward(self, x):
        return self.head(self.features(x).square().mean((2, 3)))


def small_network(seed: int = 0, classes: int = 4) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = SmallNetwork(classes)
        network.features[1].running_mean.normal_(0, 0.2)
        network.features[1].running_var.uniform_(0.5, 1.5)
        network.head.weight.data *= 10
    return network.eval()


@pytest.fixture(scope="session")
def small() -> Classifier:
    """A small random network, float32."""
    return Classifier(small_network(), categories=list("abcd"))


@pytest.fixture(scope="session")
def small64() -> Classifier:
    """The same in float64."""
    return Classifier(small_network().double(), categories=list("abcd"))


def relative(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    """The largest difference over the largest value."""
    ours, theirs = ours.detach(), theirs.detach()
    return float((ours - theirs).abs().max() / theirs.abs().max())
