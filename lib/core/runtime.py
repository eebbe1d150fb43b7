"""What a machine needs before PyTorch is at its best: device, memory, torchvision."""

import ctypes
import sys
from functools import cache
from importlib import import_module
from types import ModuleType

import torch


def _declare_missing_operators() -> None:
    # The torchvision wheel on PyPI is built for CUDA. Next to a CPU build of PyTorch its compiled
    # operators cannot load, and torchvision fails on import because it registers shapes for two
    # operators that then do not exist. Declaring their schemas is enough: no classifier uses them.
    for name in ("nms", "qnms"):
        if not hasattr(torch.ops.torchvision, name):
            schema = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
            torch.library.define(f"torchvision::{name}", schema)


def _keep_freed_memory() -> None:
    # glibc returns every large tensor to the kernel and faults its pages in again on the next pass:
    # batches of 16 images then take twice as long per image as batches of 6. Served from the heap
    # (no mmap, no trimming), the time per image no longer depends on the batch.
    if sys.platform == "linux":
        M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4
        try:
            libc = ctypes.CDLL("libc.so.6")
            libc.mallopt(M_MMAP_MAX, 0)
            libc.mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
        except (OSError, AttributeError):  # another C library: only speed is lost
            pass


@cache
def torchvision() -> ModuleType:
    """The package torchvision: take it from here, never directly.

    Imported at its first use: that takes a second, and the embedded network does not need it.
    """
    _declare_missing_operators()
    return import_module("torchvision")


_keep_freed_memory()


def pick_device(name: str = "auto") -> torch.device:
    """The device ``name``: ``auto`` (CUDA, then MPS, then CPU), ``cpu``, ``cuda`` or ``mps``.

    Raises ``ValueError`` when it is not available here.
    """
    available = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if name == "auto":
        name = next(device for device, present in available.items() if present)
    if not available.get(name.split(":")[0], False):
        usable = ", ".join(device for device, present in available.items() if present)
        raise ValueError(f"device {name!r} is not available here; use auto or one of: {usable}")
    return torch.device(name)
