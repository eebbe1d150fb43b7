"""Superpixels: label maps that cut an image into pieces of one color."""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

Segmenter = Callable[[np.ndarray], np.ndarray]


def quickshift(image: Float[np.ndarray, "h w c"]) -> Int[np.ndarray, "h w"]:
    """Quickshift with the settings of LIME's authors (made for photographs of some 224 pixels)."""
    from skimage.segmentation import quickshift

    return quickshift(_rgb(image), kernel_size=4, max_dist=200, ratio=0.2)


def slic(image: Float[np.ndarray, "h w c"]) -> Int[np.ndarray, "h w"]:
    """SLIC: about 50 pieces, compact, ten times as fast as quickshift on a photograph."""
    from skimage.segmentation import slic

    return slic(_rgb(image), n_segments=50, compactness=10)


SEGMENTERS: dict[str, Segmenter] = {"quickshift": quickshift, "slic": slic}


def tiles(side: int) -> Segmenter:
    """A segmenter that ignores the image: squares of ``side`` pixels, for small pictures."""

    def cut(image: np.ndarray) -> np.ndarray:
        height, width = image.shape[:2]
        rows, columns = np.arange(height) // side, np.arange(width) // side
        return rows[:, None] * (columns.max() + 1) + columns[None, :]

    return cut


def superpixels(
    images: Float[Tensor, "n c h w"], segments: str | Segmenter | Sequence
) -> list[Int[Tensor, "h w"]]:
    """One label map per image, numbered 0..s-1 without gaps whatever the segmenter numbers.

    ``segments`` is a name of ``SEGMENTERS``, a function ``image (H, W, C) -> labels (H, W)``, or
    one label map per image. Images are segmented in threads.

    Raises ``ValueError`` for an unknown name, label maps that do not fit the images, and for an
    image in one piece.
    """
    if isinstance(segments, str):
        if segments not in SEGMENTERS:
            known = ", ".join(SEGMENTERS)
            raise ValueError(f"segments {segments!r} is unknown; choose one of: {known}")
        segments = SEGMENTERS[segments]
    if callable(segments):
        arrays = images.detach().cpu().permute(0, 2, 3, 1).double().numpy()
        with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
            segments = list(pool.map(segments, arrays))
    if len(segments) != len(images):
        raise ValueError(f"{len(segments)} label maps for {len(images)} images")
    return [_numbered(np.asarray(s), images.shape[2:], i) for i, s in enumerate(segments)]


def _numbered(labels: np.ndarray, shape: torch.Size, row: int) -> Int[Tensor, "h w"]:
    if labels.shape != tuple(shape) or not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(
            f"image {row}: superpixels must be whole numbers of shape {tuple(shape)}, "
            f"not {labels.dtype} of shape {labels.shape}"
        )
    names, numbers = np.unique(labels, return_inverse=True)
    if len(names) < 2:
        raise ValueError(
            f"image {row}: the whole image is one superpixel; at least two are needed "
            "(pass segments='slic', or label maps of your own)"
        )
    return torch.from_numpy(numbers.reshape(shape).astype(np.int64))


def _rgb(image: np.ndarray) -> np.ndarray:
    return np.repeat(image, 3, axis=2) if image.shape[2] == 1 else image
