"""How torchvision's classification networks end: read off their operations, without any weights."""

from collections.abc import Iterator
from contextlib import contextmanager

import pandas as pd
import torch
from torch import nn
from torch.nn.modules.module import register_module_parameter_registration_hook
from torch.utils._python_dispatch import TorchDispatchMode

from lib.core import runtime
from lib.data.imagenet import TABLES

FAMILIES = TABLES / "torchvision_families.csv"  # the year in which each was first published
POOLED = "pooling, linear"
# what a reader calls an operation; operations that only rearrange numbers have no name here
_WORDS = {
    "addmm": "linear",
    "mm": "linear",
    "mean": "pooling",
    "native_layer_norm": "normalization",
}
_REARRANGE = (
    *("view", "t", "permute", "reshape", "expand", "clone", "detach", "alias", "dropout"),
    *("transpose", "as_strided", "select"),
)


def census(*, every_size: bool = True) -> pd.DataFrame:
    """One row per classification network of torchvision: ``network``, ``family``, ``year`` and
    ``ending``, its last two operations, of which ``pooling, linear`` is what CAM needs.

    ``every_size=False`` looks at one network of each family.
    """
    models, known = runtime.torchvision().models, pd.read_csv(FAMILIES)
    years = dict(zip(known["family"], known["year"], strict=True))
    rows = []
    for name in models.list_models(module=models):
        family = max((family for family in years if name.startswith(family)), key=len)
        rows.append({"network": name, "family": family, "year": years[family]})
    frame = pd.DataFrame(rows)
    if not every_size:
        frame = frame.drop_duplicates("family", ignore_index=True)
    return frame.assign(ending=[", ".join(last_operations(name)) for name in frame["network"]])


def last_operations(name: str, count: int = 2) -> list[str]:
    """The last operations with which this network of torchvision computes its logits."""
    options = {"init_weights": False, "aux_logits": False}
    with _without_memory():
        build = runtime.torchvision().models.get_model
        network = build(name, **options if name in ("googlenet", "inception_v3") else {})
    with _Tape() as tape, torch.no_grad():
        network.to("meta").eval()(torch.empty(1, 3, 224, 224, device="meta"))
    return [_WORDS.get(word, word) for word in tape.names][-count:]


class _Tape(TorchDispatchMode):
    """Keeps the names of all operations that calculate."""

    def __init__(self):
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__.rstrip("_")
        if name not in _REARRANGE:
            self.names.append(name)
        return func(*args, **(kwargs or {}))


@contextmanager
def _without_memory() -> Iterator[None]:
    """Networks built here have parameters of a shape and no values: 600 million cost nothing."""

    def empty(module: nn.Module, name: str, value: nn.Parameter) -> nn.Parameter:
        return nn.Parameter(value.to("meta"), value.requires_grad)

    hook = register_module_parameter_registration_hook(empty)  # pyright: ignore[reportArgumentType]
    try:
        yield
    finally:
        hook.remove()
