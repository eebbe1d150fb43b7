"""Learned masks on disk: what took hundreds of gradients is not computed twice.

A file holds one image's result. Its name is the hash of everything that the result depends on: the
classifier's weights and architecture, the pixels, the target, the options, and the code.
"""

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from lib.core.runtime import cache_dir
from lib.networks.score_route import weights_hash


def paths(
    classifier, pixels: Tensor, classes: Tensor, options: dict[str, object], code: Sequence[str]
) -> list[Path]:
    """Where each image's result belongs; ``code`` are the files of what computes it."""
    network = classifier.network
    shared = [
        weights_hash(classifier),
        getattr(network, "code", ""),
        repr(network),
        {name: _plain(value) for name, value in sorted(options.items())},
        *(hashlib.sha256(Path(file).read_bytes()).hexdigest() for file in code),
        torch.__version__,
    ]
    common = hashlib.sha256(repr(shared).encode()).digest()
    folder = cache_dir("masks")
    names = []
    for image, target in zip(pixels, classes.tolist(), strict=True):
        content = image.detach().cpu().contiguous()
        own = repr((tuple(content.shape), str(content.dtype), target)).encode()
        digest = hashlib.sha256(common + own + content.numpy().tobytes()).hexdigest()
        names.append(folder / f"{digest[:32]}.pt")
    return names


def load(path: Path) -> dict[str, Tensor] | None:
    """The result stored at ``path``, or None where there is none or it cannot be read."""
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception:  # absent, cut short by a full disk, written by another version: compute it
        return None


def save(path: Path, state: dict[str, Tensor]) -> None:
    """Store a result whole: readers see all of it or nothing."""
    partial = path.with_suffix(f".{os.getpid()}.partial")
    torch.save(state, partial)
    os.replace(partial, path)


def _plain(value: object) -> object:
    return (tuple(value.shape), value.tolist()) if isinstance(value, Tensor) else value
