"""The engine: make altered copies of images, run the classifier on them, reduce.

Nearly every method here is that one move. A method says how a copy is made (``make``) and which
answer it wants: ``scores``, one table for all copies; ``mean_gradient``, a weighted sum over
copies; ``single_pass``, any answer about the images as they are; ``run``, anything else.

``make(row, draw)`` receives two index tensors of equal length b, the number of the image and the
number of the copy, and returns the b copies. ``answer(copies, targets)`` returns one answer per
copy. Checks, micro-batches, memory, devices, and progress are the engine's: memory is bounded by
the micro-batch, whatever the number of copies.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lib.core.progress import progress
from lib.networks.classifier import of_targets

Make = Callable[[Tensor, Tensor], Tensor]
Answer = Callable[[Tensor, Tensor], Tensor]

# name -> the score of each row's target, from all logits
SCORES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "logit": of_targets,
    "probability": lambda logits, targets: of_targets(logits.softmax(1), targets),
    "accuracy": lambda logits, targets: (logits.argmax(1) == targets).to(logits),
}

# Images of 224 x 224 per micro-batch, by device. More is not faster; less wastes the device.
_GRADIENT_BATCH = {"cpu": 16, "cuda": 128, "mps": 32}
_SCORE_BATCH = {"cpu": 8, "cuda": 256, "mps": 64}


@dataclass(frozen=True)
class Answers:
    """One micro-batch: the image and the draw that each answer belongs to, and the answers."""

    row: Int[Tensor, " b"]
    draw: Int[Tensor, " b"]
    values: Tensor


class Engine:
    """Images to be copied, ``pixels``, and their ``targets``: checked, on the classifier's device.

    Raises ``ValueError`` in one line for input that does not fit the classifier. ``label`` names
    the work while it lasts. Answers stay on the classifier's device, but for a table of scores.
    """

    def __init__(
        self,
        classifier,
        images: Float[Tensor, "n c h w"],
        targets: Int[Tensor, " n"],
        batch_size: int | None = None,
        label: str = "copies",
    ):
        self.pixels, self.targets = check_inputs(classifier, images, targets)
        self.classifier, self.batch_size, self.label = classifier, batch_size, label

    def scores(
        self, make: Make, count: int, score: str | Sequence[str] = "logit"
    ) -> Float[Tensor, "n count *s"]:
        """The score of each image's target on its ``count`` copies, without gradients, on the CPU.

        ``score`` is a name of ``SCORES`` (``accuracy`` is 1 where the target ranks first), or
        several of them: one more axis. Raises ``ValueError`` for another ``score``, and when the
        classifier returns NaN or infinity.
        """
        names = [score] if isinstance(score, str) else list(score)
        for name in names:
            if name not in SCORES:
                raise ValueError(f"score {name!r} is unknown; choose one of: {', '.join(SCORES)}")

        def answer(altered: Tensor, targets: Tensor) -> Tensor:
            logits = self.classifier.scores(altered)
            if not torch.isfinite(logits).all():
                raise ValueError(f"{self.classifier.name} returned a score that is NaN or infinite")
            return torch.stack([SCORES[name](logits, targets) for name in names], 1)

        answers = self.run(make, count, answer, "scores")
        table = torch.cat([batch.values for batch in answers]).cpu()
        table = table.view(len(self.pixels), count, len(names))
        return table[..., 0] if isinstance(score, str) else table

    def mean_gradient(
        self, make: Make, weights: Float[Tensor, " count"], times: Make | None = None
    ) -> Float[Tensor, "n c h w"]:
        r"""$\sum_k w_k\,t_{ik}\odot\partial S_c(x_{ik})/\partial x$ over the copies of image i.

        One copy per weight; ``times(row, draw)`` are the factors $t$ (default: 1).
        """
        weights, total = weights.to(self.pixels), torch.zeros_like(self.pixels)
        for batch in self.run(make, len(weights), self.gradient):
            values = batch.values * weights[batch.draw].view(-1, 1, 1, 1)
            if times is not None:
                values *= times(batch.row, batch.draw)
            total.index_add_(0, batch.row.to(total.device), values)
        return total

    def single_pass(self, answer: Answer) -> Float[Tensor, "n ..."]:
        """``answer(pixels, targets)`` for every image as it is."""
        answers = self.run(lambda row, draw: self.pixels[row], 1, answer)
        return torch.cat([batch.values for batch in answers])

    def gradient(self, altered: Tensor, targets: Tensor) -> Tensor:
        r"""The answer $\partial S_c/\partial x$ at each copy, $S_c$ the logit of its target."""
        return target_gradient(self.classifier, altered, targets)

    def run(
        self, make: Make, count: int, answer: Answer, route: str = "gradients"
    ) -> Iterator[Answers]:
        """Answers for ``count`` copies of each image, micro-batch by micro-batch, in order."""
        if count < 1:
            raise ValueError(f"{self.label}: the number of copies must be at least 1, not {count}")
        size = batch_size_for(self.classifier, self.pixels, route, self.batch_size)
        jobs = len(self.pixels) * count
        with progress(self.label, jobs) as advance:
            for start in range(0, jobs, size):
                job = torch.arange(start, min(start + size, jobs))
                row, draw = job // count, job % count
                yield Answers(row, draw, answer(make(row, draw), self.targets[row]))
                advance(len(job))


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
