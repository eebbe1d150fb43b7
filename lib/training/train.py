"""Train a small network: deterministic by seed, and cached, because nothing changes between runs.

The cache is keyed by everything that decides the result: the initial weights, the code of the
network, of this file and of the draws, the images and labels, every option, PyTorch's version and
the device.
"""

import copy
import math
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from types import CodeType

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from lib.core import draws, store
from lib.core.progress import progress
from lib.data import files

# Sums are split by thread and rounding differs with the split, so the number is fixed: how many
# cores a machine has changes no training there. (Another instruction set does: it rounds its own
# way.) Batches this small gain little from a second thread, and lose much when another program
# wants the core.
THREADS = 1
Loss = Callable[[nn.Module, Tensor, Tensor], Tensor]
_CODE = store.code(__file__, draws.__file__, files.__file__)


@dataclass(frozen=True)
class Recipe:
    r"""How a network is trained, by Adam, its images in a new random order each epoch.

    The step size is $\frac{lr}2(1+\cos(\pi t/T))$ after t of T steps. ``noise`` adds
    $\mathcal N(0, noise^2)$ to every pixel, anew in every epoch, in pixel units. Parameters of a
    single value, Fixup's biases and multipliers, take steps of ``scalar_share`` times the size.
    The last batch of an epoch may be smaller. Raises ``ValueError`` for values out of range.
    """

    epochs: int = 10
    lr: float = 1e-3
    batch_size: int = 64
    seed: int = 0
    noise: float = 0.0
    weight_decay: float = 0.0
    scalar_share: float = 1.0

    def __post_init__(self):
        for name, least in (("epochs", 0), ("batch_size", 1)):
            value = getattr(self, name)
            if not isinstance(value, int) or value < least:
                raise ValueError(f"{name} must be a whole number from {least}, not {value}")
        for name in ("lr", "noise", "weight_decay", "scalar_share"):
            if not 0 <= getattr(self, name) < math.inf:
                value = getattr(self, name)
                raise ValueError(f"{name} must be finite and not negative, not {value}")


def train(
    network: nn.Module,
    images,
    labels: Int[Tensor, " n"],
    *,
    loss: Loss | None = None,
    loss_key: str | None = None,
    label: str = "training",
    **options,
) -> nn.Module:
    """A trained copy of ``network`` in evaluation mode, on its device; ``network`` stays as it is.

    ``images`` is a tensor ``(N, C, H, W)``, or :class:`lib.data.images.Images`, decoded batch by
    batch; ``options`` are those of :class:`Recipe`. ``loss(network, images, labels)`` replaces the
    cross-entropy; a training with a loss of one's own is cached only under a ``loss_key`` that
    names the loss with all its settings.

    Raises ``ValueError`` for options out of range and for labels that do not fit the images.
    """
    labels, recipe = torch.as_tensor(labels), Recipe(**options)
    _check(images, labels)
    trained = copy.deepcopy(network)
    key = _key(network, images, labels, recipe, loss, loss_key)
    with store.alone("training", key):
        state = store.read_tensors("training", key, like=trained.state_dict())
        if state is None:
            with _deterministic(recipe.seed, trained):
                _run(trained, images, labels, loss or _cross_entropy, label, recipe)
            store.write_tensors("training", key, trained.state_dict())
        else:
            trained.load_state_dict(state)
    return trained.eval()


def train_all(
    jobs: Sequence[tuple[nn.Module, dict]], images, labels: Int[Tensor, " n"], **options
) -> list[nn.Module]:
    """:func:`train` for each (network, options of its own), as many at once as PyTorch has threads.

    A training runs on one thread, so several side by side, each in a process, use a machine
    better. They meet in the cache; the results are those of :func:`train`, in the order of the
    jobs. With one thread, on a GPU, and where the cache cannot serve, one runs after the other. A
    script that calls this needs ``if __name__ == "__main__":`` around its work, as for any process
    pool.
    """
    labels = torch.as_tensor(labels)
    missing = [job for job in jobs if _missing(job, images, labels, options)]
    workers = min(len(missing), torch.get_num_threads(), 8)
    if workers > 1:
        with (
            progress("training", len(missing)) as advance,
            ProcessPoolExecutor(workers, get_context("spawn"), initializer=_silent) as pool,
        ):
            data = images.numpy() if isinstance(images, Tensor) else images
            futures = [
                pool.submit(_train_in_process, network, data, labels.numpy(), {**options, **own})
                for network, own in missing
            ]
            for future in as_completed(futures):
                future.result()
                advance(1)
    return [train(network, images, labels, **{**options, **own}) for network, own in jobs]


def _silent() -> None:
    os.environ["REPORT_PROGRESS"] = "off"  # the parent counts trainings


def _train_in_process(network: nn.Module, images, labels, options: dict) -> None:
    if isinstance(images, np.ndarray):
        images = torch.from_numpy(images)
    train(network, images, torch.from_numpy(labels), **options)


