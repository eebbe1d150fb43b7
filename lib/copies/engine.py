"""The engine: make altered copies of images, run the classifier on them, reduce.

Nearly every method here is that one move. A method says how a copy is made (``make``), which
answer of the classifier it wants (``answer``: a gradient, a score, or another method's map) and
how answers are reduced. Micro-batches, memory, devices, and progress are the engine's.

``make(image, draw)`` receives two index tensors of equal length b, the number of the image and the
number of the copy, and returns the b copies. ``answer(copies, image)`` returns one answer per
copy. Memory is bounded by the micro-batch, whatever the number of copies.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lib.core.progress import progress
from lib.networks.classifier import of_targets

Make = Callable[[Tensor, Tensor], Tensor]
Answer = Callable[[Tensor, Tensor], Tensor]

# Images of 224 x 224 per micro-batch, by device. More is not faster; less wastes the device.
_GRADIENT_BATCH = {"cpu": 16, "cuda": 128, "mps": 32}
_SCORE_BATCH = {"cpu": 8, "cuda": 256, "mps": 64}


@dataclass(frozen=True)
class Answers:
    """One micro-batch: which image and which draw each row belongs to, and what came back."""

    image: Int[Tensor, " b"]
    draw: Int[Tensor, " b"]
    values: Tensor


def run(
    images: Float[Tensor, "n c h w"],
    copies: int,
    make: Make,
    answer: Answer,
    *,
    batch_size: int,
    label: str = "copies",
) -> Iterator[Answers]:
    """Answers for ``copies`` copies of each image, micro-batch by micro-batch, in order."""
    if copies < 1:
        raise ValueError(f"{label}: the number of copies must be at least 1, not {copies}")
    jobs = len(images) * copies
    with progress(label, jobs) as advance:
        for start in range(0, jobs, batch_size):
            job = torch.arange(start, min(start + batch_size, jobs))
            image, draw = job // copies, job % copies
            yield Answers(image, draw, answer(make(image, draw), image))
            advance(len(job))


def weighted_sum(
    answers: Iterator[Answers],
    like: Float[Tensor, "n ..."],
    weights: Float[Tensor, " draws"] | float,
) -> Tensor:
    r"""$\sum_k w_k a_{ik}$ for every image i: the reduction of an average or a quadrature."""
    total = torch.zeros_like(like)
    for batch in answers:
        values = batch.values
        if isinstance(weights, Tensor):
            weight = weights[batch.draw].to(values)
            values = values * weight.view(-1, *[1] * (values.ndim - 1))
        else:
            values = values * weights
        total.index_add_(0, batch.image.to(total.device), values.to(total))
    return total


def table(answers: Iterator[Answers], images: int, copies: int) -> Tensor:
    """All answers side by side, ``(images, copies, ...)``: for answers as small as a score."""
    rows = torch.cat([batch.values.cpu() for batch in answers])
    return rows.view(images, copies, *rows.shape[1:])


def gradients(classifier, targets: Int[Tensor, " n"]) -> Answer:
    r"""Answer: $\partial S_c/\partial x$ at each copy, $S_c$ the logit of its image's target."""

    def answer(copies: Tensor, image: Tensor) -> Tensor:
        return target_gradient(classifier, copies, targets[image])

    return answer


def logits(classifier) -> Answer:
    """Answer: all K logits of each copy, without gradients, on the compiled route."""

    def answer(copies: Tensor, image: Tensor) -> Tensor:
        return classifier.scores(copies)

    return answer


def target_scores(classifier, targets: Int[Tensor, " n"], score: str = "logit") -> Answer:
    """Answer: the target's ``logit`` or ``probability`` of each copy, on the compiled route.

    Raises ``ValueError`` for another ``score``, and when a score is NaN or infinite.
    """
    if score not in ("logit", "probability"):
        raise ValueError(f"score {score!r} is unknown; choose one of: logit, probability")

    def answer(copies: Tensor, image: Tensor) -> Tensor:
        values = classifier.scores(copies)
        if not torch.isfinite(values).all():
            raise ValueError(f"{classifier.name} returned a score that is NaN or infinite")
        values = values.softmax(1) if score == "probability" else values
        return of_targets(values, targets[image])

    return answer


def target_gradient(
    classifier, images: Float[Tensor, "n c h w"], targets: Int[Tensor, " n"]
) -> Float[Tensor, "n c h w"]:
    r"""$\partial S_{c}/\partial x$, one pass forward and back for the whole batch."""
    with torch.enable_grad():
        pixels = images.detach().requires_grad_(True)
        scores = of_targets(classifier(pixels), targets)
        (gradient,) = torch.autograd.grad(scores.sum(), pixels)
    return gradient


def batch_size_for(classifier, images: Tensor, route: str, batch_size: int | None = None) -> int:
    """The micro-batch for a route (``"gradients"`` or ``"scores"``): given, or by device and size.

    Raises ``ValueError`` when the given one is not a positive whole number.
    """
    if batch_size is not None:
        if not isinstance(batch_size, int) or batch_size < 1:
            raise ValueError(f"batch_size must be a whole number from 1, not {batch_size}")
        return batch_size
    sizes = _GRADIENT_BATCH if route == "gradients" else _SCORE_BATCH
    pixels = images.shape[-2] * images.shape[-1]
    per_device = sizes.get(classifier.device.type, sizes["cpu"])
    return max(1, min(4096, round(per_device * 224 * 224 / pixels)))


def check_inputs(classifier, images: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """``images`` and ``targets`` on the classifier's device, or one readable ``ValueError``."""
    if not isinstance(images, Tensor) or images.ndim != 4 or not images.is_floating_point():
        found = (
            f"{tuple(images.shape)} {images.dtype}" if isinstance(images, Tensor) else type(images)
        )
        raise ValueError(f"images must be a float tensor (N, C, H, W) in [0, 1], not {found}")
    if len(images) == 0:
        raise ValueError("images is empty: there is nothing to attribute")
    if images.dtype != classifier.dtype:
        raise ValueError(f"images are {images.dtype}, the classifier is {classifier.dtype}")
    channels = getattr(classifier, "mean", images[:1]).shape[1]
    if images.shape[1] not in (1, channels) and channels > 1:
        raise ValueError(
            f"images have {images.shape[1]} channels, {classifier.name} takes {channels}"
        )
    if not torch.isfinite(images).all():
        raise ValueError("images hold NaN or infinite values")
    targets = torch.as_tensor(targets)
    whole = not targets.is_floating_point() and targets.dtype != torch.bool
    if targets.shape != (len(images),) or not whole:
        raise ValueError(
            f"targets must be {len(images)} class indices, one per image, "
            f"not {tuple(targets.shape)} {targets.dtype}"
        )
    classes = len(classifier.categories) if classifier.categories else None
    if int(targets.min()) < 0 or (classes is not None and int(targets.max()) >= classes):
        last = classes - 1 if classes else "K - 1"
        raise ValueError(
            f"targets must lie in 0..{last} (0-based class indices), "
            f"found {int(targets.min())}..{int(targets.max())}"
        )
    return images.detach().to(classifier.device), targets.long().to(classifier.device)
