"""What networks are trained on: the embedded digits, or folders of one's own images.

Pixels go in as they are, in [0, 1]: nothing is subtracted, and black is the origin.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from lib.data.digits import CATEGORIES, load_digits
from lib.data.images import Images, load_images


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
    options = {"size": size, "categories": names}
    learned = load_images(train, limit=limit, seed=seed, **options)
    tested = load_images(test, **options)
    parts = (learned, learned.targets, tested, tested.targets)
    return Task(*parts, names, 3, size, learned.sha256)