def _missing(job: tuple[nn.Module, dict], images, labels: Tensor, options: dict) -> bool:
    """Whether a process could train this job and leave it in the cache."""
    network, own = job
    chosen = {"label": "", "loss": None, "loss_key": None, **options, **own}
    _, loss, loss_key = (chosen.pop(name) for name in ("label", "loss", "loss_key"))
    key = _key(network, images, labels, Recipe(**chosen), loss, loss_key)
    return key is not None and not store.read("training", key) and _device(network).type == "cpu"


def accuracy(classifier, images, labels: Int[Tensor, " n"], *, batch_size: int = 500) -> float:
    """The share of images whose largest logit is the label's, in the classifier's current mode.

    ``images`` is a tensor or :class:`lib.data.images.Images`, as in :func:`train`.
    """
    if len(images) == 0 or len(labels) != len(images):
        raise ValueError(f"{len(labels)} labels for {len(images)} images")
    answer, device, right = getattr(classifier, "scores", classifier), _device(classifier), 0
    with torch.no_grad():
        for start in range(0, len(images), batch_size):
            rows = torch.arange(start, min(start + batch_size, len(images)))
            predicted = answer(_batch(images, rows).to(device)).argmax(1).cpu()
            right += int((predicted == labels[rows].cpu()).sum())
    return right / len(images)


def _run(network, images, labels, loss, label: str, recipe: Recipe) -> None:
    weights = [weight for weight in network.parameters() if weight.requires_grad]
    scalars = [weight for weight in weights if weight.numel() == 1]
    groups = [{"params": [w for w in weights if w.numel() != 1], "share": 1.0}]
    groups += [{"params": scalars, "share": recipe.scalar_share}] if scalars else []
    optimizer = torch.optim.Adam(
        groups, lr=recipe.lr, weight_decay=recipe.weight_decay, foreach=True
    )
    device = _device(network)
    batches = math.ceil(len(labels) / recipe.batch_size)
    steps = recipe.epochs * batches
    network.train().to(memory_format=torch.channels_last)
    with torch.enable_grad(), progress(label, steps) as advance:
        for epoch in range(recipe.epochs):
            order = draws.permutation(recipe.seed, (epoch,), len(labels))
            for number, rows in enumerate(order.split(recipe.batch_size)):
                share = (epoch * batches + number) / steps
                for group in optimizer.param_groups:
                    group["lr"] = group["share"] * (recipe.lr * (1 + math.cos(math.pi * share)) / 2)
                pixels = _batch(images, rows)
                if recipe.noise > 0:
                    added = draws.normal(recipe.seed, [(epoch, number)], pixels.shape)[0]
                    pixels = pixels + recipe.noise * added.to(pixels)
                pixels = pixels.to(device, memory_format=torch.channels_last)
                optimizer.zero_grad(set_to_none=True)
                loss(network, pixels, labels[rows].to(device)).backward()
                optimizer.step()
                advance(1)
    optimizer.zero_grad(set_to_none=True)
    network.to(memory_format=torch.contiguous_format)


def _cross_entropy(network: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    return nn.functional.cross_entropy(network(images), labels)


def _batch(images, rows: Tensor) -> Float[Tensor, "b c h w"]:
    return images[rows] if isinstance(images, Tensor) else images.subset(rows).pixels()


def _device(network) -> torch.device:
    tensors = [*network.parameters(), *network.buffers()] if isinstance(network, nn.Module) else []
    return tensors[0].device if tensors else torch.device("cpu")


def _check(images, labels: Tensor) -> None:
    if len(images) == 0 or labels.shape != (len(images),) or labels.is_floating_point():
        raise ValueError(
            f"training needs one class index per image: {len(images)} images, "
            f"labels {tuple(labels.shape)} {labels.dtype}"
        )
    if int(labels.min()) < 0:  # cross-entropy would pass over -100 without a word
        raise ValueError(f"labels must be class indices from 0, found {int(labels.min())}")
    if isinstance(images, Tensor) and not torch.isfinite(images).all():
        raise ValueError("training images hold NaN or infinite values")


@contextmanager
def _deterministic(seed: int, network: nn.Module):
    """Dropout drawn from ``seed`` on a fixed number of threads; everything restored afterwards."""
    device = _device(network)
    threads = torch.get_num_threads()
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        torch.set_num_threads(THREADS)
        try:
            yield
        finally:
            torch.set_num_threads(threads)


def _key(network: nn.Module, images, labels, recipe: Recipe, loss, loss_key) -> str | None:
    if loss is not None and loss_key is None:
        return None
    if not isinstance(images, Tensor):  # photos: their files, and how they are cropped
        images = [repr(images.crop), [photo.path for photo in images.photos]]
    own = None
    if loss is not None:  # it may call anything in lib, and be typed into a notebook
        everything = store.code(*sorted(store.LIB.rglob("*.py")))
        own = [loss_key, _bytecode(getattr(loss, "__code__", None)), everything]
    return store.key(network, str(_device(network)), images, labels, vars(recipe), own, _CODE)


def _bytecode(code) -> list | str:
    if not isinstance(code, CodeType):
        return repr(code)
    return [code.co_code, code.co_names, [_bytecode(value) for value in code.co_consts]]
