"""What every test shares: silence, threads, the embedded network and photos, exact toys."""

import atexit
import os
import random
import shutil
import tempfile

os.environ["REPORT_PROGRESS"] = "off"
os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # before PyTorch loads: threads do not spin

WORKERS = min(4, os.cpu_count() or 1)  # of pytest-xdist; each has a share of the cores
_THREADS = 1 if "PYTEST_XDIST_WORKER" in os.environ else min(4, os.cpu_count() or 1)
os.environ.setdefault("OMP_NUM_THREADS", str(_THREADS))

if "TESTS_SHARE" not in os.environ:  # what the workers of this session share; it goes with it
    os.environ["TESTS_SHARE"] = tempfile.mkdtemp(prefix="attribution-tests-")
    atexit.register(shutil.rmtree, os.environ["TESTS_SHARE"], ignore_errors=True)
os.environ.setdefault("ATTRIBUTION_CACHE", os.path.join(os.environ["TESTS_SHARE"], "cache"))

import resource
from contextlib import contextmanager

import jaxtyping
import pytest
import torch
from support.checked import check_annotations
from support.networks import Exact, small_network

check_annotations()

from lib.data.images import load_images
from lib.networks.classifier import Classifier, load_classifier

torch.set_num_threads(_THREADS)


def pytest_xdist_auto_num_workers() -> int:
    return WORKERS


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """A file is one worker's, for its fixtures, unless a test names its group; long ones first."""
    for item in items:
        if not item.get_closest_marker("xdist_group"):
            item.add_marker(pytest.mark.xdist_group(item.location[0]))
    items.sort(key=lambda item: item.path.stem not in ("test_notebooks", "test_another_cpu"))


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
    random.seed(0)  # beartype looks at one item of a list, chosen at random


@pytest.fixture
def unchecked():
    """Annotations are not checked: what a reader sees who passes something else altogether."""
    before = jaxtyping.config.jaxtyping_disable
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", before)


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


@pytest.fixture(scope="session")
def exact():
    """``exact(function)``: a classifier whose logits are ``function(x)`` of float64 images."""

    def build(function, channels: int = 1) -> Classifier:
        return Classifier(Exact(function), mean=[0.0] * channels, std=[1.0] * channels)

    return build


@pytest.fixture(scope="session")
def small() -> Classifier:
    """A small random network, float32."""
    return Classifier(small_network(), categories=list("abcd"))


@pytest.fixture(scope="session")
def small64() -> Classifier:
    """The same in float64."""
    return Classifier(small_network().double(), categories=list("abcd"))
