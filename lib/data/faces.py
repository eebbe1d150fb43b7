"""200 small gray photographs that come with scikit-image: faces, and what is behind them.

25 x 25 pixels; half are faces from Labeled Faces in the Wild (Huang, Ramesh, Berg, Learned-Miller
2007), half pieces of the same photographs without one. Small and few, but photographs: texture
everywhere, light and shadow, no black background.
"""

import hashlib
from importlib.resources import files

import numpy as np
import torch

from lib.core import draws
from lib.data.tasks import Task

CATEGORIES = ["background", "face"]
COUNT = 200


def load_faces(test: int = 80, seed: int = 0) -> Task:
    """The photographs ``(N, 1, 28, 28)`` float32 in [0, 1], ``test`` of them held out by ``seed``.

    The edges are mirrored outward to the 28 pixels of the small networks; nothing is resampled.
    Classes alternate in both parts, so that any first few are balanced.

    Raises ``ValueError`` unless ``test`` leaves two photographs on either side.
    """
    if not 2 <= test <= COUNT - 2:
        raise ValueError(f"test must lie between 2 and {COUNT - 2}, not {test}")
    pixels = np.load(files("skimage.data") / "lfw_subset.npy").astype(np.float32)  # faces first
    half = COUNT // 2
    order = torch.stack(
        [draws.permutation(seed, (label,), half) + (1 - label) * half for label in (0, 1)], 1
    ).flatten()
    images = torch.from_numpy(pixels)[order, None]
    images = torch.nn.functional.pad(images, (1, 2, 1, 2), mode="reflect")
    labels = torch.tensor([0, 1]).repeat(half)
    digest = hashlib.sha256(images.numpy().tobytes() + str(test).encode()).hexdigest()
    parts = images[test:], labels[test:], images[:test], labels[:test]
    return Task(*(part.contiguous() for part in parts), CATEGORIES, 1, 28, digest)
