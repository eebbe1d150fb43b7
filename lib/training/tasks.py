"""What networks are trained on, and which: the embedded digits, or folders of one's own images.

One place for reports that compare trainings, so that the same network is trained once for all of
them. Pixels go in as they are, in [0, 1]: nothing is subtracted, and black is the origin.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from lib.core import runtime
from lib.data.digits import CATEGORIES, load_digits
from lib.data.images import Images, load_images
from lib.networks import small as small_networks
from lib.networks.classifier import Classifier

SMALL = ("alexnet_like", "vgg_like", "residual", "gap_network")  # for images of 28 x 28
# Adam's step size and epochs on the digits: from a few trainings with biases, then left alone.
# Fixup's scalars take a tenth of the step, as Hesse et al. train theirs.
RECIPES = {
    "alexnet_like": {"epochs": 3, "lr": 2e-3},
    "vgg_like": {"epochs": 3, "lr": 3e-3},
    "residual": {"epochs": 4, "lr": 1e-2, "batch_size": 32, "scalar_share": 0.1},
    "gap_network": {"epochs": 4, "lr": 5e-3},
}


@dataclass(frozen=True, eq=False, repr=False)
class Task:
    """Images (a tensor, or :class:`lib.data.images.Images`) and labels to train and to test on."""

    train_images: Tensor | Images
    train_labels: Tensor
    test_images: Tensor | Images
    test_labels: Tensor
    categories: list[str]
    channels: int
    size: int
    sha256: str

    def test_batch(self, count: int) -> tuple[Tensor, Tensor]:
        """The first ``count`` test images as a tensor, and their labels."""
        rows = torch.arange(min(count, len(self.test_labels)))
        images = self.test_images
        pixels = images[rows] if isinstance(images, Tensor) else images.subset(rows).pixels()
        return pixels, self.test_labels[rows]


def load_task(
    train: str = "digits",
    test: str | None = None,
    *,
    size: int = 28,
    limit: int | None = None,
    seed: int = 0,
) -> Task:
    """The embedded digits, or two folders (``train``, ``test``) with a sub-folder per class.

    Folders are resized and cropped to ``size`` pixels, as in the photo reports. ``limit`` takes so
    many images to train on, of the digits the first ones (classes stay balanced).

    Raises ``ValueError`` for a folder that is missing, without its partner or with other classes.
    """
    if train == "digits":
        if test is not None:
            raise ValueError("the digits have their own test images: leave the test folder out")
        digits = load_digits(seed=seed)
        images, labels = digits.train_images[:limit], digits.train_labels[:limit]
        tests = digits.test_images, digits.test_labels
        return Task(images, labels, *tests, CATEGORIES, 1, 28, digits.sha256)
    if test is None:
        raise ValueError(f"training images {train!r} need a folder of test images beside them")
    folder = Path(train).expanduser()
    if not folder.is_dir():
        raise ValueError(f"training images {train!r}: no such folder")
    names = sorted(path.name for path in folder.iterdir() if path.is_dir())
    if len(names) < 2:
        raise ValueError(f"training images {train!r} hold fewer than two class folders")
    options = {"size": size, "resize": round(size * 256 / 224), "categories": names}
    learned = load_images(train, limit=limit, seed=seed, **options)
    tested = load_images(test, **options)
    parts = (learned, learned.targets, tested, tested.targets)
    return Task(*parts, names, 3, size, learned.sha256)


def make_network(name: str, task: Task, *, bias: bool = True, seed: int = 0) -> nn.Module:
    """An untrained network for the task: one of ``SMALL``, or any of torchvision's, by ``seed``.

    Without ``bias`` it is an X-DNN. Raises ``ValueError`` for an unknown name, a small network on
    images that are not 28 x 28, and for a torchvision network with layers that are not homogeneous.
    """
    if name in SMALL:
        if task.size != 28:
            raise ValueError(f"{name} is for images of 28 x 28; size is {task.size}")
        make = getattr(small_networks, name)
        options = {"classes": len(task.categories), "channels": task.channels}
        return small_networks.build(make, seed=seed, bias=bias, **options)
    models = runtime.torchvision.models
    if name not in models.list_models(module=models):
        raise ValueError(f"network {name!r} is unknown; use {', '.join(SMALL)} or torchvision's")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = models.get_model(name, weights=None, num_classes=len(task.categories))
    return network if bias else drop_biases(network)


def drop_biases(network: nn.Module) -> nn.Module:
    """The network itself without its biases, its dropout kept, for training from scratch.

    Raises ``ValueError`` when other layers are in the way of homogeneity.
    """
    from lib.networks.homogeneity import to_x_dnn

    to_x_dnn(network)  # names what is in the way
    for module in network.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            raise ValueError("batch normalization shifts while it trains: use a network without it")
        if isinstance(getattr(module, "bias", None), Tensor):
            module.register_parameter("bias", None)
    return network


def recipe(name: str, **chosen) -> dict:
    """How a network is trained: the digits' recipe, overruled by what is not ``None``."""
    return RECIPES.get(name, {}) | {
        key: value for key, value in chosen.items() if value is not None
    }


def as_classifier(network: nn.Module, task: Task, name: str, device: str = "cpu") -> Classifier:
    """A trained network as a classifier: pixels unshifted, so that black is the origin."""
    zero, one = [0.0] * task.channels, [1.0] * task.channels
    return Classifier(
        network,
        name=name,
        categories=task.categories,
        input_size=task.size,
        mean=zero,
        std=one,
        device=device,
    )


def with_limit(task: Task, count: int) -> Task:
    """The same task with only the first ``count`` training images."""
    rows = torch.arange(min(count, len(task.train_labels)))
    images = task.train_images
    part = images[rows] if isinstance(images, Tensor) else images.subset(rows)
    return replace(task, train_images=part, train_labels=task.train_labels[rows])
