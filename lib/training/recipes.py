"""Which networks are trained on a task, and how.

One place for reports that compare trainings, so that the same network is trained once for all of
them.
"""

from collections.abc import Sequence
from functools import partial

from torch import Tensor, nn

from lib.core import runtime
from lib.data.cues import plant_cue
from lib.data.digits import pick_digits
from lib.data.tasks import Task
from lib.networks import small as small_networks
from lib.networks.classifier import Classifier
from lib.networks.homogeneity import to_x_dnn
from lib.training.train import accuracy, train, train_all

SMALL = (  # for images of 28 x 28
    *("alexnet_like", "vgg_like", "residual", "gap_network"),
    *("fully_connected", "vision_transformer"),
)
# Adam's step size and epochs on the digits: from a few trainings with biases, then left alone.
# Fixup's scalars take a tenth of the step, as Hesse et al. train theirs.
RECIPES = {
    "alexnet_like": {"epochs": 3, "lr": 2e-3},
    "vgg_like": {"epochs": 3, "lr": 3e-3},
    "residual": {"epochs": 4, "lr": 1e-2, "batch_size": 32, "scalar_share": 0.1},
    "gap_network": {"epochs": 4, "lr": 5e-3},
    "fully_connected": {"epochs": 3},
    "vision_transformer": {"epochs": 10, "batch_size": 32},
}


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
    models = runtime.torchvision().models
    if name not in models.list_models(module=models):
        raise ValueError(f"network {name!r} is unknown; use {', '.join(SMALL)} or torchvision's")
    make, classes = partial(models.get_model, name, weights=None), len(task.categories)
    network = small_networks.build(make, seed=seed, num_classes=classes)
    return network if bias else drop_biases(network)


def drop_biases(network: nn.Module) -> nn.Module:
    """The network itself without its biases, its dropout kept, for training from scratch.

    Raises ``ValueError`` when other layers are in the way of homogeneity.
    """
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


def trained(name: str, task: Task, *, seed: int = 0, **chosen) -> Classifier:
    """The network of this name, trained on the task by its recipe."""
    network = make_network(name, task, seed=seed)
    options = recipe(name, **chosen)
    network = train(network, task.train_images, task.train_labels, seed=seed, **options)
    return as_classifier(network, task, name)


def retrained(
    name: str, task: Task, train_images: Tensor, test_images: Tensor, seeds: Sequence[int]
) -> list[float]:
    """Test accuracy of networks trained, one per seed, on other images with the task's labels.

    Remove and retrain, if pixels were removed from both (ROAR; Hooker, Erhan, Kindermans, Kim, *A
    benchmark for interpretability methods in deep neural networks*, NeurIPS 2019).
    """
    jobs = [(make_network(name, task, seed=seed), {"seed": seed}) for seed in seeds]
    networks = train_all(jobs, train_images, task.train_labels, **recipe(name))
    return [accuracy(network, test_images, task.test_labels) for network in networks]


def cue_networks(
    task: Task,
    digits: Sequence[int],
    shares: Sequence[float],
    per_class: int,
    count: int,
    epochs: int,
    *,
    seed: int = 0,
) -> list[Classifier]:
    """``count`` networks that tell two digits apart, of which ``shares`` carry a white square.

    Each has its own initial weights, digits (``per_class`` of either) and order, by seed + number.
    """
    networks = []
    for own in range(seed, seed + count):
        images, classes = pick_digits(
            task.train_images, task.train_labels, digits, count=per_class, seed=own
        )
        images, _ = plant_cue(images, classes, shares, seed=own)
        network = small_networks.build(small_networks.gap_network, seed=own, classes=2)
        network = train(network, images, classes, epochs=epochs, seed=own)
        networks.append(as_classifier(network, task, "two digits"))
    return networks
